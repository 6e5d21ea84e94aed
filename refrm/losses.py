"""Loss terms as small frozen objects, validated and composable: ``BradleyTerry() + 0.01 * SquaredSum()``.

Convention: a mean over pairs, no factor 1/2, coefficients >= 0; ``r_w`` are the scores of the chosen responses and
``r_l`` those of the rejected ones. NaN in gives NaN out. Infinite scores follow the limits: the loss of
(+inf, 0) is 0, that of (-inf, 0) is inf with gradient (-1, +1), and where the limit does not exist (+inf, +inf) all
is NaN.
"""

import importlib.util
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from refrm import spec
from refrm.checks import check_array, check_number, check_scores, check_weight
from refrm.errors import InputError
from refrm.spec import Array, Coefficients, Jet


@cache
def functions(backend: str) -> ModuleType:
    """Return the module that computes: `refrm.kernels` for "numba", `refrm.spec` for "numpy".

    "auto" is "numba" where numba is installed and "numpy" elsewhere.
    """
    if backend not in ("auto", "numba", "numpy"):
        raise InputError(f'backend must be "auto", "numba" or "numpy", got {backend!r}')
    if backend == "numpy" or (backend == "auto" and importlib.util.find_spec("numba") is None):
        return spec
    from refrm import kernels

    return kernels


class Hessian(NamedTuple):
    """The Hessian of a loss in the 2N scores (r_w, r_l): 2x2 blocks, and what couples the pairs.

    It is ``blocks + 2*coupling*q*q'`` with ``q = [share, share]``, where share are the normalised weights; only
    `SumToZero` has a coupling. ``h_ww``, ``h_wl``, ``h_ll`` of shape (N,) are already divided by N (or weighted).
    """

    h_ww: Array
    h_wl: Array
    h_ll: Array
    coupling: float
    share: Array

    def dot(self, t_w: Array, t_l: Array) -> tuple[Array, Array]:
        """Return the product with the vector (t_w, t_l), both of shape (N,)."""
        common = 2 * self.coupling * self.share * np.sum(self.share * (t_w + t_l))
        return self.h_ww * t_w + self.h_wl * t_l + common, self.h_wl * t_w + self.h_ll * t_l + common

    def dense(self) -> Array:
        """Return the full matrix, shape (2N, 2N), chosen scores first."""
        q = np.concatenate([self.share, self.share])
        blocks = [[np.diag(self.h_ww), np.diag(self.h_wl)], [np.diag(self.h_wl), np.diag(self.h_ll)]]
        return np.block(blocks) + 2 * self.coupling * np.outer(q, q)


def check_margin(margin: Array, n: int) -> Array:
    """Return the margin in shape (1,) or (N,), N = ``n``, or raise `InputError` for margins of other pairs."""
    if margin.ndim and margin.shape != (n,):
        raise InputError(f"margin must have shape () or ({n},), that of r_w, got {margin.shape}")
    return np.atleast_1d(margin)


def total(coef: Coefficients, means: Coefficients) -> float:
    """Return the loss from the coefficients and the means of `refrm.spec.objective`."""
    (a, b, c, d), (loss, gap, square, mean_s) = coef, means
    return float((a and a * loss) + (b and b * gap) + (c and c * square) + (d and d * mean_s * mean_s))


def _of_weight(jet: Jet, weight: Array) -> Jet:
    """Return the jet with pairs of weight 0 set to 0: they do not count, not even where they are infinite."""
    return jet if weight.all() else Jet(*(np.where(weight > 0, part, 0) for part in jet))


class Loss:
    """A sum of terms with coefficients >= 0; every term is itself a loss, with coefficient 1.

    The three public methods take ``r_w`` and ``r_l`` of shape (N,), optional ``weight`` of shape (N,) (None: ones; an
    integer counts as that many copies of the pair), and ``backend``: "numba" (`refrm.kernels`), "numpy"
    (`refrm.spec`), or "auto", which is numba where it is installed. They raise `InputError` for any other shape, an
    empty batch, or numbers out of range.
    """

    @property
    def terms(self) -> tuple[tuple[float, "Term"], ...]:
        """The pairs (coefficient, term) whose weighted sum this loss is."""
        raise NotImplementedError

    def __add__(self, other: "Loss") -> "Sum":
        return Sum(self.terms + other.terms) if isinstance(other, Loss) else NotImplemented

    def __mul__(self, coef: float) -> "Sum":
        number = check_number("coefficient", coef, 0.0)
        return Sum(tuple((check_number("coefficient", number * c, 0.0), term) for c, term in self.terms))

    __rmul__ = __mul__

    def value(self, r_w: ArrayLike, r_l: ArrayLike, *, weight: ArrayLike | None = None, backend: str = "auto") -> float:
        """Return the loss, a float64 whatever the dtype of the scores."""
        return self.value_and_grad(r_w, r_l, weight=weight, backend=backend)[0]

    def value_and_grad(
        self, r_w: ArrayLike, r_l: ArrayLike, *, weight: ArrayLike | None = None, backend: str = "auto"
    ) -> tuple[float, Array, Array]:
        """Return the loss (float64) and its gradients in r_w and r_l, shape (N,), in the dtype of the scores."""
        w, v = check_scores(r_w, r_l)
        share, of = None, functions(backend)
        if weight is not None:
            weights = check_weight(weight, w.size)
            share = weights / of.total(weights)
        if self.plan is not None and of is not spec:
            return self._of_shares(w, v, share, of)
        with np.errstate(all="ignore"):  # NaN and infinity have documented meanings
            return self._of_shares(w, v, share, of)

    @cached_property
    def penalty(self) -> tuple[float, float, float]:
        """Coefficients (a, b, c) of mean(d^2), mean(s^2) and (mean s)^2 in all penalties together (T4)."""
        a, b, c = sum((coef * np.array(term.quadratic) for coef, term in self.terms), np.zeros(3)).tolist()
        return a, b, c

    @cached_property
    def plan(self) -> tuple[Array | None, float, Coefficients] | None:
        """Margin, smoothing and coefficients of `refrm.spec.objective`; None if a term of another's making is in it."""
        if not all(type(term) in (BradleyTerry, SquaredSum, SumOfSquares, SumToZero) for _, term in self.terms):
            return None
        pairwise = [(coef, term) for coef, term in self.terms if isinstance(term, BradleyTerry)]
        if not pairwise:
            return None, 0.0, (0.0, *self.penalty)
        coef, term = pairwise[0]
        margin = term.margin if term.margin.any() else None
        return (margin, term.label_smoothing, (coef, *self.penalty)) if len(pairwise) == 1 else None

    def _of_shares(self, w: Array, v: Array, share: Array | None, of: ModuleType) -> tuple[float, Array, Array]:
        """Return value and gradients; ``share`` is the weight of each pair in the mean (None: 1/N), and adds up to 1
        over all pairs, though not over those of a minibatch.
        """
        if self.plan is not None:
            margin, smoothing, numbers = self.plan
            if margin is not None:
                margin = check_margin(margin, w.size)
            means, g_w, g_l = of.objective(w, v, margin, smoothing, numbers, share)
            return total(numbers, means), g_w, g_l
        summed, g_w, g_l = 0.0, np.zeros(w.size), np.zeros(w.size)
        for coef, term in self.terms:
            of_term = term._value_and_grad if term.plan is None else term._of_shares
            value, t_w, t_l = of_term(w.astype(np.float64), v.astype(np.float64), share, of)
            if coef:
                summed += coef * value
                g_w += coef * t_w
                g_l += coef * t_l
        return summed, g_w.astype(w.dtype, copy=False), g_l.astype(w.dtype, copy=False)

    def hessian(
        self, r_w: ArrayLike, r_l: ArrayLike, *, weight: ArrayLike | None = None, backend: str = "auto"
    ) -> Hessian:
        """Return the `Hessian` in the scores, float64."""
        w, v = (r.astype(np.float64, copy=False) for r in check_scores(r_w, r_l))
        weights = check_weight(weight, w.size)
        share = weights / weights.sum()
        h_ww, h_wl, h_ll, coupling = np.zeros(w.size), np.zeros(w.size), np.zeros(w.size), 0.0
        with np.errstate(all="ignore"):
            for coef, term in self.terms:
                if isinstance(term, SumToZero):
                    coupling += coef
                elif coef:
                    jet = _of_weight(term._jet(w, v, functions(backend)), share)
                    h_ww += coef * share * jet.h_ww
                    h_wl += coef * share * jet.h_wl
                    h_ll += coef * share * jet.h_ll
        return Hessian(h_ww, h_wl, h_ll, coupling, share)

    def take(self, index: Array | slice) -> "Loss":
        """Return this loss for the pairs ``index`` only: per-pair margins are selected, all else is unchanged."""
        return Sum(tuple((coef, term.take(index)) for coef, term in self.terms))


class Term(Loss):
    """A single term; it gives a `refrm.spec.Jet`, per pair, unless it couples the pairs."""

    quadratic: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    """A penalty is ``a*mean(d^2) + b*mean(s^2) + c*(mean s)^2``, and this is (a, b, c) (T4)."""

    @property
    def terms(self) -> tuple[tuple[float, "Term"], ...]:
        """This term, with coefficient 1."""
        return ((1.0, self),)

    def take(self, index: Array | slice) -> "Term":
        """Return the term unchanged: it holds nothing per pair."""
        return self

    def pairs(self, r_w: ArrayLike, r_l: ArrayLike, *, backend: str = "auto") -> Jet:
        """Return value, gradient and 2x2 Hessian for each pair, before the mean, each of shape (N,)."""
        w, v = check_scores(r_w, r_l)
        with np.errstate(all="ignore"):
            return self._jet(w, v, functions(backend))

    def _jet(self, r_w: Array, r_l: Array, of: Any) -> Jet:
        raise InputError(f"{type(self).__name__} couples the pairs: it has no value per pair")

    def _value_and_grad(self, r_w: Array, r_l: Array, share: Array | None, of: Any) -> tuple[float, Array, Array]:
        q = np.full(r_w.size, 1 / r_w.size) if share is None else share
        jet = _of_weight(self._jet(r_w, r_l, of), q)
        return of.mean(jet.value, q), q * jet.g_w, q * jet.g_l


@dataclass(frozen=True)
class Sum(Loss):
    """A weighted sum of terms, as made by ``+`` and ``*``."""

    terms: tuple[tuple[float, Term], ...] = field(default=())


@dataclass(frozen=True, eq=False)
class BradleyTerry(Term):
    """The pairwise loss ``mean softplus(-(r_w - r_l - margin))``, with optional label smoothing (T2).

    Parameters
    ----------
    margin : float or array of shape (N,)
        Required margin, subtracted inside the sigmoid (not added, not outside).
    label_smoothing : float
        Probability in [0, 1/2) that a label is flipped; the loss is
        ``(1 - eps)*softplus(-z) + eps*softplus(z)`` with z = d - margin, and is then smallest at z = log((1-eps)/eps)
        (T14).

    Raises
    ------
    InputError
        For a margin of another shape or not finite, or a label smoothing outside [0, 1/2).

    Examples
    --------
    >>> round(BradleyTerry().value([2.0], [2.0]), 4)
    0.6931
    >>> loss = BradleyTerry(margin=1.0) + 0.01 * SquaredSum()
    >>> round(loss.value([500.0], [498.0]), 2)
    9960.35
    """

    margin: Any = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", check_number("label_smoothing", self.label_smoothing, 0.0, 0.5))
        shape = (None,) * min(np.ndim(self.margin), 1)
        margin = check_array("margin", self.margin, shape, "() or (N,)").astype(np.float64)
        if not np.isfinite(margin).all():
            raise InputError(f"margin must be finite, got {margin[~np.isfinite(margin)][0]}")
        object.__setattr__(self, "margin", margin)

    def take(self, index: Array | slice) -> "BradleyTerry":
        """Return the term for the pairs ``index`` only."""
        return BradleyTerry(self.margin[index], self.label_smoothing) if self.margin.ndim else self

    def _jet(self, r_w: Array, r_l: Array, of: Any) -> Jet:
        margin = check_margin(self.margin, r_w.size)
        jet: Jet = of.bradley_terry(r_w, r_l, margin, self.label_smoothing)
        return jet


@dataclass(frozen=True)
class SquaredSum(Term):
    """The penalty ``mean (r_w + r_l)^2``, no factor 1/2 (arXiv 2312.09244, Eq. 2; TRL's
    ``center_rewards_coefficient``).

    It stops the drift of scores (T7, T8) and puts no force on the margin (T3).
    """

    quadratic: ClassVar[tuple[float, float, float]] = (0.0, 1.0, 0.0)

    def _jet(self, r_w: Array, r_l: Array, of: Any) -> Jet:
        jet: Jet = of.squared_sum(r_w, r_l)
        return jet


@dataclass(frozen=True)
class SumOfSquares(Term):
    """The penalty ``mean (r_w^2 + r_l^2)``; it pulls on the margin as well (T4), so it is not a centring term.

    Parameters
    ----------
    factor : {"sum", "mean"}
        "sum": E r_w^2 + E r_l^2 (gpt-neox, PaddleNLP, xtuner "L2"). "mean": the mean over all 2N scores, half of
        it (align-anything, Open-Assistant).
    """

    factor: str = "sum"

    def __post_init__(self) -> None:
        if self.factor not in ("sum", "mean"):
            raise InputError(f'factor must be "sum" or "mean", got {self.factor!r}')

    @property
    def terms(self) -> tuple[tuple[float, Term], ...]:
        """The sum form, with the factor as coefficient."""
        return ((1.0 if self.factor == "sum" else 0.5, SumOfSquares()),)

    quadratic: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.0)

    def _jet(self, r_w: Array, r_l: Array, of: Any) -> Jet:
        jet: Jet = of.sum_of_squares(r_w, r_l)
        return jet if self.factor == "sum" else Jet(*(0.5 * part for part in jet))


@dataclass(frozen=True)
class SumToZero(Term):
    """The batch-wise sum-to-zero penalty ``(mean s)^2``, s = r_w + r_l, of arXiv 2505.07271 (T12).

    The paper's code has ``lambda*B*(mean of the 2B scores)^2``, which is this with coefficient ``lambda*B/4``. It
    sees the mean of the batch only: at B = 1 it is `SquaredSum`, at B = N it leaves every spread of s alone.
    """

    quadratic: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 1.0)
