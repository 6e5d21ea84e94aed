"""What Numba's compiler costs: the first calls of every kernel, and of those that `refrm demo` needs, with an empty
cache; and a process that finds everything there. Each in a process of its own.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from timing import OURS, Bar, Case

ALL = """
import numpy as np, refrm
rng = np.random.default_rng(0)
for dtype in ("float64", "float32"):
    x_w, x_l = rng.normal(size=(2, 40, 3)).astype(dtype)
    r_w, r_l = x_w[:, 0].copy(), x_l[:, 0].copy()
    terms = refrm.BradleyTerry() + 0.01 * refrm.SquaredSum()
    every = refrm.BradleyTerry(margin=0.1, label_smoothing=0.1) + 0.1 * refrm.SumOfSquares() + 0.1 * refrm.SumToZero()
    for loss, weight in ((terms, None), (every, np.ones(40))):
        loss.value_and_grad(r_w, r_l, weight=weight)
        loss.hessian(r_w, r_l, weight=weight)
        refrm.minimize(refrm.Objective(refrm.Linear(3), loss, x_w, x_l, weight), refrm.LBFGS())
    for activation in ("relu", "tanh", "gelu", "softplus"):
        network = refrm.MLP(3, (4,), activation=activation)
        objective = refrm.Objective(network, terms, x_w, x_l)
        refrm.minimize(objective, refrm.Adam(steps=2, batch_size=8))
        refrm.minimize(objective, refrm.SGD(steps=2, batch_size=8))
"""

DEMO = "import refrm.demo; refrm.demo.train(0.01, steps=60, seed=0)"
TIMED = """
import sys
from numba.core.event import install_timer
with install_timer("numba:compile", lambda seconds: print(seconds, file=sys.stderr)):
    exec(sys.argv[1])
"""
BARS = {"refrm demo": (DEMO, 6.0), "every kernel": (ALL, 15.0)}


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for name, (work, bar) in BARS.items():
        title, most = f"{name}: the compiler alone", f"the bar: {bar:.0f} s"
        contenders = {OURS: lambda work=work: cold("-c", TIMED, work), most: None}
        yield Case(title, contenders, {}, [Bar("the bar", 1.0)], known={most: bar}, own=True, least_rounds=3)
    yield Case("refrm demo: the process, empty cache", {OURS: lambda: cold("-m", "refrm", "demo", "--no-plot")}, LIMIT)
    with tempfile.TemporaryDirectory() as cache:
        run(cache, "-c", ALL)
        yield Case("every kernel: the process, from the cache", {OURS: lambda: run(cache, "-c", ALL)}, LIMIT)


def run(cache: str, *command: str) -> str:
    """Run Python with a directory for compiled code, and return what it says on stderr."""
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    return subprocess.run([sys.executable, *command], check=True, env=env, capture_output=True, text=True).stderr


def cold(*command: str) -> float | None:
    """Run Python with nothing compiled; return the seconds that it says it took, if it does."""
    with tempfile.TemporaryDirectory() as empty:
        said = run(empty, *command)
    return float(said) if said else None


MODULES = "import numba, scipy.linalg, scipy.optimize"
LIMIT = {f"limit: python -c '{MODULES}'": lambda: subprocess.run([sys.executable, "-c", MODULES], check=True)}
