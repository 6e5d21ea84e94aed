"""Arithmetic for the test vectors: real numbers enclosed in balls (Arb, through python-flint), and two ways to compute.

`Exact` evaluates a formula in the real numbers. `Rounded` evaluates the same formula as any implementation in a given
format may: it widens each result by all the errors that the operation can make there. What the second ball adds to
the first is a proven tolerance, so that no tolerance is chosen by hand.
"""

import math
from fractions import Fraction

from flint import arb, ctx

FORMATS = {"float64": (53, -1022), "float32": (24, -126), "bfloat16": (8, -126), "float16": (11, -14)}
"""Of each dtype the bits of the significand and the exponent of the smallest normal number."""


def fraction(x):
    """Return the exact value of a ball without radius."""
    mantissa, exponent = (int(part) for part in x.man_exp())
    return mantissa * Fraction(2) ** exponent


def spacing(x, dtype):
    """Return one ulp of ``dtype`` at the fraction ``x``: the distance of the floats there, at 0 the smallest."""
    bits, low = FORMATS[dtype]
    top = low if x == 0 else abs(x.numerator).bit_length() - x.denominator.bit_length()
    if x != 0 and Fraction(2) ** top > abs(x):
        top -= 1
    return Fraction(2) ** (max(top, low) - bits + 1)


def to_dtype(x, dtype):
    """Return the number of ``dtype`` nearest to the finite float ``x``, ties to even, as a float."""
    if not math.isfinite(x):
        return x
    step = spacing(Fraction(x), dtype)
    return math.copysign(float(round(Fraction(x) / step) * step), x)


def _nearest(x):
    """Return the float64 nearest to a ball without radius."""
    mantissa, exponent = (int(part) for part in x.man_exp())
    top = abs(mantissa).bit_length() + exponent
    if top < -1100:
        return 0.0
    if top > 1100:
        return math.copysign(math.inf, mantissa)
    try:
        return float(mantissa * Fraction(2) ** exponent)  # Python rounds quotients of integers to nearest even
    except OverflowError:
        return math.copysign(math.inf, mantissa)


def correctly_rounded(x):
    """Return the float64 that every number in the ball ``x`` rounds to, or None where there are two."""
    if x.is_nan():
        return math.nan
    if not x.is_finite():
        return math.inf if x > 0 else -math.inf if x < 0 else None
    low, high = _nearest(x.lower()), _nearest(x.upper())
    return low + 0.0 if low == high else None


def prove(formula):
    """Return {name: [float64]} of ``formula(Exact())``, {name: [ball]}, with a precision that proves each rounding."""
    bits = 192
    while bits <= 1 << 15:
        ctx.prec = bits
        found = {name: [correctly_rounded(x) for x in balls] for name, balls in formula(Exact()).items()}
        if not any(x is None for floats in found.values() for x in floats):
            return found
        bits *= 2
    raise ArithmeticError("a value is too near to the middle between two floats")


def _power_of_two(x):
    return x.is_exact() and x.is_finite() and x != 0 and abs(int(x.man_exp()[0])) == 1


class Exact:
    """Operations on balls as in the real numbers."""

    def round(self, x, roundings=1):
        """Return ``x``, the result of an operation that makes at most so many relative errors of half an ulp of 1."""
        return x

    def sum(self, terms):
        """Return the sum of ``terms``, in any order."""
        return sum(terms[1:], terms[0])

    def add(self, x, y):
        """Return x + y, one rounding; so for `sub` and `mul`."""
        return self.round(x + y)

    def sub(self, x, y):
        """Return x - y."""
        return self.round(x - y)

    def mul(self, x, y):
        """Return x * y; a power of two makes no error."""
        return x * y if _power_of_two(x) or _power_of_two(y) else self.round(x * y)

    # Below, a function within k ulp makes at most 2k relative errors u; k as OpenCL's full profile allows at most.
    def div(self, x, y):
        """Return x / y, within 2.5 ulp; by a power of two without error."""
        return x / y if _power_of_two(y) else self.round(x / y, 5)

    def sqrt(self, x):
        """Return the root of x, within 3 ulp."""
        return self.round(x.sqrt(), 6)

    def exp(self, x):
        """Return exp(x), within 3 ulp."""
        return self.round(x.exp(), 6)

    def log1p(self, x):
        """Return log(1 + x), within 2 ulp."""
        return self.round(x.log1p(), 4)

    def tanh(self, x):
        """Return tanh(x), within 5 ulp."""
        return self.round(x.tanh(), 10)

    def erf(self, x):
        """Return erf(x), within 16 ulp."""
        return self.round(x.erf(), 32)


class Rounded(Exact):
    """The same operations, each result widened by the errors it may have in ``dtype``; exact results stay exact."""

    def __init__(self, dtype):
        bits, low = FORMATS[dtype]
        self.bits, self.unit, self.tiny = bits, arb(2) ** -bits, arb(2) ** (low - bits)

    def _holds(self, terms):
        """Return whether ``terms`` and all sums of some of them are numbers of the format (its range apart)."""
        if not all(x.is_exact() for x in terms):
            return False
        parts = [tuple(int(part) for part in x.man_exp()) for x in terms if x != 0]
        step = min((exponent for _, exponent in parts), default=0)
        return sum(abs(mantissa) << (exponent - step) for mantissa, exponent in parts) <= 1 << self.bits

    def round(self, x, roundings=1):
        """Return ``x`` widened by so many errors of u|x|, or one of half the smallest step."""
        if not x.is_finite() or self._holds([x]):
            return x
        return x + arb(0, x.abs_upper() * self.unit * roundings + self.tiny)

    def sum(self, terms):
        """Return the sum widened by the errors of any order: (n - 1) u times the sum of the sizes."""
        total = super().sum(terms)
        if not total.is_finite() or self._holds(terms):
            return total
        size = sum((x.abs_upper() for x in terms), arb(0))
        return total + arb(0, size * self.unit * (len(terms) - 1))


def tolerance(formula, expected, dtype, widened):
    """Return {name: [fraction or None]}: how far from ``expected`` an implementation may end; None if not finite.

    Its arithmetic is that of ``dtype``, or float32 if ``widened``. Two more roundings of ``dtype`` are for the order
    of the factors (coefficient, weight, 1/N) and for the store.
    """
    found = {}
    for name, balls in formula(Rounded("float32" if widened else dtype)).items():
        bounds = []
        for ball, x in zip(balls, expected[name], strict=True):
            if not math.isfinite(x):
                bounds.append(None)
                continue
            underflow = x == 0 and ball.abs_upper() < arb(2) ** -1100
            error = Fraction(0) if underflow else fraction((ball - arb(x)).abs_upper())
            if error or x:
                error += Fraction(2) ** (1 - FORMATS[dtype][0]) * abs(Fraction(x)) + spacing(Fraction(0), dtype) / 2
            bounds.append(error)
        found[name] = bounds
    return found
