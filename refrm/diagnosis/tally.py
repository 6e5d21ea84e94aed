"""The sums that a diagnosis stands on: of one set of pairs, in a stream, mergeable, in memory that N does not change.

Rule: a `Tally` only counts and adds; `refrm.diagnosis.figures` turns it into figures. Pairs are added in blocks that
stay in the cache.
"""

import numpy as np

from refrm.diagnosis.bounds import Wrong, margin_bounds, pulls
from refrm.diagnosis.data import LARGEST, Chunk, Settings
from refrm.diagnosis.moments import Moments
from refrm.diagnosis.precision import FORMATS, counts
from refrm.diagnosis.sampling import Sample, Table, mixed
from refrm.spec import Array

BLOCK = 1 << 13
"""Pairs that are added in one go: 64 KiB per array, so that a dozen of them stay in the cache."""

BINS = 20
"""Bins of confidence sigma(|d|) over [1/2, 1], of equal width."""


class Tally:
    """Everything that is counted about a set of pairs."""

    def __init__(self, settings: Settings, seed: tuple[int, ...] = (0,)) -> None:
        self.settings = settings
        self.nonfinite = 0
        self.moments = Moments()
        self.right = self.tied = 0
        self.low, self.high, self.widest = np.inf, -np.inf, 0.0  # of the scores, and of |d|
        self.likelihood = np.zeros(7)  # loss, its square, Brier, its square, and as trained: loss, its square, pull
        self.bins = np.zeros((3, BINS))  # pairs, those with d > 0, sum of sigma(-|d|)
        self.precision = np.zeros((len(FORMATS), 3))
        self.margins = np.zeros(4)  # pairs with a margin, sums of the margins, of T8's bound, of the loss at 0
        self.pulls = np.zeros(len(Wrong))
        self.lengths = Lengths()
        self.sample = Sample(2, seed)
        self.groups: Table | None = None
        self.about = (0.0, 0.0)  # the pivot of the groups' sums
        self.pairs = Table(1)

    @property
    def n(self) -> int:
        """Pairs with finite scores."""
        return int(self.moments.n)

    def add(self, chunk: Chunk) -> None:
        """Add the pairs of a chunk."""
        for at in range(0, len(chunk.r_w), BLOCK):
            self._add(cut(chunk, slice(at, at + BLOCK)))

    def _add(self, block: Chunk) -> None:
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(block.r_w), np.abs(block.r_l))
            fine = size <= LARGEST  # NaN is not
        if not fine.all():
            self.nonfinite += int(len(fine) - np.count_nonzero(fine))
            where = np.flatnonzero(fine)
            block, size = cut(block, where), size[where]
        if not len(block.r_w):
            return
        r_w, r_l = block.r_w, block.r_l
        with np.errstate(under="ignore"):
            d = r_w - r_l
            x, y = self.moments.add(r_w, r_l, d)
            right = d > 0
            gap = np.abs(d)
            self._outcomes(d, gap, right, block)
            self.precision += counts(r_w, r_l, size, gap)
            self.sample.add(r_w, r_l)
            self.low = min(self.low, float(r_w.min()), float(r_l.min()))
            self.high = max(self.high, float(r_w.max()), float(r_l.max()))
            if block.length_w is not None and block.length_l is not None:
                self.lengths.add(r_w, r_l, d, block.length_w, block.length_l)
            self._keys(block, x, y, d, right)

    def _outcomes(self, d: Array, gap: Array, right: Array, block: Chunk) -> None:
        e = np.exp(-gap)
        unsure = e / (1 + e)  # sigma(-|d|)
        loss = np.log1p(e)
        loss -= np.minimum(d, 0)
        doubt = np.where(right, unsure, 1 - unsure)  # sigma(-d)
        brier = doubt * doubt
        where = (unsure * (2 * BINS)).astype(np.intp)
        np.minimum(where, BINS - 1, out=where)
        both = np.bincount(where + BINS * right, minlength=2 * BINS)
        self.bins[0] += both[:BINS] + both[BINS:]
        self.bins[1] += both[BINS:]
        self.bins[2] += np.bincount(where, weights=unsure, minlength=BINS)
        self.right += int(both[BINS:].sum())
        self.tied += int(len(d) - np.count_nonzero(d))
        self.widest = max(self.widest, float(gap.max()))
        eps, z = self.settings.label_smoothing, d
        trained = loss
        if block.margin is not None:
            z = d - block.margin
            small = np.exp(-np.abs(z))
            trained = np.log1p(small) + np.maximum(-z, 0)
            doubt = np.where(z > 0, small, 1) / (1 + small)
            self.margins += margin_bounds(block.margin, eps)
        if eps:
            trained, doubt = trained + eps * z, doubt - eps
        self.likelihood += (
            loss.sum(),
            loss @ loss,
            brier.sum(),
            brier @ brier,
            trained.sum(),
            trained @ trained,
            d @ doubt,
        )
        if self.settings.converged:
            self.pulls += pulls(d, 0.0 if block.margin is None else block.margin, eps)

    def _keys(self, block: Chunk, x: Array, y: Array, d: Array, right: Array) -> None:
        columns = [block.r_w, block.r_l]
        columns += [c for c in (block.group, block.length_w, block.length_l) if c is not None]
        keys = mixed(*columns)
        kept = self.pairs.below(keys)
        keys = keys[kept]
        self.pairs.add(keys, np.ones((len(keys), 1)))
        if block.group is None:
            return
        if self.groups is None:
            self.groups, self.about = Table(6), self.moments.pivot
        keys = mixed(block.group)
        kept = self.groups.below(keys)
        x, y, score = x[kept], y[kept], (right + 0.5 * (d == 0))[kept]
        self.groups.add(keys[kept], np.stack([np.ones(len(x)), x, x * x, y, y * y, score], axis=1))

    def merge(self, other: "Tally") -> None:
        """Add the pairs of another tally."""
        if other.groups is not None:
            other.groups.settle()
            if self.groups is None:
                self.groups, self.about = Table(6), other.about
            # (x + by)^2 = x^2 + 2 by x + by^2, group by group
            n, by, sums = other.groups.sums[:, 0], np.subtract(other.about, self.about), other.groups.sums.copy()
            for at, shift in ((1, by[0]), (3, by[1])):
                sums[:, at + 1] += 2 * shift * sums[:, at] + n * shift * shift
                sums[:, at] += n * shift
            moved = Table(6)
            moved.keys, moved.sums, moved.limit = other.groups.keys, sums, other.groups.limit
            self.groups.merge(moved)
        self.moments.merge(other.moments)
        for name in ("nonfinite", "right", "tied", "likelihood", "bins", "precision", "margins", "pulls"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.widest = max(self.widest, other.widest)
        self.lengths.merge(other.lengths)
        self.sample.merge(other.sample)
        self.pairs.merge(other.pairs)


class Lengths:
    """Sums for the correlation of scores with lengths, and accuracy by which response is longer."""

    def __init__(self) -> None:
        self.pivot = np.zeros(6)
        self.n = 0.0
        self.first = np.zeros(6)  # of r_w, r_l, d, length_w, length_l, their difference
        self.second = np.zeros((6, 6))
        self.longer = np.zeros((2, 2))  # chosen longer, shorter: pairs, right ones (a tie is half right)

    def add(self, *columns: Array) -> None:
        """Add r_w, r_l, d, length_w, length_l; pairs without finite lengths do not count."""
        v = np.stack(columns)
        v = v[:, (np.abs(v[3:]) <= LARGEST).all(axis=0)]
        if not v.shape[1]:
            return
        v = np.stack([*v, v[3] - v[4]])
        d, more = v[2], v[5]
        right = (d > 0) + 0.5 * (d == 0)
        for row, which in zip(self.longer, (more > 0, more < 0), strict=True):
            row += np.count_nonzero(which), right[which].sum()
        if not self.n:
            self.pivot = v.mean(axis=1)
        v -= self.pivot[:, None]
        self.n += v.shape[1]
        self.first += v.sum(axis=1)
        self.second += np.einsum("ik,jk->ij", v, v)  # no BLAS: it would start threads of its own

    def merge(self, other: "Lengths") -> None:
        """Add another's pairs."""
        if not self.n:
            self.pivot = other.pivot
        by = other.pivot - self.pivot
        cross = np.outer(by, other.first)
        self.second = self.second + other.second + cross + cross.T + other.n * np.outer(by, by)
        self.first = self.first + other.first + other.n * by
        self.n += other.n
        self.longer = self.longer + other.longer

    def correlation(self, i: int, j: int) -> float:
        """Return the correlation of two of the six columns; NaN where one is constant."""
        m = self.second - np.outer(self.first, self.first) / max(self.n, 1.0)
        product = m[i, i] * m[j, j]
        # what rounding leaves of a constant column is no variance
        if any(m[k, k] <= 1e-13 * self.second[k, k] + self.n * (4e-16 * self.pivot[k]) ** 2 for k in (i, j)):
            return float("nan")
        return float(np.clip(m[i, j] / np.sqrt(product), -1, 1))


def cut(chunk: Chunk, part: "slice | Array") -> Chunk:
    """Return some of a chunk's pairs."""
    columns = (chunk.margin, chunk.step, chunk.group, chunk.length_w, chunk.length_l, chunk.subset)
    return Chunk(chunk.r_w[part], chunk.r_l[part], *(None if c is None else c[part] for c in columns))
