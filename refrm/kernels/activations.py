"""The activations of `refrm.MLP` with their derivatives, branch-free, so that loops over them run in wide registers.

The arithmetic is float64; float32 results are rounded once, at the store. For every finite z, relative to the exact
value and in units of u = 2^-53: tanh 6, gelu 14, softplus 5; their derivatives 9, 14 (of the sum of its two terms'
sizes) and 4. A tail below exp(-700) may be 0. `docs/theorems/numerics.md` has the derivation.
"""

import numpy as np

from refrm.kernels.compiler import fma, inline, jit
from refrm.kernels.scalar import FAST, exp_parts, halved, log1p_halved, logistic, reduced, two_to
from refrm.spec import Array

RELU, TANH, GELU, SOFTPLUS = 0, 1, 2, 3
ROOT_2PI = 0.3989422804014327  # 1/sqrt(2*pi)
SHIFT = 5.0
# Minimax polynomial, docs/coefficients.py: Mills' ratio to 2e-17.
MILLS = (
    *(0.769193049750063, -0.6653825028900566, 0.4953056159699767, -0.3135331566713117),
    *(0.16502036617037824, -0.06911863870607247, 0.020795066799901004, -0.002993376774090423),
    *(-0.000797869397794449, 0.0005448990945381355, -5.937573485971905e-05, -4.976296468692096e-05),
    *(1.6681238740743055e-05, 3.981386591001396e-06, -2.769290009843077e-06, -3.3761924348642713e-07),
    *(4.330440577458452e-07, 4.357454721025709e-08, -6.562247309781677e-08, -1.027127516281641e-08),
    *(7.29089929801459e-09, 2.0599399769000606e-09),
)


@inline
def decay(a: float, b: float) -> tuple[float, float, float]:
    """Return e, f and a power of two with exp(-(a + b)) = (e + f)*power for a >= 0, power 0 for a > 700."""
    far = a > FAST
    r, t = reduced(0.0 if far else a, 0.0 if far else b)
    e, f = exp_parts(r)
    return e, f, 0.0 if far else two_to(t)


@inline
def mills(t: float) -> float:
    """Return exp(t^2/2)*Phi(-t) for t >= 0: a polynomial in u = (t - 5)/(t + 5), over t + 5."""
    r = 1.0 / (t + SHIFT)
    u = fma(-2.0 * SHIFT, r, 1.0)
    v = u * u
    c = MILLS
    p = fma(fma(fma(fma(c[20], v, c[18]), v, c[16]), v, c[14]), v, c[12])
    p = fma(fma(fma(fma(fma(fma(p, v, c[10]), v, c[8]), v, c[6]), v, c[4]), v, c[2]), v, c[0])
    q = fma(fma(fma(fma(c[21], v, c[19]), v, c[17]), v, c[15]), v, c[13])
    q = fma(fma(fma(fma(fma(fma(q, v, c[11]), v, c[9]), v, c[7]), v, c[5]), v, c[3]), v, c[1])
    return r * fma(u, q, p)


@inline
def relu(z: float) -> tuple[float, float]:
    """Return max(z, 0) and its derivative, by convention 0 at 0."""
    return (0.0 if z <= 0.0 else z), (1.0 if z > 0.0 else 0.0)


@inline
def tanh(z: float) -> tuple[float, float]:
    """Return tanh(z) and 1 - tanh(z)^2, from x = exp(-2|z|): (1 - x)/(1 + x) and 4x/(1 + x)^2.

    x - 1 = power*(p + 1) - 1 is summed as power*p + (power - 1), p = (e - 1) + f, so that nothing cancels at 0.
    """
    e, f, power = decay(2.0 * abs(z), 0.0)
    rest = fma(power, (e - 1.0) + f, power - 1.0)
    x = power * e
    r = 1.0 / (1.0 + x)
    a = -rest * r
    return (-a if z < 0.0 else a), 4.0 * x * r * r


@inline
def gelu(z: float) -> tuple[float, float]:
    """Return z*Phi(z) and Phi(z) + z*phi(z), Phi the normal distribution function, phi its density.

    Both tails are exp(-z^2/2) times a function that moves slowly: Phi(-t) = exp(-t^2/2)*mills(t).
    """
    square = z * z
    e, _, power = decay(0.5 * square, 0.5 * fma(z, z, -square))
    e *= power
    tail = e * mills(abs(z))
    cdf = tail if z < 0.0 else 1.0 - tail
    return z * cdf, fma(z, ROOT_2PI * e, cdf)


@inline
def softplus(z: float) -> tuple[float, float]:
    """Return log(1 + exp(z)) and sigma(z)."""
    e, f, power = decay(abs(z), 0.0)
    slope, rest = logistic(z <= 0.0, power * e, power * f)
    tail = log1p_halved(*halved(power * e), rest)
    return (tail if power > 0.0 else 0.0) + max(z, 0.0), slope


@jit
def activate(kind: int, z: Array, slope: Array) -> None:
    """Replace ``z`` by its activation and fill ``slope`` with the derivative."""
    if kind == RELU:
        for i in range(z.size):
            z[i], slope[i] = relu(np.float64(z[i]))
    elif kind == TANH:
        for i in range(z.size):
            z[i], slope[i] = tanh(np.float64(z[i]))
    elif kind == GELU:
        for i in range(z.size):
            z[i], slope[i] = gelu(np.float64(z[i]))
    else:
        for i in range(z.size):
            z[i], slope[i] = softplus(np.float64(z[i]))
