"""The pictures of a diagnosis: which ones the input supports, what each says in words, and how it is drawn.

A panel draws into axes that it is given; `refrm.diagnosis.plots` makes them and writes files. Colours are Okabe and
Ito's, and whatever differs in colour differs in dashes, shape or place, too.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from refrm.diagnosis.model import Diagnosis, Figures, Trend
from refrm.diagnosis.precision import FORMATS
from refrm.diagnosis.wording import both, number, percent, plain
from refrm.spec import Array

INK, BLUE, ORANGE, GREEN, PINK = "#000001", "#0072B2", "#D55E00", "#009E73", "#CC79A7"
"""Ink is as good as black, and can be told from matplotlib's own black."""

BINS = 48
MOST_SUBSETS = 12
MANY = 400
"""Dots from which on they are stored as an image."""


@dataclass(frozen=True)
class Panel:
    """A picture: a key, a title, what it shows in words, and a function that draws it into axes."""

    key: str
    title: str
    says: str
    draw: Callable[[Any], None]


def panels(found: Diagnosis) -> list[Panel]:
    """Return the panels that the input supports."""
    return list(_of_log(found) if found.kind == "log" else _of_pairs(found))


# --- pairs


def _of_pairs(found: Diagnosis) -> Iterator[Panel]:
    f = found.figures
    if f.mean_score is None or f.mean_margin is None or f.std_margin is None or not len(found.sample[0]):
        return
    r_w, r_l = found.sample
    shift, margin = r_w / 2 + r_l / 2, r_w - r_l
    size = f.yardstick
    inside = float(np.mean(np.abs(shift) <= size))
    some = "a pair" if len(shift) == found.n_pairs else f"one of {len(shift):,} pairs drawn at random"
    yield Panel(
        "plane",
        "Shift against margin",
        f"Each dot is {some}. The loss sees its height, the margin, and not its place from left to right, the shift."
        f" The band reaches as far from 0 as margins are large ({number(size)}); {percent(inside)} of the pairs are"
        f" in it. The mean shift is {number(f.mean_score.value)}.",
        partial(_plane, shift, margin, size),
    )
    right = f.accuracy["half"].value if f.accuracy else math.nan
    yield Panel(
        "margins",
        "Margins",
        f"The margins d = r_w - r_l. Those left of 0 are ranked wrong; {percent(right)} are ranked right, a tie"
        " counting one half. The outermost bars hold what is beyond them, too.",
        partial(_margins, margin),
    )
    if f.calibration is not None and f.calibration.curve:
        c = f.calibration
        yield Panel(
            "reliability",
            "Are its probabilities right?",
            "Where the scores claim to be right with the probability on the horizontal axis, they are right as often as"
            " the dot is high, with its 95% interval; larger dots are more pairs. On the dashed line the two agree;"
            f" below it they are over-confident. On average they are {percent(c.ece.value)} apart, of which"
            f" {percent(c.ece_noise)} would come from chance alone.",
            partial(_reliability, c.curve),
        )
    if len(found.series.get("step", ())) > 1:
        yield _over_steps(found, "drift", "Over the steps", ("mean_score", "mean_margin"), band="spread")
    worst = max(f.precision, key=lambda name: f.precision[name].below.value) if f.precision else ""
    if worst and len(sizes(r_w, r_l)[0]):
        yield Panel(
            "spacing",
            "What number formats leave of the margins",
            "Each dot is a pair: the size of its larger score, and of its margin. A line is the distance between"
            " neighbouring numbers of a format; a margin below it is mostly rounding. Below its line are "
            + ", ".join(f"{percent(p.below.value)} in {name}" for name, p in f.precision.items())
            + ".",
            partial(_spacing, *sizes(r_w, r_l)),
        )
    if found.subsets:
        shown = dict(list(found.subsets.items())[:MOST_SUBSETS])
        more = len(found.subsets) - len(shown)
        yield Panel(
            "subsets",
            "By subset",
            "The mean of s/2 in each subset (dot) and its spread over the pairs (line)"
            + (f"; {more} more subsets are in the table." if more else "."),
            partial(_subsets, shown, f.mean_score.value),
        )


def sizes(r_w: Array, r_l: Array) -> tuple[Array, Array]:
    """Return the size of the larger score and of the margin, for pairs where neither is 0."""
    size, gap = np.maximum(np.abs(r_w), np.abs(r_l)), np.abs(r_w - r_l)
    there = (size > 0) & (gap > 0)
    return size[there], gap[there]


def span(x: Array, *also: float) -> tuple[float, float]:
    """Return limits that hold all but 2 in 1,000 of the values, and other values, with some room."""
    low, high = np.quantile(x, [0.001, 0.999]).tolist()
    low, high = min(low, *also, high), max(low, *also, high)
    room = 0.06 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - room, high + room


def _plane(shift: Array, margin: Array, size: float, axes: Any) -> None:
    x, y = span(shift, -size, size), span(margin, 0.0)
    axes.axvspan(-size, size, color=GREEN, alpha=0.14, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    _dots(axes, np.clip(shift, *x), np.clip(margin, *y))
    mean = float(np.mean(shift))
    left = mean > sum(x) / 2
    axes.axvline(mean, color=ORANGE, linewidth=1.4, linestyle="--", label=f"mean shift {number(mean)}")
    axes.legend(loc="upper left" if left else "upper right")
    axes.set(xlabel="shift s/2, the pair's mean score", ylabel="margin d", xlim=x, ylim=y)
    close = span(shift)
    if close[1] - close[0] < 0.12 * (x[1] - x[0]):  # far from 0 the cloud is a line: here it is from near by
        inset = axes.inset_axes((0.2 if left else 0.4, 0.5, 0.4, 0.3))
        inset.set_facecolor("none")
        _dots(inset, np.clip(shift, *close), np.clip(margin, *y))
        inset.set(xlim=close, ylim=y, xticks=close, yticks=[])
        inset.set_xticklabels([number(end) for end in close])
        inset.set_title("the same, from near by", fontsize="small", fontweight="normal")


def _dots(axes: Any, x: Array, y: Array) -> None:
    n = len(x)
    axes.plot(
        x,
        y,
        linestyle="",
        marker="o",
        markersize=2.2,
        markeredgewidth=0,
        color=BLUE,
        alpha=min(0.7, max(0.15, 300 / n)),
        rasterized=n > MANY,
    )


def _margins(margin: Array, axes: Any) -> None:
    low, high = span(margin, 0.0)
    width = (high - low) / BINS
    edges = width * np.arange(math.floor(low / width), math.ceil(high / width) + 1)  # 0 is an edge
    # a tie counts half on either side
    tied = np.count_nonzero(margin == 0)
    counts = np.histogram(np.clip(margin[margin != 0], edges[0], edges[-1]), edges)[0].astype(float)
    at = int(np.argmin(np.abs(edges)))
    for k in (at - 1, at):
        counts[min(max(k, 0), len(counts) - 1)] += tied / 2
    shares = counts / len(margin)
    wrong = edges[1:] <= width / 2
    for part, colour, hatch, label in ((wrong, ORANGE, "////", "ranked wrong"), (~wrong, BLUE, "", "ranked right")):
        axes.bar(
            edges[:-1][part],
            shares[part],
            width=width,
            align="edge",
            facecolor=(colour, 0.6),
            edgecolor=INK,
            linewidth=0.4,
            hatch=hatch,
            label=label,
        )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.legend(loc="best")
    axes.set(xlabel="margin d", ylabel="share of the pairs", ylim=(0, 1.12 * max(shares.max(), 1e-9)))


def _reliability(curve: Sequence[Any], axes: Any) -> None:
    claimed = np.array([b.confidence for b in curve])
    true = np.array([b.accuracy.value for b in curve])
    ends = np.array([[b.accuracy.value - b.accuracy.low, b.accuracy.high - b.accuracy.value] for b in curve]).T
    share = np.array([b.n for b in curve])
    axes.plot([0.5, 1], [0.5, 1], color=INK, linewidth=0.9, linestyle="--")
    axes.errorbar(claimed, true, np.maximum(ends, 0), fmt="none", ecolor=BLUE, elinewidth=1.1, capsize=2)
    axes.scatter(claimed, true, s=8 + 90 * share / share.sum(), color=BLUE, zorder=3, linewidths=0)
    low = min(0.5, float(np.min(true - ends[0])))
    axes.set(xlabel="claimed probability sigma(|d|)", ylabel="share that is right")
    axes.set(xlim=(0.49, 1.01), ylim=(low - 0.03, 1.03))


def _spacing(size: Array, gap: Array, axes: Any) -> None:
    x, y = (_decades(values) for values in (size, gap))
    _dots(axes, np.clip(size, *x), np.clip(gap, *y))
    grid = np.geomspace(*x, 400)
    spacings = {name: form.spacing(grid) for name, form in FORMATS.items()}
    styles = (("float32", GREEN, ":"), ("float16", PINK, "-."), ("bfloat16", ORANGE, "-"))
    for name, colour, line in styles:
        axes.plot(grid, spacings[name], color=colour, linestyle=line, label=name)
    axes.set(xscale="log", yscale="log", xlabel="size of the larger score", ylabel="size of the margin")
    low = min(y[0], *(float(values.min()) for values in spacings.values()))
    axes.set(xlim=x, ylim=(low / 4, y[1]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower right", ncols=3, handlelength=1.6, columnspacing=1.0)


def _decades(x: Array) -> tuple[float, float]:
    """Return the powers of ten about all but the smallest and largest values."""
    low, high = np.log10(np.quantile(x, [0.005, 0.999])).tolist()
    return 10.0 ** max(math.floor(low), -300), 10.0 ** min(max(math.ceil(high), math.floor(low) + 1), 300)


def _subsets(subsets: dict[str, Figures], mean: float, axes: Any) -> None:
    names = list(subsets)
    for at, name in enumerate(names):
        f = subsets[name]
        if f.mean_score is None or f.spread is None:
            continue
        half = f.spread.value
        axes.plot([f.mean_score.value - half, f.mean_score.value + half], [at, at], color=BLUE, linewidth=3, alpha=0.45)
        axes.plot([f.mean_score.value], [at], marker="o", markersize=5, color=BLUE)
    axes.axvline(mean, color=ORANGE, linewidth=1.2, linestyle="--", label="all pairs")
    axes.axvline(0, color=INK, linewidth=0.6)
    # a name is text, whatever it holds: no formula
    axes.set_yticks(range(len(names)), [shortened(name) for name in names], parse_math=False)
    axes.set(xlabel="shift s/2", ylim=(len(names) - 0.4, -0.6))
    axes.legend(loc="best")


def shortened(text: str, most: int = 22) -> str:
    """Return a text that is no longer than a label may be."""
    text = plain(text)
    return text if len(text) <= most else text[: most - 1] + "…"


# --- over steps


@dataclass(frozen=True)
class Line:
    """How a series is drawn."""

    label: str
    colour: str
    dashes: str


LINES = {
    "mean_score": Line("mean score s/2", ORANGE, "-"),
    "mean_chosen": Line("chosen", BLUE, "--"),
    "mean_rejected": Line("rejected", PINK, "-."),
    "mean_margin": Line("mean margin", BLUE, "--"),
    "loss": Line("loss", BLUE, "-"),
    "penalty": Line("penalty", ORANGE, "--"),
    "accuracy": Line("accuracy", BLUE, "-"),
    "mean_square_sum": Line("mean s^2", ORANGE, "-"),
}


def _of_log(found: Diagnosis) -> Iterator[Panel]:
    groups = (
        ("scores", "Scores", ("mean_score", "mean_chosen", "mean_rejected")),
        ("margins", "Margin", ("mean_margin",)),
        ("loss", "Loss", ("loss", "penalty")),
        ("accuracy", "Accuracy", ("accuracy",)),
        ("squares", "Mean s^2", ("mean_square_sum",)),
    )
    for key, title, names in groups:
        if any(drawable(found.series, prefix + name) for name in names for prefix in ("", "heldout_")):
            yield _over_steps(found, key, title, names)


def drawable(series: Any, name: str) -> bool:
    """Return whether a series has a figure."""
    return name in series and bool(np.isfinite(series[name]).any())


def _over_steps(found: Diagnosis, key: str, title: str, names: Sequence[str], band: str = "") -> Panel:
    says = []
    shown = [name for name in names if any(drawable(found.series, prefix + name) for prefix in ("", "heldout_"))]
    for name in shown:
        trend = found.trends.get(name)
        if trend is not None and math.isfinite(trend.slope.value):
            says.append(f"the {LINES[name].label} changes by {both(trend.slope)} per 1,000 steps")
    if any((trend := found.trends.get(name)) and trend.late for name in shown):
        says.append("dotted: the trend of the second half")
    if band and drawable(found.series, band):
        says.append("the band is one spread of s/2 over the pairs")
    if key == "scores" and drawable(found.series, "min_score") and drawable(found.series, "max_score"):
        says.append("the band reaches from the least to the largest score")
    if any(drawable(found.series, f"heldout_{name}") for name in shown):
        says.append("crosses: held-out pairs")
    text = "; ".join(says)
    return Panel(
        key, title, (text[:1].upper() + text[1:] + ".") if text else title, partial(_steps, found, shown, band)
    )


def _steps(found: Diagnosis, names: Sequence[str], band: str, axes: Any) -> None:
    series, step = found.series, found.series["step"]
    for name in names:
        line = LINES[name]
        if drawable(series, name):
            y = series[name]
            there = np.isfinite(y)
            few = np.count_nonzero(there) <= 30
            style = {"marker": "o", "markersize": 3.5} if few else {}
            axes.plot(step[there], y[there], color=line.colour, linestyle=line.dashes, label=line.label, **style)
            _trend_line(axes, step, y, found.trends.get(name), line.colour)
        if drawable(series, f"heldout_{name}"):
            y = series[f"heldout_{name}"]
            there = np.isfinite(y)
            label = f"{line.label}, held out"
            axes.plot(step[there], y[there], color=line.colour, linestyle="", marker="x", markersize=4, label=label)
    low, high = (series["mean_score"] - series[band], series["mean_score"] + series[band]) if band else (None, None)
    if "mean_score" in names and drawable(series, "min_score") and drawable(series, "max_score"):
        low, high = series["min_score"], series["max_score"]
    if low is not None and high is not None:
        there = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(step[there], low[there], high[there], color=ORANGE, alpha=0.16, linewidth=0)
    _references(axes, found, names)
    axes.margins(x=0.02)
    axes.set(xlabel="step")
    axes.legend(loc="best")


def _trend_line(axes: Any, step: Array, y: Array, trend: Trend | None, colour: str) -> None:
    """Draw the slope of the second half, through its median."""
    late = trend and (trend.late or trend)
    if not late or not math.isfinite(late.slope.value):
        return
    there = np.isfinite(y) & (step >= (step[0] + step[-1]) / 2 if trend and trend.late else True)
    if np.count_nonzero(there) < 2:
        return
    x, slope = step[there][[0, -1]], late.slope.value / 1000
    axes.plot(x, slope * x + np.median(y[there] - slope * step[there]), color=INK, linestyle=":", linewidth=1.3)


REST: dict[str, Any] = {"color": GREEN, "linewidth": 1.1, "linestyle": (0, (4, 2, 1, 2))}


def _references(axes: Any, found: Diagnosis, names: Sequence[str]) -> None:
    """Draw what a series should be near to, or stay below."""
    rest = next((bound.bound for bound in found.bounds if bound.theorem == "T8"), None)
    if "mean_score" in names or "mean_margin" in names:
        axes.axhline(0, color=INK, linewidth=0.6)
    if "mean_score" in names and rest is not None and math.isfinite(rest):
        for sign, label in ((1, "bound at rest (T8)"), (-1, None)):
            axes.axhline(sign * math.sqrt(rest) / 2, label=label, **REST)
    if "mean_square_sum" in names and rest is not None and math.isfinite(rest):
        axes.axhline(rest, label="bound at rest (T8)", **REST)
    if "loss" in names:
        axes.axhline(math.log(2), color=INK, linewidth=0.8, linestyle=(0, (1, 3)), label="log 2: no margin")
    if "accuracy" in names:
        axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), label="chance")
