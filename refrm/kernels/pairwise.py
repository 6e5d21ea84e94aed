"""The loss terms of `refrm.spec` for arrays of pairs, and whole losses in one pass.

Arrays come in C-contiguous, as float64 or float32, checked by the caller. The arithmetic is float64; float32 results
are rounded once, or proved to be what this gives (`narrow`). A mean over N pairs adds at most 6u of itself, u = 2^-53,
for N up to 2^40; that of float32 scores is within 2^-42.
"""

import math

import numba
import numpy as np

from refrm import spec
from refrm.kernels.compiler import copy, fma, jit, side_by_side, two_product, two_sum
from refrm.kernels.narrow import narrow_block
from refrm.kernels.scalar import FAST, SQUARE, exp_parts, halved, log1p_halved, logistic, pair, reduced, two_to
from refrm.spec import Array, Coefficients, Jet

LARGE, TINY = 2.0**900, 2.0**-900


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
    if largest > LARGE:  # the sum or a product's error might overflow although the mean does not
        return float(dot(weight, 2.0**-200 * values.astype(np.float64)) / whole * 2.0**200)
    return float(dot(weight, values) / whole)


# --- a whole loss: value and gradients in one pass --------------------------------------------------------------

BLOCK = 512  # pairs whose intermediate results stay in the first-level cache
FEW = 8  # pairs that are done one by one before the loops have begun
CHUNK = 1 << 16  # pairs whose sums are kept apart: so the order of summation does not depend on the threads


# A block goes through short loops, one after the other: each fits the processor's window, a long one waits for itself.


@jit
def reduce_block(r_w, r_l, margin, z, r, t):  # type: ignore[no-untyped-def]
    """Fill z = r_w - r_l - margin and what `reduced` makes of |z|; return how many pairs need `slow_block` instead."""
    slow = 0
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        hi, lo = two_sum(w, -v)
        if margin is not None:
            high, low = two_sum(hi, -margin[i])
            lo += low
            hi = high + lo
            lo = (high - hi) + lo
        slow += not (abs(hi) < FAST and abs(w + v) < SQUARE)
        z[i] = hi
        r[i], t[i] = reduced(abs(hi), lo if hi >= 0.0 else -lo)
    return slow


@jit
def exp_block(r: Array, t: Array) -> None:
    """Replace (r, t) by the two parts of exp(-|z|)."""
    for i in range(r.size):
        e, f = exp_parts(r[i])
        scale = two_to(t[i])
        r[i], t[i] = e * scale, f * scale


@jit
def logistic_block(z: Array, e: Array, f: Array, losing: Array, s: Array) -> None:
    """Fill ``losing`` with sigma(-z); replace e and f by g and the rest that `log1p_halved` takes, and fill its s."""
    for i in range(z.size):
        losing[i], f[i] = logistic(z[i] >= 0.0, e[i], f[i])
        e[i], s[i] = halved(e[i])


@jit
def loss_block(z, g, s, rest, share, smoothing, out):  # type: ignore[no-untyped-def]
    """Fill the loss of each pair, times its share."""
    for i in range(z.size):
        tail = log1p_halved(g[i], s[i], rest[i])
        if share is None:
            out[i] = tail + max(-z[i], 0.0)
        else:
            out[i] = share[i] * fma(smoothing if z[i] >= 0.0 else 1.0 - smoothing, abs(z[i]), tail)


@jit
def gradient_block(r_w, r_l, losing, share, smoothing, coef, g_w, g_l, square, gap):  # type: ignore[no-untyped-def]
    """Fill the gradients, and s^2 and d^2 times their shares."""
    c_pair, c_d, c_s, c_own, pull = coef
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        s, s_lo = two_sum(w, v)
        on_s = fma(2.0 * c_s, s, pull)
        squared = fma(s, s, 2.0 * s * s_lo)
        if share is None:
            on_d = -c_pair * losing[i]
            g_w[i] = on_s + on_d
            g_l[i] = on_s - on_d
            square[i] = squared
        else:
            d = w - v
            on_d = c_pair * (smoothing - losing[i]) + 2.0 * c_d * d
            g_w[i] = share[i] * (c_own * w + (on_s + on_d))
            g_l[i] = share[i] * (c_own * v + (on_s - on_d))
            square[i] = share[i] * squared
            gap[i] = share[i] * d * d


@jit
def slow_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, sums):  # type: ignore[no-untyped-def]
    """Do all of this pair by pair, for any floats."""
    c_pair, c_d, c_s, c_own, pull = coef
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        loss, slope, _ = pair(w, v, 0.0 if margin is None else margin[i], 0.0 if share is None else smoothing)
        s, s_lo = two_sum(w, v)
        q = 1.0 if share is None else share[i]
        # What has coefficient 0 does not count, not even where it is infinite or NaN; nor does a pair of weight 0.
        on_d = (c_pair * slope if c_pair > 0.0 else 0.0) + (2.0 * c_d * (w - v) if c_d > 0.0 else 0.0)
        on_s = fma(2.0 * c_s, s, pull) if c_s > 0.0 else pull
        counts = q > 0.0
        g_w[i] = q * ((c_own * w if c_own > 0.0 else 0.0) + (on_s + on_d)) if counts else 0.0
        g_l[i] = q * ((c_own * v if c_own > 0.0 else 0.0) + (on_s - on_d)) if counts else 0.0
        sums[0, i] = q * loss if counts else 0.0
        sums[1, i] = q * (s * s + (2.0 * s * s_lo if math.isfinite(s * s) else 0.0)) if counts else 0.0
        if share is not None:
            sums[2, i] = q * (w - v) * (w - v) if counts else 0.0


@jit
def block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Fill the gradients of up to as many pairs as a row of ``work`` is long, and in its first three rows the
    summands of the loss, s^2 and d^2.
    """
    n = r_w.size
    z, r, t, losing, s = work[3, :n], work[4, :n], work[5, :n], work[6, :n], work[7, :n]
    if n <= FEW or reduce_block(r_w, r_l, margin, z, r, t) > 0:
        slow_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work)
        return
    exp_block(r, t)
    logistic_block(z, r, t, losing, s)
    loss_block(z, r, s, t, share, smoothing, work[0, :n])
    gradient_block(r_w, r_l, losing, share, smoothing, coef, g_w, g_l, work[1, :n], work[2, :n])


@jit
def widened_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Do a `block` of float32 scores in float64; rounded once, at the end."""
    w, v = r_w.astype(np.float64), r_l.astype(np.float64)
    to_w, to_l = np.empty_like(w), np.empty_like(v)
    block(w, v, margin, share, smoothing, coef, to_w, to_l, work)
    copy(to_w, g_w)
    copy(to_l, g_l)


@jit
def add_block(x: Array, hi: Array, lo: Array) -> None:
    """Add a block of summands to the lanes' double-double sums, two summands at a time."""
    n = hi.size
    first, second = x[:n], x[n:]
    for i in range(n):
        total, error = two_sum(hi[i], first[i] + second[i])
        hi[i] = total
        lo[i] += error


@jit
def sweep(r_w, r_l, margin, share, smoothing, coef, wide, narrow, g_w, g_l, begin, end, totals):  # type: ignore[no-untyped-def]
    """Process chunks ``begin`` to ``end - 1``: gradients, and in totals[:, chunk] the sums of the loss, s^2 and d^2,
    of which those of the first chunk are returned as well.

    ``wide`` is None for float32, ``narrow`` for float64: what is None is left out at compilation. Otherwise ``narrow``
    is whether `narrow_block` knows the loss.
    """
    size = min(BLOCK, 2 * ((min(CHUNK, r_w.size) + 1) // 2))
    work = np.empty((8, size))
    lanes = np.empty((6, size // 2))
    for chunk in range(begin, end):
        lanes[:] = 0.0
        for at in range(chunk * CHUNK, min((chunk + 1) * CHUNK, r_w.size), size):
            stop = min(at + size, r_w.size)
            m = None if margin is None else margin[at:stop]
            q = None if share is None else share[at:stop]
            w, v, to_w, to_l = r_w[at:stop], r_l[at:stop], g_w[at:stop], g_l[at:stop]
            summands = size
            if narrow is not None:
                if narrow and narrow_block(w, v, coef, to_w, to_l, work):
                    summands = 2
                else:
                    widened_block(w, v, m, q, smoothing, coef, to_w, to_l, work)
            if wide is not None:
                block(w, v, m, q, smoothing, coef, to_w, to_l, work)
            work[:3, stop - at :] = 0.0
            for kind in range(2 if share is None else 3):
                add_block(work[kind, :summands], lanes[2 * kind, : summands // 2], lanes[2 * kind + 1, : summands // 2])
        add_lanes(lanes, totals[: 4 if share is None else 6, chunk])
    return totals[0, begin] + totals[1, begin], totals[2, begin] + totals[3, begin], totals[4, begin] + totals[5, begin]


@jit
def fold(hi: Array, lo: Array, half: int) -> None:
    """Add the lanes from ``half`` on to those before it."""
    high, low = hi[half:], lo[half:]
    for i in range(high.size):
        total, error = two_sum(hi[i], high[i])
        hi[i] = total
        lo[i] += low[i] + error


@jit
def add_lanes(lanes: Array, totals: Array) -> None:
    """Fill ``totals`` with the double-double sums over the lanes; infinity and NaN stay what they are."""
    for kind in range(totals.size // 2):
        hi, lo = lanes[2 * kind], lanes[2 * kind + 1]
        width = hi.size
        while width > 1:
            half = (width + 1) // 2
            fold(hi[:width], lo[:width], half)
            width = half
        totals[2 * kind] = hi[0]
        totals[2 * kind + 1] = lo[0] if math.isfinite(lo[0]) else 0.0


@jit
def combine(totals: Array) -> tuple[float, float, float]:
    """Return the sums over all chunks of the loss, s^2 and d^2."""
    add_lanes(totals, totals[:, 0])
    return totals[0, 0] + totals[1, 0], totals[2, 0] + totals[3, 0], totals[4, 0] + totals[5, 0]


def objective(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[Coefficients, Array, Array]:
    """Compute `refrm.spec.objective`, on as many threads as ``numba.get_num_threads()`` says, with the same bits on
    any number.
    """
    n = r_w.size
    scale, margin, share = in_full(n, margin, label_smoothing, coef, share)
    mean_s = mean_sum(r_w, r_l, np.full(n, 1.0 / n) if share is None else share) if coef[3] else 0.0
    g_w, g_l = np.empty(n, r_w.dtype), np.empty(n, r_w.dtype)
    _, c_d, c_s, _ = coef
    wide, narrow = (True, None) if r_w.itemsize == 8 else (None, share is None)
    work = (r_w, r_l, margin, share, label_smoothing, numbers(scale, coef, mean_s), wide, narrow, g_w, g_l)
    chunks = -(-n // CHUNK)
    totals = np.zeros((6, chunks))
    threads = min(numba.get_num_threads(), chunks // 2) if chunks > 3 else 1  # to ask costs a microsecond
    if threads > 1:
        side_by_side(threads, chunks, lambda begin, end: sweep(*work, begin, end, totals))
    else:
        sums = sweep(*work, 0, chunks, totals)
    loss, square, gap = sums if chunks == 1 else combine(totals)
    if not (TINY < loss < LARGE and (not c_s or square < LARGE) and (not c_d or gap < LARGE)):
        return (*at_the_ends(r_w, r_l, margin, label_smoothing, share), mean_s), g_w, g_l
    return (scale * loss, scale * gap, scale * square, mean_s), g_w, g_l


def at_the_ends(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, share: Array | None
) -> tuple[float, float, float]:
    """Return the means of the loss, d^2 and s^2 where their sums may overflow or underflow though they do not."""
    whole = 1.0 if share is None else total(share)  # the shares of a minibatch do not add up to 1
    if not whole:
        return 0.0, 0.0, 0.0
    weight = np.ones(r_w.size) if share is None else np.ldexp(share, 1 - np.frexp(share.max())[1])
    w, v = r_w.astype(np.float64), r_l.astype(np.float64)
    gap = squared_sum(w, -v).value
    loss = bradley_terry(w, v, np.zeros(1) if margin is None else margin, label_smoothing).value
    return whole * mean(loss, weight), whole * mean(gap, weight), whole * mean(squared_sum(w, v).value, weight)


def in_full(
    n: int, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[float, Array | None, Array | None]:
    """Return what every summand is still to be multiplied by, and margin and share: both None, or both arrays."""
    if share is None and margin is None and not label_smoothing and not coef[1]:
        return 1.0 / n, None, None
    return 1.0, np.zeros(n) if margin is None else margin, np.full(n, 1.0 / n) if share is None else share


def numbers(scale: float, coef: Coefficients, mean_s: float) -> tuple[float, float, float, float, float]:
    """Return the coefficients of sigma(-z), d, s and of the score itself in the gradients, and the pull of (mean s)^2.

    What d^2 and s^2 have in common, d^2 + s^2 = 2 (r_w^2 + r_l^2), goes through neither: there d and s would cancel.
    """
    c_pair, c_d, c_s, c_mean = coef
    both = c_d if c_d < c_s else c_s
    return scale * c_pair, scale * (c_d - both), scale * (c_s - both), scale * 4.0 * both, scale * 2.0 * c_mean * mean_s
