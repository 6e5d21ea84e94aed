"""Frames of pairs: columns named by their roles, numbers as float64, "group" and "subset" as they come."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from refrm.diagnosis.data import LARGEST
from refrm.diagnosis.formats import NUMBERS, Layout, Unreadable, pairs_of
from refrm.diagnosis.ledger import Ledger

ROWS = 1 << 16
"""Pairs of a frame of those that Python reads."""


def standard(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return a frame whose columns are roles; polars' errors say where that is not possible."""
    schema, found = frame.schema, []
    for role, column in layout.columns.items():
        of = pl.col(column)
        if role in ("text_w", "text_l"):
            if isinstance(schema[column], pl.List):  # of messages
                of = of.list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
            else:
                of = of.str.len_chars()
            role = f"length_{role[-1]}"
        elif role in NUMBERS and isinstance(schema[column], pl.List):
            of = pl.when(of.list.len() == 1).then(of.list.first())
        found.append((of.cast(pl.Float64) if role in NUMBERS else of).alias(role))
    return frame.select(found)


def required(frame: pl.DataFrame) -> pl.Series:
    """Return which rows lack a number that a pair must have: scores, and finite margins and steps."""
    odd = [~(pl.col(role).abs() <= LARGEST).fill_null(False) for role in ("margin", "step") if role in frame.columns]
    odd += [pl.col(role).is_null() for role in ("r_w", "r_l") if frame[role].null_count()]
    return frame.select(pl.any_horizontal(odd)).to_series() if odd else pl.repeat(False, frame.height, eager=True)


def frame_of(pairs: Sequence[Mapping[str, Any]], layout: Layout) -> pl.DataFrame:
    """Return the frame of pairs that were read one by one."""
    dtypes = {role: pl.Float64 if role in NUMBERS else pl.String for role in layout.roles}
    return pl.DataFrame({role: [pair.get(role) for pair in pairs] for role in dtypes}, dtypes)


def slow(records: Iterable[tuple[int, Any]], layout: Layout, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Yield the pairs of rows that Python reads one by one, each with its line; note those that are none."""
    found: list[dict[str, Any]] = []
    for line, row in records:
        ledger.rows += 1
        try:
            if isinstance(row, Unreadable):
                raise row
            found += pairs_of(layout, row, line)
        except Unreadable as why:
            ledger.reject(line, why)
        if len(found) >= ROWS:
            yield frame_of(found, layout)
            found = []
    if found:
        yield frame_of(found, layout)
