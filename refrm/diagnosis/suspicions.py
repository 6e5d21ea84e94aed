"""Marks of what is not inflation: rounding, two clusters, duplicates. From a tally's sample and its table of pairs."""

import math
from typing import NamedTuple

import numpy as np

from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Estimate
from refrm.diagnosis.precision import FORMATS
from refrm.diagnosis.sampling import Table
from refrm.spec import Array

ENOUGH = 50
"""Scores of which a grid can be told."""


class Grid(NamedTuple):
    """What scores are rounded to: in words, and the step at their median size."""

    name: str
    step: float


def grid(rows: Array) -> Grid | None:
    """Return the grid that 99% of the scores lie on, or None: 0 to 3 decimals, bfloat16 or float16.

    A decimal may have passed through float32; where float32 itself is as coarse as the decimals nothing can be told.
    """
    x = rows.ravel()
    if len(x) < ENOUGH or np.ptp(x) == 0:
        return None
    x = x[x != 0]
    if np.max(np.abs(x)) > 256 and np.mean(FORMATS["bfloat16"].rounded(x) == x) >= 0.99:
        return _of_format("bfloat16", x)  # not "whole numbers", of which half or more are missing
    with np.errstate(over="ignore"):
        single = np.mean(x.astype(np.float32) == x) >= 0.99
    for decimals in range(4):
        scaled = x * 10.0**decimals
        error = np.abs(scaled) * (2.0**-23 if single else 2.0**-51)
        if np.quantile(error, 0.99) < 0.05 and np.mean(np.abs(scaled - np.rint(scaled)) <= error) >= 0.99:
            return Grid(f"{decimals} decimals" if decimals else "whole numbers", 10.0**-decimals)
    for name in ("bfloat16", "float16"):
        if np.mean(FORMATS[name].rounded(x) == x) >= 0.99:
            return _of_format(name, x)
    return None


def _of_format(name: str, x: Array) -> Grid:
    return Grid(name, float(FORMATS[name].spacing(np.array([np.median(np.abs(x))]))[0]))


def near_ties(rows: Array, step: float) -> tuple[int, int]:
    """Return how many pairs have |d| < step, and how many ties rounding explains: as many as pairs have the smallest
    margin above 0, or below, on average.
    """
    gap = np.abs(rows[:, 0] - rows[:, 1])
    apart = gap[gap > step / 2]
    beside = np.count_nonzero(apart < apart.min() + step / 2) / 2 if len(apart) else 0.0
    return int(np.count_nonzero(gap < step * (1 - 1e-6))), int(beside)


class Clusters(NamedTuple):
    """The best split of scores in two: means, the smaller share, and the distance in pooled standard deviations."""

    low: float
    high: float
    minority: float
    separation: float


def clusters(x: Array) -> Clusters | None:
    """Return the split in two with the least variance within; None for fewer than 50 scores or constant ones.

    The separation is 2.7 for a normal and 3.5 for a uniform distribution; two separate clusters have more.
    """
    x = np.sort(x)
    n = len(x)
    if n < ENOUGH or x[0] == x[-1]:
        return None
    y = x - x[n // 2]
    sums, squares, k = np.cumsum(y), np.cumsum(y * y), np.arange(1, n)
    left = squares[:-1] - sums[:-1] ** 2 / k
    right = (squares[-1] - squares[:-1]) - (sums[-1] - sums[:-1]) ** 2 / (n - k)
    at = int(np.argmin(left + right))
    within = max(float(left[at] + right[at]) / n, 0.0)
    low, high = float(np.mean(x[: at + 1])), float(np.mean(x[at + 1 :]))
    share = min(at + 1, n - at - 1) / n
    return Clusters(low, high, share, (high - low) / math.sqrt(within) if within else math.inf)


def repeated(table: Table, level: Level) -> Estimate:
    """Return the share of pairs that repeat an earlier one; exact while the table holds every pair."""
    table.settle()
    count = table.sums[:, 0]
    total = float(count.sum())
    more = float(total - len(count))
    if table.full:
        return Estimate(more / total, more / total, more / total, "exact")
    return level.ratio(more, total, float(np.sum((count - 1 - more / total * count) ** 2)) / total**2)


def coincidences(rows: Array, step: float) -> tuple[float, float]:
    """Return how many two pairs are equal, and how many would be by chance on a grid of this step: as many as two
    pairs are one step apart in one score, on average over the four directions.
    """
    cells = np.rint(rows / step).astype(np.int64)
    cells -= cells.min(axis=0)
    width = int(cells[:, 1].max()) + 3
    code, count = np.unique(cells[:, 0] * width + cells[:, 1], return_counts=True)
    same = float(np.sum(count * (count - 1.0)) / 2)
    beside = 0.0
    for shift in (1, width):
        at = np.minimum(np.searchsorted(code, code + shift), len(code) - 1)
        beside += float(np.sum(count * count[at] * (code[at] == code + shift)))
    return same, beside / 4
