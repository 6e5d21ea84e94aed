"""Run the benchmarks side by side, print one table and save it: ``python benchmarks/run.py --help``.

Every group of rows and every number of threads is a process of its own, in which all libraries are held to that number
of threads and of processors. All contenders of a row see the same input and must agree before anything is timed; they
run in turns (`timing.measure`).
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import report
from timing import measure

GROUPS = ("pairwise", "linear", "fit", "mlp", "command", "compiling", "diagnose", "growth")
HERE = Path(__file__).parent


def child(group: str, threads: int, seconds: float, quick: bool, data: Path | None) -> None:
    """Measure every row of a group with one number of threads; print one JSON line each."""
    module = importlib.import_module(group)
    if group == "growth":
        for row in module.rows(threads, quick):
            print(json.dumps(row), flush=True)
        return
    for case in module.cases(threads, quick, *((data,) if group == "command" else ())):
        case.least_rounds = 2 if quick else case.least_rounds
        row = vars(dataclasses.replace(case, bars=[vars(bar) for bar in case.bars], contenders={}, limits={}))
        print(json.dumps({**row, "group": group, "threads": threads, "times": measure(case, seconds)}), flush=True)


@contextmanager
def processors(count: int) -> Iterator[None]:
    """Hold this process, and those that it starts, to ``count`` processors: XLA's pool heeds nothing else."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(group: str, threads: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads)), "MPLBACKEND": "agg"}
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    command = [sys.executable, __file__, "--child", group, "--threads", str(threads), "--seconds", str(options.seconds)]
    command += ["--quick"] * options.quick + (["--data", str(options.data)] if options.data else [])
    with (
        processors(threads),
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:
                print(line, end="", file=sys.stderr)
    if process.returncode:
        sys.exit(f"the rows of {group} with {threads} threads failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, separated by commas; default: %(default)s")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, help="for each row, more where its fewest rounds take longer; default: 4"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that all runs, not how fast")
    parser.add_argument("--data", type=Path, help="pairs (.npz) for the row of `refrm fit`, instead of synthetic ones")
    parser.add_argument(
        "--output", type=Path, help="writes OUTPUT.md, OUTPUT.json; default for whole runs: benchmarks/results"
    )
    parser.add_argument("--images", type=Path, help="directory of the plots; default for whole runs: docs/images")
    parser.add_argument("--raw", type=Path, help="writes every single time, as a suite of pyperf")
    parser.add_argument("--child", choices=GROUPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = options.seconds or (0.3 if options.quick else 4.0)
    groups = options.only.split(",")
    if unknown := set(groups) - set(GROUPS):
        parser.error(f"--only: no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if options.child:
        child(options.child, options.threads[0], options.seconds, options.quick, options.data)
        return
    if not options.quick and set(groups) == set(GROUPS):
        options.output = options.output or HERE / "results"
        options.images = options.images or HERE.parent / "docs" / "images"
    begin, rows, about = time.monotonic(), [], report.machine()
    for group in groups:
        for threads in options.threads:
            if group in ("compiling", "diagnose", "growth") and threads < max(options.threads):
                continue
            for row in measured(group, threads, options):
                rows.append(row)
                text = f"{time.monotonic() - begin:5.0f} s  {group}, {threads} threads: {row['name']}"
                live = sys.stderr.isatty()
                print(f"\r\033[K{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    about["took"] = f"{(time.monotonic() - begin) / 60:.0f} minutes"
    found = report.judge(rows)
    images = os.path.relpath(options.images, options.output.parent) if options.images and options.output else ""
    text = report.markdown(about, found, images)
    print(text)
    if options.output:
        options.output.with_suffix(".md").write_text(text)
        options.output.with_suffix(".json").write_text(json.dumps({"about": about, "rows": found}, indent=1) + "\n")
    if options.raw:
        report.suite(rows).dump(str(options.raw), replace=True)
    if options.images:
        report.plots(options.images, found)


if __name__ == "__main__":
    main()
