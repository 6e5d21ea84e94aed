"""Every claim of the README and the docs that can be run is run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import refrm
from refrm import BradleyTerry, theorems

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_pages(page):
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_examples_of_docstrings():
    attempted = 0
    for module in pkgutil.iter_modules(refrm.__path__):
        if module.name != "__main__":
            failed, tried = doctest.testmod(importlib.import_module(f"refrm.{module.name}"))
            assert failed == 0
            attempted += tried
    assert attempted >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_names_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:refrm|tests)/\w+\.py)`", text):
        assert (ROOT / path).exists(), path


def test_every_theorem_on_the_page_has_a_test_and_names_a_predicate():
    page, tests = (ROOT / "docs/theorems.md").read_text(), (ROOT / "tests/test_theorems.py").read_text()
    ids = re.findall(r"^## T(\d+) ", page, re.M)
    assert ids == ["1", "2", "3", "5", "6", "7", "8", "9", "10", "12", "13", "14"]
    for number in ids:
        assert f"def test_t{number}_" in tests
    for name in re.findall(r"`(\w+)`", page):
        assert hasattr(theorems, name), name


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_table_of_infinities(backend):
    rows = re.findall(r"^\| ([+-]inf|finite) \|(.*)\|$", (ROOT / "docs/reference/conventions.md").read_text(), re.M)
    assert len(rows) == 8
    eps = 0.25
    meaning = {"finite": 3.0, "NaN": np.nan, "eps": eps, "eps - 1": eps - 1}
    for first, rest in rows:
        cells = [meaning[c] if c in meaning else float(c) for c in (first, *(c.strip() for c in rest.split("|")))]
        for smoothing, loss, gradient in ((0.0, cells[2], cells[3]), (eps, cells[4], cells[5])):
            jet = BradleyTerry(label_smoothing=smoothing).pairs(cells[:1], cells[1:2], backend=backend)
            np.testing.assert_array_equal([jet.value[0], jet.g_w[0], jet.g_l[0]], [loss, gradient, -gradient])


def test_the_version_is_the_package_s():
    import importlib.metadata

    assert importlib.metadata.version("refrm") == refrm.__version__
