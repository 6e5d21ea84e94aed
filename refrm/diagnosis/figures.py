"""From sums to figures with intervals."""

import numpy as np

from refrm.diagnosis.calibration import calibrate
from refrm.diagnosis.groups import Effects, effects
from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Estimate, Figures, Histogram, Lengths, Precision
from refrm.diagnosis.precision import FORMATS
from refrm.diagnosis.tally import Tally
from refrm.spec import Array

FIGURE_BINS = 40


def figures(tally: Tally, level: Level) -> Figures:
    """Return the figures of a tally, with intervals at this level."""
    n = float(tally.n)
    if not n:
        return Figures(nonfinite=tally.nonfinite)
    mean, margin, m = tally.moments.central()
    by = effects(tally.groups)
    loss, square = tally.likelihood[4:6] / n
    return Figures(
        n=tally.n,
        nonfinite=tally.nonfinite,
        mean_score=level.mean(mean, m[2, 0], n, by.shift),
        spread=level.deviation(m[2, 0], m[4, 0], n, by.shift),
        mean_margin=level.mean(margin, m[0, 2], n, by.margin),
        std_margin=level.deviation(m[0, 2], m[0, 4], n, by.margin),
        mean_chosen=level.mean(mean + margin / 2, m[2, 0] + m[0, 2] / 4 + m[1, 1], n, by.shift),
        mean_rejected=level.mean(mean - margin / 2, m[2, 0] + m[0, 2] / 4 - m[1, 1], n, by.shift),
        min_score=tally.low,
        max_score=tally.high,
        **_energies(mean, margin, m, n, level, by),
        accuracy=_accuracy(tally, level, by.accuracy),
        ties=level.share(tally.tied, n, by.accuracy),
        loss=level.mean(float(loss), float(square - loss**2), n, by.accuracy),
        calibration=calibrate(tally, level, by.accuracy),
        precision={
            name: Precision(level.share(row[0], n, by.margin), level.share(row[1], n, by.margin), float(row[2] / n))
            for name, row in zip(FORMATS, tally.precision, strict=True)
        },
        lengths=_lengths(tally, level, by),
        margins=_histogram(tally.sample.rows[:, 0] - tally.sample.rows[:, 1]),
        scores=_histogram(tally.sample.rows[:, 0] / 2 + tally.sample.rows[:, 1] / 2),
    )


def _energies(h: float, d: float, m: Array, n: float, level: Level, by: Effects) -> dict[str, Estimate]:
    """Return mean s^2 and its share of the energy; variances by the delta method, from central moments."""
    v, w = m[2, 0], m[0, 2]
    s2, d2 = 4 * (h * h + v), d * d + w
    var_s2 = 16 * (4 * h * h * v + 4 * h * m[3, 0] + m[4, 0] - v * v)
    var_d2 = 4 * d * d * w + 4 * d * m[0, 3] + m[0, 4] - w * w
    cov = 4 * (4 * h * d * m[1, 1] + 2 * h * m[1, 2] + 2 * d * m[2, 1] + m[2, 2] - v * w)
    total = s2 + d2
    if not total:
        return {"mean_square_sum": level.mean(0.0, 0.0, n), "invisible": Estimate(0.0, 0.0, 1.0)}
    a, b = s2 / total, d2 / total
    share = level.mean(a, (b * b * var_s2 + a * a * var_d2 - 2 * a * b * cov) / total**2, n, max(by.shift, by.margin))
    return {
        "mean_square_sum": level.mean(s2, var_s2, n, by.shift),
        "invisible": Estimate(share.value, max(0.0, share.low), min(1.0, share.high)),
    }


def _accuracy(tally: Tally, level: Level, effect: float) -> dict[str, Estimate]:
    n, right, tied = tally.n, tally.right, tally.tied
    return {
        "wrong": level.share(right, n, effect),
        "half": level.share(right + tied / 2, n, effect),
        "dropped": level.share(right, n - tied, effect),
        "correct": level.share(right + tied, n, effect),
    }


def _lengths(tally: Tally, level: Level, by: Effects) -> Lengths | None:
    sums = tally.lengths
    if not sums.n:
        return None
    found = [
        level.correlation(sums.correlation(i, j), sums.n / effect)
        for i, j, effect in ((2, 5, by.margin), (0, 3, by.shift), (1, 4, by.shift))
    ]
    longer, shorter = (level.share(right, n, by.accuracy) if n else None for n, right in sums.longer)
    return Lengths(found[0], found[1], found[2], longer, shorter)


def _histogram(x: Array) -> Histogram | None:
    """Return counts between the quantiles 0.5% and 99.5%, and what is beyond them in the outer bins."""
    low, high = np.quantile(x, [0.005, 0.995])
    if not high - low > 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - 0.5 * max(1.0, abs(low) * 1e-9), high + 0.5 * max(1.0, abs(high) * 1e-9)
    edges = np.linspace(low, high, FIGURE_BINS + 1)
    counts = np.histogram(np.clip(x, low, high), edges)[0]
    return Histogram(tuple(edges.tolist()), tuple(counts.astype(float).tolist()))
