"""What comes out of a diagnosis, as plain frozen data; what goes in is in `refrm.diagnosis.data`.

Notation as everywhere: d = r_w - r_l, s = r_w + r_l, and s/2 is the pair's mean score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from refrm.diagnosis.data import Problems, Settings
from refrm.spec import Array


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval. ``how`` says where the interval is from.

    "exact" (no sampling error: a count, a minimum), "asymptotic" (by Student's t and streamed moments), "wilson" (of a
    share), "bootstrap", "theil-sen", "sampled" (of a random sample of the pairs).
    """

    value: float
    low: float
    high: float
    how: str = "asymptotic"


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability curve, over confidence sigma(|d|): mean confidence, and share of d > 0."""

    n: float
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Calibration:
    """How probabilities sigma(d) compare with outcomes.

    Attributes
    ----------
    log_loss, brier : Estimate
        Means of softplus(-d) and of sigma(-d)^2.
    ece : Estimate
        Expected calibration error: sum over 20 bins of confidence of n_b/N |accuracy_b - confidence_b|.
        The interval allows for its bias (``ece_noise``), so it may lie below the figure.
    ece_noise : float
        What ece would be on average if sigma(d) were right: its bias by sampling, which never vanishes.
    gap : Estimate
        Mean confidence minus accuracy: above 0 over-confident, below under-confident.
    factor : Estimate, optional
        The a for which sigma(a*d) fits best; a = 1/temperature. None where no finite one exists (separated pairs).
    saved : float, optional
        The log loss that this factor saves.
    p_value : float
        Of the hypothesis that sigma(d) is right, by the chi-square of the bins.
    curve : tuple of Bin
        The bins that have pairs.
    """

    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    ece_noise: float
    gap: Estimate
    factor: Estimate | None
    saved: float | None
    p_value: float
    curve: tuple[Bin, ...]


@dataclass(frozen=True)
class Precision:
    """What a number format does to the scores (T13), as shares of the pairs.

    ``below``: 0 < |d| < one spacing of the format at the larger score; ``tied``: d != 0 becomes 0 when both scores
    are rounded (rounding is monotone, it never reverses a ranking); ``overflow``: a score becomes infinite.
    """

    below: Estimate
    tied: Estimate
    overflow: float


@dataclass(frozen=True)
class Lengths:
    """Correlations with length: of the margin with the difference, of each side's scores, and what accuracy owes."""

    margin: Estimate
    chosen: Estimate
    rejected: Estimate
    accuracy_longer: Estimate | None
    accuracy_shorter: Estimate | None


@dataclass(frozen=True)
class Histogram:
    """Counts between edges, len(edges) = len(counts) + 1; the outer bins hold what is beyond them, too."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Figures:
    """The figures of all pairs, or of a subset; None is unknown, and `Diagnosis.unknown` says why.

    Attributes
    ----------
    n, nonfinite : int
        Pairs with finite scores, on which all the rest stands, and pairs without.
    mean_score, spread : Estimate
        Mean and standard deviation of s/2: the shift.
    mean_margin, std_margin : Estimate
        Mean and standard deviation of d.
    mean_chosen, mean_rejected : Estimate
    min_score, max_score : float
        Over both sides.
    mean_square_sum : Estimate
        Mean s^2, what the term penalises.
    invisible : Estimate
        mean s^2 / (mean s^2 + mean d^2): the share of the scores' energy in the direction the loss cannot see (T1).
    accuracy : dict
        By the policy for ties d = 0: "wrong", "half", "dropped", "correct".
    ties : Estimate
        Share of d = 0.
    loss : Estimate
        Mean of the pairwise loss as trained: with margins and label smoothing.
    calibration : Calibration
    precision : dict
        By format: "float32", "float16", "bfloat16".
    lengths : Lengths
    margins, scores : Histogram
        Of d, and of s/2, to be drawn.
    """

    n: int = 0
    nonfinite: int = 0
    mean_score: Estimate | None = None
    spread: Estimate | None = None
    mean_margin: Estimate | None = None
    std_margin: Estimate | None = None
    mean_chosen: Estimate | None = None
    mean_rejected: Estimate | None = None
    min_score: float | None = None
    max_score: float | None = None
    mean_square_sum: Estimate | None = None
    invisible: Estimate | None = None
    accuracy: Mapping[str, Estimate] = field(default_factory=dict)
    ties: Estimate | None = None
    loss: Estimate | None = None
    calibration: Calibration | None = None
    precision: Mapping[str, Precision] = field(default_factory=dict)
    lengths: Lengths | None = None
    margins: Histogram | None = None
    scores: Histogram | None = None

    @property
    def yardstick(self) -> float:
        """The root mean square of d, but no less than 1: what a shift is measured by."""
        assert self.mean_margin is not None and self.std_margin is not None
        return max(1.0, math.hypot(self.mean_margin.value, self.std_margin.value))


@dataclass(frozen=True)
class Groups:
    """The shift within prompts and between them.

    ``between`` and ``within`` are variances of s/2 (one-way random effects), ``share`` is between/(between + within);
    of ``n`` prompts ``kept`` were looked at, a random sample where they are fewer.
    """

    n: float
    kept: int
    between: Estimate
    within: Estimate
    share: Estimate


@dataclass(frozen=True)
class Trend:
    """A trend over steps: Theil-Sen slope per 1,000 steps, and Mann-Kendall's p-value, corrected for autocorrelation.

    ``late`` is the same over the second half of the steps; ``change`` is the slope times the range of steps.
    """

    slope: Estimate
    p_value: float
    change: float
    n: int
    late: "Trend | None" = None


@dataclass(frozen=True)
class Bound:
    """A bound of theory and the figure that must respect it; ``holds`` allows for the figure's interval."""

    theorem: str
    what: str
    value: Estimate
    bound: float
    holds: bool


@dataclass(frozen=True)
class Finding:
    """Something to act on (severity "finding") or to know ("note").

    Attributes
    ----------
    id, severity, title : str
    evidence : dict
        Figures by name: `Estimate`, number or string.
    theorems : tuple of str
        As in "T11".
    cure, will_not_fix : str
        What to do, with numbers, and what that leaves as it is.
    subset : str
        Where it was found; empty for all pairs.
    lookalikes : tuple of str
        Names of the mistakes of ``refrm.oracle.MISTAKES`` that would look like this.
    """

    id: str
    severity: str
    title: str
    evidence: Mapping[str, Any]
    theorems: tuple[str, ...]
    cure: str
    will_not_fix: str
    subset: str = ""
    lookalikes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found; see `as_dict` for plain data.

    Attributes
    ----------
    kind : str
        "pairs" or "log".
    name : str
        What was read.
    settings : Settings
    findings : tuple of Finding
        Findings before notes, the likeliest cause first.
    figures : Figures
        Of all pairs; with a time axis, of its end (``window``).
    subsets : dict
        `Figures` by subset.
    n_pairs : int
        Pairs read in all.
    window : tuple of float, optional
        First and last step that ``figures`` stand on.
    groups : Groups, optional
    series : dict of array
        Over the time axis: "step" and means per step, by the names of `data.SERIES`.
    trends : dict
        `Trend` by the name of a series; "mean_score@code" for one subset.
    bounds : tuple of Bound
    subtract : Estimate, optional
        The constant that centres the scores (T11).
    suggested_coef : float, optional
        The coefficient that keeps the root mean square of s/2 below ``settings.target`` (T8).
    exact : tuple of str
        Figures without sampling error.
    unknown : dict
        What the input cannot tell, and why.
    notes : tuple of str
        What was assumed or bounded on the way.
    sample : tuple of two arrays
        Scores of a random sample of the pairs, for pictures; not in `as_dict`.
    problems : Problems
        Lines that could not be read.
    """

    kind: str
    name: str
    settings: Settings
    findings: tuple[Finding, ...]
    figures: Figures
    subsets: Mapping[str, Figures] = field(default_factory=dict)
    n_pairs: int = 0
    window: tuple[float, float] | None = None
    groups: Groups | None = None
    series: Mapping[str, Array] = field(default_factory=dict)
    trends: Mapping[str, Trend] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()
    subtract: Estimate | None = None
    suggested_coef: float | None = None
    exact: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: tuple[Array, Array] = (np.empty(0), np.empty(0))
    problems: Problems = field(default_factory=Problems)

    @property
    def healthy(self) -> bool:
        """Whether there is no finding; notes do not count."""
        return not any(finding.severity == "finding" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = [finding for finding in self.findings if finding.severity == "finding"]
        if not found:
            return "healthy: nothing to act on"
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{found[0].id}: {found[0].title}{more}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, ready for JSON; what is not finite becomes None."""
        about = {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.name != "sample"}
        return {"healthy": self.healthy, "verdict": self.verdict, **about}


def _plain(x: Any) -> Any:
    if is_dataclass(x):
        return {item.name: _plain(getattr(x, item.name)) for item in fields(x)}
    if isinstance(x, Mapping):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, np.ndarray | list | tuple):
        return [_plain(value) for value in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not math.isfinite(x) else x
