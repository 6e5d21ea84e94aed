"""J(theta): a loss on the scores of a reward model over a set of pairs, with its first and second derivatives.

The loss gives two numbers per pair, dJ/dr_w and dJ/dr_l; the model gives its reward and a vector-Jacobian product; this
is the chain rule between them. Chosen and rejected share theta: both are rows of one matrix, and their gradients add.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from refrm.checks import check_array, check_features, check_weight
from refrm.errors import InputError
from refrm.linear import Linear
from refrm.losses import Loss
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
        Features, float64 or float32 (integers and float16 become float64), finite, at most 1e100 in size. Their dtype
        is that of the computation.
    weight : array of shape (N,), optional
        Weights >= 0; an integer counts as that many copies of the pair.
    backend : {"auto", "numba", "numpy"}
        Which functions compute the loss.

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
    _both: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(getattr(self.model, "linearize", None)):
            raise InputError(f"model must be a reward model such as Linear(n_features), got {self.model!r}")
        if not isinstance(self.loss, Loss):
            raise InputError(f"loss must be a loss such as BradleyTerry() + 0.01 * SquaredSum(), got {self.loss!r}")
        chosen, rejected = check_features(self.chosen, self.rejected, self.model.n_features)
        both = np.concatenate([chosen, rejected])
        object.__setattr__(self, "_both", both)
        object.__setattr__(self, "chosen", both[: len(chosen)])
        object.__setattr__(self, "rejected", both[len(chosen) :])
        object.__setattr__(self, "weight", check_weight(self.weight, len(chosen)))
        self.loss.value(np.zeros(len(chosen)), np.zeros(len(chosen)), backend=self.backend)  # margins fit the pairs

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def share(self) -> Array:
        """The weight of each pair in every mean, shape (N,), adding up to 1."""
        share: Array = self.weight / self.weight.sum()
        return share

    def check_theta(self, theta: ArrayLike) -> Array:
        """Return theta in the dtype of the features, or raise `InputError` for another shape."""
        n = self.model.n_params
        return check_array("theta", theta, (n,), f"({n},), the model's parameters").astype(self.chosen.dtype)

    def take(self, index: Array) -> "Objective":
        """Return the objective over the pairs ``index`` only."""
        loss = self.loss.take(index)
        return Objective(self.model, loss, self.chosen[index], self.rejected[index], self.weight[index], self.backend)

    def widen(self) -> "Objective":
        """Return this objective in float64."""
        if self.chosen.dtype == np.float64:
            return self
        w, v = self.chosen.astype(np.float64), self.rejected.astype(np.float64)
        return Objective(self.model, self.loss, w, v, self.weight, self.backend)

    def scores(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Return r_w and r_l, shape (N,)."""
        r = self.model.reward(self.check_theta(theta), self._both)
        return r[: len(self)], r[len(self) :]

    def value(self, theta: ArrayLike) -> float:
        """Return J(theta)."""
        return self.loss.value(*self.scores(theta), weight=self.weight, backend=self.backend)

    def value_and_grad(self, theta: ArrayLike) -> tuple[float, Array]:
        """Return J(theta), float64, and its gradient, shape (n_params,)."""
        return self.evaluate(theta)[:2]

    def evaluate(self, theta: ArrayLike) -> tuple[float, Array, Array, Array]:
        """Return J(theta), its gradient, r_w and r_l, from one pass forward and one back."""
        r, vjp = self.model.linearize(self.check_theta(theta), self._both)
        r_w, r_l = r[: len(self)], r[len(self) :]
        value, g_w, g_l = self.loss.value_and_grad(r_w, r_l, weight=self.weight, backend=self.backend)
        return value, vjp(np.concatenate([g_w, g_l])), r_w, r_l

    def hvp(self, theta: ArrayLike, t: ArrayLike) -> Array:
        """Return the product of the Hessian of J at theta with ``t``, exact up to rounding (no differences).

        With J_r the Jacobian of the scores: J_r' H J_r t, plus the curvature of the model itself weighted by dJ/dr.
        """
        theta, t = self.check_theta(theta), self.check_theta(t)
        r_w, r_l = self.scores(theta)
        _, g_w, g_l = self.loss.value_and_grad(r_w, r_l, weight=self.weight, backend=self.backend)
        moved = self.model.jvp(theta, self._both, t)
        hessian = self.loss.hessian(r_w, r_l, weight=self.weight, backend=self.backend)
        dr_t = np.concatenate(hessian.dot(moved[: len(self)], moved[len(self) :]))
        return self.model.vjp_tangent(theta, self._both, np.concatenate([g_w, g_l]), t, dr_t.astype(theta.dtype))

    def hessian(self, theta: ArrayLike) -> Array:
        """Return the Hessian of J, shape (n_params, n_params), float64; for the linear model only (T9)."""
        if not isinstance(self.model, Linear):
            raise InputError(f"hessian is for the linear model, got {type(self.model).__name__}; use hvp")
        x_w, x_l = (self.model.design(x).astype(np.float64) for x in (self.chosen, self.rejected))
        h = self.loss.hessian(*self.scores(theta), weight=self.weight, backend=self.backend)
        s = (x_w + x_l).T @ h.share
        cross = x_w.T @ (h.h_wl[:, None] * x_l)
        square = x_w.T @ (h.h_ww[:, None] * x_w) + x_l.T @ (h.h_ll[:, None] * x_l)
        return np.asarray(square + cross + cross.T + 2 * h.coupling * np.outer(s, s))
