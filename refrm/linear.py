"""The linear reward model r(x) = x.w + b: reward, VJP and tangents side by side.

Parameters are one flat vector theta = [w (n_features), b (1, if bias)]. The bias cancels in every margin, so the
pairwise loss cannot see it (T1); a penalty on sums can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refrm.checks import check_flag, check_integer
from refrm.spec import Array


@dataclass(frozen=True)
class Linear:
    """The linear reward model for features of shape (M, n_features)."""

    n_features: int
    bias: bool = False

    def __post_init__(self) -> None:
        check_integer("n_features", self.n_features, 1)
        check_flag("bias", self.bias)

    @property
    def n_params(self) -> int:
        """The number of parameters, len(theta)."""
        return self.n_features + self.bias

    def init(self, seed: int = 0, dtype: str = "float64") -> Array:
        """Return the starting point, zeros: the objective is convex, and all scores start at 0. ``seed`` has no
        effect.
        """
        return np.zeros(self.n_params, dtype)

    def design(self, x: Array) -> Array:
        """Return the Jacobian of the scores in theta: x, with a column of ones if there is a bias."""
        return np.hstack([x, np.ones((len(x), 1), x.dtype)]) if self.bias else x

    def reward(self, theta: Array, x: Array) -> Array:
        """Return the scores, shape (M,)."""
        r: Array = x @ theta[: self.n_features]
        return r + theta[-1] if self.bias else r

    def vjp(self, theta: Array, x: Array, dr: Array) -> Array:
        """Return the gradient in theta of sum_i dr_i*r_i: J'dr."""
        g: Array = x.T @ dr
        return np.append(g, dr.sum()) if self.bias else g

    def linearize(self, theta: Array, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return the scores and the function dr -> J'dr."""
        return self.reward(theta, x), lambda dr: self.vjp(theta, x, dr)

    def jvp(self, theta: Array, x: Array, t: Array) -> Array:
        """Return the derivative of the scores in the direction ``t``: J t."""
        return self.reward(t, x)

    def vjp_tangent(self, theta: Array, x: Array, dr: Array, t: Array, dr_t: Array) -> Array:
        """Return the derivative of ``vjp(theta, x, dr)`` as theta moves along ``t`` and dr along ``dr_t``.

        The scores are linear in theta, so only dr moves the VJP.
        """
        return self.vjp(theta, x, dr_t)
