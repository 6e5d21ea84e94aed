"""The pictures of the site: the same bytes on every run, made when missing or old, told in words on their pages."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def pictures():
    """The module docs/pictures.py."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The others need a minute without compiled kernels; the site's build draws them all.
CHEAP = ("resolution", "laplacian")


@pytest.mark.parametrize("name", CHEAP)
def test_a_picture_is_drawn_alike_every_time(pictures, name):
    first, second = pictures.svg(name), pictures.svg(name)
    assert first == second
    assert b"<svg" in first and len(first) < 200_000
    assert not re.search(rb"<dc:date>|\d{4}-\d\d-\d\dT", first)


def test_a_picture_is_made_when_it_is_missing_or_older_than_its_code(pictures, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "svg", lambda name: drawn.append(name) or b"<svg/>")
    paths = pictures.make(tmp_path / "new", only="resolution")
    assert [path.name for path in paths] == ["resolution.svg"] and drawn == ["resolution"]
    pictures.make(tmp_path / "new", only="resolution")
    assert drawn == ["resolution"]
    monkeypatch.setattr(pictures, "newest", lambda: paths[0].stat().st_mtime + 1)
    pictures.make(tmp_path / "new", only="resolution")
    assert drawn == ["resolution"] * 2
    assert {path.stem for path in pictures.make(tmp_path)} == set(pictures.PICTURES)


def figures(text):
    """The figures of a page: path, options and caption of each."""
    for path, body in re.findall(r"^[`:]{3,}\{figure\} (\S+)\n(.*?)^[`:]{3,}$", text, re.M | re.S):
        options = dict(re.findall(r"^:(\w+): ?(.*)$", body, re.M))
        yield path, options, re.sub(r"^:\w+:.*$", "", body, flags=re.M).strip()


def test_every_picture_is_on_a_page_with_words_for_it(pictures):
    shown = []
    for page in DOCS.rglob("*.md"):
        for path, options, caption in figures(page.read_text(encoding="utf-8")):
            assert len(options.get("alt", "")) > 40, (page, path)
            assert len(caption) > 40, (page, path)
            if "_pictures" in path:
                assert (page.parent / path).resolve().parent == DOCS.resolve() / "_pictures", (page, path)
                shown.append(Path(path).stem)
    assert set(shown) == set(pictures.PICTURES)
