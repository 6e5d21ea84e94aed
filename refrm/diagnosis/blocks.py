"""Bytes of a text file, plain or compressed, in blocks that end where a record does."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, BinaryIO

from refrm.errors import FileError

BLOCK = 1 << 24
LONGEST = 1 << 29
"""The longest record, in bytes."""

COMPRESSED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Place:
    """A file, and what messages call it."""

    path: Path
    name: str

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return self.name


@contextlib.contextmanager
def opened(path: Place) -> Iterator[BinaryIO]:
    """Open a file; what the system or a decompressor then complains about becomes a `FileError`."""
    try:
        with open(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is not wholly there, or damaged: {error}") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def plain(path: Place) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Yield a stream of decompressed bytes, after a byte order mark; and how many of the file's bytes were read."""
    with opened(path) as file, contextlib.ExitStack() as stack:
        how, stream = compression(file), file
        if how:
            stream = stack.enter_context(how.open(file))
        head = stream.read(3)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise FileError(f"{path} is UTF-16; expected UTF-8")
        if head != b"\xef\xbb\xbf":
            stream.seek(0)
        yield stream, file.tell


def compression(file: BinaryIO) -> ModuleType | None:
    """Return the module that decompresses a file, by its first bytes."""
    head = file.read(6)
    file.seek(0)
    return next((module for magic, module in COMPRESSED.items() if head.startswith(magic)), None)


def unpack_zstd(path: Place, target: Path) -> None:
    """Decompress to another file, by polars: Python has zstd from 3.14 only."""
    import polars as pl

    schema = {"line": pl.String}
    lines = pl.scan_csv(
        path.path, has_header=False, separator="\x1f", quote_char=None, schema=schema, encoding="utf8-lossy"
    )
    try:
        lines.sink_csv(target, include_header=False, quote_style="never")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"{path} is not wholly there, or damaged: {str(error).splitlines()[0]}") from None


def blocks(
    path: Place, cut: Callable[[bytes], int], moved: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole records, each with the number of its first line.

    ``cut`` returns where the last record that is certainly whole ends, or 0; ``moved`` is told how many bytes of the
    file were read.
    """
    rest, line = b"", 1
    with plain(path) as (stream, position):
        size = BLOCK
        while data := stream.read(size):
            end = len(data) < size
            data = rest + data
            at = len(data) if end else cut(data)
            if not at and len(data) > LONGEST:
                raise FileError(f"{path}, line {line}: expected lines of at most {LONGEST} bytes")
            moved(position())
            if at:
                yield data[:at], line
            line, rest = line + data.count(b"\n", 0, at), data[at:]
            size = max(BLOCK, len(rest))  # ever more, where a record is longer than a block
        if rest:
            yield rest, line


def pieces(block: bytes, line: int, cut: Callable[[bytes], int], size: int) -> Iterator[tuple[bytes, int]]:
    """Yield a block in parts of about ``size`` bytes, each with the number of its first line."""
    at = 0
    while at < len(block):
        reach, end = size, 0
        while not end and at + reach < len(block):
            end, reach = cut(block[at : at + reach]), 2 * reach
        part = block[at : at + end] if end else block[at:]
        yield part, line
        at, line = at + len(part), line + part.count(b"\n")
