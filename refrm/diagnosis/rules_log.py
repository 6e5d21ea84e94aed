"""Rules for the aggregates of a training log: what means over batches can show, and no more."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from refrm.diagnosis.case import LogCase, outside, term
from refrm.diagnosis.model import Finding
from refrm.diagnosis.precision import FORMATS
from refrm.diagnosis.rules_data import LARGE, NON_FINITE, TOKEN
from refrm.diagnosis.rules_scale import CONFIDENT, UNBOUNDED, drifting

LOG_2 = math.log(2)


def non_finite(case: LogCase) -> Iterator[Finding]:
    """Any NaN or infinity in the log."""
    bad = sum(case.nonfinite.values())
    if bad:
        what = ", ".join(f"{name} ({count})" for name, count in case.nonfinite.items())
        yield Finding(
            "non-finite",
            "finding",
            f"the log holds {bad:,} figures that are NaN or infinite: {what}",
            dict(case.nonfinite),
            (),
            *NON_FINITE[:2],
            case.name,
            NON_FINITE[2],
        )


def constant_head(case: LogCase) -> Iterator[Finding]:
    """A loss of log 2 and no margin, at the end."""
    loss, margin = case.strict.get("loss"), case.strict.get("mean_margin")
    if loss is None or margin is None or abs(loss.value - LOG_2) > 1e-3 or outside(margin, -1e-3, 1e-3):
        return
    yield Finding(
        "constant-head",
        "finding",
        "the loss stays at log 2 and the margin at 0: both responses of a pair score the same",
        {"loss": case.shown["loss"], "mean_margin": case.shown["mean_margin"]},
        ("T2",),
        "check that the head is trained, that its input is the last token of the response, and that chosen and rejected"
        " differ after truncation",
        "a penalty, a shift or another dtype changes nothing here",
        case.name,
        ("detached-side",),
    )


def swapped_columns(case: LogCase) -> Iterator[Finding]:
    """Accuracy clearly below one half, at the end."""
    f = case.strict.get("accuracy")
    if f is None or f.high >= 0.5 or f.value > 0.42:
        return
    yield Finding(
        "swapped-columns",
        "finding",
        f"the rejected response wins in {1 - f.value:.0%} of the pairs",
        {"accuracy": case.shown["accuracy"]}
        | ({"mean_margin": case.shown["mean_margin"]} if "mean_margin" in case.shown else {}),
        ("T2",),
        "exchange the two columns, or the sign of the score",
        "a model that is worse than chance on these pairs looks the same",
        case.name,
        ("swapped", "smoothing-flipped"),
    )


def wrong_token(case: LogCase) -> Iterator[Finding]:
    """Scores beyond 100 on both sides: a finding where accuracy is no better than chance."""
    sides = {k: case.shown[k] for k in ("mean_chosen", "mean_rejected", "mean_score") if k in case.shown}
    values = [e.value for e in sides.values()]
    if not sides or min(map(abs, values)) <= LARGE or min(values) * max(values) < 0:
        return
    accuracy = case.strict.get("accuracy")
    chance = accuracy is not None and accuracy.value < 0.55 and accuracy.low <= 0.55
    yield Finding(
        "padding-or-wrong-token",
        "finding" if chance else "note",
        "scores are beyond 100 on both sides"
        + (" and rank no better than chance: padding, or a wrong token" if chance else ": inflation, or a wrong token"),
        dict(sides) | ({"accuracy": case.shown["accuracy"]} if accuracy else {}),
        ("T1",),
        *TOKEN,
        case.name,
    )


def impossible_loss(case: LogCase) -> Iterator[Finding]:
    """A loss below softplus(-mean d): by Jensen's inequality no pairwise loss with margins m >= 0 is."""
    loss, margin = case.series.get("loss"), case.series.get("mean_margin")
    if loss is None:
        return
    penalty = case.series.get("penalty")
    negative = loss < 0
    below = negative
    if margin is not None:
        with np.errstate(invalid="ignore"):  # a step that logs no margin has NaN there
            floor = np.logaddexp(0, -margin)
        below = negative | (loss < 0.98 * floor - 1e-3)  # averages over slightly other steps differ a little
    share = float(np.mean(below[np.isfinite(loss)])) if np.isfinite(loss).any() else 0.0
    subtracted = penalty is not None and bool(np.nanmin(penalty, initial=0.0) < -1e-9)
    if share < 0.2 and not subtracted:
        return
    yield Finding(
        "impossible-loss",
        "finding",
        "the penalty is negative"
        if subtracted
        else f"the loss is below what its margins allow, in {share:.0%} of the steps",
        {"loss": case.shown.get("loss"), "mean_margin": case.shown.get("mean_margin"), "share_of_steps": share},
        ("T2", "T10"),
        "run `refrm check` on the loss that is in use: mean softplus(-(d - m)) is never below softplus(-mean d), and no"
        " squared term is negative",
        "a margin m below 0, or figures averaged over other steps than the loss, look the same",
        case.name,
        ("negative-coefficient", "minus-sign")
        if subtracted
        else ("missing-log", "minus-sign", "negative-coefficient", "swapped"),
    )


def global_shift(case: LogCase) -> Iterator[Finding]:
    """A mean score beyond the yardstick at the end; from half of it on, a note."""
    strict = case.strict.get("mean_score")
    if strict is None or not outside(strict, -case.yardstick / 2, case.yardstick / 2):
        return
    c = strict.value
    yield Finding(
        "global-shift",
        "finding" if outside(strict, -case.yardstick, case.yardstick) else "note",
        f"scores are shifted: their mean is {c:.4g}, margins are about {case.yardstick:.3g}",
        {"mean_score": case.shown["mean_score"], "margin_size": case.yardstick}
        | {k: case.shown[k] for k in ("spread", "min_score", "max_score") if k in case.shown},
        ("T1", "T6", "T11"),
        f"subtract {c:.6g} from every score (T11); or {term(case.settings)}",
        "a log does not tell whether the shift is one constant or differs from prompt to prompt, which a constant does"
        " not mend: save scores pair by pair",
        case.name,
        ("penalty-missing", "squared-difference"),
    )


def drift(case: LogCase) -> Iterator[Finding]:
    """A mean score that still moves, by `drifting`."""
    if "mean_score" in case.trends:
        yield from drifting(case, case.shown["mean_score"].value, term(case.settings))


def margin_growth(case: LogCase) -> Iterator[Finding]:
    """A mean margin beyond log 99 that still grows, or goes with an accuracy of 1."""
    trend = case.trends.get("mean_margin")
    late = trend and (trend.late or trend)
    if not late or (end := case.shown["mean_margin"].value) <= CONFIDENT:
        return
    grows = late.p_value < case.level and late.change > 0.05 * end
    if not grows and ("accuracy" not in case.shown or case.shown["accuracy"].value < 1):
        return
    eps = 1 / (1 + math.exp(CONFIDENT))
    accuracy = {"accuracy": case.shown["accuracy"]} if "accuracy" in case.shown else {}
    yield Finding(
        "separable-margin-growth",
        "finding",
        ("margins keep growing" if grows else "every pair is ranked right, by margins that nothing bounds")
        + f": their mean is {end:.3g}",
        {"mean_margin": case.shown["mean_margin"], "slope_per_1000_steps": late.slope, "p_value": late.p_value}
        | accuracy,
        ("T9", "T14", "T5"),
        f"label smoothing of {eps:.2g} stops margins at {CONFIDENT:.3g} (T14); early stopping and weight decay slow"
        " them down",
        "the squared-sum term puts no force on d, whatever its coefficient (T3, T9)",
        case.name,
    )


def miscalibrated(case: LogCase) -> Iterator[Finding]:
    """A held-out loss above log 2 at an accuracy above 0.55: equal chances for all would be better."""
    loss, accuracy = case.strict.get("loss"), case.strict.get("accuracy")
    if not case.name or loss is None or accuracy is None or case.settings.coef:
        return
    if loss.low <= LOG_2 * 1.05 or accuracy.low <= 0.55:
        return
    yield Finding(
        "miscalibrated",
        "finding",
        f"over-confident: the loss is {loss.value:.3g}, above log 2, at an accuracy of {accuracy.value:.0%}",
        {"loss": case.shown["loss"], "accuracy": case.shown["accuracy"]},
        ("T14", "T3"),
        "label smoothing, early stopping or fewer epochs; or divide scores by a temperature, fitted pair by pair",
        "a margin m inside the loss, or a penalty that is part of it, raises it, too",
        case.name,
    )


def precision_loss(case: LogCase) -> Iterator[Finding]:
    """Formats whose spacing at the mean score is half the mean margin or more."""
    score, margin = case.shown.get("mean_score"), case.shown.get("mean_margin")
    if score is None or margin is None or abs(margin.value) < 1e-2:
        return
    at = {name: float(form.spacing(np.array([abs(score.value)]))[0]) for name, form in FORMATS.items()}
    hit = [name for name, spacing in at.items() if spacing >= abs(margin.value) / 2]
    if not hit:
        return
    yield Finding(
        "precision-loss",
        "finding",
        f"in {' and '.join(hit)} neighbours at the mean score are {at[hit[-1]]:g} apart, the mean margin is"
        f" {margin.value:.3g}",
        {"mean_score": score, "mean_margin": margin} | {f"{name}_spacing": at[name] for name in hit},
        ("T13", "T1"),
        "take r_w - r_l in float32; keep s small in training (T8), or subtract the mean before rounding (T11)",
        "which share of the pairs it costs, a log does not tell: save scores pair by pair",
        case.name,
        ("rounded-difference",),
    )


def bound_violated(case: LogCase) -> Iterator[Finding]:
    """A mean s^2, or what is below it, above what T7 or T8 allows."""
    broken = [bound for bound in case.bounds if not bound.holds]
    if not broken:
        return
    first = broken[0]
    yield Finding(
        "bound-violated",
        "finding",
        f"{first.what} is {first.value.value:.4g}; with coefficient {case.settings.coef:g} it is at most"
        f" {first.bound:.4g} ({first.theorem})",
        {bound.what: bound.value for bound in broken} | {f"bound_{b.theorem}": b.bound for b in broken},
        tuple(dict.fromkeys(b.theorem for b in broken)),
        UNBOUNDED,
        "a start from scores far from 0 has a larger bound in T7: give `start`",
        case.name,
        ("penalty-missing", "squared-difference", "factor-of-two", "penalty-twice", "negative-coefficient"),
    )


RULES: tuple[Callable[[LogCase], Iterator[Finding]], ...] = (
    non_finite,
    constant_head,
    swapped_columns,
    wrong_token,
    impossible_loss,
    bound_violated,
    global_shift,
    drift,
    margin_growth,
    miscalibrated,
    precision_loss,
)
