"""The page of a diagnosis in a browser: it needs nothing, hides nothing, and runs nothing that comes from outside."""

import re

import numpy as np
import pytest

from refrm.diagnosis import diagnose
from refrm.diagnosis.html import write_html

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything that a page may have."""
    n, rng = 6000, np.random.default_rng(0)
    step, group = np.repeat([100, 200, 300, 400, 500], n // 5), rng.integers(0, 150, n)
    shift = 0.02 * step + 5 * rng.standard_normal(150)[group] + 0.3 * rng.standard_normal(n)
    d = 1 + 2 * rng.standard_normal(n)
    subset = np.array([HOSTILE, "a rather long name of a subset, such as they have", "code"])[rng.integers(0, 3, n)]
    found = diagnose(shift + d / 2, shift - d / 2, step=step, group=group, subset=subset, coef=0.01)
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_html(path, found)
    return path, found


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((x) => x / 255)
    .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => {
      const style = getComputedStyle(node);
      const [a, b] = [parse(node instanceof SVGElement ? style.fill : style.color), behind(node)].map(light);
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.slice(0, 40)];
    }).sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_reads_well(open_page, sideways, report, size, scheme):
    page = open_page(report[0], viewport=size, color_scheme=scheme)
    assert sideways(page) == 0
    verdict = page.locator("h1").bounding_box()
    assert verdict["y"] + verdict["height"] < size["height"] / 2
    assert re.fullmatch(r"! \d findings", page.locator("h1").inner_text())
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= 4.5, text  # WCAG AA


def test_every_picture_is_seen(open_page, report):
    page = open_page(report[0], viewport=PHONE)
    pictures = page.locator("figure svg")
    assert pictures.count() == 6
    for k in range(6):
        box = pictures.nth(k).bounding_box()
        assert 300 < box["width"] <= PHONE["width"] and box["height"] > 150
    assert page.locator("figure svg text").count() > 50
    # images within the pictures are decoded, and not empty
    assert page.locator("figure svg image").count() >= 2


def test_nothing_from_outside_runs(open_page, report):
    page = open_page(report[0])
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("body").inner_text()
    assert page.locator("img, script").count() == 0


def test_a_script_would_not_run_even_if_it_were_there(browser, report, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(report[0].read_text().replace("<main>", f"<main>{HOSTILE}", 1))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.hacked") is None
    page.close()


def test_it_needs_no_script(open_page, report):
    texts = [open_page(report[0], java_script_enabled=on).locator("main").inner_text() for on in (True, False)]
    assert texts[0] == texts[1]


def test_links_lead_to_findings_and_the_keyboard_reaches_what_scrolls(open_page, report):
    page = open_page(report[0], viewport=PHONE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#finding-1"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#finding-1'")
    assert page.locator("#finding-1").bounding_box()["y"] < PHONE["height"]
    wide = page.locator(".wide")
    assert wide.count() > 3
    for k in range(wide.count()):
        wide.nth(k).focus()
        assert page.evaluate("document.activeElement.className") == "wide"


def test_print_is_black_on_white_and_cuts_nothing_off(open_page, report):
    page = open_page(report[0], viewport={"width": 720, "height": 1000}, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    colours = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert page.locator("details dl").first.bounding_box()["height"] > 20  # what is folded on a screen is printed
    over = "[...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().right - innerWidth)"
    assert max(page.evaluate(over)) <= 0
