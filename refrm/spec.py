"""The equations of refrm in plain NumPy: each loss term with its gradient and its Hessian, side by side.

Rule 1: this file is the definition. `refrm.kernels` has the same functions with the same signatures and must
agree with it; where the two differ by more than their stated bounds, this file is right about the formula and
the kernels are right about the last bits.
Rule 2: NumPy only, no loops, no validation. `refrm.losses` checks the arguments.

Notation: ``r_w``, ``r_l`` are the scores of the chosen and the rejected response, shape (N,), float64 or float32;
``d = r_w - r_l`` is the margin of scores, ``s = r_w + r_l`` their sum, ``z = d - margin``. A term gives a `Jet`: its
value and its first and second derivatives in (r_w, r_l) for each pair, before any mean over pairs.

Error bound: rounding ``d`` costs the loss of pair i about ``|d_i|/2`` ulp in the tail, as it does in every
implementation that subtracts first; everything else stays below 4 ulp. The kernels do not have the ``|d|/2``.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Coefficients = tuple[float, float, float, float]


class Jet(NamedTuple):
    """Value, gradient and 2x2 Hessian of a term in (r_w, r_l), pair by pair, each of shape (N,)."""

    value: Array
    g_w: Array
    g_l: Array
    h_ww: Array
    h_wl: Array
    h_ll: Array


def sigmoid(x: Array) -> Array:
    """Return 1/(1 + exp(-x)) without overflow and without cancellation in either tail."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)) without overflow and without cancellation in either tail."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def bradley_terry(r_w: Array, r_l: Array, margin: Array, label_smoothing: float) -> Jet:
    """Return the jet of (1 - eps)*softplus(-z) + eps*softplus(z), z = r_w - r_l - margin (T2).

    With eps = 0 this is -log sigma(d - margin), the negative log-likelihood of Bradley and Terry (1952). The margin
    is subtracted inside the sigmoid; ``label_smoothing`` is eps, the probability that a label is flipped.
    """
    z = r_w - r_l - margin
    # softplus(z) = z + softplus(-z), written so that both summands are non-negative.
    tail = np.log1p(np.exp(-np.abs(z)))
    value = tail + np.where(z >= 0, label_smoothing and label_smoothing * z, -(1 - label_smoothing) * z)
    slope = label_smoothing - sigmoid(-z)
    curvature = sigmoid(z) * sigmoid(-z)  # never p*(1 - p): it cancels
    return Jet(value, slope, -slope, curvature, -curvature, curvature)


def squared_sum(r_w: Array, r_l: Array) -> Jet:
    """Return the jet of (r_w + r_l)^2, the penalty of arXiv 2312.09244, Eq. 2 (T2)."""
    s = r_w + r_l
    two = np.full_like(s, 2)
    return Jet(s * s, 2 * s, 2 * s, two, two, two)


def sum_of_squares(r_w: Array, r_l: Array) -> Jet:
    """Return the jet of r_w^2 + r_l^2; unlike the squared sum it also pulls on the margin (T4)."""
    two = np.full_like(r_w, 2)
    return Jet(r_w * r_w + r_l * r_l, 2 * r_w, 2 * r_l, two, np.zeros_like(two), two)


def mean(values: Array, weight: Array) -> float:
    """Return sum(weight*values)/sum(weight); an integer weight counts as that many copies of the pair."""
    return float(np.sum(weight * values, dtype=np.float64) / np.sum(weight, dtype=np.float64))


def total(weight: Array) -> float:
    """Return the sum, rounded once."""
    return math.fsum(weight)


def objective(
    r_w: Array, r_l: Array, margin: Array | None, label_smoothing: float, coef: Coefficients, share: Array | None
) -> tuple[Coefficients, Array, Array]:
    """Return the means of the loss, of d^2, of s^2 and of s, and the gradients in r_w and r_l of

    c_pair*mean(loss) + c_d*mean(d^2) + c_s*mean(s^2) + c_mean*(mean s)^2, coef = (c_pair, c_d, c_s, c_mean),

    where mean x = sum(share*x), None standing for 1/N. Every loss of refrm is of this form (T4).
    """
    c_pair, c_d, c_s, c_mean = coef
    q = np.full(r_w.size, 1 / r_w.size) if share is None else share
    counts = q > 0
    w, v = np.where(counts, r_w, 0).astype(np.float64), np.where(counts, r_l, 0).astype(np.float64)
    d, s = w - v, w + v
    jet = bradley_terry(w, v, np.zeros(1) if margin is None else margin, label_smoothing)
    mean_s = np.sum(q * s)
    both = min(c_d, c_s)  # d^2 + s^2 = 2 (r_w^2 + r_l^2): through d and s its gradient would cancel
    on_s = (2 * (c_s - both) * s if c_s > both else 0) + (2 * c_mean * mean_s if c_mean else 0)
    on_d = (c_pair * jet.g_w if c_pair else 0) + (2 * (c_d - both) * d if c_d > both else 0)
    own_w, own_l = (4 * both * w, 4 * both * v) if both else (0, 0)
    means = float(np.sum(q * jet.value)), float(np.sum(q * d * d)), float(np.sum(q * s * s)), float(mean_s)
    g_w, g_l = q * (own_w + (on_s + on_d)), q * (own_l + (on_s - on_d))
    return means, np.asarray(g_w).astype(r_w.dtype), np.asarray(g_l).astype(r_w.dtype)


def linear_objective(
    x_w: Array, x_l: Array, theta: Array, margin: Array | None, label_smoothing: float, coef: Coefficients,
    share: Array | None,
) -> tuple[Coefficients, Array]:  # fmt: skip
    """Return the means of `objective` for the linear model r = x.w + b, theta = [w, b] or [w], and the gradient in
    theta, float64: x_w'g_w + x_l'g_l, and the sum of all g_w and g_l for the bias (T2, chain rule).
    """
    p = x_w.shape[1]
    w, b = theta[:p].astype(np.float64), theta[p:].sum(dtype=np.float64)
    means, g_w, g_l = objective(x_w @ w + b, x_l @ w + b, margin, label_smoothing, coef, share)
    grad = x_w.T @ g_w + x_l.T @ g_l
    return means, np.append(grad, g_w.sum() + g_l.sum())[: theta.size]
