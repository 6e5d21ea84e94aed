"""The linear model: one value and gradient over all pairs."""

from collections.abc import Iterator
from typing import Any

import limits
import numpy as np
import peers
from timing import OURS, Bar, Case, Run, build

SHAPES = ((100_000, 64), (20_000, 1024), (4000, 4096))
QUICK = ((5000, 64), (1000, 256), (200, 256))


def torch_eager(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, threads: int) -> Run:
    torch = peers.get_torch(threads)
    t, x_w, x_l = (torch.from_numpy(x) for x in (theta, chosen, rejected))
    t = t.clone().requires_grad_()

    def run() -> tuple[Any, Any]:
        value = peers.torch_loss(x_w @ t, x_l @ t)
        return value.detach(), torch.autograd.grad(value, t)[0]

    return run


def torch_compiled(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, threads: int) -> Run:
    torch = peers.get_torch(threads)
    t, x_w, x_l = (torch.from_numpy(x) for x in (theta, chosen, rejected))
    both = torch.compile(torch.func.grad_and_value(lambda t, w, v: peers.torch_loss(w @ t, v @ t)), dynamic=False)
    return lambda: both(t, x_w, x_l)[::-1]


def jax_jit(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> Run:
    jax = peers.get_jax()
    t, x_w, x_l = (jax.numpy.asarray(x) for x in (theta, chosen, rejected))
    both = jax.jit(jax.value_and_grad(lambda t, w, v: peers.jax_loss(w @ t, v @ t)))
    return lambda: jax.block_until_ready(both(t, x_w, x_l))


def ours(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> Run:
    import refrm

    objective = refrm.Objective(refrm.Linear(len(theta)), peers.ours(), chosen, rejected)
    return lambda: objective.value_and_grad(theta)


def agree(name: str, results: dict[str, Any], theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> None:
    """Raise unless all found the same, to what additions in any order may cost: a score has p terms, and each
    component of the gradient 2N, in which the errors of the scores enter with a slope of at most 1/4 + 4*CENTER.
    """
    u, (n, p) = float(np.finfo(theta.dtype).eps) / 2, chosen.shape
    x_w, x_l, t = (np.abs(x.astype(np.float64)) for x in (chosen, rejected, theta))
    off = p * u * ((x_w + x_l) @ t)
    _, g_w, g_l = peers.numpy_loss(*(x.astype(np.float64) @ theta for x in (chosen, rejected)))
    limit = sum(
        x.T @ ((2 * n + 12) * u * np.abs(g) + (0.25 + 4 * peers.CENTER) / n * off) for x, g in ((x_w, g_w), (x_l, g_l))
    )
    value, grad = results[OURS]
    s = (x_w + x_l) @ t  # at least |r_w + r_l|
    spread = 2 * float((n + 12) * u * abs(value) + np.mean(off * (1 + 2 * peers.CENTER * s)))
    for other, (found, theirs) in results.items():
        np.testing.assert_allclose(float(found), value, rtol=0, atol=spread, err_msg=f"{name}: {other}")
        wrong = np.abs(np.asarray(theirs, np.float64) - grad) - 2 * limit
        assert wrong.max() <= 0, f"{name}: the gradient of {other} is off by {wrong.max():g} more than rounding allows"


def cases(threads: int, quick: bool) -> Iterator[Case]:
    import refrm

    for n, p in QUICK if quick else SHAPES:
        pairs = refrm.make_pairs(n, p, seed=0)
        direction = np.random.default_rng(0).standard_normal(p) / np.sqrt(p)
        for dtype in ("float64", "float32"):
            data = tuple(x.astype(dtype) for x in (direction, pairs.chosen, pairs.rejected))
            runs, results, left_out = build(
                {
                    OURS: lambda data=data: ours(*data),
                    "NumPy": lambda data=data: lambda: peers.numpy_linear(*data),
                    "PyTorch eager": lambda data=data: torch_eager(*data, threads),
                    "torch.compile": lambda data=data: torch_compiled(*data, threads),
                    "JAX jit": lambda data=data: jax_jit(*data),
                }
            )
            name = f"{n} x {p}, {dtype}"
            agree(name, results, *data)
            bars = [Bar("", 1.7), Bar("limit", 0.85)]
            yield Case(name, runs, limits.read(*data[1:], threads), bars, left_out=left_out)
