"""Sums and products in about twice the precision, each an unevaluated sum hi + lo, side by side in lanes: arrays of
which every element is a sum, or a product, of its own.
"""

import math

from refrm.kernels.compiler import fma, inline, jit, two_product, two_sum
from refrm.spec import Array


@inline
def product(x: float, x_lo: float, y: float, y_lo: float) -> tuple[float, float]:
    """Return (x + x_lo)*(y + y_lo), to about 2^-103."""
    p, error = two_product(x, y)
    return p, fma(x, y_lo, fma(x_lo, y, error))


@jit
def add_block(x: Array, hi: Array, lo: Array) -> None:
    """Add a block of summands to the lanes, two summands at a time."""
    n = hi.size
    first, second = x[:n], x[n:]
    for i in range(n):
        total, error = two_sum(hi[i], first[i] + second[i])
        hi[i] = total
        lo[i] += error


@jit
def fold(hi: Array, lo: Array, half: int) -> None:
    """Add the lanes from ``half`` on to those before it."""
    high, low = hi[half:], lo[half:]
    for i in range(high.size):
        total, error = two_sum(hi[i], high[i])
        hi[i] = total
        lo[i] += low[i] + error


@jit
def lanes_sum(hi: Array, lo: Array) -> tuple[float, float]:
    """Return the sum of the lanes, which are overwritten; infinity and NaN stay what they are."""
    width = hi.size
    while width > 1:
        half = (width + 1) // 2
        fold(hi[:width], lo[:width], half)
        width = half
    return hi[0], lo[0] if math.isfinite(lo[0]) else 0.0


@jit
def add_lanes(lanes: Array, totals: Array) -> None:
    """Fill ``totals`` with the sums over pairs of rows of lanes."""
    for kind in range(totals.size // 2):
        totals[2 * kind], totals[2 * kind + 1] = lanes_sum(lanes[2 * kind], lanes[2 * kind + 1])


@jit
def combine(totals: Array) -> tuple[float, float, float]:
    """Return the sums over all columns of the loss, s^2 and d^2."""
    add_lanes(totals, totals[:, 0])
    return totals[0, 0] + totals[1, 0], totals[2, 0] + totals[3, 0], totals[4, 0] + totals[5, 0]
