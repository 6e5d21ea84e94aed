"""What could not be read: counted, the first few kept, and too much of it is an error."""

from refrm.diagnosis.data import Problem, Problems
from refrm.diagnosis.formats import Unreadable
from refrm.errors import FileError

SHOWN = 10
FEWEST = 10
"""Fewer malformed rows than this never stop a run."""


class Ledger:
    """Counts rows, and those that are no pair, file by file.

    A row without a score (null, empty) is a problem, too, but not malformed: some frameworks write it on purpose.

    Parameters
    ----------
    max_bad : float
        The largest share of a file's rows that may be malformed, in [0, 1].
    """

    def __init__(self, max_bad: float) -> None:
        self.max_bad = max_bad
        self.count, self.shown = 0, list[Problem]()
        self.open("")

    @property
    def problems(self) -> Problems:
        """What was found so far."""
        return Problems(self.count, tuple(self.shown))

    def open(self, file: str) -> None:
        """Begin with a file."""
        self.file, self.rows, self.bad, self.missing = file, 0, 0, 0

    def reject(self, line: int, why: Unreadable) -> None:
        """Note a row that is no pair."""
        self.count += 1
        self.missing += why.missing
        self.bad += not why.missing
        if len(self.shown) < SHOWN:
            self.shown.append(Problem(self.file, line, str(why)))

    def close(self) -> None:
        """End with a file; `FileError` if too much of it, or all, could not be read."""
        first = next((p for p in self.shown if p.file == self.file), None)
        example = f"; line {first.line}: expected {first.expected}" if first else ""
        if self.bad >= FEWEST and self.bad > self.max_bad * self.rows:
            share = f"{self.bad} of {self.rows} rows are malformed, more than {self.max_bad:.3g} of them (--max-bad)"
            raise FileError(f"{self.file}: {share}{example}")
        if self.bad + self.missing == self.rows:
            raise FileError(f"{self.file} has no pair of scores{example}")
