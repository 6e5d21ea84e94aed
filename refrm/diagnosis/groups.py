"""The shift within prompts and between them, and what it means for errors that pairs of one prompt are not independent.

A table's rows are, for each prompt, the number of its pairs and the sums of x, x^2, y, y^2 and of what is right, where
x is s/2 and y is d, about a pivot.
"""

import math
from typing import NamedTuple

import numpy as np

from refrm.diagnosis.model import Estimate, Groups
from refrm.diagnosis.sampling import FULL, Table
from refrm.spec import Array

DRAWS = 400


class Effects(NamedTuple):
    """Design effects on mean s/2, mean d and accuracy; 1 where pairs are independent."""

    shift: float = 1.0
    margin: float = 1.0
    accuracy: float = 1.0


def effects(table: Table | None) -> Effects:
    """Return by how much the prompts raise the variance of a mean above that of independent pairs."""
    if table is None:
        return Effects()
    table.settle()
    if len(table.keys) < 2:
        return Effects()
    n, x, xx, y, yy, right = table.sums.T
    total = n.sum()
    p = right.sum() / total
    found = []
    for part, squares in ((x, xx.sum()), (y, yy.sum()), (right, total * p)):
        mean = part.sum() / total
        spread = squares - total * mean**2
        between = float(np.sum((part - n * mean) ** 2))
        found.append(max(1.0, between / spread) if spread > 1e-12 * squares else 1.0)
    return Effects(*found)


def components(table: Table | None, seed: int) -> Groups | str:
    """Return the variance components of s/2 over prompts, or why there are none.

    One-way random effects: within is the mean square within prompts, between is (mean square between - within)/n0.
    Intervals by a Poisson bootstrap over prompts.
    """
    if table is None:
        return "no column names the prompt, so one shift per prompt and one per pair look the same"
    table.settle()
    kept = len(table.keys)
    n, x, xx = table.sums[:, :3].T
    if kept < 2 or np.sum(n) - kept < 1:
        return "needs two prompts, and prompts with more than one pair"
    columns = np.stack([np.ones(kept), n, n * n, x, x * x / n, xx - x * x / n], axis=1)
    used = min(kept, 4096)  # the bootstrap costs draws times prompts
    weights = np.random.default_rng(seed).poisson(1.0, (DRAWS, used)).astype(float)
    value = _components(columns.sum(axis=0)[None])[:, 0]
    drawn = _components(weights @ columns[:used])
    shrink = math.sqrt(used / kept)
    estimates = []
    for one, many in zip(value, drawn, strict=True):
        low, high = np.nanquantile(many, [0.025, 0.975]) if np.isfinite(many).any() else (-math.inf, math.inf)
        low, high = (one + (end - one) * shrink for end in (low, high))
        estimates.append(Estimate(float(one), max(0.0, float(low)), float(high), "bootstrap"))
    return Groups(kept * FULL / table.limit, kept, *estimates)


def _components(sums: Array) -> Array:
    """Return between, within and share, shape (3, B), of sums over prompts of (1, n, n^2, x, x^2/n, SS within)."""
    prompts, n, nn, x, xx, inner = sums.T
    with np.errstate(all="ignore"):
        within = inner / (n - prompts)
        each = (n - nn / n) / (prompts - 1)
        between = np.maximum(0.0, ((xx - x * x / n) / (prompts - 1) - within) / each)
        return np.array([between, within, between / (between + within)])
