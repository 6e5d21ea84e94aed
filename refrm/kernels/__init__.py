"""Every jitted function of refrm; `bradley_terry` to `objective` have the signatures of `refrm.spec`."""

from refrm.kernels.linear import linear_objective
from refrm.kernels.pairwise import bradley_terry, mean, objective, squared_sum, sum_of_squares
from refrm.kernels.training import descend

__all__ = ["bradley_terry", "descend", "linear_objective", "mean", "objective", "squared_sum", "sum_of_squares"]
