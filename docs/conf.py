"""The site: ``sphinx-build -W docs docs/_build/html``, or ``tox -e docs``, which checks it too."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # mathml.py; refrm, where it is not installed

import refrm  # noqa: E402

project = "refrm"
copyright = "MIT licence"
version = release = refrm.__version__

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_proof",
]
exclude_patterns = ["_build", "_pictures", "play", "theorems.md"]
html_math_renderer = "mathml"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
prf_realtyp_to_countertyp = dict.fromkeys(["theorem", "lemma", "corollary", "proposition", "remark"], "theorem")

html_theme = "furo"
html_title = "refrm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
