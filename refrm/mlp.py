"""The multilayer perceptron with a linear head: reward, VJP, and their tangents, all derived by hand.

Layer k maps A_(k-1), one row per response, to Z_k = A_(k-1) W_k + b_k and A_k = phi(Z_k); A_0 = x. The reward is the
head r = A_L w + b. Parameters are one flat vector theta = [W_1, b_1, ..., W_L, b_L, w, b (if head_bias)], W_k of shape
(fan_in, fan_out) in C order.

Backwards, with the bar for dJ/d(.): Abar_L = dr w', Zbar_k = Abar_k * phi'(Z_k), Wbar_k = A_(k-1)' Zbar_k, bbar_k =
column sums of Zbar_k, Abar_(k-1) = Zbar_k W_k'. Chosen and rejected responses share theta, so both are rows of one x
and their gradients add. A tangent differentiates each of these lines once more along a direction t (Pearlmutter 1994).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from refrm.checks import check_flag, check_integer
from refrm.errors import InputError
from refrm.spec import Array, sigmoid, softplus


def _relu(z: Array) -> tuple[Array, Array, Array]:
    positive = (z > 0).astype(z.dtype)  # the convention at the kink: derivative 0 at 0
    return np.maximum(z, 0), positive, np.zeros_like(z)


def _tanh(z: Array) -> tuple[Array, Array, Array]:
    a = np.tanh(z)
    slope = 1 - a * a
    return a, slope, -2 * a * slope


def _gelu(z: Array) -> tuple[Array, Array, Array]:
    from scipy.special import ndtr  # the normal distribution function, through erf: not the tanh approximation

    cdf, density = ndtr(z).astype(z.dtype, copy=False), np.exp(-z * z / 2) / z.dtype.type(sqrt(2 * pi))
    return z * cdf, cdf + z * density, density * (2 - z * z)


def _softplus(z: Array) -> tuple[Array, Array, Array]:
    slope = sigmoid(z)
    return softplus(z), slope, slope * sigmoid(-z)


ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "relu": _relu,
    "tanh": _tanh,
    "gelu": _gelu,
    "softplus": _softplus,
}
"""Each activation with its first and second derivative; their order is the numbering of `refrm.kernels.training`."""

INITS: dict[str, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: sqrt(2 / fan_in),
    "glorot": lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out)),
    "lecun": lambda fan_in, fan_out: sqrt(1 / fan_in),
}
"""Standard deviation of the normal initialisations of He et al. 2015, Glorot and Bengio 2010, LeCun et al. 1998."""


@dataclass(frozen=True)
class MLP:
    """The reward model with hidden layers of widths ``hidden``, for features of shape (M, n_features).

    ``activation`` is relu (derivative 0 at 0), tanh, gelu (through erf) or softplus; ``init`` is he, glorot or lecun,
    normal, for the hidden weights. The head starts at lecun, as in Stiennon et al. 2020, and every bias at 0.
    """

    n_features: int
    hidden: tuple[int, ...] = (64,)
    activation: str = "gelu"
    head_bias: bool = False
    init_scale: str = "he"

    def __post_init__(self) -> None:
        if self.activation not in list(ACTIVATIONS):
            raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.init_scale not in list(INITS):
            raise InputError(f"init_scale must be one of {', '.join(INITS)}, got {self.init_scale!r}")
        check_integer("n_features", self.n_features, 1)
        check_flag("head_bias", self.head_bias)
        if not isinstance(self.hidden, tuple):
            raise InputError(f"hidden must be a tuple of integers >= 1, got {self.hidden!r}")
        for width in self.hidden:
            check_integer("hidden", width, 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features, hidden layers, and the one output."""
        return (self.n_features, *self.hidden, 1)

    @property
    def n_params(self) -> int:
        """The number of parameters, len(theta)."""
        biases = sum(self.hidden) + self.head_bias
        return sum(n * m for n, m in zip(self.widths, self.widths[1:], strict=False)) + biases

    def layers(self, theta: Array) -> list[tuple[Array, Array]]:
        """Return views (W_k, b_k) of theta, the head last; without a head bias its b is empty."""
        out, p = [], 0
        for k, (n, m) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            size = m if k < len(self.hidden) or self.head_bias else 0
            out.append((theta[p : p + n * m].reshape(n, m), theta[p + n * m : p + n * m + size]))
            p += n * m + size
        return out

    def init(self, seed: int = 0, dtype: str = "float64") -> Array:
        """Return a random starting point; the same seed gives the same bits."""
        rng = np.random.default_rng(check_integer("seed", seed, 0))
        theta = np.zeros(self.n_params)
        for k, (weight, _) in enumerate(self.layers(theta)):
            std = INITS[self.init_scale if k < len(self.hidden) else "lecun"](*weight.shape)
            weight[:] = std * rng.standard_normal(weight.shape)
        return theta.astype(dtype)

    def _forward(self, theta: Array, x: Array) -> tuple[Array, list[tuple[Array, Array, Array]]]:
        """Return the scores and, for each layer, its input and phi', phi'' at its input's pre-activation (A_0 has
        none).
        """
        *hidden, (w, b) = self.layers(theta)
        a, trace = x, [(x, x, x)]
        for weight, bias in hidden:
            trace.append(ACTIVATIONS[self.activation](a @ weight + bias))
            a = trace[-1][0]
        r: Array = a @ w[:, 0]
        return (r + b[0] if self.head_bias else r), trace

    def reward(self, theta: Array, x: Array) -> Array:
        """Return the scores, shape (M,)."""
        return self._forward(theta, x)[0]

    def linearize(self, theta: Array, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return the scores and the function dr -> J'dr, which shares their forward pass."""
        r, trace = self._forward(theta, x)
        return r, lambda dr: self._backward(theta, trace, dr)

    def vjp(self, theta: Array, x: Array, dr: Array) -> Array:
        """Return the gradient in theta of sum_i dr_i*r_i: J'dr."""
        return self.linearize(theta, x)[1](dr)

    def _backward(self, theta: Array, trace: list[tuple[Array, Array, Array]], dr: Array) -> Array:
        grad = np.empty_like(theta)
        bar = dr[:, None]
        for k in range(len(self.hidden), -1, -1):
            (weight, _), (g_weight, g_bias) = self.layers(theta)[k], self.layers(grad)[k]
            a, slope, _ = trace[k]
            g_weight[:] = a.T @ bar
            g_bias[:] = bar.sum(0)[: g_bias.size]
            if k > 0:
                bar = (bar @ weight.T) * slope
        return grad

    def jvp(self, theta: Array, x: Array, t: Array) -> Array:
        """Return the derivative of the scores as theta moves along ``t``."""
        return self._tangents(theta, x, t)[1][-1][:, 0]

    def _tangents(self, theta: Array, x: Array, t: Array) -> tuple[list[tuple[Array, Array, Array]], list[Array]]:
        """Return `_forward`'s trace and the tangents of Z_1, ..., Z_L and of the scores."""
        _, trace = self._forward(theta, x)
        z_t: list[Array] = []
        for k, ((weight, _), (t_weight, t_bias)) in enumerate(zip(self.layers(theta), self.layers(t), strict=True)):
            moved = trace[k][0] @ t_weight
            if t_bias.size:
                moved = moved + t_bias
            z_t.append(moved + (trace[k][1] * z_t[-1]) @ weight if k > 0 else moved)
        return trace, z_t

    def vjp_tangent(self, theta: Array, x: Array, dr: Array, t: Array, dr_t: Array) -> Array:
        """Return the derivative of ``vjp(theta, x, dr)`` as theta moves along ``t`` and dr along ``dr_t``."""
        trace, z_t = self._tangents(theta, x, t)
        grad_t = np.empty_like(theta)
        bar, bar_t = dr[:, None], dr_t[:, None]
        for k in range(len(self.hidden), -1, -1):
            (weight, _), (t_weight, _) = self.layers(theta)[k], self.layers(t)[k]
            g_weight, g_bias = self.layers(grad_t)[k]
            a, slope, bend = trace[k]
            g_weight[:] = a.T @ bar_t
            g_bias[:] = bar_t.sum(0)[: g_bias.size]
            if k > 0:
                g_weight += (slope * z_t[k - 1]).T @ bar
                above, above_t = bar @ weight.T, bar_t @ weight.T + bar @ t_weight.T
                bar, bar_t = above * slope, above_t * slope + above * bend * z_t[k - 1]
        return grad_t
