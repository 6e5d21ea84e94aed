"""A Sphinx extension: the directive ``theorem-map`` lists `refrm.theorems.THEOREMS` and what holds each of them."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from refrm.oracle.vectors import load_vectors
from refrm.theorems import THEOREMS, Theorem

TESTS = Path(__file__).parent.parent / "tests" / "test_theorems.py"


def held(theorem: Theorem, tests: str) -> str:
    """Return what holds the theorem: property tests, and the files of vectors that cite it with how often."""
    name = f"test_{theorem.id.lower()}_"
    counts = {
        file.name: sum(len(group.tests) for group in file.groups if theorem.id in group.theorems)
        for file in load_vectors()
    }
    vectors = [f"`{file}` ({count})" for file, count in counts.items() if count]
    return ", ".join([f"`{name}*` ({len(re.findall(rf'^def {name}', tests, re.M))})", *vectors])


def table() -> str:
    """Return the map as a Markdown table."""
    tests = TESTS.read_text()
    rows = ["| theorem | predicates | tests, and vectors |", "|---|---|---|"]
    for key, theorem in THEOREMS.items():
        predicates = "<br>".join(f"{{py:func}}`~refrm.theorems.{function.__name__}`" for function in theorem.predicates)
        page = f"[**{key} {theorem.title}**]({key.lower()}.md)<br>{theorem.says}"
        rows.append(f"| {page} | {predicates} | {held(theorem, tests)} |")
    return "\n".join(rows)


class TheoremMap(SphinxDirective):
    """``{theorem-map}``, without arguments."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(TESTS))
        return self.parse_text_to_nodes(table())


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("theorem-map", TheoremMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
