"""What the pairs of a linear objective can see: its visible directions, and whether it has a minimiser at all (T9).

Everything here is invariant under a change of scale of any feature: ranks are decided on columns of length 1, and the
linear program is put to coordinates in which the pairs are orthonormal.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refrm.errors import InputError
from refrm.linear import Linear
from refrm.losses import BradleyTerry
from refrm.objective import Objective
from refrm.spec import Array, sigmoid

EPS = float(np.finfo(np.float64).eps)


def frame(rows: Array, noise: float = 0.0) -> tuple[Array, Array]:
    """Return coordinates of what ``rows``, shape (M, p), can see: arrays B of shape (p, rank) and G of shape (rank, p).

    ``rows @ B`` has orthonormal columns, ``G @ B`` is the identity, ``rows @ (v - B @ G @ v)`` is 0 for every v, and
    the columns of B span the row space. A singular value counts as 0 at or below max(M, p)*eps times the largest, or at
    or below ``noise``, after scaling each column to length 1. With dependent columns the lengths of columns may differ
    by up to 1e8; what is beyond costs as many digits.
    """
    length = np.linalg.norm(rows, axis=0)
    length[length == 0] = 1
    scaled = rows / length
    squares, vectors = np.linalg.eigh(scaled.T @ scaled)
    sigma = np.sqrt(np.maximum(squares, 0))
    if squares[0] <= 1e-8 * squares[-1]:  # squaring costs half of the digits: here they are needed
        _, sigma, transposed = np.linalg.svd(np.linalg.qr(scaled, mode="r"))
        vectors = transposed[: len(sigma)].T
    kept = sigma > max(max(rows.shape) * EPS * sigma.max(), noise)
    sigma, vectors = sigma[kept], vectors[:, kept]
    basis, coordinates = vectors / sigma / length[:, None], sigma[:, None] * vectors.T * length
    return basis if basis.shape[1] == rows.shape[1] else within_rows(basis, vectors, length), coordinates


def within_rows(basis: Array, vectors: Array, length: Array) -> Array:
    """Return, of all bases that see what ``basis`` sees, the one within the row space, from that of scaled rows."""
    span = np.linalg.qr(length[:, None] * vectors)[0]
    found: Array = span @ (span.T @ basis)
    return found


def _rows(objective: Objective) -> tuple[Array, Array | None]:
    """Return the differences, and the sums that a penalty sees (None where there is none), of pairs that count."""
    if not isinstance(objective.model, Linear):
        raise InputError(f"this needs the linear model, got {type(objective.model).__name__}")
    _, b, c = objective.loss.penalty
    counts = objective.relative_weight > 0
    share = objective.share[counts]
    x_w, x_l = (objective.model.design(x[counts]).astype(np.float64) for x in (objective.chosen, objective.rejected))
    return x_w - x_l, x_w + x_l if b > 0 else share[None] @ (x_w + x_l) if c > 0 else None


def visible(objective: Objective) -> tuple[Array, Array]:
    """Return the `frame` of the directions in which the linear objective is not constant (T9).

    float32 features are known to half an ulp: M rows of independent errors of that size have singular values up to
    (sqrt(M) + sqrt(p)) times their standard deviation, and what is smaller is not seen.
    """
    d, s = _rows(objective)
    rows = d if s is None else np.concatenate([d, s])
    if objective.chosen.dtype == np.float64:
        return frame(rows)
    length, size = np.linalg.norm(rows, axis=0), np.zeros(rows.shape[1])
    squares = (np.square(x, dtype=np.float64).sum(0) for x in (objective.chosen, objective.rejected))
    size[: objective.chosen.shape[1]] = np.sqrt(sum(squares))
    error = np.finfo(np.float32).eps / np.sqrt(12) * np.divide(size, length, out=np.zeros_like(size), where=length > 0)
    return frame(rows, float(error.max()) * (1 + np.sqrt(rows.shape[1] / len(objective))))


def unbounded(objective: Objective) -> BradleyTerry | None:
    """Return the pairwise term, if margins may grow for ever: smoothed labels bound them (T14), `SumOfSquares` too."""
    pairwise = [term for coef, term in objective.loss.terms if coef and isinstance(term, BradleyTerry)]
    if not isinstance(objective.model, Linear) or objective.loss.penalty[0] > 0 or not pairwise:
        return None
    return None if pairwise[0].label_smoothing else pairwise[0]


def separating_direction(objective: Objective) -> Array | None:
    """Return a direction v along which the linear objective falls for ever, or None if it has a minimiser.

    By T9 a minimiser exists iff there is no v with Dv >= 0, Dv != 0 and no penalty that v changes, where row i of D is
    x_w - x_l; there is none unless margins are `unbounded`. It is a linear program over the v that no penalty sees:
    maximise sum(Dv) over Dv >= 0, |coordinates of v| <= 1, rows of D scaled to length 1. A v counts if it gains a
    hundred times more than what rounding lets it lose.
    """
    from scipy.optimize import linprog

    if unbounded(objective) is None:
        return None
    d, s = _rows(objective)
    scale = np.linalg.norm(d if s is None else np.concatenate([d, s]), axis=0)
    scale[scale == 0] = 1
    d, free = d / scale, np.eye(d.shape[1])
    if s is not None:
        basis, coordinates = frame(s / scale)
        left = np.linalg.svd(free - basis @ coordinates)[0]
        free = left[:, : d.shape[1] - basis.shape[1]]
    if not free.shape[1]:
        return None
    if s is None:
        basis = frame(d)[0]
    else:  # what the penalty leaves free is known to EPS: products of d with it to so much, and no direction of less
        rounding = d.shape[1] * 64 * EPS * np.abs(d).sum(1, keepdims=True)
        d = np.where(np.abs(d @ free) <= rounding, 0, d @ free)
        _, sigma, transposed = np.linalg.svd(d, full_matrices=False)
        kept = sigma > np.linalg.norm(rounding)
        basis = transposed[kept].T / sigma[kept]
    rows = d @ basis
    length = np.linalg.norm(rows, axis=1)
    rows = rows[length > 0] / length[length > 0, None]
    if not rows.size:
        return None
    found = linprog(
        -rows.sum(0),
        A_ub=-rows,
        b_ub=np.zeros(len(rows)),
        bounds=(-1, 1),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    v = found.x if found.success else np.zeros(rows.shape[1])  # v = 0 always is a point of it
    gain = rows @ v
    lost = max(float(-gain.min()), len(rows) * EPS)
    return free @ basis @ v / scale if gain.max() > 100 * len(rows) * lost else None


@dataclass(frozen=True, eq=False)
class Conditioner:
    """Coordinates u of the linear model, theta = B u, in which the Hessian at zero scores is about the identity.

    ``some`` are the pairs ``index`` of the objective and ``hessian``, H, is theirs. B'H B is the identity, but for
    directions that these pairs do not determine: they stand last, from ``rank`` on. ``forth(u)`` is B u, ``back(g)``
    is B'g.
    """

    some: Objective
    index: Array
    hessian: Array
    rank: int
    forth: Callable[[Array], Array]
    back: Callable[[Array], Array]

    def certifies(self, objective: Objective, theta: Array, grad: Array) -> bool:
        """Return whether the gradient at theta proves that the objective has a minimiser (T9).

        There is no v as T9 excludes iff there are y > 0 and w with D'y + S'w = 0 (Stiemke). The gradient is
        -D'(q p) + S'(...), q the shares and p_i = sigma(-z_i) > 0. Write it as K t + H u, K the Hessian at theta: that
        is D'(q h t_d + q' k u_d) + S'(...), t_d and u_d the margins of t and u, q' and k the shares and curvatures in
        H. So y = q p + q h t_d + q' k u_d will do if it is positive; as h <= p, it is where |t_d| < 1/4 and
        q' k |u_d| < q p/4. The half of q p that remains is left to rounding; what H u leaves of the gradient must be no
        more than that. First t is 0, then it goes by conjugate gradients to where u is 0: Newton's step.
        """
        term = unbounded(self.some)
        if term is None:
            return True
        if not np.isfinite(grad).all() or (len(self.index) < len(objective) and objective.loss.penalty[2]):
            return False  # the mean of some sums is not in the span of the mean of all
        rounding = 64 * EPS * len(grad) * np.sqrt(self.hessian.diagonal())
        count, counts = objective.relative_weight > 0, self.some.relative_weight > 0
        allowed = objective.share[self.index] * sigmoid(term.margin - np.subtract(*self.some.scores(theta))) / 4
        weight = self.some.share * sigmoid(term.margin) * sigmoid(-term.margin)
        t, way, left, before = 0 * grad, 0 * grad, grad, math.inf
        steps = 0
        while True:
            along = self.back(left)
            along[self.rank :] = 0
            u = self.forth(along)
            if (np.abs(left - self.hessian @ u) > rounding).any():
                return False
            if steps == 50 or (t.any() and np.abs(np.subtract(*objective.scores(t)))[count].max() >= 0.25):
                return False
            if (weight * np.abs(np.subtract(*self.some.scores(u))) < allowed)[counts].all():
                return True
            size = float(along @ along)
            way, before = u + size / before * way, size
            bent = objective.hvp(theta, way)
            t, left = t + size / (way @ bent) * way, left - size / (way @ bent) * bent
            steps += 1


def conditioner(objective: Objective, every: bool = False) -> Conditioner | None:
    """Return the coordinates for L-BFGS; None for another model than the linear one, or where they overflow.

    From every pair, or from so many, evenly spaced, that they cost about ten passes over all, but at least four for
    each parameter, and at most 128: more would tell little more. Directions in which their columns, scaled to length 1,
    are below 1e-6, which squared is rounding, keep that scale.
    """
    if not isinstance(objective.model, Linear):
        return None
    from scipy.linalg.blas import dtrsv
    from scipy.linalg.lapack import dpotrf

    n, p = len(objective), objective.model.n_params
    count = n if every else min(n, max(4 * p, min(128 * p, 256 * n // p)))
    index = np.linspace(0, n - 1, count).astype(np.int64)
    some = objective if count == n else objective.take(index)
    hessian = some.hessian(np.zeros(p))
    if not np.isfinite(hessian.sum()):
        return None
    length = np.sqrt(hessian.diagonal())
    length[length == 0] = 1
    scaled = hessian / length / length[:, None]
    factor, failed = dpotrf(scaled.T, clean=0)
    if not failed and factor.diagonal().min() > 1e-5:
        forth, back = (lambda u: dtrsv(factor, u) / length), (lambda g: dtrsv(factor, g / length, trans=1))
        return Conditioner(some, index, hessian, p, forth, back)
    squares, vectors = np.linalg.eigh(scaled)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    rank = int((squares > 1e-12 * squares[0]).sum())
    basis = vectors / length[:, None]
    basis[:, :rank] /= np.sqrt(squares[:rank])
    basis[:, :rank] = within_rows(basis[:, :rank], vectors[:, :rank], length)
    return Conditioner(some, index, hessian, rank, lambda u: basis @ u, lambda g: basis.T @ g)
