"""The site: ``sphinx-build -W docs docs/_build/html``, or ``tox -e docs``, which checks it too."""

import logging
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the pictures and the extensions
sys.path.append(str(HERE.parent))  # refrm, where it is not installed

import pictures  # noqa: E402

import refrm  # noqa: E402

logging.getLogger("fontTools").setLevel(logging.WARNING)
pictures.make(HERE / "_pictures")

project = "refrm"
copyright = "MIT licence"
version = release = refrm.__version__

extensions = [
    "commands",
    "mathml",
    "theorem_map",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_proof",
]
exclude_patterns = ["_build", "_pictures", "play"]
html_math_renderer = "mathml"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what, and of which shape
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!refrm\b).*")]  # what is ours must be there
suppress_warnings = ["ref.python"]  # n_params is of Linear and of MLP
prf_realtyp_to_countertyp = dict.fromkeys(["theorem", "lemma", "corollary", "proposition", "remark"], "theorem")

html_theme = "furo"
html_title = "refrm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def plain(app, what, name, obj, options, lines):
    """Let docstrings be plain text: |x| a size, theta_ a name, and `this` code unless it names what is documented."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`.*?`)", line)
        for j, part in enumerate(parts):
            if j % 2 == 0:
                parts[j] = re.sub(r"(?<=\w)_(?=\W|$)(?! ?:)", r"\_", part.replace("|", r"\|"))
            elif not re.fullmatch(r"`(refrm\.[\w.]+|[A-Z]\w+)`|``.*``", part):
                parts[j] = f"`{part}`"
        lines[i] = "".join(parts)


def backlinks(app, error):
    """Mend viewcode's links back: it takes the prefix of one name of a module, `refrm`, for that of all of them."""
    root = Path(app.outdir) / "_modules"
    for page in root.rglob("*.html") if error is None and app.builder.format == "html" else ():
        module = ".".join(page.relative_to(root).with_suffix("").parts)

        def mended(link, page=page, module=module):
            there = (page.parent / link[2]).read_text()
            known = [
                name
                for name in (link[3], f"{module}.{link[3].partition('.')[2]}", f"{module}.{link[3].rpartition('.')[2]}")
                if f'id="{name}"' in there
            ]
            return f'{link[1]}{link[2]}#{known[0] if known else ""}"'

        page.write_text(re.sub(r'(class="viewcode-back" href=")([^"#]+)#([^"]+)"', mended, page.read_text()))


def play(app, error):
    """Put the page to play with at play/index.html: html_extra_path would put it in the place of the site's index."""
    if error is None and app.builder.format == "html":
        shutil.copytree(HERE / "play", Path(app.outdir) / "play", dirs_exist_ok=True)


def setup(app):
    """Before napoleon reads the docstrings, and after all is written."""
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("build-finished", backlinks)
    app.connect("build-finished", play)
