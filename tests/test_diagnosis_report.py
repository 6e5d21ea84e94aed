"""What a team sees of a diagnosis: one screen, one page, pictures. Everything is there, escaped, and the same again."""

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from refrm.cli import cli
from refrm.diagnosis import Estimate, Log, Settings, diagnose, diagnose_log
from refrm.diagnosis import wording as words
from refrm.diagnosis.case import ORDER, suggested, term
from refrm.diagnosis.data import Problem, Problems
from refrm.diagnosis.html import page, write_html
from refrm.diagnosis.markup import sentence
from refrm.diagnosis.panels import INK, panels
from refrm.diagnosis.plots import plot_diagnosis
from refrm.diagnosis.terminal import show
from refrm.errors import FileError, InputError
from refrm.oracle import MISTAKES
from refrm.theorems import THEOREMS

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$x^{",
    "\x1b[31mred\x07",
    "漢字 é",
    "a\udc80b",
)


def scores(n, shift=0.0, spread=0.3, seed=0):
    """Scores whose margins claim the right probabilities."""
    rng = np.random.default_rng(seed)
    d = 2 * rng.standard_normal(n)
    d = np.where(rng.random(n) < 1 / (1 + np.exp(-d)), d, -d)
    h = shift + spread * rng.standard_normal(n)
    return h + d / 2, h - d / 2


@cache
def healthy():
    return diagnose(*scores(2000))


@cache
def shifted():
    return diagnose(*scores(2000, shift=500.0))


@cache
def everything():
    """Pairs with all that a file may have, and with names that mean no good."""
    n = 6000
    rng = np.random.default_rng(1)
    step, group = np.repeat(np.arange(100, 1300, 200), n // 6), rng.integers(0, 150, n)
    own = 6 * np.random.default_rng(2).standard_normal(150)
    r_w, r_l = (r + 0.004 * step + own[group] * step / 1000 for r in scores(n))
    names = np.array(HOSTILE, dtype=object)[rng.integers(0, len(HOSTILE), n)]
    lengths = {"length_w": rng.integers(9, 99, n), "length_l": rng.integers(9, 99, n)}
    found = diagnose(r_w, r_l, step=step, group=group, subset=names, coef=0.01, **lengths)
    lines = Problems(7, (Problem(HOSTILE[1], 12, f"a number, got {HOSTILE[0]!r}"),))
    return replace(found, name=f"{HOSTILE[0]} {HOSTILE[3]} {HOSTILE[5]}", problems=lines)


@cache
def log():
    step = np.arange(10.0, 2010, 10)
    rng = np.random.default_rng(3)
    held = np.where(step % 200 == 0, 0.01 * step, np.nan)
    series = {
        "loss": 0.69 * np.exp(-step / 900) + 0.02 * rng.random(200),
        "mean_score": 0.008 * step + 0.2 * rng.standard_normal(200),
        "min_score": 0.008 * step - 4,
        "max_score": 0.008 * step + 4,
        "mean_margin": np.where(step % 70, 3 * (1 - np.exp(-step / 500)) + 0.2 * rng.standard_normal(200), np.nan),
        "accuracy": 0.5 + 0.3 * (1 - np.exp(-step / 400)),
        "heldout_mean_score": held,
    }
    return diagnose_log(Log("trainer_state.json", step, series, framework="trl"), Settings(coef=0.05))


@cache
def page_of(kind):
    return page(KINDS[kind]())


KINDS = {"healthy": healthy, "shifted": shifted, "everything": everything, "log": log}
every_kind = pytest.mark.parametrize("kind", KINDS)

ODD = {
    "one pair": ([1.0], [0.0]),
    "no finite pair": ([np.nan] * 5, [1.0] * 5),
    "some finite": ([np.nan, 1, np.inf], [0.0, 2, 1]),
    "ties and nothing right": (np.zeros(99), np.repeat([0.0, 3.0], [9, 90])),
    "huge": tuple(1e59 * np.random.default_rng(0).standard_normal((2, 99))),
    "tiny": tuple(1e-300 * np.random.default_rng(0).standard_normal((2, 99))),
    "far": tuple(1e15 + np.random.default_rng(0).standard_normal((2, 99))),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_scores_have_reports(odd, capsys):
    r_w, r_l = ODD[odd]
    n = len(r_w)
    found = diagnose(r_w, r_l, step=np.arange(n), coef=0.1)
    show(found)
    assert found.verdict.split()[0] in capsys.readouterr().out
    assert found.verdict.partition(": ")[2].partition(" (and")[0][1:] in Page(page(found)).text


# --- the terminal


def printed(found, monkeypatch, columns=80, lines=24):
    """What a terminal of this size gets."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with monkeypatch.context() as m:
        m.setenv("COLUMNS", str(columns))
        m.setenv("LINES", str(lines))
        m.setenv("TERM", "dumb")
        m.setattr(sys, "stdout", Terminal())
        show(found)
        return re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue())  # rich's own colours


@every_kind
def test_it_fits_one_screen_with_the_verdict_first(kind, monkeypatch):
    found = KINDS[kind]()
    text = printed(found, monkeypatch)
    lines = text.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= 80
    assert lines[0].startswith(words.plain(found.name)[:60])
    assert " ".join("".join(f"{line} " for line in lines[1:4]).split()).startswith(found.verdict)
    if not found.healthy:
        cure = found.findings[0].cure
        assert f"cure: {cure}" in " ".join(text.split())
    severe = [one for one in found.findings if one.severity == "finding"]
    shown = [one for one in severe[1:] if one.id in text]
    left = re.search(r"not shown: (\d+) finding", text)
    assert len(severe[1:]) - len(shown) == (int(left[1]) if left else 0)


def test_more_room_shows_more_and_says_what_is_left_out(monkeypatch):
    small, large = (printed(everything(), monkeypatch, 80, lines) for lines in (24, 100))
    assert "not shown: " in small and "not shown" not in large
    severe = [one for one in everything().findings if one.severity == "finding"]
    assert large.count("cure: ") == large.count("will not fix: ") == len(severe) > 2
    assert all(words.plain(name)[:20] in large for name in HOSTILE)
    assert len(small) < len(large)


def test_control_characters_do_not_reach_the_terminal(monkeypatch, capsys):
    show(everything(), page="re\x1bport.html")
    for text in (printed(everything(), monkeypatch, 80, 100), capsys.readouterr().out):
        assert "\x1b" not in text and "\x07" not in text
        text.encode()


# --- the page


class Page(HTMLParser):
    """A page taken apart; elements that are not closed in order are an error."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, attribute):
        return [found[attribute] for _, found in self.elements if attribute in found]


@every_kind
def test_the_page_needs_nothing_but_itself(kind):
    text = page_of(kind)
    parsed = Page(text)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "img"}
    assert not [name for _, found in parsed.elements for name in found if name.startswith("on")]
    for name in ("href", "xlink:href", "src"):
        assert all(target.startswith(("#", "data:image/png;base64,")) for target in parsed.all(name))
    assert "@import" not in text and not re.findall(r"url\((?!#)", text)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    assert {"http-equiv": "Content-Security-Policy", "content": parsed.all("content")[0]} in [
        found for _, found in parsed.elements
    ]
    assert parsed.all("content")[0].startswith("default-src 'none'")


def test_what_comes_from_outside_is_text():
    found = everything()
    parsed = Page(page_of("everything"))
    for name in HOSTILE:
        assert words.plain(name) in parsed.text
    assert not [tag for tag, attributes in parsed.elements if "onerror" in attributes or tag == "script"]
    assert words.plain(found.name) in parsed.text and words.plain(found.problems.shown[0].file) in parsed.text
    page_of("everything").encode()


@every_kind
def test_everything_is_on_the_page(kind):
    found = KINDS[kind]()
    text = Page(page_of(kind)).text

    def on_it(sentence):
        return words.plain(" ".join(sentence.replace("`", " ").split()))[1:].rstrip(".") in text.replace(" , ", ", ")

    for one in found.findings:
        assert on_it(one.title) and on_it(one.cure) and on_it(one.will_not_fix), one.id
        for theorem in one.theorems if one.severity == "finding" else ():
            assert f"{theorem} {THEOREMS[theorem].says}" in text
        assert all(name in text for name, _, _ in words.evidence(one.evidence))
    assert all(on_it(why) for why in found.unknown.values()) and all(on_it(note) for note in found.notes)
    assert all(panel.title in text and panel.says in text for panel in panels(found))
    for row in words.rows(found.figures):
        assert f"{row.label} {words.plain(row.means)} {words.value(row.value, row.share)}" in text
    assert text.index(found.findings[0].title[1:] if found.findings else "nothing to act on") < text.index("Pictures")
    assert ("Healthy" in text) is found.healthy


@every_kind
def test_the_page_is_accessible(kind):
    parsed = Page(page_of(kind))
    ids = parsed.all("id")
    assert len(ids) == len(set(ids))
    assert all(target[1:] in ids for target in parsed.all("href") + parsed.all("xlink:href") if target[0] == "#")
    assert set(parsed.all("aria-labelledby")) <= set(ids)
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    assert tags.count("table") == tags.count("caption")
    assert tags.count("svg") == tags.count("figure") == tags.count("figcaption") == len(panels(KINDS[kind]()))
    assert dict(parsed.elements)["html"] == {"lang": "en"} and "viewport" in parsed.all("name")


def test_mistakes_are_described():
    text = Page(page_of("shifted")).text
    described = {one.name: one.description for one in MISTAKES}
    assert shifted().findings[0].lookalikes
    for name in shifted().findings[0].lookalikes:
        assert described[name][1:].replace("`", "") in text


def test_the_same_diagnosis_gives_the_same_bytes(tmp_path):
    code = """
import test_diagnosis_report as t
t.write_html("report.html", t.everything())
for suffix in ("png", "svg"):
    t.plot_diagnosis(f"plot.{suffix}", t.healthy())
"""
    path = os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parent)])
    env = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page_of("everything")
    for suffix in ("png", "svg"):
        plot_diagnosis(tmp_path / f"again.{suffix.upper()}", healthy())
        assert (tmp_path / f"again.{suffix.upper()}").read_bytes() == (tmp_path / f"plot.{suffix}").read_bytes()


def test_the_page_has_its_own_colours():
    text = page_of("everything")
    drawn = text[text.index('<div class="pictures">') :]
    assert "currentColor" in drawn and "var(--blue" in drawn
    assert INK not in drawn and "#000000" not in drawn


# --- pictures


PANELS = {
    "healthy": ["plane", "margins", "reliability", "spacing"],
    "shifted": ["plane", "margins", "reliability", "spacing"],
    "everything": ["plane", "margins", "reliability", "drift", "spacing", "subsets"],
    "log": ["scores", "margins", "loss", "accuracy"],
}


@every_kind
def test_each_input_has_the_pictures_that_it_supports(kind, tmp_path):
    found = KINDS[kind]()
    assert [panel.key for panel in panels(found)] == PANELS[kind]
    plot_diagnosis(tmp_path / "plot.svg", found)
    root = ET.fromstring((tmp_path / "plot.svg").read_text())
    text = "".join(root.itertext())
    assert all(panel.title in text for panel in panels(found))
    assert found.verdict[:40] in text


def test_another_suffix_or_a_place_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"a plot is \.png or \.svg, got '.*plot\.gif'"):
        plot_diagnosis(tmp_path / "plot.gif", healthy())
    for write in (plot_diagnosis, write_html):
        with pytest.raises(FileError, match="cannot write"):
            write(tmp_path / "missing" / "x.png", healthy())
    assert list(tmp_path.iterdir()) == []


def drawn(found, key):
    """The axes of one panel."""
    axes = Figure().subplots()
    next(panel for panel in panels(found) if panel.key == key).draw(axes)
    return axes


def test_the_bars_of_margins_are_shares_and_meet_at_zero():
    bars = drawn(healthy(), "margins").patches
    ends = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in bars]
    assert sum(height for _, _, height in ends) == pytest.approx(1)
    right = sum(height for low, _, height in ends if low > -1e-9)
    assert right == pytest.approx(healthy().figures.accuracy["half"].value)
    assert not any(low < -1e-9 and high > 1e-9 for low, high, _ in ends)


def test_the_reliability_curve_is_that_of_the_diagnosis():
    axes = drawn(healthy(), "reliability")
    points = axes.collections[-1].get_offsets()
    curve = healthy().figures.calibration.curve
    np.testing.assert_allclose(points, [(one.confidence, one.accuracy.value) for one in curve])


def test_series_are_drawn_with_their_trend_and_the_bound():
    axes = drawn(log(), "scores")
    series = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(series["mean score s/2"].get_ydata(), log().series["mean_score"])
    assert len(series["mean score s/2, held out"].get_xdata()) == 10
    bound = next(one.bound for one in log().bounds if one.theorem == "T8")
    assert series["bound at rest (T8)"].get_ydata()[0] == pytest.approx(np.sqrt(bound) / 2)
    (dotted,) = (line for line in axes.lines if line.get_linestyle() == ":")
    x, y = dotted.get_data()
    assert (y[1] - y[0]) / (x[1] - x[0]) * 1000 == pytest.approx(log().trends["mean_score"].late.slope.value)


def test_far_scores_are_shown_from_near_by_too():
    assert len(drawn(shifted(), "plane").child_axes) == 1
    assert len(drawn(healthy(), "plane").child_axes) == 0


# --- words


@pytest.mark.parametrize(
    "x, share, expected",
    [
        (Estimate(499.9991, 499.986, 500.012), False, "499.999 (499.986 to 500.012)"),
        (Estimate(172.2, 133.3, 211.1), False, "172 (133 to 211)"),
        (Estimate(1.0, 1.0, 1.0, "exact"), False, "1"),
        (Estimate(2.0, -np.inf, np.inf), False, "2"),
        (Estimate(2.0, -np.inf, 5.0), False, "2 (-∞ to 5)"),
        (Estimate(-0.001, -0.12, 0.118), False, "0.00 (-0.12 to 0.12)"),
        (Estimate(1e30, 0.9e30, 1.1e30), False, "1e+30 (9e+29 to 1.1e+30)"),
        (Estimate(0.772, 0.753, 0.79), True, "77.2% (75.3 to 79.0%)"),
        (Estimate(0.99999, 0.99998, 1.0), True, "over 99.9% (over 99.9% to 100.00%)"),
        (Estimate(0.00001, 0.0, 0.003), True, "under 0.1% (0.00 to 0.30%)"),
        (Estimate(np.nan, 0.0, 1.0), True, "unknown (0 to 100%)"),
        (0.5, True, "50%"),
        (12345, False, "12,345"),
        (None, False, "unknown"),
        ("bfloat16", False, "bfloat16"),
        (float("nan"), False, "not finite"),
    ],
)
def test_figures_are_written_to_the_places_that_are_sure(x, share, expected):
    assert words.both(x, share) == expected


@pytest.mark.parametrize(
    "raw, expected",
    [
        ("a finding `of x`", "A finding <code>of x</code>."),
        ("r_w is <b>", "r_w is &lt;b&gt;."),
        ("s/2 spreads", "s/2 spreads."),
        ("scores differ: why?", "Scores differ: why?"),
        ("one ` tick", "One ` tick."),
    ],
)
def test_sentences(raw, expected):
    assert sentence(raw) == expected


def test_a_coefficient_that_is_large_enough_is_not_called_for_again():
    assert term(Settings()).startswith("train with 0.035*mean (r_w + r_l)^2")
    assert term(Settings(coef=0.01)).startswith("train with 0.035*mean")
    # four times the least coefficient keeps s/2 within half the target
    assert term(Settings(coef=4 * suggested(Settings()))).endswith("the root mean square of s/2 below 0.5 (T8)")
    assert "`refrm check`" in term(Settings(coef=1.0))


def test_the_guide_names_every_finding():
    guide = Path(__file__).parent.parent / "docs" / "howto" / "diagnose.md"
    assert re.findall(r"^\| `([a-z][a-z-]+)` \|", guide.read_text(encoding="utf-8"), re.M) == list(ORDER)


# --- the command line


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{{"chosen": {w}, "rejected": {v}}}\n' for w, v in zip(*scores(300, 50.0), strict=True))
    (tmp_path / "scores.jsonl").write_text(rows)
    return tmp_path


def refrm(*arguments):
    return CliRunner().invoke(cli, ["diagnose", "scores.jsonl", *arguments])


def test_page_and_plot_are_written_beside_the_report(file):
    done = refrm("--html", "report.html", "--plot", "plot.svg")
    assert done.exit_code == 1 and done.stderr == ""
    assert "all of it: report.html" in done.stdout
    assert "global-shift" in (file / "report.html").read_text(encoding="utf-8")
    assert ET.fromstring((file / "plot.svg").read_text()).tag.endswith("svg")
    assert refrm("--html", "again.html", "--quiet").stdout == ""
    assert (file / "again.html").read_bytes() == (file / "report.html").read_bytes()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--plot", "plot.gif", "--html", "report.html"), "--plot must end in .png or .svg, got plot.gif"),
        (("--html", "scores.jsonl"), "--html scores.jsonl is also an input"),
        (("--html", "x.png", "--plot", "x.png"), "--plot x.png is also the file of --html"),
        (("--html", "missing/report.html"), "--html: cannot write missing/report.html"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(file, arguments, says):
    before = {path.name: path.read_bytes() for path in file.iterdir()}
    done = refrm(*arguments)
    assert done.exit_code == 2 or isinstance(done.exception, InputError | FileError)
    assert says in (done.stderr or str(done.exception))
    assert {path.name: path.read_bytes() for path in file.iterdir()} == before
