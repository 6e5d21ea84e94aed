"""Checks of a hand-derived gradient and Hessian product against the function itself, in two independent ways.

1. Differences: the central differences at h and h/2, extrapolated (Richardson). Its error is at most about that of the
   better of the two, which is what extrapolation changed, plus the rounding of the function values divided by h.
2. The fundamental theorem of calculus: f(theta + t) - f(theta) is the integral of grad(theta + x*t).t over [0, 1], by
   Gauss and Legendre's rule with 16 nodes. No small step and no cancellation; its error is at most about what
   doubling 8 nodes changed, plus rounding.

Neither way has a tolerance to choose: each result comes with its own bound, and a check passes if the residual is
below it.
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


def _difference(f: Callable[[Array], Any], theta: Array, t: Array, h: float, slope: float) -> tuple[Any, float]:
    """Return the derivative of f along the unit vector t, by extrapolated central differences, and a bound of its
    error; ``slope`` is the size of the derivative of f in any direction.
    """
    values = {x: f(theta + x * h * t) for x in (-1, -0.5, 0.5, 1)}
    coarse, fine = (values[1] - values[-1]) / (2 * h), (values[0.5] - values[-0.5]) / h
    # Every value of f carries the rounding of its result and that of its argument.
    size = max(np.abs(value).max() for value in values.values()) + np.linalg.norm(theta) * slope
    best = (4 * fine - coarse) / 3
    return best, float(np.abs(best - fine).max() + 8 * _EPS * size / h)


def _integral(derivative: Callable[[Array], Any], theta: Array, t: Array) -> tuple[Any, float]:
    """Return the integral of ``derivative(theta + x*t)`` over [0, 1] and a bound of its error."""
    estimates, size = [], 0.0
    for n in (8, 16):
        nodes, weights = np.polynomial.legendre.leggauss(n)
        values = [derivative(theta + 0.5 * (1 + x) * t) for x in nodes]
        estimates.append(sum(0.5 * w * value for w, value in zip(weights, values, strict=True)))
        size = max(np.abs(value).max() for value in values)
    return estimates[1], float(np.abs(estimates[1] - estimates[0]).max() + 16 * _EPS * size)


def _first_order(
    value_and_grad: ValueAndGrad, start: tuple[Array, float, Array], t: Array, length: float
) -> Iterator[Check]:
    """Check the gradient along the unit vector ``t``, in both ways."""
    at, value, grad = start
    slope = float(np.linalg.norm(grad))
    found, bound = _difference(lambda x: value_and_grad(x)[0], at, t, length / 100, slope)
    rounding = 8 * _EPS * float(np.abs(grad) @ np.abs(t))
    yield Check("gradient, differences", float(abs(found - grad @ t)), bound + rounding)
    path = length * t
    total, bound = _integral(lambda x: value_and_grad(x)[1] @ path, at, path)
    end = value_and_grad(at + path)[0]
    rounding = 8 * _EPS * (abs(end) + abs(value) + float(np.linalg.norm(at + path)) * slope)
    yield Check("gradient, integral", float(abs(total - (end - value))), bound + rounding)


def _second_order(
    value_and_grad: ValueAndGrad,
    hvp: Callable[[Array, Array], Array],
    start: tuple[Array, float, Array],
    t: Array,
    other: Array,
    length: float,
) -> Iterator[Check]:
    """Check the Hessian product along ``t``, in both ways, and its symmetry against ``other``."""
    at, _, grad = start
    product, crossed = hvp(at, t), hvp(at, other)
    # For a random unit vector, |H t|*sqrt(n) is about the Frobenius norm of H.
    slope = float(max(np.linalg.norm(product), np.linalg.norm(crossed))) * math.sqrt(at.size)
    found, bound = _difference(lambda x: value_and_grad(x)[1], at, t, length / 100, slope)
    yield Check("Hessian product, differences", float(np.abs(found - product).max()), bound)
    path = length * t
    total, bound = _integral(lambda x: hvp(x, path), at, path)
    end = value_and_grad(at + path)[1]
    rounding = 32 * _EPS * float(np.abs(end).max() + np.abs(grad).max() + np.linalg.norm(at + path) * slope)
    yield Check("Hessian product, integral", float(np.abs(total - (end - grad)).max()), bound + rounding)
    size = float(np.abs(other) @ np.abs(product) + np.abs(t) @ np.abs(crossed))
    yield Check("Hessian product, symmetry", float(abs(other @ product - t @ crossed)), 8 * at.size * _EPS * size)


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
        Where to check. At a kink (relu at 0) neither way applies.
    hvp : callable, optional
        (theta, t) -> Hessian times t. Its symmetry is checked too.
    directions : int
        Random directions, beside that of the gradient itself. A wrong component shows in all of them, diluted by
        1/sqrt(n_params).
    step : float
        Length of the path of integration, relative to 1 + |theta|, on which the function must be smooth; differences
        are taken at a hundredth of it.
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
    rng = np.random.default_rng(seed)
    value, grad = value_and_grad(at)
    if np.shape(grad) != at.shape:
        raise InputError(
            f"value_and_grad must return a gradient of shape {at.shape}, that of theta, got {np.shape(grad)}"
        )
    along = [grad, *rng.standard_normal((directions, at.size))]
    along = [t / np.linalg.norm(t) for t in along if np.linalg.norm(t) > 0]
    start, length = (at, float(value), grad), step * (1 + float(np.linalg.norm(at)))
    checks = [check for t in along for check in _first_order(value_and_grad, start, t, length)]
    if hvp is not None:
        checks += [c for t in along for c in _second_order(value_and_grad, hvp, start, t, along[-1], length)]
    return GradientReport(tuple(checks))
