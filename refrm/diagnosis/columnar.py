"""Pairs from Parquet, Arrow, NPZ and JSON documents: batches of a lazy frame, the next one read while one is used."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from refrm.diagnosis.blocks import Place, plain
from refrm.diagnosis.formats import NUMBERS, Layout, listed
from refrm.diagnosis.frames import required, slow, standard
from refrm.diagnosis.ledger import Ledger
from refrm.errors import FileError
from refrm.files import read_npz
from refrm.spec import Array

SLICE = 1 << 20
"""Rows that are read at a time."""

WITH_TEXTS = 1 << 16
"""The same, where there are texts among them."""


@dataclass(frozen=True)
class Table:
    """A lazy frame of a known number of rows."""

    path: Place
    lazy: pl.LazyFrame
    height: int

    def head(self, rows: int) -> list[dict[str, Any]]:
        """Return the first rows."""
        return self._dicts(self.lazy.head(rows))

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows."""
        return self._dicts(self.lazy)

    def _dicts(self, lazy: pl.LazyFrame) -> list[dict[str, Any]]:
        with damage(f"{self.path} is not wholly there, or damaged"):
            return lazy.collect().to_dicts()

    def _batches(self, columns: list[str], rows: int) -> Iterator[pl.DataFrame]:
        """Yield so many rows at a time; the next ones are read meanwhile, and no row group or batch is read twice."""
        lazy = self.lazy.select(columns)
        with damage(f"{self.path} is not wholly there, or damaged"):
            for frame in lazy.collect_batches(chunk_size=rows, maintain_order=True, lazy=True, engine="streaming"):
                yield frame.rechunk()

    def read(self, layout: Layout, ledger: Ledger, moved: Callable[[int], None]) -> Iterator[pl.DataFrame]:
        """Yield the pairs."""
        schema = self.lazy.collect_schema()
        simple = not layout.many and all(_simple(role, schema[column]) for role, column in layout.columns.items())
        columns = list(dict.fromkeys(layout.columns.values()))
        texts = any(schema[column] == pl.String or schema[column].is_nested() for column in columns)
        at = 0
        for raw in self._batches(columns, WITH_TEXTS if texts else SLICE):
            if simple:
                yield from _checked(raw, at, layout, ledger)
            else:
                yield from slow(enumerate(raw.iter_rows(named=True), at + 1), layout, ledger)
            at += raw.height
            moved(os.path.getsize(self.path) * at // self.height)
        if at != self.height:
            raise FileError(f"{self.path}: expected {self.height} rows, got {at}")


@contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn what polars says of a file into a `FileError` of one line; a panic's words are of its own code alone."""
    try:
        yield
    except pl.exceptions.PanicException:
        raise FileError(what) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _checked(raw: pl.DataFrame, at: int, layout: Layout, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Yield what has all numbers, and note the rest: here a number can be missing, but not malformed."""
    frame = standard(raw, layout)
    odd = required(frame)
    ledger.rows += frame.height - int(odd.sum())
    yield frame.filter(~odd) if odd.any() else frame
    yield from slow(((at + i + 1, raw.row(i, named=True)) for i in odd.arg_true()), layout, ledger)


def _simple(role: str, dtype: pl.DataType) -> bool:
    """Return whether polars can make of a column what Python would."""
    if role in NUMBERS:
        return dtype.is_numeric()
    return dtype == pl.String or (role in ("group", "subset") and (dtype.is_integer() or dtype == pl.Categorical))


def scan(path: Place, form: str) -> Table:
    """Return the table of a Parquet or Arrow file."""
    with damage(f"{path} is not a whole {'Parquet' if form == 'parquet' else 'Arrow'} file"):
        if form == "parquet":
            lazy = pl.scan_parquet(path.path, glob=False)
        elif form == "arrow":
            lazy = pl.scan_ipc(path.path)
        else:
            lazy = pl.read_ipc_stream(path.path).lazy()
        return Table(path, lazy, int(lazy.select(pl.len()).collect().item()))


def columns_of(path: Place) -> dict[str, Array]:
    """Return the arrays of an archive that can be columns: of one dimension, or of one column."""
    arrays = read_npz(path)
    flat = {name: a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for name, a in arrays.items()}
    found = {name: a for name, a in flat.items() if a.ndim == 1 and a.dtype.kind in "fiuU"}
    if not found:
        shapes = listed(f"{name} {a.dtype}{list(a.shape)}" for name, a in arrays.items())
        raise FileError(f"{path} has no array of scores, of shape (N,); it has {shapes}: `refrm score` scores features")
    return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in found.items()}


def table_of(path: Place, arrays: Mapping[str, Array]) -> Table:
    """Return the table of arrays, which must be of one length."""
    lengths = {len(a) for a in arrays.values()}
    if len(lengths) > 1:
        shapes = listed(f"{name} {a.shape}" for name, a in arrays.items())
        raise FileError(f"{path}: expected arrays of one length, got {shapes}")
    return Table(path, pl.DataFrame(dict(arrays)).lazy(), lengths.pop())


def document(path: Place) -> Any:
    """Return what a JSON document holds: a list of rows, or a mapping."""
    with plain(path) as (stream, _):
        data = stream.read()
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FileError(f"{path}, line {error.lineno}: expected JSON, but {error.msg}") from None
    except (ValueError, RecursionError):
        raise FileError(f"{path}: expected JSON with shorter numbers, and not nested so deeply") from None


def rows_of(document: Any) -> list[dict[str, Any]]:
    """Return the rows of a document: of a list, or of columns, as lists or (as pandas writes them) by index.

    Where a column is shorter than another, the rows beyond its end lack it.
    """
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return []
    columns = {key: list(of.values()) if isinstance(of, dict) else of for key, of in document.items()}
    columns = {key: of for key, of in columns.items() if isinstance(of, list)}
    longest = max(map(len, columns.values()), default=0)
    return [{key: of[i] for key, of in columns.items() if i < len(of)} for i in range(longest)]
