"""How probabilities sigma(d) compare with outcomes, from the bins of a tally and its sample.

The outcome of a pair is that the chosen response won, so a margin d claims to be right with confidence sigma(|d|) and
is right where d > 0; a tie is half right.
"""

import math

import numpy as np

from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Bin, Calibration, Estimate
from refrm.diagnosis.tally import BINS, Tally
from refrm.spec import Array, sigmoid, softplus

DRAWS = 400
LEAST = 5.0
"""The least variance of the number of right pairs for which its distribution counts as normal."""


def calibrate(tally: Tally, level: Level, effect: float = 1.0) -> Calibration:
    """Return the calibration of the pairs of a tally."""
    n = float(tally.n)
    loss, loss2, brier, brier2 = tally.likelihood[:4]
    count, right, unsure = tally.bins
    right = right.copy()
    right[BINS - 1] += tally.tied / 2  # at d = 0 confidence is 1/2: the last bin
    there = count > 0
    count, right, unsure = count[there], right[there], unsure[there]
    confidence, accuracy = 1 - unsure / count, right / count
    gap = float(np.sum(count * confidence) - right.sum()) / n
    ece = float(np.sum(np.abs(right - count * confidence))) / n
    noise = float(np.sum(np.sqrt(2 / math.pi * effect * count * confidence * (1 - confidence)))) / n
    drawn = np.random.default_rng(tally.settings.seed).binomial(count.astype(np.int64), accuracy, (DRAWS, len(count)))
    off = right - count * confidence + (drawn - right) * math.sqrt(effect)
    low, high = np.quantile(np.abs(off).sum(axis=1) / n, [0.025, 0.975])
    factor, saved = scaling(tally, level, effect)
    return Calibration(
        log_loss=level.mean(loss / n, loss2 / n - (loss / n) ** 2, n, effect),
        brier=level.mean(brier / n, brier2 / n - (brier / n) ** 2, n, effect),
        ece=Estimate(ece, max(0.0, 2 * ece - float(high)), max(0.0, 2 * ece - float(low)), "bootstrap"),
        ece_noise=noise,
        gap=level.mean(gap, (brier - tally.tied / 4) / n - gap**2, n, effect),
        factor=factor,
        saved=saved,
        p_value=p_value(count, right, unsure, effect),
        curve=tuple(
            Bin(float(c), float(q), level.share(float(k), float(c), effect))
            for c, q, k in zip(count[::-1], confidence[::-1], right[::-1], strict=True)
        ),
    )


def p_value(count: Array, right: Array, unsure: Array, effect: float = 1.0) -> float:
    """Return the p-value of sigma(d) being right: chi-square over bins, the most confident pooled to a variance of
    `LEAST`; where that is not in all of the bins, the Poisson probability of so many errors.
    """
    from scipy.special import chdtrc, pdtr, pdtrc

    expected, variance = count - unsure, unsure * (1 - unsure / count)
    if variance.sum() < LEAST:
        errors, mean = math.floor(count.sum() - right.sum()), float(unsure.sum())
        more = float(pdtrc(errors - 1, mean)) if errors else 1.0
        return min(1.0, 2 * min(more, float(pdtr(errors, mean))))
    total = freedom = 0.0
    miss = pooled = 0.0
    rest = float(variance.sum())
    for r, e, v in zip(right, expected, variance, strict=True):
        miss, pooled, rest = miss + r - e, pooled + v, rest - v
        if pooled >= LEAST and (rest >= LEAST or rest <= 1e-9):
            total, freedom = total + miss * miss / pooled, freedom + 1
            miss = pooled = 0.0
    if pooled > 0:
        total, freedom = total + miss * miss / pooled, freedom + 1
    return float(chdtrc(freedom, total / effect))


def scaling(tally: Tally, level: Level, effect: float = 1.0) -> tuple[Estimate | None, float | None]:
    """Return the a that minimises mean softplus(-a*d) over the sample, and the log loss that it saves.

    None where there is no finite one: all margins of the sample are on one side, or as good as 0.
    """
    d = tally.sample.rows[:, 0] - tally.sample.rows[:, 1]
    scale = float(np.max(np.abs(d)))
    if not (np.any(d > 0) and np.any(d < 0)) or scale < 1e-100:
        return None, None
    d = d / scale
    a = 0.0
    for _ in range(200):  # Newton with halving; the objective is convex, and finite everywhere
        slope, bend = _derivatives(d, a)
        step, value = slope / bend, float(np.mean(softplus(-a * d)))
        while np.mean(softplus(-(a - step) * d)) > value and abs(step) > 1e-12 * (1 + abs(a)):
            step /= 2
        a -= step
        if abs(step) <= 1e-9 * (1 + abs(a)):
            break
    doubt = d * sigmoid(-a * d)
    half = level.t(len(d) / effect) * math.sqrt(effect * float(np.mean(doubt * doubt)) / len(d)) / _derivatives(d, a)[1]
    saved = float(np.mean(softplus(-scale * d)) - np.mean(softplus(-a * d)))
    how = "asymptotic" if tally.sample.rate == 1 else "sampled"
    return Estimate(a / scale, (a - half) / scale, (a + half) / scale, how), max(0.0, saved)


def _derivatives(d: Array, a: float) -> tuple[float, float]:
    doubt, sure = sigmoid(-a * d), sigmoid(a * d)
    return -float(np.mean(d * doubt)), max(float(np.mean(d * d * doubt * sure)), 1e-300)
