"""What a predicate finds, and what it judges."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from refrm.spec import Array

U = 2.0**-53
"""The unit roundoff of float64."""


class Verdict(NamedTuple):
    """What a predicate found; the theorem holds where ``residual <= bound``, everywhere. NaN does not hold."""

    residual: Array
    bound: Array

    @property
    def holds(self) -> bool:
        """Whether every residual respects its bound."""
        return bool(np.all(self.residual <= self.bound))


def verdict(*parts: tuple[ArrayLike, ArrayLike]) -> Verdict:
    """Return one verdict of several (residual, bound)."""
    flat = [np.broadcast_arrays(np.asarray(r, float), np.asarray(b, float)) for r, b in parts]
    return Verdict(np.concatenate([r.ravel() for r, _ in flat]), np.concatenate([b.ravel() for _, b in flat]))


class ScoreLoss(Protocol):
    """A loss on scores, ours or another."""

    def value_and_grad(self, r_w: Array, r_l: Array) -> tuple[float, Array, Array]: ...


Centring = Callable[[Array, Array], tuple[Array, Array]]
"""What moves scores after the training, ours or another's."""

Add = Callable[[Array, Array], Array]
"""The addition of a floating-point format."""
