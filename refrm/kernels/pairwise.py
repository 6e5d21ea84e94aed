"""The loss terms of `refrm.spec` for arrays of pairs, and whole losses in one pass.

Arrays come in C-contiguous, as float64 or float32, checked by the caller. The arithmetic is float64; float32 results
are rounded once, at the store. A mean over N pairs adds at most 2 ulp, for any N.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numba
import numpy as np

from refrm.kernels.compiler import fma, jit, two_product, two_sum
from refrm.kernels.scalar import BIAS, FAST, LARGE, SQUARE, exp_parts, logistic, pair
from refrm.spec import Array, Coefficients, Jet


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


@jit
def sum_of_squares(r_w: Array, r_l: Array) -> Jet:
    """Compute `refrm.spec.sum_of_squares`."""
    value, g_w, g_l = np.empty_like(r_w), np.empty_like(r_w), np.empty_like(r_w)
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        value[i] = w * w + v * v
        g_w[i] = 2.0 * w
        g_l[i] = 2.0 * v
    two = np.full_like(r_w, 2.0)
    return Jet(value, g_w, g_l, two, np.zeros_like(r_w), two)


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
    """Compute `refrm.spec.mean`, to 2 ulp for any N."""
    total = dot(weight, np.ones(weight.size))
    largest = 0.0
    for i in range(values.size):
        if weight[i] > 0.0 and abs(values[i]) > largest:
            largest = np.float64(abs(values[i]))
    if largest > LARGE:  # the sum or a product's error might overflow although the mean does not
        return float(dot(weight, 2.0**-200 * values.astype(np.float64)) / total * 2.0**200)
    return float(dot(weight, values) / total)


# --- a whole loss: value and gradients in one pass --------------------------------------------------------------

BLOCK = 1024  # pairs whose intermediate results stay in the first-level cache
CHUNK = 1 << 16  # pairs whose sums are kept apart: so the order of summation does not depend on the threads


@jit
def fast_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, sums):  # type: ignore[no-untyped-def]
    """Fill gradients and the summands of a block, branch-free; return how many pairs need `slow_block` instead."""
    c_pair, c_d, c_s, pull = coef
    slow = 0
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        s, s_lo = two_sum(w, v)
        d, lo = two_sum(w, -v)
        hi = d
        if margin is not None:
            z, low = two_sum(d, -margin[i])
            lo += low
            hi = z + lo
            lo = (z - hi) + lo
        positive = hi >= 0.0
        a = abs(hi)
        slow += not (a < FAST and abs(s) < SQUARE)
        e, f, t = exp_parts(a, lo if positive else -lo)
        scale = np.int64((np.float64(t).view(np.int64) - BIAS) << 52).view(np.float64)
        losing, tail, _ = logistic(positive, e * scale, f * scale)
        if share is None:
            loss, on_d, on_s = (tail if positive else tail + a), -c_pair * losing, 2.0 * c_s * s + pull
        else:
            loss = fma(smoothing if positive else 1.0 - smoothing, a, tail)
            on_d = share[i] * (c_pair * (smoothing - losing) + 2.0 * c_d * d)
            on_s = share[i] * (2.0 * c_s * s + pull)
        g_w[i] = on_s + on_d
        g_l[i] = on_s - on_d
        square = fma(s, s, 2.0 * s * s_lo)
        if share is None:
            sums[0, i] = loss
            sums[1, i] = square
        else:
            sums[0, i] = share[i] * loss
            sums[1, i] = share[i] * square
            sums[2, i] = share[i] * d * d
    return slow


@jit
def slow_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, sums):  # type: ignore[no-untyped-def]
    """Do what `fast_block` does, for any floats."""
    c_pair, c_d, c_s, pull = coef
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        loss, slope, _ = pair(w, v, 0.0 if margin is None else margin[i], 0.0 if share is None else smoothing)
        s, s_lo = two_sum(w, v)
        q = 1.0 if share is None else share[i]
        on_d = c_pair * slope + (2.0 * c_d * (w - v) if c_d > 0.0 else 0.0)
        on_s = (2.0 * c_s * s if c_s > 0.0 else 0.0) + pull
        counts = q > 0.0  # a pair of weight 0 does not count, not even where it is infinite
        g_w[i] = q * (on_s + on_d) if counts else 0.0
        g_l[i] = q * (on_s - on_d) if counts else 0.0
        sums[0, i] = q * loss if counts else 0.0
        sums[1, i] = q * (s * s + (2.0 * s * s_lo if math.isfinite(s * s) else 0.0)) if counts else 0.0
        if share is not None:
            sums[2, i] = q * (w - v) * (w - v) if counts else 0.0


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
def sweep(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, begin, end, totals):  # type: ignore[no-untyped-def]
    """Process chunks ``begin`` to ``end - 1``: gradients, and in totals[chunk] the sums of the loss, s^2 and d^2."""
    kinds = 2 if share is None else 3
    size = min(BLOCK, 2 * ((min(CHUNK, r_w.size) + 1) // 2))
    sums = np.zeros((3, size))
    lanes = np.empty((6, size // 2))
    for chunk in range(begin, end):
        lanes[:] = 0.0
        for at in range(chunk * CHUNK, min((chunk + 1) * CHUNK, r_w.size), size):
            stop = min(at + size, r_w.size)
            m = None if margin is None else margin[at:stop]
            q = None if share is None else share[at:stop]
            block = (r_w[at:stop], r_l[at:stop], m, q, smoothing, coef, g_w[at:stop], g_l[at:stop], sums)
            if stop - at < size:
                sums[:, stop - at :] = 0.0
            if fast_block(*block) > 0:
                slow_block(*block)
            for kind in range(kinds):
                add_block(sums[kind], lanes[2 * kind], lanes[2 * kind + 1])
        for kind in range(kinds):
            hi = lo = plain = 0.0
            for i in range(size // 2):
                hi, error = two_sum(hi, lanes[2 * kind, i])
                lo += error + lanes[2 * kind + 1, i]
                plain += lanes[2 * kind, i]
            totals[chunk, 2 * kind] = hi if math.isfinite(hi) else plain
            totals[chunk, 2 * kind + 1] = lo if math.isfinite(lo) else 0.0


@jit
def combine(totals: Array) -> tuple[float, float, float]:
    """Return the sums over all chunks of the loss, s^2 and d^2."""
    loss, square, gap = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    for chunk in range(totals.shape[0]):
        loss = add_parts(loss, totals[chunk, 0], totals[chunk, 1])
        square = add_parts(square, totals[chunk, 2], totals[chunk, 3])
        gap = add_parts(gap, totals[chunk, 4], totals[chunk, 5])
    return loss[0] + loss[1], square[0] + square[1], gap[0] + gap[1]


@jit
def add_parts(total: tuple[float, float], hi: float, lo: float) -> tuple[float, float]:
    """Add one double-double number to another; infinity and NaN stay what they are."""
    s, error = two_sum(total[0], hi)
    low = total[1] + error + lo
    return s, low if math.isfinite(low) else 0.0


@jit
def alone(r_w, r_l, margin, share, smoothing, coef, g_w, g_l):  # type: ignore[no-untyped-def]
    """Process all chunks on this thread; return the three sums."""
    chunks = -(-r_w.size // CHUNK)
    totals = np.zeros((chunks, 6))
    sweep(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, 0, chunks, totals)
    return combine(totals)


@lru_cache(1)
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads beside this one; the kernels release Python's lock."""
    return ThreadPoolExecutor(threads, thread_name_prefix="refrm")


def objective(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[Coefficients, Array, Array]:
    """Compute `refrm.spec.objective`, on as many threads as ``numba.get_num_threads()`` says, with the same bits on
    any number.
    """
    n = r_w.size
    c_pair, c_d, c_s, c_mean = coef
    if share is None and (margin is not None or label_smoothing or c_d):
        share = np.full(n, 1.0 / n)
    if share is not None and margin is None:
        margin = np.zeros(n)
    scale, mean_s = (1.0 if share is not None else 1.0 / n), 0.0
    if c_mean:
        mean_s = mean_sum(r_w, r_l, np.full(n, 1.0 / n) if share is None else share)
    g_w, g_l = np.empty_like(r_w), np.empty_like(r_l)
    numbers = (scale * c_pair, scale * c_d, scale * c_s, scale * 2.0 * c_mean * mean_s)
    work: tuple[Any, ...] = (r_w, r_l, margin, share, label_smoothing, numbers, g_w, g_l)
    chunks = -(-n // CHUNK)
    threads = min(numba.get_num_threads(), chunks // 2) if chunks > 3 else 1
    if threads > 1:
        totals, ends = np.zeros((chunks, 6)), [chunks * k // threads for k in range(threads + 1)]
        parts = [(*work, ends[k - 1], ends[k], totals) for k in range(1, threads)]
        others = [pool(threads - 1).submit(partial(sweep, *part)) for part in parts]
        sweep(*work, ends[-2], chunks, totals)
        for other in others:
            other.result()
        loss, square, gap = combine(totals)
    else:
        loss, square, gap = alone(*work)
    return (scale * loss, scale * gap, scale * square, mean_s), g_w, g_l
