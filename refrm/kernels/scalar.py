"""The pairwise loss of one pair, for any floats, from functions that hold for a register of pairs as well.

Bounds, for every finite input: the loss and each gradient term are within 2 ulp of the exact real-number value of the
float inputs, the curvature within 4; below the normal range, within two of the smallest steps. With label smoothing
the loss is within 3 ulp, and the gradient, a difference, sigma(-z) - eps, within 2.5 of the larger of the two.
"""

import math

import numpy as np

from refrm.kernels.compiler import fma, inline, two_sum

LOG2E = 1.4426950408889634
LN2_HI = 6.93147180369123816490e-01  # 33 bits, so that k*LN2_HI is exact for |k| < 2^20
LN2_LO = 1.90821492927058770002e-10
ROUND = 1.5 * 2.0**52  # x + ROUND has the integer nearest to x in its last bits
BIAS = int(np.float64(ROUND).view(np.int64)) - 1023  # less this, they are the exponent field of 2^integer
FAST = 700.0  # up to here exp(-|z|) is a normal number ...
SQUARE = 2.0**500  # ... and up to here a square and its error are
SQRT2_1 = math.sqrt(2.0) - 1.0
# Minimax polynomials, docs/coefficients.py: exp to 4e-18 and log to 2e-18.
EXP = (
    *(0.5000000000000011, 0.16666666666666413, 0.04166666666653027, 0.008333333333494319, 0.0013888888943595168),
    *(0.00019841269506802164, 2.4801493138892828e-05, 2.7557586254171947e-06, 2.7630232947642224e-07),
    2.5000073906554934e-08,
)
LOG = (
    *(0.6666666666666734, 0.39999999999414676, 0.2857142874238824, 0.2222219857312567, 0.18183564328918758),
    *(0.1531405048585464, 0.14795950329506138),
)


@inline
def quarter(r_w: float, r_l: float, margin: float) -> tuple[float, float]:
    """Return a quarter of r_w - r_l - margin as an unevaluated sum hi + lo; it never overflows."""
    d, e = two_sum(0.25 * r_w, -0.25 * r_l)
    z, f = two_sum(d, -0.25 * margin)
    hi, lo = two_sum(z, e + f)
    if not math.isfinite(lo):  # an argument is infinite or NaN
        hi, lo = z, 0.0
    return hi, lo


@inline
def argument(r_w: float, r_l: float, margin: float) -> tuple[float, float]:
    """Return r_w - r_l - margin as an unevaluated sum hi + lo, to about 2^-104; overflow only where the result does."""
    d, e = two_sum(r_w, -r_l)
    z, f = two_sum(d, -margin)
    hi, lo = two_sum(z, e + f)
    if not math.isfinite(hi) or not math.isfinite(lo):
        hi, lo = quarter(r_w, r_l, margin)
        hi, lo = 4.0 * hi, 4.0 * lo
    return hi, lo


@inline
def reduced(a: float, b: float) -> tuple[float, float]:
    """Return r and t with -(a + b) = k*log 2 + r, |r| <= log(2)/2 (Cody and Waite), and k in the last bits of t.

    For 0 <= a <= 746.
    """
    t = fma(-a, LOG2E, ROUND)
    k = t - ROUND
    return fma(-k, LN2_HI, -a) - fma(k, LN2_LO, b), t


@inline
def two_to(t: float) -> float:
    """Return 2^k for the k in the last bits of t, -1022 <= k <= 1023."""
    return np.int64((np.float64(t).view(np.int64) - BIAS) << 52).view(np.float64)


@inline
def exp_less_1(r: float) -> float:
    """Return exp(r) - 1 for |r| <= log(2)/2."""
    r2 = r * r
    r4 = r2 * r2
    low = fma(fma(EXP[3], r, EXP[2]), r2, fma(EXP[1], r, EXP[0]))
    high = fma(fma(EXP[9], r, EXP[8]), r4, fma(fma(EXP[7], r, EXP[6]), r2, fma(EXP[5], r, EXP[4])))
    return fma(fma(high, r4, low), r2, r)


@inline
def exp_parts(r: float) -> tuple[float, float]:
    """Return e and f with exp(r) = e + f to 0.87 u, e + f rounded being e: 1 + p is summed without error."""
    p = exp_less_1(r)
    e = 1.0 + p
    return e, (1.0 - e) + p


@inline
def scaled_exp(r: float, t: float) -> tuple[float, float]:
    """Return both parts of exp(r), times 2^k for the k in the last bits of t."""
    p, scale = exp_less_1(r), two_to(t)
    e = fma(p, scale, scale)
    return e, fma(p, scale, scale - e)


@inline
def logistic(positive: bool, e: float, f: float) -> tuple[float, float]:
    """Return sigma(-z) and f/(1 + e) for exp(-|z|) = e + f, z >= 0 if ``positive``.

    What rounding 1 + e loses, and f, correct the quotient to first order: it is rounded twice.
    """
    t = 1.0 + e
    c = (e - (t - 1.0)) + f
    q = (e if positive else 1.0) / t
    reciprocal = 1.0 - q if positive else q
    return fma(fma(-q, c, f if positive else 0.0), reciprocal, q), f * reciprocal


@inline
def halved(e: float) -> tuple[float, float]:
    """Return g and s = g/(2 + g) with 1 + e = 2^k (1 + g), k = 1 if g <= 0 and else 0, exactly, for 0 < e <= 1.

    g is in [sqrt(1/2) - 1, sqrt(2) - 1].
    """
    g = 0.5 * (e - 1.0) if e > SQRT2_1 else e
    return g, g / (2.0 + g)


@inline
def log1p_halved(g: float, s: float, rest: float) -> float:
    """Return log(1 + e + f) for (g, s) = halved(e) and rest = f/(1 + e): log(1 + g) = 2*artanh(s)."""
    z = s * s
    z2 = z * z
    odd = fma(fma(fma(LOG[6], z2, LOG[4]), z2, LOG[2]), z2, LOG[0])
    even = fma(fma(LOG[5], z2, LOG[3]), z2, LOG[1])
    h = 0.5 * g * g
    low = fma(s, h + fma(z, odd, z2 * even), rest + (LN2_LO if g <= 0.0 else 0.0))
    return (LN2_HI if g <= 0.0 else 0.0) - ((h - low) - g)


@inline
def pair(r_w: float, r_l: float, margin: float, label_smoothing: float) -> tuple[float, float, float]:
    """Return the Bradley-Terry loss of one pair and its first and second derivative in d (T2), for any floats."""
    hi, lo = argument(r_w, r_l, margin)
    if math.isnan(hi):
        return math.nan, math.nan, math.nan
    positive = hi >= 0.0
    a = abs(hi)
    flip = label_smoothing if positive else 1.0 - label_smoothing  # weight of |z| in the loss
    linear = flip * a if flip > 0.0 else 0.0
    if a > 746.0:  # exp(-|z|) is less than half the smallest subnormal
        if math.isinf(a) and flip > 0.0:  # z itself may be too large, but not its product with a small flip
            linear = 4.0 * (flip * abs(quarter(r_w, r_l, margin)[0]))
        return linear, label_smoothing - (0.0 if positive else 1.0), 0.0
    r, t = reduced(a, lo if positive else -lo)
    e, f = exp_parts(r)
    k = int(t - ROUND)
    if k < -60:  # log(1 + x), x/(1 + x) and x/(1 + x)^2 are all x = exp(-|z|), to 2^-60
        tail = math.ldexp(e, k)
        return linear + tail, label_smoothing - (tail if positive else 1.0), tail
    e, f = math.ldexp(e, k), math.ldexp(f, k)
    losing, rest = logistic(positive, e, f)
    winning, _ = logistic(not positive, e, f)
    tail = log1p_halved(*halved(e), rest)
    return linear + tail, label_smoothing - losing, losing * winning
