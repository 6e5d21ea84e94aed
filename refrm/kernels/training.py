"""The training loop of minibatch SGD and Adam on a linear model or an MLP, compiled whole."""

import math

import numpy as np

from refrm.kernels.compiler import jit
from refrm.kernels.scalar import pair
from refrm.spec import Array

RELU, TANH, GELU, SOFTPLUS = 0, 1, 2, 3


@jit
def activate(kind: int, z: float) -> tuple[float, float]:
    """Return an activation and its derivative; relu has derivative 0 at 0."""
    if kind == RELU:
        return (z, 1.0) if z > 0.0 else (0.0, 0.0)
    if kind == TANH:
        a = math.tanh(z)
        return a, 1.0 - a * a
    if kind == GELU:
        cdf = 0.5 * math.erfc(-z * math.sqrt(0.5))
        return z * cdf, cdf + z * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    e = math.exp(-abs(z))
    return max(z, 0.0) + math.log1p(e), (1.0 if z >= 0.0 else e) / (1.0 + e)


@jit
def forward(theta: Array, widths: Array, kind: int, head_bias: bool, x: Array, a: Array, slope: Array) -> None:
    """Fill ``a`` with every layer's output, one layer after the other, and ``slope`` with the activations'
    derivatives.
    """
    rows, layers = x.shape[0], widths.size - 1
    before, p, q = x, 0, 0
    for layer in range(layers):
        n, m = widths[layer], widths[layer + 1]
        out = a[q : q + rows * m].reshape(rows, m)
        np.dot(before, theta[p : p + n * m].reshape(n, m), out)
        p += n * m
        hidden = layer < layers - 1
        if hidden or head_bias:
            out += theta[p : p + m]
            p += m
        if hidden:
            for i in range(q, q + rows * m):
                y, dy = activate(kind, a[i])
                a[i] = y
                slope[i] = dy
        before = out
        q += rows * m


@jit
def backward(
    theta: Array, widths: Array, head_bias: bool, x: Array, a: Array, slope: Array, delta: Array, grad: Array
) -> None:
    """Fill ``grad`` with the VJP at what `forward` computed; the end of ``delta`` holds dJ/dr and its rest is
    scratch.
    """
    rows, layers = x.shape[0], widths.size - 1
    p, q = grad.size, a.size
    for layer in range(layers - 1, -1, -1):
        n, m = widths[layer], widths[layer + 1]
        q -= rows * m
        d = delta[q : q + rows * m].reshape(rows, m)
        if layer < layers - 1:
            for i in range(q, q + rows * m):
                delta[i] *= slope[i]
        if layer < layers - 1 or head_bias:
            p -= m
            for j in range(m):
                total = 0.0
                for i in range(rows):
                    total += d[i, j]
                grad[p + j] = total
        p -= n * m
        below = a[q - rows * n : q].reshape(rows, n) if layer > 0 else x
        np.dot(below.T, d, grad[p : p + n * m].reshape(n, m))
        if layer > 0:
            np.dot(d, theta[p : p + n * m].reshape(n, m).T, delta[q - rows * n : q].reshape(rows, n))


@jit
def score_gradient(
    r: Array, margin: Array, weight: Array, loss: tuple[float, float, float, float, float], g: Array
) -> None:
    """Fill ``g`` with the gradient in the 2B scores ``r``, chosen first, of the loss

    mean(c_pair*pair(r_w, r_l) + c_d*d^2 + c_s*s^2) + c_mean*(mean s)^2, with mean x = sum(weight*x)/B: the weights have
    mean 1 over all pairs, not over the batch, so that the batches' gradients have the whole gradient as their mean.
    """
    smoothing, c_pair, c_d, c_s, c_mean = loss
    n = margin.size
    mean_s = 0.0
    for i in range(n):
        if weight[i] > 0.0:
            mean_s += weight[i] * (np.float64(r[i]) + np.float64(r[n + i])) / n
    for i in range(n):
        share = weight[i] / n
        if share == 0.0:  # it does not count, not even where it is infinite
            g[i] = g[n + i] = 0.0
            continue
        _, slope, _ = pair(np.float64(r[i]), np.float64(r[n + i]), np.float64(margin[i]), smoothing)
        on_d = c_pair * slope + 2.0 * c_d * (np.float64(r[i]) - np.float64(r[n + i]))
        on_s = 2.0 * c_s * (np.float64(r[i]) + np.float64(r[n + i])) + 2.0 * c_mean * mean_s
        g[i] = share * (on_s + on_d)
        g[n + i] = share * (on_s - on_d)


@jit
def sgd_step(theta: Array, grad: Array, velocity: Array, lr: float, momentum: float, decay: float) -> None:
    """One step of SGD with heavy-ball momentum, v <- momentum*v + g, and decoupled weight decay."""
    for i in range(theta.size):
        velocity[i] = momentum * velocity[i] + grad[i]
        theta[i] -= lr * (velocity[i] + decay * theta[i])


@jit
def adam_step(
    theta: Array,
    grad: Array,
    first: Array,
    second: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> None:
    """Step number ``step``, from 1 on, of Adam (arXiv 1412.6980, Alg. 1) with decoupled weight decay (arXiv
    1711.05101).
    """
    bias1, bias2 = 1.0 - beta1**step, 1.0 - beta2**step
    for i in range(theta.size):
        first[i] = beta1 * first[i] + (1.0 - beta1) * grad[i]
        second[i] = beta2 * second[i] + (1.0 - beta2) * grad[i] * grad[i]
        theta[i] -= lr * (first[i] / bias1 / (math.sqrt(second[i] / bias2) + eps) + decay * theta[i])


@jit
def descend(
    theta: Array,
    first: Array,
    second: Array,
    step: int,
    batches: Array,
    x_w: Array,
    x_l: Array,
    margin: Array,
    weight: Array,
    network: tuple[Array, int, bool],
    loss: tuple[float, float, float, float, float],
    rule: tuple[bool, float, float, float, float, float],
) -> None:
    """Take one optimiser step for each row of ``batches`` (indices of pairs), in place, from step number ``step``
    on.
    """
    widths, kind, head_bias = network
    adam, lr, beta1, beta2, eps, decay = rule
    size = batches.shape[1]
    x = np.empty((2 * size, x_w.shape[1]), theta.dtype)
    a = np.empty(2 * size * widths[1:].sum(), theta.dtype)
    slope, delta, grad = np.empty_like(a), np.empty_like(a), np.empty_like(theta)
    m, w = np.empty(size), np.empty(size)
    for n in range(batches.shape[0]):
        for j in range(size):
            i = batches[n, j]
            x[j] = x_w[i]
            x[size + j] = x_l[i]
            m[j] = margin[i]
            w[j] = weight[i]
        forward(theta, widths, kind, head_bias, x, a, slope)
        score_gradient(a[a.size - 2 * size :], m, w, loss, delta[a.size - 2 * size :])
        backward(theta, widths, head_bias, x, a, slope, delta, grad)
        if adam:
            adam_step(theta, grad, first, second, step + n + 1, lr, beta1, beta2, eps, decay)
        else:
            sgd_step(theta, grad, first, lr, beta1, decay)
