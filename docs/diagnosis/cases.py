"""The cases of which the cause is known: what each one is, and the verdict it must get.

A case draws its pairs, sizes and strengths from the generator that it is given; nothing of it is fixed but its cause.
The verdict of a diagnosis is the first of its findings, or "healthy". Expected verdicts stand here, beside the cause.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from training import RIGHT, checkpoints, descend, form, newton, rest, scores, trl_log

import refrm
import refrm.datasets
from refrm.diagnosis import diagnose, diagnose_log

CASES = []


@dataclass(frozen=True)
class Case:
    """A known cause, the first finding it must lead to, the lookalike that must be named, and how it is made."""

    name: str
    cause: str
    expected: str
    make: Any
    lookalike: str = ""


def case(cause, expected, lookalike=""):
    """Add a case; its name is the function's."""

    def add(make):
        CASES.append(Case(make.__name__.replace("_", "-"), cause, expected, make, lookalike))
        return make

    return add


def problem(rng, n=2000, p=16, strength=None):
    """Return pairs that share features within a pair: without the penalty, scores drift and spread (T6)."""
    strength = rng.uniform(1.0, 2.5) if strength is None else strength
    seed = int(rng.integers(2**31))
    return refrm.make_pairs(n, p, shared=rng.uniform(3.0, 6.0), strength=strength, seed=seed)


def split(pairs, n):
    """Return the first n pairs, and the others."""
    return tuple(refrm.datasets.Pairs(pairs.chosen[k], pairs.rejected[k]) for k in (slice(n), slice(n, None)))


def coefficient(rng):
    """Return a coefficient of the penalty."""
    return float(rng.choice([0.02, 0.05, 0.1, 0.2]))


def healthy_scores(rng, n=2000):
    """Return scores of held-out pairs by a model that was trained rightly on others."""
    train, test = split(problem(rng, n + 2000), 2000)
    r_w, r_l = scores(test, newton(train, coefficient(rng)))
    own = rng.uniform(0.1, 0.4) * np.std(r_w - r_l) * rng.standard_normal(n)  # what the prompt is worth
    return r_w + own, r_l + own


def mlp_scores(rng, coef, shared):
    """Return scores of held-out pairs by a small MLP that Adam trained with refrm's kernels."""
    train, test = split(refrm.make_pairs(6000, 16, shared=shared, seed=int(rng.integers(2**31))), 4000)
    loss = refrm.BradleyTerry() + coef * refrm.SquaredSum()
    objective = refrm.Objective(refrm.MLP(16, (16,), head_bias=True), loss, train.chosen, train.rejected)
    theta = refrm.minimize(objective, refrm.Adam(steps=1500, lr=0.01), record_every=1500).theta
    return tuple(objective.model.reward(theta, x) for x in (test.chosen, test.rejected))


def separable(rng, shared, n=400, p=32):
    """Return pairs that some linear model ranks right, all of them: the labels follow the true reward."""
    pairs = refrm.make_pairs(n, p, shared=shared, strength=rng.uniform(2, 4), seed=int(rng.integers(2**31)))
    d = pairs.reward_w - pairs.reward_l
    swap = d < 0
    chosen, rejected = (
        np.where(swap[:, None], b, a) for a, b in ((pairs.chosen, pairs.rejected), (pairs.rejected, pairs.chosen))
    )
    wide = np.abs(d) > 1
    return refrm.datasets.Pairs(chosen[wide], rejected[wide])


INVISIBLE = {
    "M1": "the margins of other pairs act like margins drawn at random",
    "M5": "the margins of other pairs act like margins drawn at random",
    "L4": "it differs from the right loss only where a model is most wrong",
    "L10": "it differs from the right loss only where a pair is won beyond doubt",
    "F1": "scores of the usual size have margins far above the spacing",
}
"""Mistakes of the catalogue that scores and logs do not show; `refrm check` of the loss does."""


# --- mistakes of the catalogue, trained


def trained(rng, mistake, variant=0, margin=False, eps=0.0, coef=None, bias=False):
    """Return the diagnosis of the pairs trained on, at rest under a mistaken loss, told the intended coefficient.

    Without a bias the head cannot have margins at s = 0 here, and the penalty's identity (T8) is not 0 = 0.
    """
    pairs = problem(rng)
    coef = coefficient(rng) if coef is None else coef
    m = rng.choice([0.0, 0.5, 1.0, 2.0], len(pairs.chosen)) if margin else None
    theta = rest(pairs, form(mistake, variant), m, bias, coef=coef, label_smoothing=eps)
    return diagnose(*scores(pairs, theta), margin=m, coef=coef, label_smoothing=eps, converged=True)


@case("R1: the penalty is on the squared difference", "bound-violated", "squared-difference")
def squared_difference(rng):
    return trained(rng, "squared-difference")


@case("R2: the coefficient is negative", "bound-violated", "negative-coefficient")
def negative_coefficient(rng):
    pairs, coef = problem(rng), coefficient(rng)
    kept, _ = descend(pairs, form("negative-coefficient"), 60, 10, coef=coef)
    return diagnose(**checkpoints(pairs, kept), coef=coef)


@case("R6: the penalty is subtracted, as printed; seen in a log", "impossible-loss", "minus-sign")
def minus_sign(rng):
    pairs, coef = problem(rng), coefficient(rng)
    _, records = descend(pairs, form("minus-sign"), 400, 5, 64, seed=int(rng.integers(2**31)), coef=coef)
    return diagnose_log(trl_log(records))


@case("R3: the penalty is on the sum of squares", "coefficient-mismatch", "sum-of-squares")
def sum_of_squares(rng):
    return trained(rng, "sum-of-squares")


@case("R4: the penalty has a factor 1/2 too many", "coefficient-mismatch", "factor-of-two")
def factor_half(rng):
    return trained(rng, "factor-of-two", 0)


@case("R4: the penalty has a factor 4 too many", "coefficient-mismatch", "factor-of-two")
def factor_four(rng):
    return trained(rng, "factor-of-two", 3)


@case("R5: the penalty is on the batch's mean, times the batch; in one batch", "bound-violated", "batch-sum")
def batch_sum(rng):
    return trained(rng, "batch-sum")


@case("R8: the penalty is on the square of the mean", "bound-violated", "sum-to-zero")
def sum_to_zero(rng):
    return trained(rng, "sum-to-zero")


@case("R7: the penalty is multiplied by lambda twice", "bound-violated", "penalty-twice")
def penalty_twice(rng):
    return trained(rng, "penalty-twice", coef=float(rng.choice([0.05, 0.1])))


@case("R9: the penalty is missing", "bound-violated", "penalty-missing")
def penalty_missing(rng):
    return trained(rng, "penalty-missing")


@case("R9: the penalty is missing, and no coefficient is given", "per-prompt-shift", "penalty-missing")
def no_penalty(rng):
    pairs = refrm.make_pairs(
        2000, 16, shared=rng.uniform(5, 8), strength=rng.uniform(1, 2), seed=int(rng.integers(2**31))
    )
    return diagnose(*scores(pairs, newton(pairs, 0.0)))


@case("R9: an MLP without the penalty: held-out pairs", "per-prompt-shift", "penalty-missing")
def no_penalty_mlp(rng):
    return diagnose(*mlp_scores(rng, 0.0, rng.uniform(6, 9)))


@case("M2: the margin is added", "coefficient-mismatch", "margin-sign")
def margin_sign(rng):
    return trained(rng, "margin-sign", margin=True)


@case("M3: the margin is ignored", "coefficient-mismatch", "margin-ignored")
def margin_ignored(rng):
    return trained(rng, "margin-ignored", margin=True)


@case("M4: the margin is outside the sigmoid; seen in a log", "non-finite", "margin-outside")
def margin_outside(rng):
    _, records = descend(problem(rng), form("margin-outside"), 50, 5, margin=np.full(2000, rng.uniform(0.1, 0.9)))
    return diagnose_log(trl_log(records))


@case("L1: the logarithm is missing", "coefficient-mismatch", "missing-log")
def missing_log(rng):
    return trained(rng, "missing-log")


@case("L1: the logarithm is missing; seen in a log", "impossible-loss", "missing-log")
def missing_log_log(rng):
    _, records = descend(problem(rng), form("missing-log"), 400, 5, 64, seed=int(rng.integers(2**31)), coef=0.1)
    return diagnose_log(trl_log(records))


@case("L3: the loss is log(1 + exp(-d)), in float32; seen in a log", "non-finite", "naive-log-exp")
def naive_log_exp(rng):
    pairs = problem(rng)
    single = refrm.datasets.Pairs(pairs.chosen.astype(np.float32), pairs.rejected.astype(np.float32))
    _, records = descend(single, form("naive-log-exp"), 200, 5, 64, seed=int(rng.integers(2**31)), speed=300.0)
    return diagnose_log(trl_log(records))


@case("L5: the argument is divided by the size of the scores", "non-finite", "normalised-argument")
def normalised_argument(rng):
    pairs = problem(rng)
    kept, _ = descend(pairs, form("normalised-argument"), 5, 5)  # scores begin at 0
    return diagnose(*scores(pairs, kept[-1][1]))


@case("L6: chosen and rejected are swapped in the loss", "swapped-columns", "swapped")
def swapped_loss(rng):
    return trained(rng, "swapped")


@case("L8: eps and 1 - eps are exchanged", "swapped-columns", "smoothing-flipped")
def smoothing_flipped(rng):
    return trained(rng, "smoothing-flipped", eps=rng.uniform(0.05, 0.15))


@case("L9: label smoothing is ignored", "coefficient-mismatch", "smoothing-ignored")
def smoothing_ignored(rng):
    return trained(rng, "smoothing-ignored", eps=rng.uniform(0.05, 0.15))


@case("N1: NaN scores count as 0 in the loss", "non-finite")
def nan_hidden(rng):
    pairs = problem(rng)
    theta = rest(pairs, form("nan-hidden"), coef=0.1)
    r_w, r_l = scores(pairs, theta)
    r_w[rng.choice(2000, 3, replace=False)] = np.nan  # responses on which the model overflows
    return diagnose(r_w, r_l, coef=0.1)


@case("D5: every chosen score meets every rejected one", "coefficient-mismatch")
def score_broadcast(rng):
    pairs = problem(rng, 400)
    coef = coefficient(rng)
    return diagnose(*scores(pairs, rest(pairs, form("score-broadcast"), coef=coef)), coef=coef, converged=True)


@case("G1: the rejected side gets no gradient", "drift", "detached-side")
def detached_side(rng):
    pairs = problem(rng)
    kept, _ = descend(pairs, form("detached-side"), 1000, 50)
    return diagnose(**checkpoints(pairs, kept))


@case("D1: the loss is the sum; at rest it is the same", "healthy")
def sum_for_mean(rng):
    return trained(rng, "sum-for-mean", bias=True)


@case("L2: -log(sigmoid(d)) in float64; right in its range", "healthy")
def naive_in_range(rng):
    return trained(rng, "naive-log-sigmoid", bias=True)


@case("G2: the slope is sigma(d) - 1; right in its range", "healthy")
def slope_cancels(rng):
    return trained(rng, "slope-cancels", bias=True)


@case("L7: softplus is linear above 20", "healthy")
def softplus_threshold(rng):
    return trained(rng, "softplus-threshold", bias=True)


# --- inflation and its neighbours, trained


@case("inflation without the penalty, over checkpoints", "drift", "penalty-missing")
def drift_of_checkpoints(rng):
    pairs = separable(rng, rng.uniform(3, 6))
    kept, _ = descend(pairs, RIGHT, 400, 20)
    return diagnose(**checkpoints(pairs, kept))


@case("inflation without the penalty; seen in a log", "drift", "penalty-missing")
def drift_in_a_log(rng):
    _, records = descend(separable(rng, rng.uniform(3, 6)), RIGHT, 400, 2, 128, seed=int(rng.integers(2**31)))
    return diagnose_log(trl_log(records))


@case("separable pairs: margins grow in spite of the penalty", "separable-margin-growth")
def separable_pairs(rng):
    pairs = separable(rng, rng.uniform(0.5, 1.5))
    kept, _ = descend(pairs, RIGHT, 20000, 1000, speed=1.9, coef=0.02)
    return diagnose(**checkpoints(pairs, kept), coef=0.02)


@case("separable pairs, margins grow; seen in a log", "separable-margin-growth")
def separable_log(rng):
    pairs, seed = separable(rng, rng.uniform(0.5, 1.5)), int(rng.integers(2**31))
    _, records = descend(pairs, RIGHT, 12000, 20, 64, seed, 1.9, coef=0.02)
    return diagnose_log(trl_log(records))


@case("trained for too long on few pairs: held-out pairs", "miscalibrated")
def overfitted(rng):
    train, test = split(problem(rng, 2240, 64), 240)
    return diagnose(*scores(test, newton(train, 0.001)), coef=None)


# --- faults of data and files, injected into scores of rightly trained models


@case("a constant on all scores", "global-shift")
def constant_added(rng):
    r_w, r_l = healthy_scores(rng)
    c = rng.choice([-1, 1]) * rng.uniform(20, 500)
    return diagnose(r_w + c, r_l + c)


@case("a constant on all scores; seen in a log", "global-shift")
def constant_in_a_log(rng):
    _, records = descend(problem(rng), RIGHT, 400, 4, 64, seed=int(rng.integers(2**31)), coef=0.1)
    c = rng.uniform(20, 300)
    return diagnose_log(trl_log([(step, loss, r_w + c, r_l + c) for step, loss, r_w, r_l in records]))


@case("a constant for each prompt", "per-prompt-shift")
def constants_of_prompts(rng):
    r_w, r_l = healthy_scores(rng)
    group = np.arange(2000) // 4
    c = (rng.uniform(8, 40) * rng.standard_normal(500))[group]
    return diagnose(r_w + c, r_l + c, group=group)


@case("a constant for each pair, prompts unknown", "per-prompt-shift")
def constants_of_pairs(rng):
    r_w, r_l = healthy_scores(rng)
    c = rng.uniform(8, 40) * rng.standard_normal(2000)
    return diagnose(r_w + c, r_l + c)


@case("margins of 0.01 at scores around 1: bfloat16 does not hold them", "precision-loss")
def small_margins(rng):
    r_w, r_l = healthy_scores(rng)
    c, k = rng.uniform(0.6, 0.9) * rng.standard_normal(2000), 0.01 / np.std(r_w - r_l)
    order = rng.random(2000) < 0.5  # margins that small say nothing of the winner
    a, b = np.where(order, r_w, r_l), np.where(order, r_l, r_w)
    return diagnose(k * a + c, k * b + c)


@case("scores multiplied by 3", "miscalibrated")
def too_confident(rng):
    r_w, r_l = healthy_scores(rng)
    k = rng.uniform(2.5, 5)
    return diagnose(k * r_w, k * r_l)


@case("scores multiplied by 0.3", "miscalibrated")
def too_shy(rng):
    r_w, r_l = healthy_scores(rng)
    k = rng.uniform(0.15, 0.35)
    return diagnose(k * r_w, k * r_l)


@case("padded responses scored at the pad: two clusters", "padding-or-wrong-token")
def padded(rng):
    r_w, r_l = healthy_scores(rng)
    for r in (r_w, r_l):
        bad = rng.random(len(r)) < rng.uniform(0.3, 0.8)
        r[bad] = rng.uniform(300, 350) + 5 * rng.standard_normal(bad.sum())
    return diagnose(r_w, r_l)


@case("scores summed over tokens", "padding-or-wrong-token")
def summed_over_tokens(rng):
    r_w, r_l = healthy_scores(rng)
    lengths = rng.gamma(4, 60, (2, len(r_w)))
    k = rng.uniform(0.5, 2)
    return diagnose(r_w + k * lengths[0], r_l + k * lengths[1], length_w=lengths[0], length_l=lengths[1])


@case("every score read at a wrong token", "padding-or-wrong-token")
def wrong_token(rng):
    r = rng.uniform(300, 350) + 3 * rng.standard_normal((2, 2000))
    return diagnose(*r)


@case("columns swapped in the file", "swapped-columns")
def swapped_file(rng):
    r_w, r_l = healthy_scores(rng)
    return diagnose(r_l, r_w)


@case("columns swapped in one of five subsets", "swapped-columns")
def swapped_subset(rng):
    r_w, r_l = healthy_scores(rng, 4000)
    subset = np.arange(4000) % 5
    bad = subset == rng.integers(5)
    return diagnose(np.where(bad, r_l, r_w), np.where(bad, r_w, r_l), subset=subset.astype(str))


@case("columns swapped; seen in a log", "swapped-columns")
def swapped_log(rng):
    _, records = descend(problem(rng), form("swapped"), 400, 4, 64, seed=int(rng.integers(2**31)), coef=0.1)
    return diagnose_log(trl_log(records))


@case("scores saved as whole numbers", "rounded-scores")
def whole_numbers(rng):
    r_w, r_l = healthy_scores(rng)
    return diagnose(np.round(r_w), np.round(r_l))


@case("scores around 300 saved in bfloat16", "rounded-scores")
def saved_in_bfloat16(rng):
    r_w, r_l = healthy_scores(rng)
    c = rng.uniform(260, 500)
    bits = [np.ascontiguousarray(r + c, np.float32).view(np.uint32) + np.uint32(0x8000) for r in (r_w, r_l)]
    return diagnose(*((b & np.uint32(0xFFFF0000)).view(np.float32).astype(float) for b in bits))


@case("a tenth of the pairs is there twice", "duplicated-pairs")
def duplicates(rng):
    r_w, r_l = healthy_scores(rng)
    again = rng.choice(2000, int(rng.uniform(100, 400)))
    order = rng.permutation(2000 + len(again))
    return diagnose(*(np.concatenate([r, r[again]])[order] for r in (r_w, r_l)))


@case("responses equal after truncation", "tied-pairs")
def truncated(rng):
    r_w, r_l = healthy_scores(rng)
    same = rng.random(2000) < rng.uniform(0.06, 0.2)
    return diagnose(r_w, np.where(same, r_w, r_l))


@case("an untrained head of zeros", "constant-head")
def constant(rng):
    r = rng.uniform(-2, 2) + 1e-5 * rng.standard_normal((2, 2000))
    return diagnose(*r)


@case("the rejected side is a constant", "constant-head")
def constant_side(rng):
    r_w, _ = healthy_scores(rng)
    return diagnose(r_w, np.full(2000, rng.uniform(-1, 1)))


@case("a head that is not trained; seen in a log", "constant-head")
def constant_log(rng):
    pairs = problem(rng)
    _, records = descend(pairs, form("detached-side", 2), 400, 4, 64, seed=int(rng.integers(2**31)))
    return diagnose_log(trl_log(records))


@case("three scores are NaN or infinite", "non-finite")
def not_finite(rng):
    r_w, r_l = healthy_scores(rng)
    r_w[rng.integers(2000)], r_l[rng.integers(1000)], r_l[1000 + rng.integers(1000)] = np.nan, np.inf, np.nan
    return diagnose(r_w, r_l)


@case("a model that has learned length alone", "length-bias")
def length_learner(rng):
    lengths = rng.gamma(4, 60, (2, 4000))
    x = np.stack([lengths / 120, rng.standard_normal((2, 4000))], axis=2)
    reward = x @ np.array([rng.uniform(2, 4), rng.uniform(0.0, 0.8)])
    won = rng.random(4000) < 1 / (1 + np.exp(reward[1] - reward[0]))
    first = np.where(won, 0, 1)
    rows = np.arange(4000)
    pairs = refrm.datasets.Pairs(x[first, rows], x[1 - first, rows])
    train, test = split(pairs, 2000)
    r_w, r_l = scores(test, newton(train, 0.0))
    c = np.mean(r_w + r_l) / 2
    long = {"length_w": lengths[first, rows][2000:], "length_l": lengths[1 - first, rows][2000:]}
    return diagnose(r_w - c, r_l - c, **long)


# --- healthy runs


def _trained_on(rng):
    pairs, coef = problem(rng), coefficient(rng)
    return diagnose(*scores(pairs, newton(pairs, coef)), coef=coef, converged=True)


def _held_out(rng):
    train, test = split(problem(rng, 4000), 2000)
    coef = coefficient(rng)
    return diagnose(*scores(test, newton(train, coef)), coef=coef)


def _with_columns(rng):
    r_w, r_l = healthy_scores(rng, 3000)
    more = rng.gamma(4, 60, (2, 3000))
    more[0] += rng.uniform(0, 20) * (r_w - r_l)
    more = np.maximum(np.round(more), 1)
    group, subset = np.sort(rng.integers(0, 800, 3000)), rng.integers(0, 12, 3000).astype(str)
    c = 0.3 * rng.standard_normal(800)[group]
    return diagnose(r_w + c, r_l + c, group=group, subset=subset, length_w=more[0], length_l=more[1])


def _checkpoints(rng):
    pairs, coef = problem(rng, 1500, strength=1.0), coefficient(rng)
    kept, _ = descend(pairs, RIGHT, 4000, 200, speed=1.9, coef=coef)
    return diagnose(**checkpoints(pairs, kept), coef=coef)


def _log(rng):
    pairs, coef = problem(rng, 1500, strength=1.0), coefficient(rng)
    _, records = descend(pairs, RIGHT, 1500, 10, 64, seed=int(rng.integers(2**31)), coef=coef, speed=0.5)
    return diagnose_log(trl_log(records), refrm.diagnosis.Settings(coef=coef))


def _two_decimals(rng):
    r_w, r_l = healthy_scores(rng, 4000)
    return diagnose(np.round(r_w, 2), np.round(r_l, 2))


def _margins(rng):
    pairs, coef, eps = problem(rng), coefficient(rng), rng.choice([0.0, 0.05])
    m = rng.choice([0.0, 0.2, 0.4], 2000)
    r_w, r_l = scores(pairs, newton(pairs, coef, m, eps))
    return diagnose(r_w, r_l, margin=m, coef=coef, label_smoothing=float(eps), converged=True)


def _few(rng):
    r_w, r_l = healthy_scores(rng, 60)
    return diagnose(r_w, r_l)


def _single(rng):
    r_w, r_l = healthy_scores(rng, 8000)
    return diagnose(r_w.astype(np.float32), r_l.astype(np.float32), group=np.arange(8000) // 2)


def _mlp(rng):
    return diagnose(*mlp_scores(rng, 0.02, rng.uniform(2, 5)), coef=0.02)


HEALTHY = (_trained_on, _held_out, _with_columns, _checkpoints, _log, _two_decimals, _margins, _few, _single, _mlp)
"""Kinds of healthy runs; seed k is of kind k mod their number."""
