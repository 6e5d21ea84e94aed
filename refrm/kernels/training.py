"""The training steps of minibatch SGD and Adam on a linear model or an MLP.

A step is a sequence of stages: gather the batch; each layer forward; the head forward and backward; each layer
backward; the optimiser's update. A stage is a product of matrices (`multiply`), which is BLAS's, and then one pass
over blocks of rows (`sweep`), which any number of threads share. Sums over rows are kept by blocks and added in their
order, so that all but BLAS gives the same bits on any number of threads.

Every layer's outputs follow each other in one array ``a``, from the batch to the scores; ``slope`` holds at the same
places the activations' derivatives, which the way back turns into the gradient in the layers' pre-activations. The
arithmetic is float64, but for BLAS and Adam's quotient; float32 results are rounded once, at the store.
"""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from refrm.kernels.activations import activate
from refrm.kernels.compiler import copy, jit, side_by_side
from refrm.kernels.scalar import pair
from refrm.spec import Array

GATHER, FORWARD, HEAD, BACKWARD, UPDATE = range(5)
BLOCK = 1 << 14  # numbers in a block: two arrays of them stay in the second-level cache
LARGE = 128  # blocks from which on it pays to wake other threads for a pass
SMOOTH = 8  # passes that take the time of one, of an activation that is not piecewise linear
part = partial(jit, inline="always")  # of `run`, and of nothing else: to compile it twice would take its time

Loss = tuple[float, float, float, float, float]
Rule = tuple[bool, float, float, float, float, float]
Data = tuple[Array, Array, Array, Array]
State = tuple[Array, Array, Array]
Work = tuple[Array, Array, Array, Array, Array, Array, Array, Array]


@jit
def matrix(flat: Array, at: int, rows: int, columns: int) -> Array:
    """Return a view of shape (rows, columns) of ``flat`` from ``at`` on."""
    return flat[at : at + rows * columns].reshape(rows, columns)


@jit
def score_gradient(r: Array, margin: Array, weight: Array, loss: Loss, g: Array) -> None:
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
def gather(batches: Array, n: int, data: tuple[Array, ...], begin: int, end: int, x: Array, m: Array, w: Array) -> None:
    """Copy pairs ``begin`` to ``end - 1`` of batch n, chosen first, but for those that are there from the last one."""
    x_w, x_l, margin, weight = data
    for j in range(begin, end):
        i = batches[n, j]
        if n == 0 or batches[n - 1, j] != i:
            copy(x_w[i], x[j])
            copy(x_l[i], x[m.size + j])
            m[j] = margin[i]
            w[j] = weight[i]


@jit
def layer_forward(z: Array, slope: Array, bias: Array, kind: int) -> None:
    """Replace the products ``z`` by the activations of z + bias, and fill ``slope`` with the derivatives."""
    for i in range(z.shape[0]):
        row = z[i]
        for j in range(bias.size):
            row[j] += bias[j]
    activate(kind, z.reshape(z.size), slope.reshape(z.size))


@jit
def head_backward(g: Array, head: Array, slope: Array, sums: Array) -> None:
    """Multiply the slopes by what arrives from the head, g head', and add up the rows."""
    sums[:] = 0.0
    for i in range(g.size):
        row, g_i = slope[i], np.float64(g[i])
        for j in range(head.size):
            row[j] *= g_i * head[j]
            sums[j] += row[j]


@jit
def layer_backward(arriving: Array, slope: Array, sums: Array) -> None:
    """Multiply the slopes by what arrives from the layer above, and add up the rows."""
    sums[:] = 0.0
    for i in range(slope.shape[0]):
        row, other = slope[i], arriving[i]
        for j in range(sums.size):
            row[j] *= other[j]
            sums[j] += row[j]


@jit
def sgd(theta: Array, grad: Array, velocity: Array, lr: float, momentum: float, decay: float) -> None:
    """One step of SGD with heavy-ball momentum, v <- momentum*v + g, and decoupled weight decay."""
    for i in range(theta.size):
        velocity[i] = momentum * velocity[i] + grad[i]
        theta[i] -= lr * (velocity[i] + decay * theta[i])


@jit
def adam(theta: Array, grad: Array, first: Array, second: Array, step: int, rule: Rule) -> None:
    """Step number ``step``, from 1 on, of Adam (arXiv 1412.6980, Alg. 1) with decoupled weight decay (arXiv
    1711.05101); of the bias corrections the loop needs no division. The move is computed from the moments as they are
    stored, in their type: in float32 within 10 of its u, at half the time.
    """
    _, lr, beta1, beta2, eps, decay = rule
    rate = theta.dtype.type(lr / (1.0 - beta1**step))
    root = theta.dtype.type(math.sqrt(1.0 / (1.0 - beta2**step)))
    floor, shrink = theta.dtype.type(eps), theta.dtype.type(lr * decay)
    for i in range(theta.size):
        g = np.float64(grad[i])
        m = theta.dtype.type(beta1 * first[i] + (1.0 - beta1) * g)
        v = theta.dtype.type(beta2 * second[i] + (1.0 - beta2) * g * g)
        theta[i] -= rate * m / (root * math.sqrt(v) + floor) + shrink * theta[i]
        first[i] = m
        second[i] = v


@part
def multiply(stage: Array, head_bias: bool, loss: Loss, state: State, work: Work) -> None:
    """The products of a stage, and the sums by blocks that the stage before it left."""
    kind, _, _, n, width, p, q = stage
    theta, _, _ = state
    a, slope, arriving, sums, grad, g, m, w = work
    rows, end = g.size, p + n * width
    if kind in (GATHER, UPDATE):
        return
    x, y = matrix(a, q, rows, n), matrix(a, q + rows * n, rows, width)
    if kind == FORWARD:
        np.dot(x, matrix(theta, p, n, width), y)
    elif kind == HEAD:
        r = a[q + rows * n :]
        np.dot(x, theta[p:end], r)
        if head_bias:
            for i in range(rows):
                r[i] += theta[end]
        score_gradient(r, m, w, loss, g)
        np.dot(x.T, g, grad[p:end])
        if head_bias:
            total = 0.0
            for i in range(rows):
                total += g[i]
            grad[end] = total
    else:
        d = matrix(slope, q + rows * n, rows, width)
        for j in range(width):
            total = 0.0
            for block in range(-(-rows // max(1, BLOCK // width))):
                total += sums[block, j]
            grad[end + j] = total
        np.dot(x.T, d, matrix(grad, p, n, width))
        if q > 0:
            np.dot(d, matrix(theta, p, n, width).T, arriving[: rows * n].reshape(rows, n))


@part
def sweep(
    stage: Array, begin: int, end: int, batches: Array, n: int, data: Data, kind: int, rule: Rule, step: int,
    state: State, work: Work,
) -> None:  # fmt: skip
    """The pass of a stage over its blocks ``begin`` to ``end - 1``."""
    what, items, per, fan_in, width, p, q = stage
    theta, first, second = state
    a, slope, arriving, sums, grad, g, m, w = work
    rows = g.size
    for block in range(begin, end):
        i = block * per
        k, at = per if per < items - i else items - i, q + i * fan_in
        if what == GATHER:
            gather(batches, n, data, i, i + k, matrix(a, 0, rows, data[0].shape[1]), m, w)
        elif what == FORWARD:
            z = q + rows * fan_in + i * width
            bias = theta[p + fan_in * width : p + fan_in * width + width]
            layer_forward(matrix(a, z, k, width), matrix(slope, z, k, width), bias, kind)
        elif what == HEAD:
            head_backward(g[i : i + k], theta[p : p + fan_in], matrix(slope, at, k, fan_in), sums[block, :fan_in])
        elif what == BACKWARD:
            above = matrix(arriving, i * fan_in, k, fan_in)
            layer_backward(above, matrix(slope, at, k, fan_in), sums[block, :fan_in])
        elif rule[0]:
            adam(theta[i : i + k], grad[i : i + k], first[i : i + k], second[i : i + k], step + n + 1, rule)
        else:
            sgd(theta[i : i + k], grad[i : i + k], first[i : i + k], rule[1], rule[2], rule[5])


@jit
def run(steps, stages, products, share, shares, batches, data, kind, head_bias, loss, rule, step, state, work):  # type: ignore[no-untyped-def]
    """Run stages of steps: their products if ``products``, and of their passes one of ``shares`` (0 for none)."""
    for n in range(steps[0], steps[1]):
        for k in range(stages.shape[0]):
            stage = stages[k]
            if products:
                multiply(stage, head_bias, loss, state, work)
            if shares > 0:
                blocks = -(-stage[1] // stage[2])
                begin, end = blocks * share // shares, blocks * (share + 1) // shares
                sweep(stage, begin, end, batches, n, data, kind, rule, step, state, work)


def plan(widths: Array, pairs: int, parameters: int) -> Array:
    """Return the stages of a step, each a row: what, the rows or other items of its pass and how many make a block,
    the layer's fan-in and width, where its parameters begin in theta and where its inputs begin in ``a``.
    """
    layers, p, q = [], 0, 0
    for n, m in pairwise(widths):
        layers.append((n, m, p, q))
        p, q = p + n * m + m, q + 2 * pairs * n
    *hidden, head = layers
    stages = [(GATHER, pairs, widths[0], *head), *((FORWARD, 2 * pairs, layer[1], *layer) for layer in hidden)]
    # The pass of a stage on the way back is over the layer below it, which the first layer does not have.
    stages += [(HEAD, 2 * pairs if hidden else 0, head[0], *head)]
    stages += [(BACKWARD, 2 * pairs if layer[3] else 0, layer[0], *layer) for layer in reversed(hidden)]
    stages += [(UPDATE, parameters, 1, *head)]
    return np.array([(what, items, max(1, BLOCK // width), *layer) for what, items, width, *layer in stages])


def one_share(here: tuple[tuple[int, int], Array], shares: int, task: tuple[Any, ...], share: int, end: int) -> None:
    """Run one of the shares of a stage's pass."""
    run(*here, False, share, shares, *task)


def workspace(widths: Array, pairs: int, parameters: int, dtype: Any) -> Work:
    """Return the memory of a step on batches of ``pairs`` pairs, for `descend`, to be used again: it takes the system
    longer to hand out fresh memory than a pass over it takes.
    """
    rows, stages = 2 * pairs, plan(widths, pairs, parameters)
    a, slope = np.empty((2, rows * widths.sum()), dtype)
    arriving = np.empty(rows * max(widths[1:-2], default=0), dtype)
    sums = np.empty((max(stages[:, 1] // stages[:, 2]) + 1, max(widths[:-1])))
    return a, slope, arriving, sums, np.empty(parameters, dtype), np.empty(rows, dtype), *np.empty((2, pairs))


def descend(
    theta: Array, first: Array, second: Array, step: int, batches: Array, x_w: Array, x_l: Array, margin: Array,
    weight: Array, network: tuple[Array, int, bool], loss: Loss, rule: Rule, work: Work,
) -> None:  # fmt: skip
    """Take one optimiser step for each row of ``batches`` (indices of pairs), in place, from step number ``step``
    on, on as many threads as ``numba.get_num_threads()`` says where that pays. ``work`` is a `workspace`.
    """
    widths, kind, head_bias = network
    stages = plan(widths, batches.shape[1], theta.size)
    task = (batches, (x_w, x_l, margin, weight), kind, head_bias, loss, rule, step, (theta, first, second), work)
    blocks = -(-stages[:, 1] // stages[:, 2]) * np.where((stages[:, 0] == FORWARD) & (kind > 0), SMOOTH, 1)
    threads = np.where(blocks >= LARGE, numba.get_num_threads(), 1).tolist()
    if max(threads) == 1:
        run((0, len(batches)), stages, True, 0, 1, *task)
        return
    for n in range(len(batches)):
        for k, shares in enumerate(threads):
            here = (n, n + 1), stages[k : k + 1]
            if shares == 1:
                run(*here, True, 0, 1, *task)
            else:
                run(*here, True, 0, 0, *task)
                side_by_side(shares, shares, partial(one_share, here, shares, task))
