"""Pairwise loss and squared sum on scores: value and both gradients."""

from collections.abc import Iterator
from typing import Any

import limits
import numpy as np
import peers
from timing import OURS, Bar, Case, Run, build


def torch_eager(w: np.ndarray, v: np.ndarray, threads: int) -> Run:
    torch = peers.get_torch(threads)
    a, b = (torch.from_numpy(x).requires_grad_() for x in (w, v))

    def run() -> tuple[Any, ...]:
        value = peers.torch_loss(a, b)
        return (value.detach(), *torch.autograd.grad(value, (a, b)))

    return run


def torch_compiled(w: np.ndarray, v: np.ndarray, threads: int) -> Run:
    torch = peers.get_torch(threads)
    both = torch.compile(torch.func.grad_and_value(peers.torch_loss, argnums=(0, 1)), dynamic=False)
    a, b = torch.from_numpy(w), torch.from_numpy(v)

    def run() -> tuple[Any, ...]:
        grads, value = both(a, b)
        return value, *grads

    return run


def jax_jit(w: np.ndarray, v: np.ndarray) -> Run:
    jax = peers.get_jax()
    both = jax.jit(jax.value_and_grad(peers.jax_loss, (0, 1)))
    a, b = jax.numpy.asarray(w), jax.numpy.asarray(v)

    def run() -> tuple[Any, ...]:
        value, grads = jax.block_until_ready(both(a, b))
        return value, *grads

    return run


def agree(name: str, results: dict[str, Any], w: np.ndarray, v: np.ndarray) -> None:
    """Raise unless all found the same: per pair to what rounding d = r_w - r_l and a dozen further roundings cost,
    the value to what N additions in any order may cost.
    """
    u = float(np.finfo(w.dtype).eps) / 2
    value, *grads = (np.asarray(x, dtype=np.float64) for x in results[OURS])
    per_pair = (float(np.abs(w - v).max()) + 12) * u
    for other, (found, *theirs) in results.items():
        note = f"{name}: {other}"
        np.testing.assert_allclose(float(found), value, rtol=per_pair + len(w) * u, err_msg=note)
        for g, h in zip(grads, theirs, strict=True):
            np.testing.assert_allclose(np.asarray(h, np.float64), g, 0, per_pair * np.abs(g).max(), err_msg=note)


def cases(threads: int, quick: bool) -> Iterator[Case]:
    loss = peers.ours()
    for n in (10**3, 10**5) if quick else (10**3, 10**6, 3 * 10**7):
        for dtype in ("float64", "float32"):
            w, v = (3 * np.random.default_rng(n).standard_normal((2, n))).astype(dtype)
            runs, results, left_out = build(
                {
                    OURS: lambda w=w, v=v: lambda: loss.value_and_grad(w, v),
                    "NumPy": lambda w=w, v=v: lambda: peers.numpy_loss(w, v),
                    "SciPy": lambda w=w, v=v: lambda: peers.scipy_loss(w, v),
                    "PyTorch eager": lambda w=w, v=v: torch_eager(w, v, threads),
                    "torch.compile": lambda w=w, v=v: torch_compiled(w, v, threads),
                    "JAX jit": lambda w=w, v=v: jax_jit(w, v),
                }
            )
            name = f"N = {n:.0e}, {dtype}".replace("e+0", "e")
            agree(name, results, w, v)
            bars = {10**3: [Bar("", 5.0)], 10**6: [Bar("", 5.0 if dtype == "float64" else 2.0)]}.get(n, [])
            if n > 10**7 and threads > 1:
                bars = [Bar("limit", 1 / 1.5)]
            del results
            yield Case(name, runs, limits.stream(w, v, threads), bars, left_out=left_out)
