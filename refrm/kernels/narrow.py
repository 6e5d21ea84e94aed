"""Blocks of float32 scores in shorter arithmetic, with a proof that the result is the same.

A float32 gradient needs 24 bits of the 53 that `loops` computes. Here it is computed twice, from both ends of
an interval that holds the exact slope and that of `loops`: where both round to one float32, `loops` has that one too.
In one block out of a few hundred they do not, and the caller turns to `loops`. docs/theorems/numerics.md has the
bounds.
"""

import math

import numpy as np

from refrm.kernels.compiler import bits, fma, inline, jit, reassociated
from refrm.kernels.loops import LOSS, SQUARES, E, F, add
from refrm.kernels.scalar import LOG2E, ROUND
from refrm.spec import Array

REACH = 128.0  # up to here, rounding d = r_w - r_l changes exp(-|d|) by at most 2^-46
# More than the relative error of sigma(-d) here, 2^-44.9, and that of `loops` together.
NEAR, FAR = -(1.0 - 2.0**-44), -(1.0 + 2.0**-44)
# Minimax polynomial, docs/coefficients.py: 2^r to 2^-46.
EXP2 = (
    *(1.0000000000000127, 0.693147180559871, 0.2402265069564965, 0.055504108668685555, 0.009618129192067988),
    *(0.0013333557617611293, 0.00015403434947522341, 1.5252984834790605e-05, 1.3259405733526401e-06),
    1.0150337476672251e-07,
)


@inline
def single(x: float) -> np.int32:
    """Return the number that x, rounded to float32, is in memory."""
    return np.float32(x).view(np.int32)


@reassociated
def exponentials(r_w: Array, r_l: Array, e: Array, s: Array) -> tuple[np.int64, float, float]:
    """Fill exp(-|d|) and s = r_w + r_l; return the bits of the largest |d|, and the sums of max(-d, 0) and s^2.

    Of all operations here, only these sums and those in ``w - v`` can be reassociated.
    """
    largest, linear, square = np.int64(0), 0.0, 0.0
    for i in range(r_w.size):
        w, v = np.float64(r_w[i]), np.float64(r_l[i])
        d = w - v
        s[i] = total = w + v
        a = abs(d)
        largest = max(largest, bits(a))  # those of infinity and NaN are larger than those of any number
        t = fma(a, -LOG2E, ROUND)
        r = fma(a, -LOG2E, ROUND - t)
        p = fma(fma(fma(fma(EXP2[9], r, EXP2[8]), r, EXP2[7]), r, EXP2[6]), r, EXP2[5])
        p = fma(fma(fma(fma(fma(p, r, EXP2[4]), r, EXP2[3]), r, EXP2[2]), r, EXP2[1]), r, EXP2[0])
        e[i] = np.int64(bits(p) + (bits(t) << 52)).view(np.float64)
        linear += fma(-1.0, d, a)
        square += total * total
    return largest, 0.5 * linear, square


@reassociated
def gradients(r_w, r_l, e, s, near, far, on, pull, g_w, g_l):  # type: ignore[no-untyped-def]
    """Fill the gradients for a slope of near*sigma(-d); return 0 if they are those of far*sigma(-d) as well, and the
    product of all 1 + e.
    """
    unsure, product = np.int32(0), 1.0
    for i in range(r_w.size):
        one = 1.0 + e[i]
        product *= one
        losing = (e[i] if r_w[i] >= r_l[i] else 1.0) / one
        on_s = fma(on, s[i], pull)
        g, h = fma(near, losing, on_s), fma(-near, losing, on_s)
        other = single(fma(far, losing, on_s)) ^ single(g)
        unsure = np.int32(unsure | other | (single(fma(-far, losing, on_s)) ^ single(h)))
        g_w[i] = g
        g_l[i] = h
    return unsure, product


@jit
def multiply(x: Array, y: Array) -> None:
    """Replace x by (1 + x)*(1 + y) - 1, for x and y >= 0."""
    for i in range(y.size):
        x[i] = fma(x[i], y[i], x[i] + y[i])


@jit
def narrow_block(r_w, r_l, coef, g_w, g_l, work):  # type: ignore[no-untyped-def]
    """Fill the gradients of at most two blocks of pairs, and return whether they are sure; if so, their losses and s^2
    are added to the lanes.

    The sum of all log(1 + e) is one logarithm of a product; where this is small, of one that does not round 1 + e.
    """
    c_pair, _, c_s, _, pull = coef
    e, s = work[E : E + r_w.size], work[F : F + r_w.size]
    largest, linear, squares = exponentials(r_w, r_l, e, s)
    unsure, product = gradients(r_w, r_l, e, s, NEAR * c_pair, FAR * c_pair, 2.0 * c_s, pull, g_w, g_l)
    if unsure != 0 or largest >= bits(REACH):
        return False
    if product > 2.0:
        tail = math.log(product)
    else:
        n = e.size
        while n > 1:
            half = (n + 1) // 2
            multiply(e[: n - half], e[half:n])
            n = half
        tail = math.log1p(e[0])
    add(work, LOSS, linear + tail)
    add(work, SQUARES, squares)
    return True
