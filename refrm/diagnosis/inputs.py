"""One file: what format it is, and what it holds by its first rows."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from refrm.diagnosis import columnar, logs, text
from refrm.diagnosis.blocks import Place, blocks, opened, plain
from refrm.diagnosis.formats import Layout, Unreadable, listed, number, recognise, short
from refrm.diagnosis.frames import slow
from refrm.diagnosis.ledger import Ledger
from refrm.errors import FileError

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".npz": "npz",
}
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "stream", b"PK\x03\x04": "npz"}
SAMPLE = 100
"""Rows by which a layout is recognised."""

Moved = Callable[[int], None]


@dataclass(frozen=True)
class Rows:
    """A file of pairs: where, how, and a function that yields their frames."""

    place: Place
    layout: Layout
    frames: Callable[[Ledger, Moved], Iterator[pl.DataFrame]]

    @property
    def size(self) -> int:
        """Bytes."""
        return os.path.getsize(self.place)


@dataclass(frozen=True)
class Records:
    """A training log: where, whose, and a function that returns its records."""

    place: Place
    read: Callable[[Ledger], list[Mapping[str, Any]]]
    framework: str = ""


def open_input(place: Place, named: Mapping[str, str], form: str | None) -> Rows | Records:
    """Return what a file holds, by its first rows; `FileError` if that cannot be told."""
    if not os.path.getsize(place):
        raise FileError(f"{place} is empty")
    form = form or sniff(place)
    if form == "stdout":
        return Records(place, lambda ledger: printed(place, ledger), "deepspeed-chat")
    if form == "jsonl":
        return _json_lines(place, named)
    if form == "json":
        return _document(place, named)
    if form in ("csv", "tsv"):
        return _csv(place, named, "\t" if form == "tsv" else None)
    return _columnar(place, named, form)


def sniff(place: Place) -> str:
    """Return the format of a file: by its first bytes, or else its name, or else what it looks like."""
    with opened(place) as file:
        head = file.read(8)
    found = next((form for magic, form in MAGIC.items() if head.startswith(magic)), None)
    if found:
        return found
    names = [suffix for suffix in Path(str(place)).suffixes if suffix not in (".gz", ".bz2", ".xz", ".zst")]
    by_name = SUFFIXES.get(names[-1].lower()) if names else None
    if by_name in ("csv", "tsv", "parquet", "arrow", "npz"):
        return by_name
    with plain(place) as (stream, _):
        while (start := stream.read(1)).isspace():
            pass
        if start == b"{" and by_name != "jsonl":
            line = start + stream.readline()
            rest = stream.readline()
            while rest and not rest.strip():
                rest = stream.readline()
    if start == b"[":
        return "json"
    if start != b"{":
        return by_name or ("stdout" if logs.evaluations(place) else "csv")
    if by_name == "jsonl":
        return by_name
    try:
        text.json_of(text.decoded(line))
    except Unreadable:  # a malformed line, or the begin of a document that has several
        return "json" if by_name or line.strip() == b"{" else "jsonl"
    return "jsonl" if rest else "json"


def _known(place: Place, rows: list[Any], named: Mapping[str, str], what: str = "columns") -> Layout | None:
    """Return the layout of a file of pairs, None for that of a log; `FileError` if it is neither."""
    sample = [row for row in rows if isinstance(row, Mapping)]
    layout = recognise(sample, named, str(place))
    if layout is not None or (what != "arrays" and logs.is_log(sample)):
        return layout
    keys = listed(dict.fromkeys(key for row in sample for key in row))
    raise FileError(
        f"{place}: no known columns of scores, nor series of a training log; it has the {what} {keys}: "
        "name those of the scores with --chosen and --rejected"
    )


def _json_lines(place: Place, named: Mapping[str, str]) -> Rows | Records:
    def records() -> Iterator[tuple[int, Any]]:
        for block, line in blocks(place, text.lines_end):
            yield from text.JsonLines.records(block, line)

    head = list(islice(records(), SAMPLE))
    rows = [row for _, row in head if not isinstance(row, Unreadable)]
    if not rows:
        line, why = head[0] if head else (1, "a JSON object")
        raise FileError(f"{place}, line {line}: expected {why}")
    layout = _known(place, rows, named, "keys")
    if layout is None:
        return Records(place, lambda ledger: checked(records(), ledger))
    form = text.JsonLines(layout)
    return Rows(place, layout, lambda ledger, moved: text.read(place, form, ledger, moved))


def _document(place: Place, named: Mapping[str, str]) -> Rows | Records:
    held = columnar.document(place)
    if isinstance(held, dict) and isinstance(held.get("log_history"), list):
        return Records(place, lambda ledger: checked(enumerate(held["log_history"], 1), ledger), "trl")
    rows = columnar.rows_of(held)
    try:
        layout = _known(place, rows[:SAMPLE], named, "keys")
    except FileError:
        if not isinstance(held, dict):
            raise
        rows = [held]  # a single line of JSON lines
        layout = _known(place, rows, named, "keys")
    if layout is None:
        return Records(place, lambda ledger: checked(enumerate(rows, 1), ledger))
    return Rows(place, layout, lambda ledger, _: slow(enumerate(rows, 1), layout, ledger))


def _csv(place: Place, named: Mapping[str, str], separator: str | None) -> Rows | Records:
    first = next((block for block, _ in blocks(place, text.lines_end)), b"")
    try:
        header, separator, start = text.header_of(first, separator)
    except Unreadable as why:
        raise FileError(f"{place}: expected names of columns in the first line, but it is not {why}") from None
    form = text.Csv(Layout("", {}, {}), header, separator, start)
    rest = form.records(first[start[0] :], start[1] + 1)
    sample = [row for _, row in islice(rest, SAMPLE) if not isinstance(row, Unreadable)]
    sample = sample or [form.row([""] * len(header))]
    if header == ["array", "index", "score"]:
        return _long(place, form, named)
    layout = _known(place, sample, named)
    if layout is None:
        return Records(place, lambda ledger: checked(_cells(place, form), ledger))
    twice = [column for column in layout.columns.values() if header.count(column) > 1]
    if twice:
        raise FileError(f"{place}: expected one column {twice[0]!r}, got {header.count(twice[0])} of that name")
    form = text.Csv(layout, header, separator, start)
    return Rows(place, layout, lambda ledger, moved: text.read(place, form, ledger, moved))


def _cells(place: Place, form: text.Csv) -> Iterator[tuple[int, Any]]:
    """Yield all rows of a CSV file."""
    skip, lines = form.start
    for block, line in blocks(place, form.cut):
        yield from form.records(block[skip:], line + lines)
        skip = lines = 0


def _long(place: Place, form: text.Csv, named: Mapping[str, str]) -> Rows:
    """Return what `refrm score -o FILE.csv` wrote: a line for each score."""
    arrays = named.get("r_w", "chosen"), named.get("r_l", "rejected")

    def frames(ledger: Ledger, _: Moved) -> Iterator[pl.DataFrame]:
        scores: dict[str, dict[str, float]] = {name: {} for name in arrays}
        for line, row in _cells(place, form):
            ledger.rows += 1
            try:
                if isinstance(row, Unreadable):
                    raise row
                value = number(row["score"], "score")
                if value is None:
                    raise Unreadable("a number in 'score', which is empty", missing=True)
                if row["array"] in scores:
                    scores[row["array"]][row["index"]] = value
            except Unreadable as why:
                ledger.reject(line, why)
        w, v = scores.values()
        yield pl.DataFrame({"r_w": [w[i] for i in w if i in v], "r_l": [v[i] for i in w if i in v]}, dtypes)

    dtypes = {"r_w": pl.Float64, "r_l": pl.Float64}
    return Rows(place, Layout("refrm score", {"r_w": arrays[0], "r_l": arrays[1]}, {}), frames)


def _columnar(place: Place, named: Mapping[str, str], form: str) -> Rows | Records:
    if form == "npz":
        arrays = columnar.columns_of(place)
        rows = [
            {name: a[i].item() for name, a in arrays.items() if i < len(a)}
            for i in range(min(SAMPLE, max(map(len, arrays.values()))))
        ]
    else:
        table = columnar.scan(place, form)
        rows = table.head(SAMPLE)
    if not rows:
        raise FileError(f"{place} has no rows")
    layout = _known(place, rows, named, "arrays" if form == "npz" else "columns")
    if layout is None:
        every = table.rows() if form != "npz" else columnar.rows_of({k: a.tolist() for k, a in arrays.items()})
        return Records(place, lambda ledger: checked(enumerate(every, 1), ledger))
    if form == "npz":
        table = columnar.table_of(place, {name: arrays[name] for name in layout.columns.values()})
    return Rows(place, layout, lambda ledger, moved: table.read(layout, ledger, moved))


def checked(records: Iterable[tuple[int, Any]], ledger: Ledger) -> list[Mapping[str, Any]]:
    """Return the records of a log that have a series, and note what is no record."""
    found: list[Mapping[str, Any]] = []
    for at, row in records:
        ledger.rows += 1
        try:
            if isinstance(row, Unreadable):
                raise row
            if not isinstance(row, Mapping):
                raise Unreadable(f"an object, got {short(row)}")
            if any(map(logs.series_of, row)):
                logs.step_of(row)
                found.append(row)
        except Unreadable as why:
            ledger.reject(at, why)
    return found


def printed(place: Place, ledger: Ledger) -> list[Mapping[str, Any]]:
    """Return the evaluations in what DeepSpeed-Chat printed."""
    found = logs.evaluations(place)
    ledger.rows += len(found)
    if not found:
        raise FileError(
            f"{place}: expected lines of DeepSpeed-Chat, with chosen_last_scores, rejected_last_scores, acc"
        )
    return list(found)
