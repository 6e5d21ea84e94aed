"""The words of the reports: what a figure is called and means, and how numbers are written."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refrm.diagnosis.model import Diagnosis, Estimate, Figures


@dataclass(frozen=True)
class Row:
    """A figure of a report: its key, its name, itself, whether it is a share, and what it means."""

    key: str
    label: str
    value: Estimate | float
    share: bool
    means: str


def plain(text: str) -> str:
    """Return a text from outside that a terminal, a page and a picture can show: what is not printable is replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def number(x: float, places: int | None = None) -> str:
    """Return a number, with so many decimal places, or else in four significant digits at most."""
    if not math.isfinite(x):
        return "not finite" if math.isnan(x) else ("∞" if x > 0 else "-∞")
    text = f"{x:.4g}" if places is None else f"{x:,.{places}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def percent(x: float, places: int | None = None) -> str:
    """Return a share in percent; what is neither nothing nor all is not shown as such."""
    if not math.isfinite(x):
        return "unknown"
    for edge, text in ((0.0, "under 0.1%"), (1.0, "over 99.9%")):
        if 0 < abs(x - edge) < 0.0005:
            return text
    return f"{100 * x:.{places}f}%" if places is not None else f"{100 * x:.3g}%" if abs(x) < 0.9995 else "100%"


def probability(x: float) -> str:
    """Return a p-value; how small a very small one is does not matter."""
    return "under 0.0001" if x < 1e-4 else f"{x:.2g}"


def value(x: Any, share: bool = False) -> str:
    """Return a figure without its interval, to the places that the interval leaves sure."""
    places = None
    if isinstance(x, Estimate):
        x, places = x.value, _places(x, share)
    if isinstance(x, bool) or x is None:
        return {True: "yes", False: "no", None: "unknown"}[x]
    if isinstance(x, int):
        return f"{x:,}"
    if isinstance(x, float):
        return percent(x, places) if share else number(x, places)
    return str(x)


def interval(x: Any, share: bool = False) -> str:
    """Return the interval of a figure, empty for what has none or is exact."""
    if not isinstance(x, Estimate) or x.how == "exact" or not (math.isfinite(x.low) or math.isfinite(x.high)):
        return ""
    places = _places(x, share)
    low, high = (percent(end, places) if share else number(end, places) for end in (x.low, x.high))
    if share and low == high:
        return low
    return f"{low.rstrip('%') if low[0].isdigit() and high[0].isdigit() else low} to {high}"


def both(x: Any, share: bool = False) -> str:
    """Return a figure and, in brackets, its interval."""
    text, ends = value(x, share), interval(x, share)
    return f"{text} ({ends})" if ends not in ("", text) else text


def _places(x: Estimate, share: bool) -> int | None:
    """Return the decimal places that give half the interval's width two digits; None where that is no fixed point."""
    half = (x.high - x.low) / 2 * (100 if share else 1)
    if not 1e-5 < half < 1e5 or not max(abs(x.value), abs(x.low), abs(x.high)) < 1e7:
        return None
    return min(max(0, 1 - math.floor(math.log10(half))), 2 if share else 6)


def rows(f: Figures) -> Iterator[Row]:
    """Yield what is known of pairs, in the order of a report."""
    for key, label, share, means in _FIGURES:
        x = getattr(f, key)
        if x is not None:
            yield Row(key, label, x, share, means)
        if key == "std_margin":
            yield from _outcomes(f)
    yield from _probabilities(f)
    for name, p in f.precision.items():
        yield Row(
            f"precision.{name}",
            f"margins lost in {name}",
            p.below,
            True,
            f"pairs whose margin is below one spacing of {name} at their scores; ties after rounding:"
            f" {percent(p.tied.value)}" + (f"; overflow: {percent(p.overflow)}" if p.overflow else ""),
        )
    yield from _lengths(f)


_FIGURES = (
    ("mean_score", "mean shift", False, "mean of s/2, the pairs' mean scores; the loss cannot see it"),
    ("spread", "spread of the shift", False, "standard deviation of s/2 from pair to pair"),
    ("mean_margin", "mean margin", False, "mean of d = r_w - r_l"),
    ("std_margin", "spread of the margin", False, "standard deviation of d"),
    ("invisible", "energy out of sight", True, "mean s^2 as a share of mean s^2 + mean d^2: what the loss cannot see"),
    ("mean_square_sum", "mean s^2", False, "what the squared-sum term penalises"),
    ("mean_chosen", "mean chosen score", False, "mean of r_w"),
    ("mean_rejected", "mean rejected score", False, "mean of r_l"),
    ("min_score", "least score", False, "over both sides"),
    ("max_score", "largest score", False, "over both sides"),
    ("loss", "pairwise loss", False, "mean of the loss as trained, with margins and label smoothing"),
)

_TIES = {
    "half": ("ranked right", "share of d > 0, a tie counting one half"),
    "wrong": ("ranked right, ties wrong", "as TRL counts"),
    "dropped": ("ranked right, ties left out", "among pairs that are no ties"),
    "correct": ("ranked right, ties right", "share of d >= 0"),
    "as logged": ("ranked right, as logged", "by the log's own policy for ties"),
}


def _outcomes(f: Figures) -> Iterator[Row]:
    tied = f.ties is not None and f.ties.value > 0
    for policy, (label, means) in _TIES.items():
        if policy in f.accuracy and (tied or policy in ("half", "as logged")):
            yield Row(f"accuracy.{policy}", label, f.accuracy[policy], True, means)
    if f.ties is not None:
        yield Row("ties", "ties", f.ties, True, "share of d = 0")


def _probabilities(f: Figures) -> Iterator[Row]:
    c = f.calibration
    if c is None:
        return
    yield Row("log_loss", "log loss", c.log_loss, False, "mean of softplus(-d): of the probabilities sigma(d)")
    yield Row("brier", "Brier score", c.brier, False, "mean of (1 - sigma(d))^2")
    means = f"how far probabilities are from outcomes, on average; {percent(c.ece_noise)} would come from chance alone"
    yield Row("ece", "calibration error", c.ece, True, means)
    yield Row("gap", "over-confidence", c.gap, True, "mean claimed probability less the share that is right")
    if c.factor is not None:
        saved = f"; saves {number(c.saved)} of log loss" if c.saved is not None else ""
        yield Row("factor", "best factor", c.factor, False, f"the a for which sigma(a*d) fits best{saved}")


def _lengths(f: Figures) -> Iterator[Row]:
    if f.lengths is None:
        return
    for key, label, means in (
        ("margin", "margin with length", "correlation of d with the difference in length"),
        ("chosen", "chosen score with length", "correlation of r_w with its length"),
        ("rejected", "rejected score with length", "correlation of r_l with its length"),
    ):
        yield Row(f"lengths.{key}", label, getattr(f.lengths, key), False, means)
    for key, label in (("longer", "chosen is longer"), ("shorter", "chosen is shorter")):
        accuracy = getattr(f.lengths, f"accuracy_{key}")
        if accuracy is not None:
            yield Row(f"lengths.{key}", f"ranked right where {label}", accuracy, True, "a tie counts one half")


_SHARES = ("share", "accuracy", "ties", "ece", "cluster_minority", "below_one_step", "confidence_minus", "invisible")
_WORDS = {
    "share_of_energy": "share of the scores' energy",
    "share_of_the_mean": "share of mean s^2 that is the mean's",
    "std_margin": "spread of the margin",
    "margin_size": "size of the margins (root mean square of d)",
    "ece": "calibration error",
    "ece_by_sampling_alone": "calibration error by chance alone",
    "explained_by": "explained by the finding",
    "mean_square_sum": "mean s^2",
    "slope_per_1000_steps": "slope per 1,000 steps, second half",
    "slope_of_the_whole_run": "slope per 1,000 steps, whole run",
    "p_value": "p-value",
    "mean_score": "mean shift",
    "spread": "spread of the shift",
}


_LOSSES = {
    "below": "margins below one spacing in {}",
    "tied": "margins that rounding to {} makes ties",
    "overflow": "scores beyond the range of {}",
}


def evidence(items: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, figure and interval of a finding's evidence; what is unknown is left out."""
    for key, x in items.items():
        if x is None:
            continue
        form, _, what = key.rpartition("_")
        share = key.startswith(_SHARES) or what in _LOSSES
        name = _LOSSES[what].format(form) if what in _LOSSES else _WORDS.get(key, key.replace("_", " "))
        yield name, probability(x) if key == "p_value" else value(x, share), interval(x, share)


def subject(found: Diagnosis) -> tuple[str, str]:
    """Return what was read, but for its name, and where in it the figures stand, which may be nothing to tell."""
    if found.kind == "log":
        steps = len(found.series.get("step", ()))
        return "training log", f"{steps:,} entr{'y' if steps == 1 else 'ies'}"
    text = f"{found.n_pairs:,} pair{'' if found.n_pairs == 1 else 's'}"
    if found.window is None:
        return text, ""
    first, last = (number(step) for step in found.window)
    return text, "figures of " + (f"step {first}" if first == last else f"steps {first} to {last}")
