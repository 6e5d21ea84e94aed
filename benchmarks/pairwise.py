"""Pairwise loss + 0.01*(r_w + r_l)^2, value and both gradients: refrm beside what an engineer would write instead."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Contenders = dict[str, Callable[[], tuple[Any, Any, Any]]]
COEF = 0.01


def numpy_scipy(w: np.ndarray, v: np.ndarray) -> Callable[[], tuple[Any, Any, Any]]:
    from scipy.special import expit, log_expit

    def run() -> tuple[Any, Any, Any]:
        d, s, n = w - v, w + v, len(w)
        value = -log_expit(d).mean() + COEF * (s * s).mean()
        slope, pull = -expit(-d) / n, 2 * COEF * s / n
        return value, pull + slope, pull - slope

    return run


def plain_numpy(w: np.ndarray, v: np.ndarray) -> Callable[[], tuple[Any, Any, Any]]:
    def run() -> tuple[Any, Any, Any]:
        d, s, n = w - v, w + v, len(w)
        e = np.exp(-np.abs(d))
        value = np.mean(np.maximum(-d, 0) + np.log1p(e)) + COEF * np.mean(s * s)
        slope, pull = -np.where(d >= 0, e, 1) / (1 + e) / n, 2 * COEF * s / n
        return value, pull + slope, pull - slope

    return run


def torch_autograd(w: np.ndarray, v: np.ndarray, threads: int, compiled: bool) -> Callable[[], tuple[Any, Any, Any]]:
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.from_numpy(x.copy()).requires_grad_() for x in (w, v))

    def loss(a: Any, b: Any) -> Any:
        return -torch.nn.functional.logsigmoid(a - b).mean() + COEF * ((a + b) ** 2).mean()

    loss = torch.compile(loss) if compiled else loss

    def run() -> tuple[Any, Any, Any]:
        value = loss(a, b)
        return (value.detach(), *torch.autograd.grad(value, (a, b)))

    return run


def jax_jit(w: np.ndarray, v: np.ndarray) -> Callable[[], tuple[Any, Any, Any]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    a, b = jax.numpy.asarray(w), jax.numpy.asarray(v)

    @jax.jit
    def both(a: Any, b: Any) -> Any:
        def loss(a: Any, b: Any) -> Any:
            return -jax.nn.log_sigmoid(a - b).mean() + COEF * ((a + b) ** 2).mean()

        return jax.value_and_grad(loss, (0, 1))(a, b)

    def run() -> tuple[Any, Any, Any]:
        value, (g_w, g_l) = jax.block_until_ready(both(a, b))
        return value, g_w, g_l

    return run


def ours(w: np.ndarray, v: np.ndarray) -> Callable[[], tuple[Any, Any, Any]]:
    import refrm

    loss = refrm.BradleyTerry() + COEF * refrm.SquaredSum()
    return lambda: loss.value_and_grad(w, v)


def stream(w: np.ndarray, v: np.ndarray, threads: int) -> Callable[[], tuple[Any, Any, Any]]:
    """The physical limit: read two arrays and write two of the same size, nothing else."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    parts = [slice(len(w) * k // threads, len(w) * (k + 1) // threads) for k in range(threads)]

    def copy(to: np.ndarray, source: np.ndarray) -> None:
        list(pool.map(lambda part: np.copyto(to[part], source[part]), parts))

    def run() -> tuple[Any, Any, Any]:
        a, b = np.empty_like(w), np.empty_like(v)
        copy(a, w)
        copy(b, v)
        return None, a, b

    return run


def cases(threads: int, largest: int) -> Iterator[tuple[str, Contenders]]:
    """Yield the name of each case and its contenders, on the same input; "stream" is the limit, not a contender."""
    for n in (10**3, 10**6, 3 * 10**7):
        for dtype in (np.float64, np.float32):
            if n > largest:
                continue
            rng = np.random.default_rng(n)
            w, v = (3 * rng.standard_normal((2, n))).astype(dtype)
            made: Contenders = {"refrm": ours(w, v), "NumPy": plain_numpy(w, v), "SciPy": numpy_scipy(w, v)}
            for name, make in (
                ("PyTorch eager", lambda w, v: torch_autograd(w, v, threads, False)),
                ("torch.compile", lambda w, v: torch_autograd(w, v, threads, True)),
                ("JAX jit", jax_jit),
            ):
                try:
                    made[name] = make(w, v)
                    made[name]()
                except Exception as error:  # a peer that is not installed or does not run here is left out, and named
                    print(f"  {name} left out: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
                    made.pop(name, None)
            made["stream"] = stream(w, v, threads)
            yield f"pairwise N={n:.0e} {np.dtype(dtype).name}".replace("e+0", "e"), made
