"""Pieces of a page, from texts that may hold anything."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from refrm.diagnosis.wording import plain

Name = str | tuple[str, str]
"""What a row is of; with a second text, what that is."""


def table(caption: str, heads: Sequence[str], rows: Iterable[tuple[Name, Sequence[str]]]) -> Iterator[str]:
    """Yield a table of texts. It scrolls by itself where it is too wide."""
    yield f'<div class="wide" role="region" aria-label="{text(caption)}" tabindex="0"><table>'
    yield f"<caption>{text(caption)}</caption><thead><tr>"
    yield "".join(f'<th scope="col">{text(head)}</th>' if head else "<td></td>" for head in heads)
    yield "</tr></thead><tbody>"
    for name, cells in rows:
        first = text(name) if isinstance(name, str) else f"{text(name[0])}<small>{text(name[1])}</small>"
        yield f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>'
    yield "</tbody></table></div>"


def text(raw: str) -> str:
    """Return a text as markup that shows it and does nothing else."""
    return escape(plain(raw))


def sentence(raw: str) -> str:
    """Return escaped text that begins with a capital and ends with a stop, with code where backticks say so."""
    if re.match(r"a |[a-z]{2,}\b(?!_)", raw):  # a word, and no symbol
        raw = raw[0].upper() + raw[1:]
    pieces = text(raw if raw.endswith((".", "?", "!")) else f"{raw}.").split("`")
    if len(pieces) % 2 == 0:
        return "`".join(pieces)
    return "".join(f"<code>{piece}</code>" if k % 2 else piece for k, piece in enumerate(pieces))
