"""What number formats do to scores (T13): margins below one spacing, and rankings that rounding turns into ties."""

from typing import NamedTuple

import numpy as np

from refrm.spec import Array


class Format(NamedTuple):
    """A binary format: bits of the significand, exponent of the smallest normal number, the largest number."""

    bits: int
    lowest: int
    largest: float

    def spacing(self, x: Array) -> Array:
        """Return the distance between neighbours in the format at |x|, in float64."""
        octave = (np.ascontiguousarray(x, np.float64).view(np.int64) & _EXPONENT).view(np.float64)
        return np.asarray(np.maximum(octave, 2.0**self.lowest) * 2.0 ** (1 - self.bits))

    def rounded(self, x: Array) -> Array:
        """Return x rounded to nearest, ties to even; infinite beyond the largest number."""
        step = self.spacing(x)
        y = np.rint(x / step) * step  # a division by a power of two is exact
        return np.asarray(np.where(np.abs(y) > self.largest, np.copysign(np.inf, y), y))


_EXPONENT = np.int64(0x7FF0000000000000)

FORMATS = {
    "float32": Format(24, -126, float(np.finfo(np.float32).max)),
    "float16": Format(11, -14, 65504.0),
    "bfloat16": Format(8, -126, 2.0**127 * (2 - 2.0**-7)),
}

COARSEST = FORMATS["bfloat16"]


def counts(r_w: Array, r_l: Array, d: Array) -> Array:
    """Return for each format: pairs with 0 < |d| < one spacing, pairs that rounding ties, pairs that overflow."""
    found = np.zeros((len(FORMATS), 3))
    size = np.maximum(np.abs(r_w), np.abs(r_l))
    gap = np.abs(d)
    # Only scores at most one spacing apart can round to the same number, and no format is coarser than this.
    close = gap <= np.maximum(COARSEST.spacing(size), FORMATS["float16"].spacing(np.zeros(1)))
    if size.max() > FORMATS["float16"].largest:
        close |= size > FORMATS["float16"].largest
    at = np.flatnonzero(close)
    if len(at):
        w, v, size, gap = r_w[at], r_l[at], size[at], gap[at]
        apart = gap > 0
        for row, form in zip(found, FORMATS.values(), strict=True):
            a, b = form.rounded(w), form.rounded(v)
            row[0] = np.count_nonzero(apart & (gap < form.spacing(size)))
            row[1] = np.count_nonzero(apart & (a == b))
            row[2] = np.count_nonzero(np.isinf(a) | np.isinf(b))
    return found
