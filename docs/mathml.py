"""A Sphinx extension: formulas become MathML when the site is built, so that a page needs no script and no network.

math-core knows every command it writes or refuses it; a formula that it refuses is a warning, which fails the build.
"""

from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging

CONVERTER = LatexToMathML(annotation=True, fancy_error=False)


def convert(node: nodes.math | nodes.math_block) -> str:
    """Return the MathML of a formula; rows without an environment are aligned, as Sphinx does for LaTeX."""
    text, block = node.astext().strip(), isinstance(node, nodes.math_block)
    if block and "\\\\" in text and not text.startswith("\\begin{"):
        text = f"\\begin{{aligned}}{text}\\end{{aligned}}"
    try:
        return CONVERTER.convert_with_local_state(text, displaystyle=block)
    except LatexError as error:
        logging.getLogger(__name__).warning("formula %s: %s", text, error, location=node)
        return ""


def inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(convert(node))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, with its number if it has a label."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(convert(node))
    if node["number"]:
        number = f"{node['number']}"
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Make ``html_math_renderer = "mathml"`` known."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
