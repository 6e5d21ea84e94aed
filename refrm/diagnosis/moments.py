"""Moments of s/2 and d up to the fourth order, in a stream: mergeable, in constant memory, and sound far from 0.

Sums are of powers of (s/2 - c_h)^i (d - c_d)^j, i + j <= 4, about a pivot c: the mean of the first block. What the
distance of the pivot from the mean costs is bounded: its square is at most N/n_1 variances, n_1 being the size of the
first block, because that block itself is that far away. Two sets of sums merge by the binomial theorem.
"""

import math
from functools import lru_cache

import numpy as np

from refrm.spec import Array


class Moments:
    """Sums of powers of s/2 and d about a pivot."""

    def __init__(self) -> None:
        self.pivot = (0.0, 0.0)
        self.sums = np.zeros((5, 5))

    @property
    def n(self) -> float:
        """The number of pairs."""
        return float(self.sums[0, 0])

    def add(self, r_w: Array, r_l: Array, d: Array) -> tuple[Array, Array]:
        """Add pairs; return s/2 and d about the pivot."""
        if not self.sums[0, 0]:
            self.pivot = (float(np.mean(r_w / 2 + r_l / 2)), float(np.mean(d)))
        x = r_w - self.pivot[0]
        x += r_l - self.pivot[0]
        x *= 0.5
        y = d - self.pivot[1]
        xx, yy = x * x, y * y
        new = (
            (len(x), y.sum(), yy.sum(), y @ yy, yy @ yy),
            (x.sum(), x @ y, x @ yy, (x * y) @ yy),
            (xx.sum(), xx @ y, xx @ yy),
            (x @ xx, xx @ (x * y)),
            (xx @ xx,),
        )
        for i, row in enumerate(new):
            self.sums[i, : len(row)] += np.array(row)
        return x, y

    def merge(self, other: "Moments") -> None:
        """Add the pairs of another."""
        if not self.n:
            self.pivot, self.sums = other.pivot, other.sums.copy()
        elif other.n:
            self.sums += _moved(other.sums, other.pivot[0] - self.pivot[0], other.pivot[1] - self.pivot[1])

    def central(self) -> tuple[float, float, Array]:
        """Return mean s/2, mean d, and the central moments m[i, j] = mean (s/2 - mean)^i (d - mean)^j."""
        n = self.n
        at = self.sums[1, 0] / n, self.sums[0, 1] / n
        m = _moved(self.sums, -at[0], -at[1]) / n
        m[1, 0] = m[0, 1] = 0.0
        for i, j in ((2, 0), (0, 2), (4, 0), (0, 4), (2, 2)):
            m[i, j] = max(m[i, j], 0.0)  # what rounding leaves of a zero
        return self.pivot[0] + float(at[0]), self.pivot[1] + float(at[1]), m


def _moved(sums: Array, by_h: float, by_d: float) -> Array:
    """Return the sums about a pivot that is lower by ``by_h``, ``by_d``: (x + by)^i expanded."""
    with np.errstate(over="ignore", invalid="ignore"):  # in what is beyond the fourth order, and cut off
        moved = np.where(_ORDER <= 4, _binomial(by_h) @ sums, 0.0)
        return np.where(_ORDER <= 4, moved @ _binomial(by_d).T, 0.0)


@lru_cache(maxsize=64)
def _binomial(by: float) -> Array:
    return np.array([[math.comb(i, k) * by ** (i - k) if k <= i else 0.0 for k in range(5)] for i in range(5)])


_ORDER = np.add.outer(np.arange(5), np.arange(5))
