"""What the vectors of scores are about: files -> groups -> cases, as plain data; `generate.py` computes the rest."""

import math
from dataclasses import dataclass, field
from typing import Any

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Group:
    """Cases with one term, convention and dtype. A case is (comment, flags, inputs), each a list of numbers."""

    comment: str
    term: str
    cases: list[tuple[str, str, dict[str, list[float]]]]
    dtype: str = "float64"
    reason: str = "loss"
    theorems: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()
    flags: str = ""
    requires: tuple[str, ...] = ()
    penalty: str | None = None
    coef: float = 0.0
    factor: str = "1"
    smoothing: float = 0.0
    model: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    steps: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def pairs(comment, flags, *items, **inputs):
    """Return one case of the pairs ``items``, (r_w, r_l) each."""
    return comment, flags, {"r_w": [w for w, _ in items], "r_l": [v for _, v in items], **inputs}


def singles(flags, table):
    """Return one case, a batch of one, for each (comment, r_w, r_l)."""
    return [pairs(comment, flags, (w, v)) for comment, w, v in table]


def bt(comment, cases, **options):
    """Return a group of the pairwise loss."""
    return Group(comment, "bradley-terry", cases, **{"theorems": ("T2",), "conventions": ("sign",)} | options)


NAIVE = "naive-log-sigmoid naive-log-exp"
ORDINARY = [
    ("one apart from zero on either side", 1, -1),
    ("the same difference elsewhere", 2, 0),
    ("chosen loses", -1, 1),
    ("difference of one", 2, 1),
    ("not exact in binary", 0.3, 0.1),
    ("both negative", -3.7, -5.2),
    ("chosen loses by much", -2.25, 3.5),
    ("difference of twenty", 10, -10),
    ("difference of minus eight", -4, 4),
]
BATCH = [(1.5, -0.5), (0.25, 2.0), (-3.0, -4.5), (6.0, 6.5), (0.1, 0.7)]
ELEVEN = [(((7 * i) % 11) / 4 - 1, ((5 * i + 3) % 11) / 4 - 1.5) for i in range(11)]
SCALE = "missing-log swapped detached-side normalised-argument"


def _bradley_terry_float64():
    yield bt(
        "ordinary pairs, each a batch of one",
        singles("missing-log swapped normalised-argument detached-side", ORDINARY),
        flags="",
    )
    yield bt(
        "confident and right: the loss is about exp(-d)",
        singles(
            f"{NAIVE} missing-log epsilon-in-log swapped slope-cancels",
            [
                ("exact difference", 12, -4),
                ("exact difference", 20, 0),
                ("exact difference", 37, 0),
                ("1 + exp(-d) rounds to 1", 20, -20),
                ("rounded difference: |d|/2 ulp", 33.3, -0.7),
                ("exact difference", 50, -50),
                ("rounded difference: |d|/2 ulp", 100.1, -0.3),
                ("exact difference", 350, -350),
                ("the last of the normal range", 708, 0),
                ("the same, chosen near zero", 0.25, -707.5),
            ],
        ),
    )
    yield bt(
        "confident and wrong: the loss is about -d, the slope about -1",
        [
            *singles(
                "softplus-threshold epsilon-in-log missing-log swapped",
                [
                    ("just above the threshold 20 of a common softplus", 0, 20.5),
                    ("exact difference", -11, 10),
                    ("exact difference", 0, 25),
                ],
            ),
            *singles(
                "epsilon-in-log missing-log swapped",
                [("exp(d) is below one ulp", -20, 20), ("exact difference", 0, 88), ("exact difference", -50, 50)],
            ),
            *singles(
                f"{NAIVE} epsilon-in-log missing-log swapped",
                [
                    ("exp(710) overflows", -355, 355),
                    ("exp(800) overflows", 0, 800),
                    ("rounded difference", -5000.7, 4999.1),
                    ("huge", -1e10, 1e10),
                    ("huge", -3e300, 2e300),
                ],
            ),
        ],
    )
    yield bt(
        "equal scores: log 2 and slope -1/2, wherever they are",
        singles(
            "missing-log detached-side",
            [("zero", 0, 0), ("one", 1, 1), ("minus five", -5, -5), ("far up", 1e6, 1e6), ("at the end", 1e308, 1e308)],
        ),
        theorems=("T1", "T2"),
    )
    yield bt(
        "near ties",
        singles(
            "missing-log detached-side",
            [
                ("neighbours of one", 1, 1 - 2**-53),
                ("neighbours of one, exchanged", 1 - 2**-53, 1),
                ("difference below 2^-53", 2**-60, -(2**-60)),
                ("smallest numbers", 5e-324, -5e-324),
                ("subnormal against zero", -1e-310, 0),
            ],
        ),
    )
    yield bt(
        "a shift of both scores changes nothing",
        singles(
            "missing-log normalised-argument",
            [
                ("no shift", 1, -1),
                ("+500 against +498, the same difference", 500, 498),
                ("no shift", 2, 1),
                ("+1,000,000 against +999,999, the same difference", 1e6, 999999),
                ("down by a million", -999998, -999999),
                ("up by 2^52", 2**52 + 2, 2**52),
                ("up by 10^15", 1e15, 1e15 + 1),
            ],
        ),
        theorems=("T1", "T13"),
    )
    yield bt(
        "differences past the largest float",
        singles(
            "naive-log-exp",
            [("chosen loses", -1.7e308, 1.7e308), ("chosen loses by less", -1e308, 1e307)],
        )
        + singles("missing-log swapped", [("chosen wins", 1.7e308, -1.7e308), ("chosen wins by less", 1e308, 1e307)]),
    )
    yield bt(
        "subnormal losses and slopes",
        singles(
            f"{NAIVE} missing-log",
            [("first subnormal loss", 709, 0), ("a few bits", 0, -735)],
        )
        + singles("missing-log", [("the smallest loss", 745, 0), ("nearest to zero", 746, 0)]),
        requires=("subnormals",),
    )
    yield bt(
        "batches: means and gradients over N",
        [
            pairs("two pairs", "sum-for-mean score-broadcast", (1, -1), (0, 0.5)),
            pairs("five pairs", "sum-for-mean score-broadcast swapped", *BATCH),
            pairs("five pairs in another order", "sum-for-mean score-broadcast swapped", *BATCH[::-1]),
            pairs("every pair twice: the same mean", "sum-for-mean score-broadcast", *BATCH, *BATCH),
            pairs("three equal pairs", "sum-for-mean missing-log", (1, 0), (1, 0), (1, 0)),
            pairs("tails beside ordinary pairs", f"sum-for-mean {NAIVE}", (900, 0), (1, 0), (-900, 0), (-3, 40)),
            pairs("eleven pairs", "sum-for-mean score-broadcast detached-side", *ELEVEN),
        ],
        conventions=("reduction",),
    )
    yield from _margins()
    yield from _smoothing()
    yield from _weights()
    yield from _limits()


def _margins():
    wrong = "margin-sign margin-ignored margin-outside"
    yield bt(
        "a margin is subtracted inside the sigmoid",
        [
            pairs("one for one", wrong, (1, -1), margin=[1]),
            pairs("one for all", wrong, *BATCH, margin=[0.5]),
            pairs("one for each", f"{wrong} margin-broadcast", *BATCH, margin=[1, 0.25, 3, 0.5, 2]),
            pairs("some are zero", f"{wrong} margin-broadcast margin-misaligned", *BATCH, margin=[0, 1.5, 0, 0.75, 3]),
            pairs("equal to the difference", wrong, (3, 1), margin=[2]),
            pairs("negative", wrong, (0.5, 0.25), (2, 4), margin=[-1, -0.5]),
            pairs("tails", f"{wrong} naive-log-exp", (400, 0), (-400, 0), margin=[350, 350]),
            pairs("cancels a large difference", wrong, (1e6, 0), margin=[999999.5]),
        ],
        theorems=("T1", "T2"),
        conventions=("margin",),
    )


def _smoothing():
    for eps in (0.125, 0.25):
        yield bt(
            "labels flipped with probability eps: (1 - eps)*softplus(-z) + eps*softplus(z)",
            [
                pairs("tie: as without smoothing, in the loss", "missing-log", (2, 2)),
                pairs("chosen wins", "smoothing-flipped smoothing-ignored", (3, 1)),
                pairs("chosen loses", "smoothing-flipped smoothing-ignored", (-1, 1.5)),
                pairs(
                    "near the minimum at log((1-eps)/eps)",
                    "smoothing-flipped smoothing-ignored",
                    (math.log((1 - eps) / eps), 0),
                ),
                pairs("tails", "smoothing-flipped smoothing-ignored naive-log-exp", (900, 0), (-900, 0)),
                pairs("five pairs", "smoothing-flipped smoothing-ignored sum-for-mean", *BATCH),
                pairs(
                    "with margins",
                    "smoothing-flipped smoothing-ignored margin-sign margin-ignored",
                    *BATCH,
                    margin=[1, 0, 3, 0.5, 2],
                ),
            ],
            smoothing=eps,
            theorems=("T2", "T14"),
        )


def _weights():
    yield bt(
        "weighted means: sum(w x)/sum(w)",
        [
            pairs("whole weights count copies", "skipped-in-denominator", *BATCH, weight=[1, 2, 3, 1, 4]),
            pairs("weight 0 leaves out", "skipped-in-denominator", *BATCH, weight=[1, 0, 1, 0, 1]),
            pairs("fractions", "skipped-in-denominator", *BATCH, weight=[0.5, 0.25, 0.1, 0.7, 1.3]),
            pairs("one scale for all: the plain mean", "skipped-in-denominator", *BATCH, weight=[8, 8, 8, 8, 8]),
            pairs("with margins", "skipped-in-denominator margin-sign", *BATCH, weight=[2, 1, 0, 1, 2], margin=[1]),
        ],
        theorems=("T2",),
        conventions=("reduction",),
    )
    yield bt(
        "a pair of weight 0 does not count, even where its scores are infinite",
        [
            pairs("infinite loss", "weight-zero-counts", (1, 0), (-INF, 0), (2, 3), weight=[1, 0, 1]),
            pairs("NaN", "weight-zero-counts", (NAN, 0), (1, -1), weight=[0, 2]),
        ],
        conventions=("reduction", "infinity"),
        requires=("infinities",),
        reason="limit",
    )


TABLE = [
    ("infinite against finite", INF, 3),
    ("minus infinite against finite", -INF, 3),
    ("finite against minus infinite", 3, -INF),
    ("finite against infinite", 3, INF),
    ("both infinite", INF, INF),
    ("both minus infinite", -INF, -INF),
    ("as far apart as can be", INF, -INF),
    ("as far apart, the wrong way", -INF, INF),
    ("NaN chosen", NAN, 0),
    ("NaN rejected", 0, NAN),
]


def _limits():
    for eps in (0.0, 0.25):
        yield bt(
            "infinite scores follow the limits; NaN in, NaN out",
            [
                pairs(comment, "nan-hidden" if w != w or v != v else "missing-log" if w != v else "", (w, v))
                for comment, w, v in TABLE
            ]
            + [
                pairs("a NaN in a batch: its own gradients and the mean", "nan-hidden", (1, 0), (NAN, 0), (0, 1)),
                pairs("an infinite loss in a batch", "sum-for-mean", (1, 0), (-INF, 0), (0, 1)),
            ],
            smoothing=eps,
            conventions=("infinity",),
            requires=("infinities",),
            reason="limit",
        )


def _bradley_terry_float32():
    yield bt("ordinary pairs", singles("missing-log swapped normalised-argument", ORDINARY), dtype="float32")
    yield bt(
        "tails",
        [
            *singles(
                f"{NAIVE} missing-log slope-cancels",
                [
                    ("1 + exp(-d) rounds to 1", 18, 0),
                    ("rounded difference: |d|/2 ulp", 33.3, -0.7),
                    ("exact difference", 40, -40),
                ],
            ),
            *singles("missing-log", [("last of the normal range", 87, 0), ("the loss is 0 in float32", 500, -500)]),
            *singles(
                f"{NAIVE} missing-log",
                [("exp(89) overflows", 0, 89), ("rounded difference", -5000.7, 4999.1), ("huge", -1e38, 1e38)],
            ),
            *singles("naive-log-exp", [("past the largest float32", -3e38, 3e38)]),
        ],
        dtype="float32",
    )
    yield bt(
        "subnormal losses and slopes",
        singles(f"{NAIVE} missing-log", [("a subnormal loss", 95, 0)])
        + singles("missing-log", [("the smallest loss", 103, 0)]),
        dtype="float32",
        requires=("subnormals",),
    )
    yield bt(
        "ties and shifts",
        singles(
            "missing-log",
            [
                ("equal", 1e30, 1e30),
                ("+500 against +498", 500, 498),
                ("+1,000,000 against +999,999", 1e6, 999999),
                ("up by 2^23", 2**23 + 2, 2**23),
                ("neighbours of one", 1, 1 - 2**-24),
            ],
        ),
        dtype="float32",
        theorems=("T1", "T13"),
    )
    yield bt(
        "batches, margins, weights",
        [
            pairs("five pairs", "sum-for-mean score-broadcast", *BATCH),
            pairs("margins", "margin-sign margin-ignored margin-broadcast", *BATCH, margin=[1, 0.25, 3, 0.5, 2]),
            pairs("weights", "skipped-in-denominator", *BATCH, weight=[1, 2, 0, 1, 4]),
        ],
        dtype="float32",
        conventions=("reduction", "margin"),
    )


def _bradley_terry_half(dtype):
    far = {"bfloat16": (256, 254), "float16": (2048, 2046)}[dtype]
    yield bt(
        "arithmetic in the dtype itself",
        [
            *singles(
                "missing-log swapped",
                [("not exact", 0.3, 0.1), ("chosen loses", -2.25, 3.5), ("tail", 7, 0), ("wrong tail", -60, 60)],
            ),
            *singles("missing-log", [("tie", 3, 3), ("far up, two apart", *far)]),
            pairs("five pairs", "sum-for-mean", *BATCH),
            pairs("margins", "margin-sign margin-ignored", *BATCH, margin=[1, 0.25, 3, 0.5, 2]),
        ],
        dtype=dtype,
        theorems=("T2", "T13"),
    )
    # Their differences are in the middle between two numbers of the dtype, and their losses are normal numbers there.
    first, second = {
        "bfloat16": ((16, 0.09375), (32, 0.1875)),
        "float16": ((8.5, 0.00390625), (9, 0.00390625)),
    }[dtype]
    yield bt(
        "the scores are widened before they are subtracted",
        [
            *singles("rounded-difference", [("half a step", *first), ("half a step, farther in the tail", *second)]),
            pairs("both", "rounded-difference", first, second),
            pairs("with a margin", "rounded-difference margin-sign", first, margin=[2]),
        ],
        dtype=dtype,
        requires=("widened",),
        reason="widened",
        theorems=("T13",),
        conventions=("dtype",),
    )


def bradley_terry():
    """Return the groups of bradley_terry.json."""
    return [
        *_bradley_terry_float64(),
        *_bradley_terry_float32(),
        *_bradley_terry_half("bfloat16"),
        *_bradley_terry_half("float16"),
    ]
