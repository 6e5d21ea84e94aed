"""J(theta): a loss on the scores of a reward model over a set of pairs, with its first and second derivatives.

The loss gives two numbers per pair, dJ/dr_w and dJ/dr_l; the model gives its reward and a vector-Jacobian product; this
is the chain rule between them. Chosen and rejected share theta: both are rows of one matrix, and their gradients add.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from refrm.checks import check_array, check_features, check_weight
from refrm.errors import InputError
from refrm.linear import Linear
from refrm.losses import BradleyTerry, Loss, check_margin, functions, total
from refrm.spec import Array


class Model(Protocol):
    """What a reward model supplies; see `refrm.Linear` and `refrm.MLP`."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_params(self) -> int: ...
    def init(self, seed: int = 0, dtype: str = "float64") -> Array: ...
    def reward(self, theta: Array, x: Array) -> Array: ...
    def linearize(self, theta: Array, x: Array) -> tuple[Array, Callable[[Array], Array]]: ...
    def vjp(self, theta: Array, x: Array, dr: Array) -> Array: ...
    def jvp(self, theta: Array, x: Array, t: Array) -> Array: ...
    def vjp_tangent(self, theta: Array, x: Array, dr: Array, t: Array, dr_t: Array) -> Array: ...


class Point(NamedTuple):
    """An objective at theta: its value, float64, its gradient, and (in one pass) what pairwise loss and penalty are."""

    theta: Array
    value: float
    grad: Array
    parts: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Objective:
    """J(theta) = loss(r_theta(chosen), r_theta(rejected)), weighted by ``weight``.

    Parameters
    ----------
    model : Linear or MLP
        The reward model.
    loss : Loss
        For example ``BradleyTerry() + 0.01 * SquaredSum()``: mean over pairs, no factor 1/2.
    chosen, rejected : arrays of shape (N, n_features)
        Features, float64 or float32 (integers and float16 become float64), finite, at most 1e100 in size. C-contiguous
        ones are not copied: a memory map stays on disk.
    weight : array of shape (N,), optional
        Weights >= 0; an integer counts as that many copies of the pair.
    backend : {"auto", "numba", "numpy"}
        Which functions compute the loss.
    dtype : dtype, optional
        That of theta and of the MLP's computation; by default that of the features. The scores of the linear model,
        and its gradient, are summed in float64.

    Raises
    ------
    InputError
        For shapes that do not fit, an empty batch, non-finite features, or numbers out of range.
    """

    model: Model
    loss: Loss
    chosen: Array
    rejected: Array
    weight: Any = None
    backend: str = "auto"
    dtype: Any = None

    def __post_init__(self) -> None:
        if not callable(getattr(self.model, "linearize", None)):
            raise InputError(f"model must be a reward model such as Linear(n_features), got {self.model!r}")
        if not isinstance(self.loss, Loss):
            raise InputError(f"loss must be a loss such as BradleyTerry() + 0.01 * SquaredSum(), got {self.loss!r}")
        functions(self.backend)
        chosen, rejected = check_features(self.chosen, self.rejected, self.model.n_features)
        for _, term in self.loss.terms:
            if isinstance(term, BradleyTerry) and term.margin.ndim:
                check_margin(term.margin, len(chosen))
        object.__setattr__(self, "chosen", chosen)
        object.__setattr__(self, "rejected", rejected)
        if self.dtype not in (None, "float64", "float32", np.float64, np.float32):
            raise InputError(f"dtype must be float64 or float32, got {self.dtype!r}")
        object.__setattr__(self, "dtype", np.dtype(chosen.dtype if self.dtype is None else self.dtype))
        if self.weight is not None:
            object.__setattr__(self, "weight", check_weight(self.weight, len(chosen)))

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def share(self) -> Array:
        """The weight of each pair in every mean, shape (N,), adding up to 1."""
        if self.weight is None:
            return np.full(len(self), 1 / len(self))
        share: Array = self.weight / functions(self.backend).total(self.weight)
        return share

    @cached_property
    def relative_weight(self) -> Array:
        """The weights scaled to mean 1, shape (N,)."""
        return np.ones(len(self)) if self.weight is None else self.weight / self.weight.mean()

    @property
    def _share(self) -> Array | None:
        """The same, None for 1/N: what the kernels take, of no size where all pairs weigh the same."""
        return None if self.weight is None else self.share

    @property
    def in_one_pass(self) -> bool:
        """Whether model and loss are those of `refrm.spec.linear_objective`."""
        return type(self.model) is Linear and self.loss.plan is not None

    def check_theta(self, theta: ArrayLike) -> Array:
        """Return theta in the dtype of the computation, or raise `InputError` for another shape."""
        n = self.model.n_params
        return check_array("theta", theta, (n,), f"({n},), the model's parameters").astype(self.dtype, copy=False)

    def take(self, index: Array | slice) -> "Objective":
        """Return the objective over the pairs ``index`` only."""
        weight = None if self.weight is None else self.weight[index]
        loss = self.loss.take(index)
        return Objective(self.model, loss, self.chosen[index], self.rejected[index], weight, self.backend, self.dtype)

    def widen(self) -> "Objective":
        """Return this objective with parameters in float64; the features stay as they are."""
        return self if self.dtype == np.float64 else replace(self, dtype=np.dtype(np.float64))

    def scores(self, theta: ArrayLike, part: slice = slice(None)) -> tuple[Array, Array]:
        """Return r_w and r_l, shape (N,), or those of a part of the pairs."""
        theta = self.check_theta(theta)
        return self.model.reward(theta, self.chosen[part]), self.model.reward(theta, self.rejected[part])

    def value(self, theta: ArrayLike) -> float:
        """Return J(theta), to the bit that of `value_and_grad`."""
        if self.in_one_pass:
            return self.value_and_grad(theta)[0]
        r_w, r_l = self.scores(theta)
        return self.loss._of_shares(r_w, r_l, self._share, functions(self.backend))[0]

    def value_and_grad(self, theta: ArrayLike) -> tuple[float, Array]:
        """Return J(theta), float64, and its gradient, shape (n_params,).

        The linear model takes one pass over the features, and no memory that grows with N.
        """
        point = self.at(theta)
        return point.value, point.grad

    def at(self, theta: ArrayLike) -> Point:
        """Return what `value_and_grad` finds, and what it finds on the way."""
        theta, of = self.check_theta(theta), functions(self.backend)
        if not self.in_one_pass:
            return Point(theta, *self.evaluate(theta)[:2])
        assert self.loss.plan is not None
        margin, smoothing, coef = self.loss.plan
        if margin is not None:
            margin = check_margin(margin, len(self))
        means, grad = of.linear_objective(self.chosen, self.rejected, theta, margin, smoothing, coef, self._share)
        parts = total((coef[0], 0.0, 0.0, 0.0), means), total((0.0, *coef[1:]), means)
        return Point(theta, total(coef, means), grad.astype(self.dtype, copy=False), parts)

    def evaluate(self, theta: ArrayLike) -> tuple[float, Array, Array, Array]:
        """Return J(theta), its gradient, r_w and r_l, from one pass forward and one back."""
        theta = self.check_theta(theta)
        r_w, chosen_vjp = self.model.linearize(theta, self.chosen)
        r_l, rejected_vjp = self.model.linearize(theta, self.rejected)
        value, g_w, g_l = self.loss._of_shares(r_w, r_l, self._share, functions(self.backend))
        return value, chosen_vjp(g_w) + rejected_vjp(g_l), r_w, r_l

    def hvp(self, theta: ArrayLike, t: ArrayLike) -> Array:
        """Return the product of the Hessian of J at theta with ``t``, exact up to rounding (no differences).

        With J_r the Jacobian of the scores: J_r' H J_r t, plus the curvature of the model itself weighted by dJ/dr.
        """
        theta, t = self.check_theta(theta), self.check_theta(t)
        r_w, r_l = self.scores(theta)
        _, g_w, g_l = self.loss._of_shares(r_w, r_l, self._share, functions(self.backend))
        moved = self.model.jvp(theta, self.chosen, t), self.model.jvp(theta, self.rejected, t)
        hessian = self.loss.hessian(r_w, r_l, weight=self.weight, backend=self.backend)
        t_w, t_l = (part.astype(theta.dtype) for part in hessian.dot(*moved))
        w, v = ((theta, self.chosen, g_w, t, t_w), (theta, self.rejected, g_l, t, t_l))
        return self.model.vjp_tangent(*w) + self.model.vjp_tangent(*v)

    def _rows(self, combine: Callable[..., Array]) -> Iterator[tuple[slice, Array]]:
        """Yield parts of the pairs with D (``np.subtract``) or S (``np.add``) of the linear model, float64 (T9)."""
        if not isinstance(self.model, Linear):
            raise InputError(f"hessian is for the linear model, got {type(self.model).__name__}; use hvp")
        rows = max(2 * self.model.n_params, BLOCK // self.model.n_features)
        for at in range(0, len(self), rows):  # a memory map need not fit into memory
            part = slice(at, at + rows)
            x_w, x_l = (self.model.design(x[part]) for x in (self.chosen, self.rejected))
            yield part, combine(x_w, x_l, dtype=np.float64)

    @cached_property
    def _squared_sums(self) -> Array:
        """sum_i share_i s_i s_i', the Hessian of half of mean s^2: it does not depend on theta."""
        return sum_grams(self._rows(np.add), self.share)

    def hessian(self, theta: ArrayLike) -> Array:
        """Return the Hessian of J, shape (n_params, n_params), float64; for the linear model only (T9).

        From the 2x2 blocks in (r_w, r_l) come those in (d, s): D'(q_dd)D + S'(q_ss)S + D'(q_ds)S + S'(q_ds)D.
        """
        h = self.loss.hessian(*self.scores(theta), weight=self.weight, backend=self.backend)
        q_dd, q_ss, q_ds = (h.h_ww - 2 * h.h_wl + h.h_ll) / 4, (h.h_ww + 2 * h.h_wl + h.h_ll) / 4, h.h_ww - h.h_ll
        hessian = sum_grams(self._rows(np.subtract), q_dd)
        if self.loss.plan is None:
            hessian += sum_grams(self._rows(np.add), q_ss)
            for (part, d), (_, s) in zip(self._rows(np.subtract), self._rows(np.add), strict=True):
                cross = d.T @ ((q_ds[part] / 4)[:, None] * s)
                hessian += cross + cross.T
        elif self.loss.plan[2][2]:
            hessian += 2 * self.loss.plan[2][2] * self._squared_sums
        if h.coupling:
            mean = np.sum([h.share[part] @ s for part, s in self._rows(np.add)], axis=0)
            hessian += 2 * h.coupling * np.outer(mean, mean)
        return hessian


BLOCK = 1 << 16
"""Features whose differences or sums are made at a time, to stay in the cache; but two pairs for each parameter."""


def sum_grams(parts: Iterator[tuple[slice, Array]], weight: Array) -> Array:
    """Return the sum of the `gram` of every part of the rows."""
    part, rows = next(parts)
    found = gram(rows, weight[part])
    for part, rows in parts:
        found += gram(rows, weight[part])
    return found


def gram(rows: Array, weight: Array) -> Array:
    """Return sum_i weight_i rows_i rows_i', exactly symmetric; ``weight`` of shape (N,), of either sign."""
    scaled = np.sqrt(np.abs(weight))[:, None] * rows
    negative = weight < 0
    if negative.any():
        return np.asarray(scaled[~negative].T @ scaled[~negative] - scaled[negative].T @ scaled[negative])
    return np.asarray(scaled.T @ scaled)
