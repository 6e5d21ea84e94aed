"""What Numba's compiler costs: the first calls of every kernel, and of those that `refrm demo` needs, with an empty
cache, and from it. Each in a process of its own, from its start to its exit.
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


BARS = {"refrm demo": (("-m", "refrm", "demo", "--no-plot"), 6.0), "every kernel": (("-c", ALL), 15.0)}


def cases(threads: int, quick: bool) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as place:
        for name, (command, seconds) in BARS.items():
            yield one(f"{name}, empty cache", command, seconds)
        yield one("every kernel, from the cache", BARS["every kernel"][0], cache=place)


def one(name: str, command: tuple[str, ...], seconds: float = 0.0, cache: str = "") -> Case:
    """Return the case of a command with a new cache each time, or with one that is there."""

    def run(cache: str) -> None:
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "NUMBA_CACHE_DIR": cache})  # fmt: skip

    def ours() -> None:
        if cache:
            run(cache)
        else:
            with tempfile.TemporaryDirectory() as empty:
                run(empty)

    if cache:
        ours()
    modules = "import numba, scipy.linalg, scipy.optimize"
    bare = {f"limit: python -c '{modules}'": lambda: subprocess.run([sys.executable, "-c", modules], check=True)}
    bar = f"the bar: {seconds:.0f} s"
    if not seconds:
        return Case(name, {OURS: ours}, bare, least_rounds=5)
    return Case(name, {OURS: ours, bar: None}, bare, [Bar("the bar", 1.0)], known={bar: seconds}, least_rounds=3)
