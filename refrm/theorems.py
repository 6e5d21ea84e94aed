"""The theorems of refrm as predicates: inputs -> `Verdict`, a residual and the bound that it must respect.

Each predicate is named after its theorem and holds over the reals exactly; over floats its bound is the theorem's own
plus the rounding derived in its docstring, with unit roundoff ``U`` = 2^-53. A predicate judges any loss that has
``value_and_grad(r_w, r_l)``, so that a wrong one can be shown to fail it.
"""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from refrm.geometry import visible
from refrm.gradcheck import check_gradient
from refrm.losses import BradleyTerry, SquaredSum, SumToZero
from refrm.objective import Objective
from refrm.spec import Array, sigmoid

U = 2.0**-53
W_1_E = 0.2784645427610738
"""W(1/e), the universal constant of T8: the maximum of d*sigma(-d), reached at d = 1 + W(1/e)."""


class Verdict(NamedTuple):
    """What a predicate found; the theorem holds where ``residual <= bound``, everywhere. NaN does not hold."""

    residual: Array
    bound: Array

    @property
    def holds(self) -> bool:
        """Whether every residual respects its bound."""
        return bool(np.all(self.residual <= self.bound))


def _verdict(*parts: tuple[ArrayLike, ArrayLike]) -> Verdict:
    flat = [np.broadcast_arrays(np.asarray(r, float), np.asarray(b, float)) for r, b in parts]
    return Verdict(np.concatenate([r.ravel() for r, _ in flat]), np.concatenate([b.ravel() for _, b in flat]))


class ScoreLoss(Protocol):
    """A loss on scores, ours or another."""

    def value_and_grad(self, r_w: Array, r_l: Array) -> tuple[float, Array, Array]: ...


Centring = Callable[[Array, Array], tuple[Array, Array]]
"""What moves scores after the training, ours or another's."""


def shift_invariance(loss: ScoreLoss, r_w: Array, r_l: Array, shift: Any, margin: float = 0.0) -> Verdict:
    """T1: adding ``shift`` (a number or one per pair) to both scores changes neither loss nor gradient, and g_w + g_l
    = 0.

    Bound: rounding r + shift moves d by at most u(|r_w + shift| + |r_l + shift|) (T13), and rounding d and d - margin
    by u|d| and u|d - margin|; the pairwise loss is 1-Lipschitz in d and its slope 1/4-Lipschitz; each evaluation adds
    at most 8u of the loss, and of the slope's two terms, eps and sigma(-z), both below 1.
    """
    n, moved_w, moved_l = len(r_w), r_w + shift, r_l + shift
    value, g_w, g_l = loss.value_and_grad(r_w, r_l)
    after, a_w, a_l = loss.value_and_grad(moved_w, moved_l)
    cost = U * (np.abs(moved_w) + np.abs(moved_l))
    for d in (r_w - r_l, moved_w - moved_l):
        cost = cost + U * (np.abs(d) + np.abs(d - margin))
    return _verdict(
        (abs(after - value), np.mean(cost) + 8 * U * (abs(value) + abs(after))),
        (np.abs(a_w - g_w), cost / (4 * n) + 16 * U / n),
        (np.abs(a_l - g_l), cost / (4 * n) + 16 * U / n),
        (np.abs(g_w + g_l), 0.0),
    )


def gradients(loss: Any, r_w: Array, r_l: Array) -> Verdict:
    """T2: gradient and Hessian in the scores are the derivatives of the value; bounds of `refrm.check_gradient`."""
    n = len(r_w)

    def value_and_grad(r: Array) -> tuple[float, Array]:
        value, g_w, g_l = loss.value_and_grad(r[:n], r[n:])
        return value, np.concatenate([g_w, g_l])

    def hvp(r: Array, t: Array) -> Array:
        return np.concatenate(loss.hessian(r[:n], r[n:]).dot(t[:n], t[n:]))

    report = check_gradient(value_and_grad, np.concatenate([r_w, r_l]), hvp=hvp if hasattr(loss, "hessian") else None)
    return _verdict(*((check.residual, check.bound) for check in report.checks))


def decoupling(pairwise: ScoreLoss, penalty: ScoreLoss, r_w: Array, r_l: Array) -> Verdict:
    """T3: the penalty puts no force on d, the pairwise loss none on s, and so their gradients are orthogonal:
    exactly.
    """
    _, p_w, p_l = pairwise.value_and_grad(r_w, r_l)
    _, q_w, q_l = penalty.value_and_grad(r_w, r_l)
    return _verdict((np.abs(q_w - q_l), 0.0), (np.abs(p_w + p_l), 0.0), (np.abs(p_w * q_w + p_l * q_l), 0.0))


def free_dynamics(loss: ScoreLoss, coef: float, r_w: Array, r_l: Array, lr: float, steps: int) -> Verdict:
    """T5: gradient descent on free scores with BradleyTerry() + coef*SquaredSum() contracts s by 1 - 4*lr*coef/N a
    step, and d follows log omega(c), c = d0 + exp(d0) + 2t/N, t = lr*steps, omega the Wright omega function.

    Bound on s: 8u a step of the largest |s|, |d| and gradient. On d: Euler's method on d' = 2 sigma(-d)/N with |d''|
    <= 1/N^2 errs by lr^2/(2N^2) a step, and does not amplify errors for lr <= 4N.
    """
    from scipy.special import wrightomega

    n, w, v = len(r_w), r_w.copy(), r_l.copy()
    for _ in range(steps):
        _, g_w, g_l = loss.value_and_grad(w, v)
        w, v = w - lr * g_w, v - lr * g_l
    t = lr * steps
    s, d = r_w + r_l, r_w - r_l
    size = np.abs(r_w) + np.abs(r_l) + t / n
    rounding = 8 * U * (steps + 1) * size
    c = d + np.exp(d) + 2 * t / n
    return _verdict(
        (np.abs(w + v - s * (1 - 4 * lr * coef / n) ** steps), rounding),
        (np.abs(w - v - np.log(wrightomega(c))), lr * t / (2 * n * n) + rounding + 8 * U * (np.abs(c) + 1)),
    )


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
    return _verdict((abs(-mean @ grad[: len(mean)] - mean @ ((x_w - x_l).T @ p)), 8 * U * (n + len(mean)) * size))


def bounded_mean(s: Array, start: float, coef: float) -> Verdict:
    """T7: wherever J <= J0 (= ``start``), mean s^2 <= J0/coef, and |mean score| <= sqrt(J0/coef)/2."""
    rounding = 1 + 8 * U
    return _verdict(
        (np.mean(s * s), start / coef * rounding), (abs(np.mean(s)) / 2, math.sqrt(start / coef) / 2 * rounding)
    )


def step_bound(objective: Objective, coef: float) -> float:
    """T7: return beta = ||D||^2/(4N) + 2*coef*||S||^2/N; full-batch gradient descent on the linear model is monotone
    for lr <= 1/beta. With weights, row i of D and S counts with its share for 1/N.
    """
    root = np.sqrt(objective.share)[:, None]
    d, s = root * (objective.chosen - objective.rejected), root * (objective.chosen + objective.rejected)
    return float(np.linalg.norm(d, 2) ** 2 / 4 + 2 * coef * np.linalg.norm(s, 2) ** 2)


def universal_bound(objective: Objective, theta: Array, coef: float, head: slice, margin: float = 0.0) -> Verdict:
    """T8: at rest mean s^2 <= W(exp(margin - 1))/(2*coef), whatever the data, the features, the width and the depth.
    Without label smoothing; means are weighted like the objective.

    ``head`` are the indices in theta of the weights that the scores are linear in, all of them (biases of the head
    too). Off rest the identity 2*coef*mean s^2 = mean d*p + head.grad, p = sigma(-(d - margin)), still holds, so the
    bound is (W + head.grad)/(2*coef), which becomes the theorem's where the gradient vanishes. Rounding: 2p+2n+8
    operations on |head|.|grad|-sized terms.
    """
    from scipy.special import lambertw

    theta = np.asarray(theta)
    r_w, r_l = objective.scores(theta)
    s = r_w + r_l
    _, grad = objective.value_and_grad(theta)
    work = float(theta[head] @ grad[head])
    share = objective.share
    mean = float(share @ (s * s))
    bound = (float(lambertw(math.exp(margin - 1)).real) + work) / (2 * coef)
    size = mean + (share @ np.abs(r_w - r_l) + np.abs(theta[head]) @ np.abs(grad[head])) / (2 * coef)
    return _verdict((mean, bound + 8 * U * (theta.size + len(objective)) * size))


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
    return _verdict(
        (np.abs(found - (d.T @ (h * d) + 2 * coef * s.T @ (share * s))), rounding),
        (-np.linalg.eigvalsh(found)[0], np.linalg.norm(rounding)),
    )


def free_shifts(objective: Objective, components: int) -> Verdict:
    """T9: for one-hot items and the pairwise loss alone, the undetermined dimension is the number of connected
    components.
    """
    return _verdict((abs(objective.model.n_params - visible(objective)[0].shape[1] - components), 0))


def printed_sign(loss: ScoreLoss, coef: float, r_w: Array, r_l: Array, lr: float, steps: int) -> Verdict:
    """T10: with -coef*mean s^2 gradient descent on free scores multiplies every s by 1 + 4*lr*coef/N a step, for ever.

    Bound: as in `free_dynamics`, grown by the same factor.
    """
    n, w, v = len(r_w), r_w.copy(), r_l.copy()
    for _ in range(steps):
        _, g_w, g_l = loss.value_and_grad(w, v)
        w, v = w - lr * g_w, v - lr * g_l
    growth = (1 + 4 * lr * coef / n) ** steps
    size = (np.abs(r_w) + np.abs(r_l) + lr * steps / n) * growth
    return _verdict((np.abs(w + v - (r_w + r_l) * growth), 8 * U * (steps + 1) * size))


def centred(r_w: Array, r_l: Array, per_pair: bool = False) -> tuple[Array, Array]:
    """T11: return the scores less the mean of all 2N, or, ``per_pair``, each pair's scores less their own mean s/2."""
    half = r_w / 2 + r_l / 2
    c = half if per_pair else np.mean(half)
    return r_w - c, r_l - c


def centring(centre: Centring, r_w: Array, r_l: Array, per_pair: bool = False) -> Verdict:
    """T11: ``centre`` keeps every margin and pairwise probability, and of all shifts leaves the least mean s^2: by one
    constant s_i - mean s, whose mean is 0 and whose spread is what it was; by one shift per pair, 0.

    Bound: on d that of T13, and the roundings of both differences; sigma is 1/4-Lipschitz and rounded 4 times. On s,
    at most 2n + 8 roundings of the scores' sizes, before and after, and a few of the smallest steps for the halves.
    """
    w, v = centre(r_w, r_l)
    d, moved, s, left = r_w - r_l, w - v, r_w + r_l, w + v
    cost = U * (1 + 2 * U) * (np.abs(w) + np.abs(v) + np.abs(d) + np.abs(moved))
    size = np.abs(r_w) + np.abs(r_l) + np.abs(w) + np.abs(v)
    rounding = 2 * (len(s) + 4) * U * (size + np.mean(size)) + 2.0**-1070
    return _verdict(
        (np.abs(moved - d), cost),
        (np.abs(sigmoid(moved) - sigmoid(d)), cost / 4 + 8 * U),
        (abs(np.mean(left)), np.mean(rounding)),
        (np.abs(left - (0 if per_pair else s - np.mean(s))), rounding),
    )


def jensen(r_w: Array, r_l: Array) -> Verdict:
    """T12: (mean s)^2 <= mean s^2: the sum-to-zero penalty never exceeds the squared sum. Bound: 4 roundings of
    each, and two of the smallest steps where the squares underflow.
    """
    few = 8 * U * SquaredSum().value(r_w, r_l) + 4 * 2.0**-1074
    return _verdict((SumToZero().value(r_w, r_l), SquaredSum().value(r_w, r_l) + few))


def batch_expectation(penalty: ScoreLoss, r_w: Array, r_l: Array, size: int) -> Verdict:
    """T12: over all minibatches of ``size`` of N pairs the mean of the sum-to-zero penalty is
    (mean s)^2 + (Var s/size)*(N - size)/(N - 1): it depends on the batch size.

    Bound: 8u(N + 8) of mean s^2, the size of every term on either side, and a few of the smallest steps.
    """
    n, s = len(r_w), r_w + r_l
    batches = [list(batch) for batch in combinations(range(n), size)]
    found = math.fsum(penalty.value_and_grad(r_w[b], r_l[b])[0] for b in batches) / len(batches)
    expected = np.mean(s) ** 2 + np.var(s) / size * (n - size) / max(n - 1, 1)
    return _verdict((abs(found - expected), 8 * U * (n + 8) * np.mean((np.abs(r_w) + np.abs(r_l)) ** 2) + 2.0**-1070))


def shift_cost(r_w: Array, r_l: Array, shift: float, unit: float) -> Verdict:
    """T13: in a format with unit roundoff ``unit``, shifting both scores moves d by at most unit*(|r_w + c| + |r_l +
    c|).

    The arrays carry the format (float32: unit = 2^-24); differences are taken in float64, exactly for float32 scores
    below 2^29.
    """
    kind = r_w.dtype.type
    w, v = r_w + kind(shift), r_l + kind(shift)
    before, after = r_w.astype(float) - r_l, w.astype(float) - v
    # The rounded sums stand for the exact ones: |fl(x)| >= |x|(1 - unit), hence the factor.
    size = (np.abs(w.astype(float)) + np.abs(v.astype(float))) * (1 + 2 * unit)
    return _verdict((np.abs(after - before), unit * size))


PAIRWISE = BradleyTerry()
"""The pairwise loss of the theorems, without margin or smoothing."""
