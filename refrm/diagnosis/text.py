"""Pairs from JSON lines and CSV: parsed by polars block by block, and where it balks by Python line by line.

Polars is strict: it either takes a block whole or refuses it, and of what it takes only nulls need a second look. So
the lines that Python sees are those that are malformed or unusual, and each of them gets its number and its reason.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import polars as pl

from refrm.diagnosis.blocks import Place, blocks, pieces
from refrm.diagnosis.formats import NUMBERS, Layout, Unreadable, short
from refrm.diagnosis.frames import required, slow, standard
from refrm.diagnosis.ledger import Ledger

PIECE = 1 << 15
"""Bytes that are given to Python at a time: what a malformed line costs."""

JOINED = 1_000
"""Lines that a record of CSV may run over."""

QUOTED = 1 << 22
"""Bytes after which an open quote is taken for a stray one."""

SEPARATORS = (",", "\t", ";", "|")

REFUSED = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Format(Protocol):
    """A text format, of a certain layout."""

    layout: Layout
    start: tuple[int, int]
    """Bytes and lines before the first record."""

    def cut(self, data: bytes) -> int:
        """Return where the last record that is certainly whole ends, or 0."""
        ...

    def parse(self, data: bytes) -> tuple[pl.DataFrame, pl.Series] | None:
        """Return the pairs (`standard`), and which rows need a second look; or None for a block that needs one."""
        ...

    def records(self, data: bytes, line: int) -> Iterator[tuple[int, Any]]:
        """Yield each record with its line: the row, or `Unreadable`."""
        ...


def read(path: Place, form: Format, ledger: Ledger, moved: Callable[[int], None]) -> Iterator[pl.DataFrame]:
    """Yield the pairs of a file."""
    skip, lines = form.start
    for block, line in blocks(path, form.cut, moved):
        yield from _block(block[skip:], line + lines, form, ledger)
        skip = lines = 0


def _block(block: bytes, line: int, form: Format, ledger: Ledger) -> Iterator[pl.DataFrame]:
    parsed = form.parse(block)
    if parsed is not None:
        frame, odd = parsed
        if not odd.any():
            ledger.rows += frame.height
            yield frame
            return
        lines = block.removesuffix(b"\n").split(b"\n")
        if len(lines) == frame.height:  # then a row is a line
            ledger.rows += frame.height - int(odd.sum())
            yield frame.filter(~odd)
            again = (record for i in odd.arg_true() for record in form.records(lines[i], line + i))
            yield from slow(again, form.layout, ledger)
            return
    parts = list(pieces(block, line, form.cut, max(PIECE, len(block) // 16)))
    for part, at in parts if len(parts) > 1 else ():
        yield from _block(part, at, form, ledger)
    if len(parts) == 1:
        yield from slow(form.records(block, line), form.layout, ledger)


def decoded(data: bytes) -> str:
    """Return the text of a line, or raise `Unreadable`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"text in UTF-8, got {short(data)}") from None


def json_of(text: str) -> Any:
    """Return what a JSON text holds, or raise `Unreadable`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Unreadable(f"JSON, but at character {error.pos + 1}: {error.msg}, in {short(text.strip())}") from None
    except (ValueError, RecursionError):
        raise Unreadable("JSON with numbers of fewer than 4,300 digits, and not nested deeply") from None


def lines_end(data: bytes) -> int:
    """Return where the last whole line ends, or 0."""
    return data.rfind(b"\n") + 1


class JsonLines:
    """One JSON object a line."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.start = layout, (0, 0)
        self.schema = _json_schema(layout)

    def cut(self, data: bytes) -> int:
        return lines_end(data)

    def parse(self, data: bytes) -> tuple[pl.DataFrame, pl.Series] | None:
        if self.schema is None:
            return None
        try:
            frame = standard(pl.read_ndjson(data, schema=self.schema), self.layout)
        except REFUSED:
            return None
        return frame, required(frame)

    @staticmethod
    def records(data: bytes, line: int) -> Iterator[tuple[int, Any]]:
        for at, raw in enumerate(data.split(b"\n"), line):
            if not raw.strip():
                continue
            try:
                row = json_of(decoded(raw))
                yield at, row if isinstance(row, dict) else Unreadable(f"a JSON object, got {short(row)}")
            except Unreadable as why:
                yield at, why


def _json_schema(layout: Layout) -> dict[str, Any] | None:
    """Return what polars is to read; None where the layout is not that simple."""
    numbers = {"number": pl.Float64, "null": pl.Float64, "list": pl.List(pl.Float64)}
    texts = {"text": pl.String, "null": pl.String, "messages": pl.List(pl.Struct({"content": pl.String}))}
    schema: dict[str, Any] = {}
    for role, column in layout.columns.items():
        known = numbers if role in NUMBERS else texts if role in ("text_w", "text_l") else {}
        dtype = known.get(layout.kinds[role]) if known else pl.String
        if layout.many or dtype is None or schema.get(column, dtype) != dtype:
            return None
        schema[column] = dtype
    return schema


class Csv:
    """Comma-separated values with a header, or with another separator."""

    def __init__(self, layout: Layout, header: list[str], separator: str, start: tuple[int, int]) -> None:
        self.layout, self.header, self.separator, self.start = layout, header, separator, start
        at = {role: header.index(column) for role, column in layout.columns.items()}
        numbers = {at[role] for role in at if role in NUMBERS}
        names = [f"c{i}" for i in range(len(header) + 1)]  # one more: of rows that are too long
        self.schema = {name: pl.Float64 if i in numbers else pl.String for i, name in enumerate(names)}
        self.needed = [names[i] for i in sorted({*at.values(), len(header) - 1, len(header)})]
        self.first = separator.join(names).encode() + b"\n"
        self.named = Layout(layout.format, {role: names[i] for role, i in at.items()}, layout.kinds)
        self.simple = not layout.many and all(at[role] not in numbers for role in at if role not in NUMBERS)

    def cut(self, data: bytes) -> int:
        at = end = data.rfind(b"\n") + 1
        quotes = data.count(b'"', 0, at)
        while at and quotes % 2:  # within a quoted field
            before = data.rfind(b"\n", 0, at - 1) + 1
            quotes -= data.count(b'"', before, at)
            at = before
            if end - at > QUOTED:
                return end
        return at

    def parse(self, data: bytes) -> tuple[pl.DataFrame, pl.Series] | None:
        if not self.simple:
            return None
        columns = None if b'"' in data else self.needed  # where there are quotes, every field is to be checked
        try:
            raw = pl.read_csv(
                self.first + data,
                schema=self.schema,
                separator=self.separator,
                columns=columns,
                truncate_ragged_lines=True,
            )
        except REFUSED:
            return None
        frame = standard(raw, self.named)
        *_, last, more = self.schema
        return frame, required(frame) | raw[last].is_null() | raw[more].is_not_null()

    def records(self, data: bytes, line: int) -> Iterator[tuple[int, Any]]:
        lines = data.removesuffix(b"\n").split(b"\n")
        at = 0
        while at < len(lines):
            used = 1
            try:
                row, used = self._record(lines, at)
                if row:
                    yield line + at, row
            except Unreadable as why:
                yield line + at, why
            at += used

    def _record(self, lines: list[bytes], at: int) -> tuple[Mapping[str, Any], int]:
        """Return the record that begins at a line, {} for a blank one, and how many lines it takes."""
        cells, used = cells_of(lines, at, self.separator)
        if not any(cell.strip() for cell in cells):
            return {}, used
        count = len(self.header)
        if len(cells) != count and not (len(cells) == count + 1 and not cells[-1]):
            raise Unreadable(f"{count} fields, got {len(cells)}")
        return self.row(cells), used

    def row(self, cells: list[str]) -> dict[str, str | None]:
        """Return a row by its columns."""
        found: dict[str, str | None] = {}
        for name, cell in zip(self.header, cells, strict=False):
            found.setdefault(name, cell or None)
        return found


def cells_of(lines: list[bytes], at: int, separator: str) -> tuple[list[str], int]:
    """Return the fields of the record that begins at a line, and how many lines it takes; or raise `Unreadable`."""
    text = decoded(lines[at]).removesuffix("\r")
    for used in range(1, min(JOINED, len(lines) - at) + 1):
        if used > 1:
            text += "\n" + decoded(lines[at + used - 1]).removesuffix("\r")
        try:
            rows = list(csv.reader([text], delimiter=separator, strict=True))
        except csv.Error as error:
            if "unexpected end" not in str(error):
                raise Unreadable(f"fields as CSV has them, but {error}, in {short(text)}") from None
        else:
            return rows[0] if rows else [], used
    raise Unreadable(f"a closing quote, in {short(decoded(lines[at]))}")


def header_of(block: bytes, separator: str | None) -> tuple[list[str], str, tuple[int, int]]:
    """Return the columns that the first record names, the separator, and the bytes and lines up to its end.

    Without one given, it is the likeliest separator that is most often in the first line.
    """
    lines = block.split(b"\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    found = separator or max(SEPARATORS, key=lines[first].decode(errors="replace").count)
    names, used = cells_of(lines, first, found)
    rows = first + used
    return [name.strip() for name in names], found, (sum(len(line) + 1 for line in lines[:rows]), rows)
