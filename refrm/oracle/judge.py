"""The check of one implementation: call it, find its convention, judge it, and name its mistake."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refrm.checks import check_number
from refrm.errors import InputError
from refrm.oracle.adapters import Fault, Implementation
from refrm.oracle.forms import Form
from refrm.oracle.identify import FITTED, PROBES, Match, Seen, alike, find
from refrm.oracle.laws import hazards, laws, sizes
from refrm.oracle.published import vectors
from refrm.oracle.report import Accuracy, Report, formula
from refrm.oracle.signature import callable_with, takes_margin
from refrm.oracle.sweep import accuracy, sweep
from refrm.oracle.trial import ENOUGH, Failure, Stop, Trial
from refrm.oracle.truth import MOST, TINY, UNITS, Convention

PENALTIES = ("squared-sum", "sum-of-squares", "sum-to-zero", "batch-sum")
REDUCTIONS = ("mean", "sum", "none")


def check(
    f: Callable[..., Any],
    *,
    coef: float | None = None,
    penalty: str | None = None,
    factor: float = 1.0,
    reduction: str | None = None,
    margin: bool | None = None,
    label_smoothing: float = 0.0,
    dtypes: Sequence[str] | None = None,
    framework: str | None = None,
    gradients: bool | None = None,
    time_limit: float = 10.0,
    name: str | None = None,
) -> Report:
    """Judge an implementation of the pairwise loss, and name what is wrong with it.

    Parameters
    ----------
    f : callable
        Takes ``(r_w, r_l)`` or ``(r_w, r_l, margin)``, arrays of shape (N,) of NumPy, PyTorch, JAX or any array API
        module. Returns the loss, a scalar or of shape (N,), to be minimised; or ``(loss, g_w, g_l)`` or
        ``(loss, (g_w, g_l))`` with its gradients. Without them PyTorch's and JAX's autograd give the gradients.
    coef : float, optional
        lambda >= 0, the weight of the penalty; found out where it is None. Stated without ``penalty``, it is that of
        the squared sum.
    penalty : {"squared-sum", "sum-of-squares", "sum-to-zero", "batch-sum"}, optional
        mean (r_w + r_l)^2; mean (r_w^2 + r_l^2); (mean (r_w + r_l))^2; N times the square of the mean of the 2N scores.
        Found out where neither it nor ``coef`` is stated.
    factor : float
        Of the penalty, besides ``coef``; 1 is the convention of refrm and TRL.
    reduction : {"mean", "sum", "none"}, optional
        Over pairs; found out where it is None.
    margin : bool, optional
        Whether f takes a margin; by default, whether its third parameter looks like one.
    label_smoothing : float
        eps in [0, 1/2), as f has it.
    dtypes : sequence of str, optional
        Of float64, float32, float16, bfloat16, in which f is judged; by default those of the first two that it
        computes in.
    framework : str, optional
        "numpy", "torch", "jax" or the name of an array API module; found by trying where it is None.
    gradients : bool, optional
        False: judge values alone.
    time_limit : float
        Seconds that one call may take, compilation included.
    name : str, optional
        Of the implementation, for the report.

    Returns
    -------
    Report
        Whatever f does: if it raises, hangs, or returns something else, the report says so.

    Raises
    ------
    InputError
        For an argument that is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> def loss(r_w, r_l):
    ...     return np.mean(np.logaddexp(0, r_l - r_w) + 0.01 * (r_w - r_l) ** 2)
    >>> print(check(loss).verdict)
    loss does not conform: squared-difference
    """
    if not callable(f):
        raise InputError(f"f must be a function of (r_w, r_l) or (r_w, r_l, margin), got {type(f).__name__}")
    name = name or str(getattr(f, "__qualname__", type(f).__name__)).rpartition(".")[2]
    check_number("time_limit", time_limit, 0.0, open_low=True)
    with_margin = takes_margin(f) if margin is None else bool(margin)
    if margin is not None and not callable_with(f, margin):
        raise InputError(f"margin: {name} {'takes none' if margin else 'cannot be called without'}")
    asked = Request.of(coef, penalty, factor, reduction, label_smoothing, with_margin, dtypes)
    try:
        of = Implementation(f, framework, with_margin, gradients, time_limit)
    except Fault as fault:
        return Report(
            name, False, failures=(Failure("call", f"it {fault}" if fault.kind == "hangs" else str(fault), ""),)
        )
    try:
        for dtype in asked.dtypes or ():
            try:
                of.framework.make(np.zeros(1), dtype)
            except Fault as fault:
                raise InputError(f"dtypes: {fault}") from None
        with np.errstate(all="ignore"):  # overflow is among what is looked for
            return _judged(of, name, asked)
    finally:
        of.framework.close()


@dataclass(frozen=True)
class Request:
    """What the caller stated: the convention, and which parts of it are to be found out."""

    stated: Convention
    coef: float | None
    penalties: tuple[str, ...]
    reduction: str | None
    dtypes: Sequence[str] | None

    @classmethod
    def of(
        cls, coef: Any, penalty: Any, factor: Any, reduction: Any, smoothing: Any, margin: bool, dtypes: Any
    ) -> "Request":
        """Return the request, or raise `InputError`."""
        for name, value, known in (("penalty", penalty, PENALTIES), ("reduction", reduction, REDUCTIONS)):
            if value is not None and value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for dtype in dtypes or ():
            if dtype not in UNITS:
                raise InputError(f"dtypes must be of {', '.join(UNITS)}, got {dtype!r}")
        number = check_number("coef", 0.0 if coef is None else coef, 0.0)
        penalty = "squared-sum" if penalty is None and coef is not None else penalty
        form = Form(
            penalty=penalty or "squared-sum",
            factor=check_number("factor", factor, 0.0, open_low=True),
            reduction=reduction or "mean",
        )
        eps = check_number("label_smoothing", smoothing, 0.0, 0.5)
        convention = Convention(form, number, label_smoothing=eps, margin=margin)
        return cls(convention, coef and number, (penalty,) if penalty else PENALTIES, reduction, dtypes)

    def _reductions(self, seen: list[Seen]) -> list[str]:
        if self.reduction or not seen:
            return [self.reduction or "mean"]
        return ["none"] if seen[0].outcome.loss.size > 1 else ["mean", "sum"]

    def find(
        self, seen: list[Seen], dtype: str, quantity: str = "both", like: Convention | None = None
    ) -> Match | None:
        """Return the convention and mistakes of the outcomes seen; with ``like``, in that convention alone."""
        if not seen:
            return None
        return find(
            seen,
            self.stated,
            coef=self.coef if like is None else abs(like.coef),
            penalties=self.penalties if like is None else (like.form.penalty,),
            reductions=self._reductions(seen) if like is None else [like.form.reduction],
            dtype=dtype,
            quantity=quantity,
        )

    def find_apart(self, seen: list[Seen], dtype: str) -> Match | None:
        """Return value and gradient matched one by one, in one convention: each may have mistakes of its own."""
        value = self.find(seen, dtype, "value")
        if value is None or seen[0].outcome.g_w is None:
            return value
        gradient = self.find(seen, dtype, "gradient", value.convention)
        if gradient is None:
            return replace(value, mistakes=())
        where = "value and gradient" if value.mistakes and gradient.mistakes else ""
        where = where or ("value" if value.mistakes else "gradient")
        mistakes = tuple(dict.fromkeys(value.mistakes + gradient.mistakes))
        return Match(value.convention, mistakes, (value.forms[0], gradient.forms[1]), value.off, where)

    def default(self, seen: list[Seen]) -> Convention:
        """Return what to judge by where nothing was found out."""
        return replace(self.stated, form=replace(self.stated.form, reduction=self._reductions(seen)[0]))

    def describe(self, of: Convention) -> dict[str, Any]:
        """Return a convention as the report has it."""
        found = [part for part, known in (("reduction", self.reduction), ("coef", self.coef)) if known is None]
        return {
            "loss": formula(of),
            "coef": of.coef,
            "factor": of.form.factor,
            "penalty": of.form.penalty if of.coef else "none",
            "reduction": of.form.reduction,
            "margin": of.margin,
            "label_smoothing": of.label_smoothing,
            "found": found + (["penalty"] if len(self.penalties) > 1 and of.coef else []),
        }


def _dtypes(of: Implementation, asked: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the dtypes to judge in, and notes."""
    if asked:
        return list(asked), []
    x, usable, notes = np.array([1.0, 0.5, -1.0]), [], []
    for dtype in ("float64", "float32"):
        try:
            _, returned = of(x, x[::-1].copy(), None, dtype)
        except Fault as fault:
            notes.append(f"not judged in {dtype}: it {fault}")
            continue
        if dtype == "float64" and returned in ("float32", "float16", "bfloat16"):
            notes.append(f"float64 scores give a {returned} loss: it is judged in float32")
        else:
            usable.append(dtype)
    return usable or ["float32"], notes


def _probed(of: Implementation, dtype: str) -> list[Seen]:
    """Return the outcomes for `PROBES` in order; none, if one of those to fit lambda by is missing."""
    seen = []
    for pairs in PROBES:
        try:
            seen.append(Seen(pairs, of(*pairs, dtype=dtype)[0]))
        except Fault as fault:
            if fault.kind == "hangs" or len(seen) < len(FITTED):
                return []
    return seen


def _judged(of: Implementation, name: str, asked: Request) -> Report:
    usable, notes = _dtypes(of, asked.dtypes)
    dtype = min(usable, key=lambda dtype: UNITS[dtype])
    # In 16 bits too many forms round to the same numbers: there a mistake is told by what f computes in float32.
    if UNITS[dtype] > UNITS["float32"] and (seen := _probed(of, "float32")):
        dtype = "float32"
    else:
        seen = _probed(of, dtype)
    match = asked.find(seen, dtype)
    if match is None and seen and usable == ["float64", "float32"]:
        narrow = asked.find(seen, "float32")
        if narrow is not None and not narrow.mistakes:
            usable, dtype, match = ["float32"], "float32", narrow
            notes.append("float64 scores give the accuracy of float32: it is judged in float32")
    match = match or asked.find_apart(seen, dtype) or Match(asked.default(seen))
    convention = match.convention
    trials = [Trial(of, convention, dtype) for dtype in usable]
    for trial in trials:
        with contextlib.suppress(Stop):
            notes += _run(trial, first=trial is trials[0])
    if convention.coef < 0:
        trials[0].fail("coefficient", f"the coefficient found is {convention.coef:g}: the loss has no minimum")
    if "no gradients" in of.seen:
        notes.append(f"its gradients are not judged: {of.seen['no gradients']}")
    if "prints" in of.seen:
        notes.append(f"it prints: {of.seen['prints']!r}")
    failures = sorted((failure for trial in trials for failure in trial.failures), key=lambda failure: failure.size)
    named = bool(failures) and all(_reproduced(match, failure) for failure in failures)
    return Report(
        name,
        not failures,
        of.framework.name,
        of.gradients,
        tuple(usable),
        asked.describe(convention),
        match.mistakes if named else (),
        match.where if named else "",
        tuple(failures),
        tuple(Accuracy(trial.dtype, key, ulp, *at) for trial in trials for key, (ulp, at) in trial.worst.items()),
        dict(sum((trial.checks for trial in trials), Counter())),
        tuple(dict.fromkeys(notes)),
    )


def _run(trial: Trial, first: bool) -> list[str]:
    """Judge in one dtype; the laws in the first alone. Return notes."""
    notes = vectors(trial)
    if first:
        laws(trial)
        notes += hazards(trial)
        sizes(trial)
    accuracy(trial)
    if len(trial.failures) < ENOUGH:  # it looks for what all else has missed
        sweep(trial, every=first)
    return notes


def _reproduced(match: Match, failure: Failure) -> bool:
    """Return whether the mistakes of a match give the wrong number of a failure, too."""
    if failure.found is None or failure.law not in ("sweep", "vectors", "batch size"):
        return True
    kind = {"bfloat16": "float32"}.get(failure.dtype, failure.dtype)
    w, v = (np.array(x, kind) for x in (failure.r_w, failure.r_l))
    reach = float(np.max(np.abs(w)) + np.max(np.abs(v)))
    if not np.isfinite(reach) or reach > MOST[failure.dtype] ** (1 / 3) or 0 < reach < TINY[failure.dtype] ** (1 / 3):
        return True  # where squares or cubes leave the range, each way of writing a mistake has its own result
    m = None if failure.margin is None else np.array(failure.margin, kind)
    outcome = match.convention.compute(w, v, m, form=match.forms[failure.quantity != "value"])
    numbers = outcome[("value", "grad_w", "grad_l").index(failure.quantity)]
    if numbers is None or (failure.quantity != "value" and not np.isfinite(outcome.loss).all()):
        return True
    size = 1 + abs(match.convention.coef) * reach * reach
    return any(alike(failure.found, x, UNITS[failure.dtype], size) for x in numbers.ravel().tolist())
