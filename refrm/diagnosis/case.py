"""What a rule sees, and how findings are put in order."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from refrm.diagnosis.bounds import largest_pull
from refrm.diagnosis.data import Settings
from refrm.diagnosis.model import Bound, Estimate, Figures, Finding, Groups, Trend
from refrm.diagnosis.suspicions import Grid
from refrm.diagnosis.tally import Tally
from refrm.spec import Array

ORDER = (
    *("non-finite", "constant-head", "padding-or-wrong-token", "swapped-columns", "duplicated-pairs", "tied-pairs"),
    *("rounded-scores", "impossible-loss", "bound-violated", "coefficient-mismatch", "drift"),
    *("per-prompt-shift", "global-shift", "separable-margin-growth", "miscalibrated", "precision-loss", "length-bias"),
)
"""Every finding, the one that explains others first."""

EXPLAINS: Mapping[str, frozenset[str]] = {
    "constant-head": frozenset(ORDER) - {"non-finite", "constant-head", "impossible-loss"},
    "swapped-columns": frozenset({"miscalibrated", "coefficient-mismatch", "bound-violated", "impossible-loss"}),
    "padding-or-wrong-token": frozenset(
        {
            "swapped-columns",
            "global-shift",
            "per-prompt-shift",
            "precision-loss",
            "length-bias",
            "miscalibrated",
            "bound-violated",
        }
    ),
}
"""What a finding makes a mere note of, where it stands for the same pairs."""


@dataclass(frozen=True)
class Case:
    """A set of pairs: figures at 95% to show, and at the level of decisions, which allows for all rules and subsets."""

    name: str
    tally: Tally
    shown: Figures
    strict: Figures
    settings: Settings
    grid: Grid | None
    level: float
    groups: Groups | None = None
    series: Mapping[str, Array] = field(default_factory=dict)
    trends: Mapping[str, Trend] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()

    @property
    def yardstick(self) -> float:
        """That of the figures shown."""
        return self.shown.yardstick

    @property
    def margin(self) -> float:
        """The mean margin m that the loss subtracted."""
        return float(self.tally.margins[1] / self.tally.margins[0]) if self.tally.margins[0] else 0.0

    @property
    def suggested_coef(self) -> float:
        """The coefficient that holds the root mean square of s/2 below the target (T8)."""
        return suggested(self.settings, self.margin)


@dataclass(frozen=True)
class LogCase:
    """One side of a log, trained or held-out: its series, and the means at their end at 95% and to decide by."""

    name: str
    series: Mapping[str, Array]
    shown: Mapping[str, Estimate]
    strict: Mapping[str, Estimate]
    trends: Mapping[str, Trend]
    nonfinite: Mapping[str, int]
    settings: Settings
    level: float
    bounds: tuple[Bound, ...] = ()

    @property
    def yardstick(self) -> float:
        """The size of margins, at least 1: the root mean square of d where the log has its deviation, else twice the
        mean margin, which it does not exceed unless margins are below 1 or contradict their probabilities.
        """
        margin = self.shown.get("mean_margin")
        deviation = self.shown.get("std_margin")
        if margin is None:
            return 1.0
        return max(1.0, math.hypot(margin.value, deviation.value) if deviation else 2 * abs(margin.value))


def suggested(settings: Settings, margin: float = 0.0) -> float:
    """Return the coefficient with largest pull/(2*coef) = mean s^2 = 4*target^2 (T8)."""
    return _pull(margin, settings.label_smoothing) / (8 * settings.target**2)


@lru_cache(maxsize=64)
def _pull(margin: float, eps: float) -> float:
    return float(largest_pull(np.array(margin), eps))


def term(settings: Settings, margin: float = 0.0) -> str:
    """Return what to do about a shift in training (T8); a coefficient that is large enough has to act, first of all."""
    least, coef = suggested(settings, margin), settings.coef
    if coef and coef >= least:
        return (
            f"see that the coefficient {coef:g} reaches the loss (`refrm check`), or train longer: at rest it keeps the"
            f" root mean square of s/2 below {settings.target * (least / coef) ** 0.5:.2g} (T8)"
        )
    return (
        f"train with {least:.2g}*mean (r_w + r_l)^2, which keeps the root mean square of s/2 below {settings.target:g}"
        " at rest (T8)"
    )


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings before notes, those that explain others first; what is explained becomes a note."""
    found = list(findings)
    severe = [f for f in found if f.severity == "finding"]
    for i, one in enumerate(found):
        by = [f.id for f in severe if one.id in EXPLAINS.get(f.id, ()) and f.subset in ("", one.subset)]
        if one.severity == "finding" and by:
            found[i] = replace(one, severity="note", evidence={**one.evidence, "explained_by": by[0]})
    return tuple(sorted(found, key=lambda f: (f.severity != "finding", ORDER.index(f.id), f.subset != "")))


def outside(estimate: Estimate, low: float, high: float) -> bool:
    """Return whether the whole interval lies below ``low`` or above ``high``."""
    return estimate.high < low or estimate.low > high
