"""Sums of non-negative numbers in about twice the precision, each an unevaluated sum hi + lo."""

import math

from refrm.kernels.compiler import jit, two_sum
from refrm.spec import Array


@jit
def fold(hi: Array, lo: Array, half: int) -> None:
    """Add the sums from ``half`` on to those before it."""
    high, low = hi[half:], lo[half:]
    for i in range(high.size):
        total, error = two_sum(hi[i], high[i])
        hi[i] = total
        lo[i] += low[i] + error


@jit
def lanes_sum(hi: Array, lo: Array) -> tuple[float, float]:
    """Return the sum of the sums, which are overwritten; infinity and NaN stay what they are."""
    width = hi.size
    while width > 1:
        half = (width + 1) // 2
        fold(hi[:width], lo[:width], half)
        width = half
    return hi[0], lo[0] if math.isfinite(lo[0]) else 0.0


@jit
def combine(totals: Array) -> tuple[float, float, float]:
    """Return the sums over all columns of the loss, s^2 and d^2."""
    loss, loss_lo = lanes_sum(totals[0], totals[1])
    square, square_lo = lanes_sum(totals[2], totals[3])
    gap, gap_lo = lanes_sum(totals[4], totals[5])
    return loss + loss_lo, square + square_lo, gap + gap_lo
