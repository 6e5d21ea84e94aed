"""One implementation on trial: it is called, its outcomes are compared, and what is wrong is kept."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refrm.oracle.adapters import Fault, Implementation
from refrm.oracle.forms import Outcome
from refrm.oracle.truth import TINY, Convention, Exact, close, exact, reduced, ulps
from refrm.spec import Array

QUANTITIES = ("value", "grad_w", "grad_l")
ENOUGH = 8  # failures of one law


class Batch(NamedTuple):
    """Scores and margins of N pairs: float64 copies of numbers that are exact in the dtype on trial."""

    w: Array
    v: Array
    m: Array | None = None

    def of(self, index: Any) -> "Batch":
        """Return some of the pairs."""
        return Batch(self.w[index], self.v[index], None if self.m is None else self.m[index])


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong: the law it breaks, the inputs, what was found, what is right, and the allowance."""

    law: str
    message: str
    dtype: str = ""
    r_w: tuple[float, ...] = ()
    r_l: tuple[float, ...] = ()
    margin: tuple[float, ...] | None = None
    quantity: str = ""
    found: float | None = None
    right: float | None = None
    allowed: float | None = None

    @property
    def size(self) -> tuple[int, float]:
        """What failures are ordered by: the number of pairs, then how many digits and how large their numbers are."""
        numbers = np.array([x for x in (*self.r_w, *self.r_l, *(self.margin or ())) if np.isfinite(x)])
        digits = sum(len(f"{abs(x):.17g}") for x in numbers)
        return len(self.r_w) or 10**9, digits + float(np.sum(np.log2(np.abs(numbers) + 1)))


class Stop(Exception):
    """Nothing more is to be learned: the implementation hangs, or raises whatever it is given."""


class Trial:
    """Calls an implementation, and keeps its failures, the number of checks of each law, and its worst accuracy.

    Parameters
    ----------
    of : Implementation
        What is on trial.
    convention : Convention
        By which it is judged.
    dtype : str
        Of its inputs.
    """

    def __init__(self, of: Implementation, convention: Convention, dtype: str) -> None:
        self.of, self.convention, self.dtype = of, convention, dtype
        self.failures: list[Failure] = []
        self.checks: Counter[str] = Counter()
        self.worst: dict[str, tuple[float, tuple[float, float, float]]] = {}

    def kept(self, law: str) -> int:
        """Return the number of failures of a law."""
        return sum(failure.law == law for failure in self.failures)

    def fail(self, law: str, message: str, batch: Batch | None = None, **about: Any) -> None:
        """Keep a failure."""
        if batch is not None:
            about |= {"r_w": tuple(batch.w.tolist()), "r_l": tuple(batch.v.tolist())}
            about |= {"margin": None if batch.m is None else tuple(batch.m.tolist())}
        self.failures.append(Failure(law, message, self.dtype, **about))

    def call(self, law: str, batch: Batch, layout: str = "plain", refusable: bool = False) -> Outcome | None:
        """Return the outcome; None, and a failure, if there is none. Another layout than plain may be refused."""
        self.checks[law] += 1
        n = batch.w.size
        right = ((n,),) if self.convention.form.reduction == "none" else ((), (1,))
        try:
            outcome, _ = self.of(*batch, dtype=self.dtype, layout=layout)
            if outcome.loss.shape not in right:
                raise Fault("shape", f"returned a loss of shape {outcome.loss.shape}; expected {right[0]}")
        except Fault as fault:
            if (layout != "plain" or refusable) and fault.kind == "raises":
                return None
            kept = layout if layout != "plain" else "shape" if fault.kind == "shape" else "call"
            self.fail(kept, f"it {fault}", batch)
            if fault.kind == "hangs" or self.kept(kept) >= ENOUGH:
                raise Stop from None
            return None
        return outcome

    def compare(
        self, law: str, batch: Batch, found: Outcome, right: Outcome, off: Outcome, *, keep: bool = True, note: str = ""
    ) -> bool:
        """Return whether an outcome is right; keep its worst element as a failure if it is not."""
        fine, n = True, batch.w.size
        for name, one, other, allowed in zip(QUANTITIES, found, right, off, strict=True):
            if one is None or other is None:
                continue
            a, b, c = (np.ravel(np.asarray(x, np.float64)) for x in (one, other, allowed))
            with np.errstate(all="ignore"):
                if (np.abs(a - b) <= c).all():
                    continue
                c = np.nan_to_num(c, posinf=np.inf)
                ok = close(a, b, c, self.dtype)
                if ok.all():
                    continue
                fine = False
                i = int(np.argmax(np.where(ok, -1.0, np.nan_to_num(np.abs(a - b), nan=np.inf) / (c + 5e-324))))
            if keep:
                alone = a.size == n and self.convention.form.reduction == "none"
                pair = f" of pair {i}" if a.size == n > 1 and not alone else ""
                numbers = {"found": float(a[i]), "right": float(b[i]), "allowed": float(np.broadcast_to(c, a.shape)[i])}
                text = f"{note}{name}{pair} is {a[i]:.17g}, not {b[i]:.17g}"
                self.fail(law, text, batch.of(slice(i, i + 1)) if alone else batch, quantity=name, **numbers)
        return fine

    def see(self, law: str, batch: Batch, known: Exact | None = None) -> bool:
        """Return whether the implementation is right for a batch; if not, keep its smallest part that is wrong."""
        if self.kept(law) >= ENOUGH:
            return False
        outcome = self.call(law, batch)
        if outcome is None:
            return False
        known = known or exact(*batch, self.convention, self.dtype)
        right, off = reduced(known, batch.w, batch.v, self.convention, self.dtype)
        n = batch.w.size
        if self.compare(law, batch, outcome, right, off, keep=n == 1):
            return True
        if n > 1 and all(self.see(law, batch.of(half)) for half in (slice(0, n // 2), slice(n // 2, n))):
            self.compare(law, batch, outcome, right, off)  # wrong together, its halves right
        return False

    def measure(self, batch: Batch) -> None:
        """Check pairs one by one, and keep the largest errors: of a gradient, in ulp of its larger term."""
        known = exact(*batch, self.convention, self.dtype)
        for i in range(batch.w.size):
            if self.kept("batch size") >= ENOUGH:
                return
            pair = batch.of(slice(i, i + 1))
            outcome = self.call("batch size", pair)
            right, off = reduced(known.of(slice(i, i + 1)), pair.w, pair.v, self.convention, self.dtype)
            if outcome is None or not self.compare("batch size", pair, outcome, right, off):
                continue
            for name, a, b in zip(QUANTITIES, outcome, right, strict=True):
                if a is None or b is None or not abs(b.item()) >= 2 * TINY[self.dtype]:
                    continue
                of = b if name == "value" else np.maximum(np.abs(b), known.slope[i])
                error = ulps(a.item(), b.item(), of, self.dtype).item()
                if error > self.worst.get(name, (-1.0,))[0]:
                    at = pair.w.item(), pair.v.item(), 0.0 if pair.m is None else pair.m.item()
                    self.worst[name] = error, at
