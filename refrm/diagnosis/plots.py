"""Pictures of a diagnosis as files, drawn without pyplot: no global state, no window, half the time to import."""

import io
import math
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from refrm.diagnosis.model import Diagnosis
from refrm.diagnosis.panels import BLUE, GREEN, INK, ORANGE, PINK, Panel, panels, shortened
from refrm.errors import InputError
from refrm.files import write_atomic

SIZE = (4.5, 3.3)
"""Of a panel, in inches."""

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "refrm",
}
PLAIN = {"Creator": None, "Date": None, "Format": None, "Type": None}
"""Nothing about the file in an SVG: the same diagnosis gives the same bytes."""

THEME = {INK: "currentColor"} | {
    colour: f"var(--{name}, {colour})"
    for name, colour in (("blue", BLUE), ("orange", ORANGE), ("green", GREEN), ("pink", PINK))
}
"""Colours of a panel that is part of a page: the page may have others in the dark."""


def plot_diagnosis(path: str | os.PathLike[str], found: Diagnosis) -> None:
    """Write the pictures of a diagnosis into one file.

    Parameters
    ----------
    path : path
        PNG or SVG, by its suffix.
    found : Diagnosis

    Raises
    ------
    InputError
        For another suffix.
    FileError
        If the file cannot be written.
    """
    form = suffix(path)
    drawn = panels(found)
    columns = min(3 if len(drawn) > 4 else 2, max(1, len(drawn)))
    rows = max(1, math.ceil(len(drawn) / columns))
    heading = "\n".join([shortened(found.name, 46 * columns), *textwrap.wrap(found.verdict, 46 * columns)])
    with _styled():
        figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows + 0.7), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, axes in zip(drawn, grid, strict=False):
            panel.draw(axes)
            axes.set_title(panel.title)
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        colour = GREEN if found.healthy else ORANGE
        figure.suptitle(heading, color=colour, fontsize=11.5, fontweight="bold", parse_math=False)
        write_atomic(path, _bytes(figure, form))


def suffix(path: str | os.PathLike[str]) -> str:
    """Return "png" or "svg", or raise `InputError` for a path that ends in neither."""
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise InputError(f"a plot is .png or .svg, got {os.fspath(path)!r}")
    return form


def as_svg(panel: Panel) -> str:
    """Return one panel as an SVG element of a page: no title, the page's colours and font, ids of its own."""
    with _styled():
        figure = Figure(figsize=SIZE, layout="constrained")
        panel.draw(figure.subplots())
        text = _bytes(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg ") :]
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)  # it would be the whole page's
    for colour, own in THEME.items():
        text = text.replace(colour.lower(), own)
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{panel.key}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.* missing")  # of a name in a script that the font lacks
        yield


def _bytes(figure: Any, form: str, transparent: bool = False) -> bytes:
    buffer = io.BytesIO()
    if form == "png":
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    else:
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", dpi=150, metadata=PLAIN, transparent=transparent)
    return buffer.getvalue()
