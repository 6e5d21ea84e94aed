"""Every jitted function of refrm; `bradley_terry` to `objective` have the signatures of `refrm.spec`."""

import numpy as np
from numba.core import config

from refrm.kernels.linear import linear_objective
from refrm.kernels.pairwise import bradley_terry, mean, objective, squared_sum, sum_of_squares, total
from refrm.kernels.training import descend, workspace

# Compiled, they do not warn of NaN and infinity, which have documented meanings.
if getattr(config, "DISABLE_JIT", 0):  # pragma: no branch
    objective = np.errstate(all="ignore")(objective)
    linear_objective = np.errstate(all="ignore")(linear_objective)

__all__ = [
    "bradley_terry", "descend", "linear_objective", "mean", "objective", "squared_sum", "sum_of_squares", "total",
    "workspace",
]  # fmt: skip
