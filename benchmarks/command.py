"""The whole job, from the start of a process to its exit: read pairs, fit the linear model, save it, print figures."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peers
from fit import check
from timing import OURS, Bar, Case, Run, build

SCRIPTS = Path(__file__).parent / "scripts"


def cases(threads: int, quick: bool, data: Path | None) -> Iterator[Case]:
    import refrm

    with tempfile.TemporaryDirectory() as place:
        pairs = data or Path(place) / "pairs.npz"
        if data is None:
            # at a strength of 2 so few pairs of so many features would be separable: J would have no minimiser
            n, p = (200, 16) if quick else (2000, 384)
            made = refrm.make_pairs(n, p, seed=0, strength=0.5)
            np.savez(pairs, chosen=made.chosen.astype(np.float16), rejected=made.rejected.astype(np.float16))
        with np.load(pairs, allow_pickle=False) as arrays:
            chosen, rejected = (arrays[name].astype(np.float64) for name in ("chosen", "rejected"))
        for plot in (True, False):
            yield one(Path(place), pairs, chosen, rejected, plot)


def one(place: Path, pairs: Path, chosen: np.ndarray, rejected: np.ndarray, plot: bool) -> Case:
    """Return the case with or without a plot."""
    center = str(peers.CENTER)

    def start(name: str, *command: str) -> Run:
        output = place / f"{name.replace(' ', '-')}.npz"

        def run() -> np.ndarray:
            subprocess.run([sys.executable, *command, str(pairs), "-o", str(output), "--center", center, *picture],
                           check=True, stdout=subprocess.DEVNULL, env=os.environ)  # fmt: skip
            with np.load(output, allow_pickle=False) as model:
                return model["theta"]

        picture = [] if plot else ["--no-plot"]
        return run

    makers = {
        OURS: lambda: start(OURS, "-m", "refrm", "fit"),
        "PyTorch script": lambda: start("torch", str(SCRIPTS / "fit_torch.py")),
        "scikit-learn script": lambda: start("sklearn", str(SCRIPTS / "fit_sklearn.py")),
    }
    makers[OURS]()()  # compiles, if that was not done before: a user meets that once
    runs, results, left_out = build(makers)
    wrong = check(results, chosen, rejected, 0.0)
    runs = {name: run for name, run in runs.items() if name not in wrong}
    bare = [sys.executable, "-c", "import numpy"]
    limit = {"limit: python -c 'import numpy'": lambda: subprocess.run(bare, check=True)}
    n, p = chosen.shape
    name = f"refrm fit, {n} x {p}, {'with' if plot else 'without'} a plot"
    return Case(name, runs, limit, [Bar("", 2.0)], left_out=left_out | wrong, least_rounds=5)
