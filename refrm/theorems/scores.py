"""The theorems about losses of scores alone, whatever model gives them."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from refrm.gradcheck import check_gradient
from refrm.losses import BradleyTerry, SquaredSum, SumToZero
from refrm.spec import Array, sigmoid
from refrm.theorems.verdict import Add, Centring, ScoreLoss, U, Verdict, verdict

PAIRWISE = BradleyTerry()
"""The pairwise loss of the theorems, without margin or smoothing."""


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
    return verdict(
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
    return verdict(*((check.residual, check.bound) for check in report.checks))


def decoupling(pairwise: ScoreLoss, penalty: ScoreLoss, r_w: Array, r_l: Array) -> Verdict:
    """T3: the penalty puts no force on d, the pairwise loss none on s, and so their gradients are orthogonal:
    exactly.
    """
    _, p_w, p_l = pairwise.value_and_grad(r_w, r_l)
    _, q_w, q_l = penalty.value_and_grad(r_w, r_l)
    return verdict((np.abs(q_w - q_l), 0.0), (np.abs(p_w + p_l), 0.0), (np.abs(p_w * q_w + p_l * q_l), 0.0))


def uniqueness(penalty: ScoreLoss, r_w: Array, r_l: Array) -> Verdict:
    """T4: a penalty whose pairs each give a quadratic form Q, symmetric under exchange and 0 on every (a, -a), is
    c*mean s^2, c its value on one pair (1/2, 1/2); its gradient is 2*c*s/N on either side.

    Residuals: both hypotheses, the conclusion, its gradient. Bound: the values are sums of n terms of at most
    c*(|r_w| + |r_l|)^2, rounded 8 times, and a few of the smallest steps; on (a, -a) every term is 0 exactly.
    """
    n, s, size = len(r_w), r_w + r_l, np.abs(r_w) + np.abs(r_l)
    half, one = (r_w - r_l) / 2, np.full(1, 0.5)
    value, g_w, g_l = penalty.value_and_grad(r_w, r_l)
    c = penalty.value_and_grad(one, one)[0]
    rounding, tiny = 8 * U * (n + 4) * abs(c), 2.0**-1070
    return verdict(
        (abs(value - penalty.value_and_grad(r_l, r_w)[0]), rounding * np.mean(size**2) + tiny),
        (abs(penalty.value_and_grad(half, -half)[0]), 0.0),
        (abs(value - c * np.mean(s * s)), rounding * np.mean(size**2) + tiny),
        (np.abs(g_w - 2 * c * s / n), rounding * size / n + tiny),
        (np.abs(g_l - 2 * c * s / n), rounding * size / n + tiny),
    )


def function_of_sum(penalty: ScoreLoss, r_w: Array, r_l: Array, move: Any) -> Verdict:
    """T4: a differentiable penalty without force on d is a function of the sums s alone: g_w = g_l, and moving the
    margins by 2*``move`` at fixed sums does not change the value.

    Bound, for penalties convex in s: rounding both scores and their sum moves s by at most 2u(|r_w| + |r_l| + 2|move|),
    and a convex function by at most that times the larger of its two slopes; means and squares round n + 8 times.
    """
    n = len(r_w)
    value, g_w, g_l = penalty.value_and_grad(r_w, r_l)
    after, a_w, _ = penalty.value_and_grad(r_w + move, r_l - move)
    slope = np.maximum(np.abs(g_w), np.abs(a_w))
    size = np.abs(r_w) + np.abs(r_l) + 2 * np.abs(move)
    rounding = 4 * U * (n + 8) * (np.sum(slope * size) + np.max(slope) * np.sum(size) + abs(value) + abs(after))
    return verdict((np.abs(g_w - g_l), 0.0), (abs(after - value), rounding + 2.0**-1070))


def _matrix(gradient: Callable[[Array], Array], size: int) -> Array:
    """Return A of the quadratic form r'Ar (and what is linear, left out) from its gradient 2Ar."""
    return np.array([gradient(unit) - gradient(0 * unit) for unit in np.eye(size)]) / 2


def pair_form(penalty: ScoreLoss, n: int) -> Verdict:
    """T4: a quadratic penalty of ``n`` pairs (n >= 2), invariant under exchange within each pair and under any order of
    the pairs, is a*mean d^2 + b*mean s^2 + c*(mean s)^2: three numbers (`refrm.losses.Loss.penalty`).

    Residual: what its matrix in (d, s), recovered from the gradient, has beside those three. Bound: 8 roundings of
    entries, each the sum of four.
    """

    def gradient(r: Array) -> Array:
        return np.concatenate(penalty.value_and_grad(r[:n], r[n:])[1:])

    unit = np.eye(n)
    to_scores = np.block([[unit, unit], [-unit, unit]]) / 2  # r_w = (s + d)/2, r_l = (s - d)/2
    found = to_scores.T @ _matrix(gradient, 2 * n) @ to_scores
    on_d, both = found[0, 0], found[n, n + 1]
    form = np.zeros((2 * n, 2 * n))
    form[:n, :n], form[n:, n:] = on_d * unit, both + (found[n, n] - both) * unit
    return verdict((np.abs(found - form), 32 * U * np.abs(found).max()))


def responses_form(gradient: Callable[[Array], Array], k: int) -> Verdict:
    """T4 for ``k`` responses: a quadratic form without force on any difference r_i - r_j is c*(r_1 + ... + r_k)^2.

    Residuals: the force on neighbours' differences, that is the differences of the rows of its matrix A, recovered from
    the gradient 2Ar; then A - c*11'. Bound: 8 roundings of entries, and of their mean c.
    """
    a = _matrix(gradient, k)
    rounding = 8 * U * (k + 1) * np.abs(a).max()
    return verdict((np.abs(np.diff(a, axis=0)), rounding), (np.abs(a - np.mean(a)), rounding))


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
    return verdict(
        (np.abs(w + v - s * (1 - 4 * lr * coef / n) ** steps), rounding),
        (np.abs(w - v - np.log(wrightomega(c))), lr * t / (2 * n * n) + rounding + 8 * U * (np.abs(c) + 1)),
    )


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
    return verdict((np.abs(w + v - (r_w + r_l) * growth), 8 * U * (steps + 1) * size))


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
    cost = U * (1 + 8 * U) * (np.abs(w) + np.abs(v) + np.abs(d) + np.abs(moved))
    size = np.abs(r_w) + np.abs(r_l) + np.abs(w) + np.abs(v)
    rounding = 2 * (len(s) + 4) * U * (size + np.mean(size)) + 2.0**-1070
    return verdict(
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
    return verdict((SumToZero().value(r_w, r_l), SquaredSum().value(r_w, r_l) + few))


def batch_expectation(penalty: ScoreLoss, r_w: Array, r_l: Array, size: int) -> Verdict:
    """T12: over all minibatches of ``size`` of N pairs the mean of the sum-to-zero penalty is
    (mean s)^2 + (Var s/size)*(N - size)/(N - 1): it depends on the batch size.

    Bound: 8u(N + 8) of mean s^2, the size of every term on either side, and a few of the smallest steps.
    """
    n, s = len(r_w), r_w + r_l
    batches = [list(batch) for batch in combinations(range(n), size)]
    found = math.fsum(penalty.value_and_grad(r_w[b], r_l[b])[0] for b in batches) / len(batches)
    expected = np.mean(s) ** 2 + np.var(s) / size * (n - size) / max(n - 1, 1)
    return verdict((abs(found - expected), 8 * U * (n + 8) * np.mean((np.abs(r_w) + np.abs(r_l)) ** 2) + 2.0**-1070))


def shift_cost(r_w: Array, r_l: Array, shift: float, unit: float, add: Add = np.add) -> Verdict:
    """T13: in a format with unit roundoff ``unit``, shifting both scores moves d by at most unit*(|r_w + c| + |r_l +
    c|).

    The arrays carry the format (float32: unit = 2^-24), or ``add`` is its addition, of numbers that it has, in a wider
    one. Differences are taken in float64, exactly for float32 scores below 2^29; the bound itself is rounded there.
    """
    c = r_w.dtype.type(shift)
    w, v = add(r_w, c), add(r_l, c)
    before, after = r_w.astype(float) - r_l, w.astype(float) - v
    # The rounded sums may stand for the exact ones: |fl(x) - x| <= unit*|fl(x)| as well.
    size = np.abs(w.astype(float)) + np.abs(v.astype(float))
    return verdict((np.abs(after - before), unit * size * (1 + 8 * U)))


def smoothed_minimum(loss: ScoreLoss, label_smoothing: float, margin: float = 0.0) -> Verdict:
    """T14: with label smoothing eps > 0 the loss of a pair is smallest at d = margin + log((1 - eps)/eps), where its
    slope is 0.

    Bound: the slope is 1/4-Lipschitz in d and rounds two terms of size eps; d - margin is rounded by u(2|d| + |m|). One
    to either side the loss is larger.
    """
    zero, best = np.zeros(1), np.full(1, margin + math.log((1 - label_smoothing) / label_smoothing))
    value, slope, _ = loss.value_and_grad(best, zero)
    beside = min(loss.value_and_grad(best + step, zero)[0] for step in (-1, 1))
    return verdict((np.abs(slope), U * (2 * np.abs(best) + abs(margin) + 4)), (value - beside, 0.0))
