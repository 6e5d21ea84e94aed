"""Checks of a hand-derived gradient and Hessian product against the function itself, in two independent ways.

1. Differences: the central differences at h and h/2, extrapolated (Richardson). The truncation error is at most about
   that of the better of the two, which is what extrapolation changed.
2. The fundamental theorem of calculus: f(theta + t) - f(theta) is the integral of grad(theta + x*t).t over [0, 1], by
   Gauss and Legendre's rule with 16 nodes on each half. No small step and no cancellation; the truncation error is at
   most about what halving changed, and the path is shortened until that is below a millionth of the integrand.

Rounding is measured, not assumed: how far a function moves as its arguments move by a few eps. So neither way has a
tolerance to choose; each result comes with its own bound, and a check passes if the residual is below it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from refrm.checks import check_array, check_integer, check_number
from refrm.errors import InputError
from refrm.spec import Array

ValueAndGrad = Callable[[Array], tuple[float, Array]]
Function = Callable[[Array], Any]
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Check:
    """One comparison: ``residual`` between what was given and what was found, and the ``bound`` it must respect."""

    way: str
    residual: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether the residual respects the bound; NaN does not."""
        return self.residual <= self.bound


def _ratio(check: Check) -> float:
    """Return residual/bound; 0/0 is 0, and NaN is the worst."""
    if check.residual == 0:
        return 0.0
    return check.residual / check.bound if check.residual > 0 and check.bound > 0 else np.inf


@dataclass(frozen=True)
class GradientReport:
    """All comparisons of one `check_gradient`."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    @property
    def worst(self) -> Check:
        """The check with the largest residual relative to its bound."""
        return max(self.checks, key=_ratio)

    def __str__(self) -> str:
        state = "ok" if self.ok else "WRONG"
        worst = self.worst
        figures = f"residual {worst.residual:.3g}, bound {worst.bound:.3g}"
        return f"{state}: {len(self.checks)} checks, worst {worst.way}: {figures}"


def _noise(f: Function, at: Array, rng: np.random.Generator) -> float:
    """Return the size of the rounding errors in f(at): how far f moves as every argument moves by 4 eps of itself."""
    values = [f(at * (1 + 4 * _EPS * rng.choice([-1.0, 1.0], at.size))) for _ in range(4)] + [f(at)]
    return float(np.ptp(values, axis=0).max() + 4 * _EPS * np.abs(values).max())


def _noise_along(derivative: Callable[[Array, Array], Any], at: Array, t: Array, rng: np.random.Generator) -> float:
    """Return the same for ``derivative(at, t)``, moving both."""
    n = at.size
    return _noise(lambda both: derivative(both[:n], both[n:]), np.concatenate([at, t]), rng)


def _integral(along: Function, at: Array, path: Array) -> tuple[Any, float, float]:
    """Return the integral of ``along(at + x*path)`` over 0 <= x <= 1, a bound of its error, the integrand's size."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    pieces = []
    for begin, width in ((0.0, 1.0), (0.0, 0.5), (0.5, 0.5)):
        values = [along(at + (begin + width * 0.5 * (1 + x)) * path) for x in nodes]
        pieces.append(sum(width * 0.5 * w * value for w, value in zip(weights, values, strict=True)))
    total = pieces[1] + pieces[2]
    return total, float(np.abs(total - pieces[0]).max()), float(np.abs(values).max())


def _difference(f: Function, at: Array, t: Array, h: float) -> tuple[Any, float]:
    """Return the derivative of f along ``t``, by extrapolated central differences, and a bound of the truncation."""
    values = {x: f(at + x * h * t) for x in (-1, -0.5, 0.5, 1)}
    coarse, fine = (values[1] - values[-1]) / (2 * h), (values[0.5] - values[-0.5]) / h
    best = (4 * fine - coarse) / 3
    return best, float(np.abs(best - fine).max())


def _compare(
    name: str, f: Function, derivative: Callable[[Array, Array], Any], at: Array, t: Array, length: float, seed: int
) -> Iterator[Check]:
    """Check ``derivative(x, t)`` against f along the unit vector ``t``, in both ways."""
    rng = np.random.default_rng(seed)
    smooth = False
    for _ in range(40):
        path = length * t
        total, truncation, size = _integral(lambda x: derivative(x, path), at, path)  # noqa: B023
        smooth = truncation <= 1e-6 * size
        if smooth or not math.isfinite(size):
            break
        length /= 2
    rounding = _noise(f, at, rng) + _noise(f, at + path, rng) + 4 * _noise_along(derivative, at, path, rng)
    residual = float(np.abs(total - (f(at + path) - f(at))).max())
    yield (
        Check(f"{name}, integral", residual, truncation + 16 * rounding)
        if smooth
        else Check(f"{name}, integral: not smooth here", residual, 0.0)
    )
    h = length / 100
    found, truncation = _difference(f, at, t, h)
    ends = max(_noise(f, at + h * t, rng), _noise(f, at - h * t, rng))
    rounding = 4 * ends / h + _noise_along(derivative, at, t, rng)
    residual = float(np.abs(found - derivative(at, t)).max())
    yield Check(f"{name}, differences", residual, truncation + 16 * rounding)


def _symmetry(hvp: Callable[[Array, Array], Any], at: Array, a: Array, b: Array, rng: np.random.Generator) -> Check:
    """Check that a.(H b) = b.(H a)."""
    residual = abs(float(a @ hvp(at, b)) - float(b @ hvp(at, a)))
    one = _noise_along(lambda x, v: a * hvp(x, v), at, b, rng)
    other = _noise_along(lambda x, v: b * hvp(x, v), at, a, rng)
    return Check("Hessian product, symmetry", residual, 16 * (one + other) * at.size)


def check_gradient(
    value_and_grad: ValueAndGrad,
    theta: ArrayLike,
    *,
    hvp: Callable[[Array, Array], Array] | None = None,
    directions: int = 4,
    step: float = 0.1,
    seed: int = 0,
) -> GradientReport:
    """Check a gradient, and a Hessian-vector product if one is given, of a smooth float64 function near ``theta``.

    Parameters
    ----------
    value_and_grad : callable
        theta -> (value, gradient of shape (n_params,)).
    theta : array of shape (n_params,)
        Where to check. At a kink (relu at 0) neither way applies, and the report says so.
    hvp : callable, optional
        (theta, t) -> Hessian times t. Its symmetry is checked too.
    directions : int
        Random directions, beside that of the gradient itself. A wrong component shows in all of them, diluted by
        1/sqrt(n_params).
    step : float
        Length of the path of integration, relative to 1 + |theta|, before any halving; differences are taken at a
        hundredth of it.
    seed : int
        Seed of the directions.

    Returns
    -------
    GradientReport
        ``ok``, the single checks with residual and bound, and ``worst``.

    Examples
    --------
    >>> import numpy as np
    >>> print(check_gradient(lambda x: (np.sum(x**3), 3 * x**2), [1.0, 2.0]).ok)
    True
    >>> print(check_gradient(lambda x: (np.sum(x**3), 3.003 * x**2), [1.0, 2.0]).ok)
    False
    """
    at = check_array("theta", theta, (None,), "(n_params,)").astype(np.float64)
    check_integer("directions", directions, 1)
    check_number("step", step, 0.0, open_low=True)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    try:
        value, grad = value_and_grad(at)
    except (TypeError, ValueError) as error:
        raise InputError(f"value_and_grad must return (value, gradient): {error}") from None
    if np.shape(grad) != at.shape:
        raise InputError(
            f"value_and_grad must return a gradient of shape {at.shape}, that of theta, got {np.shape(grad)}"
        )
    if not at.size:
        raise InputError("theta is empty, shape (0,): there is nothing to check")
    if hvp is not None and np.shape(hvp(at, at)) != at.shape:
        raise InputError(f"hvp must return an array of shape {at.shape}, that of theta, got {np.shape(hvp(at, at))}")
    along = [grad, *rng.standard_normal((directions, at.size))]
    along = [t / np.linalg.norm(t) for t in along if np.linalg.norm(t) > 0]
    length = step * (1 + float(np.linalg.norm(at)))
    checks: list[Check] = []
    for t in along:
        value_of, slope_along = lambda x: value_and_grad(x)[0], lambda x, v: value_and_grad(x)[1] @ v
        checks += _compare("gradient", value_of, slope_along, at, t, length, seed)
        if hvp is not None:
            checks += _compare("Hessian product", lambda x: value_and_grad(x)[1], hvp, at, t, length, seed)
            checks.append(_symmetry(hvp, at, along[-1], t, rng))
    return GradientReport(tuple(checks))
