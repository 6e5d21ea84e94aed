"""A diagnosis on one screen of a terminal: the verdict, what helps, figures, and as much more as there is room for."""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from refrm.diagnosis import wording
from refrm.diagnosis.model import Diagnosis, Figures, Finding
from refrm.diagnosis.wording import plain

WIDTH, HEIGHT = 100, 40
"""In a pipe, where there is no screen to keep to."""


class Detail(NamedTuple):
    """How much is shown: findings; how many of them with a cure, and with what it does not fix; and other things."""

    findings: int
    cures: int
    limits: int
    subsets: int
    notes: int
    problems: int


LEVELS = (
    Detail(20, 20, 20, 20, 20, 10),
    Detail(9, 4, 4, 8, 6, 3),
    Detail(5, 3, 3, 5, 3, 2),
    Detail(4, 3, 1, 4, 1, 1),
    Detail(4, 2, 1, 0, 0, 0),
    Detail(3, 1, 1, 0, 0, 0),
    Detail(2, 1, 0, 0, 0, 0),
)
"""From all to the least; the first that fits is shown."""


def show(found: Diagnosis, page: str = "") -> None:
    """Print a diagnosis; ``page`` is the file that has all of it."""
    on_screen = sys.stdout.isatty()
    console = Console(width=None if on_screen else WIDTH, highlight=False)
    height = console.height - 1 if on_screen else HEIGHT  # the prompt needs a line
    for detail in LEVELS:
        whole = Group(*_parts(found, detail, page))
        if len(console.render_lines(whole)) <= height:
            break
    console.print(whole)


def _parts(found: Diagnosis, detail: Detail, page: str) -> Iterator[RenderableType]:
    severe = [one for one in found.findings if one.severity == "finding"]
    notes = [one.title for one in found.findings if one.severity != "finding"] + list(found.notes)
    what, where = wording.subject(found)
    yield _line(Text.assemble((plain(found.name), "bold"), f" ({what})", f"  {where}" if where else ""))
    yield Text(found.verdict, "bold green" if found.healthy else "bold red")
    for at, one in enumerate(severe[: detail.findings]):
        yield from _finding(one, at, detail)
    yield from _figures(found.figures)
    yield from _trends(found)
    for name, figures in list(found.subsets.items())[: detail.subsets]:
        yield _line(Text(f" {plain(name)}: {_brief(figures)}"))
    for note in notes[: detail.notes]:
        yield _line(Text(f"note: {note}", "dim"))
    yield from _problems(found, detail)
    if found.unknown:
        yield _line(Text(f"cannot tell: {', '.join(name.replace('_', ' ') for name in found.unknown)}", "dim"))
    left = [
        f"{count:,} {name}{'s' if count > 1 else ''}"
        for name, all_of_it, shown in (
            ("finding", len(severe), detail.findings),
            ("subset", len(found.subsets), detail.subsets),
            ("note", len(notes), detail.notes),
        )
        if (count := all_of_it - shown) > 0
    ]
    page = f"all of it: {plain(page)}" if page else "all of it: --html FILE or --json"
    yield _line(Text((f"not shown: {', '.join(left)}; " if left else "") + page, "dim"))


def _finding(one: Finding, at: int, detail: Detail) -> Iterator[RenderableType]:
    where = f" [{plain(one.subset)}]" if one.subset else ""
    if at or where:  # the first one is the verdict
        why = f" ({', '.join(dict.fromkeys(one.theorems))})" if one.theorems else ""
        yield Text.assemble((f"{one.id}{where}: ", "bold red"), one.title, why)
    if at < detail.cures:
        yield _indented(Text(f"cure: {one.cure}"))
    if at < detail.limits:
        yield _indented(Text(f"will not fix: {one.will_not_fix}", "dim"))


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)


_SHOWN = {
    "mean_score": "mean shift",
    "spread": "its spread",
    "mean_margin": "mean margin",
    "accuracy.half": "ranked right",
    "accuracy.as logged": "ranked right",
    "loss": "loss",
    "invisible": "unseen part",
    "ece": "calibration",
    "ties": "ties",
}


def _figures(figures: Figures) -> Iterator[Text]:
    """Yield lines of figures with their intervals, two beside each other, within 80 columns."""
    cells = []
    for row in wording.rows(figures):
        if row.key == "ece" and figures.calibration:
            noise = wording.percent(figures.calibration.ece_noise, 1)
            cells.append((_SHOWN[row.key], f"off {wording.value(row.value, True)} (chance {noise})"))
        elif row.key in _SHOWN and not (row.key == "ties" and not getattr(row.value, "value", 0.0)):
            cells.append((_SHOWN[row.key], wording.both(row.value, row.share)))
    half = (len(cells) + 1) // 2
    for at, (label, text) in enumerate(cells[:half]):
        more = "  {:<11} {}".format(*cells[half + at]) if half + at < len(cells) else ""
        yield _line(Text(f" {label:<12} {text:<28}{more}".rstrip()))


def _brief(figures: Figures) -> str:
    found = {row.key: row for row in wording.rows(figures)}
    words = {"mean_score": "shift", "spread": "spread", "mean_margin": "margin", "accuracy.half": "right"}
    words |= {"accuracy.as logged": "right", "loss": "loss"}
    shown = [(word, found[key]) for key, word in words.items() if key in found]
    return ", ".join(f"{word} {wording.value(row.value, row.share)}" for word, row in shown)


def _trends(found: Diagnosis) -> Iterator[Text]:
    for name, label in (("mean_score", "shift"), ("mean_margin", "margin")):
        if name in found.trends:
            yield _line(Text(f" {label} per 1,000 steps: {wording.both(found.trends[name].slope)}"))


def _problems(found: Diagnosis, detail: Detail) -> Iterator[Text]:
    if found.problems.count:
        yield _line(Text(f"rows that are no pairs and were left out: {found.problems.count:,}", "yellow"))
        for one in found.problems.shown[: detail.problems]:
            yield _line(Text(f"  {plain(one.file)}, line {one.line}: expected {plain(one.expected)}", "yellow"))


def _line(text: Text) -> Text:
    """Return a text that is cut where the line ends."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
