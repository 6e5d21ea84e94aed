"""The loss terms of `refrm.spec` for arrays of pairs, and whole losses in one pass.

Arrays come in C-contiguous, as float64 or float32, checked by the caller. The arithmetic is float64; float32 results
are rounded once, or proved to be what this gives (`narrow`). A mean over N pairs adds at most 6u of itself, u = 2^-53,
for N up to 2^40; that of float32 scores is within 2^-42.
"""

import math
from functools import partial

import numba
import numpy as np

from refrm import spec
from refrm.kernels.blocks import FEW, blocks, of_pairs, start, totals_of
from refrm.kernels.compiler import copy, jit, side_by_side, two_product, two_sum
from refrm.kernels.loops import BLOCK
from refrm.kernels.narrow import narrow_block
from refrm.kernels.scalar import pair
from refrm.kernels.sums import combine
from refrm.spec import Array, Coefficients, Jet

LARGE, TINY = 2.0**900, 2.0**-900
FAINT = 2.0**-40  # a mean loss so small that `blocks` loses part of it
NOTHING = np.empty(0)


@jit
def bradley_terry(r_w: Array, r_l: Array, margin: Array, label_smoothing: float) -> Jet:
    """Compute `refrm.spec.bradley_terry`; ``margin`` has shape (1,) or (N,)."""
    value, g_w, g_l = np.empty_like(r_w), np.empty_like(r_w), np.empty_like(r_w)
    h_ww, h_wl = np.empty_like(r_w), np.empty_like(r_w)
    stride = 0 if margin.size == 1 else 1
    for i in range(r_w.size):
        v, slope, h = pair(np.float64(r_w[i]), np.float64(r_l[i]), np.float64(margin[i * stride]), label_smoothing)
        value[i] = v
        g_w[i] = slope
        g_l[i] = -slope
        h_ww[i] = h
        h_wl[i] = -h
    return Jet(value, g_w, g_l, h_ww, h_wl, h_ww)


@jit
def squared_sum(r_w: Array, r_l: Array) -> Jet:
    """Compute `refrm.spec.squared_sum`; the rounding error of r_w + r_l is compensated in the square."""
    value, g = np.empty_like(r_w), np.empty_like(r_w)
    for i in range(r_w.size):
        hi, lo = two_sum(np.float64(r_w[i]), np.float64(r_l[i]))
        square = hi * hi
        value[i] = square if not math.isfinite(square) else square + 2.0 * hi * lo
        g[i] = 2.0 * hi
    two = np.full_like(r_w, 2.0)
    return Jet(value, g, g, two, two, two)


def sum_of_squares(r_w: Array, r_l: Array) -> Jet:
    """Compute `refrm.spec.sum_of_squares`, which is right to the last bit but one."""
    jet = spec.sum_of_squares(r_w.astype(np.float64), r_l.astype(np.float64))
    return Jet(*(part.astype(r_w.dtype, copy=False) for part in jet))


@jit
def dot(a: Array, b: Array) -> float:
    """Return sum(a*b), as if computed in twice the precision (Ogita, Rump and Oishi's Dot2)."""
    plain = hi = lo = 0.0
    for i in range(a.size):
        p, e = two_product(np.float64(a[i]), np.float64(b[i]))
        hi, t = two_sum(hi, p)
        lo += e + t
        plain += p
    return hi + lo if math.isfinite(lo) else plain  # an infinity or NaN among the products


@jit
def total(weight: Array) -> float:
    """Compute `refrm.spec.total`, to an ulp."""
    return float(dot(weight, np.ones(weight.size)))


@jit
def mean_sum(r_w: Array, r_l: Array, share: Array) -> float:
    """Return sum(share*(r_w + r_l)), as if computed in twice the precision; a share of 0 does not count."""
    plain = hi = lo = 0.0
    for i in range(share.size):
        if share[i] > 0.0:
            s, s_lo = two_sum(np.float64(r_w[i]), np.float64(r_l[i]))
            p, e = two_product(share[i], s)
            hi, t = two_sum(hi, p)
            lo += e + t + share[i] * s_lo
            plain += p
    return hi + lo if math.isfinite(lo) else plain  # an infinity or NaN among the sums


@jit
def mean(values: Array, weight: Array) -> float:
    """Compute `refrm.spec.mean`, to 3 ulp for N up to 2^25."""
    whole = total(weight)
    largest = 0.0
    for i in range(values.size):
        if weight[i] > 0.0 and abs(values[i]) > largest:
            largest = np.float64(abs(values[i]))
    scale = 2.0**-200 if largest > 2.0**700 else 2.0**200  # no sum or product's error leaves the range before the mean
    return float(dot(weight, scale * values.astype(np.float64)) / whole / scale)


# --- a whole loss: value and gradients in one pass --------------------------------------------------------------

CHUNK = 1 << 16  # pairs whose sums are kept apart: so the order of summation does not depend on the threads


@partial(jit, inline="always")  # in `sweep`, and nowhere else: to compile it twice would take its time
def narrow_blocks(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Do what `blocks` does for float32 scores: in less than float64 where that is proved to be enough."""
    few = r_w.size <= FEW  # as for the same scores in float64, not for what is left after the last whole part
    for at in range(0, r_w.size, 2 * BLOCK):
        end = min(at + 2 * BLOCK, r_w.size)
        part = slice(at, end)
        w, v, to_w, to_l = r_w[part], r_l[part], g_w[part], g_l[part]
        if share.size > 0 or not narrow_block(w, v, coef, to_w, to_l, work):
            wide_w, wide_l = np.empty(w.size), np.empty(w.size)
            w_64, l_64 = w.astype(np.float64), v.astype(np.float64)
            m, q = of_pairs(margin, at, end), of_pairs(share, at, end)
            blocks(w_64, l_64, m, q, smoothing, coef, few, wide_w, wide_l, work)
            copy(wide_w, to_w)
            copy(wide_l, to_l)


@jit
def sweep(r_w, r_l, margin, share, smoothing, coef, wide, narrow, g_w, g_l, begin, end, totals):  # type: ignore[no-untyped-def]
    """Process chunks ``begin`` to ``end - 1``: gradients, and in totals[:, chunk] the sums of the loss, s^2 and d^2, of
    which those of the first chunk are returned as well.

    ``wide`` is None for float32, ``narrow`` for float64: what is None is left out at compilation.
    """
    work = start()
    for chunk in range(begin, end):
        at, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, r_w.size)
        part = slice(at, stop)
        w, v, to_w, to_l = r_w[part], r_l[part], g_w[part], g_l[part]
        m, q = of_pairs(margin, at, stop), of_pairs(share, at, stop)
        if wide is not None:
            blocks(w, v, m, q, smoothing, coef, w.size <= FEW, to_w, to_l, work)
        if narrow is not None:
            narrow_blocks(w, v, m, q, smoothing, coef, to_w, to_l, work)
        totals_of(work, totals[:, chunk])
    k = begin
    return totals[0, k] + totals[1, k], totals[2, k] + totals[3, k], totals[4, k] + totals[5, k]


def objective(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[Coefficients, Array, Array]:
    """Compute `refrm.spec.objective`, on as many threads as ``numba.get_num_threads()`` says, with the same bits on
    any number.
    """
    n = r_w.size
    count, margins, shares = in_full(n, margin, label_smoothing, coef, share)
    mean_s = mean_sum(r_w, r_l, np.full(n, 1.0 / n) if share is None else share) if coef[3] else 0.0
    g_w, g_l = np.empty(n, r_w.dtype), np.empty(n, r_w.dtype)
    _, c_d, c_s, _ = coef
    wide, narrow = (True, None) if r_w.itemsize == 8 else (None, True)
    work = (r_w, r_l, margins, shares, label_smoothing, numbers(count, coef, mean_s), wide, narrow, g_w, g_l)
    chunks = -(-n // CHUNK)
    totals = np.empty((6, chunks))
    threads = min(numba.get_num_threads(), chunks // 2) if chunks > 3 else 1  # to ask costs a microsecond
    if threads > 1:
        side_by_side(threads, chunks, lambda begin, end: sweep(*work, begin, end, totals))
    else:
        sums = sweep(*work, 0, chunks, totals)
    loss, square, gap = sums if chunks == 1 else combine(totals)
    # A share of a tiny square underflows; a sum of shares is the mean itself, and overflows only where that does.
    lowest, least, most = (TINY, TINY, math.inf) if shares.size else (FAINT * n, -1.0, LARGE)
    if not (lowest < loss < most and (not c_s or least < square < most) and (not c_d or least < gap < most)):
        ends = at_the_ends(r_w, r_l, margin, label_smoothing, share)
        if shares.size:  # there a square overflows before it meets its share
            ends = ends[0], gap if least < gap < most else ends[1], square if least < square < most else ends[2]
        return (*ends, mean_s), g_w, g_l
    return (loss / count, gap / count, square / count, mean_s), g_w, g_l


def at_the_ends(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, share: Array | None
) -> tuple[float, float, float]:
    """Return the means of the loss, d^2 and s^2 where their sums may overflow or underflow though they do not."""
    whole = 1.0 if share is None else total(share)  # the shares of a minibatch do not add up to 1
    if not whole:
        return 0.0, 0.0, 0.0
    weight = np.ones(r_w.size) if share is None else np.ldexp(share, 1 - np.frexp(share.max())[1])
    w, v = r_w.astype(np.float64), r_l.astype(np.float64)
    w[weight == 0.0] = v[weight == 0.0] = 0.0  # these do not count, not even where they are infinite
    gap = squared_sum(w, -v).value
    loss = bradley_terry(w, v, np.zeros(1) if margin is None else margin, label_smoothing).value
    return whole * mean(loss, weight), whole * mean(gap, weight), whole * mean(squared_sum(w, v).value, weight)


def in_full(
    n: int, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[float, Array, Array]:
    """Return what every sum is still to be divided by, and margin and share as `of_pairs` takes them, both empty for a
    plain loss.
    """
    if share is None and margin is None and not label_smoothing and not coef[1]:
        return float(n), NOTHING, NOTHING
    margins = np.full(BLOCK, 0.0 if margin is None else margin[0]) if margin is None or margin.size == 1 else margin
    return 1.0, margins, np.full(BLOCK, 1.0 / n) if share is None else share


def numbers(count: float, coef: Coefficients, mean_s: float) -> tuple[float, float, float, float, float]:
    """Return the coefficients of sigma(-z), d, s and of the score itself in the gradients, and the pull of (mean s)^2.

    What d^2 and s^2 have in common, d^2 + s^2 = 2 (r_w^2 + r_l^2), goes through neither: there d and s would cancel.
    """
    c_pair, c_d, c_s, c_mean = coef
    both, scale = c_d if c_d < c_s else c_s, 1.0 / count
    return scale * c_pair, scale * (c_d - both), scale * (c_s - both), scale * 4.0 * both, scale * 2.0 * c_mean * mean_s
