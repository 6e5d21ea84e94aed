"""refrm: the reference for the loss that trains reward models.

``import refrm`` needs NumPy alone and loads nothing else; a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "BradleyTerry": "losses",
    "SquaredSum": "losses",
    "SumOfSquares": "losses",
    "SumToZero": "losses",
    "Linear": "linear",
    "MLP": "mlp",
    "Objective": "objective",
    "Newton": "solvers",
    "LBFGS": "solvers",
    "SGD": "solvers",
    "Adam": "solvers",
    "FitResult": "fit",
    "minimize": "fit",
    "LinearRewardModel": "estimators",
    "MLPRewardModel": "estimators",
    "PairTransformer": "estimators",
    "stack_pairs": "estimators",
    "load": "estimators",
    "make_pairs": "datasets",
    "load_baseball": "datasets",
    "check_gradient": "gradcheck",
    "RefrmError": "errors",
    "InputError": "errors",
    "FileError": "errors",
    "FitWarning": "errors",
    "NotFittedError": "errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'refrm' has no attribute {name!r}")
    return getattr(import_module(f"refrm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from refrm.datasets import load_baseball, make_pairs
    from refrm.errors import FileError, FitWarning, InputError, NotFittedError, RefrmError
    from refrm.estimators import LinearRewardModel, MLPRewardModel, PairTransformer, load, stack_pairs
    from refrm.fit import FitResult, minimize
    from refrm.gradcheck import check_gradient
    from refrm.linear import Linear
    from refrm.losses import BradleyTerry, SquaredSum, SumOfSquares, SumToZero
    from refrm.mlp import MLP
    from refrm.objective import Objective
    from refrm.solvers import LBFGS, SGD, Adam, Newton
