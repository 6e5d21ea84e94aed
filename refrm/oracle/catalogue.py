"""The known mistakes, as data: what each one is, where it was seen, and a form that computes it.

A loss is made of parts (`refrm.oracle.forms.Form`): the argument of the sigmoid, the likelihood, the penalty, the
reduction, rounding and gradient. A `Mistake` changes one part, so that two mistakes in different parts combine into a
form, too. Sources are public: repository#thread, or repository@commit:file. Some mistakes are conventions where they
are meant; `convention` says what to state then.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from refrm.oracle.forms import Form

Change = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Mistake:
    """One known mistake: it sets the parts of a form to one of ``changes`` (variants of the same mistake)."""

    id: str
    name: str
    description: str
    source: str
    changes: tuple[Change, ...]
    convention: str = ""

    @property
    def parts(self) -> frozenset[str]:
        """Return the names of the parts it changes; mistakes with common parts do not combine."""
        return frozenset(key for change in self.changes for key in change)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "R1",
        "squared-difference",
        "your penalty is lambda*mean((r_w - r_l)^2): the squared difference, which pulls the margin to 0 and leaves "
        "the mean score free",
        "huggingface/trl#1932",
        ({"penalty": "squared-difference"},),
    ),
    Mistake(
        "R2",
        "negative-coefficient",
        "your coefficient is negative: the penalty rewards large scores, and the loss has no minimum",
        "axolotl-ai-cloud/axolotl#3124",
        ({"sign": -1.0},),
    ),
    Mistake(
        "R3",
        "sum-of-squares",
        "your penalty is lambda*mean(r_w^2 + r_l^2): the sum of squares, which also pulls on the margin",
        "pytorch/rl#3922",
        ({"penalty": "sum-of-squares"},),
        'penalty="sum-of-squares"',
    ),
    Mistake(
        "R4",
        "factor-of-two",
        "your penalty has another factor than the convention's: lambda or its factor is off by 2 or 4",
        "PKU-Alignment/align-anything@3f9decc",
        ({"factor": 0.5}, {"factor": 2.0}, {"factor": 0.25}, {"factor": 4.0}),
        "factor=0.5",
    ),
    Mistake(
        "R5",
        "batch-sum",
        "your penalty is lambda*B*(mean of the 2B scores)^2: it grows with the batch, and lets pairs cancel",
        "LinkedIn-XFACT/RM-Robustness@3bafaab",
        ({"penalty": "batch-sum"},),
        'penalty="batch-sum"',
    ),
    Mistake(
        "R6",
        "minus-sign",
        "your penalty enters with a minus sign: the loss has no minimum, and scores grow exponentially",
        "a course text, which prints it so (T10)",
        ({"sign": -1.0},),
    ),
    Mistake(
        "R7",
        "penalty-twice",
        "your penalty is multiplied by lambda twice",
        "modelscope/ms-swift@3602360a5:rlhf_trainers/reward_trainer.py",
        ({"power": 2},),
    ),
    Mistake(
        "R8",
        "sum-to-zero",
        "your penalty is lambda*(mean(r_w + r_l))^2: the square of the batch's mean, which lets pairs cancel",
        "arXiv 2505.07271",
        ({"penalty": "sum-to-zero"},),
        'penalty="sum-to-zero"',
    ),
    Mistake(
        "R9",
        "penalty-missing",
        "your loss has no penalty: the coefficient has no effect",
        "OpenRLHF/OpenRLHF@3c3be623:models/loss.py",
        ({"penalty": "none"},),
        "coef=0",
    ),
    Mistake(
        "M1",
        "margin-broadcast",
        "your margins of shape (N,) meet differences of shape (N, 1): the mean runs over N x N combinations",
        "huggingface/trl#719",
        ({"spread": "margin"},),
    ),
    Mistake(
        "M2",
        "margin-sign",
        "your margin is added to r_w - r_l, not subtracted: it asks for less, not for more",
        "OpenRLHF/OpenRLHF#129",
        ({"margin": "added"},),
    ),
    Mistake(
        "M3",
        "margin-ignored",
        "your loss accepts a margin and ignores it",
        "OpenRLHF/OpenRLHF@3c3be623:models/loss.py",
        ({"margin": "ignored"},),
    ),
    Mistake(
        "M4",
        "margin-outside",
        "your margin is outside the sigmoid, -log(sigma(d) - m): NaN as soon as m exceeds sigma(d)",
        "natolambert/rlhf-book#96",
        ({"margin": "outside"},),
    ),
    Mistake(
        "M5",
        "margin-misaligned",
        "your margins of 0 are dropped, and the others move up to pairs that are not theirs",
        "modelscope/ms-swift#9927",
        ({"margin": "misaligned"},),
    ),
    Mistake(
        "L1",
        "missing-log",
        "your loss is -sigma(d): the logarithm is missing, and confident mistakes have no gradient",
        "HarderThenHarder/transformers_tasks#15",
        ({"likelihood": "sigmoid"},),
    ),
    Mistake(
        "L2",
        "naive-log-sigmoid",
        "your loss is -log(sigmoid(d)) in two steps: infinite for d below about -88 in float32, -709 in float64, and 0 "
        "above 17 or 37",
        "microsoft/DeepSpeedExamples#423",
        ({"likelihood": "log-sigmoid"},),
    ),
    Mistake(
        "L3",
        "naive-log-exp",
        "your loss is log(1 + exp(-d)): infinite, with NaN gradients, below about -88 in float32, -709 in float64",
        "OpenRLHF/OpenRLHF#1278",
        ({"likelihood": "log-exp"}, {"likelihood": "log1p-exp"}),
    ),
    Mistake(
        "L4",
        "epsilon-in-log",
        "your loss is -log(sigmoid(d) + epsilon): capped at -log(epsilon), and flat where the model is most wrong",
        "OpenLMLab/MOSS-RLHF",
        tuple({"likelihood": "epsilon", "epsilon": 10.0**-k} for k in (5, 4, 6, 7, 8, 9, 10, 12)),
    ),
    Mistake(
        "L5",
        "normalised-argument",
        "your sigmoid's argument is d/sqrt(r_w^2 + r_l^2): at most sqrt(2), and NaN where both scores are 0",
        "LinkedIn-XFACT/RM-Robustness@3bafaab",
        ({"argument": "normalised"},),
    ),
    Mistake(
        "L6",
        "swapped",
        "your loss has chosen and rejected swapped: it trains the rejected response to win",
        "allenai/reward-bench#75",
        ({"order": "swapped"},),
    ),
    Mistake(
        "L7",
        "softplus-threshold",
        "your softplus turns linear above 20: off by up to 2e-9 there, which float32 hides",
        "pytorch/pytorch, torch.nn.functional.softplus, threshold=20",
        ({"likelihood": "threshold"},),
    ),
    Mistake(
        "L8",
        "smoothing-flipped",
        "your label smoothing has eps and 1 - eps exchanged",
        "none known; theorem T14",
        ({"smoothing": "flipped"},),
    ),
    Mistake(
        "L9",
        "smoothing-ignored",
        "your label smoothing has no effect",
        "none known; theorem T14",
        ({"smoothing": "ignored"},),
    ),
    Mistake(
        "L10",
        "cross-entropy",
        "your loss is the cross-entropy of both scores, log(1 + exp(-|d|)) + max(-d, 0): without digits where a pair "
        "is won, and 0 above d = 37 (float32: 17), as is its slope",
        "pytorch/pytorch, torch.nn.functional.cross_entropy",
        ({"likelihood": "softmax"},),
    ),
    Mistake(
        "N1",
        "nan-hidden",
        "your loss counts a NaN score as 0: a broken model looks healthy",
        "none known; the conventions of NaN",
        ({"nan": "hidden"},),
    ),
    Mistake(
        "D1",
        "sum-for-mean",
        "your loss is the sum over the batch, not the mean: the learning rate scales with the batch size",
        "InternLM/xtuner@b934f4620:model/reward.py",
        ({"reduction": "sum"},),
        'reduction="sum"',
    ),
    Mistake(
        "D5",
        "score-broadcast",
        "your scores of shapes (N, 1) and (N,) are subtracted: every chosen score meets every rejected one, N x N",
        "modelscope/ms-swift#9927, the same broadcast",
        ({"spread": "scores"},),
    ),
    Mistake(
        "F1",
        "rounded-difference",
        "your difference of scores is rounded to fewer bits before the sigmoid",
        "microsoft/DeepSpeedExamples#754",
        tuple(
            {"rounding": dtype, "backward": backward}
            for dtype in ("bfloat16", "float16", "float32")
            for backward in ("exact", "rounded")
        ),
    ),
    Mistake(
        "G1",
        "detached-side",
        "your loss sends no gradient to one side: one of the two scores is detached, or its gradient overwritten",
        "karpathy/micrograd:micrograd/engine.py, where += is the remedy",
        ({"detached": "rejected"}, {"detached": "chosen"}, {"detached": "both"}),
    ),
    Mistake(
        "G2",
        "slope-cancels",
        "your slope is sigma(d) - 1, a difference: without digits in the tail, and 0 above d = 37 (float32: 17)",
        "ContextualAI/HALOs@4831988, binary_cross_entropy_with_logits",
        ({"likelihood": "cancelling"},),
    ),
)
"""Every known mistake, the likeliest first among those of one part."""

BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def changed(form: Form, mistakes: tuple[Mistake, ...]) -> Iterator[Form]:
    """Yield the forms in which ``form`` makes all of ``mistakes``, one for each combination of their variants."""
    if not mistakes:
        yield form
    else:
        for change in mistakes[0].changes:
            if any(getattr(form, part) != value for part, value in change.items()):
                yield from changed(replace(form, **change), mistakes[1:])


def combinations(most: int = 2) -> Iterator[tuple[Mistake, ...]]:
    """Yield every mistake alone, then every two that change different parts."""
    yield from ((mistake,) for mistake in MISTAKES)
    if most > 1:
        for i, first in enumerate(MISTAKES):
            yield from ((first, other) for other in MISTAKES[i + 1 :] if not first.parts & other.parts)
