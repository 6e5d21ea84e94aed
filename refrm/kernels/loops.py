"""The loops over a block of pairs: a plain loss, softplus(-(r_w - r_l)) and s^2, and one with weights and the rest.

A block goes through short loops, one after the other: each fits the processor's window, a long one waits for itself.
In a plain loss, those that touch scores and gradients first go straight on, for the memory's sake; those after them add
up parts of the block side by side.

The logarithms of a plain block become one: with x = exp(-|d|), sum softplus(-d) = sum max(-d, 0) + log prod (1 + x).
The product is kept in twice the precision, so that the sum loses nothing; docs/theorems/numerics.md has the bounds.
"""

import numpy as np

from refrm.kernels.compiler import bits, fma, inline, two_product, two_sum
from refrm.kernels.scalar import FAST, SQUARE, halved, log1p_halved, logistic, reduced, scaled_exp
from refrm.spec import Array

BLOCK = 256  # pairs whose intermediate results stay in the first-level cache
LANES = BLOCK // 8
# Where things are in the one array that blocks are worked on in: three sums in lanes, each followed by its low parts; a
# product, of twice as many lanes, too; how many blocks are in it; two arrays for a pair of blocks, six for a block.
LOSS, SQUARES, GAPS, PRODUCT, COUNT = 0, 2 * LANES, 4 * LANES, 6 * LANES, 10 * LANES
E = 11 * LANES
F = E + 2 * BLOCK + LANES  # at another distance than 4096 bytes, which the processor would take for the same place
WORK = F + 2 * BLOCK
SIZE = WORK + 6 * BLOCK


@inline
def add(work: Array, lane: int, x: float) -> None:
    """Add a number to a lane."""
    work[lane], error = two_sum(work[lane], x)
    work[lane + LANES] += error


@inline
def product(x: float, x_lo: float, y: float, y_lo: float) -> tuple[float, float]:
    """Return (x + x_lo)*(y + y_lo) but for x_lo*y_lo, to about 2^-103."""
    p, error = two_product(x, y)
    return p, fma(x, y_lo, fma(x_lo, y, error))


# --- a plain loss -------------------------------------------------------------------------------------------------


@inline
def exponentials(r_w: Array, r_l: Array, at: np.uint64, work: Array) -> tuple[np.int64, np.int64]:
    """Fill e + f = exp(-|d|), and return the bits of the largest |d| and |r_w|."""
    gap = size = np.int64(0)
    for i in range(BLOCK):
        k = at + np.uint64(i)  # an index that cannot be negative: the loop is vectorised only then
        w = r_w[k]
        d, lo = two_sum(w, -r_l[k])
        a = abs(d)
        gap, size = max(gap, bits(a)), max(size, bits(abs(w)))  # those of infinity and NaN are larger than any number's
        r, t = reduced(a, lo if d >= 0.0 else -lo)
        work[E + i], work[F + i] = scaled_exp(r, t)
    return gap, size


@inline
def gradients(r_w, r_l, at, work, on_pair, on_sum, pull, g_w, g_l):  # type: ignore[no-untyped-def]
    """Fill the gradients, and replace e + f by t + c = 1 + e + f."""
    for i in range(BLOCK):
        k = at + np.uint64(i)
        w, v, e, f = r_w[k], r_l[k], work[E + i], work[F + i]
        losing, _ = logistic(w >= v, e, f)
        on_s = fma(on_sum, w + v, pull)
        g_w[k] = fma(-on_pair, losing, on_s)
        g_l[k] = fma(on_pair, losing, on_s)
        work[E + i] = t = 1.0 + e
        work[F + i] = (e - (t - 1.0)) + f


@inline
def of_two(r_w: Array, r_l: Array, k: np.uint64) -> tuple[float, float]:
    """Return the sums over two pairs of max(-d, 0) and s^2."""
    m = k + np.uint64(LANES)
    x, y = r_l[k] - r_w[k], r_l[m] - r_w[m]
    s, t = r_w[k] + r_l[k], r_w[m] + r_l[m]
    return (x if x > 0.0 else 0.0) + (y if y > 0.0 else 0.0), fma(s, s, t * t)


@inline
def add_sums(r_w: Array, r_l: Array, at: np.uint64, work: Array) -> None:
    """Add max(-d, 0) and s^2 to the lanes, eight pairs to each."""
    two = np.uint64(2 * LANES)
    for i in range(LANES):
        k = at + np.uint64(i)
        a, s = of_two(r_w, r_l, k)
        b, t = of_two(r_w, r_l, k + two)
        c, y = of_two(r_w, r_l, k + two + two)
        d, z = of_two(r_w, r_l, k + two + two + two)
        add(work, LOSS + i, (a + b) + (c + d))
        add(work, SQUARES + i, (s + t) + (y + z))


@inline
def multiply(work: Array, n: int) -> None:
    """Multiply the lanes by the factors t + c of ``n`` pairs, four to each."""
    lanes = 2 * LANES
    for i in range(min(n, lanes)):
        e, f, k = E + i, F + i, PRODUCT + i
        x, a = product(work[e], work[f], work[e + lanes], work[f + lanes])
        y, b = product(work[e + 2 * lanes], work[f + 2 * lanes], work[e + 3 * lanes], work[f + 3 * lanes])
        x, a = product(x, a, y, b)
        work[k], work[k + lanes] = product(work[k], work[k + lanes], x, a)


# --- with weights, margins, label smoothing and d^2 ----------------------------------------------------------------


@inline
def weighted_exponentials(r_w, r_l, margin, z, e, f):  # type: ignore[no-untyped-def]
    """Fill z = r_w - r_l - margin and e + f = exp(-|z|); return how many pairs `one_by_one` must do instead."""
    slow = 0
    for i in range(BLOCK):
        w, v = r_w[i], r_l[i]
        hi, lo = two_sum(w, -v)
        high, low = two_sum(hi, -margin[i])
        lo += low
        hi = high + lo
        lo = (high - hi) + lo
        slow += not (abs(hi) < FAST and abs(w + v) < SQUARE)
        z[i] = hi
        r, t = reduced(abs(hi), lo if hi >= 0.0 else -lo)
        e[i], f[i] = scaled_exp(r, t)
    return slow


@inline
def logistics(z: Array, e: Array, f: Array, losing: Array, s: Array) -> None:
    """Fill ``losing`` with sigma(-z); replace e and f by g and the rest that `log1p_halved` takes, and fill its s."""
    for i in range(BLOCK):
        losing[i], f[i] = logistic(z[i] >= 0.0, e[i], f[i])
        e[i], s[i] = halved(e[i])


@inline
def losses(z, g, s, rest, share, smoothing, out):  # type: ignore[no-untyped-def]
    """Fill the loss of each pair, times its share."""
    for i in range(BLOCK):
        tail = log1p_halved(g[i], s[i], rest[i])
        out[i] = share[i] * fma(smoothing if z[i] >= 0.0 else 1.0 - smoothing, abs(z[i]), tail)


@inline
def weighted_gradients(r_w, r_l, losing, share, smoothing, coef, g_w, g_l, square, gap):  # type: ignore[no-untyped-def]
    """Fill the gradients, and s^2 and d^2 times their shares."""
    c_pair, c_d, c_s, c_own, pull = coef
    for i in range(BLOCK):
        w, v = r_w[i], r_l[i]
        s, s_lo = two_sum(w, v)
        d = w - v
        on_s = fma(2.0 * c_s, s, pull)
        on_d = c_pair * (smoothing - losing[i]) + 2.0 * c_d * d
        g_w[i] = share[i] * (c_own * w + (on_s + on_d))
        g_l[i] = share[i] * (c_own * v + (on_s - on_d))
        square[i] = share[i] * fma(s, s, 2.0 * s * s_lo)
        gap[i] = share[i] * d * d


@inline
def add_block(x: Array, work: Array, row: int) -> None:
    """Add a block of summands to the lanes, eight to each."""
    for i in range(LANES):
        a = (x[i] + x[LANES + i]) + (x[2 * LANES + i] + x[3 * LANES + i])
        b = (x[4 * LANES + i] + x[5 * LANES + i]) + (x[6 * LANES + i] + x[7 * LANES + i])
        add(work, row + i, a + b)
