"""What the machine itself allows, measured beside the contenders on the same bytes; no limit allocates, but the one
that says so.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from timing import Run

LARGE = 1 << 20
"""Bytes above which work is split among threads; below, handing it out costs more than doing it."""


def divide(threads: int, nbytes: int, size: int) -> Callable[[Callable[[slice], object]], None]:
    """Return a function that does its argument on equal parts of ``range(size)``, each on a thread of its own."""
    workers = threads if nbytes > LARGE else 1
    parts = [slice(size * k // workers, size * (k + 1) // workers) for k in range(workers)]
    if workers == 1:
        return lambda work: [work(part) for part in parts] and None
    pool = ThreadPoolExecutor(workers)
    return lambda work: list(pool.map(work, parts)) and None


def stream(w: np.ndarray, v: np.ndarray, threads: int) -> dict[str, Run]:
    """Read two arrays and write two: the bytes of value and both gradients.

    The second variant shows what a function pays that returns new arrays, as all contenders do.
    """
    share_out = divide(threads, w.nbytes, w.size)
    there = np.empty_like(w), np.empty_like(v)

    def copy(a: np.ndarray, b: np.ndarray) -> None:
        def work(part: slice) -> None:
            np.copyto(a[part], w[part])
            np.copyto(b[part], v[part])

        share_out(work)

    return {
        "limit: stream": lambda: copy(*there),
        "limit: stream to fresh arrays": lambda: copy(np.empty_like(w), np.empty_like(v)),
    }


@numba.njit(nogil=True, fastmath={"reassoc", "nsz"})
def total(x: np.ndarray) -> float:
    """Return the sum, in whatever order is fastest."""
    s = x.dtype.type(0)
    for i in range(x.size):
        s += x[i]
    return s


def read(x_w: np.ndarray, x_l: np.ndarray, threads: int) -> dict[str, Run]:
    """Read two matrices once; the fastest of these is the limit."""
    w, v = x_w.reshape(-1), x_l.reshape(-1)
    share_out = divide(threads, w.nbytes, w.size)

    def one_by_one(part: slice) -> float:
        return total(w[part]) + total(v[part])

    def both_at_once(part: slice) -> float:
        return float(np.dot(w[part], v[part]))

    return {"limit: read": lambda: share_out(one_by_one), "limit: read, BLAS dot": lambda: share_out(both_at_once)}


def products(pairs: int, widths: tuple[int, ...], dtype: str, threads: int) -> dict[str, Run]:
    """The matrix products of one step of an MLP with a linear head, forward and back, into arrays that are there."""
    rng = np.random.default_rng(0)

    def matrix(n: int, m: int) -> np.ndarray:
        return rng.standard_normal((n, m)).astype(dtype)

    a = [matrix(2 * pairs, width) for width in widths]  # each layer's output
    todo = []
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        weight, grad, bar = matrix(n, m), matrix(n, m), matrix(2 * pairs, m)
        todo += [(a[k], weight, a[k + 1]), (a[k].T, bar, grad)]
        if k > 0:
            todo.append((bar, weight.T, matrix(2 * pairs, n)))

    def numpy_products() -> None:
        for left, right, out in todo:
            np.matmul(left, right, out=out)

    limits: dict[str, Run] = {"limit: products, NumPy": numpy_products}
    try:
        import torch
    except ImportError:
        return limits
    torch.set_num_threads(threads)
    tensors = [tuple(torch.from_numpy(x) for x in product) for product in todo]

    def torch_products() -> None:
        for left, right, out in tensors:
            torch.mm(left, right, out=out)

    return {**limits, "limit: products, PyTorch": torch_products}
