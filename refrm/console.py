"""What the command line shows: a progress bar, a table of figures, JSON; and what it keeps to itself."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refrm.fit import Record

COLUMNS = ("mean score", "spread", "mean margin", "train acc", "held-out acc")


@contextmanager
def progress(total: int, text: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a progress bar to a step; there is a bar only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda step: bar.update(task, completed=step)


@contextmanager
def python_alone_on_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error itself: of a panic of polars, which is an exception as well."""
    with ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        try:
            ours = sys.stderr.fileno() == 2
        except (AttributeError, OSError):  # None, or not of a file: somebody else catches it
            ours = False
        if ours:
            stream = open(kept, "w", 1, sys.stderr.encoding, sys.stderr.errors, closefd=False)  # noqa: SIM115
            stack.enter_context(redirect_stderr(stack.enter_context(stream)))
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield


def print_table(rows: list[tuple[str, list[float | None]]]) -> None:
    """Print figures under `COLUMNS`, one named row each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("objective" if len(rows) > 1 else "")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, figures in rows:
        table.add_row(name, *("" if x is None else f"{x:.{3 if i >= 3 else 2}f}" for i, x in enumerate(figures)))
    # In a pipe there is no width to keep to.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def figures(record: "Record") -> list[float | None]:
    """Return a record's figures in the order of `COLUMNS`."""
    keys = ("mean_score", "spread", "mean_margin", "accuracy", "heldout_accuracy")
    return [record.get(key) for key in keys]


def finite(value: Any) -> Any:
    """Return the value with every float that JSON has no word for replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(finite(value), allow_nan=False))
