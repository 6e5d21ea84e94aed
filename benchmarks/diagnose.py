"""`refrm diagnose`, from the start of a process to its exit: 10^8 pairs of Parquet, and 10^3 pairs.

The peers are queries of polars and DuckDB that are written by hand (scripts/diagnose_*.py): once of the same sums, once
of fewer, which are what one is likely to write. refrm does more than either: it keeps samples, counts repetitions by
hash, and judges. Peak memory is that of resident pages, those of the file that are mapped included.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from timing import OURS, Bar, Case, Run, build

SCRIPTS = Path(__file__).parent / "scripts"
BLOCK = 1_000_000
MOST = 2**30
SECONDS = 1.5
TWICE = 2.0
"""A peer that takes so many times as long once is not waited for again."""


def cases(threads: int, quick: bool) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as place:
        yield large(Path(place), BLOCK if quick else 100 * BLOCK)
        yield small(Path(place))


def frames(n: int) -> Iterator[Any]:
    """Yield scores whose margins are those of the probabilities that their labels have."""
    import polars as pl

    rng = np.random.default_rng(0)
    for _ in range(n // min(n, BLOCK)):
        middle, d = rng.standard_normal((2, min(n, BLOCK)))
        d = np.where(rng.random(len(d)) < 1 / (1 + np.exp(-2 * d)), 2 * d, -2 * d)
        yield pl.DataFrame({"chosen": middle + d / 2, "rejected": middle - d / 2})


def write(path: Path, n: int) -> None:
    """Write pairs as Parquet, block by block."""
    import polars as pl
    from polars.io.plugins import register_io_source

    schema = {"chosen": pl.Float64, "rejected": pl.Float64}
    register_io_source(lambda *_: frames(n), schema=schema).sink_parquet(path, row_group_size=BLOCK)


def started(*command: str, codes: tuple[int, ...] = (0,), watch: bool = False) -> tuple[str, int]:
    """Run a command; return what it printed and, if ``watch``, the peak of its memory in bytes."""
    peak = 0
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen([sys.executable, *command], stdout=output, env=os.environ) as process:
            # ru_maxrss would count what this process has, from which the other one is forked
            status = Path(f"/proc/{process.pid}/status")
            while watch and status.exists() and process.poll() is None:
                lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
                peak = max([peak] + [1024 * int(line[1]) for line in lines])
                time.sleep(0.01)
        if process.returncode not in codes:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        output.seek(0)
        return output.read(), peak


def large(place: Path, n: int) -> Case:
    """Return the case of many pairs."""
    file = str(place / "pairs.parquet")
    memory: dict[str, int] = {}
    took: dict[str, float] = {}
    write(Path(file), n)

    def start(name: str, *command: str) -> Run:
        def run() -> dict[str, Any]:
            begin = time.perf_counter()
            text, peak = started(*command, codes=(0, 1) if name == OURS else (0,), watch=name not in took)
            took[name] = time.perf_counter() - begin
            memory.setdefault(name, peak)
            return json.loads(text)

        return run

    peers = {"polars": SCRIPTS / "diagnose_polars.py", "DuckDB": SCRIPTS / "diagnose_duckdb.py"}
    makers = {OURS: lambda: start(OURS, "-m", "refrm", "diagnose", file, "--json")}
    for peer, script in peers.items():
        for what, option in (("the same sums", []), ("fewer sums", ["--plain"])):
            name = f"{what}, {peer}"
            makers[name] = lambda name=name, script=script, option=option: start(name, str(script), file, *option)
    runs, results, left_out = build(makers)
    for name, result in results.items():
        check(name, results[OURS], result)
    decode = "import polars, sys; polars.scan_parquet(sys.argv[1]).sum().collect(engine='streaming')"
    slower = {name: t for name, t in took.items() if t > TWICE * took[OURS]}
    used = ", ".join(f"{name} {peak / 1e6:.0f} MB" for name, peak in memory.items())
    verdict = ("met" if memory[OURS] <= MOST else "**missed**") if memory[OURS] else "unknown"
    return Case(
        f"refrm diagnose, {n:.0e} pairs of Parquet".replace("e+0", "e"),
        {name: run for name, run in runs.items() if name not in slower},
        {"limit: decoding alone, polars": lambda: started("-c", decode, file)},
        [Bar("the same sums", 1.0)],
        left_out=left_out,
        slower=slower,
        known=took,
        notes=[f"peak memory: {used}; of refrm at most {MOST / 1e6:.0f} MB: {verdict}"],
        least_rounds=3,
    )


def check(name: str, ours: dict[str, Any], sums: dict[str, Any]) -> None:
    """Assert that a peer has the same figures; a sum of n terms may be off by n roundings of the sum of their sizes."""
    if name == OURS:
        return
    n, figures = sums["n"], ours["figures"]
    exact = n * np.finfo(np.float64).eps
    assert figures["n"] == n, name
    for of, value in (("mean_score", "x"), ("mean_margin", "d")):
        size = math.sqrt(sums[2 * value] / n)  # at least the mean size
        np.testing.assert_allclose(figures[of]["value"], sums[value] / n, rtol=0, atol=exact * size, err_msg=name)
    for of, value in (("loss", "loss"), ("brier", "brier")):
        found = figures["loss"] if of == "loss" else figures["calibration"]["brier"]
        np.testing.assert_allclose(found["value"], sums[value] / n, rtol=exact, err_msg=name)
    np.testing.assert_allclose(figures["accuracy"]["half"]["value"], (sums["right"] + sums["tied"] / 2) / n, rtol=1e-15)
    assert (figures["min_score"], figures["max_score"]) == (sums["low"], sums["high"]), name
    for of in ("float32", "float16", "bfloat16"):
        for what in ("below", "tied"):
            if f"{of}_{what}" in sums:
                found = figures["precision"][of][what]["value"]
                np.testing.assert_allclose(found, sums[f"{of}_{what}"] / n, rtol=1e-15, err_msg=f"{name}: {of} {what}")


def small(place: Path) -> Case:
    """Return the case of few pairs, against the seconds that it may take."""
    file = place / "pairs.jsonl"
    next(frames(1000)).write_ndjson(file)

    def run() -> None:
        started("-m", "refrm", "diagnose", str(file), codes=(0, 1))

    run()
    bar = f"the bar: {SECONDS} s"
    bare = {"limit: python -c 'import numpy'": lambda: started("-c", "import numpy")}
    bars = [Bar("the bar", 1.0)]
    name = "refrm diagnose, 1,000 pairs of JSON lines"
    return Case(name, {OURS: run, bar: None}, bare, bars, known={bar: SECONDS}, least_rounds=5)
