"""Files and what they hold: pairs, as a `PairSource`, or a training log."""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from refrm.diagnosis import logs
from refrm.diagnosis.blocks import ZSTD, Place, opened, unpack_zstd
from refrm.diagnosis.data import Chunk, Log, Problems
from refrm.diagnosis.formats import OPTIONS
from refrm.diagnosis.inputs import Records, Rows, open_input
from refrm.diagnosis.ledger import Ledger
from refrm.errors import FileError, InputError
from refrm.spec import Array

MOST_SUBSETS = 256
LEAST = 1 << 16
"""Pairs in a chunk, if there are so many: what reads chunks has a price for each."""

MOST_PARTS = 64


class Pairs:
    """Pairs of one or more files, as a `refrm.diagnosis.data.PairSource`.

    Attributes
    ----------
    name : str
        The files.
    notes : tuple of str
        What was assumed in reading them.
    total : int
        Bytes of the files.
    moved : callable
        Told, while they are read, how many bytes were read in this pass.
    """

    def __init__(self, inputs: Sequence[Rows], together: bool, max_bad: float) -> None:
        self.inputs, self.max_bad = inputs, max_bad
        self.name = _joined([str(one.place) for one in inputs])
        self.total = sum(one.size for one in inputs)
        self.moved: Callable[[int], None] = lambda _: None
        self._codes: dict[str, int] = {}
        self._ledger = Ledger(max_bad)
        every = [set(one.layout.roles) for one in inputs]
        self._roles = set.intersection(*every)
        self._steps = (
            [None] * len(inputs) if together or "step" in self._roles or len(inputs) == 1 else steps_of(inputs)
        )
        self.notes = tuple(note for one in inputs for note in one.layout.notes)
        if dropped := set.union(*every) - self._roles:
            self.notes += (f"not in every file, so left aside: {', '.join(sorted(dropped))}",)
        if self._steps[0] is not None:
            self.notes += (f"steps by file: {_joined([f'{step:g}' for step in self._steps if step is not None])}",)

    @property
    def names(self) -> tuple[str, ...]:
        """The subsets, in the order in which they came."""
        return tuple(self._codes)

    @property
    def problems(self) -> Problems:
        """What could not be read."""
        return self._ledger.problems

    def chunks(self) -> Iterator[Chunk]:
        """Yield all pairs; `FileError` for a file that is damaged, or has too many malformed rows."""
        self._ledger, done, count = Ledger(self.max_bad), 0, 0
        for one, step in zip(self.inputs, self._steps, strict=True):
            self._ledger.open(str(one.place))
            for frame in gathered(one.frames(self._ledger, self._moved_from(done))):
                yield self._chunk(frame, step, count)
                count += frame.height
            self._ledger.close()
            done += one.size
            self.moved(done)

    def _moved_from(self, done: int) -> Callable[[int], None]:
        return lambda count: self.moved(done + count)

    def _chunk(self, frame: pl.DataFrame, step: float | None, count: int) -> Chunk:
        arrays: dict[str, Array] = {}
        for role in self._roles:
            column = frame[role]
            if role == "subset":
                arrays[role] = self._subsets(column.cast(pl.String))
            elif role == "group":
                arrays[role] = _codes(column, count)
            else:
                arrays[role] = column.to_numpy()
        if step is not None:
            arrays["step"] = np.full(frame.height, step)
        return Chunk(**arrays)

    def _subsets(self, column: pl.Series) -> Array:
        """Return the codes of subsets, the same ones in every pass."""
        for name in column.fill_null("(none)").unique(maintain_order=True):
            self._codes.setdefault(name, len(self._codes))
        if len(self._codes) > MOST_SUBSETS:
            raise InputError(f"--subset: more than {MOST_SUBSETS} subsets; a column of ids is for --group")
        names = list(self._codes)
        codes = column.fill_null("(none)").replace_strict(names, list(range(len(names))), return_dtype=pl.Int32)
        return codes.to_numpy()


def gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield frames of at least `LEAST` rows each, where there are so many."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        for part in _parts(frame.select(sorted(frame.columns))):
            large = part.height >= LEAST
            waiting += [] if large else [part]
            if waiting and (large or sum(small.height for small in waiting) >= LEAST):
                yield pl.concat(waiting)
                waiting = []
            if large:
                yield part
    if any(part.height for part in waiting):
        yield pl.concat(waiting)


def _parts(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield what lies in one piece in memory: to put pieces together is to copy them."""
    lengths = frame.to_series().chunk_lengths()
    if len(lengths) > MOST_PARTS or any(column.chunk_lengths() != lengths for column in frame.iter_columns()):
        lengths = [frame.height]
    at = 0
    for length in lengths:
        yield frame.slice(at, length)
        at += length


def _codes(column: pl.Series, count: int) -> Array:
    """Return codes of ids: integers as they are, others by hashes; each missing one is a group of its own."""
    if column.null_count():
        own = pl.Series([f"\0{count + i}" for i in range(len(column))])
        column = column.cast(pl.String).fill_null(own)
    return (column if column.dtype.is_integer() else column.cast(pl.String).hash(0)).to_numpy()


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)})"


def steps_of(inputs: Sequence[Rows]) -> list[float]:
    """Return the steps of files that have no such column: from their paths, or else their order, from 1 on.

    A path says "checkpoint-500" or "step_500"; or its name has, as its last digits, others than the other files'.
    """
    names = [str(one.place) for one in inputs]
    for pattern, texts in (
        (r"(?:checkpoint|ckpt|step|global_step|iter)[-_=]?(\d+)", names),
        (r"(\d+)(?!.*\d)", [Path(name).stem for name in names]),
    ):
        found = [re.findall(pattern, text, re.IGNORECASE) for text in texts]
        steps = [float(digits[-1]) for digits in found if digits]
        if len(set(steps)) == len(names):
            return steps
    return [float(at) for at in range(1, len(names) + 1)]


class Opened:
    """What files hold; to be closed, for standard input is kept in a file as long as it is used.

    Parameters
    ----------
    files : sequence of path or "-"
        "-" is standard input.
    named : mapping of str to str, optional
        Columns by role ("r_w", "r_l", "margin", "step", "group", "length_w", "length_l", "subset").
    form : str, optional
        One of `FORMATS`; by default found out.
    together : bool
        Files without a column of steps are parts of one set, not points in time.
    max_bad : float
        Largest share of malformed rows in a file.

    Attributes
    ----------
    content : Pairs or Log
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        named: Mapping[str, str] | None = None,
        form: str | None = None,
        together: bool = False,
        max_bad: float = 0.01,
    ) -> None:
        named = dict(named or {})
        for w, v in (("r_w", "r_l"), ("length_w", "length_l")):
            if (w in named) != (v in named):
                raise InputError(f"{OPTIONS[w]} and {OPTIONS[v]} go together: name both columns, or neither")
            if w in named and named[w] == named[v]:
                raise InputError(f"{OPTIONS[w]} and {OPTIONS[v]} must be two columns, got {named[w]!r} for both")
        if len(set(map(str, files))) < len(files):
            raise InputError("a file is named twice")
        with ExitStack() as stack:
            places = [_place(file, stack) for file in files]
            inputs = [open_input(place, named, form) for place in places]
            rows = [one for one in inputs if isinstance(one, Rows)]
            records = [one for one in inputs if isinstance(one, Records)]
            if rows and records:
                raise InputError(
                    f"{rows[0].place} holds pairs, but {records[0].place} is a training log: one at a time"
                )
            self.content: Pairs | Log = Pairs(rows, together, max_bad) if rows else _log(records, max_bad)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Pairs | Log":
        return self.content

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _log(records: Sequence[Records], max_bad: float) -> Log:
    """Return the log of one or more files: later ones go on, or are the whole story again."""
    ledger, rows = Ledger(max_bad), list[Mapping[str, Any]]()
    for one in records:
        ledger.open(str(one.place))
        rows += one.read(ledger)
        ledger.close()
    framework = records[0].framework
    return logs.log_of(_joined([str(one.place) for one in records]), rows, ledger.problems, framework)


def _place(file: str | Path, stack: ExitStack) -> Place:
    """Return a file that can be read again and again: what can be read only once is copied."""
    path = Path(file)
    if str(file) == "-":
        place = Place(_spare(stack), "standard input")
        if sys.stdin is None or sys.stdin.isatty():
            raise FileError("standard input is a terminal: expected a file, as in `refrm diagnose - < FILE`")
        with open(place.path, "wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return _without_zstd(place, stack)
    if path.is_dir():
        raise FileError(f"{path} is a directory; expected its files, such as {path / 'trainer_state.json'}")
    if not path.exists():
        raise FileError(f"{path} does not exist")
    place = Place(path, str(path))
    if not path.is_file():  # such as a pipe
        place = Place(_spare(stack), str(path))
        with opened(Place(path, str(path))) as pipe, open(place.path, "wb") as copy:
            shutil.copyfileobj(pipe, copy)
    return _without_zstd(place, stack)


def _without_zstd(place: Place, stack: ExitStack) -> Place:
    """Return a file, unpacked if that needs doing."""
    with opened(place) as file:
        if file.read(4) != ZSTD:
            return place
    unpacked = Place(_spare(stack), place.name)
    unpack_zstd(place, unpacked.path)
    return unpacked


def _spare(stack: ExitStack) -> Path:
    """Return a path for a file that goes away in the end."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refrm-")), "input")
