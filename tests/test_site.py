"""The tools of the site: pins hold pages to their code, and the audit finds what a built site must not have."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
from pages import ROOT


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pins, site = tool("pins"), tool("audit")


# --- pins


def test_every_page_is_pinned_to_the_code_that_it_includes():
    done = subprocess.run([sys.executable, ROOT / "docs" / "pins.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CODE = '''"""A module."""


@decorated
def force(s):
    """Pull."""
    return 2 * s


class Term:
    def value(self, s):
        return s * s


# begin
CONSTANT = 1
# end
'''
INCLUDES = """# A page

```{literalinclude} ../code.py
:pyobject: force
```

```{literalinclude} ../code.py
:pyobject: Term.value
```

```{literalinclude} ../code.py
:start-after: "# begin"
:end-before: "# end"
```
"""


@pytest.fixture
def page(tmp_path):
    """A page with three pins, in a project of its own."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "code.py").write_text(CODE)
    page = tmp_path / "docs" / "page.md"
    page.write_text(f"---\ntheorem: T0\npins: {{}}\nother: 1\n---\n\n{INCLUDES}")
    assert pins.main(["--refresh"], page.parent) == 0
    return page


def test_refreshed_pins_are_right_and_the_rest_of_the_page_stays(page):
    assert pins.main([], page.parent) == 0
    text = page.read_text()
    assert text.startswith('---\ntheorem: T0\npins:\n  code.py::force: "') and text.count('"\n') == 3 + 2
    assert text.endswith(f"\nother: 1\n---\n\n{INCLUDES}")
    assert pins.main(["--refresh"], page.parent) == 0 and page.read_text() == text


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("return 2 * s", "return -2 * s", "code.py::force"),
        ("@decorated", "@other", "code.py::force"),
        ("return s * s", "return abs(s)", "code.py::Term.value"),
        ("CONSTANT = 1", "CONSTANT = 2", "code.py::begin"),
    ],
)
def test_changed_code_fails_and_names_page_and_object(page, capsys, before, after, name):
    code = page.parent.parent / "code.py"
    code.write_text(code.read_text().replace(before, after))
    assert pins.main([], page.parent) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"docs/page.md: {name} has changed since its pin was made", pins.ADVICE]
    assert pins.main(["--refresh", str(page)], page.parent) == 0
    assert pins.main([], page.parent) == 0


def test_code_that_moves_or_is_not_shown_changes_nothing(page):
    code = page.parent.parent / "code.py"
    code.write_text(
        '"""Another docstring."""\nX = 1\n' + CODE.partition("\n")[2].replace("return 2 * s", "return 2 * s  ")
    )
    assert pins.main([], page.parent) == 0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("Term.value", "Term.absent", "code.py: there is no Term.absent"),
        ("../code.py\n:pyobject: force", "../absent.py\n:pyobject: force", "there is no file ../absent.py"),
        ('"# begin"', '"# never"', """code.py: no line has '# never'"""),
        (":pyobject: force", ":lines: 1-3", "code.py is included by :lines:, which does not follow the code"),
        (
            "```{literalinclude} ../code.py\n:pyobject: force",
            "- ```{literalinclude} ../code.py\n:pyobject: force",
            "begin",
        ),
        (":pyobject: force", ":pyobject: Term", "code.py::Term has no pin"),
        (
            "```{literalinclude} ../code.py\n:pyobject: force\n```\n",
            "",
            "pin of code.py::force, which the page does not",
        ),
    ],
)
def test_what_cannot_be_pinned_is_said(page, capsys, before, after, message):
    assert before in page.read_text()
    page.write_text(page.read_text().replace(before, after))
    assert pins.main([], page.parent) == 1
    assert message in capsys.readouterr().err


def test_a_changed_function_of_refrm_fails_its_theorem_page(tmp_path, capsys):
    for part in ("theorems", "proofs"):
        shutil.copytree(ROOT / "docs" / part, tmp_path / "docs" / part)
    shutil.copytree(ROOT / "refrm", tmp_path / "refrm")
    shutil.copy(ROOT / "docs" / "coefficients.py", tmp_path / "docs")
    spec = tmp_path / "refrm" / "spec.py"
    text = spec.read_text()
    assert text.count("slope = label_smoothing - sigmoid(-z)") == 1
    spec.write_text(text.replace("slope = label_smoothing - sigmoid(-z)", "slope = label_smoothing + sigmoid(-z)"))
    assert pins.main([str(tmp_path / "docs" / "theorems" / "t2.md")], tmp_path / "docs") == 1
    assert "t2.md: refrm/spec.py::bradley_terry has changed" in capsys.readouterr().err


# --- audit

GOOD = """<!doctype html><html lang="en"><head><title>T</title><link rel="stylesheet" href="a.css"></head>
<body><h1 id="top">T</h1><a href="b/">b</a> <a href="b/index.html#deep">deep</a> <a href="https://example.org/">out</a>
<img src="a.svg" alt="a circle"><math><annotation>\\begin{x}</annotation></math></body></html>"""


@pytest.fixture
def built(tmp_path):
    """A small site without a fault."""
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "b" / "index.html").write_text(
        '<html lang="en"><head><title>B</title></head><h1>B</h1><p id="deep"><a href="../index.html">up</a></p></html>'
    )
    (tmp_path / "a.css").write_text(
        '@font-face { src: url("a.svg") } x { background: url(data:image/png;base64,AAAA) }'
    )
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><circle fill="url(#g)"/></svg>')
    (tmp_path / "a.js").write_text('const NAMESPACE = "http://www.w3.org/2000/svg";')
    return tmp_path


def test_a_site_without_a_fault_passes(built, capsys):
    assert site.main([str(built)]) == 0
    assert capsys.readouterr().out == "2 pages, 0.0 MB, 0 faults\n"


def more(html):
    """A change that adds to the body of the first page."""
    return "index.html", "</body>", f"{html}</body>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("index.html", 'href="a.css"', 'href="https://example.org/a.css"'), "loads https://example.org/a.css"),
        (("index.html", 'src="a.svg"', 'src="//example.org/a.svg"'), "loads //example.org/a.svg"),
        (("index.html", 'src="a.svg"', 'src="absent.svg"'), "loads absent.svg, which is not in the site"),
        (more("<script src=http://example.org/x.js></script>"), "loads http://example.org/x.js"),
        (more("<script>fetch('https://example.org')</script>"), "a script asks the network"),
        (more("<style>@import 'http://example.org/x.css'</style>"), "loads http://example.org"),
        (more("<p style='background:url(http://example.org/i)'></p>"), "loads http://example.org"),
        (("index.html", 'href="b/"', 'href="absent.html"'), "links to absent.html"),
        (("index.html", 'href="b/"', 'href="../"'), "links to ../, which is not in the site"),
        (("index.html", "#deep", "#absent"), "links to b/index.html#absent, which has no such anchor"),
        (("index.html", 'alt="a circle"', 'alt=" "'), "image a.svg has no alternative text"),
        (("index.html", "<title>T</title>", ""), "title ''"),
        (("index.html", "<h1 id", "<h2 id"), "0 first headings"),
        (("index.html", ' lang="en"', ""), "language False"),
        (more(r"<p>so \(x\) is</p>"), "a formula is left as LaTeX"),
        (more('<p class="system-message">x</p>'), "a message of the build"),
        (("a.css", 'url("a.svg")', "url(https://example.org/f.woff)"), "a.css: loads https://example.org/f.woff"),
        (("a.js", "const", 'import("https://example.org/x.js"); const'), "a.js: a script asks the network"),
    ],
)
def test_each_fault_is_found(built, capsys, change, message):
    file, before, after = change
    path = built / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    assert site.main([str(built)]) == 1
    assert message in capsys.readouterr().err


def test_no_site_is_no_pass(tmp_path, capsys):
    assert site.main([str(tmp_path)]) == 1
    assert "no index.html" in capsys.readouterr().err
    assert site.main([str(tmp_path / "absent")]) == 2
