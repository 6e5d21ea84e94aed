"""The roundings of `refrm.kernels`, added up: bounds of their errors, in units of u = 2^-53.

Run ``python docs/roundings.py`` to print them; `tests/test_algebra_bounds.py` compares them with what is stated.

A `Step` is a number of a computation that remembers what it was made of. Rounding changes it by at most half an ulp,
and a result by that times the derivative of the result in it; the sum over all steps bounds the error, to first order
(Linnainmaa 1970: reverse-mode differentiation was invented for this). The kernels' own code runs on Steps: what one
line rounds and another gives back cancels here as it does there.
"""

import heapq
import itertools
import math
from types import FunctionType, ModuleType, SimpleNamespace

from refrm.kernels import activations, scalar

# What the polynomials miss, their coefficients being rounded, in u of exp (and of r^2), of log and of Mills' ratio.
EXP, EXP_NEAR_0, LOG, MILLS = 0.1, 10.2, 0.017, 0.91
COUNT = itertools.count()


def half(x):
    """Half an ulp at x, in units of u: the power of two at or below |x|."""
    return 2.0 ** (math.frexp(x)[1] - 1) if x else 0.0


def grid(x):
    """A power of two, in units of u, of which x is a multiple: of a constant its last bit."""
    if isinstance(x, Step):
        return x.grid
    numerator, denominator = float(x).as_integer_ratio()
    return (numerator & -numerator) / denominator * 2.0**53 if x else math.inf


class Step:
    """A float with its parents, each with the derivative in it, and the largest error of its own rounding."""

    def __init__(self, value, parents=(), rounding=0.0, grid=0.0):
        self.value, self.parents, self.rounding, self.order = float(value), parents, rounding, next(COUNT)
        self.grid = max(grid, 2 * half(self.value)) or math.inf

    def __add__(self, other):
        # The sum is a multiple of the finer grid. If its own ulp is no coarser, it is a float, and nothing is rounded.
        value, fine = self.value + float(other), min(self.grid, grid(other))
        return Step(value, ((self, 1.0), (other, 1.0)), half(value) if 2 * half(value) > fine else 0.0, fine)

    def __mul__(self, other):
        value = self.value * float(other)
        exact = not isinstance(other, Step) and abs(math.frexp(other)[0]) == 0.5
        return Step(value, ((self, float(other)), (other, self.value)), 0.0 if exact else half(value))

    def __truediv__(self, other):
        value = self.value / float(other)
        return Step(value, ((self, 1 / float(other)), (other, -value / float(other))), half(value))

    def __neg__(self):
        return Step(-self.value, ((self, -1.0),), 0.0, self.grid)

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __rtruediv__(self, other):
        return Step(other) / self

    def __abs__(self):
        return self if self.value >= 0 else -self

    __radd__, __rmul__ = __add__, __mul__

    def __float__(self):
        return self.value

    def __lt__(self, other):
        return self.value < float(other)

    def __le__(self, other):
        return self.value <= float(other)

    def __gt__(self, other):
        return self.value > float(other)

    def __ge__(self, other):
        return self.value >= float(other)

    def bound(self):
        """The sum over all steps of rounding times derivative, from the result backwards."""
        slope, waiting, total = {self: 1.0}, [(-self.order, self)], 0.0
        while waiting:
            step = heapq.heappop(waiting)[1]
            total += abs(slope[step]) * step.rounding
            for parent, derivative in step.parents:
                if isinstance(parent, Step):
                    if parent not in slope:
                        slope[parent] = 0.0
                        heapq.heappush(waiting, (-parent.order, parent))
                    slope[parent] += slope[step] * derivative
        return total


def fma(a, b, c):
    """a*b + c, rounded once."""
    if not isinstance(a, Step) and abs(math.frexp(a)[0]) == 0.5:
        return a * b + c
    value = float(a) * float(b) + float(c)
    return Step(value, ((a, float(b)), (b, float(a)), (c, 1.0)), half(value))


def two_sum(a, b):
    """The rounded sum and its error, which is exact."""
    s = a + b
    return s, Step(0.3 * s.rounding * 2.0**-53, ((a, 1.0), (b, 1.0), (s, -1.0)))  # of a size that it may have


def reduced(a, b):
    """As the kernels': -a - k*LN2_HI is exact, and k is a whole number, not a step."""
    k = float(round(-float(a) * scalar.LOG2E))
    rest = Step(-k * scalar.LN2_HI - float(a), ((a, -1.0),))
    return rest - fma(k, scalar.LN2_LO, b), k + scalar.ROUND


def exp_parts(r):
    """As the kernels', and what the polynomial misses."""
    e, f = KERNELS["exact_exp_parts"](r)
    return e, Step(f.value, ((f, 1.0),), min(EXP * e.value, EXP_NEAR_0 * r.value**2), f.grid)


def log1p_halved(g, s, rest):
    """As the kernels', and what the polynomial misses."""
    found = KERNELS["exact_log1p_halved"](g, s, rest)
    return Step(found.value, ((found, 1.0),), LOG * abs(math.log1p(g.value)))


def mills(t):
    """As the kernels', and what the polynomial misses."""
    found = KERNELS["exact_mills"](t)
    return Step(found.value, ((found, 1.0),), MILLS * found.value)


def decay(a, b):
    """As the kernels', without their bits."""
    r, t = reduced(a, b)
    return *exp_parts(r), 2.0 ** (t - scalar.ROUND)


def on_steps(*modules: ModuleType):
    """Return the functions of kernels' modules, to run on Steps, and those above in the place of their own."""
    names = {name: x for module in modules for name, x in vars(module).items()}
    shim = SimpleNamespace(nan=math.nan, ldexp=lambda x, k: x * 2.0**k)
    shim.isnan, shim.isinf, shim.isfinite = (lambda x: x.value != x.value), (lambda x: False), (lambda x: True)
    names["math"] = shim
    for name, function in list(names.items()):
        code = getattr(getattr(function, "py_func", function), "__code__", None)
        if code is not None and getattr(function, "__module__", "").startswith("refrm.kernels"):
            names[name] = FunctionType(code, names, name, getattr(function, "__defaults__", None))
    names |= {f"exact_{f.__name__}": names[f.__name__] for f in (exp_parts, log1p_halved, mills)}
    names |= {f.__name__: f for f in (fma, two_sum, reduced, exp_parts, log1p_halved, mills, decay)}
    return names


KERNELS = on_steps(scalar, activations)


def pair(z, label_smoothing=0.0):
    """Return loss, slope, curvature and sigma(-z) of a pair whose difference z is not exact, as Steps."""
    eps = Step(label_smoothing) if label_smoothing else 0.0
    loss, slope, curvature = KERNELS["pair"](Step(0.3 * z), Step(0.3 * z - z), 0.0, eps)
    return loss, slope, curvature


def points(low=2.0**-8, high=60.0, count=200):
    """Sizes of z, both evenly and by factors, and both sides of each jump of the reduced argument."""
    even = [low + (high / 12 - low) * i / count for i in range(count + 1)]
    wide = [low * (high / low) ** (i / count) for i in range(count + 1)]
    near = [k * math.log(2) / 2 * (1 + side * 1e-12) for k in range(1, 80) for side in (-1, 1)]
    return even + wide + near


def in_ulp(step, of=0.0):
    """The bound in ulp of the result, or of a larger number."""
    return step.bound() / (2 * half(max(abs(step.value), of))) if isinstance(step, Step) else 0.0


def in_u(step, of=0.0):
    """The bound in u of the result, or of a larger number."""
    return step.bound() / max(abs(step.value), of) if isinstance(step, Step) else 0.0


def exponential(r):
    """exp(r) = e + f of a rounded r, the sum not rounded."""
    e, f = exp_parts(Step(r, (), half(r)))
    return Step(e.value, ((e, 1.0), (f, 1.0)))


def gelu_terms(z):
    """The sizes of the two terms of gelu's derivative, which cancel."""
    return math.erfc(-z / math.sqrt(2)) / 2 + abs(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def table():
    """Return the largest bound of each kind that there is at the points."""
    sizes = points()
    plain = {z: pair(z) for size in sizes for z in (size, -size)}
    eps = (1e-3, 0.01, 0.1, 0.25, 0.3, 0.4, 0.499)
    smoothed = {(z, e): pair(z, e) for size in sizes[::5] for z in (size, -size) for e in eps}
    found = {
        "exp, in u": max(in_u(exponential(r)) for r in (k * 0.34657 / 1000 for k in range(-1000, 1001))),
        "loss, z >= 0, in ulp": max(in_ulp(loss) for z, (loss, _, _) in plain.items() if z > 0),
        "loss, z < 0, in ulp": max(in_ulp(loss) for z, (loss, _, _) in plain.items() if z < 0),
        "slope, in ulp": max(in_ulp(slope) for _, slope, _ in plain.values()),
        "curvature, in ulp": max(in_ulp(curvature) for _, _, curvature in plain.values()),
        "loss, in u": max(in_u(loss) for loss, _, _ in plain.values()),
        "slope, in u": max(in_u(slope) for _, slope, _ in plain.values()),
        "smoothed loss, in ulp": max(in_ulp(loss) for loss, _, _ in smoothed.values()),
        "smoothed loss, in u": max(in_u(loss) for loss, _, _ in smoothed.values()),
        "smoothed slope, in ulp of its larger term": max(
            in_ulp(slope, max(e, 1 / (1 + math.exp(z)))) for (z, e), (_, slope, _) in smoothed.items()
        ),
    }
    near = [z for z in plain if abs(z) < 37]
    for name in ("tanh", "gelu", "softplus"):
        both = {z: KERNELS[name](Step(z)) for z in near}
        found[f"{name}, in u"] = max(in_u(a) for a, _ in both.values())
        found[f"{name}', in u"] = max(in_u(b, gelu_terms(z) if name == "gelu" else 0) for z, (_, b) in both.items())
    return found


if __name__ == "__main__":
    for kind, bound in table().items():
        print(f"{bound:5.2f}  {kind}")
