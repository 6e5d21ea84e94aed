"""What a right loss obeys, whoever wrote it: the laws, the published vectors, and a dense sweep that leaves no gaps.

A `Judge` calls one implementation and keeps what it got wrong. The laws compare an implementation with itself; the
vectors with the published numbers; the sweep with `refrm.oracle.truth`, on every thousandth part of every range.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refrm.oracle.adapters import Fault, Implementation
from refrm.oracle.catalogue import Outcome, penalty_of, rounded
from refrm.oracle.truth import TINY, UNITS, Convention, Exact, close, exact, expected, pairwise, reduced, ulps
from refrm.oracle.vectors import Expected, Group, Vector, load_vectors, spacing
from refrm.spec import Array

QUANTITIES = ("value", "grad_w", "grad_l")
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
    "dtype": "float32 scores give a loss of at least float32",
    "column": "scores of shape (N, 1) give what scores of shape (N,) give, or are refused",
    "strided": "non-contiguous scores give what contiguous ones give",
    "mutation": "the inputs are left as they were",
    "nan": "a NaN score gives a NaN loss",
    "coefficient": "the coefficient of the penalty is not negative",
    "reduction": "the loss is reduced as stated",
}
"""Every law by its name; T1, T2 are theorems of refrm."""


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong: the law it breaks, the inputs, what was found, what is right, and the allowance."""

    law: str
    message: str
    dtype: str
    r_w: tuple[float, ...] = ()
    r_l: tuple[float, ...] = ()
    margin: tuple[float, ...] | None = None
    quantity: str = ""
    found: float | None = None
    right: float | None = None
    allowed: float | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Order failures by: the number of pairs, then how large and how odd their numbers are."""
        numbers = [x for x in (*self.r_w, *self.r_l) if np.isfinite(x)]
        digits = sum(len(f"{abs(x):.17g}") for x in numbers)
        return len(self.r_w) or 10**9, digits + float(np.sum(np.abs(np.log2(np.abs(numbers or [1.0]) + 1))))


class Stop(Exception):
    """Nothing more is to be learned: the implementation hangs, or raises whatever it is given."""


class Judge:
    """Calls an implementation and keeps its failures, the number of checks of each law, and its worst accuracy."""

    def __init__(self, of: Implementation, convention: Convention, dtype: str) -> None:
        self.of, self.convention, self.dtype = of, convention, dtype
        self.failures: list[Failure] = []
        self.checks: Counter[str] = Counter()
        self.worst: dict[str, tuple[float, tuple[float, float, float]]] = {}
        self.kept: Counter[str] = Counter()

    def fail(self, law: str, message: str, pairs: Any = ((), (), None), **about: Any) -> None:
        """Keep a failure."""
        self.kept[law] += 1
        w, v, m = (None if x is None else tuple(float(y) for y in x) for x in pairs)
        self.failures.append(
            Failure(law, message, self.dtype, w or (), v or (), m if self.of.margin else None, **about)
        )

    def call(self, law: str, w: Array, v: Array, m: Array | None, layout: str = "plain") -> Outcome | None:
        """Return the outcome for float64 copies of inputs that are exact in the dtype; None, and a failure, if none."""
        self.checks[law] += 1
        try:
            outcome, _ = self.of(w, v, m, self.dtype, layout)
        except Fault as fault:
            if layout != "plain" and fault.kind == "raises":
                return None
            self.fail("call", f"it {fault}", (w, v, m))
            if fault.kind == "hangs" or self.kept["call"] >= 5:
                raise Stop from None
            return None
        right = ((w.size,),) if self.convention.form.reduction == "none" else ((), (1,))
        if outcome.loss.shape not in right:
            self.fail("shape", f"it returned shape {outcome.loss.shape}; expected {right[0]}", (w, v, m))
            if self.kept["shape"] >= 5:
                raise Stop
            return None
        return outcome

    def compare(self, law: str, pairs: Any, found: Outcome, right: Outcome, off: Outcome, keep: bool = True) -> bool:
        """Return whether an outcome is right; keep the worst element as a failure if it is not."""
        fine = True
        for name, a, b, c in zip(QUANTITIES, found, right, off, strict=True):
            if a is None:
                continue
            a, b, c = (np.ravel(np.asarray(x, np.float64)) for x in (a, b, c))
            with np.errstate(all="ignore"):
                if a.shape == b.shape and (np.abs(a - b) <= c).all():
                    continue
            c = np.broadcast_to(np.nan_to_num(c, posinf=np.inf), a.shape)
            ok = close(a, b, c, self.dtype)
            per_pair = a.size == pairs[0].size
            if not ok.all():
                fine = False
                if keep:
                    with np.errstate(all="ignore"):
                        i = int(np.argmax(np.where(ok, -1.0, np.nan_to_num(np.abs(a - b), nan=np.inf) / (c + 5e-324))))
                    one = slice(i, i + 1) if per_pair and self.convention.form.reduction == "none" else slice(None)
                    numbers = {"found": float(a[i]), "right": float(b[i]), "allowed": float(c[i])}
                    given = tuple(None if x is None else x[one] for x in pairs)
                    where = f" of pair {i}" if per_pair and a.size > 1 and one == slice(None) else ""
                    self.fail(law, f"{name}{where} is {a[i]:.17g}, not {b[i]:.17g}", given, quantity=name, **numbers)
        return fine

    def measure(self, w: Array, v: Array, m: Array | None) -> None:
        """Check pairs one by one, and keep the largest errors: of a gradient, in ulp of its larger term."""
        known = exact(w, v, m, self.convention, self.dtype)
        for i in range(w.size):
            one = slice(i, i + 1)
            pairs = w[one], v[one], None if m is None else m[one]
            outcome = self.call("batch size", *pairs)
            right, off = reduced(known[one], w[one], v[one], self.convention, self.dtype)
            if outcome is None or not self.compare("batch size", pairs, outcome, right, off):
                continue
            for name, a, b in zip(QUANTITIES, outcome, right, strict=True):
                if a is None or not abs(float(np.ravel(b)[0])) >= 2 * TINY[self.dtype]:  # type: ignore[arg-type]
                    continue
                of = np.ravel(b) if name == "value" else np.maximum(np.abs(b), known.slope[one])  # type: ignore[arg-type]
                error = float(np.ravel(ulps(a, b, of, self.dtype))[0])
                if error > self.worst.get(name, (-1.0,))[0]:
                    self.worst[name] = error, (float(w[i]), float(v[i]), 0.0 if m is None else float(m[i]))

    def see(self, law: str, w: Array, v: Array, m: Array | None = None, known: Exact | None = None) -> bool:
        """Return whether the implementation is right for a batch; if not, keep its smallest part that is wrong."""
        if self.kept[law] >= 8:
            return False
        outcome = self.call(law, w, v, m)
        if outcome is None:
            return False
        known = known or exact(w, v, m, self.convention, self.dtype)
        right, off = reduced(known, w, v, self.convention, self.dtype)
        if self.compare(law, (w, v, m), outcome, right, off, keep=w.size == 1):
            return True
        if w.size > 1:
            for i in range(w.size):
                one = slice(i, i + 1)
                if not self.see(law, w[one], v[one], None if m is None else m[one]):
                    break
            else:  # wrong together, right alone
                self.compare(law, (w, v, m), outcome, right, off)
        return False

    def related(self, law: str, pairs: Any, found: Any, right: Any, off: Any) -> None:
        """Compare two outcomes of the implementation that a law relates."""
        keys = [np.asarray(x) for x in right], [np.asarray(x) for x in off]
        self.compare(law, pairs, found, Outcome(*keys[0]), Outcome(*keys[1]))


def _cat(*parts: Any) -> Any:
    return np.concatenate(parts)


def laws(j: Judge) -> None:
    """Check the laws on three batches; each needs no truth but the implementation's own outputs."""
    of, reduction = j.convention, j.convention.form.reduction
    c, kind, eps = of.coef * of.form.factor, of.form.penalty, of.label_smoothing
    coupled = kind in ("sum-to-zero", "batch-sum") and c != 0
    i = np.arange(12.0)
    m = (i % 4) / 8 if j.of.margin else None
    reduce = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction]

    def run(law: str, w: Array, v: Array, m: Array | None, layout: str = "plain") -> tuple[Any, Any]:
        return j.call(law, w, v, m, layout), expected(w, v, m, of, j.dtype)[1]

    def add(a: Any, b: Any) -> Any:
        return Outcome(*(None if x is None or y is None else x + y for x, y in zip(a, b, strict=True)))

    for w, v in (((i * 5 % 7 - 3) / 2, (i * 3 % 11 - 6) / 4), (i - 8, 3 - i), (i / 8, i * 0 + 1)):
        pairs, (base, off) = (w, v, m), run("repeat", w, v, m)
        if base is None:
            continue
        again = j.call("repeat", w, v, m)
        if again is not None and not all(
            x is None or np.array_equal(x, y, equal_nan=True) for x, y in zip(base, again, strict=True)
        ):
            j.fail("repeat", "two calls with the same inputs differ", pairs)
        terms = penalty_of(kind, w, v)
        for shift in (1.0, -4.0, 64.0):
            moved, off2 = run("shift", w + shift, v + shift, m)
            if moved is not None:
                share = 1 / w.size if reduction == "mean" else 1.0
                after = penalty_of(kind, w + shift, v + shift)
                change = [
                    reduce(c * (after[0] - terms[0])),
                    *(c * share * (x - y) for x, y in zip(after[1:], terms[1:], strict=True)),
                ]
                right = [None if x is None else x + y for x, y in zip(base, change, strict=True)]
                j.related("shift", (w + shift, v + shift, m), moved, _known(right), add(off, off2))
        forth, offs = run("exchange", w, v, None)
        back, offs2 = run("exchange", v, w, None)
        if forth is not None and back is not None:
            right = [back.loss - reduce((1 - 2 * eps) * (w - v)), None, None]
            j.related(
                "exchange",
                (w, v, None if m is None else 0 * m),
                forth._replace(g_w=None, g_l=None),
                _known(right),
                add(offs, offs2),
            )
        order = np.argsort(i * 7 % 12)
        there, off2 = run("permutation", w[order], v[order], None if m is None else m[order])
        if there is not None:
            right = [
                base.loss[order] if reduction == "none" else base.loss,
                *(None if g is None else g[order] for g in base[1:]),
            ]
            moved_off = Outcome(*(x[order] if x.ndim else x for x in off))
            j.related(
                "permutation",
                (w[order], v[order], m if m is None else m[order]),
                there,
                _known(right),
                add(moved_off, off2),
            )
        double, off2 = run("duplication", _cat(w, w), _cat(v, v), None if m is None else _cat(m, m))
        if double is not None and kind != "batch-sum":
            times = {"mean": 1.0, "sum": 2.0}.get(reduction, 1.0)
            grad = [None if g is None else _cat(g, g) * (0.5 if reduction == "mean" else 1.0) for g in base[1:]]
            right = [_cat(base.loss, base.loss) if reduction == "none" else times * base.loss, *grad]
            wide = Outcome(*(2 * (_cat(x, x) if x.ndim else x) for x in off))
            j.related(
                "duplication",
                (_cat(w, w), _cat(v, v), None if m is None else _cat(m, m)),
                double,
                _known(right),
                add(wide, off2),
            )
        if not coupled:
            parts = [run("splitting", w[k], v[k], None if m is None else m[k]) for k in (slice(0, 5), slice(5, 12))]
            if all(part is not None for part, _ in parts):
                (one, off1), (two, off2) = parts
                a, b = (5 / 12, 7 / 12) if reduction == "mean" else (1.0, 1.0)
                join = (lambda x, y: _cat(a * x, b * y)) if reduction == "none" else (lambda x, y: a * x + b * y)
                right = [
                    join(one.loss, two.loss),
                    *(None if g is None else _cat(a * g, b * h) for g, h in zip(one[1:], two[1:], strict=True)),
                ]
                slack = Outcome(join(off1.loss, off2.loss), _cat(off1.g_w, off2.g_w), _cat(off1.g_l, off2.g_l))
                j.related("splitting", pairs, base, _known(right), add(slack, off))
        if m is not None:
            lowered, off2 = run("margin", w - m, v, 0 * m)
            if lowered is not None:
                change = c * (terms[0] - penalty_of(kind, w - m, v)[0])
                right = [lowered.loss + reduce(change), None, None]
                j.related("margin", pairs, base._replace(g_w=None, g_l=None), _known(right), add(off, off2))
        for layout in ("column", "strided") if j.of.framework.strided else ("column",):
            there, off2 = run(layout, w, v, m, layout)
            if there is not None:
                j.related(layout, pairs, there, _known(list(base)), add(off, off2))
        w2 = w.copy()
        w2[3] = np.nan
        hidden = j.call("nan", w2, v, m)
        if hidden is not None and not np.isnan(np.ravel(hidden.loss)[3 if reduction == "none" else 0]):
            j.fail("nan", f"a NaN score gives a loss of {np.ravel(hidden.loss)[0]:.6g}", (w2, v, m))
    if "mutates" in j.of.seen:
        j.fail("mutation", f"it changed its {j.of.seen['mutates']}")


def _known(right: list[Any]) -> list[Any]:
    return [np.zeros(1) if x is None else x for x in right]


def sizes(j: Judge) -> None:
    """Check batches of 1 to 40 pairs and some larger ones; and single pairs, for their accuracy."""
    few = (*range(1, 9), 16, 33, 129, 1000)  # where every size is compiled
    for n in few if j.of.framework.compiles else (*range(1, 41), 64, 100, 129, 1000):
        i = np.arange(float(n))
        j.see("batch size", (i * 37 % 23 - 11) / 4, (i * 29 % 19 - 9) / 4, (i % 3) / 4 if j.of.margin else None)


def hazards(j: Judge) -> list[str]:
    """Return notes on what is not refused: shapes that meet by accident, and broadcast to N x N."""
    notes, (w, v) = [], np.array([[1.0, 0.5, -1.0], [0.5, 2.0, 0.0]])
    for layout, text, thread in (
        ("scores", "r_w of shape (N, 1) with r_l of shape (N,)", "modelscope/ms-swift#9927"),
        ("margins", "scores of shape (N, 1) with margins of shape (N,)", "huggingface/trl#719"),
    ):
        if layout == "scores" or j.of.margin:
            with contextlib.suppress(Fault):
                mixed, _ = j.of(w, v, np.array([0.0, 1.0, 0.5]), j.dtype, layout)
                plain, _ = j.of(w, v, np.array([0.0, 1.0, 0.5]), j.dtype)
                if mixed.loss.size != plain.loss.size or not np.allclose(mixed.loss, plain.loss):
                    notes.append(f"{text} is not refused, and broadcasts to N x N ({thread})")
    return notes


def accuracy(j: Judge) -> None:
    """Measure single pairs: d from tail to tail and near 0, with scores that round, the margins 0 and 0.3."""
    reach = {"float64": 60.0, "float32": 60.0}.get(j.dtype, 8.0)
    d = np.concatenate([np.linspace(-reach, reach, 241), np.geomspace(1e-6, 1, 40), -np.geomspace(1e-6, 1, 40)])
    v = np.where(np.arange(d.size) % 2, 0.3, 0.0)
    w, v, m = (
        rounded(x.astype(np.float32), j.dtype).astype(np.float64) if j.dtype != "float64" else x
        for x in (d + v, v, np.where(np.arange(d.size) % 3, 0.0, 0.3))
    )
    j.measure(w, v, m if j.of.margin else None)


def _grid(dtype: str) -> Array:
    """Return arguments on a uniform grid of steps below 1/10000 of each of three ranges, and on a logarithmic one."""
    parts = [np.ldexp(np.outer([1.0, -1.0], 1 + np.arange(8) / 8)[..., None], np.arange(-60, 61)).ravel()]
    for span in (4, 40, 1000):
        step = 2.0 ** np.floor(np.log2(span / 1e4))
        parts.append(np.arange(-np.floor(span / step), span / step + 1) * step)
    grid = np.concatenate(parts).astype(np.float64)
    if dtype in ("float16", "bfloat16"):
        grid = rounded(grid[np.abs(grid) < 200], dtype)
    return np.asarray(np.unique(grid.astype(np.float32) if dtype == "float32" else grid).astype(np.float64))


def _lattice(dtype: str, reach: float) -> tuple[Array, Array, Array]:
    """Return pairs and margins that fill the cube evenly (Kronecker's sequence), sorted by d."""
    i, bits = np.arange(1, 2**15 + 1), {"float64": 2.0**20, "float32": 2.0**14}.get(dtype, 8.0)
    x, y, z = (
        np.floor((i * a % 1.0) * bits) / bits for a in (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)
    )
    w, v = (2 * x - 1) * reach, (2 * y - 1) * reach
    order = np.argsort(w - v, kind="stable")
    return w[order], v[order], z[order] * 2


def sweep(j: Judge, every: bool) -> None:
    """Check loss and slope all along d, and with ``every`` along r_w, r_l, s and m, and evenly over the plane.

    Batches hold neighbours, so that no large loss hides a wrong small one.
    """
    low, x = j.dtype in ("float16", "bfloat16"), _grid(j.dtype)
    n, o, scale = 8 if low else 512 if j.dtype == "float64" else 256, 0 * x, 1.0 if low else 0.5
    passes = [(x, o, None), *([] if low else [_lattice(j.dtype, 30.0)])]
    if every:
        inside = x[np.abs(x) <= (1000 if not low else 0)]
        passes += [(o, -x, None), (scale * x, -scale * x, None), (inside + 1, inside, None)]
        passes += [] if low else [_lattice(j.dtype, reach) for reach in (3.0, 300.0)]
    if j.of.margin:
        passes.append((o + 1, o, x))
    for w, v, m in passes:
        m = m if j.of.margin else None
        known = exact(w, v, m, j.convention, j.dtype)
        for part in (slice(k, k + n) for k in range(0, w.size, n)):
            j.see("sweep", w[part], v[part], None if m is None else m[part], known[part])


PARTS = {  # what the vectors of a term publish of the pairwise loss and of the penalty
    "bradley-terry": (("value", "grad_w", "grad_l"), None),
    "objective": (("pairwise", "pairwise_grad_w", "pairwise_grad_l"), ("penalty", "penalty_grad_w", "penalty_grad_l")),
}
OPTIONAL = {
    "infinities": "infinite scores: {} vectors or their gradients are not met, which is optional",
    "widened": "half-precision scores are not widened before they are subtracted: {} vectors, optional",
}


def vectors(j: Judge) -> list[str]:
    """Check against the published numbers; return notes on those that a right implementation may miss.

    What a vector publishes is the pairwise loss, the penalty, or both; the rest of the convention's loss is added. The
    allowance is the published one, or that of `refrm.oracle.truth` where it is larger.
    """
    of, missed = j.convention, Counter[str]()
    for group, test in _applicable(j):
        w, v = (np.asarray(test.inputs[name], np.float64) for name in ("r_w", "r_l"))
        n = w.size
        m = np.broadcast_to(np.asarray(test.inputs.get("margin", 0.0), np.float64), n) if j.of.margin else None
        outcome = j.call("vectors", w, v, m)
        if outcome is None:
            continue
        _, off = expected(w, v, m, of, j.dtype)
        times = 1.0 if of.form.reduction == "mean" else float(n)
        c, published = of.coef * of.form.factor, group.convention.multiplier(n) or 1.0
        scale = of.multiplier(n) / published * (group.convention.coef if group.term == "objective" else 1.0)
        pair_names, penalty_names = PARTS.get(group.term, (None, ("value", "grad_w", "grad_l")))
        numbers, allowed = [], []
        with np.errstate(all="ignore"):
            value, slope, *_ = pairwise(w, v, 0.0 if m is None else m, of.label_smoothing)
            pair = [np.mean(value), slope / n, -slope / n]
            terms = penalty_of(of.form.penalty if c else "none", w, v)
            penalty = [np.mean(c * terms[0]), c * terms[1] / n, c * terms[2] / n] if c else [0.0, 0.0, 0.0]
            for k in range(3):
                total, slack = 0.0, 0.0
                for names, factor, own in ((pair_names, 1.0, pair[k]), (penalty_names, scale, penalty[k])):
                    node = test.expected[names[k]] if names else None
                    total = total + (own if node is None else factor * node.value)
                    slack = slack + (0.0 if node is None else abs(factor) * _allowed(node))
                numbers.append(np.ravel(times * total))
                rounding = UNITS[j.dtype] * np.abs(numbers[-1]) * (c != 0)
                allowed.append(np.fmax(np.ravel(off[k]), np.ravel(times * slack) + rounding))  # type: ignore[arg-type]
        optional = [name for name in group.requires if name in OPTIONAL]
        before = len(j.failures)
        if not j.compare("vectors", (w, v, m), outcome, Outcome(*numbers), Outcome(*allowed)):
            if optional:
                del j.failures[before:]
                missed[optional[0]] += 1
            j.failures[before:] = [replace(f, message=f"vector {test.id}: {f.message}") for f in j.failures[before:]]
    return [OPTIONAL[name].format(count) for name, count in missed.items()]


def _allowed(node: Expected) -> Array:
    """Return the published tolerance, absolute."""
    return np.asarray(node.bound * spacing(node.value, node.dtype) if node.kind == "ulp" else node.bound)


def _applicable(j: Judge) -> Iterator[tuple[Group, Vector]]:
    """Yield the vectors of this dtype, smoothing and penalty, without weights."""
    form, eps = j.convention.form, j.convention.label_smoothing
    known = "sum-to-zero" if form.penalty == "batch-sum" else form.penalty if j.convention.coef else None
    for group, test in (pair for file in load_vectors()[:3] for pair in file):
        fits = group.dtype == j.dtype and group.convention.penalty in (None, known)
        fits &= group.term in (form.penalty, known) or group.convention.label_smoothing == eps
        fits &= "weight" not in test.inputs and (j.of.margin or "margin" not in test.inputs)
        if fits and (form.reduction != "none" or test.inputs["r_w"].size == 1):
            yield group, test
