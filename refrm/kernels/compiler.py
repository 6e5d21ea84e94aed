"""How every jitted function of refrm is compiled and cached; and the error-free sums that they are made of.

Numba's cache watches the file of the function that it compiled, not the files of those which that one calls. `jit`
therefore stamps every function with a digest of all files in this directory: a change in any of them compiles anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic, overload

STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile with the project's one set of options, cached on disk where any place for a cache can be written.

    No ``fastmath``: it would break NaN, infinity and the compensated sums; ``error_model="numpy"`` makes x/0 follow
    IEEE 754. Every function is inlined into its callers: a loop that calls one is vectorised only then. ``options``
    are more options of ``numba.njit``.
    """
    options = {"nogil": True, "error_model": "numpy", "forceinline": True, **options}
    compiled: Any
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # a read-only install and an unwritable home: no locator for the cache
        compiled = numba.njit(**options)(function)
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if index is not None:  # pragma: no cover - where kernels are compiled
        index._source_stamp = STAMP
    return compiled


SPLITTER = 134217729.0  # 2^27 + 1, Veltkamp


@jit
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@jit
def two_product(a: float, b: float) -> tuple[float, float]:
    """Return the rounded product and its exact error (Dekker); no overflow below 2^996."""
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


@intrinsic
def _llvm_fma(context: Any, a: Any, b: Any, c: Any) -> Any:  # pragma: no cover - runs in the compiler
    f = numba.types.float64
    return f(f, f, f), lambda context, builder, signature, arguments: builder.fma(*arguments)
