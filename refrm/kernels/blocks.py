"""Whole losses of any number of pairs, block by block: gradients, and the sums of the loss, of s^2 and of d^2."""

import math

import numpy as np

from refrm.kernels import loops
from refrm.kernels.compiler import bits, copy, fma, jit, two_sum
from refrm.kernels.loops import BLOCK, COUNT, GAPS, LANES, LOSS, PRODUCT, SQUARES, E, F, add, product
from refrm.kernels.scalar import FAST, SQUARE, pair
from refrm.kernels.sums import lanes_sum
from refrm.spec import Array

FEW = 16  # pairs that are done one by one before the loops have begun
ROUNDS = 128  # blocks whose product is one: 4*128 factors 1 + x, at most 2, to a lane do not overflow


@jit
def start() -> Array:
    """Return the array that blocks are worked on in."""
    work = np.empty(loops.SIZE)
    work[:E] = 0.0
    work[PRODUCT : PRODUCT + 2 * LANES] = 1.0
    return work


@jit
def take_logarithm(work: Array) -> None:
    """Move the logarithm of the product to the lanes of the loss."""
    width, factors = 2 * LANES, 4 * work[COUNT]
    p, p_lo = work[PRODUCT : PRODUCT + width], work[PRODUCT + width : PRODUCT + 2 * width]
    while width > 1 and factors <= 2 * ROUNDS:
        width, factors = width // 2, 2 * factors
        for i in range(width):
            p[i], p_lo[i] = product(p[i], p_lo[i], p[width + i], p_lo[width + i])
    for i in range(width):
        log = math.log(p[i]) + p_lo[i] / p[i] if p[i] > 2.0 else math.log1p((p[i] - 1.0) + p_lo[i])
        add(work, LOSS + i % LANES, log)
    p[:] = 1.0
    p_lo[:] = work[COUNT] = 0.0


@jit
def one_by_one(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Do pair by pair what `blocks` does, for any floats.

    What has coefficient 0 does not count, not even where it is infinite or NaN; nor does a pair of weight 0.
    """
    c_pair, c_d, c_s, c_own, pull = coef
    for i in range(r_w.size):
        lane = i % LANES
        m, q = (margin[i], share[i]) if share.size > 0 else (0.0, 1.0)
        if not q > 0.0:
            g_w[i] = g_l[i] = 0.0
            continue
        w, v = r_w[i], r_l[i]
        value, slope, _ = pair(w, v, m, smoothing)
        s, s_lo = two_sum(w, v)
        on_d = (c_pair * slope if c_pair > 0.0 else 0.0) + (2.0 * c_d * (w - v) if c_d > 0.0 else 0.0)
        on_s = fma(2.0 * c_s, s, pull) if c_s > 0.0 else pull
        g_w[i] = q * ((c_own * w if c_own > 0.0 else 0.0) + (on_s + on_d))
        g_l[i] = q * ((c_own * v if c_own > 0.0 else 0.0) + (on_s - on_d))
        add(work, LOSS + lane, q * value)
        part = q * s  # not q*(s*s): the square may overflow though its share does not
        add(work, SQUARES + lane, part * s + (2.0 * part * s_lo if math.isfinite(part * s) else 0.0))
        if share.size > 0:  # a plain loss has no mean d^2
            add(work, GAPS + lane, q * (w - v) * (w - v))


@jit
def plain_block(r_w, r_l, at, n, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Fill the gradients of a block of a plain loss, and add its first ``n`` pairs to the lanes; the others are 0.
    Return False instead where `one_by_one` has to do it.
    """
    gap, size = loops.exponentials(r_w, r_l, at, work)
    if gap >= bits(FAST) or size >= bits(SQUARE):
        return False
    loops.gradients(r_w, r_l, at, work, coef[0], 2.0 * coef[2], coef[4], g_w, g_l)
    loops.add_sums(r_w, r_l, at, work)
    for i in range(n, BLOCK):
        work[E + i], work[F + i] = 1.0, 0.0
    loops.multiply(work, n)
    work[COUNT] += 1.0
    if work[COUNT] == ROUNDS:
        take_logarithm(work)
    return True


@jit
def weighted_block(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Do the same for any loss, but that pairs beyond the last have share 0."""
    e, f, rows = work[E : E + BLOCK], work[F : F + BLOCK], work[loops.WORK :].reshape(6, BLOCK)
    z, losing, s = rows[0], rows[1], rows[2]
    if loops.weighted_exponentials(r_w, r_l, margin, z, e, f) > 0:
        return False
    loops.logistics(z, e, f, losing, s)
    loops.losses(z, e, s, f, share, smoothing, rows[3])
    loops.weighted_gradients(r_w, r_l, losing, share, smoothing, coef, g_w, g_l, rows[4], rows[5])
    for k in range(3):  # to the lanes of LOSS, SQUARES and GAPS
        loops.add_block(rows[3 + k], work, 2 * LANES * k)
    return True


@jit
def of_pairs(x: Array, begin: int, end: int) -> Array:
    """Return the numbers of some pairs: from an array of all, or as many from one of `BLOCK` equal numbers; of an empty
    one, nothing.
    """
    return x[begin:end] if end <= x.size else x[: end - begin]


@jit
def whole_blocks(r_w, r_l, margin, share, smoothing, size, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Do the whole blocks of arrays, of which ``size`` pairs count."""
    for at in range(0, r_w.size // BLOCK * BLOCK, BLOCK):
        n = min(BLOCK, size - at)
        if share.size == 0 and plain_block(r_w, r_l, np.uint64(at), n, coef, g_w, g_l, work):
            continue
        part = slice(at, at + BLOCK)
        w, v, to_w, to_l = r_w[part], r_l[part], g_w[part], g_l[part]
        m, q = of_pairs(margin, at, at + BLOCK), of_pairs(share, at, at + BLOCK)
        if share.size == 0 or not weighted_block(w, v, m, q, smoothing, coef, to_w, to_l, work):
            one_by_one(w[:n], v[:n], m, q, smoothing, coef, to_w, to_l, work)


@jit
def padded(x: Array, at: int, end: int) -> Array:
    """Return a block of the numbers of the last pairs, if there are any, and zeros."""
    block = np.zeros(BLOCK if x.size > 0 else 0)
    copy(of_pairs(x, at, end), block[: end - at])
    return block


@jit
def blocks(r_w, r_l, margin, share, smoothing, coef, few, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Fill the gradients of any number of pairs of float64 scores, and add them to the lanes.

    ``margin`` and ``share`` are as `of_pairs` has them, empty for a plain loss. ``few`` pairs go one by one, which may
    change the last bit.
    """
    if few:
        one_by_one(r_w, r_l, margin, share, smoothing, coef, g_w, g_l, work)
        return
    whole_blocks(r_w, r_l, margin, share, smoothing, r_w.size, coef, g_w, g_l, work)
    size = r_w.size
    at = size // BLOCK * BLOCK
    if at < size:
        w, v, m, q = padded(r_w, at, size), padded(r_l, at, size), padded(margin, at, size), padded(share, at, size)
        to_w, to_l = np.empty(BLOCK), np.empty(BLOCK)
        whole_blocks(w, v, m, q, smoothing, size - at, coef, to_w, to_l, work)
        copy(to_w, g_w[at:])
        copy(to_l, g_l[at:])


@jit
def totals_of(work: Array, totals: Array) -> None:
    """Fill ``totals`` with the double-double sums of the loss, s^2 and d^2, and begin new ones."""
    take_logarithm(work)
    for k in range(0, 6, 2):
        middle = (k + 1) * LANES
        totals[k], totals[k + 1] = lanes_sum(work[k * LANES : middle], work[middle : middle + LANES])
    work[:PRODUCT] = 0.0
