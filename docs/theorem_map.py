"""A Sphinx extension: the directive ``theorem-map`` lists `refrm.theorems.THEOREMS` and what holds each of them."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from refrm.oracle.vectors import load_vectors
from refrm.theorems import THEOREMS, Theorem

TESTS = Path(__file__).parent.parent / "tests" / "test_theorems.py"


def vectors(theorem: Theorem) -> str:
    """Return the files of test vectors that cite the theorem, with the number of their tests that do."""
    counts = {
        file.name: sum(len(group.tests) for group in file.groups if theorem.id in group.theorems)
        for file in load_vectors()
    }
    return ", ".join(f"`{name}` ({count})" for name, count in counts.items() if count) or "none"


def table() -> str:
    """Return the map as a Markdown table."""
    tests = TESTS.read_text()
    rows = ["| theorem | says | predicates | tests | vectors |", "|---|---|---|---|---|"]
    for key, theorem in THEOREMS.items():
        predicates = " ".join(f"{{py:func}}`~refrm.theorems.{function.__name__}`" for function in theorem.predicates)
        count = len(re.findall(rf"^def test_{key.lower()}_", tests, re.M))
        page = f"[{key} {theorem.title}]({key.lower()}.md)"
        rows.append(
            f"| {page} | {theorem.says} | {predicates} | `test_{key.lower()}_*` ({count}) | {vectors(theorem)} |"
        )
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
