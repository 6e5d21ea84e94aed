"""A live diagnosis: a `Monitor` is fed with scores while a model trains, and warns when they go astray.

Looks are taken when the number of reports has grown by a quarter, not at each of them: each look is another chance of
a false alarm. What is found must be there at two looks in a row, for a mean score wanders a little.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refrm.checks import check_integer, check_scores
from refrm.diagnosis.aggregates import diagnose_log
from refrm.diagnosis.arrays import diagnose
from refrm.diagnosis.data import Log, Problems, Settings
from refrm.diagnosis.logs import log_of
from refrm.diagnosis.model import Diagnosis
from refrm.errors import InputError
from refrm.spec import Array, softplus

Record = dict[str, float]

FIRST, GROWTH = 20, 1.25
"""Reports before the first look, and between looks."""

WATCHED = frozenset(
    {"non-finite", "drift", "global-shift", "per-prompt-shift", "separable-margin-growth", "padding-or-wrong-token"}
)
"""Findings that a warning is given of; others may mend themselves while the model trains."""


class ScoreWarning(UserWarning):
    """Scores go astray in training; the message says how, and what helps."""


@dataclass
class Window:
    """Sums over pairs, mergeable: of s/2 and d their means and sums of squared deviations, and of the rest plain sums.

    ``n`` counts the pairs with finite scores, on which all but ``nonfinite`` stands.
    """

    n: float = 0.0
    nonfinite: float = 0.0
    shift: float = 0.0
    margin: float = 0.0
    shift_squares: float = 0.0
    margin_squares: float = 0.0
    right: float = 0.0
    loss: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, r_w: Array, r_l: Array) -> "Window":
        """Return the sums over some pairs."""
        finite = np.isfinite(r_w) & np.isfinite(r_l)
        bad = float(len(r_w) - np.count_nonzero(finite))
        r_w, r_l = r_w[finite], r_l[finite]
        if not len(r_w):
            return cls(nonfinite=bad)
        half, d = r_w / 2 + r_l / 2, r_w - r_l
        shift, margin = float(half.mean()), float(d.mean())
        return cls(
            float(len(d)),
            bad,
            shift,
            margin,
            float(np.sum((half - shift) ** 2)),
            float(np.sum((d - margin) ** 2)),
            float(np.sum((d > 0) + 0.5 * (d == 0))),
            float(np.sum(softplus(-d))),
            float(min(r_w.min(), r_l.min())),
            float(max(r_w.max(), r_l.max())),
        )

    def merged(self, other: "Window") -> "Window":
        """Return the sums over the pairs of both."""
        n = self.n + other.n
        bad = self.nonfinite + other.nonfinite
        if not (self.n and other.n):
            one = self if self.n else other
            return Window(n, bad, *one.vector()[2:])
        by, to = other.n / n, self.n * other.n / n
        h, d = other.shift - self.shift, other.margin - self.margin
        return Window(
            n,
            bad,
            self.shift + h * by,
            self.margin + d * by,
            self.shift_squares + other.shift_squares + h * h * to,
            self.margin_squares + other.margin_squares + d * d * to,
            self.right + other.right,
            self.loss + other.loss,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    def vector(self) -> list[float]:
        """Return the sums as numbers that another process can take up: ``Window(*numbers)``."""
        return list(vars(self).values())

    def record(self) -> Record:
        """Return the figures, by the names of a log's series."""
        found: Record = {"nonfinite": self.nonfinite} if self.nonfinite else {}
        if not self.n:
            return found
        spread, deviation = self.shift_squares / self.n, self.margin_squares / self.n
        s2, d2 = 4 * (self.shift**2 + spread), self.margin**2 + deviation
        return found | {
            "loss": self.loss / self.n,
            "mean_score": self.shift,
            "spread": math.sqrt(spread),
            "min_score": self.low,
            "max_score": self.high,
            "mean_margin": self.margin,
            "std_margin": math.sqrt(deviation),
            "accuracy": self.right / self.n,
            "mean_square_sum": s2,
            "invisible_share": s2 / (s2 + d2) if s2 + d2 else 0.0,
        }


class Monitor:
    """Watches the scores of a training.

    Feed it with batches (`add`) and ask for figures now and then (`report`), or give it as the ``callback`` of
    `refrm.minimize` and of the estimators' ``fit``. It warns (`ScoreWarning`), once for each kind of finding.

    Parameters
    ----------
    coef, label_smoothing, target
        See `refrm.diagnosis.Settings`.
    keep : int
        The most pairs that are kept for `diagnosis`, the last ones: 24 bytes each.

    Attributes
    ----------
    history : list of dict
        All reports: "step", and figures by the names of a log's series, those of held-out pairs with "heldout_".

    Examples
    --------
    >>> import numpy as np
    >>> from refrm.diagnosis.callback import Monitor
    >>> monitor, rng = Monitor(), np.random.default_rng(0)
    >>> for step in range(3):
    ...     r = rng.standard_normal((2, 64))
    ...     monitor.add(5 + r[0], 5 + r[1], step)
    >>> found = monitor.report()
    >>> round(found["mean_score"], 1), round(found["invisible_share"], 2)
    (5.0, 0.98)
    """

    def __init__(
        self, *, coef: float | None = None, label_smoothing: float = 0.0, target: float = 1.0, keep: int = 1 << 20
    ) -> None:
        self.settings = Settings(coef, label_smoothing, target=target)
        self.keep = check_integer("keep", keep, 0)
        self.history: list[Record] = []
        self._windows = {False: Window(), True: Window()}
        self._kept: list[tuple[Array, Array, float]] = []
        self._count = 0
        self._step = 0.0
        self._next = FIRST
        self._seen: set[str] = set()
        self._told: set[str] = set()

    def add(self, r_w: Any, r_l: Any, step: float | None = None, *, heldout: bool = False) -> None:
        """Take up a batch.

        Parameters
        ----------
        r_w, r_l : array or tensor of shape (N,)
            Scores of the chosen and the rejected responses, of any float type, on any device.
        step : float, optional
            Of the training; by default, batches are counted.
        heldout : bool
            Whether these are pairs that are not trained on.

        Raises
        ------
        InputError
            For scores of other shapes, or a step that is not finite.
        """
        w, v = check_scores(*(_array(scores) for scores in (r_w, r_l)))
        w, v = w.astype(np.float64), v.astype(np.float64)
        if not heldout or step is not None:
            self._step = _number("step", self._step + 1 if step is None else step)
        self._windows[heldout] = self._windows[heldout].merged(Window.of(w, v))
        if not heldout:
            self._kept.append((w, v, self._step))
            self._count += len(w)
            while self._count > self.keep:
                self._count -= len(self._kept.pop(0)[0])

    def take(self, *, heldout: bool = False) -> Window:
        """Return the sums since the last report, and begin anew."""
        window, self._windows[heldout] = self._windows[heldout], Window()
        return window

    def report(self, step: float | None = None, *, heldout: bool = False, window: Window | None = None) -> Record:
        """Return the figures of the pairs since the last report; empty if there are none.

        Parameters
        ----------
        step : float, optional
            By default that of the last batch.
        heldout : bool
            Whether to report on held-out pairs.
        window : Window, optional
            Sums to report on instead, such as those of several processes.

        Warns
        -----
        ScoreWarning
            When a look at the reports so far finds something new.
        """
        record = (self.take(heldout=heldout) if window is None else window).record()
        if record:
            at = _number("step", self._step if step is None else step)
            self._record({"step": at} | {("heldout_" if heldout else "") + key: x for key, x in record.items()})
        return record

    def __call__(self, record: Mapping[str, float]) -> None:
        """Take up a record of `refrm.minimize`, as its callback."""
        self._record(dict(record))

    def log(self) -> Log:
        """Return the reports as a `Log`."""
        counts = {prefix: sum(one.get(f"{prefix}nonfinite", 0.0) for one in self.history) for prefix in _PREFIXES}
        log = log_of("monitor", self.history, Problems(), "refrm")
        bad = {f"{prefix}mean_score": int(count) for prefix, count in counts.items() if count}
        return Log(log.name, log.step, log.series, {**log.nonfinite, **bad}, log.framework)

    def diagnosis(self) -> Diagnosis:
        """Return a diagnosis of the pairs that are kept, or of the reports where there are none."""
        if not self._kept and not self.history:
            raise InputError("the monitor has seen no scores yet")
        if not self._kept:
            return diagnose_log(self.log(), self.settings)
        r_w, r_l = (np.concatenate([batch[k] for batch in self._kept]) for k in (0, 1))
        step = np.repeat([batch[2] for batch in self._kept], [len(batch[0]) for batch in self._kept])
        about = self.settings
        return diagnose(
            r_w, r_l, step=step, coef=about.coef, label_smoothing=about.label_smoothing, target=about.target
        )

    def _record(self, record: Record) -> None:
        self.history.append(record)
        bad = any(record.get(f"{prefix}nonfinite") for prefix in _PREFIXES) and "non-finite" not in self._told
        if len(self.history) < self._next and not bad:
            return
        self._next = max(self._next, math.ceil(len(self.history) * GROWTH))
        before, self._seen = self._seen, set()
        for finding in diagnose_log(self.log(), self.settings).findings:
            if finding.severity != "finding" or finding.id not in WATCHED:
                continue
            self._seen.add(finding.id)
            if finding.id in before | {"non-finite"} and finding.id not in self._told:
                self._told.add(finding.id)
                where = f" on {finding.subset} pairs" if finding.subset else ""
                text = f"step {record['step']:g}: {finding.id}{where}: {finding.title}. What helps: {finding.cure}"
                warnings.warn(text, ScoreWarning, stacklevel=3)


_PREFIXES = ("", "heldout_")


def _array(scores: Any) -> Any:
    """Return a tensor as an array; NumPy has no bfloat16, and knows no other device."""
    return scores.detach().float().cpu().numpy() if hasattr(scores, "detach") else scores


def _number(name: str, x: float) -> float:
    if not math.isfinite(x):
        raise InputError(f"{name} must be finite, got {x!r}")
    return float(x)
