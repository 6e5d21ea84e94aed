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

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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


def sum_to_zero(r_w: Array, r_l: Array, share: Array) -> tuple[float, Array]:
    """Return the value of (sum_i share_i * s_i)^2 and its gradient in r_w, which is also that in r_l (T12).

    ``share`` are the weights of the pairs divided by their sum (1/N without weights). The Hessian couples the pairs: it
    is ``2*q*q'`` with ``q = [share, share]``, the same at every point.
    """
    mean = np.sum(share * (r_w + r_l))
    return float(mean * mean), 2 * mean * share


def mean(values: Array, weight: Array) -> float:
    """Return sum(weight*values)/sum(weight); an integer weight counts as that many copies of the pair."""
    return float(np.sum(weight * values, dtype=np.float64) / np.sum(weight, dtype=np.float64))
