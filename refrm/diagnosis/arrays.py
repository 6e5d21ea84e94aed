"""`diagnose`: pairs that are arrays in memory, checked and served in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from refrm.checks import check_array, check_scores
from refrm.diagnosis.data import LARGEST, Chunk, Problems, Settings
from refrm.diagnosis.engine import SUBSETS, diagnose_source
from refrm.diagnosis.model import Diagnosis
from refrm.diagnosis.tally import cut
from refrm.errors import InputError
from refrm.spec import Array

CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A `PairSource` of one chunk of arrays."""

    whole: Chunk
    names: tuple[str, ...] = ()
    name: str = "arrays"
    problems: Problems = field(default_factory=Problems)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the pairs in pieces of 2^20."""
        for at in range(0, len(self.whole.r_w), CHUNK):
            yield cut(self.whole, slice(at, at + CHUNK))


def diagnose(
    r_w: ArrayLike,
    r_l: ArrayLike,
    *,
    margin: ArrayLike | None = None,
    step: ArrayLike | None = None,
    group: ArrayLike | None = None,
    length_w: ArrayLike | None = None,
    length_l: ArrayLike | None = None,
    subset: ArrayLike | None = None,
    coef: float | None = None,
    label_smoothing: float = 0.0,
    start: float | None = None,
    target: float = 1.0,
    converged: bool = False,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose scores: what is shift, what is margin, what is wrong, and what helps.

    Parameters
    ----------
    r_w, r_l : array of shape (N,)
        Scores of the chosen and the rejected responses. Pairs with a NaN or an infinity are counted and left out.
    margin : array of shape (N,) or float, optional
        The margin m that the training subtracted inside the sigmoid.
    step : array of shape (N,), optional
        Training steps, for trends; figures are then those of the end.
    group : array of shape (N,), optional
        What names the prompt: integers or strings.
    length_w, length_l : array of shape (N,), optional
        Lengths of the responses; both or neither.
    subset : array of shape (N,), optional
        Labels, up to 256 different ones; each gets its own figures.
    coef, label_smoothing, start, target, converged, seed
        See `refrm.diagnosis.Settings`; mean s^2 is penalised with ``coef``, without a factor 1/2.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        For arrays of wrong type or shape, or settings out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from refrm.diagnosis import diagnose
    >>> rng = np.random.default_rng(0)
    >>> d = 3 * rng.standard_normal(1000)
    >>> d = np.where(rng.random(1000) < 1 / (1 + np.exp(-d)), d, -d)  # margins whose probabilities are right
    >>> found = diagnose(500 + d / 2, 500 - d / 2)
    >>> [finding.id for finding in found.findings if finding.severity == "finding"]
    ['global-shift', 'precision-loss']
    """
    w, v = check_scores(r_w, r_l)
    n = (len(w),)
    columns: dict[str, Array | None] = {}
    for name, values in (("step", step), ("length_w", length_w), ("length_l", length_l)):
        columns[name] = None if values is None else _double(check_array(name, values, n, f"{n}, that of r_w"))
    if (length_w is None) != (length_l is None):
        raise InputError("length_w and length_l must both be given, or neither")
    if margin is not None:
        m = check_array("margin", np.broadcast_to(margin, n) if np.ndim(margin) == 0 else margin, n, f"() or {n}")
        if not (fine := np.abs(m) <= LARGEST).all():
            raise InputError(f"margin must be finite, and within {LARGEST:g}, got {m[~fine][0]}")
        columns["margin"] = _double(m)
    names: tuple[str, ...] = ()
    if group is not None:
        columns["group"] = _codes("group", group, n)[1]
    if subset is not None:
        labels, columns["subset"] = _codes("subset", subset, n)
        names = tuple(str(label) for label in labels)
        if len(names) > SUBSETS:
            raise InputError(f"subset must have at most {SUBSETS} labels, got {len(names)}: is it a prompt's, a group?")
    whole = Chunk(_double(w), _double(v), **columns)
    return diagnose_source(ArraySource(whole, names), Settings(coef, label_smoothing, start, target, converged, seed))


def _double(x: Array) -> Array:
    return x.astype(np.float64, copy=False)


def _codes(name: str, values: ArrayLike, n: tuple[int]) -> tuple[Array, Array]:
    """Return the distinct labels, and the code of each value."""
    array = np.asarray(values)
    if array.shape != n or array.dtype.kind not in "iubSUO":
        raise InputError(f"{name} must be integers or strings of shape {n}, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "O":
        array = array.astype(str)
    labels, codes = np.unique(array, return_inverse=True)
    return labels, codes.astype(np.int64)
