"""Each rule fires on its fault and not on its neighbours; the published cases; healthy pairs raise nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from test_diagnosis import calibrated, pairs

from refrm.diagnosis import Log, Settings, diagnose, diagnose_log
from refrm.diagnosis.case import EXPLAINS, ORDER
from refrm.oracle.catalogue import BY_NAME, MISTAKES
from refrm.oracle.forms import rounded
from refrm.theorems import W_1_E

DOCS = Path(__file__).parent.parent / "docs" / "diagnosis"


def found(diagnosis):
    """The ids of the findings, without notes."""
    return {finding.id for finding in diagnosis.findings if finding.severity == "finding"}


def one(diagnosis, name):
    """The finding or note of this id."""
    return next(finding for finding in diagnosis.findings if finding.id == name)


RNG = np.random.default_rng(7)
N = 2000
W, L = pairs(11)
LENGTHS = {"length_w": RNG.integers(20, 400, N).astype(float), "length_l": RNG.integers(20, 400, N).astype(float)}
GROUP = np.arange(N) // 4
OWN = RNG.standard_normal(N // 4)[GROUP]
SUBSET = np.array(["a", "b", "c", "d"])[np.arange(N) % 4]
TWICE = RNG.choice(N, N // 10, replace=False)
ALIKE = RNG.random(N) < 0.1
PADDED = RNG.random((2, N)) < 0.4
STEPS = np.repeat(np.arange(20.0) * 100, 1000)
LONG_W, LONG_L = pairs(12, 20000)
RAMP = STEPS / 1900

FAULTS = {
    "nothing": (set(), {"r_w": W, "r_l": L, **LENGTHS, "group": GROUP, "subset": SUBSET}),
    "one NaN": ({"non-finite"}, {"r_w": np.r_[W, np.nan], "r_l": np.r_[L, 0]}),
    "one infinity": ({"non-finite"}, {"r_w": np.r_[W, 0], "r_l": np.r_[L, -np.inf]}),
    "a constant head": ({"constant-head"}, {"r_w": 0.5 + 1e-6 * W, "r_l": 0.5 + 1e-6 * L}),
    "a constant side": ({"constant-head"}, {"r_w": W, "r_l": np.full(N, 0.25)}),
    "one head for both": ({"constant-head"}, {"r_w": W, "r_l": W}),
    "swapped": ({"swapped-columns"}, {"r_w": L, "r_l": W}),
    "a swapped subset": (
        {"swapped-columns", "miscalibrated"},
        {"r_w": np.where(SUBSET == "b", L, W), "r_l": np.where(SUBSET == "b", W, L), "subset": SUBSET},
    ),
    "pads at 300": (
        {"padding-or-wrong-token"},
        {"r_w": np.where(PADDED[0], 300 + W, W), "r_l": np.where(PADDED[1], 300 + L, L)},
    ),
    "two kinds of prompts": (
        {"per-prompt-shift", "precision-loss"},
        {"r_w": np.where(GROUP % 2, 300, -300) + W, "r_l": np.where(GROUP % 2, 300, -300) + L},
    ),
    "large margins": ({"separable-margin-growth"}, {"r_w": 150 + np.abs(W), "r_l": -150 - np.abs(L)}),
    "sums over tokens": (
        {"padding-or-wrong-token"},
        {"r_w": W + LENGTHS["length_w"], "r_l": L + LENGTHS["length_l"], **LENGTHS},
    ),
    "noise at 400": ({"padding-or-wrong-token"}, {"r_w": 400 + OWN + W, "r_l": 400 + OWN + W[::-1]}),
    "repetitions": ({"duplicated-pairs"}, {"r_w": np.r_[W, W[TWICE]], "r_l": np.r_[L, L[TWICE]]}),
    "ties": ({"tied-pairs"}, {"r_w": W, "r_l": np.where(ALIKE, W, L)}),
    "whole numbers": ({"rounded-scores"}, {"r_w": np.round(W), "r_l": np.round(L)}),
    "two decimals": (set(), {"r_w": np.round(W, 2), "r_l": np.round(L, 2)}),
    "a constant": ({"global-shift", "precision-loss"}, {"r_w": 500 + W, "r_l": 500 + L}),
    "a small constant": (set(), {"r_w": 1 + W, "r_l": 1 + L}),
    "a constant per prompt": ({"per-prompt-shift"}, {"r_w": W + 8 * OWN, "r_l": L + 8 * OWN, "group": GROUP}),
    "a large constant per prompt": (
        {"per-prompt-shift", "precision-loss"},
        {"r_w": W + 100 * OWN, "r_l": L + 100 * OWN, "group": GROUP},
    ),
    "both": (
        {"per-prompt-shift", "global-shift", "precision-loss"},
        {"r_w": W + 100 * OWN + 500, "r_l": L + 100 * OWN + 500},
    ),
    "drift": ({"drift", "global-shift"}, {"r_w": LONG_W + 10 * RAMP, "r_l": LONG_L + 10 * RAMP, "step": STEPS}),
    "drift back to 0": (set(), {"r_w": LONG_W + 10 * (1 - RAMP), "r_l": LONG_L + 10 * (1 - RAMP), "step": STEPS}),
    "no drift": (set(), {"r_w": LONG_W, "r_l": LONG_L, "step": STEPS}),
    "separated": ({"separable-margin-growth"}, {"r_w": 4 + np.abs(W - L), "r_l": -1 - 0 * W + 0.3 * OWN}),
    "too confident": ({"miscalibrated"}, {"r_w": 3 * W, "r_l": 3 * L}),
    "too shy": ({"miscalibrated"}, {"r_w": W / 3, "r_l": L / 3}),
    "small margins": ({"precision-loss"}, {"r_w": 0.7 * OWN + 0.002 * W, "r_l": 0.7 * OWN + 0.002 * W[::-1]}),
    "length": (
        {"length-bias"},
        {"r_w": (W - L) / 2, "r_l": (L - W) / 2, "length_w": 200 + 30 * (W - L) + OWN, "length_l": 200 + OWN},
    ),
    "a bound": ({"bound-violated"}, {"r_w": W, "r_l": L, "coef": 0.2}),
    "a bound that holds": (set(), {"r_w": W, "r_l": L, "coef": 0.01}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_findings_and_no_others(fault):
    expected, columns = FAULTS[fault]
    diagnosis = diagnose(**columns)
    assert found(diagnosis) == expected
    assert diagnosis.healthy == (not expected)
    for finding in diagnosis.findings:
        assert finding.id in ORDER and finding.title and finding.cure and finding.will_not_fix
        assert set(finding.lookalikes) <= set(BY_NAME)
        assert all(t.startswith("T") and 1 <= int(t[1:]) <= 14 for t in finding.theorems)
    json.dumps(diagnosis.as_dict(), allow_nan=False)


def test_every_rule_of_pairs_is_among_the_faults():
    seen = set().union(*(expected for expected, _ in FAULTS.values()))
    assert seen == set(ORDER) - {"impossible-loss", "coefficient-mismatch"}
    assert set(EXPLAINS) <= set(ORDER) and all(ids <= set(ORDER) for ids in EXPLAINS.values())


def test_findings_come_before_notes_and_causes_before_what_they_explain():
    padded = diagnose(**FAULTS["noise at 400"][1])
    assert padded.findings[0].id == "padding-or-wrong-token"
    note = one(padded, "global-shift")
    assert note.severity == "note" and note.evidence["explained_by"] == "padding-or-wrong-token"
    assert one(diagnose(**FAULTS["two decimals"][1]), "rounded-scores").severity == "note"
    assert one(diagnose(**FAULTS["a constant"][1]), "padding-or-wrong-token").severity == "note"


def test_what_a_constant_does_not_cure():
    shifted = diagnose(**FAULTS["both"][1])
    centred = diagnose(shifted_by(FAULTS["both"][1]["r_w"], shifted), shifted_by(FAULTS["both"][1]["r_l"], shifted))
    assert found(shifted) - found(centred) == {"global-shift"}
    assert one(shifted, "per-prompt-shift").subset == ""
    assert "subtract 49" in one(shifted, "precision-loss").cure
    assert "subtract" not in one(diagnose(**FAULTS["two kinds of prompts"][1]), "precision-loss").cure
    grouped = one(diagnose(**FAULTS["a constant per prompt"][1]), "per-prompt-shift")
    assert grouped.evidence["share_between_prompts"].low > 0.9
    within = diagnose(W + 8 * RNG.standard_normal(N), L, group=GROUP)
    assert within.groups.share.high < 0.1


def shifted_by(r, diagnosis):
    """Scores without the constant that the diagnosis suggests to subtract."""
    return r - diagnosis.subtract.value


def test_the_suggested_coefficient_is_that_of_t8():
    for target in (0.5, 2.0):
        diagnosis = diagnose(500 + W, 500 + L, target=target)
        assert diagnosis.suggested_coef == pytest.approx(W_1_E / (8 * target**2))
        assert f"{diagnosis.suggested_coef:.2g}*mean" in one(diagnosis, "global-shift").cure


def test_the_bounds_are_those_of_t7_and_t8():
    t8, t7 = diagnose(W, L, coef=0.2).bounds
    assert (t8.theorem, t7.theorem) == ("T8", "T7")
    assert t8.bound == pytest.approx(W_1_E / 0.4) and t7.bound == pytest.approx(np.log(2) / 0.2)
    assert not t8.holds and t7.holds and t8.value.value == pytest.approx(np.mean((W + L) ** 2))
    with_margin = diagnose(W, L, margin=1.0, coef=0.2, start=5.0).bounds
    assert with_margin[0].bound == pytest.approx(1 / 0.4 * 0.5671432904097838)  # W(e^(1 - 1)) = W(1)
    assert with_margin[1].bound == 25.0
    steps = diagnose(**{**FAULTS["drift back to 0"][1], "coef": 0.05})
    assert [b.what for b in steps.bounds if not b.holds] == ["mean s^2 at step 0"]


def test_findings_of_subsets_are_gathered():
    bad = np.isin(SUBSET, ["b", "d"])
    many = diagnose(W + 500 * bad, L + 500 * bad, subset=SUBSET)
    assert all(finding.subset == "" for finding in many.findings if finding.id in found(many))  # seen in all pairs
    assert set(many.subsets) == set("abcd")
    eight = np.arange(N) % 8
    few = np.isin(eight, [1, 3, 4, 6])
    mixed = diagnose(np.where(few, 3 * W, 0.6 * W), np.where(few, 3 * L, 0.6 * L), subset=eight)
    assert {finding.subset for finding in mixed.findings if finding.id == "miscalibrated"} & {"", "1, 3, 4 and 1 more"}


def test_healthy_pairs_raise_no_finding():
    """At most one alarm in 30: rules share an error of 1%, and effects must be large besides."""
    alarms = 0
    for seed in range(30):
        r_w, r_l = pairs(100 + seed, 1500, width=1 + seed % 4)
        rng = np.random.default_rng(seed)
        lengths = rng.integers(10, 500, (2, 1500)).astype(float)
        alarms += not diagnose(
            r_w,
            r_l,
            group=np.arange(1500) // 3,
            subset=rng.integers(0, 5, 1500),
            step=rng.integers(0, 30, 1500) if seed % 2 else None,
            length_w=lengths[0],
            length_l=lengths[1],
        ).healthy
    assert alarms <= 1


# --- logs


def log(n=300, seed=0, bad=None, **changes):
    """A healthy log, with some series exchanged."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / n
    margin = 2.5 * t / (t + 0.1) + 0.2 * rng.standard_normal(n)
    series = {
        "loss": np.logaddexp(0, -margin) + 0.15,
        "mean_score": 0.1 * rng.standard_normal(n),
        "mean_margin": margin,
        "accuracy": np.clip(0.5 + 0.3 * t / (t + 0.1) + 0.03 * rng.standard_normal(n), 0, 1),
        "heldout_loss": np.full(n, 0.55) + 0.01 * rng.standard_normal(n),
        "heldout_accuracy": np.full(n, 0.75) + 0.01 * rng.standard_normal(n),
    }
    series |= {key: np.broadcast_to(np.asarray(x, float), (n,)) for key, x in changes.items()}
    return Log("log", 10.0 * np.arange(n), series, bad or {}, "trl")


T = np.linspace(0, 1, 300)
NOISE = 0.1 * np.random.default_rng(5).standard_normal(300)

LOGS = {
    "nothing": (set(), log()),
    "NaN": ({"non-finite"}, log(bad={"loss": 3})),
    "constant": ({"constant-head"}, log(loss=np.log(2) + 1e-5 * NOISE, mean_margin=1e-5 * NOISE, accuracy=0.5)),
    "swapped": ({"swapped-columns"}, log(accuracy=0.3 + NOISE / 10)),
    "300 and chance": (
        {"padding-or-wrong-token"},
        log(mean_score=300 + NOISE, mean_chosen=300 + NOISE, mean_rejected=300 - NOISE, accuracy=0.5 + NOISE / 10),
    ),
    "impossible": ({"impossible-loss"}, log(loss=-0.7 + NOISE / 10)),
    "below its margins": ({"impossible-loss"}, log(loss=0.05, mean_margin=1 + NOISE)),
    "a negative penalty": ({"impossible-loss"}, log(penalty=-0.01)),
    "shift": ({"global-shift"}, log(mean_score=20 + NOISE)),
    "shift and bfloat16": ({"global-shift", "precision-loss"}, log(mean_score=300 + NOISE)),
    "drift": ({"drift"}, log(mean_score=3 * T + NOISE)),
    "settled": (set(), log(mean_score=2 * T / (T + 0.01) - 2 + NOISE)),
    "margins": ({"separable-margin-growth"}, log(mean_margin=6 + 4 * T + NOISE, accuracy=0.99)),
    "all right": ({"separable-margin-growth"}, log(mean_margin=8 + NOISE, accuracy=1.0)),
    "held-out": ({"miscalibrated"}, log(heldout_loss=1.1 + NOISE, heldout_accuracy=0.7 + NOISE / 10)),
}


@pytest.mark.parametrize("fault", LOGS)
def test_each_fault_of_a_log_has_its_findings_and_no_others(fault):
    expected, given = LOGS[fault]
    diagnosis = diagnose_log(given)
    assert found(diagnosis) == expected
    assert diagnosis.kind == "log" and "groups" in diagnosis.unknown
    json.dumps(diagnosis.as_dict(), allow_nan=False)


def test_a_log_knows_mean_s_2_from_the_penalty_or_a_part_of_it():
    penalty = diagnose_log(log(penalty=0.1), Settings(coef=0.01))  # mean s^2 = 10, at most 13.9
    assert [bound.holds for bound in penalty.bounds] == [True, True] and penalty.healthy
    assert penalty.bounds[0].value.value == pytest.approx(10) and "mean_square_sum" not in penalty.unknown
    assert penalty.figures.mean_square_sum.value == pytest.approx(10)
    sides = diagnose_log(log(penalty=0.1, mean_score=0.5), Settings(coef=0.01))  # Var s/2 = 10/4 - 0.5^2
    assert sides.figures.spread.value == pytest.approx(1.5) and not {"spread", "mean_square_sum"} & set(sides.unknown)
    assert found(diagnose_log(log(penalty=0.2), Settings(coef=0.01))) == {"bound-violated"}
    part = diagnose_log(log(mean_score=3 + NOISE, mean_margin=4 + NOISE), Settings(coef=0.01))
    assert found(part) == {"bound-violated"} and "at least (mean s)^2" in part.unknown["mean_square_sum"]
    assert diagnose_log(log(mean_score=0.5 + NOISE), Settings(coef=0.01)).healthy  # no violation that could be known


def test_a_log_of_the_two_sides_alone():
    given = Log("log", np.arange(40.0), {"mean_chosen": 21 + NOISE[:40], "mean_rejected": 19 - NOISE[:40]})
    diagnosis = diagnose_log(given)
    assert diagnosis.figures.mean_score.value == pytest.approx(20, abs=1e-9)
    assert diagnosis.figures.mean_margin.value == pytest.approx(2, abs=0.2)
    assert found(diagnosis) == {"global-shift"} and diagnosis.subtract.value == diagnosis.figures.mean_score.value


def test_logs_of_almost_nothing():
    for given in (
        Log("log", np.empty(0), {}),
        Log("log", np.array([1.0]), {"loss": np.array([0.7])}),
        Log("log", np.array([1.0, 2.0]), {"loss": np.array([np.nan, np.nan])}),
    ):
        assert diagnose_log(given).healthy


# --- the published cases


@pytest.fixture(scope="module")
def table():
    """docs/diagnosis/table.py, as a module."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("table", DOCS / "table.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(DOCS))


QUICK = ("squared-difference", "penalty-missing", "missing-log-log", "padded", "swapped-subset", "sum-for-mean")


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_some_cases_run_again(table, name):
    case = next(case for case in table.CASES if case.name == name)
    published = json.loads((DOCS / "results.json").read_text())
    row = next(row for row in published["cases"] if row["case"] == name)
    assert table.run(case, "report", 0)["verdict"] == row["runs"][0]["verdict"]


def test_the_published_table(table):
    published = json.loads((DOCS / "results.json").read_text())
    published["healthy_alarms"] = {int(seed): found for seed, found in published["healthy_alarms"].items()}
    assert (DOCS / "results.md").read_text() == table.markdown(published)
    assert published["set"] == "report"
    assert [row["case"] for row in published["cases"]] == [case.name for case in table.CASES]
    assert len(published["cases"]) >= 30
    shown = {case.cause.split(":")[0] for case in table.CASES if ":" in case.cause}
    assert {mistake.id for mistake in MISTAKES} == (shown & {m.id for m in MISTAKES}) | set(table.INVISIBLE)
    assert published["healthy_runs"] >= 100 and len(published["healthy_alarms"]) <= 5
    runs = len(published["cases"]) * published["seeds"]
    assert sum(row["right"] for row in published["cases"]) >= 0.9 * runs


def test_margins_of_the_tests_are_calibrated():
    d = calibrated(np.random.default_rng(0), 100000)
    assert abs(np.mean(d > 0) - np.mean(expit(np.abs(d)))) < 4 * 0.5 / np.sqrt(100000)
    assert rounded(np.array([300.9]), "bfloat16")[0] == 300


def test_scores_beyond_a_format_are_said_to_be():
    found = one(diagnose(1e5 * W, 1e5 * L), "precision-loss")
    assert found.title.endswith("scores are beyond the range of float16")
    assert "spacing" not in found.title


def test_a_shift_in_a_subset_is_told_by_its_prompts():
    n = len(W)
    group = np.arange(n) // 10
    own = 30.0 * np.random.default_rng(0).standard_normal(n)[group]
    part = np.where(np.arange(n) < n // 4, "a", "b")
    found = diagnose(W + own * (part == "a"), L + own * (part == "a"), group=group, subset=part)
    shifts = [finding for finding in found.findings if finding.id == "per-prompt-shift"]
    assert shifts and all("from prompt to prompt" in finding.title for finding in shifts)


def test_a_drift_in_a_subset_alone():
    part = np.array(["a", "b", "c", "d"])[np.arange(len(LONG_W)) % 4]
    moved = RAMP * np.select([part == "b", part == "c", part == "d"], [2.0, -1.0, -1.0])  # overall nothing moves
    diagnosis = diagnose(LONG_W + moved, LONG_L + moved, step=STEPS, subset=part)
    drifts = [finding for finding in diagnosis.findings if finding.id == "drift"]
    assert [finding.subset for finding in drifts] == ["b, c, d"] and "T6" in drifts[0].theorems
    assert diagnose(LONG_W, LONG_L, step=STEPS, subset=part).healthy
