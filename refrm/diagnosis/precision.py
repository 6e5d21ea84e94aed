"""What number formats do to scores (T13): margins below one spacing, and rankings that rounding turns into ties."""

from typing import NamedTuple

import numpy as np

from refrm.spec import Array


class Format(NamedTuple):
    """One or more binary formats: bits of the significand, the smallest normal number, the largest number."""

    bits: Array
    smallest: Array
    largest: Array

    def spacing(self, x: Array) -> Array:
        """Return the distance between neighbours in the format at |x|, in float64."""
        return np.asarray(np.maximum(octave(x), self.smallest) * 2.0 ** (1 - self.bits))

    def rounded(self, x: Array) -> Array:
        """Return x rounded to nearest, ties to even; infinite beyond the largest number."""
        step = self.spacing(x)
        y = np.rint(x / step) * step  # a division by a power of two is exact
        return np.asarray(np.where(np.abs(y) > self.largest, np.copysign(np.inf, y), y))


def octave(x: Array) -> Array:
    """Return 2^floor(log2 |x|) for normal numbers, 0 below them."""
    return (np.ascontiguousarray(x, np.float64).view(np.int64) & _EXPONENT).view(np.float64)


_EXPONENT = np.int64(0x7FF0000000000000)

_NAMES = ("float32", "float16", "bfloat16")
_ALL = Format(
    np.array([24.0, 11.0, 8.0]).reshape(3, 1),
    np.array([2.0**-126, 2.0**-14, 2.0**-126]).reshape(3, 1),
    np.array([float(np.finfo(np.float32).max), 65504.0, 2.0**127 * (2 - 2.0**-7)]).reshape(3, 1),
)

FORMATS = {name: Format(*(part[k] for part in _ALL)) for k, name in enumerate(_NAMES)}

# No format is coarser than bfloat16 among its normal numbers, or than float16 below its own.
_WIDEST, _LEAST = 2.0**-7, 2.0**-24


def counts(r_w: Array, r_l: Array, size: Array, gap: Array) -> Array:
    """Return for each format: pairs with 0 < |d| < one spacing, pairs that rounding ties, pairs that overflow.

    ``size`` is max(|r_w|, |r_l|), ``gap`` is |d|.
    """
    # Only scores at most one spacing apart can round to the same number.
    close = gap <= np.maximum(octave(size) * _WIDEST, _LEAST)
    if size.max() > _ALL.largest[1, 0]:
        close |= size > _ALL.largest[1, 0]
    at = np.flatnonzero(close)
    if not len(at):
        return np.zeros((3, 3))
    gap = gap[at]
    rounded = _ALL.rounded(np.stack([r_w[at], r_l[at]])[:, None])
    below = (gap > 0) & (gap < _ALL.spacing(size[at]))
    tied = (gap > 0) & (rounded[0] == rounded[1])
    over = np.isinf(rounded).any(axis=0)
    return np.stack([below.sum(axis=1), tied.sum(axis=1), over.sum(axis=1)], axis=1)
