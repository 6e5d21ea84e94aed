"""Samples in bounded memory: some pairs at random, and some keys with all of their pairs.

A `Sample` keeps each pair with one probability, the same for all; a `Table` keeps each key (a prompt, a pair of
scores) with one probability, by its hash: whoever is kept is kept with everything that belongs to it. Both halve the
probability when they are full. Below their capacity both hold everything.
"""

import numpy as np

from refrm.spec import Array

CAPACITY = 1 << 13
"""The most pairs that a sample holds, and the most keys of a table."""

FULL = float(2**64)


class Sample:
    """Rows, each kept with probability ``rate``; the same seed keeps the same rows."""

    def __init__(self, width: int, seed: tuple[int, ...] = (0,)) -> None:
        self.rate = 1.0
        self._parts = [np.empty((0, width))]
        self._count = 0
        self._rng = np.random.default_rng(seed)

    @property
    def rows(self) -> Array:
        """The rows, shape (n, width)."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def add(self, *columns: Array) -> None:
        """Add rows, given by columns."""
        n = len(columns[0])
        chosen: Array | slice = slice(None)
        if self.rate < 1:
            # gaps between kept rows are geometric: no draw for each row
            gaps = self._rng.geometric(self.rate, int(n * self.rate + 8 * (n * self.rate) ** 0.5 + 16))
            at = np.cumsum(gaps) - 1
            chosen = at[at < n]
        self._append(np.stack([column[chosen] for column in columns], axis=1))

    def merge(self, other: "Sample") -> None:
        """Add the rows of another sample, at the lower of the rates."""
        rate = min(self.rate, other.rate)
        mine, yours = (one.rows[self._rng.random(len(one.rows)) < rate / one.rate] for one in (self, other))
        self._parts, self._count, self.rate = [mine], len(mine), rate
        self._append(yours)

    def _append(self, rows: Array) -> None:
        self._parts.append(rows)
        self._count += len(rows)
        while self._count > CAPACITY:
            rows = self.rows[self._rng.random(self._count) < 0.5]
            self._parts, self._count, self.rate = [rows], len(rows), self.rate / 2


class Table:
    """Sums by key, for the keys whose hash is below ``limit``; ``full`` as long as these are all."""

    def __init__(self, width: int) -> None:
        self.keys = np.empty(0, np.uint64)
        self.sums = np.empty((0, width))
        self.limit = FULL
        self._new: list[tuple[Array, Array]] = []
        self._waiting = 0

    @property
    def full(self) -> bool:
        """Whether every key is kept."""
        return self.limit == FULL

    def below(self, keys: Array) -> Array | slice:
        """Return which of these keys are kept."""
        return slice(None) if self.full else np.flatnonzero(keys < np.uint64(self.limit))

    def add(self, keys: Array, sums: Array) -> None:
        """Add rows of sums, shape (n, width), to their keys, all of which are kept ones."""
        self._new.append((keys, sums))
        self._waiting += len(keys)
        if self._waiting > CAPACITY:
            self.settle()

    def merge(self, other: "Table") -> None:
        """Add the sums of another table."""
        other.settle()
        self.limit = min(self.limit, other.limit)
        self._new.append((other.keys, other.sums))
        self.settle()

    def settle(self) -> None:
        """Bring together what was added."""
        if not self._new:
            return
        keys = np.concatenate([self.keys, *(keys for keys, _ in self._new)])
        sums = np.concatenate([self.sums, *(sums for _, sums in self._new)])
        self._new, self._waiting = [], 0
        order = np.argsort(keys, kind="stable")
        keys, sums = keys[order], sums[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, int)
        self.keys = keys[first]
        self.sums = np.add.reduceat(sums, first) if len(first) else sums
        while (n := self._count()) > CAPACITY:
            self.limit /= 2
        self.keys, self.sums = self.keys[:n], self.sums[:n]

    def _count(self) -> int:
        return len(self.keys) if self.full else int(np.searchsorted(self.keys, np.uint64(self.limit)))


def mixed(*columns: Array) -> Array:
    """Return 64-bit hashes of rows of numbers: equal rows have equal ones, and every bit depends on all bits."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column, odd in zip(columns, _ODD, strict=False):
        bits = column.astype(np.uint64) if column.dtype.kind in "iu" else (column + 0.0).view(np.uint64)  # -0 is 0
        total += (bits ^ (bits >> _32)) * odd  # the low bits of rounded numbers are 0: the high ones must reach them
    total ^= total >> _32
    total *= _ODD[0]
    total ^= total >> _29
    total *= _ODD[1]
    return total


_ODD = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD], np.uint64
)
_32, _29 = np.uint64(32), np.uint64(29)
