"""What a right loss returns, and how far off it may be: in double-double, so that no rounding of ours counts.

Bound, for an implementation that computes in a dtype of unit roundoff u (2^-53, ...). Per pair:

- rounding d, then z = d - m, then any difference of the size of z in an exponent moves z by dz <= u(|d| + 2|z|), and
  the loss and its slope by a factor exp(dz) of their exponential part: the |d|/2 ulp of `refrm.spec`, not a mistake;
- two library functions (exp and log1p, or exp and a quotient) within 4 ulp = 8u each, and 5 roundings: 21u;
- the penalty: the sum, its square, the coefficient and factor, their products: 8u of it;
- a sum over N pairs in any order: N u of the sum of the sizes;
- results below the smallest normal number may be flushed to 0, as some hardware is set to do.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refrm.oracle.forms import Form, Outcome, evaluate, penalty_of
from refrm.oracle.vectors import spacing
from refrm.spec import Array

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
MOST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": 255 * 2.0**120,
}
FORMULA, PENALTY = 21, 8


@dataclass(frozen=True)
class Convention:
    """What an implementation computes when it is right: the parts of its form, lambda, eps, and what was stated."""

    form: Form = field(default_factory=Form)
    coef: float = 0.0
    coef_error: float = 0.0  # relative: how well lambda is known
    label_smoothing: float = 0.0
    margin: bool = False

    @property
    def coupled(self) -> bool:
        """Return whether the penalty couples the pairs."""
        return self.coef != 0 and self.form.penalty in ("sum-to-zero", "batch-sum")

    def multiplier(self, n: int) -> float:
        """Return what multiplies the penalty's square of a mean, or mean of squares, in a batch of n pairs."""
        return self.coef * self.form.factor * (n / 4 if self.form.penalty == "batch-sum" else 1)

    def compute(self, r_w: Array, r_l: Array, margin: Array | None = None, form: Form | None = None) -> Outcome:
        """Return what a loss of this convention, or of another form, returns in the dtype of ``r_w``."""
        m = margin if self.margin else None
        return evaluate(form or self.form, r_w, r_l, m, coef=self.coef, label_smoothing=self.label_smoothing)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b and its rounding error, 0 where that is not finite (Knuth)."""
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    return s, np.where(np.isfinite(error), error, 0)


def pairwise(w: Array, v: Array, m: Array | float, eps: float) -> tuple[Array, Array, Array, Array]:
    """Return loss, slope in z, the size of the slope's parts, and z, per pair, within 4 ulp for float64 inputs."""
    d, low = two_sum(w, -v)
    z, error = two_sum(d, -np.asarray(m, np.float64))
    low = low + error
    e = np.exp(-np.abs(z)) * (1 - np.sign(z) * low)
    tail, losing = np.log1p(e), np.where(z >= 0, e, 1) / (1 + e)
    value = (1 - eps) * np.maximum(-z, 0) + (tail - np.where(z < 0, (1 - eps) * low, 0))
    if eps:
        value = value + eps * (np.maximum(z, 0) + np.where(z >= 0, low, 0))
        return value, eps - losing, losing + eps, z
    return value, -losing, losing, z


class Exact(NamedTuple):
    """Per pair: value and gradients of the loss, how far off each may be, the sizes of summands and slope."""

    value: Array
    g_w: Array
    g_l: Array
    by_value: Array
    by_w: Array
    by_l: Array
    size: Array
    slope: Array

    def of(self, part: slice) -> "Exact":
        """Return the same of some pairs."""
        return Exact(*(x[part] for x in self))


def exact(w: Array, v: Array, m: Array | None, of: Convention, dtype: str) -> Exact:
    """Return what is right for each pair, before the reduction; a penalty that couples the pairs is not in it."""
    u, floor, eps = UNITS[dtype], TINY[dtype], of.label_smoothing
    c = 0.0 if of.coupled else of.multiplier(1)
    with np.errstate(all="ignore"):
        value, slope, size, z = pairwise(w, v, 0.0 if m is None else m, eps)
        moved = np.expm1(u * (np.abs(w - v) + 2 * np.abs(z)))
        moved = np.where(np.isfinite(moved), moved, 0)
        by_value = size * moved + FORMULA * u * value + floor
        by_slope = size * (moved + FORMULA * u) + floor
        if not c:
            return Exact(value, slope, -slope, by_value, by_slope, by_slope, value, size)
        relative = PENALTY * u + of.coef_error
        square, p_w, p_l = penalty_of(of.form.penalty, w, v)
        penalty, p_w, p_l = c * square, c * p_w, c * p_l
        total = value + np.abs(penalty)
        by_value = by_value + np.abs(penalty) * relative + u * total
        by_value = np.where(square >= MOST[dtype] / 8, np.inf, by_value)  # the square may overflow before its product
        by_w, by_l = (by_slope + np.abs(p) * relative + u * (size + np.abs(p)) for p in (p_w, p_l))
        return Exact(value + penalty, slope + p_w, -slope + p_l, by_value, by_w, by_l, total, size)


def reduced(e: Exact, w: Array, v: Array, of: Convention, dtype: str) -> tuple[Outcome, Outcome]:
    """Return the right outcome for a batch, and how far from it a right implementation may be."""
    u, n = UNITS[dtype], w.size
    with np.errstate(all="ignore"):
        if of.coupled:  # the mean may cancel: it is known to 2n*u of the sizes
            scale, blur = abs(of.multiplier(n)), 2 * n * u * float(np.mean(np.abs(w) + np.abs(v)))
            mean_s = abs(float(np.mean(w + v)))
            slack = scale * (2 * (mean_s + blur) * blur + PENALTY * u * mean_s * mean_s)
            slack_g = 2 * scale * (blur + PENALTY * u * mean_s)
            p, p_w, p_l = (of.coef * of.form.factor * x for x in penalty_of(of.form.penalty, w, v))
            e = Exact(
                *(e.value + p, e.g_w + p_w, e.g_l + p_l),
                *(e.by_value + slack, e.by_w + slack_g, e.by_l + slack_g),
                e.size + np.abs(p),
                e.slope,
            )
        if of.form.reduction == "none":
            return Outcome(e.value, e.g_w, e.g_l), Outcome(e.by_value, e.by_w, e.by_l)
        share = 1.0 if of.form.reduction == "sum" else 1 / n
        by_value = (e.by_value.sum() + (n + 1) * u * e.size.sum()) * share
        by_grads = (
            by * share + 2 * u * share * np.abs(g) + TINY[dtype] for by, g in ((e.by_w, e.g_w), (e.by_l, e.g_l))
        )
        return Outcome(np.asarray(e.value.sum() * share), e.g_w * share, e.g_l * share), Outcome(by_value, *by_grads)


def expected(w: Array, v: Array, m: Array | None, of: Convention, dtype: str) -> tuple[Outcome, Outcome]:
    """Return what is right for float64 copies of the inputs, and how far from it a right implementation may be."""
    return reduced(exact(w, v, m, of, dtype), w, v, of, dtype)


def close(found: Any, right: Any, off: Any, dtype: str) -> Array:
    """Return, element by element, whether what was found is right."""
    found, right, off = (np.asarray(x, np.float64) for x in (found, right, off))
    with np.errstate(all="ignore"):
        same = (found == right) | (np.isnan(found) & np.isnan(right)) | (np.abs(found - right) <= off)
        over = np.isinf(found) & (np.sign(found) == np.sign(right)) & (np.abs(right) + off >= MOST[dtype])
    return np.asarray(same | over)


def ulps(found: Any, right: Any, of: Any, dtype: str) -> Array:
    """Return the errors in ulp of the dtype at the size ``of``."""
    found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(found - right) / spacing(of, dtype))
