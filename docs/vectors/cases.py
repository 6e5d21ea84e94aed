"""The cases of penalties, objectives, models and trainings; see `cases_scores`."""

from cases_scores import BATCH, ELEVEN, INF, NAN, Group, bradley_terry, pairs, singles

CHOICES = [
    ("antisymmetric: no squared sum, however large", 500, -500),
    ("+500 against +498", 500, 498),
    ("ten against minus ten", 10, -10),
    ("five against five", 5, 5),
    ("small", 0.125, 0.25),
    ("one side zero", 0, 3),
    ("not exact in binary", 0.3, 0.1),
    ("both negative", -3.7, -5.2),
    ("nearly antisymmetric", 1e6, -999999),
    ("cancels to the last bit", 1, -1 + 2**-53),
]
ANTI = "squared-difference sum-of-squares"
FACTOR = "factor-of-two minus-sign negative-coefficient penalty-twice penalty-missing"
BATCHES = [
    pairs("five pairs", f"{FACTOR} sum-for-mean", *BATCH),
    pairs("every pair twice: the same mean", f"{FACTOR} sum-for-mean", *BATCH, *BATCH),
    pairs("sums that cancel over the batch", FACTOR, (3, 1), (-2, -2), (0.5, 0.25), (-1, 0.25)),
    pairs("eleven pairs", f"{FACTOR} sum-for-mean", *ELEVEN),
    pairs("weights", f"{FACTOR} skipped-in-denominator", *BATCH, weight=[1, 2, 0, 1, 4]),
]


def _with(flags, cases):
    """Return the cases with further flags."""
    return [(comment, f"{own} {flags}", inputs) for comment, own, inputs in cases]


def penalties():
    """Return the groups of penalties.json: coef * factor * P alone, without the pairwise loss."""
    base = {"conventions": ("factor", "reduction"), "coef": 0.0625}
    for dtype in ("float64", "float32"):
        for factor in ("1", "1/2"):
            squared = dict(base, penalty="squared-sum", factor=factor, dtype=dtype, theorems=("T2", "T4"))
            yield Group(
                "squared sum (r_w + r_l)^2, each a batch of one",
                "squared-sum",
                [
                    pairs(comment, ANTI if w == -v else "squared-difference" if w == v else f"{ANTI} {FACTOR}", (w, v))
                    for comment, w, v in CHOICES
                    if dtype == "float64" or "last bit" not in comment
                ],
                reason="penalty",
                **squared,
            )
            yield Group(
                "squared sum, means over pairs",
                "squared-sum",
                _with(f"{ANTI} sum-to-zero", BATCHES),
                reason="penalty",
                **squared,
            )
            yield Group(
                "sum of squares r_w^2 + r_l^2: 1 is E r_w^2 + E r_l^2, 1/2 is the mean over all 2N scores",
                "sum-of-squares",
                _with(
                    "squared-difference",
                    [*singles("factor-of-two", [*CHOICES[1:6], ("one side much smaller", 1e-9, 1)]), *BATCHES],
                ),
                reason="penalty",
                **dict(squared, penalty="sum-of-squares"),
            )
        for factor in ("1", "B/4"):
            yield Group(
                "batch-wise sum-to-zero (mean s)^2; with B/4 it is B*(mean of the 2B scores)^2",
                "sum-to-zero",
                [
                    *_with("minus-sign negative-coefficient penalty-twice", singles("factor-of-two", CHOICES[3:8])),
                    pairs("two pairs that cancel", "squared-difference", (3, 1), (-2, -2)),
                    pairs("five pairs", "squared-difference factor-of-two", *BATCH),
                    pairs("five pairs twice", "squared-difference factor-of-two", *BATCH, *BATCH),
                ],
                reason="penalty",
                **dict(base, penalty="sum-to-zero", factor=factor, dtype=dtype, theorems=("T12",)),
            )
    yield from _extreme(base)
    for dtype in ("bfloat16", "float16"):
        yield Group(
            "squared sum in half precision",
            "squared-sum",
            [
                *singles(f"{ANTI} {FACTOR}", [("not exact", 0.3, 0.1), ("exact", -2.25, 3.5), ("larger", 60, 30)]),
                pairs("five pairs", f"{ANTI} {FACTOR} sum-for-mean", *BATCH),
            ],
            reason="penalty",
            **dict(base, penalty="squared-sum", dtype=dtype, theorems=("T2",)),
        )


def _extreme(base):
    squared = dict(base, penalty="squared-sum", theorems=("T2",), reason="penalty")
    yield Group(
        "past the largest float and below the smallest",
        "squared-sum",
        [
            *singles(f"{ANTI} minus-sign", [("overflows", 1e200, 1e200 / 3), ("just fits", 6e153, 3e153)]),
            *singles(f"{ANTI} minus-sign", [("the gradient stays", 1e-200, 2e-200), ("normal still", 1e-150, 2e-150)]),
        ],
        **squared,
    )
    yield Group(
        "past the largest float32: infinity may be returned there",
        "squared-sum",
        singles(f"{ANTI} minus-sign", [("overflows in float32 alone", 8e19, 4e19), ("fits", 1e18, 3e18)]),
        **dict(squared, dtype="float32"),
    )
    yield Group(
        "infinite scores follow the limits; NaN in, NaN out",
        "squared-sum",
        [
            *singles("minus-sign", [("infinite", INF, 1), ("minus infinite", -2, -INF), ("both", INF, INF)]),
            *singles(ANTI, [("no limit", INF, -INF)]),
            *singles("nan-hidden", [("NaN", NAN, 1)]),
        ],
        requires=("infinities",),
        **dict(squared, reason="limit", conventions=("infinity",)),
    )


SHIFTS = [
    ("+1 against -1: the loss alone", 1, -1),
    ("+500 against +498: the same loss, and a penalty", 500, 498),
    ("+2 against +1", 2, 1),
    ("+1,000,000 against +999,999", 1e6, 999999),
    ("ten against minus ten: no penalty", 10, -10),
    ("five against five", 5, 5),
]
LOSSES = "missing-log swapped"


def objective():
    """Return the groups of objective.json: the pairwise loss and coef * factor * P together."""
    for dtype, coef in (("float64", 0.0078125), ("float64", 0.5), ("float32", 0.0078125), ("bfloat16", 0.125)):
        wrong = f"squared-difference sum-of-squares {FACTOR}"
        yield Group(
            "the pairwise loss and the squared sum",
            "objective",
            [
                *singles(f"{LOSSES} {ANTI}", [row for row in SHIFTS if row[1] == -row[2]]),
                *singles(f"{ANTI} {FACTOR}", SHIFTS[1:4]),
                *singles(f"missing-log squared-difference {FACTOR}", SHIFTS[5:]),
                pairs("five pairs", f"{LOSSES} {wrong} sum-for-mean sum-to-zero batch-sum", *BATCH),
                pairs("five pairs twice", f"{LOSSES} {wrong} sum-for-mean sum-to-zero batch-sum", *BATCH, *BATCH),
                pairs(
                    "margins: in the loss alone",
                    f"{wrong} margin-sign margin-ignored margin-broadcast",
                    *BATCH,
                    margin=[1, 0.25, 3, 0.5, 2],
                ),
                pairs("weights", f"{wrong} skipped-in-denominator", *BATCH, weight=[1, 2, 0, 1, 4]),
            ],
            dtype=dtype,
            penalty="squared-sum",
            coef=coef,
            theorems=("T2", "T3"),
            conventions=("sign", "factor", "reduction", "margin"),
        )
    yield Group(
        "the same with labels flipped with probability 1/8",
        "objective",
        [
            pairs("one pair", f"{ANTI} {FACTOR} smoothing-flipped smoothing-ignored", (1.5, -0.25)),
            pairs("five pairs", f"{ANTI} {FACTOR} smoothing-flipped smoothing-ignored", *BATCH, margin=[0.5]),
        ],
        penalty="squared-sum",
        coef=0.0078125,
        smoothing=0.125,
        theorems=("T2", "T3", "T14"),
    )
    for penalty, factor, flags in (
        ("squared-sum", "1/2", "sum-of-squares"),
        ("sum-of-squares", "1", ""),
        ("sum-of-squares", "1/2", ""),
        ("sum-to-zero", "1", ""),
        ("sum-to-zero", "B/4", ""),
    ):
        yield Group(
            "the pairwise loss and another convention of the penalty",
            "objective",
            _with(
                f"{flags} {FACTOR}",
                [
                    pairs("one pair", "squared-difference", (1.5, -0.25)),
                    pairs("five pairs", "squared-difference sum-for-mean", *BATCH),
                    pairs("margins", "squared-difference margin-sign", *BATCH, margin=[1, 0.25, 3, 0.5, 2]),
                ],
            ),
            penalty=penalty,
            factor=factor,
            coef=0.0625,
            theorems=("T4", "T12") if penalty == "sum-to-zero" else ("T4",),
            conventions=("factor", "reduction"),
        )


W = [1.0, -0.5, 0.25, 0.75, 0.5, -1.25, 0.3, 0.9, -0.6, -1.1, 0.2, 0.4]
V = [0.5, 0.25, -1.0, -0.5, 1.5, 0.75, 0.8, -0.4, -0.9, 0.7, 0.6, -0.35]
SHARED = [1.0, 0.5, -0.25, 0.75, 0.5, 1.0, -0.5, 0.25, 1.5, 2.0, -1.0, 0.5]  # differs from PLUS in one feature
PLUS = [1.0, 0.5, 0.25, 0.75, 0.5, 1.5, -0.5, 0.25, 1.0, 2.0, -1.0, -0.5]


def _model(hidden, activation, bias):
    kind = "mlp" if hidden else "linear"
    return {"kind": kind, "n_features": 3, "hidden": hidden, "activation": activation, "bias": bias}


THETA = {
    (0, False): [0.7, -0.3, 0.45],
    (0, True): [0.7, -0.3, 0.45, 0.61],
    (1, False): [0.5, -0.4, 0.3, 0.8, -0.7, 0.25, 0.1, -0.2, 0.9, -0.6],
    (1, True): [0.5, -0.4, 0.3, 0.8, -0.7, 0.25, 0.1, -0.2, 0.9, -0.6, 0.35],
}


def _x(comment, flags, theta, chosen=W, rejected=V, **inputs):
    return comment, flags, {"theta": theta, "chosen": chosen, "rejected": rejected, **inputs}


def models():
    """Return the groups of models.json: J(theta) of small models, with the gradient in theta."""
    shared = "shared-parameters-assigned detached-side"
    for dtype in ("float64", "float32"):
        for bias in (False, True):
            theta, flags = THETA[0, bias], "bias-in-margin" if bias else ""
            yield Group(
                "linear: r = x.w" + (" + b; b cancels in d, not in s" if bias else ""),
                "linear",
                [
                    _x("four pairs", f"{shared} squared-difference swapped {flags}", theta),
                    _x("features shared by both responses", f"{shared} {flags}", theta, PLUS, SHARED),
                    _x("at zero", f"{shared}", [0.0] * len(theta)),
                    _x("a margin", f"{shared} margin-sign margin-ignored {flags}", theta, margin=[0.5]),
                    _x("weights", f"{shared} skipped-in-denominator {flags}", theta, weight=[1, 2, 0, 2]),
                ],
                dtype=dtype,
                model=_model([], None, bias),
                **_with_penalty(0.125),
            )
    yield Group(
        "linear with a bias, no penalty: the loss cannot see the bias",
        "linear",
        [_x("four pairs", shared, THETA[0, True]), _x("one pair", shared, THETA[0, True], W[:3], V[:3])],
        model=_model([], None, True),
        theorems=("T1", "T2"),
        reason="model",
    )
    for name in ("relu", "tanh", "gelu", "softplus"):
        for bias in (False, True):
            flags = f"{shared} {'gelu-tanh' if name == 'gelu' else ''} {'bias-in-margin' if bias else ''}"
            yield Group(
                f"one hidden layer of two, {name}",
                "mlp",
                [
                    _x("four pairs", f"{flags} squared-difference swapped", THETA[1, bias]),
                    _x("features shared by both responses", flags, THETA[1, bias], PLUS, SHARED),
                ],
                model=_model([2], name, bias),
                **_with_penalty(0.125),
            )
    yield Group(
        "relu at exactly 0, where its derivative is 0",
        "mlp",
        [
            _x(
                "one pre-activation is 0",
                f"{shared} relu-at-zero",
                [1.0, -1.0, 0.5, 1.0, -1.0, 0.5, 0.0, 0.0, 1.0, -0.5],
                [1.0, 2.0, 2.0, 0.5, 1.0, 0.0],
                [0.0, 1.0, 1.0, 1.0, 0.5, -1.0],
            ),
            _x(
                "a feature vector of zeros, biases of zero",
                "relu-at-zero",
                [0.5, -0.5, 0.25, 0.75, -1.0, 0.25, 0.0, 0.0, 1.0, -0.5],
                [0.0] * 3,
                [1.0, 0.5, 0.25],
            ),
        ],
        model=_model([2], "relu", False),
        **_with_penalty(0.125, ("relu at zero",)),
    )
    yield Group(
        "two hidden layers of two and of one, tanh",
        "mlp",
        [_x("four pairs", shared, [0.5, -0.4, 0.3, 0.8, -0.7, 0.25, 0.1, -0.2, 0.9, -0.6, 0.05, 1.2])],
        model=_model([2, 1], "tanh", False),
        **_with_penalty(0.0625),
    )


def _with_penalty(coef, conventions=("sign", "factor", "reduction")):
    options = {"penalty": "squared-sum", "coef": coef, "reason": "model"}
    return options | {"theorems": ("T2", "T6", "T8"), "conventions": conventions}


def training():
    """Return the groups of training.json: full-batch descent from a given theta, step by step."""
    sgd = {"name": "sgd", "lr": 0.25, "momentum": 0.0, "weight_decay": 0.0}
    adam = {"name": "adam", "lr": 0.03125, "beta1": 0.875, "beta2": 0.96875, "eps": 2**-27, "weight_decay": 0.0}
    decayed = "weight-decay-coupled"
    wide = "adam-bias-correction adam-epsilon-inside"
    shared = "shared-parameters-assigned"
    for comment, rule, flags, theta, model, dtype, steps in (
        ("gradient descent, linear", sgd, "", (0, False), ([], None, False), "float64", 8),
        ("gradient descent, linear with a bias", sgd, "bias-in-margin", (0, True), ([], None, True), "float64", 8),
        ("gradient descent, linear", sgd, "", (0, False), ([], None, False), "float32", 6),
        ("gradient descent, MLP", sgd, "", (1, False), ([2], "tanh", False), "float64", 6),
        ("momentum", sgd | {"momentum": 0.75}, "momentum-dampened", (0, False), ([], None, False), "float64", 6),
        ("weight decay, decoupled", sgd | {"weight_decay": 0.25}, "", (0, False), ([], None, False), "float64", 5),
        ("Adam, linear", adam, wide, (0, False), ([], None, False), "float64", 8),
        ("Adam, MLP with a bias", adam, f"{wide} bias-in-margin", (1, True), ([2], "softplus", True), "float64", 5),
        ("AdamW", adam | {"weight_decay": 0.25}, f"{wide} {decayed}", (0, False), ([], None, False), "float64", 6),
    ):
        yield Group(
            comment,
            "training",
            [_x("four pairs", f"{shared} {flags} squared-difference", THETA[theta])],
            dtype=dtype,
            reason="training",
            model=_model(*model),
            rule=rule,
            steps=steps,
            penalty="squared-sum",
            coef=0.0625,
            theorems=("T2", "T7"),
            conventions=("factor", "reduction"),
        )


FILES = [
    ("bradley_terry", "bt", "scores", bradley_terry),
    ("penalties", "pen", "scores", lambda: list(penalties())),
    ("objective", "obj", "scores", lambda: list(objective())),
    ("models", "mod", "models", lambda: list(models())),
    ("training", "tra", "training", lambda: list(training())),
]
