"""The time axis of pairs: which steps there are, and means per step.

Up to `POINTS` distinct steps are told apart; of more, neighbours are taken together. The figures of a diagnosis stand
on the end of the axis: the shortest tail of steps that has `TAIL` pairs.
"""

import numpy as np

from refrm.diagnosis.data import LARGEST, Chunk, PairSource
from refrm.errors import InputError
from refrm.spec import Array, softplus

POINTS = 1024
TAIL = 1000
DISTINCT = 1 << 16
CELLS = 1 << 17
"""Points times subsets: beyond it trends are those of all pairs alone."""


class Timeline:
    """Sums per step, and per subset and step; built by `scan`, which reads the steps once."""

    def __init__(self, values: Array, counts: Array) -> None:
        """Take distinct steps, in increasing order, and the number of pairs at each."""
        per = -(-len(values) // POINTS)
        first = np.arange(0, len(values), per)
        self.edges = values[first]
        self.step = np.add.reduceat(values * counts, first) / np.add.reduceat(counts, first)
        tail = np.flatnonzero(np.cumsum(counts[::-1]) >= TAIL)
        self.start = float(values[len(values) - 1 - tail[0]] if len(tail) else values[0])
        self.end = float(values[-1])
        self.whole = self.start == float(values[0])
        self._subsets = 1
        self._pivot = np.zeros((2, len(first)))
        self._sums = np.zeros((9, len(first)))

    def add(self, chunk: Chunk) -> None:
        """Add the pairs of a chunk."""
        assert chunk.step is not None
        fine = np.maximum(np.abs(chunk.r_w), np.abs(chunk.r_l)) <= LARGEST
        r_w, r_l, step = chunk.r_w[fine], chunk.r_l[fine], chunk.step[fine]
        points = len(self.edges)
        where = np.maximum(np.searchsorted(self.edges, step, side="right") - 1, 0)
        if chunk.subset is not None and self._subsets:
            self._widen(int(chunk.subset.max(initial=-1)) + 1)
            if self._subsets:
                where = where + points * chunk.subset[fine].astype(np.intp)
        size = self._sums.shape[1]
        h, d = r_w / 2 + r_l / 2, r_w - r_l
        counts = np.bincount(where, minlength=size)
        fresh = (self._sums[0] == 0) & (counts > 0)
        for pivot, x in zip(self._pivot, (h, d), strict=True):
            pivot[fresh] = np.bincount(where, weights=x, minlength=size)[fresh] / counts[fresh]
        x, y = h - self._pivot[0, where], d - self._pivot[1, where]
        loss = softplus(-d)
        right = (d > 0) + 0.5 * (d == 0)
        self._sums[0] += counts
        for row, values in zip(self._sums[1:], (x, x * x, y, y * y, right, loss, np.abs(d), d * d), strict=True):
            row += np.bincount(where, weights=values, minlength=size)

    def _widen(self, subsets: int) -> None:
        points = len(self.edges)
        if subsets * points > CELLS:
            # fold what there is into all pairs
            self._pivot, self._sums = _folded(self._pivot, self._sums, points)
            self._subsets = 0
        elif subsets > self._subsets:
            more = (subsets - self._subsets) * points
            self._pivot = np.pad(self._pivot, ((0, 0), (0, more)))
            self._sums = np.pad(self._sums, ((0, 0), (0, more)))
            self._subsets = subsets

    @property
    def subsets(self) -> int:
        """How many subsets have trends of their own; 0 if they are too many."""
        return self._subsets

    def series(self, subset: int | None = None) -> dict[str, Array]:
        """Return step, pairs ``n`` and means per step, of all pairs or of one subset; steps without pairs are left
        out.
        """
        points = len(self.edges)
        if subset is None:
            pivot, sums = _folded(self._pivot, self._sums, points)
        else:
            part = slice(subset * points, (subset + 1) * points)
            pivot, sums = self._pivot[:, part], self._sums[:, part]
        there = sums[0] > 0
        pivot, n, (x, xx, y, yy, right, loss, size, square) = pivot[:, there], sums[0, there], sums[1:, there]
        mean, margin = pivot[0] + x / n, pivot[1] + y / n
        spread, deviation = (np.sqrt(np.maximum(q / n - (p / n) ** 2, 0)) for p, q in ((x, xx), (y, yy)))
        return {
            "step": self.step[there],
            "n": n,
            "mean_score": mean,
            "spread": spread,
            "mean_margin": margin,
            "std_margin": deviation,
            "accuracy": right / n,
            "loss": loss / n,
            "mean_square_sum": 4 * (mean * mean + spread * spread),
            "mean_size": size / n,
            "mean_square_margin": square / n,
        }


def _folded(pivot: Array, sums: Array, points: int) -> tuple[Array, Array]:
    """Return pivots and sums over all subsets."""
    pivot, sums = pivot.reshape(2, -1, points), sums.reshape(9, -1, points)
    first = np.argmax(sums[0] > 0, axis=0)
    new = np.take_along_axis(pivot, first[None, None, :], axis=1)
    by, n, moved = pivot - new, sums[0], sums.copy()
    for k, at in ((0, 1), (1, 3)):
        moved[at + 1] += 2 * by[k] * sums[at] + n * by[k] ** 2
        moved[at] += n * by[k]
    return new[:, 0], moved.sum(axis=1)


def scan(source: PairSource) -> Timeline | None:
    """Read the steps of a source; None if it has none, or only one."""
    values, counts, width = np.empty(0), np.empty(0), 0.0
    for chunk in source.chunks():
        step = chunk.step
        if step is None:
            return None
        if not len(step):
            continue
        if not (fine := np.abs(step) <= LARGEST).all():
            raise InputError(f"step must be finite, and within {LARGEST:g}, got {step[~fine][0]} in {source.name}")
        first = np.flatnonzero(np.concatenate([[True], step[1:] != step[:-1]]))  # files are sorted by step, mostly
        values, counts = _counted(
            np.concatenate([values, step[first]]), np.concatenate([counts, np.diff([*first, len(step)])]), width
        )
        while len(values) > DISTINCT:
            width = 2 * width or float(np.ptp(values)) / DISTINCT
            values, counts = _counted(values, counts, width)
    return Timeline(values, counts) if len(values) > 1 else None


def _counted(values: Array, counts: Array, width: float) -> tuple[Array, Array]:
    found, where = np.unique(np.floor(values / width) * width if width else values, return_inverse=True)
    return found, np.bincount(where, weights=counts, minlength=len(found))
