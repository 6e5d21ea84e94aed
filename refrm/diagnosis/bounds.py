"""What theory allows mean s^2 to be (T7, T8), and what it would be under the known mistakes.

At rest, over a head without weight decay, the derivative along the head's weights vanishes: the scores' pull on the
pairwise loss equals that on the penalty. With z = d - m and eps the label smoothing,

    mean d*(sigma(-z) - eps) = 2*lambda*mean s^2,

of which T8 is the corollary that the left side is at most its largest value. Every mistake of the loss has such an
identity of its own, so that scores at rest tell which loss they are the minimiser of.
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from refrm.spec import Array, sigmoid, softplus


class Wrong(IntEnum):
    """The pairwise losses whose pull is summed: the right one, and mistakes of the catalogue by their names."""

    right = 0
    missing_log = 1
    swapped = 2
    margin_ignored = 3
    margin_sign = 4
    smoothing_ignored = 5
    smoothing_flipped = 6


def pulls(d: Array, margin: Any, eps: float) -> Array:
    """Return the sums of d times minus the slope in d of each of the losses of `Wrong`."""
    z = d - margin
    found = np.empty(len(Wrong))
    doubt, sure = sigmoid(-z), sigmoid(z)
    found[Wrong.right] = d @ (doubt - eps)
    found[Wrong.missing_log] = d @ (doubt * sure)
    found[Wrong.swapped] = -d @ (sigmoid(d + margin) - eps)
    found[Wrong.margin_ignored] = d @ (sigmoid(-d) - eps)
    found[Wrong.margin_sign] = d @ (sigmoid(-d - margin) - eps)
    found[Wrong.smoothing_ignored] = d @ doubt
    found[Wrong.smoothing_flipped] = d @ (doubt - (1 - eps))
    return found


def largest_pull(margin: Array, eps: float = 0.0) -> Array:
    """Return max over d of d*(sigma(m - d) - eps), which is W(exp(m - 1)) for eps = 0 (T8).

    The slope sigma(-z) - eps - d*h(z) decreases from d = 0 on until the maximum; bisection, 60 halvings of an interval
    that holds it: beyond d = m + log((1 - eps)/eps) the pull is negative, and beyond m + 40 negligible.
    """
    m = np.asarray(margin, float)
    low = np.zeros_like(m)
    high = np.maximum(m, 0) + (min(40.0, math.log((1 - eps) / eps)) if eps else 40.0)
    for _ in range(60):
        d = (low + high) / 2
        z = d - m
        rising = sigmoid(-z) - eps > d * sigmoid(z) * sigmoid(-z)
        low, high = np.where(rising, d, low), np.where(rising, high, d)
    return np.asarray(np.maximum(low * (sigmoid(m - low) - eps), 0.0))


@lru_cache(maxsize=8)
def _table(eps: float) -> tuple[Array, Array]:
    grid = np.linspace(-30.0, 60.0, 5761)
    return grid, largest_pull(grid, eps)


def margin_bounds(margin: Array, eps: float) -> Array:
    """Return the number of pairs, and the sums of their margins, largest pulls and losses at zero scores.

    The pull is interpolated between margins 1/64 apart: off by less than (1/64)^2/8 of a curvature below 1, 4e-5.
    Beyond the table's margins it is bounded by the margin itself, or is as good as 0.
    """
    grid, values = _table(eps)
    pull = np.where(margin > grid[-1], margin, np.interp(margin, grid, values))
    return np.array([len(margin), margin.sum(), pull.sum(), (softplus(margin) - eps * margin).sum()])


IDENTITIES: Mapping[str, tuple[Wrong, str, float, float]] = {
    "right": (Wrong.right, "s2", 2.0, 1.0),
    "factor-of-two": (Wrong.right, "s2", 2.0, math.nan),
    "penalty-twice": (Wrong.right, "s2", 2.0, 2.0),
    "squared-difference": (Wrong.right, "d2", 2.0, 1.0),
    "sum-of-squares": (Wrong.right, "both", 1.0, 1.0),
    "sum-to-zero": (Wrong.right, "mean", 2.0, 1.0),
    "missing-log": (Wrong.missing_log, "s2", 2.0, 1.0),
    "swapped": (Wrong.swapped, "s2", 2.0, 1.0),
    "margin-ignored": (Wrong.margin_ignored, "s2", 2.0, 1.0),
    "margin-sign": (Wrong.margin_sign, "s2", 2.0, 1.0),
    "smoothing-ignored": (Wrong.smoothing_ignored, "s2", 2.0, 1.0),
    "smoothing-flipped": (Wrong.smoothing_flipped, "s2", 2.0, 1.0),
}
"""By mistake: the loss whose pull counts, the mean that the penalty acts on, its factor, the power of lambda."""
