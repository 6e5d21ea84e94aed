"""The check of one implementation: call it, find its convention, judge it, and name its mistake."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refrm.checks import check_number
from refrm.errors import InputError
from refrm.oracle.adapters import Fault, Implementation, takes_margin
from refrm.oracle.catalogue import Form, Mistake
from refrm.oracle.identify import PROBES, Match, Seen, find, same
from refrm.oracle.laws import Failure, Judge, Stop, accuracy, hazards, laws, sizes, sweep, vectors
from refrm.oracle.report import Accuracy, Report, formula
from refrm.oracle.truth import UNITS, Convention

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
    time_limit: float = 5.0,
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
        Seconds that one call may take.
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
    stated, penalties = _stated(coef, penalty, factor, reduction, label_smoothing, dtypes, time_limit)
    if not callable(f):
        raise InputError(f"f must be a function of (r_w, r_l) or (r_w, r_l, margin), got {type(f).__name__}")
    name = name or str(getattr(f, "__qualname__", type(f).__name__)).rpartition(".")[2]
    stated = replace(stated, margin=takes_margin(f) if margin is None else bool(margin))
    try:
        of = Implementation(f, framework, stated.margin, gradients, time_limit)
    except Fault as fault:
        return Report(
            name, False, failures=(Failure("call", f"it {fault}" if fault.kind == "hangs" else str(fault), ""),)
        )
    try:
        with np.errstate(all="ignore"):  # overflow is among what is looked for
            return _judged(of, name, stated, coef, penalties, reduction, dtypes)
    finally:
        of.framework.close()


def _stated(
    coef: Any, penalty: Any, factor: Any, reduction: Any, eps: Any, dtypes: Any, time_limit: Any
) -> tuple[Convention, list[str]]:
    """Return what was stated as a convention, and the penalties that are right; or raise `InputError`."""
    if penalty is not None and penalty not in PENALTIES:
        raise InputError(f"penalty must be one of {', '.join(PENALTIES)}, got {penalty!r}")
    if reduction is not None and reduction not in REDUCTIONS:
        raise InputError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    for dtype in dtypes or ():
        if dtype not in UNITS:
            raise InputError(f"dtypes must be of {', '.join(UNITS)}, got {dtype!r}")
    number = check_number("coef", 0.0 if coef is None else coef, 0.0)
    times = check_number("factor", factor, 0.0, open_low=True)
    check_number("time_limit", time_limit, 0.0, open_low=True)
    if coef is not None and penalty is None:
        penalty = "squared-sum"
    form = Form(penalty=penalty or "squared-sum", factor=times, reduction=reduction or "mean")
    smoothing = check_number("label_smoothing", eps, 0.0, 0.5)
    return Convention(form, number, label_smoothing=smoothing), [penalty] if penalty else list(PENALTIES)


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
    seen = []
    for pairs in PROBES:
        with contextlib.suppress(Fault):
            seen.append(Seen(pairs, of(*pairs, dtype)[0]))
    return seen if len(seen) == len(PROBES) else []


def _judged(
    of: Implementation,
    name: str,
    stated: Convention,
    coef: float | None,
    penalties: list[str],
    reduction: str | None,
    dtypes: Sequence[str] | None,
) -> Report:
    usable, notes = _dtypes(of, dtypes)
    first = min(usable, key=lambda dtype: UNITS[dtype])
    seen = _probed(of, first)
    per_pair = bool(seen) and seen[0].outcome.loss.ndim > 0 and seen[0].outcome.loss.size > 1
    reductions = [reduction] if reduction else ["none"] if per_pair else ["mean", "sum"]
    about: dict[str, Any] = {"coef": coef, "penalties": penalties, "reductions": reductions}
    match = find(seen, stated, dtype=first, **about) if seen else None
    if match is None and seen and first == "float64" and dtypes is None and "float32" in usable:
        narrow = find(seen, stated, dtype="float32", **about)
        if narrow is not None and not narrow.mistakes:
            usable, first, match = ["float32"], "float32", narrow
            seen = _probed(of, first)
            notes.append("float64 scores give the accuracy of float32: it is judged in float32")
    split = None if match is not None or not seen else _split(seen, stated, first, about)
    convention = (match or split or _default(stated, reductions[0])).convention
    judges = []
    for dtype in usable:
        j = Judge(of, convention, dtype)
        judges.append(j)
        with contextlib.suppress(Stop):
            notes += _run(j, first=dtype == usable[0])
    failures = [failure for j in judges for failure in j.failures]
    if convention.coef < 0:
        judges[0].fail("coefficient", f"the coefficient found is {convention.coef:g}: the loss has no minimum")
        failures.append(judges[0].failures[-1])
    if "prints" in of.seen:
        notes.append(f"it prints: {of.seen['prints']!r}")
    mistakes, where = _named(match or split, failures, first) if failures else ((), "")
    failures.sort(key=lambda failure: (failure.law in ("coefficient",), failure.size))
    checks: Counter[str] = sum((j.checks for j in judges), Counter())
    found = [part for part, known in (("reduction", reduction), ("coefficient", coef)) if known is None]
    found += ["penalty"] if len(penalties) > 1 and convention.coef else []
    form = convention.form
    return Report(
        name,
        not failures,
        of.framework.name,
        of.gradients,
        tuple(usable),
        {
            "loss": formula(convention),
            "coef": convention.coef,
            "factor": form.factor,
            "penalty": form.penalty if convention.coef else "none",
            "reduction": form.reduction,
            "margin": convention.margin,
            "label_smoothing": convention.label_smoothing,
            "found": found,
        },
        mistakes,
        where,
        tuple(failures),
        tuple(Accuracy(j.dtype, key, ulp, *at) for j in judges for key, (ulp, at) in j.worst.items()),
        dict(checks),
        tuple(dict.fromkeys(notes)),
    )


def _run(j: Judge, first: bool) -> list[str]:
    notes = vectors(j)
    if first:
        laws(j)
        notes += hazards(j)
        sizes(j)
    accuracy(j)
    sweep(j, every=first)
    return notes


def _default(stated: Convention, reduction: str) -> Match:
    return Match(replace(stated, form=replace(stated.form, reduction=reduction)), (), (stated.form, stated.form), 0.0)


def _split(seen: list[Seen], stated: Convention, dtype: str, about: dict[str, Any]) -> Match | None:
    """Return value and gradient matched one by one: each may have mistakes of its own."""
    value = find(seen, stated, dtype=dtype, quantity="value", **about)
    if value is None or seen[0].outcome.g_w is None:
        return value
    known = about | {"coef": abs(value.convention.coef), "penalties": [value.convention.form.penalty]}
    gradient = find(seen, stated, dtype=dtype, quantity="gradient", **known)
    if gradient is None:
        return None if not value.mistakes else value
    mistakes = tuple(dict.fromkeys(value.mistakes + gradient.mistakes))
    return Match(value.convention, mistakes, (value.forms[0], gradient.forms[1]), math.inf)


def _named(match: Match | None, failures: Any, dtype: str) -> tuple[tuple[Mistake, ...], str]:
    """Return the mistakes, if they reproduce the outputs of every failure too, and where they are."""
    if match is None or not match.mistakes:
        return (), ""
    for failure in failures:
        if failure.found is None or not failure.r_w or failure.law not in ("sweep", "vectors", "batch size"):
            continue
        kind = {"bfloat16": "float32"}.get(failure.dtype, failure.dtype)
        w, v = (np.array(x, kind) for x in (failure.r_w, failure.r_l))
        m = None if failure.margin is None else np.array(failure.margin, kind)
        if not np.isfinite(w - v).all() or not np.isfinite(w + v).all():
            continue  # past the largest float, each way of writing a mistake has its own
        index = {"value": 0, "grad_w": 1, "grad_l": 2}[failure.quantity]
        form = match.forms[min(index, 1)]
        outcome = match.convention.compute(w, v, m, form=form)
        if index and not np.isfinite(outcome.loss).all():
            continue
        numbers = np.asarray(outcome[index], np.float64).ravel()
        u = UNITS[failure.dtype]
        size = 1 + abs(match.convention.coef) * float(np.max(np.abs(w) + np.abs(v))) ** 2
        near = [same(_one(failure.found), _one(x), u, size, "value") for x in numbers]
        if not np.isfinite(min(near)):
            return (), ""
    same_form = match.forms[0] == match.forms[1]
    if same_form:
        return match.mistakes, "value and gradient"
    return match.mistakes, "gradient" if match.forms[0].likelihood == "softplus" else "value or the gradient"


def _one(x: float) -> Any:
    from refrm.oracle.catalogue import Outcome

    return Outcome(np.asarray(float(x)), None, None)
