"""Trends over steps: the Theil-Sen slope and Mann-Kendall's test, with ties."""

import math

import numpy as np

from refrm.diagnosis.intervals import Level, two_sided
from refrm.diagnosis.model import Estimate, Trend
from refrm.spec import Array

BLOCKS = 40
"""Steps are averaged into at most so many blocks: that takes out autocorrelation shorter than a block."""

FEW = 12
"""Below so many points hardly a ranking is significant, and the errors of the points themselves must tell."""

AGREED = 0.6
"""Kendall's tau that so few points must have for a trend, besides a difference beyond their errors."""


def theil_sen(x: Array, y: Array, alpha: float = 0.05) -> Estimate:
    """Return the median of the slopes between all points with different x, and Sen's interval, with ties in y."""
    i, j = np.triu_indices(len(x), 1)
    run = x[j] - x[i]
    slopes = np.sort((y[j] - y[i])[run != 0] / run[run != 0])
    if not len(slopes):
        return Estimate(math.nan, -math.inf, math.inf, "theil-sen")
    half = Level(alpha).t(math.inf) * math.sqrt(_variance(y))
    # the interval ends at the slopes of these ranks: Sen (1968)
    low, high = round((len(slopes) - half) / 2) - 1, round((len(slopes) + half) / 2)
    return Estimate(
        float(np.median(slopes)),
        float(slopes[low]) if low >= 0 else -math.inf,
        float(slopes[high]) if high < len(slopes) else math.inf,
        "theil-sen",
    )


def mann_kendall(y: Array) -> float:
    """Return the two-sided p-value of Kendall's S against time, by the normal distribution with ties and continuity."""
    s, variance = _score(y), _variance(y)
    return two_sided((s - np.sign(s)) / math.sqrt(variance)) if variance else 1.0


def _score(y: Array) -> float:
    i, j = np.triu_indices(len(y), 1)
    return float(np.sign(y[j] - y[i]).sum())


def _variance(y: Array) -> float:
    n, ties = len(y), np.unique(y, return_counts=True)[1]
    return float(n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18


def trend(step: Array, y: Array, error: Array | None = None, seed: int = 0, *, late: bool = True) -> Trend | None:
    """Return the trend of a series, or None with fewer than two points.

    With fewer than `FEW` points, and their standard errors given, the slope's interval is from 500 series simulated
    with these errors, and the p-value is twice the smaller one of Mann-Kendall's, which few points cannot make small,
    and that of the difference between last and first point, where tau is at least `AGREED` in size: the errors of
    checkpoints scored on the same pairs are smaller than they look.
    """
    there = np.isfinite(y)
    step, y = step[there], y[there]
    error = None if error is None else error[there]
    if len(y) < 2:
        return None
    half = (step[0] + step[-1]) / 2
    second = step >= half if np.count_nonzero(step >= half) > 1 else np.arange(len(step)) >= len(step) - 2
    later = None
    if late and len(y) > 2:
        later = trend(step[second], y[second], None if error is None else error[second], seed, late=False)
    if len(y) >= FEW or error is None:
        blocks = np.array_split(np.arange(len(y)), min(BLOCKS, len(y)))
        x, means = (np.array([np.mean(values[block]) for block in blocks]) for values in (step, y))
        slope, p = theil_sen(x, means), mann_kendall(means)
    else:
        drawn = y + error * np.random.default_rng(seed).standard_normal((500, len(y)))
        i, j = (k[step[i] != step[j]] for i, j in [np.triu_indices(len(step), 1)] for k in (i, j))
        slopes = np.median((drawn[:, j] - drawn[:, i]) / (step[j] - step[i]), axis=1)
        low, high = np.quantile(slopes, [0.025, 0.975])
        slope = Estimate(theil_sen(step, y).value, float(low), float(high), "bootstrap")
        size = math.hypot(error[0], error[-1])
        agreed = abs(_score(y)) >= AGREED * len(y) * (len(y) - 1) / 2
        p = two_sided((y[-1] - y[0]) / size) if agreed and size else 1.0
        p = min(1.0, 2 * p, 2 * mann_kendall(y))
    per = 1000.0
    scaled = Estimate(slope.value * per, slope.low * per, slope.high * per, slope.how)
    return Trend(scaled, p, slope.value * float(step[-1] - step[0]), len(y), later)
