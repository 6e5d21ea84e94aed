"""`diagnose_log`: what the aggregates of a training log tell, and what they do not."""

import math
from collections.abc import Mapping

import numpy as np

from refrm.diagnosis.bounds import largest_pull
from refrm.diagnosis.case import LogCase, ranked, suggested
from refrm.diagnosis.data import SERIES, Log, Settings
from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Bound, Diagnosis, Estimate, Figures, Finding
from refrm.diagnosis.rules_log import RULES
from refrm.diagnosis.trends import FEW, trend
from refrm.spec import Array

FALSE_ALARMS = 0.01
"""The probability of any finding on a healthy run, shared by all rules."""

HELDOUT = "held-out"


def diagnose_log(log: Log, settings: Settings | None = None) -> Diagnosis:
    """Diagnose a training log.

    Figures are means over the last tenth of the entries, at least five; their intervals are of the entries' scatter,
    widened for its autocorrelation.

    Parameters
    ----------
    log : Log
    settings : Settings, optional

    Returns
    -------
    Diagnosis
        ``figures`` of the pairs trained on, ``subsets["held-out"]`` of the others; ``unknown`` names what a log
        cannot tell.
    """
    settings = settings or Settings()
    strict = FALSE_ALARMS / (2 * len(RULES))
    cases = [_case(log, settings, prefix, name, strict) for prefix, name in (("", ""), ("heldout_", HELDOUT))]
    cases = [case for case in cases if case.series or case.nonfinite]
    found: list[Finding] = []
    for case in cases:
        known = {finding.id for finding in found}
        found += [finding for rule in RULES for finding in rule(case) if finding.id not in known]
    shown = {case.name: case.shown for case in cases}
    first = shown.get("") or shown.get(HELDOUT) or {}
    return Diagnosis(
        kind="log",
        name=log.name,
        settings=settings,
        findings=ranked(found),
        figures=_figures(shown.get("", {})),
        subsets={HELDOUT: _figures(shown[HELDOUT])} if HELDOUT in shown else {},
        window=_window(log.step),
        series={"step": log.step, **log.series},
        trends={("heldout_" if case.name else "") + key: one for case in cases for key, one in case.trends.items()},
        bounds=tuple(bound for case in cases for bound in case.bounds),
        subtract=first.get("mean_score"),
        suggested_coef=suggested(settings),
        unknown=_unknown(log, settings, first),
        notes=(
            f"figures are means over the last {_tail(len(log.step))} of {len(log.step)} entries",
            "each entry is an average over a batch, or over all batches since the last entry",
        ),
        problems=log.problems,
    )


def _tail(n: int) -> int:
    return min(n, max(5, n // 10))


def _window(step: Array) -> tuple[float, float] | None:
    return (float(step[-_tail(len(step))]), float(step[-1])) if len(step) else None


def completed(series: Mapping[str, Array], coef: float | None = None) -> dict[str, Array]:
    """Return the series, with those that follow exactly from others: the mean score and margin of the two sides, mean
    s^2 of the penalty and its coefficient or of mean and spread, and the spread of mean s^2 and the mean.
    """
    found = dict(series)
    if "mean_chosen" in found and "mean_rejected" in found:
        found.setdefault("mean_score", (found["mean_chosen"] + found["mean_rejected"]) / 2)
        found.setdefault("mean_margin", found["mean_chosen"] - found["mean_rejected"])
    if coef and "penalty" in found:
        found.setdefault("mean_square_sum", found["penalty"] / coef)
    if "mean_score" in found and "spread" in found:
        found.setdefault("mean_square_sum", 4 * (found["mean_score"] ** 2 + found["spread"] ** 2))
    if "mean_score" in found and "mean_square_sum" in found:
        rest = found["mean_square_sum"] / 4 - found["mean_score"] ** 2
        found.setdefault("spread", np.sqrt(np.maximum(rest, 0.0)))
    return found


def _case(log: Log, settings: Settings, prefix: str, name: str, strict: float) -> LogCase:
    own = {key: log.series[prefix + key] for key in SERIES if prefix + key in log.series}
    series = completed(own, settings.coef)
    shown, decided, trends = {}, {}, {}
    for key, values in series.items():
        there = np.isfinite(values)
        if not there.any():
            continue
        end = values[there][-_tail(int(there.sum())) :]
        effect = _autocorrelation(values[there])
        variance = float(np.var(end))
        shown[key], decided[key] = (
            Level(alpha).mean(float(np.mean(end)), variance, len(end), effect) for alpha in (0.05, strict)
        )
        one = trend(log.step, values)
        if one is not None:
            trends[key] = one
    bad = {key: log.nonfinite[prefix + key] for key in SERIES if prefix + key in log.nonfinite}
    bounds = _bounds(log.step, series, settings, strict) if not name else ()
    return LogCase(name, series, shown, decided, trends, bad, settings, strict, bounds)


def _autocorrelation(y: Array) -> float:
    """Return the design effect (1 + rho)/(1 - rho) of the second half, rho of neighbours, about a straight line."""
    y = y[len(y) // 2 :]
    if len(y) < 8:
        return 1.0
    x = np.arange(len(y)) - (len(y) - 1) / 2
    rest = y - y.mean() - x * (x @ y) / (x @ x)
    total = float(rest @ rest)
    rho = float(rest[1:] @ rest[:-1]) / total if total > 0 else 0.0
    return (1 + rho) / (1 - rho) if 0 < rho < 0.95 else 1.0 if rho <= 0 else 39.0


def _bounds(step: Array, series: Mapping[str, Array], settings: Settings, strict: float) -> tuple[Bound, ...]:
    """Return what T7 and T8 say, given the coefficient: of mean s^2, or of (mean s)^2 <= mean s^2 (T12)."""
    coef = settings.coef
    if not coef:
        return ()
    if "mean_square_sum" in series:
        values = series["mean_square_sum"]
        logged = "penalty" in series and np.array_equal(values, series["penalty"] / coef, equal_nan=True)
        what = "mean s^2 (the logged penalty over the coefficient)" if logged else "mean s^2"
    elif "mean_score" in series:
        what, values = "(mean s)^2, a part of mean s^2,", 4 * series["mean_score"] ** 2
    else:
        return ()
    values = values[np.isfinite(values)]
    if not len(values):
        return ()
    end = values[-_tail(len(values)) :]
    shown, low = (Level(alpha).mean(float(np.mean(end)), float(np.var(end)), len(end)) for alpha in (0.05, strict))
    rest = float(largest_pull(np.zeros(()), settings.label_smoothing)) / (2 * coef)
    begin = (math.log(2) if settings.start is None else settings.start) / coef
    most = float(np.max(values))
    return (
        Bound("T8", f"{what} at rest", shown, rest, low.low <= rest),
        # a batch's mean scatters about that of all pairs: twice the bound is beyond doubt
        Bound("T7", f"{what} since the start", Estimate(most, most, most, "exact"), begin, most <= 2 * begin),
    )


def _figures(shown: Mapping[str, Estimate]) -> Figures:
    names = ("mean_score", "spread", "mean_margin", "std_margin", "mean_chosen", "mean_rejected", "mean_square_sum")
    known = {name: shown[name] for name in (*names, "loss") if name in shown}
    low, high = shown.get("min_score"), shown.get("max_score")
    return Figures(
        **known,  # type: ignore[arg-type]
        min_score=low.value if low else None,
        max_score=high.value if high else None,
        accuracy={"as logged": shown["accuracy"]} if "accuracy" in shown else {},
    )


def _unknown(log: Log, settings: Settings, shown: Mapping[str, Estimate]) -> dict[str, str]:
    unknown = {
        "groups": "a log has no prompts: one constant for all and one for each prompt look the same",
        "calibration": "needs the margins pair by pair",
        "precision": "needs the scores pair by pair; the spacing at the mean score is known",
        "ties, duplicates, lengths, clusters": "need the scores pair by pair",
    }
    if "spread" not in shown:
        unknown["spread"] = "not logged: the mean of s is not enough"
    if "mean_square_sum" not in shown:
        unknown["mean_square_sum"] = "no average of scores gives mean s^2; it is at least (mean s)^2 (T12)"
    if len(log.step) < 2 * FEW:
        unknown["trends"] = f"{len(log.step)} entries are too few to tell a trend from noise"
    if not settings.coef:
        unknown["bounds"] = "T7 and T8 need the coefficient of the training"
    return unknown
