"""A Sphinx extension: formulas become MathML when the site is built, so that a page needs no script and no network.

math-core knows every command that it writes, or refuses it: a formula that it refuses is a warning, which fails the
build. The glyphs that the pages use go into a font beside them (STIX Two Math, from ziamath; SIL Open Font License,
named in the font itself), since not every browser has a font for mathematics.
"""

import html
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools.subset import Options, Subsetter, load_font, save_font
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging

CONVERTER = LatexToMathML(annotation=True, fancy_error=False)
ITALIC = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C)}
"""What browsers show for an <mi> of one letter."""
RADICAL = 0x221A
"""What they draw for an <msqrt>, where no text has it."""


def convert(node: nodes.math | nodes.math_block) -> str:
    r"""Return the MathML of a formula; rows without an environment are aligned, as Sphinx does for LaTeX.

    ``\tag{*}`` is understood, too.
    """
    text, block = node.astext().strip(), isinstance(node, nodes.math_block)
    if block and "\\\\" in text and not text.startswith("\\begin{"):
        text = f"\\begin{{aligned}}{text}\\end{{aligned}}"
    if block and "\\tag{" in text and not text.startswith("\\begin{"):
        text = f"\\begin{{equation}}{text}\\end{{equation}}"
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
        self.body.append(f'<span class="eqno">({node["number"]})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def write_font(app: Sphinx, exception: Exception | None) -> None:
    """Write the part of the font that the formulas of the built pages use."""
    if exception or app.builder.format != "html":
        return
    used = {*ITALIC, RADICAL}
    for page in Path(app.outdir).rglob("*.html"):
        for formula in re.findall(r"<math\b.*?</math>", page.read_text(), re.S):
            used.update(map(ord, html.unescape(re.sub(r"<annotation.*?</annotation>|<[^>]*>", "", formula))))
    options = Options(flavor="woff", layout_features=["ssty"], hinting=False, name_IDs=["*"], notdef_outline=True)
    with as_file(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as path:
        font = load_font(str(path), options)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=used)
    subsetter.subset(font)
    save_font(font, str(Path(app.outdir) / "_static" / "math.woff"), options)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make ``html_math_renderer = "mathml"`` known."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
