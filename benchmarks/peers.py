"""The loss as one writes it in NumPy, SciPy, PyTorch and JAX; every benchmark takes it from here.

All compute mean softplus(-d) + smoothing*mean(d) + CENTER*mean(s^2), d = r_w - r_l, s = r_w + r_l: with label
smoothing, (1 - eps)*softplus(-d) + eps*softplus(d) is softplus(-d) + eps*d.
"""

from typing import Any

import numpy as np

CENTER = 0.01


def ours(smoothing: float = 0.0) -> Any:
    import refrm

    return refrm.BradleyTerry(label_smoothing=smoothing) + CENTER * refrm.SquaredSum()


def numpy_loss(w: np.ndarray, v: np.ndarray, smoothing: float = 0.0) -> tuple[float, np.ndarray, np.ndarray]:
    """Return value and gradients, without a temporary that can be spared."""
    n, d, s = len(w), w - v, w + v
    e = np.abs(d)
    np.exp(np.negative(e, out=e), out=e)
    losses = np.log1p(e)
    losses -= np.minimum(d, 0)
    value = float(losses.mean() + smoothing * d.mean() + CENTER * (s @ s) / n)
    slope = np.where(d >= 0, e, 1)
    e += 1
    slope /= e
    slope -= smoothing
    slope /= -n
    s *= 2 * CENTER / n
    return value, s + slope, s - slope


def scipy_loss(w: np.ndarray, v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    from scipy.special import expit, log_expit

    n, d, s = len(w), w - v, w + v
    value = float(CENTER * (s @ s) / n - log_expit(d).mean())
    slope = expit(np.negative(d, out=d))
    slope /= -n
    s *= 2 * CENTER / n
    return value, s + slope, s - slope


def numpy_curvature(w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return sigma(d)*sigma(-d): the second derivative of the pairwise loss of each pair, before the mean."""
    e = np.exp(-np.abs(w - v))
    return e / (1 + e) ** 2


def numpy_linear(
    theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    value, g_w, g_l = numpy_loss(chosen @ theta, rejected @ theta, smoothing)
    return value, chosen.T @ g_w + rejected.T @ g_l


def get_torch(threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch


def torch_loss(w: Any, v: Any, smoothing: float = 0.0) -> Any:
    import torch

    d, s = w - v, w + v
    loss = -torch.nn.functional.logsigmoid(d).mean() + CENTER * (s * s).mean()
    return loss + smoothing * d.mean() if smoothing else loss


def get_jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def jax_loss(w: Any, v: Any) -> Any:
    import jax

    d, s = w - v, w + v
    return -jax.nn.log_sigmoid(d).mean() + CENTER * (s * s).mean()
