"""Time per pair and peak memory from 10^5 to 10^8 pairs, on files that are mapped into memory.

The files hold the same 100,000 pairs over and over, so that every size has the same J. Each size is a process of its
own, once for the time and once, watched from outside, for the memory. The peak of resident memory (ru_maxrss) counts
the pages of the mapped files that the system keeps at hand; what the program itself asked for is anonymous memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 100_000
FEATURES = 8
KINDS = {
    "linear": f"linear model, value and gradient, {FEATURES} features, float32, memory-mapped",
    "pairwise": f"pairwise loss, value and gradients, memory-mapped scores, float64, blocks of {BLOCK} pairs",
}


def write(path: Path, block: np.ndarray, copies: int) -> None:
    """Write a .npy file with the rows of ``block`` over and over, and wait until it is on the disk."""
    with open(path, "wb") as file:
        shape = (copies * len(block), *block.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(copies):
            file.write(block.data)
        file.flush()
        os.fsync(file.fileno())


def prepare(place: Path, largest: int) -> None:
    """Write the features and the scores of ``largest`` pairs."""
    import refrm

    pairs = refrm.make_pairs(BLOCK, FEATURES, seed=0)
    scores = 3 * np.random.default_rng(0).standard_normal((2, BLOCK))
    for side, features, r in zip(("chosen", "rejected"), (pairs.chosen, pairs.rejected), scores, strict=True):
        write(place / f"linear-{side}.npy", features.astype(np.float32), largest // BLOCK)
        write(place / f"pairwise-{side}.npy", r, largest // BLOCK)


def work(kind: str, place: Path, n: int, seconds: float) -> dict[str, Any]:
    """Return the times of evaluations over the first n pairs, of setting up, the value, and the peak memory."""
    from limits import read
    from peers import ours

    import refrm

    w, v = (np.load(place / f"{kind}-{side}.npy", mmap_mode="r")[:n] for side in ("chosen", "rejected"))
    begin = time.perf_counter()
    if kind == "linear":
        objective = refrm.Objective(refrm.Linear(FEATURES), ours(), w, v)
        theta = np.linspace(-0.5, 0.5, FEATURES).astype(np.float32)

        def run() -> float:
            return objective.value_and_grad(theta)[0]
    else:
        loss, a, b = ours(), np.asarray(w), np.asarray(v)

        def run() -> float:
            blocks = range(0, n, BLOCK)
            return sum(loss.value_and_grad(a[i : i + BLOCK], b[i : i + BLOCK])[0] for i in blocks) / len(blocks)

    setup, value, times = time.perf_counter() - begin, run(), []
    limit, limits = read(np.asarray(w), np.asarray(v), int(os.environ["NUMBA_NUM_THREADS"]))["limit: read"], []
    if seconds:
        limit()
    while seconds and (len(times) < 5 or sum(times) < seconds):
        for one, list_of in ((run, times), (limit, limits)):
            if not times or times[-1] < 0.3:
                one()
            begin = time.perf_counter()
            one()
            list_of.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"times": times, "limits": limits, "setup": setup, "value": value, "maxrss": peak}


def child(kind: str, place: Path, n: int, seconds: float, watch: bool) -> dict[str, Any]:
    """Return what `work` found in a process of its own; if ``watch``, with the peak of its anonymous memory."""
    command = [sys.executable, __file__, kind, str(place), str(n), str(seconds)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        while watch and status.exists() and process.poll() is None:
            lines = [line.split() for line in status.read_text().splitlines() if line.startswith("RssAnon:")]
            peak = max([peak] + [1024 * int(line[1]) for line in lines])
            time.sleep(0.003)
        assert process.stdout is not None
        text = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"growth: {kind} with {n} pairs failed")
    return {**json.loads(text), "anonymous": peak or None}


def rows(threads: int, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield one row for each kind."""
    sizes = (10**5, 10**6) if quick else (10**5, 10**6, 10**7, 10**8)
    with tempfile.TemporaryDirectory() as name:
        place, bytes_per_pair = Path(name), 2 * FEATURES * 4 + 2 * 8
        fits = [n for n in sizes if n * bytes_per_pair < 0.8 * shutil.disk_usage(place).free]
        notes = [] if len(fits) == len(sizes) else [f"no room on the disk for more than {fits[-1]:.0e} pairs"]
        prepare(place, fits[-1])
        for kind, text in KINDS.items():
            points = []
            for n in fits:
                timed, watched = child(kind, place, n, 0.1 if quick else 1.0, False), child(kind, place, n, 0.0, True)
                first = points[0]["value"] if points else timed["value"]
                # the scores of float32 features have errors of FEATURES roundings
                np.testing.assert_allclose(timed["value"], first, rtol=2 * FEATURES * np.finfo(np.float32).eps)
                q = statistics.quantiles(timed["times"], n=4)
                point = {"pairs": n, "value": timed["value"], "setup": timed["setup"] / n * 1e9}
                point |= {"low": q[0] / n * 1e9, "median": q[1] / n * 1e9, "high": q[2] / n * 1e9}
                point |= {"read": statistics.median(timed["limits"]) / n * 1e9, "maxrss": watched["maxrss"]}
                points.append({**point, "anonymous": watched["anonymous"]})
            yield {"group": "growth", "name": text, "threads": threads, "points": points, "notes": notes}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One size of the growth benchmark; run.py starts this.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("place", type=Path)
    parser.add_argument("pairs", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    print(json.dumps(work(options.kind, options.place, options.pairs, options.seconds)))
