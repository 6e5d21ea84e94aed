"""Run the benchmarks side by side and print one table: ``python benchmarks/run.py --help``.

Medians of interleaved runs: every contender runs once in each round, so that whatever else the machine does meets all
of them. All see the same inputs, are warm, and must agree on the results before anything is timed. Every number of
threads is a process of its own, in which all libraries are held to that number.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("refrm", "numpy", "scipy", "numba", "torch", "jax")


def agree(name: str, results: dict[str, Any]) -> None:
    """Raise unless every contender found the same value and gradients as refrm, to its precision."""
    value, *grads = (np.asarray(x, dtype=np.float64) for x in results["refrm"])
    tolerance = 1e-4 if "float32" in name else 1e-9
    for other, (found, *others) in results.items():
        np.testing.assert_allclose(float(found), value, rtol=tolerance, err_msg=f"{name}: {other}")
        for ours, theirs in zip(grads, others, strict=True):
            limit = tolerance * np.abs(ours).max()
            np.testing.assert_allclose(
                np.asarray(theirs, np.float64), ours, rtol=0, atol=limit, err_msg=f"{name}: {other}"
            )


def measure(contenders: dict[str, Any], seconds: float) -> dict[str, dict[str, float]]:
    """Return median and quartiles in milliseconds of interleaved runs."""
    once = {}
    for name, run in contenders.items():
        begin = time.perf_counter()
        run()
        once[name] = time.perf_counter() - begin
    repeats = {name: max(1, int(2e-4 / t)) for name, t in once.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    rounds = max(7, min(200, int(seconds / sum(once[name] * repeats[name] for name in contenders))))
    for _ in range(rounds):
        for name, run in contenders.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - begin) / repeats[name] * 1e3)
    quartiles = {name: statistics.quantiles(t, n=4) for name, t in times.items()}
    return {name: {"low": q[0], "median": q[1], "high": q[2]} for name, q in quartiles.items()}


def child(threads: int, seconds: float, largest: int) -> None:
    """Measure every case with one number of threads; print one JSON line each."""
    import pairwise

    for name, contenders in pairwise.cases(threads, largest):
        agree(name, {other: run() for other, run in contenders.items() if other != "stream"})
        print(json.dumps({"case": name, "threads": threads, "times": measure(contenders, seconds)}), flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| work | threads | refrm, ms | limit, ms | refrm/limit | peers, ms (median) | fastest peer/refrm |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = dict(row["times"])
        ours, limit = times.pop("refrm"), times.pop("stream")
        peers = ", ".join(f"{name} {t['median']:.4g}" for name, t in times.items())
        fastest = min(t["median"] for t in times.values())
        spread = f"{ours['median']:.4g} ({ours['low']:.4g}-{ours['high']:.4g})"
        ratios = f"{ours['median'] / limit['median']:.2f} | {peers} | {fastest / ours['median']:.2f}"
        lines.append(f"| {row['case']} | {row['threads']} | {spread} | {limit['median']:.4g} | {ratios} |")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return the processor and the versions."""
    found = {"python": platform.python_version(), "machine": platform.processor() or platform.machine()}
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ]
        found["machine"] = f"{names[0]}, {len(names)} cores" if names else found["machine"]
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="for each case, after one warm run of each contender"
    )
    parser.add_argument("--largest", type=int, default=3 * 10**7, help="leave out cases with more pairs")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="writes OUTPUT.md and OUTPUT.json"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.threads[0], options.seconds, options.largest)
        return
    rows = []
    for threads in options.threads:
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        env = {**os.environ, **dict.fromkeys(names, str(threads))}
        env["XLA_FLAGS"] = (
            f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
        )
        command = [sys.executable, __file__, "--child", "--threads", str(threads)]
        command += ["--seconds", str(options.seconds), "--largest", str(options.largest)]
        if threads == 1 and sys.platform == "linux":
            command = ["taskset", "-c", "0", *command]  # XLA's pool does not heed the flags
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    rows.append(json.loads(line))
                    print(rows[-1]["case"], f"{threads} threads", file=sys.stderr)
                else:
                    print(line, end="", file=sys.stderr)
        if process.returncode:
            sys.exit(f"the run with {threads} threads failed")
    about = machine()
    text = "\n".join([f"- {key}: {value}" for key, value in about.items()]) + "\n\n" + table(rows) + "\n"
    options.output.with_suffix(".md").write_text(text)
    options.output.with_suffix(".json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
