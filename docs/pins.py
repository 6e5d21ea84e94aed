"""Binds each page to the code that it includes: ``python docs/pins.py``, or with ``--refresh [PAGE ...]``.

A page keeps, under `pins` in its front matter, a digest of every piece of source that it includes. Where the source has
changed since, the check fails and names page and object: read the page again, then refresh it.
"""

import argparse
import ast
import hashlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
ADVICE = "read the proof again, then python docs/pins.py --refresh"

FRONT = re.compile(r"\A---\n(.*?\n)---\n", re.S)
PINS = re.compile(r"^pins:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.M)
PIN = re.compile(r'^ +(\S+): "([0-9a-f]+)"$', re.M)
INCLUDE = re.compile(r"^(?:`{3,}|:{3,})\{literalinclude\} *(\S+)\n((?: *:[^\n]*\n)*)", re.M)
OPTION = re.compile(r"^ *:([\w-]+): *(.*?) *$", re.M)


class PinError(Exception):
    """A page includes what is not there, or in a way that cannot be pinned."""


class Source(NamedTuple):
    """An included piece of source: its name in the front matter, and its text."""

    name: str
    text: str


def of_object(text: str, dotted: str) -> str:
    """Return the source of a function or class, decorators included."""
    node: ast.AST = ast.parse(text)
    for part in dotted.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [child for child in ast.iter_child_nodes(node) if isinstance(child, kinds) and child.name == part]
        if not found:
            raise PinError(f"there is no {dotted}")
        node = found[-1]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def between(text: str, options: dict[str, str]) -> str:
    """Return the lines from one marker to another; a marker is part of a line, as for Sphinx."""
    lines = text.splitlines()
    for option, begins, after in (
        ("start-after", True, 1),
        ("start-at", True, 0),
        ("end-before", False, 0),
        ("end-at", False, 1),
    ):
        if option in options:
            where = next((i for i, line in enumerate(lines) if options[option] in line), None)
            if where is None:
                raise PinError(f"no line has {options[option]!r}")
            lines = lines[where + after :] if begins else lines[: where + after]
    return "\n".join(lines)


def included(page: Path, root: Path) -> list[Source]:
    """Return the pieces of source that a page includes."""
    found, page_text = [], page.read_text()
    includes = INCLUDE.findall(page_text)
    if len(includes) != page_text.count("literalinclude"):
        raise PinError("literalinclude is to begin a line, as ```{literalinclude} PATH")
    for target, block in includes:
        options = {key: value[1:-1] if value[:1] in ("'", '"') else value for key, value in OPTION.findall(block)}
        file = (page.parent / target).resolve()
        if not file.is_file():
            raise PinError(f"there is no file {target}")
        name, text = file.relative_to(root.resolve()).as_posix(), file.read_text()
        if wrong := {"lines", "diff"} & set(options):
            raise PinError(f"{name} is included by :{wrong.pop()}:, which does not follow the code; use :pyobject:")
        try:
            if "pyobject" in options:
                name, text = f"{name}::{options['pyobject']}", of_object(text, options["pyobject"])
            elif marks := [options[key] for key in ("start-after", "start-at") if key in options]:
                mark = re.sub(r"[^\w.]+", "-", marks[0]).strip("-")
                name, text = f"{name}::{mark}", between(text, options)
        except PinError as error:
            raise PinError(f"{name}: {error}") from None
        found.append(Source(name, text))
    return found


def digest(text: str) -> str:
    """Return a digest of the text, whatever its trailing blanks."""
    return hashlib.sha256("\n".join(line.rstrip() for line in text.splitlines()).encode()).hexdigest()[:16]


def current(page: Path, root: Path) -> dict[str, str]:
    """Return what the pins of the page should be."""
    return {source.name: digest(source.text) for source in included(page, root)}


def kept(page: Path) -> dict[str, str]:
    """Return the pins in the front matter of the page."""
    front = FRONT.match(page.read_text())
    block = PINS.search(front[1]) if front else None
    return dict(PIN.findall(block[0])) if block else {}


def complaints(page: Path, root: Path) -> list[str]:
    """Return what is wrong with the pins of the page, one line each."""
    name = page.relative_to(root).as_posix()
    try:
        now, then = current(page, root), kept(page)
    except PinError as error:
        return [f"{name}: {error}"]
    return (
        [
            f"{name}: {source} has changed since its pin was made"
            for source in now
            if now[source] != then.get(source, now[source])
        ]
        + [f"{name}: {source} has no pin" for source in now if source not in then]
        + [f"{name}: pin of {source}, which the page does not include" for source in then if source not in now]
    )


def refresh(page: Path, root: Path) -> bool:
    """Rewrite the pins of the page; return whether it changed."""
    before, now = page.read_text(), current(page, root)
    block = "pins:" + ("".join(f'\n  {source}: "{value}"' for source, value in now.items()) or " {}") + "\n"
    front = FRONT.match(before)
    if front is None:
        after = f"---\n{block}---\n\n{before}" if now else before
    elif PINS.search(front[1]):
        after = "---\n" + PINS.sub(lambda _: block, front[1], count=1) + before[front.end(1) :]
    else:
        after = "---\n" + front[1] + (block if now else "") + before[front.end(1) :]
    if after != before:
        page.write_text(after)
    return after != before


def main(arguments: list[str] | None = None, docs: Path = DOCS) -> int:
    """Check or refresh the pages, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: all pages of the site")
    parser.add_argument("--refresh", action="store_true", help="make the pins those of the code as it is")
    options = parser.parse_args(arguments)
    root = docs.parent
    pages = [page.absolute() for page in options.pages] or sorted(docs.rglob("*.md"))
    wrong = []
    for page in pages:
        if options.refresh:
            try:
                if refresh(page, root):
                    print(f"refreshed {page.relative_to(root)}")
            except PinError as error:
                wrong.append(f"{page.relative_to(root)}: {error}")
        else:
            wrong += complaints(page, root)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong and not options.refresh:
        print(ADVICE, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
