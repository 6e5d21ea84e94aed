"""The published vectors, applied to an implementation of any convention."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from refrm.oracle.forms import Outcome, penalty_of
from refrm.oracle.trial import QUANTITIES, Batch, Trial
from refrm.oracle.truth import MOST, UNITS, expected, pairwise
from refrm.oracle.vectors import Expected, Group, Vector, load_vectors, spacing
from refrm.spec import Array

PARTS = {  # what the vectors of a term publish of the pairwise loss and of the penalty
    "bradley-terry": (QUANTITIES, None),
    "objective": (("pairwise", "pairwise_grad_w", "pairwise_grad_l"), ("penalty", "penalty_grad_w", "penalty_grad_l")),
}
OPTIONAL = {
    "infinities": "infinite scores: {} vectors or their gradients are not met, which is optional",
    "widened": "half-precision scores are not widened before they are subtracted: {} vectors, optional",
}


def vectors(trial: Trial) -> list[str]:
    """Check against the published numbers; return notes on those that a right implementation may miss.

    What a vector publishes is the pairwise loss, the penalty, or both; the rest of the convention's loss is added. The
    allowance is the published one, or that of `refrm.oracle.truth` where it is larger.
    """
    of, missed = trial.convention, Counter[str]()
    c = of.coef * of.form.factor
    for group, test in _applicable(trial):
        w, v = (np.asarray(test.inputs[name], np.float64) for name in ("r_w", "r_l"))
        n = w.size
        m = np.broadcast_to(np.asarray(test.inputs.get("margin", 0.0), np.float64), n) if trial.of.margin else None
        batch = Batch(w, v, m)
        times = 1.0 if of.form.reduction == "mean" else float(n)
        published = group.convention.multiplier(n) or 1.0
        scale = of.multiplier(n) / published * (group.convention.coef if group.term == "objective" else 1.0)
        pair_names, penalty_names = PARTS.get(group.term, (None, QUANTITIES))
        with np.errstate(all="ignore"):
            terms = penalty_of(of.form.penalty if c else "none", w, v)
        if penalty_names is None and np.any(terms[0][np.isfinite(w) & np.isfinite(v)] > MOST[trial.dtype]):
            continue  # the square of a score overflows, and with it may the factors of its gradient
        optional = [name for name in group.requires if name in OPTIONAL]
        outcome = trial.call("vectors", batch, refusable=bool(optional))
        if outcome is None:
            missed.update(optional)
            continue
        numbers, allowed = [], []
        with np.errstate(all="ignore"):
            value, slope, *_ = pairwise(w, v, 0.0 if m is None else m, of.label_smoothing)
            pair = [np.mean(value), slope / n, -slope / n]
            penalty = [c * np.mean(terms[0]), c * terms[1] / n, c * terms[2] / n] if c else [0.0, 0.0, 0.0]
            for k, off in enumerate(expected(w, v, m, of, trial.dtype)[1]):
                total, slack = np.zeros(1), np.zeros(1)  # per pair for a gradient
                for names, factor, own in ((pair_names, 1.0, pair[k]), (penalty_names, scale, penalty[k])):
                    node = test.expected[names[k]] if names else None
                    total = total + times * np.asarray(own if node is None else factor * node.value)
                    slack = slack + (0.0 if node is None else times * abs(factor) * _allowed(node))
                numbers.append(total)
                allowed.append(np.fmax(np.asarray(off), slack + (UNITS[trial.dtype] * np.abs(total) if c else 0.0)))
        if not trial.compare(
            *("vectors", batch, outcome, Outcome(*numbers), Outcome(*allowed)),
            keep=not optional,
            note=f"vector {test.id}: ",
        ):
            missed.update(optional)
    return [OPTIONAL[name].format(count) for name, count in missed.items()]


def _allowed(node: Expected) -> Array:
    """Return the published tolerance, absolute."""
    return np.asarray(node.bound * spacing(node.value, node.dtype) if node.kind == "ulp" else node.bound)


def _applicable(trial: Trial) -> Iterator[tuple[Group, Vector]]:
    """Yield the vectors of this dtype, smoothing and penalty, without weights."""
    form, eps = trial.convention.form, trial.convention.label_smoothing
    known = "sum-to-zero" if form.penalty == "batch-sum" else form.penalty if trial.convention.coef else None
    for group, test in (pair for file in load_vectors()[:3] for pair in file):
        fits = group.dtype == trial.dtype and group.convention.penalty in (None, known)
        fits &= group.term in (form.penalty, known) or group.convention.label_smoothing == eps
        fits &= "weight" not in test.inputs and (trial.of.margin or "margin" not in test.inputs)
        if fits and (form.reduction != "none" or test.inputs["r_w"].size == 1):
            yield group, test
