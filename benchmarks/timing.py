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
    contenders: dict[str, Run]
    limits: dict[str, Run] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    per: int = 1  # how many units of work a run does, such as steps; the table has the time of one
    left_out: dict[str, str] = field(default_factory=dict)
    slower: dict[str, float] = field(default_factory=dict)  # given up after so many seconds
    known: dict[str, float] = field(default_factory=dict)  # seconds that a warm run took
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


def seconds_of(run: Run, loops: int) -> float:
    """Return the time of one of ``loops`` runs."""
    begin = time.perf_counter()
    for _ in range(loops):
        run()
    return (time.perf_counter() - begin) / loops


def measure(case: Case, seconds: float) -> dict[str, list[float]]:
    """Return the seconds per unit of work in each round, for about ``seconds`` in all, but at least some rounds.

    A timed run follows an untimed one of the same contender, so that caches are warm and no pool of another library
    still spins; where a run is long against that, it follows a pause. Rounds begin with another contender each time.
    """
    runs = {**case.contenders, **case.limits}
    once = {name: case.known.get(name) or seconds_of(run, 1) for name, run in runs.items()}
    once = {name: t if t > 0.1 else min(t, seconds_of(runs[name], 1)) for name, t in once.items()}
    loops = {name: max(1, math.ceil(1e-3 / t)) for name, t in once.items()}
    short = {name: once[name] * loops[name] < 0.3 for name in runs}  # BLAS's and OpenMP's pools spin for some 0.1 s
    total = sum(once[name] * loops[name] * (1 + short[name]) for name in runs)
    rounds = min(max(case.least_rounds, int(seconds / total)), 100)
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    gc.collect()
    gc.disable()
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            if short[name]:
                seconds_of(runs[name], loops[name])
            else:
                time.sleep(0.005)
            times[name].append(seconds_of(runs[name], loops[name]) / case.per)
    gc.enable()
    return times
