"""Rules for what is not inflation: faults of the data, of the file, or of where a score was read."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from refrm.diagnosis.case import Case
from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Finding
from refrm.diagnosis.suspicions import clusters, coincidences, near_ties, repeated

LARGE = 100.0
"""Scores of this size on both sides are suspicious of themselves: nothing in the loss asks for them."""

NON_FINITE = (
    "find the first step with a NaN; compute the loss as softplus(-(r_w - r_l)), in float32 or wider. All other"
    " figures leave these out",
    "a model whose weights are NaN already: go back to a checkpoint from before",
    ("naive-log-exp", "naive-log-sigmoid", "normalised-argument", "margin-outside"),
)
"""Cure, what it will not fix, and the mistakes that look like it; for pairs and logs alike."""

TOKEN = (
    "score one response alone, without padding, and padded to twice its length: the two must agree. Check the padding"
    " side, the pad token's id (is it the end token's?), and that the mask reaches the model",
    "the squared-sum term hides such scores and does not mend them (huggingface/trl#937)",
)
"""Cure and what it will not fix; for pairs and logs alike."""


def non_finite(case: Case) -> Iterator[Finding]:
    """Any NaN, infinity, or score beyond 1e60."""
    bad, n = case.shown.nonfinite, case.shown.nonfinite + case.shown.n
    if bad:
        yield Finding(
            "non-finite",
            "finding",
            f"{bad:,} of {n:,} pairs have a score that is NaN, infinite or beyond 1e60",
            {"pairs": bad, "share": bad / n},
            (),
            *NON_FINITE[:2],
            case.name,
            NON_FINITE[2],
        )


def constant_head(case: Case) -> Iterator[Finding]:
    """Margins that are all 0, or scores of one side that are all the same."""
    f, m = case.strict, case.tally.moments.central()[2]
    if f.n < 10 or f.min_score is None or f.max_score is None or f.std_margin is None or f.ties is None:
        return
    size = max(abs(f.min_score), abs(f.max_score))
    least = max(1e-3, size * 2.0**-23)  # in logits, or what float32 can tell
    chosen, rejected = (math.sqrt(max(m[2, 0] + m[0, 2] / 4 + sign * m[1, 1], 0.0)) for sign in (1, -1))
    same = f.std_margin.high < least and case.tally.widest < 10 * least
    if same or (f.ties.low > 0.5 and case.grid is None):
        what = "both responses of a pair score the same"
    elif min(chosen, rejected) < least:
        what = f"{'chosen' if chosen < rejected else 'rejected'} responses all score the same"
    else:
        return
    yield Finding(
        "constant-head",
        "finding",
        f"{what}: the loss is that of a constant",
        {
            "std_chosen": chosen,
            "std_rejected": rejected,
            "std_margin": case.shown.std_margin,
            "ties": case.shown.ties,
            "log_loss": case.shown.calibration and case.shown.calibration.log_loss,
        },
        ("T2",),
        "check that the head is trained and loaded (a new head is a random or zero one), that its input is the last"
        " token of the response, and that chosen and rejected differ after truncation",
        "a penalty, a shift or another dtype changes nothing here",
        case.name,
        ("detached-side",),
    )


def swapped_columns(case: Case) -> Iterator[Finding]:
    """Accuracy clearly below one half."""
    f = case.strict.accuracy.get("half")
    if f is None or f.high >= 0.5 or f.value > (0.42 if case.name else 0.47):  # some subsets are just hard
        return
    shown = case.shown.accuracy["half"]
    yield Finding(
        "swapped-columns",
        "finding",
        f"the rejected response wins in {1 - shown.value:.0%} of the pairs",
        {"accuracy": shown, "accuracy_if_swapped": 1 - shown.value, "mean_margin": case.shown.mean_margin},
        ("T2",),
        "exchange the two columns, or the sign of the score (a cost is no reward); if the training had them so, its"
        " loss was that of the swapped pairs",
        "a model that is worse than chance on these pairs looks the same: look at ten of them",
        case.name,
        ("swapped", "smoothing-flipped"),
    )


def wrong_token(case: Case) -> Iterator[Finding]:
    """Scores in two clusters that part responses of one pair, tied to length, or large and no better than chance."""
    f = case.shown
    if f.mean_chosen is None or f.mean_rejected is None or f.n < 50:
        return
    evidence: dict[str, object] = {"mean_chosen": f.mean_chosen, "mean_rejected": f.mean_rejected}
    marks = []
    rows = case.tally.sample.rows
    sides = [clusters(rows[:, k]) for k in (0, 1)]
    split = [c for c in sides if c and c.separation > 6 and c.minority > 0.02 and c.high - c.low > 20]
    if split:
        c = max(split, key=lambda c: c.separation)
        high = rows > (c.low + c.high) / 2
        parted = float(np.mean(high[:, 0] != high[:, 1]))  # else it is two kinds of prompts
        if parted > 0.02:
            marks.append("scores fall into two clusters")
            evidence |= {"cluster_low": c.low, "cluster_high": c.high, "pairs_parted": parted}
    least = min(abs(f.mean_chosen.value), abs(f.mean_rejected.value))
    least = least if f.mean_chosen.value * f.mean_rejected.value > 0 else 0.0
    if f.lengths and least > LARGE / 5 and min(abs(e.value) for e in (f.lengths.chosen, f.lengths.rejected)) > 0.8:
        marks.append("scores follow length")
        evidence |= {"length_chosen": f.lengths.chosen, "length_rejected": f.lengths.rejected}
    chance = case.strict.accuracy["half"]
    if least > LARGE and chance.high > 0.45 and chance.value < 0.55:
        marks.append("scores are large on both sides and rank no better than chance")
        evidence |= {"accuracy": f.accuracy["half"]}
    if not (marks or least > LARGE):
        return
    title = " and ".join(marks) or "scores beyond 100 on both sides: inflation, or a score read at a wrong token"
    yield Finding(
        "padding-or-wrong-token",
        "finding" if marks else "note",
        f"{title}: padding, or a score read at the wrong token" if marks else title,
        evidence,
        ("T1",),
        *TOKEN,
        case.name,
    )


def duplicated_pairs(case: Case) -> Iterator[Finding]:
    """More than 1% exact repetitions, beyond what rounding explains."""
    if case.shown.n < 20:
        return
    share = repeated(case.tally.pairs, Level(case.level))
    if share.low <= 0.01:
        return
    chance = None
    if case.grid is not None:
        if untold(case):
            return
        same, chance = coincidences(case.tally.sample.rows, case.grid.step)
        if same < 2 * chance + 10 * math.sqrt(chance + 1) or (same - chance) * 2 < 0.01 * case.shown.n:
            return
    yield Finding(
        "duplicated-pairs",
        "finding",
        f"{share.value:.1%} of the pairs repeat an earlier pair exactly",
        {"share": repeated(case.tally.pairs, Level()), "coincidences_expected": chance},
        (),
        "remove repetitions before training and before measuring; a sampler that fills the last batch repeats pairs",
        "intervals count every pair as new: with repetitions they are too narrow",
        case.name,
    )


def tied_pairs(case: Case) -> Iterator[Finding]:
    """More than 2% of exact ties, beyond what rounding explains."""
    ties, rows = case.strict.ties, case.tally.sample.rows
    if ties is None or ties.low <= 0.02:
        return
    if case.grid is not None:
        explained = near_ties(rows, case.grid.step)[1] / len(rows)
        if case.grid.step > case.yardstick / 2 or ties.low <= 0.02 + 2 * explained:
            return
    yield Finding(
        "tied-pairs",
        "finding",
        f"{ties.value:.1%} of the pairs have equal scores",
        {"ties": case.shown.ties, "accuracy_ties_wrong": case.shown.accuracy["wrong"]}
        | {"accuracy_ties_correct": case.shown.accuracy["correct"]},
        ("T2",),
        "remove pairs whose responses are equal after truncation; state the policy for ties next to an accuracy",
        "such pairs add log 2 to the loss and nothing to the gradient of the margin",
        case.name,
    )


def rounded_scores(case: Case) -> Iterator[Finding]:
    """Scores on a grid; a finding where it is coarse against the margins."""
    if case.grid is None:
        return
    rows = case.tally.sample.rows
    near = near_ties(rows, case.grid.step)[0]
    share = Level(case.level).share(near, len(rows))
    coarse = share.low > 0.05
    yield Finding(
        "rounded-scores",
        "finding" if coarse else "note",
        f"scores are rounded to {case.grid.name}"
        + (f": {share.value:.0%} of the margins are lost in it" if coarse else ""),
        {"grid": case.grid.name, "step": case.grid.step, "below_one_step": Level().share(near, len(rows))},
        ("T13",),
        "save and compare scores in float32 with all digits; subtract before rounding",
        "what was rounded away: score the pairs again",
        case.name,
        ("rounded-difference",) if case.grid.name in ("bfloat16", "float16") else (),
    )


def length_bias(case: Case) -> Iterator[Finding]:
    """Margins that follow the difference in length."""
    strict, shown = case.strict.lengths, case.shown.lengths
    if strict is None or shown is None or not (strict.margin.low > 0.5 or strict.margin.high < -0.5):
        return
    if math.isnan(strict.margin.value):
        return
    longer = "longer" if shown.margin.value > 0 else "shorter"
    yield Finding(
        "length-bias",
        "finding",
        f"the margin follows the difference in length (correlation {shown.margin.value:.2f}): {longer} responses win",
        {
            "correlation": shown.margin,
            "accuracy_chosen_longer": shown.accuracy_longer,
            "accuracy_chosen_shorter": shown.accuracy_shorter,
        },
        (),
        "balance the pairs by length, or regress the score on length and look at what is left",
        "the squared-sum term puts no force on margins (T3), so it does not touch this; where people do prefer"
        f" {longer} responses, part of it is right",
        case.name,
    )


RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    non_finite,
    constant_head,
    swapped_columns,
    wrong_token,
    duplicated_pairs,
    tied_pairs,
    rounded_scores,
    length_bias,
)


def untold(case: Case) -> bool:
    """Return whether rounding keeps duplicates from being told from coincidences."""
    rows = case.tally.sample.rows
    if case.grid is None:
        return False
    crowded = 2 * len(np.unique(rows, axis=0)) < len(rows)
    return crowded or case.tally.sample.rate < 1 or case.grid.name in ("bfloat16", "float16")
