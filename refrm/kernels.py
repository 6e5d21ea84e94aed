"""Every jitted function of refrm: the functions of `refrm.spec`, exact to the last bits, and the training loop.

Rule 1: every jitted function lives in this one file. Numba's cache watches the file of the function it compiled, not
the files of the functions that one calls; with all of them here a cached kernel can never be stale.
Rule 2: no ``fastmath``: it would break NaN, infinity and the compensated sums. ``error_model="numpy"`` makes x/0
follow IEEE 754.
Rule 3: arrays come in C-contiguous, as float64 or float32, checked by the caller. The arithmetic is float64; float32
results are rounded once, at the store.

Bounds, for every finite input: per pair the loss and each gradient term are within 2 ulp of the exact real-number
value of the float inputs, the curvature within 4; below the normal range, within two of the smallest steps. A mean
over N pairs adds at most 2 ulp, for any N. With label smoothing the gradient is a difference, sigma(-z) - eps: within
2 ulp of the larger of the two.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic, overload

from refrm.spec import Array, Jet


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with the project's one set of options, cached on disk where any place for a cache can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # a read-only install and an unwritable home: no locator for the cache
        return numba.njit(nogil=True, error_model="numpy")(function)


# --- scalars: error-free sums, exp and log1p ---------------------------------------------------------------------

_LOG2E = 1.4426950408889634
_LN2_HI = 6.93147180369123816490e-01  # 33 bits, so that k*_LN2_HI is exact for |k| < 2^20
_LN2_LO = 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # x + _ROUND has the integer nearest to x in its last bits
_BIAS = int(np.float64(_ROUND).view(np.int64)) - 1023  # less this, they are the exponent field of 2^integer
_SPLITTER = 134217729.0  # 2^27 + 1, Veltkamp
_LARGE = 2.0**900
_FAST = 700.0  # up to here exp(-|z|) is a normal number
_SQRT2_1 = math.sqrt(2.0) - 1.0
# Minimax polynomials, docs/coefficients.py: exp to 4e-18 and log to 2e-18; for float32 to 6e-11 and 1e-11.
_EXP = (
    *(0.5000000000000011, 0.16666666666666413, 0.04166666666653027, 0.008333333333494319, 0.0013888888943595168),
    *(0.00019841269506802164, 2.4801493138892828e-05, 2.7557586254171947e-06, 2.7630232947642224e-07),
    2.5000073906554934e-08,
)
_LOG = (
    *(0.6666666666666734, 0.39999999999414676, 0.2857142874238824, 0.2222219857312567, 0.18183564328918758),
    *(0.1531405048585464, 0.14795950329506138),
)
_EXP32 = (
    *(0.5000000067641673, 0.16666665869461486, 0.04166629509609409, 0.008333496997495875, 0.0013944648478948266),
    0.00019790358571349613,
)
_LOG32 = (0.6666666564545576, 0.40000335191037023, 0.28537308529474725, 0.23582151636896903)


@jit
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@jit
def two_product(a: float, b: float) -> tuple[float, float]:
    """Return the rounded product and its exact error (Dekker); no overflow below 2^996."""
    p = a * b
    c = _SPLITTER * a
    a_hi = c - (c - a)
    c = _SPLITTER * b
    b_hi = c - (c - b)
    a_lo = a - a_hi
    b_lo = b - b_hi
    return p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


@jit
def quarter(r_w: float, r_l: float, margin: float) -> tuple[float, float]:
    """Return a quarter of r_w - r_l - margin as an unevaluated sum hi + lo; it never overflows."""
    d, e = two_sum(0.25 * r_w, -0.25 * r_l)
    z, f = two_sum(d, -0.25 * margin)
    hi, lo = two_sum(z, e + f)
    if not math.isfinite(lo):  # an argument is infinite or NaN
        hi, lo = z, 0.0
    return hi, lo


@jit
def argument(r_w: float, r_l: float, margin: float) -> tuple[float, float]:
    """Return r_w - r_l - margin as an unevaluated sum hi + lo, to about 2^-104; overflow only where the result does."""
    d, e = two_sum(r_w, -r_l)
    z, f = two_sum(d, -margin)
    hi, lo = two_sum(z, e + f)
    if not math.isfinite(hi) or not math.isfinite(lo):
        hi, lo = quarter(r_w, r_l, margin)
        hi, lo = 4.0 * hi, 4.0 * lo
    return hi, lo


def fma(a: float, b: float, c: float) -> float:
    """Return a*b + c, rounded once; compiled, it is one instruction."""
    p, e = two_product(a, b)
    s, t = two_sum(p, c)
    return float(s + (e + t))


@overload(fma, strict=False)
def _compiled_fma(a: float, b: float, c: float) -> Any:  # pragma: no cover - runs in the compiler
    return lambda a, b, c: _llvm_fma(a, b, c)  # type: ignore[call-arg]


@intrinsic
def _llvm_fma(context: Any, a: Any, b: Any, c: Any) -> Any:  # pragma: no cover - runs in the compiler
    f = numba.types.float64
    return f(f, f, f), lambda context, builder, signature, arguments: builder.fma(*arguments)


@jit
def exp_parts(a: float, b: float) -> tuple[float, float, float]:
    """Return (e, f, t) with exp(-(a + b)) = (e + f)*2^k to 0.4 ulp, e + f rounded being e, and k in the last bits of t.

    -(a + b) = k*log 2 + r with |r| <= log(2)/2 (Cody and Waite), for 0 <= a <= 746. 1 + p is summed without error.
    """
    t = fma(-a, _LOG2E, _ROUND)
    k = t - _ROUND
    r = fma(-k, _LN2_HI, -a) - fma(k, _LN2_LO, b)
    r2 = r * r
    r4 = r2 * r2
    low = fma(fma(_EXP[3], r, _EXP[2]), r2, fma(_EXP[1], r, _EXP[0]))
    high = fma(fma(_EXP[9], r, _EXP[8]), r4, fma(fma(_EXP[7], r, _EXP[6]), r2, fma(_EXP[5], r, _EXP[4])))
    p = fma(fma(high, r4, low), r2, r)
    e = 1.0 + p
    return e, (1.0 - e) + p, t


@jit
def log1p_sum(e: float, f: float, reciprocal: float) -> float:
    """Return log(1 + e + f) for 0 <= e <= 1, f <= ulp(e), with ``reciprocal`` about 1/(1 + e).

    1 + e = 2^k (1 + g) with g in [sqrt(1/2) - 1, sqrt(2) - 1], exactly; log(1 + g) = 2*artanh(s), s = g/(2 + g).
    """
    halved = e > _SQRT2_1
    g = 0.5 * (e - 1.0) if halved else e
    s = g / (2.0 + g)
    z = s * s
    z2 = z * z
    odd = fma(fma(fma(_LOG[6], z2, _LOG[4]), z2, _LOG[2]), z2, _LOG[0])
    even = fma(fma(_LOG[5], z2, _LOG[3]), z2, _LOG[1])
    h = 0.5 * g * g
    rest = fma(s, h + fma(z, odd, z2 * even), fma(f, reciprocal, _LN2_LO if halved else 0.0))
    return (_LN2_HI if halved else 0.0) - ((h - rest) - g)


@jit
def logistic(positive: bool, e: float, f: float) -> tuple[float, float, float]:
    """Return sigma(-z), log(1 + x) and sigma(z)*sigma(-z) for x = e + f = exp(-|z|), z >= 0 if ``positive``.

    What rounding 1 + e loses, and f, correct the quotient to first order: it is rounded twice.
    """
    t = 1.0 + e
    c = (e - (t - 1.0)) + f
    q = (e if positive else 1.0) / t
    reciprocal = 1.0 - q if positive else q
    losing = fma(fma(-q, c, f if positive else 0.0), reciprocal, q)
    other = (1.0 if positive else e) / t
    curvature = losing * fma(fma(-other, c, 0.0 if positive else f), reciprocal, other)
    return losing, log1p_sum(e, f, reciprocal), curvature


@jit
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
    e, f, t = exp_parts(a, lo if positive else -lo)
    k = int(t - _ROUND)
    if k < -60:  # log(1 + x), x/(1 + x) and x/(1 + x)^2 are all x = exp(-|z|), to 2^-60
        tail = math.ldexp(e, k)
        return linear + tail, label_smoothing - (tail if positive else 1.0), tail
    losing, tail, curvature = logistic(positive, math.ldexp(e, k), math.ldexp(f, k))
    return linear + tail, label_smoothing - losing, curvature


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
def sum_to_zero(r_w: Array, r_l: Array, share: Array) -> tuple[float, Array]:
    """Compute `refrm.spec.sum_to_zero`."""
    mean = dot(np.concatenate((share, share)), np.concatenate((r_w, r_l)))  # one sum: the two halves may cancel
    return mean * mean, 2.0 * mean * share


@jit
def mean(values: Array, weight: Array) -> float:
    """Compute `refrm.spec.mean`, to 2 ulp for any N."""
    total = dot(weight, np.ones(weight.size))
    largest = 0.0
    for i in range(values.size):
        if weight[i] > 0.0 and abs(values[i]) > largest:
            largest = np.float64(abs(values[i]))
    if largest > _LARGE:  # the sum or a product's error might overflow although the mean does not
        return float(dot(weight, 2.0**-200 * values.astype(np.float64)) / total * 2.0**200)
    return float(dot(weight, values) / total)


# --- minibatch training ----------------------------------------------------------------------------------------

RELU, TANH, GELU, SOFTPLUS = 0, 1, 2, 3


@jit
def activate(kind: int, z: float) -> tuple[float, float]:
    """Return an activation and its derivative; relu has derivative 0 at 0."""
    if kind == RELU:
        return (z, 1.0) if z > 0.0 else (0.0, 0.0)
    if kind == TANH:
        a = math.tanh(z)
        return a, 1.0 - a * a
    if kind == GELU:
        cdf = 0.5 * math.erfc(-z * math.sqrt(0.5))
        return z * cdf, cdf + z * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    e = math.exp(-abs(z))
    return max(z, 0.0) + math.log1p(e), (1.0 if z >= 0.0 else e) / (1.0 + e)


@jit
def forward(theta: Array, widths: Array, kind: int, head_bias: bool, x: Array, a: Array, slope: Array) -> None:
    """Fill ``a`` with every layer's output, one layer after the other, and ``slope`` with the activations'
    derivatives.
    """
    rows, layers = x.shape[0], widths.size - 1
    before, p, q = x, 0, 0
    for layer in range(layers):
        n, m = widths[layer], widths[layer + 1]
        out = a[q : q + rows * m].reshape(rows, m)
        np.dot(before, theta[p : p + n * m].reshape(n, m), out)
        p += n * m
        hidden = layer < layers - 1
        if hidden or head_bias:
            out += theta[p : p + m]
            p += m
        if hidden:
            for i in range(q, q + rows * m):
                y, dy = activate(kind, a[i])
                a[i] = y
                slope[i] = dy
        before = out
        q += rows * m


@jit
def backward(
    theta: Array, widths: Array, head_bias: bool, x: Array, a: Array, slope: Array, delta: Array, grad: Array
) -> None:
    """Fill ``grad`` with the VJP at what `forward` computed; the end of ``delta`` holds dJ/dr and its rest is
    scratch.
    """
    rows, layers = x.shape[0], widths.size - 1
    p, q = grad.size, a.size
    for layer in range(layers - 1, -1, -1):
        n, m = widths[layer], widths[layer + 1]
        q -= rows * m
        d = delta[q : q + rows * m].reshape(rows, m)
        if layer < layers - 1:
            for i in range(q, q + rows * m):
                delta[i] *= slope[i]
        if layer < layers - 1 or head_bias:
            p -= m
            for j in range(m):
                total = 0.0
                for i in range(rows):
                    total += d[i, j]
                grad[p + j] = total
        p -= n * m
        below = a[q - rows * n : q].reshape(rows, n) if layer > 0 else x
        np.dot(below.T, d, grad[p : p + n * m].reshape(n, m))
        if layer > 0:
            np.dot(d, theta[p : p + n * m].reshape(n, m).T, delta[q - rows * n : q].reshape(rows, n))


@jit
def score_gradient(
    r: Array, margin: Array, weight: Array, loss: tuple[float, float, float, float, float], g: Array
) -> None:
    """Fill ``g`` with the gradient in the 2B scores ``r``, chosen first, of the loss

    mean(c_pair*pair(r_w, r_l) + c_d*d^2 + c_s*s^2) + c_mean*(mean s)^2, with mean x = sum(weight*x)/B: the weights have
    mean 1 over all pairs, not over the batch, so that the batches' gradients have the whole gradient as their mean.
    """
    smoothing, c_pair, c_d, c_s, c_mean = loss
    n = margin.size
    mean_s = 0.0
    for i in range(n):
        mean_s += weight[i] * (np.float64(r[i]) + np.float64(r[n + i])) / n
    for i in range(n):
        share = weight[i] / n
        _, slope, _ = pair(np.float64(r[i]), np.float64(r[n + i]), np.float64(margin[i]), smoothing)
        on_d = c_pair * slope + 2.0 * c_d * (np.float64(r[i]) - np.float64(r[n + i]))
        on_s = 2.0 * c_s * (np.float64(r[i]) + np.float64(r[n + i])) + 2.0 * c_mean * mean_s
        g[i] = share * (on_s + on_d)
        g[n + i] = share * (on_s - on_d)


@jit
def sgd_step(theta: Array, grad: Array, velocity: Array, lr: float, momentum: float, decay: float) -> None:
    """One step of SGD with heavy-ball momentum, v <- momentum*v + g, and decoupled weight decay."""
    for i in range(theta.size):
        velocity[i] = momentum * velocity[i] + grad[i]
        theta[i] -= lr * (velocity[i] + decay * theta[i])


@jit
def adam_step(
    theta: Array,
    grad: Array,
    first: Array,
    second: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> None:
    """Step number ``step``, from 1 on, of Adam (arXiv 1412.6980, Alg. 1) with decoupled weight decay (arXiv
    1711.05101).
    """
    bias1, bias2 = 1.0 - beta1**step, 1.0 - beta2**step
    for i in range(theta.size):
        first[i] = beta1 * first[i] + (1.0 - beta1) * grad[i]
        second[i] = beta2 * second[i] + (1.0 - beta2) * grad[i] * grad[i]
        theta[i] -= lr * (first[i] / bias1 / (math.sqrt(second[i] / bias2) + eps) + decay * theta[i])


@jit
def descend(
    theta: Array,
    first: Array,
    second: Array,
    step: int,
    batches: Array,
    x_w: Array,
    x_l: Array,
    margin: Array,
    weight: Array,
    network: tuple[Array, int, bool],
    loss: tuple[float, float, float, float, float],
    rule: tuple[bool, float, float, float, float, float],
) -> None:
    """Take one optimiser step for each row of ``batches`` (indices of pairs), in place, from step number ``step``
    on.
    """
    widths, kind, head_bias = network
    adam, lr, beta1, beta2, eps, decay = rule
    size = batches.shape[1]
    x = np.empty((2 * size, x_w.shape[1]), theta.dtype)
    a = np.empty(2 * size * widths[1:].sum(), theta.dtype)
    slope, delta, grad = np.empty_like(a), np.empty_like(a), np.empty_like(theta)
    m, w = np.empty(size), np.empty(size)
    for n in range(batches.shape[0]):
        for j in range(size):
            i = batches[n, j]
            x[j] = x_w[i]
            x[size + j] = x_l[i]
            m[j] = margin[i]
            w[j] = weight[i]
        forward(theta, widths, kind, head_bias, x, a, slope)
        score_gradient(a[a.size - 2 * size :], m, w, loss, delta[a.size - 2 * size :])
        backward(theta, widths, head_bias, x, a, slope, delta, grad)
        if adam:
            adam_step(theta, grad, first, second, step + n + 1, lr, beta1, beta2, eps, decay)
        else:
            sgd_step(theta, grad, first, lr, beta1, decay)
