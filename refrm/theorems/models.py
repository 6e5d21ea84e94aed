"""The theorems about models that give the scores: how they drift, what bounds them, when a minimiser exists."""

import math

import numpy as np
from numpy.typing import ArrayLike

from refrm.errors import InputError
from refrm.geometry import visible
from refrm.linear import Linear
from refrm.objective import Objective
from refrm.spec import Array, sigmoid
from refrm.theorems.verdict import U, Verdict, verdict

W_1_E = 0.2784645427610738
"""W(1/e), the universal constant of T8: the maximum of d*sigma(-d), reached at d = 1 + W(1/e)."""


def drift(objective: Objective, theta: Array, margin: float = 0.0) -> Verdict:
    """T6: under the pairwise loss the mean score of a linear model moves at mean_i p_i phi_bar.(x_w - x_l) under
    gradient flow.

    phi_bar is the mean of all 2N feature vectors and p = sigma(-(d - margin)), eps = 0; nothing makes it zero. Means
    are weighted like the objective. Bound: rounding of the sums.
    """
    r_w, r_l = objective.scores(theta)
    x_w, x_l, share, n = objective.chosen, objective.rejected, objective.share, len(objective)
    mean = share @ (x_w + x_l) / 2
    p = share * sigmoid(r_l - r_w + margin)
    _, grad = objective.value_and_grad(theta)
    size = (
        np.abs(mean) @ ((np.abs(x_w) + np.abs(x_l)).T @ share) * (1 + np.max(np.abs(r_w) + np.abs(r_l) + abs(margin)))
    )
    return verdict((abs(-mean @ grad[: len(mean)] - mean @ ((x_w - x_l).T @ p)), 8 * U * (n + len(mean)) * size))


def bounded_mean(s: Array, start: float, coef: float) -> Verdict:
    """T7: wherever J <= J0 (= ``start``), mean s^2 <= J0/coef, and |mean score| <= sqrt(J0/coef)/2."""
    rounding = 1 + 8 * U
    return verdict(
        (np.mean(s * s), start / coef * rounding), (abs(np.mean(s)) / 2, math.sqrt(start / coef) / 2 * rounding)
    )


def _designs(objective: Objective) -> tuple[Array, Array]:
    """Return the features with, for a bias, their column of ones: the Jacobians of the linear model's scores."""
    model = objective.model
    if not isinstance(model, Linear):
        raise InputError(f"objective must have a Linear model, got {type(model).__name__}")
    return model.design(objective.chosen), model.design(objective.rejected)


def step_bound(objective: Objective, coef: float) -> float:
    """T7: return beta = ||D||^2/(4N) + 2*coef*||S||^2/N; full-batch gradient descent on the linear model is monotone
    for lr <= 1/beta. With weights, row i of D and S counts with its share for 1/N.
    """
    x_w, x_l = _designs(objective)
    root = np.sqrt(objective.share)[:, None]
    return float(np.linalg.norm(root * (x_w - x_l), 2) ** 2 / 4 + 2 * coef * np.linalg.norm(root * (x_w + x_l), 2) ** 2)


def descent(objective: Objective, theta: Array, coef: float) -> Verdict:
    """T7: a gradient step of length 1/beta on the linear model lowers J by at least |grad|^2/(2*beta).

    Bound: rounding a score moves it by p roundings of f = |x_w|.|theta| + |x_l|.|theta|, which J passes on with slope
    at most 1 + 2*coef*|s| and its gradient with 1/4 + 2*coef; sums of n terms; and |grad|^2/(2*beta) is at most J.
    """
    beta = step_bound(objective, coef)
    value, grad = objective.value_and_grad(theta)
    moved = theta - grad / beta
    features, size = np.abs(_designs(objective)).sum(0), 2 * value
    for at in (theta, moved):
        f, s = features @ np.abs(at), np.abs(np.add(*objective.scores(at)))
        size += float(objective.share @ ((1 + 2 * coef * s) * f + (0.25 + 2 * coef) * f * f))
    lowered = value - objective.value(moved)
    return verdict((grad @ grad / (2 * beta) - lowered, 8 * U * (len(objective) + theta.size + 8) * size))


def resting_force(margin: ArrayLike, label_smoothing: float = 0.0) -> Array:
    """T8: return the maximum over d of d*(sigma(margin - d) - eps) for each margin: W(exp(margin - 1)) for eps = 0.

    For eps > 0 it is at the z = d - margin where 1 - 2*eps + (1 - eps)*exp(-z) - eps*exp(z) = d: the left side falls,
    the right side rises, and they meet between d = 0 and the d without force, margin + log((1 - eps)/eps). Bisection.
    """
    from scipy.special import wrightomega

    m = np.asarray(margin, float)
    if label_smoothing == 0:
        return np.asarray(wrightomega(m - 1))
    still = math.log(1 - label_smoothing) - math.log(label_smoothing)
    low, high = np.minimum(-m, still), np.maximum(-m, still)
    for _ in range(100):
        z = (low + high) / 2
        with np.errstate(over="ignore"):
            rising = 1 - 2 * label_smoothing + (1 - label_smoothing) * np.exp(-z) - label_smoothing * np.exp(z) > z + m
        low, high = np.where(rising, z, low), np.where(rising, high, z)
    return np.asarray((low + m) * (sigmoid(-low) - label_smoothing))


def universal_bound(
    objective: Objective, theta: Array, coef: float, head: slice, margin: ArrayLike = 0.0, label_smoothing: float = 0.0
) -> Verdict:
    """T8: at rest mean s^2 <= W(exp(margin - 1))/(2*coef), whatever the data, the features, the width and the depth;
    with label smoothing `resting_force` stands for W. Means, of margins (N,) too, are weighted like the objective.

    ``head`` are the indices in theta of the weights that the scores are linear in, all of them (biases of the head
    too). Off rest the identity 2*coef*mean s^2 = mean d*(p - eps) + head.grad, p = sigma(-(d - margin)), still holds,
    so the bound is (W + head.grad)/(2*coef), which becomes the theorem's where the gradient vanishes, or pulls the
    head inwards as weight decay does. Rounding: 2p+2n+8 operations on |head|.|grad|-sized terms.
    """
    theta = np.asarray(theta)
    r_w, r_l = objective.scores(theta)
    s = r_w + r_l
    _, grad = objective.value_and_grad(theta)
    work = float(theta[head] @ grad[head])
    share = objective.share
    mean = float(share @ (s * s))
    bound = (float(share @ np.broadcast_to(resting_force(margin, label_smoothing), s.shape)) + work) / (2 * coef)
    size = mean + (share @ np.abs(r_w - r_l) + np.abs(theta[head]) @ np.abs(grad[head])) / (2 * coef)
    return verdict((mean, bound + 8 * U * (theta.size + len(objective)) * size))


def linear_hessian(objective: Objective, theta: Array, coef: float) -> Verdict:
    """T9: the Hessian is (1/N) D'diag(h)D + (2*coef/N) S'S, and positive semi-definite, up to the rounding of N-term
    sums; without margin and smoothing. With weights, row i counts with its share for 1/N.
    """
    r_w, r_l = objective.scores(theta)
    d, s, n = objective.chosen - objective.rejected, objective.chosen + objective.rejected, len(objective)
    share = objective.share[:, None]
    h = share * (sigmoid(r_w - r_l) * sigmoid(r_l - r_w))[:, None]
    found = objective.hessian(theta)
    size = np.abs(d).T @ (h * np.abs(d)) + 2 * coef * np.abs(s).T @ (share * np.abs(s))
    size += (np.abs(objective.chosen) + np.abs(objective.rejected)).max() ** 2 * (0.25 + 2 * coef)
    rounding = 8 * U * (n + 8) * size
    return verdict(
        (np.abs(found - (d.T @ (h * d) + 2 * coef * s.T @ (share * s))), rounding),
        (-np.linalg.eigvalsh(found)[0], np.linalg.norm(rounding)),
    )


def free_shifts(objective: Objective, components: int) -> Verdict:
    """T9: for one-hot items and the pairwise loss alone, the undetermined dimension is the number of connected
    components.
    """
    return verdict((abs(objective.model.n_params - visible(objective)[0].shape[1] - components), 0))


def signless_laplacian(objective: Objective, coef: float, bipartite: int) -> Verdict:
    """T9: for one-hot items the Hessian of coef*`SquaredSum` alone is 2*coef times the signless Laplacian of the
    comparisons, which is 0 in as many dimensions as there are ``bipartite`` components, items without a pair included.

    Residuals: entries, and whether that many eigenvalues are 0 and no more. Bound: rounding of n-term sums, which moves
    an eigenvalue by at most its norm; the least that is not 0 must be above a thousand times that.
    """
    won, lost, share = objective.chosen, objective.rejected, objective.share[:, None]
    expected = np.diag((share * (won + lost)).sum(0)) + won.T @ (share * lost) + lost.T @ (share * won)
    found = objective.hessian(np.zeros(objective.model.n_params))
    rounding = 8 * U * (len(objective) + 8) * 2 * coef * expected
    eigenvalues, zero = np.linalg.eigvalsh(found), len(found) * np.linalg.norm(rounding)
    return verdict(
        (np.abs(found - 2 * coef * expected), rounding),
        (np.abs(eigenvalues[:bipartite]), zero),
        (1e3 * zero - eigenvalues[bipartite:], 0.0),
    )
