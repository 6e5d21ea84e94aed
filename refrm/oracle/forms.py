"""Losses made of parts, right or wrong: what the mistakes of `refrm.oracle.catalogue` are made of, and compute."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refrm.spec import Array, sigmoid


@dataclass(frozen=True)
class Form:
    """The parts of a loss; the defaults are right. `evaluate` computes it."""

    order: str = "chosen-first"  # or "swapped"
    argument: str = "difference"  # or "normalised"
    spread: str = "pairs"  # or "scores", "margin": what is broadcast to N x N
    margin: str = "subtracted"  # or "added", "ignored", "outside", "misaligned"
    smoothing: str = "right"  # or "flipped", "ignored"
    nan: str = "kept"  # or "hidden"
    likelihood: str = "softplus"  # or "sigmoid", "log-sigmoid", "log-exp", "log1p-exp", "epsilon", ... of `_likelihood`
    epsilon: float = 0.0  # of "epsilon"
    penalty: str = "squared-sum"  # or "squared-difference", "sum-of-squares", "sum-to-zero", "batch-sum", "none"
    factor: float = 1.0  # of the penalty
    sign: float = 1.0  # of the penalty
    power: int = 1  # of the penalty's coefficient
    reduction: str = "mean"  # or "sum", "none"
    rounding: str = "none"  # or "float32", "bfloat16", "float16": of the argument
    backward: str = "exact"  # or "rounded": of its gradient, as autograd casts it
    detached: str = "none"  # or "chosen", "rejected", "both": what gets no gradient


class Outcome(NamedTuple):
    """Loss, a scalar or one per pair, and the gradients of its sum in r_w and r_l, shape (N,); None if not given."""

    loss: Array
    g_w: Array | None
    g_l: Array | None


def rounded(x: Array, to: str) -> Array:
    """Return x rounded to the nearest bfloat16, float16 or float32, in the dtype of x."""
    if to == "bfloat16":
        bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
        even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        narrow = (even & np.uint32(0xFFFF0000)).view(np.float32)
        return np.asarray(np.where(np.isfinite(x), narrow, x)).astype(x.dtype)
    return x if to == "none" else x.astype(to).astype(x.dtype)


def _likelihood(kind: str, z: Array, epsilon: float, outside: Array | None) -> tuple[Array, Array, Array]:
    """Return the loss of an argument z and its slope for either score, computed as the mistake computes them."""
    if kind == "softmax" and outside is None:  # of both scores: each of them gets its own probability
        value = np.maximum(-z, 0) + np.log(1 + np.exp(-np.abs(z)))
        return value, np.exp(-value) - 1, -np.exp(-z - value)
    value, slope = _of_difference(kind, z, epsilon, outside)
    return value, slope, slope


def _of_difference(kind: str, z: Array, epsilon: float, outside: Array | None) -> tuple[Array, Array]:
    """Return the loss of an argument z and its slope."""
    if kind == "softplus" and outside is None:
        tail = np.log1p(np.exp(-np.abs(z)))
        return np.maximum(-z, 0) + tail, -sigmoid(-z)
    if kind == "cancelling" and outside is None:
        return np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - 1
    if kind == "threshold" and outside is None:
        steep = z < -20
        return np.where(steep, -z, np.logaddexp(0, -z)), np.where(steep, -1, -sigmoid(-z))
    if kind in ("log-exp", "log1p-exp") and outside is None:
        e = np.exp(-z)
        return np.log(1 + e) if kind == "log-exp" else np.log1p(e), -1 / (1 + np.exp(z))
    p = sigmoid(z) if kind in ("softplus", "threshold", "cancelling", "softmax") else 1 / (1 + np.exp(-z))
    curved = p * (1 - p)
    if kind == "sigmoid":
        return (0 if outside is None else outside) - p, -curved
    inside = p + epsilon - (0 if outside is None else outside)
    return -np.log(inside), -curved / inside


def penalty_of(kind: str, w: Array, v: Array) -> tuple[Array, Array, Array]:
    """Return the penalty of each pair (its mean is the penalty) and the gradients of the mean, times N."""
    s, d = w + v, w - v
    if kind == "squared-sum":
        return s * s, 2 * s, 2 * s
    if kind == "squared-difference":
        return d * d, 2 * d, -2 * d
    if kind == "sum-of-squares":
        return w * w + v * v, 2 * w, 2 * v
    if kind == "none":
        return np.zeros_like(s), np.zeros_like(s), np.zeros_like(s)
    share = np.full_like(s, s.mean() * (s.size / 4 if kind == "batch-sum" else 1))
    return share * s.mean(), 2 * share, 2 * share


def evaluate(
    form: Form,
    r_w: Array,
    r_l: Array,
    margin: Array | float | None = None,
    *,
    coef: float = 0.0,
    label_smoothing: float = 0.0,
) -> Outcome:
    """Return what a loss of this form returns, in the dtype of ``r_w``: overflow where it overflows.

    Parameters
    ----------
    form : Form
        The parts of the loss.
    r_w, r_l : array of shape (N,)
        Scores.
    margin : float or array of shape (N,), optional
        Subtracted inside the sigmoid by the right form.
    coef : float
        lambda, of the penalty.
    label_smoothing : float
        The loss is (1 - eps)*L(z) + eps*L(-z).

    Returns
    -------
    Outcome
        ``loss`` of shape () for the reductions "mean" and "sum", (N,) for "none", and (N, N) for a form that
        broadcasts, unreduced. Gradients as a framework's autograd gives them.
    """
    kind, n = r_w.dtype.type, r_w.size
    m = np.broadcast_to(np.asarray(0 if margin is None or form.margin == "ignored" else margin, kind), (n,))
    m = -m if form.margin == "added" else m
    if form.margin == "misaligned":
        m = np.concatenate([m[m != 0], m[m == 0]])
    if form.nan == "hidden":
        r_w, r_l = (np.where(np.isnan(r), kind(0), r) for r in (r_w, r_l))
    eps = kind({"right": label_smoothing, "flipped": 1 - label_smoothing, "ignored": 0}[form.smoothing])
    with np.errstate(all="ignore"):
        w, v = (r_w[:, None], r_l[None, :]) if form.spread == "scores" else (r_w, r_l)
        if form.order == "swapped":
            w, v = v, w
        d, by_w, by_v = w - v, kind(1), kind(-1)
        if form.argument == "normalised":
            norm = np.sqrt(w * w + v * v)
            by_w, by_v = (1 / norm - d * w / norm / norm / norm), (-1 / norm - d * v / norm / norm / norm)
            d = d / norm
        if form.spread == "margin":
            d, by_w, by_v, m = d[:, None], np.reshape(by_w, (-1, 1)), np.reshape(by_v, (-1, 1)), m[None, :]
        z, outside = (d, m) if form.margin == "outside" else (d - m, None)
        z = rounded(z, form.rounding)
        value, *slopes = _likelihood(form.likelihood, z, kind(form.epsilon), outside)
        if eps:
            other, *back = _likelihood(form.likelihood, -z, kind(form.epsilon), outside)
            value = (1 - eps) * value + eps * other
            slopes = [(1 - eps) * a - eps * b for a, b in zip(slopes, back[::-1], strict=True)]
        if form.backward == "rounded":
            share = n if form.reduction == "mean" else 1
            slopes = [rounded(slope / share, form.rounding) * share for slope in slopes]
        g_w, g_v = slopes[0] * by_w, slopes[1] * by_v
        if form.spread == "margin":
            g_w, g_v = g_w.sum(1) / n, g_v.sum(1) / n
        elif form.spread == "scores":
            across = (1, 0) if form.order == "chosen-first" else (0, 1)
            g_w, g_v = g_w.sum(across[0]) / n, g_v.sum(across[1]) / n
        if form.order == "swapped":
            g_w, g_v = g_v, g_w
        c = kind(coef**form.power * form.factor * form.sign)
        if c:
            term, p_w, p_v = penalty_of(form.penalty, r_w, r_l)
            value, g_w, g_v = value + c * (term if value.ndim == 1 else term.mean()), g_w + c * p_w, g_v + c * p_v
        g_w = 0 * g_w if form.detached in ("chosen", "both") else g_w
        g_v = 0 * g_v if form.detached in ("rejected", "both") else g_v
        if form.reduction == "none":
            return Outcome(value, g_w, g_v)
        if form.reduction == "sum":
            return Outcome(np.asarray(value.sum()), g_w * (value.size // n), g_v * (value.size // n))
        return Outcome(np.asarray(value.mean()), g_w / n, g_v / n)
