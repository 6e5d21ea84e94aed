"""Whether a linear objective has a minimiser at all (T9): separable data let the margins grow for ever."""

import numpy as np

from refrm.linear import Linear
from refrm.losses import BradleyTerry
from refrm.objective import Objective
from refrm.spec import Array


def separating_direction(objective: Objective) -> Array | None:
    """Return a direction v along which the linear objective falls for ever, or None if it has a minimiser.

    By T9 a minimiser exists iff there is no v with Dv >= 0, Dv != 0 and no penalty that v changes, where row i of D is
    x_w - x_l. Label smoothing bounds the margins (T14), and so does `SumOfSquares`: there v cannot exist. The
    question is a linear program: maximise sum(Dv) over Dv >= 0, |v_j| <= 1; rows of D are scaled to length 1, so an
    optimum above 1e-7 is not rounding.
    """
    from scipy.optimize import linprog

    pairwise = [term for coef, term in objective.loss.terms if coef and isinstance(term, BradleyTerry)]
    a, b, c = np.sum([coef * np.array(term.quadratic) for coef, term in objective.loss.terms], axis=0)
    if not isinstance(objective.model, Linear) or a > 0 or any(term.label_smoothing for term in pairwise):
        return None
    share = objective.weight / objective.weight.sum()
    x_w, x_l = (objective.model.design(x).astype(np.float64) for x in (objective.chosen, objective.rejected))
    d, s = (x_w - x_l)[share > 0], (x_w + x_l)[share > 0]
    length = np.linalg.norm(d, axis=1)
    d = d[length > 0] / length[length > 0, None]
    if not pairwise or not len(d):
        return None
    still = s if b > 0 else share[None, share > 0] @ s if c > 0 else None
    found = linprog(
        -d.sum(0),
        A_ub=-d,
        b_ub=np.zeros(len(d)),
        A_eq=still,
        b_eq=None if still is None else np.zeros(len(still)),
        bounds=(-1, 1),
        method="highs",
    )
    return found.x if found.success and -found.fun > 1e-7 else None
