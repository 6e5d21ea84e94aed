"""A whole loss of the linear model: value and gradient in one pass over the features.

Two matrix products read every feature twice. Here a few rows at a time are scored, their pairs go through the loss, and
the rows are added to the gradient while they are still in the cache: every feature is read from memory once. While
they are, nothing would be read from memory, so that the next rows are prefetched. Products and sums are float64, also
of float32 features.
"""

import numba
import numpy as np

from refrm.kernels.blocks import FEW, blocks, of_pairs, start, totals_of
from refrm.kernels.compiler import jit, reassociated, side_by_side
from refrm.kernels.hints import apart, prefetch
from refrm.kernels.pairwise import LARGE, in_full, mean_sum, numbers, objective
from refrm.kernels.sums import combine
from refrm.spec import Array, Coefficients

PARTS = 16  # runs of pairs whose sums are kept apart: so the order of summation does not depend on the threads
CACHE = 1 << 18  # bytes of features that stay in the second-level cache
ROWS = 512  # pairs at a time, at most
STRIP, LINE = 256, 64  # bytes of a row between prefetches, and that one of these loads


@reassociated
def score_rows(x_w: Array, x_l: Array, w: Array, bias: float, r_w: Array, r_l: Array, ahead: int) -> None:
    """Fill the scores of a few pairs, two at a time, and prefetch as much of ``x_w``, ``ahead`` bytes on.

    The order of each sum is left to the compiler, one for all pairs.
    """
    apart()
    n, p, columns, place = r_w.size, w.size, STRIP // x_w.itemsize, x_w.ctypes.data + ahead
    for i in range(0, n, 2):
        k, m = np.uint64(i), np.uint64(min(i + 1, n - 1))  # indices that cannot be negative: vectorised only then
        win_k = lose_k = win_m = lose_m = bias
        for begin in range(0, p, columns):
            end = min(begin + columns, p)
            for line in range(0, 2 * STRIP, LINE):
                prefetch(place + line)
            place += 2 * (end - begin) * x_w.itemsize
            a = b = c = d = 0.0
            for j in range(np.uint64(begin), np.uint64(end)):
                a += np.float64(x_w[k, j]) * w[j]
                b += np.float64(x_l[k, j]) * w[j]
                c += np.float64(x_w[m, j]) * w[j]
                d += np.float64(x_l[m, j]) * w[j]
            win_k, lose_k, win_m, lose_m = win_k + a, lose_k + b, win_m + c, lose_m + d
        r_w[k], r_l[k], r_w[m], r_l[m] = win_k, lose_k, win_m, lose_m


@reassociated
def add_rows(x_w: Array, x_l: Array, g_w: Array, g_l: Array, grad: Array, ahead: int) -> None:
    """Add x_w'g_w + x_l'g_l to ``grad``, two pairs at a time, and prefetch as much of ``x_l``, ``ahead`` bytes on."""
    apart()
    n, p, columns, place = g_w.size, grad.size, STRIP // x_w.itemsize, x_l.ctypes.data + ahead
    for i in range(0, n, 2):
        k, m = np.uint64(i), np.uint64(min(i + 1, n - 1))
        a, b, c, d = g_w[k], g_l[k], g_w[m], g_l[m]
        if m == k:
            c = d = 0.0
        for begin in range(0, p, columns):
            end = min(begin + columns, p)
            for line in range(0, 2 * STRIP, LINE):
                prefetch(place + line)
            place += 2 * (end - begin) * x_w.itemsize
            for j in range(np.uint64(begin), np.uint64(end)):
                first = np.float64(x_w[k, j]) * a + np.float64(x_l[k, j]) * b
                grad[j] += first + (np.float64(x_w[m, j]) * c + np.float64(x_l[m, j]) * d)


@jit
def sweep(x_w, x_l, w, bias, margin, share, smoothing, coef, begin, end, grad, totals):  # type: ignore[no-untyped-def]
    """Process parts ``begin`` to ``end - 1``: in grad[part] and totals[:, part] their sums of the gradient (that of the
    bias last) and of the loss, s^2 and d^2.
    """
    n, p = x_w.shape
    rows = max(2, min(ROWS, CACHE // (2 * p * x_w.itemsize)) // 2 * 2)
    scores, work, ahead = np.empty((4, rows)), start(), rows * p * x_w.itemsize
    for part in range(begin, end):
        for at in range(n * part // PARTS, n * (part + 1) // PARTS, rows):
            stop = min(at + rows, n * (part + 1) // PARTS)
            w_rows, l_rows = x_w[at:stop], x_l[at:stop]
            k = stop - at
            r_w, r_l, g_w, g_l = scores[0, :k], scores[1, :k], scores[2, :k], scores[3, :k]
            score_rows(w_rows, l_rows, w, bias, r_w, r_l, ahead)
            m, q = of_pairs(margin, at, stop), of_pairs(share, at, stop)
            blocks(r_w, r_l, m, q, smoothing, coef, k <= FEW, g_w, g_l, work)
            add_rows(w_rows, l_rows, g_w, g_l, grad[part, :p], ahead)
            grad[part, p] += g_w.sum() + g_l.sum()
        totals_of(work, totals[:, part])


def linear_objective(
    x_w: Array, x_l: Array, theta: Array, margin: Array | None, label_smoothing: float, coef: Coefficients,
    share: Array | None,
) -> tuple[Coefficients, Array]:  # fmt: skip
    """Compute `refrm.spec.linear_objective`, with the same bits on any number of threads."""
    n, p = x_w.shape
    w, bias = np.ascontiguousarray(theta[:p], np.float64), float(theta[p]) if theta.size > p else 0.0
    count, margins, shares = in_full(n, margin, label_smoothing, coef, share)
    mean_s = 0.0
    if coef[3]:
        r_w, r_l = np.empty(n), np.empty(n)
        score_rows(x_w, x_l, w, bias, r_w, r_l, CACHE)
        mean_s = mean_sum(r_w, r_l, np.full(n, 1.0 / n) if share is None else share)
    grad, totals = np.zeros((PARTS, p + 1)), np.zeros((6, PARTS))
    threads = min(numba.get_num_threads(), PARTS) if x_w.size > 1 << 16 else 1
    work = (x_w, x_l, w, bias, margins, shares, label_smoothing, numbers(count, coef, mean_s))
    side_by_side(threads, PARTS, lambda begin, end: sweep(*work, begin, end, grad, totals))
    loss, square, gap = combine(totals)
    if not loss + square + gap < LARGE:  # a sum may overflow though the mean does not
        r_w, r_l = np.empty(n), np.empty(n)
        score_rows(x_w, x_l, w, bias, r_w, r_l, CACHE)
        return objective(r_w, r_l, margin, label_smoothing, coef, share)[0], grad.sum(0)[: theta.size]
    return (loss / count, gap / count, square / count, mean_s), grad.sum(0)[: theta.size]
