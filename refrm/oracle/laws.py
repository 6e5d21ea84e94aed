"""What a right loss obeys, whoever wrote it: laws that compare an implementation with itself."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refrm.oracle.adapters import Fault
from refrm.oracle.forms import Outcome, penalty_of
from refrm.oracle.trial import Batch, Trial
from refrm.oracle.truth import expected
from refrm.spec import Array

LAWS = {
    "call": "it returns a loss",
    "shape": "the loss is a scalar, or one for each pair",
    "vectors": "the published numbers",
    "sweep": "the loss and its slope at every d, s and m: -log sigma(d - m), plus the penalty (T2)",
    "batch size": "the mean over any number of pairs, one included",
    "repeat": "the same inputs give the same bits",
    "shift": "adding c to both scores changes the penalty alone (T1)",
    "exchange": "L(d) - L(-d) = -(1 - 2 eps) d, whatever the scores (T2)",
    "permutation": "the order of the pairs does not matter",
    "duplication": "a batch twice over has the same mean and twice the sum",
    "splitting": "the mean over a batch is the weighted mean over its parts",
    "margin": "a margin m is r_w lowered by m inside the sigmoid (T1)",
    "column": "scores of shape (N, 1) give what scores of shape (N,) give, or are refused",
    "strided": "non-contiguous scores give what contiguous ones give",
    "mutation": "the inputs are left as they were",
    "nan": "a NaN score gives a NaN loss, or is refused",
    "coefficient": "the coefficient of the penalty is not negative",
}
"""Every law by its name, and what is judged besides; T1, T2 are theorems of refrm."""

Check = tuple[Batch, Outcome | None, Outcome | None, list[Outcome]]


def each(on_loss: Callable[..., Any], on_grad: Callable[..., Any] | None, *outcomes: Outcome) -> Outcome:
    """Return the outcome whose loss and gradients are functions of those of others; None where one has none."""
    losses, *sides = zip(*outcomes, strict=True)
    grads = (on_grad(*side) if on_grad and all(g is not None for g in side) else None for side in sides)
    return Outcome(np.asarray(on_loss(*losses)), *grads)


class Laws:
    """The laws, each a method that yields (batch, found, right, allowances) for a batch and its outcome."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.of = trial, trial.convention
        self.per_pair = self.of.form.reduction == "none"
        self.mean = self.of.form.reduction == "mean"
        reduce: dict[str, Callable[[Array], Any]] = {"mean": np.mean, "sum": np.sum, "none": np.asarray}
        self.reduce = reduce[self.of.form.reduction]

    def run(self, law: str, batch: Batch, layout: str = "plain") -> tuple[Outcome | None, Outcome]:
        """Return the outcome for a batch, and its allowance."""
        return self.trial.call(law, batch, layout), expected(*batch, self.of, self.trial.dtype)[1]

    def penalty(self, w: Array, v: Array) -> Outcome:
        """Return the penalty and its gradients, as reduced."""
        c, share = self.of.coef * self.of.form.factor, 1 / w.size if self.mean else 1.0
        value, g_w, g_l = penalty_of(self.of.form.penalty if c else "none", w, v)
        return Outcome(np.asarray(self.reduce(c * value)), c * share * g_w, c * share * g_l)

    def shift(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """Adding c to both scores changes the penalty alone."""
        for c in (1.0, -4.0, 64.0):
            moved = Batch(b.w + c, b.v + c, b.m)
            found, slack = self.run("shift", moved)
            add = lambda x, y, z: x + y - z  # noqa: E731
            yield moved, found, each(add, add, base, self.penalty(*moved[:2]), self.penalty(*b[:2])), [off, slack]

    def exchange(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """L(d) - L(-d) = -(1 - 2 eps) d."""
        forth, back = (
            Batch(b.w, b.v, None if b.m is None else 0 * b.m),
            Batch(b.v, b.w, None if b.m is None else 0 * b.m),
        )
        (found, slack), (other, more) = self.run("exchange", forth), self.run("exchange", back)
        if other is not None:
            drop = self.reduce((1 - 2 * self.of.label_smoothing) * (b.w - b.v))
            yield forth, found, each(lambda x: x - drop, None, other), [slack, more]

    def permutation(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """The order of the pairs does not matter."""
        order = np.arange(b.w.size) * 7 % b.w.size
        found, slack = self.run("permutation", b.of(order))
        take = lambda x: x[order] if np.ndim(x) else x  # noqa: E731
        yield b.of(order), found, each(take, take, base), [each(take, take, off), slack]

    def duplication(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """A batch twice over has the same mean and twice the sum."""
        if self.of.form.penalty == "batch-sum" and self.of.coef:
            return
        twice = np.tile(np.arange(b.w.size), 2)
        found, slack = self.run("duplication", b.of(twice))
        loss = (lambda x: x[twice]) if self.per_pair else (lambda x: x * (1 if self.mean else 2))
        grad = lambda x: x[twice] * (0.5 if self.mean else 1.0)  # noqa: E731
        wide = each(lambda x: 2 * (x[twice] if np.ndim(x) else x), lambda x: 2 * x[twice], off)
        yield b.of(twice), found, each(loss, grad, base), [wide, slack]

    def splitting(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """The mean over a batch is the weighted mean over its parts."""
        if self.of.coupled:
            return
        parts = [self.run("splitting", b.of(part)) for part in (slice(0, 5), slice(5, None))]
        shares = [5 / b.w.size, 1 - 5 / b.w.size] if self.mean else [1.0, 1.0]
        glue = lambda x, y: np.concatenate([shares[0] * x, shares[1] * y])  # noqa: E731
        plus = glue if self.per_pair else lambda x, y: shares[0] * x + shares[1] * y
        (one, off1), (two, off2) = parts
        if one is not None and two is not None:
            yield b, base, each(plus, glue, one, two), [each(plus, glue, off1, off2), off]

    def margin(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """A margin m is r_w lowered by m inside the sigmoid."""
        if b.m is not None:
            lowered = Batch(b.w - b.m, b.v, 0 * b.m)
            found, slack = self.run("margin", lowered)
            if found is not None:
                change = self.penalty(*b[:2]).loss - self.penalty(*lowered[:2]).loss
                yield b, base, each(lambda x: x + change, None, found), [off, slack]

    def layout(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """Another layout of the same numbers gives the same."""
        for name in ("column", "strided")[: 1 + self.trial.of.framework.strided]:
            found, slack = self.run(name, b, name)
            yield b, found, base, [off, slack]

    def nan(self, b: Batch, base: Outcome, off: Outcome) -> Iterator[Check]:
        """A NaN score gives a NaN loss."""
        broken = Batch(np.where(np.arange(b.w.size) == 3, np.nan, b.w), b.v, b.m)
        found = self.trial.call("nan", broken, refusable=True)
        if found is not None and not np.isnan(found.loss.ravel()[3 if self.per_pair else 0]):
            self.trial.fail("nan", f"a NaN score gives a loss of {found.loss.ravel()[0]:.6g}", broken)
        yield from ()


def laws(trial: Trial) -> None:
    """Check the laws on three batches of 12 pairs."""
    of, i = Laws(trial), np.arange(12.0)
    m = i % 4 / 8 if trial.of.margin else None
    for w, v in (((i * 5 % 7 - 3) / 2, (i * 3 % 11 - 6) / 4), (i - 8, 3 - i), (i / 8, 0 * i + 1)):
        batch = Batch(w, v, m)
        base, off = of.run("repeat", batch)
        again, _ = of.run("repeat", batch)
        if base is None or again is None:
            continue
        if not all(x is None or np.array_equal(x, np.asarray(y), True) for x, y in zip(base, again, strict=True)):
            trial.fail("repeat", "two calls with the same inputs differ", batch)
        for law in ("shift", "exchange", "permutation", "duplication", "splitting", "margin", "layout", "nan"):
            for given, found, right, allowances in getattr(of, law)(batch, base, off):
                if found is not None and right is not None:
                    add = lambda *x: sum(x)  # noqa: E731
                    trial.compare(
                        law if law != "layout" else "column", given, found, right, each(add, add, *allowances)
                    )
    if "mutates" in trial.of.seen:
        trial.fail("mutation", f"it changed its {trial.of.seen['mutates']}")


def sizes(trial: Trial) -> None:
    """Check batches of 1 to 40 pairs and some larger ones."""
    few = (*range(1, 9), 16, 33, 129, 1000)  # where every size is compiled
    for n in few if trial.of.framework.compiles else (*range(1, 41), 64, 100, 129, 1000):
        i = np.arange(float(n))
        batch = Batch((i * 37 % 23 - 11) / 4, (i * 29 % 19 - 9) / 4, i % 3 / 4 if trial.of.margin else None)
        trial.see("batch size", batch)


def hazards(trial: Trial) -> list[str]:
    """Return notes on what is not refused: shapes that meet by accident, and broadcast to N x N."""
    notes, batch = [], Batch(*np.array([[1.0, 0.5, -1.0], [0.5, 2.0, 0.0], [0.0, 1.0, 0.5]]))
    for layout, text, thread in (
        ("scores", "r_w of shape (N, 1) with r_l of shape (N,)", "modelscope/ms-swift#9927"),
        ("margins", "scores of shape (N, 1) with margins of shape (N,)", "huggingface/trl#719"),
    ):
        if layout == "scores" or trial.of.margin:
            with contextlib.suppress(Fault):
                (mixed, _), (plain, _) = (trial.of(*batch, dtype=trial.dtype, layout=x) for x in (layout, "plain"))
                if mixed.loss.size != plain.loss.size or not np.allclose(mixed.loss, plain.loss):
                    notes.append(f"not refused: {text}; it broadcasts to N x N ({thread})")
    return notes
