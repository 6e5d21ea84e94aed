"""The page to play with: its numbers meet the test vectors; mouse, keyboard, phone and dark work."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from refrm import BradleyTerry, SquaredSum
from refrm.oracle.forms import rounded
from refrm.oracle.vectors import load_vectors, spacing
from refrm.theorems import free_dynamics

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "play" / "index.html"
PHONE = {"width": 390, "height": 844}

# The page has one pair; a mean over N of them is taken here, as the vectors define it.
JUDGE = """(cases) => cases.map(({r_w, r_l, margin, weight, lambda, smoothing, pairwise}) => {
  const each = r_w.map((w, i) => {
    const set = {margin: margin[margin.length > 1 ? i : 0], smoothing, lambda}, counts = weight[i] > 0;
    const [loss, slope] = pairwise && counts ? refrm.pairwise(w, r_l[i], set) : [0, 0];
    const [term, pull] = counts ? refrm.penalty(w, r_l[i], set) : [0, 0];
    const grad = pairwise && counts ? refrm.gradient(w, r_l[i], set) : [pull, pull];
    return {loss, value: loss + term, grad};
  });
  const total = weight.reduce((a, b) => a + b, 0);
  const [grad_w, grad_l] = [0, 1].map((k) => each.map((x, i) => weight[i] * x.grad[k] / total));
  const value = [each.reduce((sum, x, i) => sum + weight[i] * x.value, 0) / total];
  return {loss: each.map((x) => x.loss), value, grad_w, grad_l};
})"""


def cases():
    """The vectors of the pairwise loss and of the squared sum, as arguments of `JUDGE`, each with its test."""
    found = []
    for group, test in (pair for file in load_vectors()[:2] for pair in file):
        if group.term in ("bradley-terry", "squared-sum"):
            inputs = {name: np.asarray(x, float).tolist() for name, x in test.inputs.items()}
            n = len(inputs["r_w"])
            convention = {
                "lambda": group.convention.multiplier(n),
                "smoothing": group.convention.label_smoothing,
                "pairwise": group.term == "bradley-terry",
            }
            found.append(({"margin": [0.0], "weight": [1.0] * n, **inputs, **convention}, test))
    return found


def rejected(page):
    """The ids of the vectors that the page's formulas do not meet."""
    every = cases()
    results = page.evaluate(JUDGE, [case for case, _ in every])
    return [
        test.id
        for (_, test), found in zip(every, results, strict=True)
        if not all(node.accepts(found[name]) for name, node in test.expected.items())
    ]


def test_the_formulas_meet_the_vectors(open_page):
    assert len(cases()) > 200
    assert rejected(open_page(PAGE)) == []


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("const s = r_w + r_l;", "const s = r_w - r_l;"),
        ("[lambda * (s * s), 2 * lambda * s]", "[lambda * (s * s), lambda * s]"),
        ("const z = r_w - r_l - margin,", "const z = r_w - r_l + margin,"),
        ("smoothing - sigmoid(-z)]", "sigmoid(z) - 1 + smoothing]"),
        ("Math.log1p(Math.exp(-Math.abs(z)))", "Math.log(1 + Math.exp(-Math.abs(z)))"),
    ],
)
def test_the_vectors_reject_mistakes(open_page, tmp_path, right, wrong):
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(right) == 1
    (tmp_path / "mistake.html").write_text(text.replace(right, wrong), encoding="utf-8")
    assert rejected(open_page(tmp_path / "mistake.html"))


def test_steps_are_those_of_gradient_descent(open_page):
    page = open_page(PAGE)

    class Ours:  # the page's step of size 1 is r - gradient: the predicate of T5 judges it
        def value_and_grad(self, r_w, r_l):
            after = page.evaluate(
                "(pairs) => pairs.map(([w, l]) => refrm.step(w, l, {lambda: 0.05, lr: 1}))",
                np.stack([r_w, r_l], 1).tolist(),
            )
            g_w, g_l = (np.stack([r_w, r_l], 1) - np.array(after)).T / len(r_w)
            return math.nan, g_w, g_l

    r_w, r_l = np.array([3.0, -1, 0.5]), np.array([2.0, 4, 0.25])
    assert free_dynamics(Ours(), 0.05, r_w, r_l, 0.3, 40).holds
    assert not free_dynamics(Ours(), 0.06, r_w, r_l, 0.3, 40).holds


def test_floats_are_numpy_s(open_page):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(400) * 2.0 ** rng.integers(-150, 130, 400)
    edges = 2.0 ** np.arange(-149.0, 128)
    x = np.concatenate(
        [x, edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), [0.0, 500, 498, 65504, 65519, 65520]]
    )
    for name in ("float32", "float16", "bfloat16"):
        with np.errstate(over="ignore"):
            # refrm's bfloat16 is a rounded float32: with float32s to begin with there is one rounding here too
            inputs = x[np.abs(x) <= 2.0**127].astype(np.float32).astype(float) if name == "bfloat16" else x
            kept = rounded(inputs, name) if name == "bfloat16" else inputs.astype(name).astype(float)
        found = open_page(PAGE).evaluate(
            "([x, name]) => x.map((r) => [refrm.round(r, name), refrm.spacing(r, name)])", [inputs.tolist(), name]
        )
        np.testing.assert_array_equal(np.array(found, float).T, [kept, spacing(inputs, name)])


def number(text):
    """A number as the page writes it."""
    return {"∞": math.inf, "not a number": math.nan}.get(text) or float(text.replace("−", "-"))


def row(page, name):
    """The cells of the row of a table that begins with ``name``."""
    return page.get_by_role("row", name=re.compile(rf"^{re.escape(name)}")).get_by_role("cell").all_inner_texts()


def until(page, condition):
    """Wait until ``condition`` is true; playwright's own waiting needs eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"10 s have passed without {condition}")


def enter(page, **values):
    for name, x in values.items():
        page.locator(f"#{name}").fill(str(x))


@pytest.mark.parametrize("r_w, r_l", [(1.0, -1.0), (500.0, 498.0), (10.0, -10.0), (5.0, 5.0), (-3.0, 4.5)])
def test_what_is_shown_is_refrm_s(open_page, r_w, r_l):
    page = open_page(PAGE)
    enter(page, r_w=r_w, r_l=r_l, margin=0.5, smoothing=0.1)
    enter(page, **{"lambda": 0.02})
    loss = BradleyTerry(0.5, 0.1) + 0.02 * SquaredSum()
    value, g_w, g_l = loss.value_and_grad([r_w], [r_l])
    shown = {name: number(row(page, name)[0]) for name in ("pairwise loss", "term", "loss + term", "margin", "sum")}
    gradient = [number(x) for x in row(page, "gradient")[0].split(", ")]
    # Half a unit of the last digit shown: five digits, and four of a gradient.
    digits = {"rtol": 5e-5, "atol": 0}
    np.testing.assert_allclose(shown["pairwise loss"], BradleyTerry(0.5, 0.1).value([r_w], [r_l]), **digits)
    np.testing.assert_allclose(shown["term"], 0.02 * SquaredSum().value([r_w], [r_l]), **digits)
    np.testing.assert_allclose(shown["loss + term"], value, **digits)
    np.testing.assert_allclose(gradient, [g_w[0], g_l[0]], rtol=5e-4)
    assert (shown["margin"], shown["sum"]) == (r_w - r_l, r_w + r_l)


def test_a_million_loses_its_margin_in_bfloat16(open_page):
    page = open_page(PAGE)
    page.get_by_role("button", name="10⁶").click()
    assert [number(x) for x in row(page, "bfloat16")] == [4096, 999424, 999424, 0, 0.69315]
    assert number(row(page, "float32")[3]) == 1
    assert [number(x) for x in row(page, "float16")[1:3]] == [math.inf, math.inf]
    page.get_by_role("button", name="+500").click()
    assert [number(x) for x in row(page, "bfloat16")[:4]] == [2, 500, 498, 2]
    assert "neighbours" in page.locator("#story").inner_text()


def test_the_keyboard_moves_the_point(open_page):
    page = open_page(PAGE, "#r_w=1&r_l=-1&lambda=0.05")
    page.get_by_role("slider", name="Scores").focus()
    before = page.evaluate("[refrm.value(set.r_w, set.r_l, {}), set.r_w, set.r_l]")
    page.keyboard.press("ArrowRight")
    assert page.locator("#r_w").input_value() == "1.1"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    assert page.locator("#r_l").input_value() == "0"
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("PageUp")
    after = page.evaluate("[refrm.value(set.r_w, set.r_l, {}), set.r_w, set.r_l]")
    assert after[1:] == pytest.approx([1.1, -0.9])
    assert after[0] == pytest.approx(before[0], abs=2**-50)  # T1, up to the rounding of 1.1 and -0.9
    assert (
        page.get_by_role("slider", name="Scores")
        .get_attribute("aria-valuetext")
        .startswith("chosen 1.1, rejected −0.9")
    )
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"


def test_everything_can_be_reached_with_tab(open_page):
    page = open_page(PAGE)
    page.locator("body").click(position={"x": 2, "y": 2})
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = {"point", "whole", "near", "in", "out", "play", "step", "reset", "pace", "+500 / +498"}
    wanted |= {name for key in ("r_w", "r_l", "lambda", "margin", "smoothing", "lr") for name in (key, f"{key}-slider")}
    assert wanted <= reached
    nameless = page.evaluate(
        "[...document.querySelectorAll('input, select')].filter((x) => !x.labels.length && !x.ariaLabel).length"
    )
    assert nameless == 0


def test_the_mouse_drags_the_point(open_page):
    page = open_page(PAGE, "#r_w=1&r_l=-1")
    box = page.locator("#plane").bounding_box()
    x, y = box["x"] + box["width"] * 0.625, box["y"] + box["height"] * 0.625  # (1, -1) in a window of 4 around 0
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    found = [float(page.locator(f"#{name}").input_value()) for name in ("r_w", "r_l")]
    assert found == pytest.approx([2, 2], abs=8 / box["width"] + 0.01)  # a pixel, and the grid that a drag snaps to
    page.mouse.click(x, y)
    assert float(page.locator("#r_l").input_value()) == pytest.approx(-1, abs=8 / box["width"] + 0.01)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_descent_plays_pauses_steps_and_resets(open_page, motion):
    page = open_page(PAGE, "#r_w=3&r_l=2&lambda=0.05&lr=0.5", reduced_motion=motion)
    page.get_by_role("button", name="Step").click()
    s = 5 * (1 - 4 * 0.5 * 0.05)  # T5
    assert number(row(page, "sum")[0]) == pytest.approx(s, rel=5e-8)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    until(page, "steps > 16")
    page.get_by_role("button", name="Pause").click()
    taken = page.evaluate("steps")
    assert number(row(page, "sum")[0]) == pytest.approx(5 * 0.9**taken, rel=5e-8)
    assert f"Step {taken}." in page.locator("#count").inner_text()
    assert page.evaluate("path.length") > 2
    page.get_by_role("button", name="Reset").click()
    assert [page.locator(f"#{name}").input_value() for name in ("r_w", "r_l")] == ["3", "2"]
    assert page.evaluate("steps") == 0


def test_a_step_that_is_too_large_is_said_and_ends(open_page):
    page = open_page(PAGE, "#r_w=3&r_l=2&lambda=1&lr=50")
    assert "the step is too large" in page.locator("#count").inner_text()
    page.get_by_label("steps at a time").select_option("100")
    page.get_by_role("button", name="Step").click()
    assert "left every bound" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize(
    "name, text, why", [("lambda", "-0.1", "no bottom (T10)"), ("smoothing", "0.5", "0.499"), ("r_w", "", "from")]
)
def test_a_wrong_number_is_said_and_changes_nothing(open_page, name, text, why):
    page = open_page(PAGE)
    before = page.evaluate("JSON.stringify(set)")
    page.locator(f"#{name}").fill(text)
    assert why in page.get_by_role("alert").inner_text()
    assert page.locator(f"#{name}").get_attribute("aria-invalid") == "true"
    assert page.evaluate("JSON.stringify(set)") == before
    page.locator(f"#{name}").fill("0.25")
    assert page.get_by_role("alert").inner_text() == ""
    assert page.evaluate(f"set['{name}']") == 0.25


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_wide_enough(open_page, sideways, scheme):
    page = open_page(PAGE, viewport=PHONE, color_scheme=scheme)
    for button in page.locator("#presets button").all():
        button.click()
        assert sideways(page) == 0
    page.get_by_role("button", name="around the point").click()
    assert sideways(page) == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) > 382) == (scheme == "light")


def contrast(first, second):
    """The ratio of WCAG 2 between two sRGB colours."""
    light = []
    for colour in (first, second):
        c = np.array(colour) / 255
        light.append(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_what_is_behind_them(open_page, scheme):
    page = open_page(PAGE, color_scheme=scheme)
    names = ("back", "card", "text", "soft", "mark", "loss", "term", "both", "high")
    shown = page.evaluate(
        "(names) => names.map((name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))",
        names,
    )
    colour = {}
    for name, text in zip(names, shown, strict=True):
        digits = text.strip().lstrip("#")
        digits = "".join(2 * x for x in digits) if len(digits) == 3 else digits
        colour[name] = [int(x) for x in digits.split()] if " " in digits else list(bytes.fromhex(digits))
    for name in ("text", "soft", "mark", "loss", "term"):  # WCAG AA: 4.5 for words, 3 for what is drawn
        assert min(contrast(colour[name], colour[behind]) for behind in ("back", "card")) >= 4.5, name
    for name in ("loss", "term", "both"):
        assert min(contrast(colour[name], colour[behind]) for behind in ("back", "high")) >= 3, name


def test_an_address_sets_the_page_and_keeps_what_is_set(open_page):
    page = open_page(PAGE, "#r_w=500&r_l=498&lambda=0.01&lr=-3&unknown=1")
    assert page.evaluate("[set.r_w, set.r_l, set.lambda, set.lr]") == [500, 498, 0.01, 0.5]
    page.get_by_role("button", name="+5").last.click()
    until(page, "location.hash.startsWith('#r_w=5&r_l=5&lambda=0.01')")


def test_links_lead_to_pages_of_the_site():
    links = re.findall(r'href="([^"#]+)"', PAGE.read_text(encoding="utf-8"))
    for link in links:
        if not link.startswith("data:"):
            assert (PAGE.parent / link).with_suffix(".md").exists(), link
    assert len(links) > 6
