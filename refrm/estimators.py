"""Reward models with scikit-learn's conventions, without depending on scikit-learn.

A sample is a pair: X has shape (N, 2, n_features), ``X[:, 0]`` the features of the chosen and ``X[:, 1]`` those of
the rejected response, as `stack_pairs` makes it. So `cross_val_score` splits pairs, never the two halves of one.
"""

import inspect
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from refrm import spec
from refrm.checks import check_array, check_features, check_finite, check_integer, check_number, check_weight
from refrm.errors import FileError, FitWarning, InputError, NotFittedError
from refrm.files import read_about, write_npz
from refrm.fit import FitResult, Record, minimize
from refrm.linear import Linear
from refrm.losses import BradleyTerry, Loss, SquaredSum
from refrm.mlp import MLP
from refrm.objective import Model, Objective
from refrm.solvers import LBFGS, SGD, Adam, Newton, Solver
from refrm.spec import Array


def stack_pairs(chosen: ArrayLike, rejected: ArrayLike) -> Array:
    """Return X of shape (N, 2, n_features) from two matrices of shape (N, n_features); any mismatch is refused."""
    return np.stack(check_features(chosen, rejected), axis=1)


def _check_pairs(X: ArrayLike, y: ArrayLike | None = None, n_features: int | None = None) -> Array:
    pairs = check_array(
        "X", X, (None, 2, n_features), f"(N, 2, {n_features or 'n_features'}), pairs as stack_pairs makes them"
    )
    if y is None:
        return pairs
    first = np.asarray(y)
    if first.shape != (len(pairs),) or not np.isin(first, (0, 1)).all():
        raise InputError(f"y must have shape ({len(pairs)},) and hold 1 where X[:, 0] is the chosen one, else 0")
    return np.where((first == 1)[:, None, None], pairs, pairs[:, ::-1])


class PairTransformer:
    """A Pipeline step that applies a transformer of plain features, such as StandardScaler, to both halves of every
    pair.

    It is fitted on all 2N rows, so that chosen and rejected responses pass through one and the same map.
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the wrapped transformer and, if ``deep``, its parameters as ``transformer__name``."""
        inner = self.transformer.get_params() if deep else {}
        return {"transformer": self.transformer} | {f"transformer__{key}": value for key, value in inner.items()}

    def set_params(self, **params: Any) -> Self:
        """Set the transformer, or its parameters by ``transformer__name``."""
        if "transformer" in params:
            self.transformer = params.pop("transformer")
        self.transformer.set_params(**{key.removeprefix("transformer__"): value for key, value in params.items()})
        return self

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit the transformer on the rows of both halves."""
        pairs = _check_pairs(X)
        self.transformer.fit(pairs.reshape(-1, pairs.shape[2]))
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Transform pairs (N, 2, n_features), or plain features (M, n_features)."""
        rows = np.asarray(X)
        out: Array = np.asarray(self.transformer.transform(rows.reshape(-1, rows.shape[-1])))
        return out.reshape(*rows.shape[:-1], out.shape[-1])

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Array:
        """Fit, then transform."""
        return self.fit(X, y).transform(X)


class _RewardModel:
    """What both estimators share; a subclass names its parameters and builds its model."""

    center: float
    label_smoothing: float
    margin: float
    dtype: str
    solver: Any
    seed: int
    backend: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in list(inspect.signature(type(self)).parameters)}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments; an unknown one is an `InputError`."""
        for name, value in params.items():
            if name not in self.get_params():
                raise InputError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self.get_params())}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def _model(self, n_features: int) -> Model:
        raise NotImplementedError

    def _solver(self) -> Solver:
        """Return the solver: given as an object, or by name with its default settings."""
        named = {"newton": Newton, "lbfgs": LBFGS, "sgd": SGD, "adam": Adam}
        if isinstance(self.solver, str):
            if self.solver not in named:
                raise InputError(
                    f"solver must be one of {', '.join(named)}, or an object such as Adam(lr=1e-3), got {self.solver!r}"
                )
            solver: Solver = named[self.solver]()
            return solver
        chosen: Solver = self.solver
        return chosen

    def objective(
        self, X: ArrayLike, y: ArrayLike | None = None, *, sample_weight: ArrayLike | None = None
    ) -> Objective:
        """Return the `Objective` that `fit` minimises on these pairs."""
        if self.dtype not in ("float32", "float64"):
            raise InputError(f'dtype must be "float32" or "float64", got {self.dtype!r}')
        pairs = _check_pairs(X, y).astype(self.dtype)
        margin = check_number("margin", self.margin, -math.inf)
        center = check_number("center", self.center, 0.0)
        check_integer("seed", self.seed, 0)
        loss: Loss = BradleyTerry(margin, self.label_smoothing) + center * SquaredSum()
        return Objective(self._model(pairs.shape[2]), loss, pairs[:, 0], pairs[:, 1], sample_weight, self.backend)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        heldout: ArrayLike | None = None,
        record_every: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 100,
        resume: bool = False,
        callback: Callable[[Record], None] | None = None,
    ) -> Self:
        """Fit to pairs X of shape (N, 2, n_features); ``y`` (optional) is 1 where ``X[:, 0]`` is the chosen one, else
        0.

        The remaining arguments are those of `refrm.minimize`; ``heldout`` are pairs like X. Sets ``theta_``,
        ``model_``, ``result_`` (a `FitResult`) and ``n_features_in_``; warns (`FitWarning`) if the fit did not end at
        a minimiser or after all its steps.
        """
        objective = self.objective(X, y, sample_weight=sample_weight)
        self.result_ = minimize(
            objective,
            self._solver(),
            heldout=None if heldout is None else self.objective(heldout),
            seed=self.seed,
            record_every=record_every,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
            callback=callback,
        )
        self.model_, self.theta_ = objective.model, self.result_.theta
        self.n_features_in_, self.classes_ = objective.model.n_features, np.array([0, 1])
        if self.result_.stop not in ("converged", "completed"):
            warnings.warn(self.result_.message, FitWarning, stacklevel=2)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return scores: shape (M,) for features (M, n_features), (N, 2) for pairs (N, 2, n_features)."""
        if not hasattr(self, "theta_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        p = self.n_features_in_
        shape = (None, p) if np.ndim(X) == 2 else (None, 2, p)
        rows = check_array("X", X, shape, f"(M, {p}) or (N, 2, {p})").astype(self.theta_.dtype)
        check_finite("X", rows)
        with np.errstate(all="ignore"):  # a score may overflow or underflow; infinity says so
            return self.model_.reward(self.theta_, rows.reshape(-1, p)).reshape(rows.shape[:-1])

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return, for pairs (N, 2, n_features), shape (N, 2): column 1 is the probability sigma(d - margin) that
        ``X[:, 0]`` is preferred, column 0 that ``X[:, 1]`` is.
        """
        r = self.predict(_check_pairs(X))
        z = r[:, 0].astype(np.float64) - r[:, 1] - self.margin
        return np.stack([spec.sigmoid(-z), spec.sigmoid(z)], axis=1)

    def score(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the pair accuracy: the share of pairs with r_w > r_l; a tie counts one half."""
        r = self.predict(_check_pairs(X, y))
        if not len(r):
            raise InputError("X is empty: the accuracy over no pairs is not defined")
        weight = check_weight(sample_weight, len(r))
        return float(np.average((np.sign(r[:, 0] - r[:, 1]) + 1) / 2, weights=weight))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model as `.npz` (no pickle): parameters, settings, and how the fit ended.

        A model whose parameters are not finite is refused with an `InputError`: its fit diverged.
        """
        if not hasattr(self, "theta_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        if not np.isfinite(self.theta_).all():
            raise InputError(f"theta_ must be finite to be saved; the fit {self.result_.message}")
        params = self.get_params()
        if not isinstance(params["solver"], str):
            params["solver"] = {"name": type(self.solver).__name__, **vars(self.solver)}
        about = {
            "kind": "model",
            "format": 1,
            "estimator": type(self).__name__,
            "params": params,
            "model": {"name": type(self.model_).__name__, **vars(self.model_)},
            "result": {key: value for key, value in vars(self.result_).items() if key != "theta"}
            | {"history": self.result_.history[-1:]},
        }
        write_npz(path, about, theta=self.theta_)


class LinearRewardModel(_RewardModel):
    """The linear reward model r(x) = x.w + b, fitted to preference pairs.

    Parameters
    ----------
    center : float
        Coefficient lambda >= 0 of ``mean (r_w + r_l)^2`` (TRL's ``center_rewards_coefficient``).
    bias : bool
        Whether there is a b; the pairwise loss cannot see it (T1).
    margin, label_smoothing : float
        See `BradleyTerry`.
    solver : {"newton", "lbfgs", "sgd", "adam"} or Newton, LBFGS, SGD, Adam
        A name stands for its default settings.
    dtype : {"float64", "float32"}
        In which to compute.
    seed : int
        Seed of the starting point and of the order of the pairs.
    backend : {"auto", "numba", "numpy"}
        Which functions compute the loss.
    """

    def __init__(
        self,
        *,
        center: float = 0.0,
        bias: bool = False,
        margin: float = 0.0,
        label_smoothing: float = 0.0,
        solver: Any = "newton",
        dtype: str = "float64",
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        self.center, self.bias = center, bias
        self.margin, self.label_smoothing = margin, label_smoothing
        self.solver, self.dtype, self.seed, self.backend = solver, dtype, seed, backend

    def _model(self, n_features: int) -> Model:
        return Linear(n_features, self.bias)


class MLPRewardModel(_RewardModel):
    """A multilayer perceptron with a linear head, fitted to preference pairs.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : {"gelu", "relu", "tanh", "softplus"}
        gelu is the exact one, through erf.
    head_bias : bool
        Whether the head has a bias; the pairwise loss cannot see it (T1).
    init_scale : {"he", "glorot", "lecun"}
        Normal initialisation of the hidden weights.
    center, margin, label_smoothing, solver, dtype, seed, backend
        As for `LinearRewardModel`; ``solver`` is "adam", "sgd" or "lbfgs".
    """

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (64,),
        activation: str = "gelu",
        head_bias: bool = False,
        init_scale: str = "he",
        center: float = 0.0,
        margin: float = 0.0,
        label_smoothing: float = 0.0,
        solver: Any = "adam",
        dtype: str = "float64",
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        self.hidden, self.activation, self.head_bias, self.init_scale = hidden, activation, head_bias, init_scale
        self.center, self.margin, self.label_smoothing = center, margin, label_smoothing
        self.solver, self.dtype, self.seed, self.backend = solver, dtype, seed, backend

    def _model(self, n_features: int) -> Model:
        hidden = tuple(self.hidden) if isinstance(self.hidden, list) else self.hidden
        return MLP(n_features, hidden, self.activation, self.head_bias, self.init_scale)


def load(path: str | os.PathLike[str]) -> LinearRewardModel | MLPRewardModel:
    """Return the fitted estimator that `save` wrote; a file that is not one is a `FileError`.

    Of the history it has the last record.
    """
    about, arrays = read_about(path, "model")
    try:
        if about["format"] != 1:
            raise FileError(f"{path} has model format {about['format']}, this refrm reads format 1")
        params = about["params"]
        if isinstance(params["solver"], dict):
            params["solver"] = _named(params["solver"], Newton, LBFGS, SGD, Adam)
        for settings in (params, about["model"]):
            if "hidden" in settings:
                settings["hidden"] = tuple(settings["hidden"])
        estimator = _named({"name": about["estimator"], **params}, LinearRewardModel, MLPRewardModel)
        estimator.model_ = _named(about["model"], Linear, MLP)
        estimator.n_features_in_, estimator.classes_ = estimator.model_.n_features, np.array([0, 1])
        shape = (estimator.model_.n_params,)
        estimator.theta_ = check_array("theta", arrays["theta"], shape, f"{shape}")
        check_finite("theta", estimator.theta_)
        check_number("margin", estimator.margin, -math.inf)
        estimator.result_ = FitResult(estimator.theta_, **about["result"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise FileError(f"{path} is not a valid model of refrm: {error}") from None
    found: LinearRewardModel | MLPRewardModel = estimator
    return found


def _named(settings: dict[str, Any], *kinds: type) -> Any:
    """Return the one of ``kinds`` that ``settings["name"]`` names, made with the other settings."""
    rest = {key: value for key, value in settings.items() if key != "name"}
    return {kind.__name__: kind for kind in kinds}[settings["name"]](**rest)
