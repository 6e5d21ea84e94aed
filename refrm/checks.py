"""The checks that every public function makes of its arguments; each raises `InputError`, with what was expected."""

import math

import numpy as np
from numpy.typing import ArrayLike

from refrm.errors import InputError
from refrm.spec import Array

LARGEST = 1e100
"""The largest feature that is accepted: the products of two of them, and sums of these, stay finite."""


BLOCK = 1 << 18
"""Features that are looked at in one go."""

_KEPT = (np.dtype(np.float64), np.dtype(np.float32))


def check_array(name: str, values: ArrayLike, shape: tuple[int | None, ...], expected: str) -> Array:
    """Return ``values`` as a C-contiguous float32 or float64 array of ``shape`` (None: any length), or raise
    `InputError`.

    float32 stays float32; integers, float16 and extended precision become float64.
    """
    if type(values) is np.ndarray and values.dtype in _KEPT and values.flags.c_contiguous and values.shape == shape:
        return values  # what is right already is let through at once
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(f"{name} must not be a masked array: its mask would be lost")
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever an object's own conversion raises: ragged lists, tensors that need gradients
        raise InputError(f"{name} must be an array of shape {expected}: {' '.join(str(error).split())}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise InputError(f"{name} must have shape {expected}, got {array.shape}")
    dtype = np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64
    with np.errstate(all="ignore"):  # what is beyond float64 becomes infinite, and is judged as that
        return np.asarray(array, dtype, order="C")


def check_integer(name: str, value: int, low: int) -> int:
    """Return ``value`` if it is an integer of at least ``low``, or raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InputError(f"{name} must be an integer >= {low}, got {value!r}")
    return int(value)


def check_flag(name: str, value: bool) -> bool:
    """Return ``value`` if it is a bool, or raise `InputError`."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_number(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return ``value`` as a float if it is a real number in [low, high), or (low, high); or raise `InputError`."""
    open_low |= math.isinf(low)
    interval = f"{'(' if open_low else '['}{low:g}, {high:g})"
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number < high or (open_low and number == low):
        raise InputError(f"{name} must be a number in {interval}, got {value!r}")
    return number


def check_weight(weight: ArrayLike | None, n: int) -> Array:
    """Return the weights of ``n`` pairs as float64: finite, none negative, not all zero; None means ones.

    Only their ratios count: they are scaled by a power of two, so that the largest is in [1, 2) and no sum or product
    of them leaves the range of floats.
    """
    if weight is None:
        return np.ones(n)
    array = check_array("weight", weight, (n,), f"({n},), one per pair")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        array = array.astype(np.float64, copy=False)
    least, most = float(array.min()), float(array.max())
    if not (least >= 0 and 0 < most < math.inf):  # NaN is neither
        raise InputError(f"weight must be finite, >= 0 and not all 0, got minimum {least} and maximum {most}")
    power = 1 - math.frexp(most)[1]
    return array * 2.0**power if power < 1024 else np.asarray(np.ldexp(array, power))


def check_scores(r_w: ArrayLike, r_l: ArrayLike) -> tuple[Array, Array]:
    """Return both score arrays, of one shape (N,), N >= 1, and one dtype; (N, 1) is refused, never broadcast."""
    if (
        (type(r_w) is type(r_l) is np.ndarray and r_w.dtype is r_l.dtype and r_w.dtype in _KEPT)
        and (r_w.ndim == 1 and r_w.size and r_w.shape == r_l.shape)
        and r_w.strides == r_l.strides == (r_w.itemsize,)
    ):
        return r_w, r_l  # what is right already is let through at once
    w = check_array("r_w", r_w, (None,), "(N,)")
    if w.size == 0:
        raise InputError("r_w and r_l are an empty batch, shape (0,): the mean over no pairs is not defined")
    v = check_array("r_l", r_l, (w.size,), f"{w.shape}, that of r_w")
    dtype = np.result_type(w, v)
    return w.astype(dtype, copy=False), v.astype(dtype, copy=False)


def check_finite(name: str, x: Array) -> None:
    """Raise `InputError` if a feature in ``x`` is NaN, infinite or beyond `LARGEST`."""
    largest = min(LARGEST, float(np.finfo(x.dtype).max))
    rows = max(1, BLOCK // max(1, x[:1].size))
    for at in range(0, len(x), rows):  # in blocks: a memory map need not fit into memory
        block = x[at : at + rows]
        if not (-largest <= block.min() and block.max() <= largest):  # NaN is neither
            first = np.argwhere(~(np.abs(block) <= largest))[0]
            index = (at + int(first[0]), *(int(i) for i in first[1:]))
            raise InputError(
                f"{name} must be finite and at most {largest:.3g} in size, got {x[index]} at index {index}"
            )


def check_features(chosen: ArrayLike, rejected: ArrayLike, n_features: int | None = None) -> tuple[Array, Array]:
    """Return both feature matrices, of one shape (N, n_features) and dtype, N >= 1, none beyond `LARGEST`; or raise
    `InputError`.
    """
    w = check_array("chosen", chosen, (None, n_features), f"(N, {n_features or 'n_features'})")
    if 0 in w.shape:
        raise InputError(
            f"chosen and rejected are empty, shape {w.shape}: at least one pair and one feature are needed"
        )
    v = check_array("rejected", rejected, w.shape, f"{w.shape}, that of chosen")
    check_finite("chosen", w)
    check_finite("rejected", v)
    dtype = np.result_type(w, v)
    return w.astype(dtype, copy=False), v.astype(dtype, copy=False)
