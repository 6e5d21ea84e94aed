"""Finding out what an implementation computes: its convention, and the known mistakes that reproduce its outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from refrm.oracle.catalogue import BY_NAME, MISTAKES, Mistake, changed, combinations
from refrm.oracle.forms import Form, Outcome, evaluate, rounded
from refrm.oracle.truth import UNITS, Convention
from refrm.spec import Array

Pairs = tuple[Array, Array, Array]


class Seen(NamedTuple):
    """What an implementation returned for one batch."""

    pairs: Pairs
    outcome: Outcome


@dataclass(frozen=True)
class Match:
    """A convention, the mistakes in it that reproduce every output, and the forms of its value and its gradient."""

    convention: Convention
    mistakes: tuple[Mistake, ...] = ()
    forms: tuple[Form, Form] = (Form(), Form())
    off: float = np.inf
    where: str = "value and gradient"


PENALTY_PARTS = ("penalty", "factor", "reduction", "detached", "spread")


def _typed(x: Array, dtype: str) -> Array:
    """Return x in a dtype; bfloat16, which NumPy lacks, as float32."""
    return rounded(x, dtype).astype(np.float32) if dtype == "bfloat16" else x.astype(dtype)


def _batch(*columns: list[float]) -> Pairs:
    w, v, m = (np.array(column) for column in columns)
    return w, v, m


FITTED = (
    _batch([1.25, -0.5, 2.0, 0.375, -1.5], [0.5, 0.25, 1.0, -0.875, -2.25], [0.0625, 0.03125, 0.09375, 0.0, 0.0625]),
    _batch([-3.5, -1.0, 0.75, -0.25], [-4.25, -0.5, 0.125, -1.5], [0.03125, 0.0625, 0.0, 0.09375]),
    _batch([4.5, 6.0, 3.25], [4.0, 5.125, 4.0], [0.0625, 0.0, 0.03125]),
)
"""Three ordinary batches of different sizes, to find lambda by least squares; -log(sigma(d) - m) is finite there."""
PROBES = (
    *FITTED,
    _batch([2.0, -1.5], [2.0, -1.5], [0.0, 0.0]),
    _batch([0.75, -2.5], [-1.5, 0.5], [1.0, 0.5]),
    *(_batch([d / 2], [-d / 2], [0.0]) for d in (-1000.0, -800.0, -730.0, -200.0, -95.0, -30.0, -21.0, -18.0)),
    *(_batch([d / 2], [-d / 2], [0.0]) for d in (4.0, 12.0, 18.0, 30.0, 36.5, 40.0, 60.0)),
    _batch([float(np.float32(3.3)), 64.0078125], [float(np.float32(0.1)), 63.0], [0.0, 0.03125]),
    _batch([0.0], [0.0], [0.0]),
    _batch([np.nan, 1.0], [0.5, 0.0], [0.0, 0.0]),
)
"""Batches, exact in float32, that tell the mistakes of the catalogue apart."""


def near(u: float) -> float:
    """Return the relative difference up to which two ways of writing a formula agree, far below any mistake."""
    return float(max(u**0.75, 256 * u))


def _gaps(a: Array, b: Array, u: float, size: float) -> Array:
    """Return the differences relative to the larger element, inf where that is no rounding of terms up to ``size``."""
    with np.errstate(all="ignore"):
        gap, equal = np.abs(a - b), (a == b) | (np.isnan(a) & np.isnan(b))
        rounding = np.isfinite(gap) & (gap <= 64 * u * size + near(u) * np.abs(b))
        relative = gap / np.maximum(np.abs(a), np.abs(b))
    return np.where(equal, 0.0, np.where(rounding, relative, np.inf))


def alike(a: float, b: float, u: float, size: float) -> bool:
    """Return whether two numbers are the same up to the roundings of a sum of terms up to ``size``."""
    return bool(np.isfinite(_gaps(np.array(a), np.array(b), u, size)))


def same(found: Outcome, form: Outcome, u: float, size: float, quantity: str = "both") -> float:
    """Return how far two outcomes are apart, relative to the larger element; inf if they are not the same.

    The gradient is not compared where the form's loss is not finite: there each way of writing it has its own.
    """
    if found.loss.shape != form.loss.shape and not found.loss.size == form.loss.size == 1:
        return np.inf
    pairs: list[Any] = [] if quantity == "gradient" else [(found.loss, form.loss)]
    if quantity != "value" and found.g_w is not None and np.isfinite(form.loss).all():
        pairs += [(found.g_w, form.g_w), (found.g_l, form.g_l)]
    flat = [tuple(np.ravel(np.asarray(x, np.float64)) for x in pair) for pair in pairs]
    return max((float(np.max(_gaps(a, b, u, size))) for a, b in flat), default=0.0)


def _flat(outcome: Outcome, n: int, quantity: str) -> Array:
    """Return loss and gradients in one vector, NaN for what is not there or not asked for."""
    loss = np.ravel(outcome.loss).astype(np.float64)
    sides = [np.full(n, np.nan) if g is None or quantity == "value" else g for g in (outcome.g_w, outcome.g_l)]
    return np.concatenate([np.full(loss.size, np.nan) if quantity == "gradient" else loss, *sides])


@lru_cache(maxsize=4096)
def _without_penalty(form: Form, margin: bool, eps: float, dtype: str) -> Array:
    """Return the outputs of a form for `FITTED` in one vector."""
    typed = [[x.astype(dtype) for x in pairs[: 2 + margin]] for pairs in FITTED]
    return np.concatenate(
        [_flat(evaluate(form, *pairs, label_smoothing=eps), pairs[0].size, "both") for pairs in typed]
    )


@lru_cache(maxsize=512)
def _unit_penalty(form: Form) -> Array:
    """Return what lambda = 1 adds to them."""
    one, none = ([_flat(evaluate(form, w, v, coef=coef), w.size, "both") for w, v, _ in FITTED] for coef in (1.0, 0.0))
    return np.asarray(np.concatenate(one) - np.concatenate(none))


def _nice(coef: float) -> float:
    return float(f"{coef:.6g}")


def _fitted(form: Form, seen: list[Seen], stated: Convention, dtype: str, quantity: str) -> float | None:
    """Return lambda by least squares over the outputs for `FITTED`; None where no lambda explains them."""
    u, bare = UNITS[dtype], replace(form, penalty="none", factor=1.0, sign=1.0, power=1)
    rest = _without_penalty(bare, stated.margin, stated.label_smoothing, dtype)
    unit = _unit_penalty(replace(Form(), **{part: getattr(form, part) for part in PENALTY_PARTS}))
    y = np.concatenate([_flat(outcome, pairs[0].size, quantity) for pairs, outcome in seen[: len(FITTED)]])
    if y.size != rest.size or not (used := ~np.isnan(y)).any():
        return None
    y, rest, unit = y[used] - rest[used], rest[used], unit[used]
    scale = float(unit @ unit)
    if not scale or not np.isfinite(y).all():
        return None
    coef = float(unit @ y) / scale
    if np.any(np.abs(y - coef * unit) > 64 * u * (1 + 16 * abs(coef)) + near(u) * np.abs(rest + coef * unit)):
        return None
    if np.max(np.abs(coef * unit)) <= 64 * u:
        return 0.0
    return _nice(coef) if abs(_nice(coef) - coef) <= 64 * u * max(1.0, abs(coef)) else coef


def _bases(stated: Convention, penalties: Sequence[str], reductions: Sequence[str]) -> Iterator[Form]:
    for penalty in penalties:
        for reduction in reductions:
            yield replace(stated.form, penalty=penalty, reduction=reduction)


def find(
    seen: list[Seen],
    stated: Convention,
    *,
    coef: float | None,
    penalties: Sequence[str],
    reductions: Sequence[str],
    dtype: str,
    quantity: str = "both",
) -> Match | None:
    """Return the convention, or else the fewest known mistakes (two at most), that reproduce every output seen.

    Parameters
    ----------
    seen : list of Seen
        Outputs for `PROBES`, those for `FITTED` first.
    stated : Convention
        What the caller stated; its form is the start.
    coef : float, optional
        lambda if stated; otherwise it is fitted.
    penalties, reductions : sequence of str
        Those that are right: what was stated, or every convention in use.
    dtype : str
        In which the outputs were computed.
    quantity : {"both", "value", "gradient"}
        What is to be reproduced.
    """
    free = {("penalty", p) for p in penalties} | {("reduction", r) for r in reductions}
    only_stated = {"factor-of-two", "minus-sign", "penalty-twice", "penalty-missing"}
    u = UNITS[dtype]

    def possible(mistakes: tuple[Mistake, ...]) -> bool:
        if coef is None and any(m.name in only_stated for m in mistakes):
            return False  # that is what an unknown lambda is
        if not coef and coef is not None and any(m.parts & {"penalty", "factor", "sign", "power"} for m in mistakes):
            return False
        names = {m.name for m in mistakes}
        if not stated.margin and any("margin" in m.parts or m.name == "margin-broadcast" for m in mistakes):
            return False
        if not stated.label_smoothing and any("smoothing" in m.parts for m in mistakes):
            return False
        return not any("negative-coefficient" in names or free & set(c.items()) for m in mistakes for c in m.changes)

    def of_tier(tier: list[tuple[Mistake, ...]]) -> Match | None:
        best: Match | None = None
        for base in _bases(stated, penalties, reductions):
            for mistakes in tier:
                for form in changed(base, mistakes):
                    fit = _fitted(form, seen, stated, dtype, quantity) if coef is None else coef
                    if fit is None:
                        continue
                    known = coef is not None or fit == _nice(fit)
                    found = replace(stated, form=base, coef=fit, coef_error=0.0 if known else 64 * u)
                    off = _off(form, found)
                    if off < (np.inf if best is None else best.off):
                        best = Match(found, mistakes, (form, form), off)
        return best

    def _off(form: Form, of: Convention) -> float:
        worst = 0.0
        for pairs, outcome in seen:
            w, v, m = (_typed(x, dtype) for x in pairs)
            size = 1 + abs(of.coef) * float(np.nanmax(np.abs(pairs[0]) + np.abs(pairs[1]))) ** 2
            worst = max(worst, same(outcome, of.compute(w, v, m, form), u, size, quantity))
            if worst == np.inf:
                break
        return worst

    every = [m for m in combinations(2) if possible(m)]
    match: Match | None = None
    for tier in ([()], [m for m in every if len(m) == 1], [m for m in every if len(m) == 2]):
        found = of_tier(tier)  # type: ignore[arg-type]
        # More mistakes must explain the outputs much better: to their last bits, in the tails.
        if found is not None and (match is None or found.off < match.off / 16):
            match = found
        if match is not None and match.off <= near(u):
            break
    if match is None:
        return None
    of = match.convention
    if not of.coef:
        of = replace(of, form=replace(of.form, penalty=of.form.penalty if coef is not None else "none"))
    mistakes = match.mistakes + ((BY_NAME["negative-coefficient"],) if coef is None and of.coef < 0 else ())
    return replace(match, convention=of, mistakes=tuple(m for m in MISTAKES if m in mistakes))
