"""What goes into a diagnosis: a `PairSource` of `Chunk`s (scores, pair by pair) or a `Log` of means, and `Settings`.

Notation as everywhere: d = r_w - r_l, s = r_w + r_l, and s/2 is the pair's mean score.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from refrm.checks import check_flag, check_integer, check_number
from refrm.spec import Array

SERIES = (
    *("loss", "penalty", "mean_score", "spread", "min_score", "max_score", "mean_chosen", "mean_rejected"),
    *("mean_margin", "std_margin", "accuracy", "mean_square_sum", "grad_norm"),
)
"""The names of a log's series; "heldout_" before a name says that it was taken on pairs not trained on."""

LARGEST = 1e60
"""The largest number that counts as finite: fourth powers, and sums of them, stay finite."""


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
    """What the caller knows or wants; `InputError` names what is out of range.

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

    def __post_init__(self) -> None:
        for name in ("coef", "start"):
            if getattr(self, name) is not None:
                self._set(name, check_number(name, getattr(self, name), 0.0))
        self._set("label_smoothing", check_number("label_smoothing", self.label_smoothing, 0.0, 0.5))
        self._set("target", check_number("target", self.target, 0.0, open_low=True))
        self._set("converged", check_flag("converged", self.converged))
        self._set("seed", check_integer("seed", self.seed, 0))

    def _set(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)  # the class is frozen
