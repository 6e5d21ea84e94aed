"""Markdown pages, as far as their tests need them: which code blocks there are, which headings, which links."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(page for page in (ROOT / "docs").rglob("*.md") if page.relative_to(ROOT).parts[1] != "_build")

FENCE = re.compile(r"^( *)(`{3,}|:{3,})([^`]*)$")
NEEDS = re.compile(r"<!-- needs: (\w+) -->")
# Directives whose contents are Markdown: blocks within them count.
CONTAINERS = ("prf:", "dropdown", "figure", "grid", "note", "admonition", "tab-", "card", "warning", "tip", "important")


class Block(NamedTuple):
    """A fenced block: its info string, its text, the number of its first line, and the module that it needs."""

    kind: str
    text: str
    line: int
    needs: str = ""


def blocks(text: str, first: int = 1) -> list[Block]:
    """Return the fenced blocks of a page, those inside of containers too."""
    found, lines, i = [], text.splitlines(), 0
    while i < len(lines):
        opening = FENCE.match(lines[i])
        if opening is None:
            i += 1
            continue
        indent, fence, kind = len(opening[1]), opening[2], opening[3].strip()
        end = next((j for j in range(i + 1, len(lines)) if lines[j].strip() == fence), None)
        if end is None:
            raise ValueError(f"line {first + i}: the block has no end")
        inner = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines[i + 1 : end]) + "\n"
        directive = re.match(r"\{(.*?)\}", kind)
        if directive and directive[1].startswith(CONTAINERS):
            found += blocks(inner, first + i + 1)
        else:
            above = NEEDS.search(next((line for line in reversed(lines[:i]) if line.strip()), ""))
            found.append(Block(directive[0] if directive else kind, inner, first + i + 1, above[1] if above else ""))
        i = end + 1
    return found


def prose(text: str) -> list[str]:
    """Return the lines outside of all blocks, front matter and comments; lines of blocks are empty."""
    text = re.sub(r"\A---\n.*?\n---\n|<!--.*?-->", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    lines, inside, containers = [], "", []
    for line in text.splitlines():
        fence = FENCE.match(line)
        if not inside and fence:
            container = re.match(r"\{(.*?)\}", fence[3].strip())
            if containers and line.strip() == containers[-1]:
                containers.pop()
            elif container and container[1].startswith(CONTAINERS):
                containers.append(fence[2])
            else:
                inside = fence[2]
            lines.append("")
        elif inside:
            inside = "" if line.strip() == inside else inside
            lines.append("")
        else:
            lines.append("" if fence else line)
    return lines


def indented_code(text: str) -> list[int]:
    """Return the numbers of lines that Markdown takes for code because they are indented, outside of lists."""
    found, listed, blank = [], False, True
    for number, line in enumerate(prose(text), 1):
        if not line.strip():
            blank = True
            continue
        if re.match(r" {0,3}([-*+]|\d+\.) |: ", line):
            listed = True
        elif not line.startswith(" "):
            listed = False
        elif line.startswith("    ") and not listed and (blank or number - 1 in found):
            found.append(number)
        blank = False
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    titles = [re.sub(r"^#+ ", "", line) for line in prose(text) if re.match(r"#{1,6} ", line)]
    return {re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", title.lower())) for title in titles}
