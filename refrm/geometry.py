"""What the pairs of a linear objective can see: its visible directions, and whether it has a minimiser at all (T9).

Everything here is invariant under a change of scale of any feature: ranks are decided on columns of length 1, and the
linear program is put to coordinates in which the pairs are orthonormal.
"""

import numpy as np

from refrm.errors import InputError
from refrm.linear import Linear
from refrm.losses import BradleyTerry
from refrm.objective import Objective
from refrm.spec import Array

EPS = float(np.finfo(np.float64).eps)


def frame(rows: Array) -> tuple[Array, Array]:
    """Return coordinates of what ``rows``, shape (M, p), can see: arrays B of shape (p, rank) and G of shape (rank, p).

    ``rows @ B`` has orthonormal columns, ``G @ B`` is the identity, ``rows @ (v - B @ G @ v)`` is 0 for every v, and
    the columns of B span the row space. A singular value counts as 0 at or below max(M, p)*eps times the largest,
    after scaling each column to length 1. With dependent columns the lengths of columns may differ by up to 1e8; what
    is beyond costs as many digits.
    """
    length = np.linalg.norm(rows, axis=0)
    length[length == 0] = 1
    scaled = rows / length
    squares, vectors = np.linalg.eigh(scaled.T @ scaled)
    sigma = np.sqrt(np.maximum(squares, 0))
    if squares[0] <= 1e-8 * squares[-1]:  # squaring costs half of the digits: here they are needed
        _, sigma, transposed = np.linalg.svd(np.linalg.qr(scaled, mode="r"))
        vectors = transposed[: len(sigma)].T
    kept = sigma > max(rows.shape) * EPS * sigma.max()
    sigma, vectors = sigma[kept], vectors[:, kept]
    basis, coordinates = vectors / sigma / length[:, None], sigma[:, None] * vectors.T * length
    if not kept.all():  # of all such bases, the one within the row space
        span = np.linalg.qr(length[:, None] * vectors)[0]
        basis = span @ (span.T @ basis)
    return basis, coordinates


def _rows(objective: Objective) -> tuple[Array, Array | None]:
    """Return the differences, and the sums that a penalty sees (None where there is none), of pairs that count."""
    if not isinstance(objective.model, Linear):
        raise InputError(f"this needs the linear model, got {type(objective.model).__name__}")
    _, b, c = objective.loss.penalty
    counts = objective.weight > 0
    share = objective.share[counts]
    x_w, x_l = (objective.model.design(x[counts]).astype(np.float64) for x in (objective.chosen, objective.rejected))
    return x_w - x_l, x_w + x_l if b > 0 else share[None] @ (x_w + x_l) if c > 0 else None


def visible(objective: Objective) -> tuple[Array, Array]:
    """Return the `frame` of the directions in which the linear objective is not constant (T9)."""
    d, s = _rows(objective)
    return frame(d if s is None else np.concatenate([d, s]))


def separating_direction(objective: Objective) -> Array | None:
    """Return a direction v along which the linear objective falls for ever, or None if it has a minimiser.

    By T9 a minimiser exists iff there is no v with Dv >= 0, Dv != 0 and no penalty that v changes, where row i of D is
    x_w - x_l. Label smoothing bounds the margins (T14), and so does `SumOfSquares`: there v cannot exist. Otherwise
    it is a linear program over the v that no penalty sees: maximise sum(Dv) over Dv >= 0, |coordinates of v| <= 1,
    rows of D scaled to length 1. A v counts if it gains a hundred times more than what rounding lets it lose.
    """
    from scipy.optimize import linprog

    pairwise = [term for coef, term in objective.loss.terms if coef and isinstance(term, BradleyTerry)]
    if (
        not isinstance(objective.model, Linear)
        or objective.loss.penalty[0] > 0
        or not pairwise
        or pairwise[0].label_smoothing
    ):
        return None
    d, s = _rows(objective)
    free = np.eye(d.shape[1])
    if s is not None:
        basis, coordinates = frame(s)
        left = np.linalg.svd(free - basis @ coordinates)[0]
        free = left[:, : d.shape[1] - basis.shape[1]]
    if not free.shape[1]:
        return None
    # A product that is rounding, of differences with what the penalty leaves free, is not a difference.
    d = np.where(np.abs(d @ free) <= d.shape[1] * 64 * EPS * (np.abs(d) @ np.abs(free)), 0, d @ free)
    basis, _ = frame(d)
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
    return free @ basis @ v if gain.max() > 100 * len(rows) * lost else None
