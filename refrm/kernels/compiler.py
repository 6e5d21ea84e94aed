"""How every jitted function of refrm is compiled, cached and spread over threads; and the error-free sums that they are
made of.

Numba's cache watches the file of the function that it compiled, not the files of those which that one calls. `jit`
therefore stamps every function with a digest of all files in this directory: a change in any of them compiles anew.
"""

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic, overload

from refrm.spec import Array

STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile with the project's one set of options, cached on disk where any place for a cache can be written.

    ``error_model="numpy"`` makes x/0 follow IEEE 754. No blanket ``fastmath``: it would break NaN, infinity and the
    compensated sums. ``options`` are more options of ``numba.njit``.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    compiled: Any
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # a read-only install and an unwritable home: no locator for the cache
        compiled = numba.njit(**options)(function)
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if index is not None:  # pragma: no cover - where kernels are compiled
        index._source_stamp = STAMP
    return compiled


inline = partial(jit, forceinline=True)
"""`jit` for a function of numbers: a loop that calls it is vectorised only where it is inlined. Array functions are
not: one loop each, their constants stay in registers."""

reassociated = partial(jit, fastmath={"reassoc", "contract"})
"""`jit` for a loop of plain sums, in an order left to the compiler, product and sum rounded once: it is vectorised only
then."""


@lru_cache(1)
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads beside this one; the kernels release Python's lock."""
    return ThreadPoolExecutor(threads, thread_name_prefix="refrm")


if hasattr(os, "register_at_fork"):  # pragma: no branch - a forked process has none of them, and begins a new pool
    os.register_at_fork(after_in_child=pool.cache_clear)

PROCESSOR: Any = getattr(ctypes.CDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None


def part_from(workers: ThreadPoolExecutor) -> None:
    """Keep the pool's threads off this thread's processor. Linux wakes a thread where it last ran, and on two busy
    processors leaves two threads on one of them for as long as a pass takes.
    """
    if PROCESSOR is not None and (elsewhere := os.sched_getaffinity(0) - {PROCESSOR()}):
        for number in filter(None, [thread.native_id for thread in tuple(workers._threads)]):
            with suppress(OSError):  # where a sandbox forbids it, the thread stays where it is
                os.sched_setaffinity(number, elsewhere)


def side_by_side(threads: int, parts: int, work: Callable[[int, int], Any]) -> None:
    """Call ``work(part, part + 1)`` for parts 0 to ``parts - 1`` on as many threads. Each takes the next when it is
    done with one, so that none waits for one whose processor has more to do.
    """
    left = iter(range(parts))
    others: list[Future[None]] = []

    def take() -> None:
        for part in left:
            work(part, part + 1)

    if threads > 1:
        part_from(pool(threads - 1))
        others = [pool(threads - 1).submit(take) for _ in range(threads - 1)]
    take()
    for other in others:
        if not other.cancel():
            other.result()


@jit
def copy(x: Array, y: Array) -> None:
    """Copy x to y; assigning to a slice would compile the message of its error as well."""
    for i in range(y.size):
        y[i] = x[i]


@inline
def bits(x: float) -> np.int64:
    """Return the number that a float64 is in memory."""
    return np.float64(x).view(np.int64)


SPLITTER = 134217729.0  # 2^27 + 1, Veltkamp


@inline
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: float, b: float) -> tuple[float, float]:
    """Return the rounded product and its exact error: compiled by an fma, else Dekker's, of no overflow below 2^996."""
    p = a * b
    c = SPLITTER * a
    a_hi = c - (c - a)
    c = SPLITTER * b
    b_hi = c - (c - b)
    a_lo = a - a_hi
    b_lo = b - b_hi
    return p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


def fma(a: float, b: float, c: float) -> float:
    """Return a*b + c, compiled into the one instruction that rounds once; uncompiled it rounds twice."""
    return a * b + c


@overload(fma, strict=False)
def _compiled_fma(a: float, b: float, c: float) -> Any:  # pragma: no cover - runs in the compiler
    return lambda a, b, c: _llvm_fma(a, b, c)  # type: ignore[call-arg]


@overload(two_product, strict=False)
def _compiled_two_product(a: float, b: float) -> Any:  # pragma: no cover - runs in the compiler
    return lambda a, b: (a * b, fma(a, b, -(a * b)))


@intrinsic
def _llvm_fma(context: Any, a: Any, b: Any, c: Any) -> Any:  # pragma: no cover - runs in the compiler
    f = numba.types.float64
    return f(f, f, f), lambda context, builder, signature, arguments: builder.fma(*arguments)
