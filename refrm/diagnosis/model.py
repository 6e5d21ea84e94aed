"""What goes into a diagnosis and what comes out, as plain frozen data.

In: a `PairSource` of `Chunk`s (scores, pair by pair) or a `Log` (a training log's aggregates), and `Settings`.
Out: a `Diagnosis`. Notation as everywhere: d = r_w - r_l, s = r_w + r_l, and s/2 is the pair's mean score.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from refrm.spec import Array

SERIES = (
    *("loss", "penalty", "mean_score", "spread", "min_score", "max_score", "mean_chosen", "mean_rejected"),
    *("mean_margin", "std_margin", "accuracy", "mean_square_sum", "grad_norm"),
)
"""The names of a log's series; "heldout_" before a name says that it was taken on pairs not trained on."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some pairs, in the order of the file. Each array has shape (N,); None where the input does not have it.

    Attributes
    ----------
    r_w, r_l : float64 array
        Scores of the chosen and the rejected response. NaN and infinities that the input holds stay; a score that
        is missing (null, empty) is no NaN: the reader leaves the pair out and counts it as a problem.
    margin : float64 array, optional
        The margin m that the loss subtracts inside the sigmoid. (Not d, which files sometimes call margin.)
    step : float64 array, optional
        Training step; the time axis.
    group : int64 or uint64 array, optional
        A code for the prompt: equal for equal prompts, in all chunks. A 64-bit hash of a string will do.
    length_w, length_l : float64 array, optional
        Lengths of the responses, in any one unit.
    subset : integer array, optional
        Codes into ``PairSource.names``.
    """

    r_w: Array
    r_l: Array
    margin: Array | None = None
    step: Array | None = None
    group: Array | None = None
    length_w: Array | None = None
    length_l: Array | None = None
    subset: Array | None = None


@dataclass(frozen=True)
class Problem:
    """A line that could not be read as a pair: where it is and what was expected there."""

    file: str
    line: int
    expected: str


@dataclass(frozen=True)
class Problems:
    """All lines that could not be read: how many, and the first few of them."""

    count: int = 0
    shown: tuple[Problem, ...] = ()


class PairSource(Protocol):
    """Pairs that can be read once or more often, chunk by chunk."""

    @property
    def name(self) -> str:
        """What is read, for the reader of a report."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of ``Chunk.subset``; empty without subsets. Complete once the chunks were read."""
        ...

    @property
    def problems(self) -> Problems:
        """What could not be read. Complete once the chunks were read."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Yield all pairs. May be called again, and gives the same chunks then."""
        ...


@dataclass(frozen=True, eq=False)
class Log:
    """The aggregates that a training log holds.

    Attributes
    ----------
    name : str
        What was read.
    step : float64 array of shape (T,)
        Training steps, increasing.
    series : mapping of str to float64 array of shape (T,)
        By the names of `SERIES`, NaN where a step does not have it; absent where the log never has it. Averages of
        the pairs that the log's framework averages over. ``penalty`` is already multiplied by its coefficient, and
        ``loss`` includes it where the framework's does. The reader derives nothing: no margin from two means.
    nonfinite : mapping of str to int
        How often the log holds a NaN or an infinity under a name; the array has NaN there.
    framework : str
        Whose format it is, as in "trl".
    problems : Problems
        Lines that could not be read.
    """

    name: str
    step: Array
    series: Mapping[str, Array]
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    framework: str = ""
    problems: Problems = Problems()


@dataclass(frozen=True)
class Settings:
    """What the caller knows or wants.

    Attributes
    ----------
    coef : float, optional
        lambda, the coefficient of mean (r_w + r_l)^2 that the training was to have; enables the bounds T7 and T8.
    label_smoothing : float
        eps of the training, in [0, 1/2).
    start : float, optional
        J0, the objective where training began, for T7; by default that of scores which are all zero.
    target : float
        The root mean square of s/2, in score units, that a suggested coefficient is to guarantee.
    converged : bool
        The pairs are those trained on, all of them, at rest, by a head without weight decay: then T8's identity must
        hold, and its failure is a finding.
    seed : int
        Of the samples and of the bootstrap.
    """

    coef: float | None = None
    label_smoothing: float = 0.0
    start: float | None = None
    target: float = 1.0
    converged: bool = False
    seed: int = 0


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
        Names of the mistakes of `refrm.oracle.MISTAKES` that would look like this.
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
        Over the time axis: "step" and means per step, by the names of `SERIES`.
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
    problems: Problems = Problems()

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
