"""Rules for scale: shift, drift, growing margins, calibration, precision, and the bounds that a coefficient promises.

A shift counts where it exceeds the yardstick, the root mean square of d (at least 1): then its part of the scores'
energy is at least four times that of all margins. For scores that are as correlated within prompts as rho, the spread
of s/2 is sqrt((1 + rho)/(1 - rho))/2 yardsticks, so a spread of one yardstick is a correlation of 0.6.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from refrm.diagnosis.bounds import IDENTITIES, Wrong
from refrm.diagnosis.case import Case, LogCase, outside, term
from refrm.diagnosis.model import Finding
from refrm.diagnosis.precision import FORMATS

CONFIDENT = math.log(99)
"""The margin that claims one error in a hundred."""

UNBOUNDED = (
    "run `refrm check` on the loss that is in use; see that the coefficient reaches it, as a number and with its sign;"
    " if both are right, train longer: T8 holds at rest, T7 from the start on"
)
"""The cure of a bound that does not hold; for pairs and logs alike."""


def global_shift(case: Case) -> Iterator[Finding]:
    """A mean score beyond the yardstick; from half of it on, a note."""
    strict, shown = case.strict.mean_score, case.shown.mean_score
    if strict is None or shown is None or not outside(strict, -case.yardstick / 2, case.yardstick / 2):
        return
    c = shown.value
    yield Finding(
        "global-shift",
        "finding" if outside(strict, -case.yardstick, case.yardstick) else "note",
        f"all scores are shifted: their mean is {c:.4g}, the margins' size {case.yardstick:.3g}",
        {
            "mean_score": shown,
            "margin_size": case.yardstick,
            "spread": case.shown.spread,
            "share_of_energy": _share(case, 4 * c * c),
        },
        ("T1", "T6", "T11"),
        f"subtract {c:.6g} from every score (T11); or {term(case.settings, case.margin)}",
        "no ranking, probability or accuracy changes; the spread of s/2 stays under subtraction",
        case.name,
        ("penalty-missing", "squared-difference"),
    )


def per_prompt_shift(case: Case) -> Iterator[Finding]:
    """A spread of s/2 beyond the yardstick; from half of it on, a note."""
    strict, shown = case.strict.spread, case.shown.spread
    if strict is None or shown is None or not strict.low > case.yardstick / 2:
        return
    groups = case.groups
    where = "from pair to pair"
    evidence: dict[str, object] = {"spread": shown, "margin_size": case.yardstick}
    evidence["share_of_energy"] = _share(case, 4 * shown.value**2)
    if groups:
        where = "from prompt to prompt" if groups.share.value > 0.5 else "within prompts"
        evidence |= {"share_between_prompts": groups.share, "prompts": groups.n}
    yield Finding(
        "per-prompt-shift",
        "finding" if strict.low > case.yardstick else "note",
        f"scores are shifted differently {where}: s/2 spreads by {shown.value:.4g}, the margins' size is"
        f" {case.yardstick:.3g}",
        evidence,
        ("T1", "T9", "T11", "T8"),
        f"{term(case.settings, case.margin)}. Afterwards only a constant for each prompt helps, subtracted from all of"
        " its responses (T11)",
        "one constant for all scores leaves this spread as it is; compare responses within a prompt only, until then",
        case.name,
        ("penalty-missing", "sum-to-zero", "batch-sum", "squared-difference"),
    )


def _share(case: Case, energy: float) -> float:
    h, d, m = case.tally.moments.central()
    return float(energy / (4 * (h * h + m[2, 0]) + d * d + m[0, 2]))


def drift(case: Case) -> Iterator[Finding]:
    """A mean score that still moves, by `drifting`."""
    if "mean_score" in case.trends:
        cure = term(case.settings, case.margin)
        more = "; scores so far lose it by subtracting each checkpoint's own mean (T11)"
        yield from drifting(case, float(case.series["mean_score"][-1]), cure + more)


def drifting(case: Case | LogCase, end: float, cure: str) -> Iterator[Finding]:
    """A mean score, now at ``end``, that moved by a tenth of the yardstick or more in the second half of the steps."""
    trend = case.trends["mean_score"]
    late = trend.late or trend
    if late.p_value > case.level or abs(late.change) < case.yardstick / 10:
        return
    if abs(end) < abs(end - late.change):
        return  # on its way to 0
    given = f"the coefficient {case.settings.coef:g} does not hold it: " if case.settings.coef else ""
    yield Finding(
        "drift",
        "finding",
        f"the mean score drifts by {late.slope.value:.3g} per 1,000 steps, and has not stopped",
        {
            "slope_per_1000_steps": late.slope,
            "slope_of_the_whole_run": trend.slope,
            "change_in_second_half": late.change,
            "p_value": late.p_value,
            "last": end,
        },
        ("T6", "T7", "T8"),
        given + cure,
        "growth of margins has another cause and another cure (T3, T14)",
        case.name,
        ("penalty-missing", "squared-difference", "detached-side", "minus-sign", "negative-coefficient"),
    )


def margin_growth(case: Case) -> Iterator[Finding]:
    """Margins beyond log 99 that rank every pair right, or that still grow over the steps."""
    shown, trend = case.shown, case.trends.get("mean_size")
    if shown.mean_margin is None or shown.std_margin is None or not shown.accuracy:
        return
    size = math.hypot(shown.mean_margin.value, shown.std_margin.value)
    late = trend and (trend.late or trend)
    end = float(case.series["mean_size"][-1]) if trend else shown.mean_margin.value
    grows = bool(late and late.p_value < case.level and late.change > 0.05 * end and end > CONFIDENT)
    separated = shown.accuracy["wrong"].value == 1.0 and shown.n >= 100 and shown.mean_margin.value > CONFIDENT
    if not (grows or separated):
        return
    eps = 1 / (1 + math.exp(min(CONFIDENT, size)))
    evidence: dict[str, object] = {"mean_margin": shown.mean_margin, "accuracy": shown.accuracy["wrong"]}
    if grows and late:
        evidence |= {"slope_per_1000_steps": late.slope, "change_in_second_half": late.change, "p_value": late.p_value}
    yield Finding(
        "separable-margin-growth",
        "finding",
        ("margins keep growing" if grows else "every pair is ranked right, by margins that nothing bounds")
        + f": their mean size is {end:.3g}",
        evidence,
        ("T9", "T14", "T5"),
        f"label smoothing of {eps:.2g} stops margins at log((1 - eps)/eps) = {math.log((1 - eps) / eps):.3g} (T14);"
        " early stopping and weight decay slow them down",
        "the squared-sum term puts no force on d, whatever its coefficient (T3, T9); centring neither",
        case.name,
        ("smoothing-ignored",) if case.settings.label_smoothing else (),
    )


def miscalibrated(case: Case) -> Iterator[Finding]:
    """Probabilities that are off by 5 points on average, or by a factor of two in d that costs 0.02 of log loss."""
    strict, shown = case.strict.calibration, case.shown.calibration
    if strict is None or shown is None or strict.p_value > case.level:
        return
    factor, off = shown.factor, shown.ece.value - shown.ece_noise
    wide = bool(strict.factor and shown.saved and shown.saved > 0.02 and outside(strict.factor, 0.5, 2.0))
    if not (off > 0.05 or wide):
        return
    gap = shown.gap.value if abs(shown.gap.value) > 0.01 or not factor else 1 - factor.value
    how = "over" if gap > 0 else "under"
    cure = "fit more, or longer"
    if factor:
        cure = f"multiply scores by {factor.value:.3g} where probabilities are needed"
        cure = cure if factor.low > 0 else "no positive factor helps: the scores say nothing about the winner"
    more = (
        "; in training, label smoothing, early stopping or fewer epochs"
        if gap > 0
        else "; look for a penalty on margins or on single scores, a margin with the wrong sign, or too few steps"
    )
    yield Finding(
        "miscalibrated",
        "finding",
        f"{how}-confident: sigma(d) is off by {shown.ece.value:.1%} on average",
        {
            "ece": shown.ece,
            "ece_by_sampling_alone": shown.ece_noise,
            "confidence_minus_accuracy": shown.gap,
            "factor": factor,
            "log_loss": shown.log_loss,
            "log_loss_saved": shown.saved,
            "p_value": shown.p_value,
        },
        ("T14", "T3"),
        cure + more,
        "a factor changes no ranking and no accuracy; the squared-sum term does not touch margins (T3)",
        case.name,
        ("missing-log",)
        if gap > 0
        else ("squared-difference", "sum-of-squares", "missing-log", "margin-sign", "normalised-argument"),
    )


def precision_loss(case: Case) -> Iterator[Finding]:
    """Formats in which a tenth of the margins is below one spacing, or that overflow."""
    hit = [name for name, p in case.strict.precision.items() if p.below.low > 0.1 or p.overflow > 0]
    if not hit or case.shown.mean_score is None:
        return
    worst = hit[-1]
    shown = case.shown.precision
    size = max(abs(case.shown.min_score or 0.0), abs(case.shown.max_score or 0.0))
    mean, spread = case.shown.mean_score.value, case.shown.spread
    constant = spread is not None and abs(mean) > spread.value  # else the shift is another one for each pair
    centre = f", and subtract {mean:.6g} from the scores before they are rounded" if constant else ""
    spacing = float(FORMATS[worst].spacing(np.array([abs(mean)]))[0])
    below = [name for name in hit if case.strict.precision[name].below.low > 0.1]
    over = [name for name in hit if shown[name].overflow > 0]
    lost = [f"{shown[below[-1]].below.value:.0%} of the margins are below one spacing of {below[-1]}"] if below else []
    lost += [f"scores are beyond the range of {' and '.join(over)}"] if over else []
    yield Finding(
        "precision-loss",
        "finding",
        f"in {' and '.join(hit)} scores of this size lose margins: {' and '.join(lost)}",
        {f"{name}_{what}": getattr(shown[name], what) for name in hit for what in ("below", "tied", "overflow")}
        | {"spacing_at_mean_score": spacing, "largest_score": size},
        ("T13", "T1"),
        f"take r_w - r_l in float32{centre}; or keep s small in training (T8)",
        "scores that were rounded already: score the pairs again",
        case.name,
        ("rounded-difference",),
    )


def bound_violated(case: Case) -> Iterator[Finding]:
    """A mean s^2 above what T7 or T8 allows, given the coefficient."""
    broken = [bound for bound in case.bounds if not bound.holds]
    if not broken or case.shown.mean_square_sum is None or case.shown.mean_score is None:
        return
    coef = case.settings.coef
    value, mean = case.shown.mean_square_sum, case.shown.mean_score.value
    first = broken[0]
    cancels = 4 * mean * mean < 0.05 * value.value
    huge = any(b.theorem == "T7" and b.value.value > 10 * b.bound for b in broken)
    likely = [*(("negative-coefficient", "minus-sign") if huge else ())]
    likely += ("sum-to-zero", "batch-sum") if cancels else ("penalty-missing", "squared-difference")
    likely += ["factor-of-two", *(("penalty-twice",) if coef and coef < 1 else ())]
    yield Finding(
        "bound-violated",
        "finding",
        f"mean s^2 is {value.value:.4g}; with coefficient {coef:g} it is at most"
        f" {first.bound:.4g} ({', '.join(dict.fromkeys(b.theorem for b in broken))})",
        {"mean_square_sum": value, "share_of_the_mean": 4 * mean * mean / value.value}
        | ({"implied_coefficient": implied(case, "right")} if case.settings.converged else {})
        | {f"bound_{b.theorem}": b.bound for b in broken},
        tuple(dict.fromkeys(b.theorem for b in broken)),
        UNBOUNDED,
        "the bounds are for the pairs trained on: held-out pairs exceed them where the model does not generalise",
        case.name,
        tuple(dict.fromkeys([*_consistent(case), *likely])),
    )


def implied(case: Case, name: str) -> float:
    """Return the coefficient that scores at rest imply if the loss has this mistake (see `bounds.IDENTITIES`)."""
    wrong, on, factor, power = IDENTITIES[name]
    h, d, m = case.tally.moments.central()
    s2, d2 = 4 * (h * h + m[2, 0]), d * d + m[0, 2]
    means = {"s2": s2, "d2": d2, "both": s2 + d2, "mean": 4 * h * h}
    below = factor * means[on] * case.shown.n
    value = float(case.tally.pulls[wrong]) / below if below else math.nan
    return math.copysign(abs(value) ** (1 / power), value) if power == power else value


def _consistent(case: Case) -> list[str]:
    """Return the mistakes whose identity holds within 5% at the coefficient; needs scores at rest."""
    coef = case.settings.coef
    if not coef or not case.settings.converged:
        return []
    found = []
    for name, (wrong, _, _, power) in IDENTITIES.items():
        if name == "right" or (wrong.name.startswith("margin") and not case.tally.margins[0]):
            continue
        if wrong.name.startswith("smoothing") and not case.settings.label_smoothing:
            continue
        ratio = implied(case, name) / coef
        wanted = (0.25, 0.5, 2.0, 4.0) if power != power else (1.0,)
        if any(abs(ratio / x - 1) < 0.05 for x in wanted):
            found.append(name)
    if abs(case.tally.pulls[Wrong.right]) < 0.01 * coef * case.shown.mean_square_sum.value * case.shown.n:  # type: ignore[union-attr]
        found.append("penalty-missing")
    return found


def coefficient_mismatch(case: Case) -> Iterator[Finding]:
    """Scores at rest that imply another coefficient than the one given, by 20% or more."""
    coef, f = case.settings.coef, case.shown
    if not coef or not case.settings.converged or f.mean_square_sum is None:
        return
    found = implied(case, "right")
    if f.n and any(not bound.holds for bound in case.bounds):
        return  # `bound_violated` says so
    pull = float(case.tally.pulls[Wrong.right]) / f.n
    if 1 / 1.2 < found / coef < 1.2 or abs(pull - 2 * coef * f.mean_square_sum.value) < 1e-3 * case.yardstick:
        return  # within 20%, or both sides of the identity are as good as 0
    names = tuple(_consistent(case))
    told = f"imply a coefficient of {found:.3g}, not {coef:g}"
    if not 1e-3 < abs(found) < 1e3:
        told = f"do not balance: the loss pulls by {pull:.3g}, the penalty by {2 * coef * f.mean_square_sum.value:.3g}"
    yield Finding(
        "coefficient-mismatch",
        "finding",
        f"at rest these scores {told}",
        {"implied_coefficient": found, "coefficient": coef, "mean_square_sum": f.mean_square_sum}
        | {f"implied_if_{name}": implied(case, name) for name in names if name in IDENTITIES},
        ("T8",),
        "run `refrm check` on the loss that is in use"
        + (f": scores of {' or '.join(names)} look like this" if names else "")
        + "; if it conforms, the model is not at rest, or weight decay acts on its head",
        "pairs that were not trained on do not have the identity: leave `converged` off for them",
        case.name,
        names,
    )


RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    bound_violated,
    coefficient_mismatch,
    per_prompt_shift,
    global_shift,
    drift,
    margin_growth,
    miscalibrated,
    precision_loss,
)
