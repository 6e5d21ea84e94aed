"""A diagnosis on one screen of a terminal."""

import sys
from collections.abc import Iterator, Sized

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from refrm.diagnosis.model import Diagnosis, Estimate, Figures

MOST_FINDINGS, MOST_NOTES, MOST_SUBSETS, MOST_TRENDS, MOST_PROBLEMS = 3, 4, 5, 3, 3
WIDTH = 120


def show(found: Diagnosis) -> None:
    """Print a diagnosis."""
    # In a pipe there is no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(Group(*_parts(found)))


def _parts(found: Diagnosis) -> Iterator[RenderableType]:
    what = f"{found.n_pairs:,} pairs" if found.kind == "pairs" else "training log"
    yield Text.assemble((found.name, "bold"), f" ({what})")
    yield Text(found.verdict, "bold green" if found.healthy else "bold red")
    yield _figures(found.figures)
    for name, figures in list(found.subsets.items())[:MOST_SUBSETS]:
        yield _line(f"  {name}: " + ", ".join(f"{what} {x.value:.3g}" for what, x in _named(figures)[:5] if x))
    yield from _more(found.subsets, MOST_SUBSETS, "subsets")
    for name, trend in list(found.trends.items())[:MOST_TRENDS]:
        slope = trend.slope
        yield _line(f"  {name} per 1,000 steps: {slope.value:+.3g} ({slope.low:.3g} to {slope.high:.3g})")
    yield from _more(found.trends, MOST_TRENDS, "trends")
    severe = [finding for finding in found.findings if finding.severity == "finding"]
    for finding in severe[:MOST_FINDINGS]:
        where = f" [{finding.subset}]" if finding.subset else ""
        yield Text.assemble((f"{finding.id}{where}: ", "bold red"), finding.title, f" ({', '.join(finding.theorems)})")
        yield Text(f"  cure: {finding.cure}")
        yield Text(f"  will not fix: {finding.will_not_fix}", "dim")
    yield from _more(severe, MOST_FINDINGS, "findings")
    notes = [finding.title for finding in found.findings if finding.severity != "finding"] + list(found.notes)
    for note in notes[:MOST_NOTES]:
        yield _line(f"note: {note}", "dim")
    yield from _more(notes, MOST_NOTES, "notes")
    if found.problems.count:
        yield Text(f"rows that are no pairs and were left out: {found.problems.count:,}", "yellow")
        for problem in found.problems.shown[:MOST_PROBLEMS]:
            yield _line(f"  {problem.file}, line {problem.line}: expected {problem.expected}", "yellow")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _more(things: Sized, most: int, what: str) -> Iterator[Text]:
    more = len(things) - most
    if more > 0:
        yield _line(f"  and {more} more {what} (see --json)", "dim")


def _named(figures: Figures) -> list[tuple[str, Estimate | None]]:
    return [
        ("mean score", figures.mean_score),
        ("spread", figures.spread),
        ("mean margin", figures.mean_margin),
        ("accuracy", figures.accuracy.get("half")),
        ("loss", figures.loss),
        ("calibration error", figures.calibration.ece if figures.calibration else None),
        ("invisible energy", figures.invisible),
        ("ties", figures.ties),
    ]


def _figures(figures: Figures) -> Table:
    """Return figures with their intervals, two beside each other."""
    grid = Table.grid(padding=(0, 2))
    cells = [[f"  {what}", f"{x.value:.4g}", f"({x.low:.3g} to {x.high:.3g})"] for what, x in _named(figures) if x]
    half = (len(cells) + 1) // 2
    for i in range(half):
        grid.add_row(*cells[i], *(cells[half + i] if half + i < len(cells) else []))
    return grid
