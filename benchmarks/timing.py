"""Interleaved timing of several ways to do the same work.

pyperf's own runner finishes one benchmark, in processes of its own, before it begins the next: what else the machine
does then falls on one contender alone. Here all contenders of a case live in one process and each runs once in every
round, so that whatever happens meets all of them; pyperf has the statistics, the metadata and the file format.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[], Any]
OURS = "refrm"
LONG = 8.0
"""Seconds that a contender may take for the fewest rounds."""


@dataclass(frozen=True)
class Bar:
    """refrm is to be ``least`` times as fast as the fastest of those whose name begins with ``against``.

    "" means all peers, "limit" the physical limit, of which refrm is to reach the share ``least``.
    """

    against: str
    least: float


@dataclass
class Case:
    """One row of the table: the contenders, refrm among them, and the physical limits, on the same input."""

    name: str
    contenders: dict[str, Run | None]  # None for one that does not run, whose time is known, such as a bar
    limits: dict[str, Run] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    per: int = 1  # how many units of work a run does, such as steps; the table has the time of one
    left_out: dict[str, str] = field(default_factory=dict)
    slower: dict[str, float] = field(default_factory=dict)  # given up after so many seconds
    known: dict[str, float] = field(default_factory=dict)  # seconds that a warm run took
    own: bool = False  # a run returns the seconds that count
    notes: list[str] = field(default_factory=list)
    least_rounds: int = 7


def build(makers: Mapping[str, Callable[[], Run]]) -> tuple[dict[str, Run], dict[str, Any], dict[str, str]]:
    """Return the contenders, what the first run of each gave, and why others are left out.

    A peer that is not installed, or does not run here, is left out and named; refrm must run.
    """
    runs: dict[str, Run] = {}
    results: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            run = make()
            results[name], runs[name] = run(), run
        except Exception as error:
            if name == OURS:
                raise
            left_out[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
    return runs, results, left_out


def seconds_of(run: Run, loops: int, own: bool = False) -> float:
    """Return the time of one of ``loops`` runs, or what the last says of itself."""
    begin = time.perf_counter()
    for _ in range(loops):
        said = run()
    return float(said) if own else (time.perf_counter() - begin) / loops


def settle() -> None:
    """Wait until no thread of this process is busy, half a second at most: the pools of BLAS, OpenMP and XLA spin for a
    while after their work, on the processors that the next contender needs.

    What the other threads used is known at the system's next tick only, every 10 ms at 100 Hz: to look sooner is to
    find them idle while they spin.
    """
    for _ in range(40):
        before = time.process_time()
        time.sleep(0.012)
        if time.process_time() - before < 2e-4:
            return


def plan(case: Case, cost: Mapping[str, float], seconds: float) -> dict[str, int]:
    """Return in how many rounds each contender runs, given what a round costs it.

    All have the same share of ``seconds``, but no fewer rounds than ``least_rounds`` (refrm, its fastest peer, the
    limits) or 3 (the others, which decide nothing), unless these would take longer than `LONG`.
    """
    rivals = [name for name in case.contenders if name != OURS and name in cost]
    decisive = {OURS, *case.limits, min(rivals, key=cost.__getitem__, default=OURS)}
    rounds = {}
    for name, t in cost.items():
        few, least = (
            (2, case.least_rounds) if name in decisive else (0 if name in case.known else 1, min(3, case.least_rounds))
        )
        rounds[name] = max(few, min(100, int(max(seconds / len(cost) / t, min(least, LONG / t)))))
    return rounds


def measure(case: Case, seconds: float) -> dict[str, list[float]]:
    """Return the seconds per unit of work in each round, for about ``seconds`` in all, as `plan` divides them.

    A timed run begins when nothing of another contender is busy any more; if it is short, it follows an untimed one of
    the same contender, so that caches are warm. Rounds begin with another contender each time; those who run in fewer
    are spread over all of them.
    """
    runs = {name: run for name, run in {**case.contenders, **case.limits}.items() if run}
    once = {name: case.known.get(name) or seconds_of(run, 1) for name, run in runs.items()}
    once = {name: t if t > 0.1 else min(t, seconds_of(runs[name], 1)) for name, t in once.items()}
    loops = {name: max(1, math.ceil(1e-3 / t)) for name, t in once.items()}
    short = {name: once[name] * loops[name] < 0.3 for name in runs}
    turns = plan(case, {name: once[name] * loops[name] * (1 + short[name]) + 0.003 for name in runs}, seconds)
    times = {name: [case.known[name] / case.per] if name in case.known else [] for name in [*runs, *case.known]}
    names, rounds = list(runs), max(turns.values())
    gc.collect()
    gc.disable()
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            if (n + 1) * turns[name] // rounds > n * turns[name] // rounds:
                settle()
                if short[name]:
                    seconds_of(runs[name], loops[name])
                times[name].append(seconds_of(runs[name], loops[name], case.own) / case.per)
    gc.enable()
    return times
