"""Checks a built site: ``python docs/audit.py DIRECTORY``. It needs no network, and nothing is broken or missing.

Every page has a title, one first heading and a language; whatever it loads (scripts, styles, fonts, images) lies in the
site; links within the site lead somewhere, to an anchor that exists; images have alternative text; no formula is left
as LaTeX. Links to elsewhere are for the reader to follow, and are not loaded.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {"script": ("src",), "img": ("src",), "iframe": ("src",), "source": ("src",), "object": ("data",)}
LOADED |= {"audio": ("src",), "video": ("src",), "embed": ("src",), "image": ("href", "xlink:href")}
LOADED |= {"use": ("href", "xlink:href"), "link": ("href",)}
CODE = ("script", "annotation", "code", "pre", "span")
ASKS = re.compile(r"\b(?:fetch|importScripts|import|XMLHttpRequest|WebSocket|EventSource)\s*\(\s*[\"'`]https?:")
URL = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


class Page(HTMLParser):
    """What one page loads, links to and defines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.faults: list[str] = []
        self.headings = 0
        self.title = self.within = ""
        self.language = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what the tag loads, links to or defines."""
        values = {name: value or "" for name, value in attributes}
        self.within = tag
        self.headings += tag == "h1"
        self.language |= tag == "html" and bool(values.get("lang"))
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.loads += [values[name] for name in LOADED.get(tag, ()) if values.get(name)]
        self.loads += [first or second for first, second in URL.findall(values.get("style", ""))]
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt", "").strip():
            self.faults.append(f"image {values.get('src')} has no alternative text")
        if {"system-message", "problematic"} & set(values.get("class", "").split()):
            self.faults.append("a message of the build stands in the page")

    def handle_endtag(self, tag: str) -> None:
        """Leave the tag."""
        self.within = ""

    def handle_data(self, text: str) -> None:
        """Note the title, and what styles and scripts load."""
        if self.within == "title":
            self.title = self.title or text.strip()
        elif self.within == "style":
            self.loads += [first or second for first, second in URL.findall(text)]
        elif self.within == "script" and ASKS.search(text):
            self.faults.append("a script asks the network")
        elif re.search(r"\$|\\[(\[]|\\begin\{", text) and self.within not in CODE:
            self.faults.append(f"a formula is left as LaTeX: {text.strip()[:60]}")


def within(site: Path, page: Path, address: str) -> Path | None:
    """Return the file of the site that a relative address means; None if it is not in the site."""
    path = unquote(urlsplit(address).path)
    file = (page.parent / path).resolve() if path else page
    file = file / "index.html" if file.is_dir() else file
    return file if file.is_file() and file.is_relative_to(site) else None


def audit(site: Path) -> list[str]:
    """Return what is wrong with the site, one line each."""
    site = site.resolve()
    pages = {file: Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    wrong = [] if site / "index.html" in pages else [f"{site}: no index.html"]
    for file, page in pages.items():
        name = file.relative_to(site)
        wrong += [f"{name}: {fault}" for fault in page.faults]
        headed = page.headings == 1 or name.name == "search.html"  # whose heading is a script's
        if not page.title or not page.language or not headed:
            wrong.append(f"{name}: title {page.title!r}, {page.headings} first headings, language {page.language}")
        for address in page.loads:
            if not address.startswith(("data:", "#")) and (urlsplit(address).netloc or not within(site, file, address)):
                wrong.append(f"{name}: loads {address}, which is not in the site")
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target, anchor = within(site, file, address), unquote(urldefrag(address).fragment)
            if target is None:
                wrong.append(f"{name}: links to {address}, which is not in the site")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                wrong.append(f"{name}: links to {address}, which has no such anchor")
    for file in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        for first, second in URL.findall(file.read_text()):
            address = first or second
            if not address.startswith(("data:", "#")) and (urlsplit(address).netloc or not within(site, file, address)):
                wrong.append(f"{file.relative_to(site)}: loads {address}, which is not in the site")
    for file in sorted(site.rglob("*.js")):
        if ASKS.search(file.read_text()):
            wrong.append(f"{file.relative_to(site)}: a script asks the network")
    return wrong


def main(arguments: list[str]) -> int:
    """Print what is wrong, and return the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python docs/audit.py DIRECTORY", file=sys.stderr)
        return 2
    wrong = audit(Path(arguments[0]))
    for line in wrong:
        print(line, file=sys.stderr)
    files = [file for file in Path(arguments[0]).rglob("*") if file.is_file()]
    size, pages = sum(file.stat().st_size for file in files) / 1e6, sum(file.suffix == ".html" for file in files)
    print(f"{pages} pages, {size:.1f} MB, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
