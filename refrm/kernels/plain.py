"""The plain loss, softplus(-(r_w - r_l)) and s^2 with equal weights, no margin and no label smoothing, in blocks.

The logarithms of a block become one: with x = exp(-|d|), sum softplus(-d) = sum max(-d, 0) + log prod (1 + x). The
product is kept in twice the precision, so that the sum loses nothing; docs/theorems/numerics.md has the bounds.

A block goes through short loops, one after the other: each fits the processor's window, a long one waits for itself.
Those that touch scores and gradients first go straight on, for the memory's sake; those after them add up parts of the
block side by side.
"""

import math

import numpy as np

from refrm.kernels.compiler import bits, copy, fma, inline, jit, two_sum
from refrm.kernels.narrow import narrow_block
from refrm.kernels.scalar import FAST, SQUARE, logistic, pair, reduced, scaled_exp
from refrm.kernels.sums import lanes_sum, product
from refrm.spec import Array

BLOCK = 256  # pairs whose intermediate results stay in the first-level cache
FEW = 16  # pairs that are done one by one before the loops have begun
ROUNDS = 128  # blocks whose product is one: 4*128 factors 1 + x, at most 2, to a lane do not overflow


@inline
def exponentials(r_w: Array, r_l: Array, e: Array, f: Array) -> tuple[np.int64, np.int64]:
    """Fill e + f = exp(-|d|), and return the bits of the largest |d| and |r_w|."""
    gap = size = np.int64(0)
    for i in range(BLOCK):
        w = r_w[i]
        d, lo = two_sum(w, -r_l[i])
        a = abs(d)
        gap, size = max(gap, bits(a)), max(size, bits(abs(w)))  # those of infinity and NaN are larger than any number's
        r, t = reduced(a, lo if d >= 0.0 else -lo)
        e[i], f[i] = scaled_exp(r, t)
    return gap, size


@inline
def gradients(r_w, r_l, e, f, on_pair, on_sum, pull, g_w, g_l):  # type: ignore[no-untyped-def]
    """Fill the gradients, and replace e + f by t + c = 1 + e + f."""
    for i in range(BLOCK):
        w, v, x, rest = r_w[i], r_l[i], e[i], f[i]
        losing, _ = logistic(w >= v, x, rest)
        on_s = fma(on_sum, w + v, pull)
        g_w[i] = fma(-on_pair, losing, on_s)
        g_l[i] = fma(on_pair, losing, on_s)
        e[i] = t = 1.0 + x
        f[i] = (x - (t - 1.0)) + rest


@inline
def of_two(r_w: Array, r_l: Array, i: int, j: int) -> tuple[float, float]:
    """Return the sums over two pairs of max(-d, 0) and s^2."""
    x, y = r_l[i] - r_w[i], r_l[j] - r_w[j]
    s, t = r_w[i] + r_l[i], r_w[j] + r_l[j]
    return (x if x > 0.0 else 0.0) + (y if y > 0.0 else 0.0), fma(s, s, t * t)


@inline
def add_sums(r_w: Array, r_l: Array, hinge: Array, hinge_lo: Array, square: Array, square_lo: Array) -> None:
    """Add max(-d, 0) and s^2 to the lanes, eight pairs to each."""
    n = BLOCK // 8
    for i in range(n):
        a, s = of_two(r_w, r_l, i, n + i)
        b, t = of_two(r_w, r_l, 2 * n + i, 3 * n + i)
        c, y = of_two(r_w, r_l, 4 * n + i, 5 * n + i)
        d, z = of_two(r_w, r_l, 6 * n + i, 7 * n + i)
        hinge[i], error = two_sum(hinge[i], (a + b) + (c + d))
        hinge_lo[i] += error
        square[i], error = two_sum(square[i], (s + t) + (y + z))
        square_lo[i] += error


@inline
def multiply(t: Array, c: Array, p: Array, p_lo: Array) -> None:
    """Multiply the lanes by t + c, four factors to each."""
    n = BLOCK // 4
    for i in range(n):
        x, a = product(t[i], c[i], t[n + i], c[n + i])
        y, b = product(t[2 * n + i], c[2 * n + i], t[3 * n + i], c[3 * n + i])
        x, a = product(x, a, y, b)
        p[i], p_lo[i] = product(p[i], p_lo[i], x, a)


@jit
def start() -> tuple[Array, ...]:
    """Return what blocks are worked on in: two arrays for e and f, the lanes of the loss, of s^2 and of the product, and
    the number of blocks in the product.
    """
    few, some = BLOCK // 8, BLOCK // 4
    e, f, p, p_lo = np.empty(2 * BLOCK), np.empty(2 * BLOCK), np.ones(some), np.zeros(some)
    return e, f, np.zeros(few), np.zeros(few), np.zeros(few), np.zeros(few), p, p_lo, np.zeros(1)


@jit
def take_logarithm(state: tuple[Array, ...]) -> None:
    """Move the logarithm of the product to the lanes of the loss."""
    _, _, loss, loss_lo, _, _, p, p_lo, rounds = state
    width, factors = p.size, 4 * rounds[0]
    while width > 1 and factors <= 2 * ROUNDS:
        width, factors = width // 2, 2 * factors
        for i in range(width):
            p[i], p_lo[i] = product(p[i], p_lo[i], p[width + i], p_lo[width + i])
    for i in range(width):
        log = math.log(p[i]) + p_lo[i] / p[i] if p[i] > 2.0 else math.log1p((p[i] - 1.0) + p_lo[i])
        k = i % loss.size
        loss[k], error = two_sum(loss[k], log)
        loss_lo[k] += error
    p[:] = 1.0
    p_lo[:] = rounds[0] = 0.0


@jit
def slow_pair(w: float, v: float, margin: float, share: float, smoothing: float, coef: tuple[float, ...]):  # type: ignore[no-untyped-def]
    """Return the gradients of one pair and its loss, s^2 and d^2, all times its share, for any floats.

    What has coefficient 0 does not count, not even where it is infinite or NaN; nor does a pair of weight 0.
    """
    c_pair, c_d, c_s, c_own, pull = coef
    if not share > 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    loss, slope, _ = pair(w, v, margin, smoothing)
    s, s_lo = two_sum(w, v)
    on_d = (c_pair * slope if c_pair > 0.0 else 0.0) + (2.0 * c_d * (w - v) if c_d > 0.0 else 0.0)
    on_s = fma(2.0 * c_s, s, pull) if c_s > 0.0 else pull
    g_w = share * ((c_own * w if c_own > 0.0 else 0.0) + (on_s + on_d))
    g_l = share * ((c_own * v if c_own > 0.0 else 0.0) + (on_s - on_d))
    square = share * (s * s + (2.0 * s * s_lo if math.isfinite(s * s) else 0.0))
    return g_w, g_l, share * loss, square, share * (w - v) * (w - v)


@jit
def one_by_one(r_w: Array, r_l: Array, coef: tuple[float, ...], g_w: Array, g_l: Array, state: tuple[Array, ...]) -> None:
    """Do pair by pair what `whole_block` does, for any floats."""
    loss, loss_lo, square, square_lo = state[2], state[3], state[4], state[5]
    for i in range(r_w.size):
        k = i % loss.size
        g_w[i], g_l[i], x, y, _ = slow_pair(np.float64(r_w[i]), np.float64(r_l[i]), 0.0, 1.0, 0.0, coef)
        loss[k], error = two_sum(loss[k], x)
        loss_lo[k] += error
        square[k], error = two_sum(square[k], y)
        square_lo[k] += error


@jit
def whole_block(r_w, r_l, n, coef, g_w, g_l, state):  # type: ignore[no-untyped-def]
    """Fill the gradients of a block of float64 scores, and add its first ``n`` pairs to the lanes; the others are 0."""
    e, f, loss, loss_lo, square, square_lo, p, p_lo, rounds = state
    gap, size = exponentials(r_w, r_l, e, f)
    if gap >= bits(FAST) or size >= bits(SQUARE):
        one_by_one(r_w[:n], r_l[:n], coef, g_w, g_l, state)
        return
    gradients(r_w, r_l, e, f, coef[0], 2.0 * coef[2], coef[4], g_w, g_l)
    add_sums(r_w, r_l, loss, loss_lo, square, square_lo)
    for i in range(n, BLOCK):
        e[i], f[i] = 1.0, 0.0
    multiply(e, f, p, p_lo)
    rounds[0] += 1.0
    if rounds[0] == ROUNDS:
        take_logarithm(state)


@jit
def padded_block(r_w, r_l, coef, g_w, g_l, state):  # type: ignore[no-untyped-def]
    """Do up to a block of scores of any dtype, in float64 and rounded once."""
    n = r_w.size
    w, v, to_w, to_l = np.zeros((4, BLOCK))
    copy(r_w, w[:n])
    copy(r_l, v[:n])
    whole_block(w, v, n, coef, to_w, to_l, state)
    copy(to_w[:n], g_w)
    copy(to_l[:n], g_l)


@jit
def blocks(r_w, r_l, coef, narrow, g_w, g_l, state):  # type: ignore[no-untyped-def]
    """Fill the gradients of any number of pairs, and add them to the lanes.

    ``narrow`` is None for float64: what is None is left out at compilation.
    """
    if r_w.size <= FEW:
        one_by_one(r_w, r_l, coef, g_w, g_l, state)
        return
    size = BLOCK if narrow is None else 2 * BLOCK
    e, s, loss, loss_lo, square, square_lo = state[:6]
    for at in range(0, r_w.size, size):
        stop = min(at + size, r_w.size)
        w, v, to_w, to_l = r_w[at:stop], r_l[at:stop], g_w[at:stop], g_l[at:stop]
        if narrow is not None:
            sure, x, y = narrow_block(w, v, coef, to_w, to_l, e, s)
            if sure:
                loss[0], error = two_sum(loss[0], x)
                loss_lo[0] += error
                square[0], error = two_sum(square[0], y)
                square_lo[0] += error
            else:
                padded_block(w[:BLOCK], v[:BLOCK], coef, to_w[:BLOCK], to_l[:BLOCK], state)
                padded_block(w[BLOCK:], v[BLOCK:], coef, to_w[BLOCK:], to_l[BLOCK:], state)
        elif w.size == BLOCK:
            whole_block(w, v, BLOCK, coef, to_w, to_l, state)
        else:
            padded_block(w, v, coef, to_w, to_l, state)


@jit
def totals_of(state: tuple[Array, ...], totals: Array) -> None:
    """Fill ``totals`` with the double-double sums of the loss and of s^2, and begin new ones."""
    take_logarithm(state)
    for kind in range(2):
        hi, lo = state[2 + 2 * kind], state[3 + 2 * kind]
        totals[2 * kind], totals[2 * kind + 1] = lanes_sum(hi, lo)
        hi[:] = 0.0
        lo[:] = 0.0
