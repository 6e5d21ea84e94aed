"""The estimators: scikit-learn's conventions, and files without pickle."""

import json

import numpy as np
import pytest

from refrm import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    FileError,
    FitWarning,
    InputError,
    Linear,
    LinearRewardModel,
    MLPRewardModel,
    Newton,
    NotFittedError,
    PairTransformer,
    load,
    make_pairs,
    stack_pairs,
)
from refrm.estimators import _RewardModel
from refrm.files import read_npz, write_npz

PAIRS = make_pairs(80, 4, seed=1)
X = stack_pairs(PAIRS.chosen, PAIRS.rejected)
SMALL_MLP = {"hidden": (5,), "solver": Adam(lr=0.01, steps=60)}


def fitted(kind=LinearRewardModel, **params):
    return kind(center=0.01, **params).fit(X)


# --- fit, predict, score ---------------------------------------------------------------------------------------------


def test_stack_pairs():
    assert X.shape == (80, 2, 4)
    np.testing.assert_array_equal(X[:, 0], PAIRS.chosen)
    np.testing.assert_array_equal(X[:, 1], PAIRS.rejected)
    with pytest.raises(InputError, match=r"rejected must have shape \(80, 4\), that of chosen"):
        stack_pairs(PAIRS.chosen, PAIRS.rejected[:3])


@pytest.mark.parametrize("model", [fitted(bias=True), fitted(MLPRewardModel, **SMALL_MLP)], ids=repr)
def test_predictions_by_hand(model):
    r = model.predict(X)
    assert r.shape == (80, 2) and model.n_features_in_ == 4 and model.classes_.tolist() == [0, 1]
    # One product with all rows or with some: the rounding of 5-term sums
    np.testing.assert_allclose(model.predict(PAIRS.chosen), r[:, 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(model.predict(PAIRS.chosen), model.model_.reward(model.theta_, PAIRS.chosen), rtol=0)
    p = model.predict_proba(X)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-(r[:, 0] - r[:, 1]))), rtol=1e-13)
    np.testing.assert_allclose(p.sum(1), 1, rtol=0, atol=2.0**-51)
    assert model.score(X) == np.mean(r[:, 0] > r[:, 1])
    record = model.result_.history[-1]
    assert abs(record["accuracy"] - model.score(X)) <= 2.0**-50


def test_the_margin_counts_in_the_probability():
    model = fitted(margin=0.5)
    d = np.subtract(*model.predict(X).T)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(0.5 - d)), rtol=1e-13)


def test_y_says_which_of_the_two_is_the_chosen_one():
    y = np.arange(80) % 2
    swapped = np.where((y == 1)[:, None, None], X, X[:, ::-1])
    model, same = LinearRewardModel(center=0.01).fit(swapped, y), fitted()
    np.testing.assert_array_equal(model.theta_, same.theta_)
    assert model.score(swapped, y) == same.score(X)
    assert abs(model.score(swapped, 1 - y) + same.score(X) - 1) <= 2.0**-51


def test_ties_count_one_half_and_weights_count():
    model = fitted()
    tie = np.stack([X[:, 0], X[:, 0]], axis=1)
    assert model.score(tie) == 0.5
    right = model.predict(X)[:, 0] > model.predict(X)[:, 1]
    assert model.score(X, sample_weight=right * 2.0) == 1.0


def test_sample_weights_are_copies():
    copies = np.arange(80) % 3
    weighted = LinearRewardModel(center=0.01).fit(X, sample_weight=copies)
    copied = LinearRewardModel(center=0.01).fit(np.repeat(X, copies, axis=0))
    np.testing.assert_allclose(weighted.theta_, copied.theta_, rtol=0, atol=1e-11)


def test_heldout_pairs_are_recorded_and_never_trained_on():
    model = LinearRewardModel(center=0.01).fit(X[:60], heldout=X[60:])
    alone = LinearRewardModel(center=0.01).fit(X[:60])
    np.testing.assert_array_equal(model.theta_, alone.theta_)
    assert model.result_.history[-1]["heldout_accuracy"] == model.score(X[60:])


def test_float32():
    model = fitted(dtype="float32")
    assert model.theta_.dtype == model.predict(X).dtype == np.float32
    np.testing.assert_allclose(model.theta_, fitted().theta_, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", Newton(), LBFGS(max_iter=50), SGD(steps=5), Adam(steps=5)])
def test_solvers_by_name_and_as_objects(solver):
    LinearRewardModel(center=0.5, solver=solver).fit(X)


@pytest.mark.compiled
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_stochastic_solvers_by_name(solver):
    assert LinearRewardModel(center=0.5, solver=solver).fit(X).result_.steps == 1000


def test_a_fit_that_did_not_end_well_warns():
    with pytest.warns(FitWarning, match="separable: .* no minimiser"):
        LinearRewardModel().fit(np.stack([np.ones((5, 1)), np.zeros((5, 1))], axis=1))
    with pytest.warns(FitWarning, match="stopped at the limit of 1 iterations"):
        fitted(solver=Newton(max_iter=1))


def test_checkpoint_and_resume(tmp_path):
    options = {"checkpoint": tmp_path / "run.npz", "checkpoint_every": 10, "record_every": 20}
    whole = MLPRewardModel(**SMALL_MLP).fit(X, **options)
    again = MLPRewardModel(**SMALL_MLP).fit(X, resume=True, **options)
    assert again.theta_.tobytes() == whole.theta_.tobytes() and again.result_.history == whole.result_.history


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PAIRS.chosen, r"X must have shape \(N, 2, n_features\), pairs as stack_pairs makes them, got \(80, 4\)"),
        (np.zeros((3, 3, 4)), r"X must have shape \(N, 2"),
        (np.zeros((0, 2, 4)), "chosen and rejected are empty"),
        (np.full((3, 2, 4), np.nan), "chosen must be finite"),
        (None, "X must be real numbers"),
    ],
)
def test_bad_pairs_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        LinearRewardModel().fit(data)


@pytest.mark.parametrize("y", [np.ones(3), np.full(80, 2), np.ones((80, 1)), np.full(80, np.nan)])
def test_bad_labels_are_refused(y):
    with pytest.raises(InputError, match=r"y must have shape \(80,\) and hold 1 where"):
        LinearRewardModel().fit(X, y)


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (LinearRewardModel, {"center": -1}, r"center must be a number in \[0, inf\), got -1"),
        (LinearRewardModel, {"center": "0.5"}, "center must be a number"),
        (LinearRewardModel, {"margin": [1.0]}, r"margin must be a number in \(-inf, inf\)"),
        (LinearRewardModel, {"margin": np.inf}, "margin must be a number"),
        (LinearRewardModel, {"label_smoothing": 0.5}, "label_smoothing must be a number"),
        (LinearRewardModel, {"bias": "no"}, "bias must be True or False, got 'no'"),
        (LinearRewardModel, {"seed": 1.5}, "seed must be an integer >= 0, got 1.5"),
        (LinearRewardModel, {"seed": None}, "seed must be an integer"),
        (LinearRewardModel, {"dtype": "float16"}, 'dtype must be "float32" or "float64"'),
        (LinearRewardModel, {"backend": "gpu"}, "backend must be"),
        (LinearRewardModel, {"solver": "nadam"}, "solver must be one of newton, lbfgs, sgd, adam, or an object"),
        (LinearRewardModel, {"solver": None}, "solver must be"),
        (MLPRewardModel, {"hidden": 64}, "hidden must be a tuple"),
        (MLPRewardModel, {"hidden": (True,)}, "hidden must be an integer >= 1"),
        (MLPRewardModel, {"head_bias": 2}, "head_bias must be True or False, got 2"),
        (MLPRewardModel, {"activation": ["relu"]}, "activation must be one of"),
        (MLPRewardModel, {"seed": -1}, "seed must be an integer >= 0"),
        (MLPRewardModel, {"solver": "newton"}, "Newton is for the linear model"),
    ],
)
def test_bad_parameters_are_refused(kind, params, message):
    with pytest.raises(InputError, match=message):
        kind(**params).fit(X)


def test_bad_features_are_refused_where_scores_are_asked_for():
    model = fitted()
    with pytest.raises(InputError, match=r"X must have shape \(M, 4\) or \(N, 2, 4\), got \(80, 3\)"):
        model.predict(np.zeros((80, 3)))
    with pytest.raises(InputError, match="X must be finite"):
        model.predict(np.full((1, 4), np.nan))
    with pytest.raises(InputError, match="X is empty"):
        model.score(X[:0])
    assert model.predict(np.zeros((0, 4))).shape == (0,)


def test_before_fit(tmp_path):
    for call in (lambda m: m.predict(X), lambda m: m.save(tmp_path / "m.npz"), lambda m: m.score(X)):
        with pytest.raises(NotFittedError, match="this LinearRewardModel is not fitted yet; call fit first"):
            call(LinearRewardModel())


def test_the_base_leaves_the_model_to_its_subclasses():
    with pytest.raises(NotImplementedError):
        _RewardModel()._model(3)


# --- scikit-learn --------------------------------------------------------------------------------------------------


def test_parameters():
    model = LinearRewardModel(center=0.5)
    assert model.get_params()["center"] == 0.5
    assert model.set_params(center=1.0, bias=True) is model and (model.center, model.bias) == (1.0, True)
    with pytest.raises(InputError, match="LinearRewardModel has no parameter 'lambda'; it has center, bias"):
        model.set_params(**{"lambda": 1.0})
    assert repr(MLPRewardModel()).startswith("MLPRewardModel(hidden=(64,), activation='gelu'")


def test_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = fitted(bias=True)
    copy = clone(model)
    assert copy.get_params() == model.get_params() and not hasattr(copy, "theta_")
    scores = cross_val_score(LinearRewardModel(center=0.01), X, cv=4)
    assert scores.shape == (4,) and scores.min() > 0.5
    pipeline = make_pipeline(PairTransformer(StandardScaler()), LinearRewardModel(center=0.01)).fit(X)
    assert pipeline.score(X) > 0.5 and cross_val_score(pipeline, X, cv=3).shape == (3,)
    search = GridSearchCV(LinearRewardModel(), {"center": [0.01, 0.1], "solver": ["newton", LBFGS()]}, cv=2).fit(X)
    assert search.best_params_["center"] in (0.01, 0.1)
    for kind, params in ((LinearRewardModel, {}), (MLPRewardModel, SMALL_MLP)):
        assert clone(kind(**params)).get_params() == kind(**params).get_params()


class Halve:
    """A transformer with a parameter, in place of scikit-learn's."""

    def __init__(self, by=2.0):
        self.by = by

    def get_params(self):
        return {"by": self.by}

    def set_params(self, **params):
        self.by = params.get("by", self.by)

    def fit(self, rows):
        self.rows = rows.shape
        return self

    def transform(self, rows):
        return rows / self.by


def test_pair_transformer():
    step = PairTransformer(Halve())
    np.testing.assert_array_equal(step.fit_transform(X), X / 2)
    assert step.transformer.rows == (160, 4)  # fitted on both halves of every pair
    np.testing.assert_array_equal(step.transform(PAIRS.chosen), PAIRS.chosen / 2)
    assert step.get_params() == {"transformer": step.transformer, "transformer__by": 2.0}
    assert list(step.get_params(deep=False)) == ["transformer"]
    assert step.set_params(transformer__by=4.0).transformer.by == 4.0
    assert step.set_params(transformer=Halve(8.0)).transformer.by == 8.0


# --- save and load ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (LinearRewardModel, {"bias": True, "margin": 0.25}),
        (LinearRewardModel, {"dtype": "float32", "solver": "lbfgs"}),
        (LinearRewardModel, {"seed": np.int64(1), "center": np.float32(0.1), "bias": np.bool_(True)}),
        (MLPRewardModel, SMALL_MLP),
        (MLPRewardModel, {"hidden": [3, 2], "head_bias": True, "activation": "tanh", "solver": SGD(lr=0.1, steps=9)}),
        (MLPRewardModel, {"hidden": (3,), "solver": Adam(lr=np.float32(0.01), steps=np.int64(9))}),
    ],
)
def test_save_and_load(tmp_path, kind, params):
    model = kind(**params).fit(X)
    model.save(tmp_path / "model.npz")
    loaded = load(tmp_path / "model.npz")
    assert type(loaded) is kind and loaded.theta_.tobytes() == model.theta_.tobytes()
    assert loaded.theta_.dtype == model.theta_.dtype and loaded.model_ == model.model_
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert {**loaded.get_params(), "hidden": 0} == {**model.get_params(), "hidden": 0}
    assert tuple(getattr(loaded, "hidden", ())) == tuple(getattr(model, "hidden", ()))
    for name in ("stop", "message", "steps", "undetermined"):
        assert getattr(loaded.result_, name) == getattr(model.result_, name)
    assert loaded.result_.history == model.result_.history[-1:]
    assert loaded.n_features_in_ == 4 and loaded.classes_.tolist() == [0, 1]


def test_a_parameter_set_after_the_fit_does_not_change_the_model_saved(tmp_path):
    model = fitted()
    model.set_params(bias=True).save(tmp_path / "model.npz")
    np.testing.assert_array_equal(load(tmp_path / "model.npz").predict(X), model.predict(X))


def test_a_diverged_model_is_not_saved(tmp_path):
    with pytest.warns(FitWarning, match="diverged"):
        model = LinearRewardModel(center=1.0, solver=SGD(lr=1e300, steps=20)).fit(X)
    with pytest.raises(InputError, match="theta_ must be finite to be saved; the fit diverged"):
        model.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def edited(path, **changes):
    """Save a model with parts of its description changed, or dropped where None."""
    fitted().save(path)
    arrays = read_npz(path)
    about = json.loads(str(arrays.pop("about")))
    arrays |= {name: value for name, value in changes.items() if isinstance(value, np.ndarray)}
    about |= {name: value for name, value in changes.items() if not isinstance(value, np.ndarray)}
    write_npz(path, {name: value for name, value in about.items() if value is not None}, **arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "checkpoint"}, "is a checkpoint of refrm, expected a model"),
        ({"kind": None}, "is not a model of refrm"),
        ({"format": 2}, "has model format 2, this refrm reads format 1"),
        ({"format": None}, "is not a valid model"),
        ({"params": {"lambda": 1}}, "is not a valid model"),
        ({"params": []}, "is not a valid model"),
        ({"estimator": "Foo"}, "is not a valid model"),
        ({"model": {"name": "Linear", "n_features": 4.0, "bias": False}}, "n_features must be an integer"),
        ({"model": {"name": "Linear", "n_features": 5, "bias": False}}, r"theta must have shape \(5,\)"),
        ({"model": {"name": "Cubic"}}, "is not a valid model"),
        ({"result": {"stop": "?"}}, "is not a valid model"),
        ({"theta": np.full(4, np.nan)}, "theta must be finite"),
    ],
)
def test_what_is_not_a_model_is_refused_with_one_line(tmp_path, changes, message):
    path = tmp_path / "model.npz"
    edited(path, **changes)
    with pytest.raises(FileError, match=message) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_models_are_the_ones_of_the_library(tmp_path):
    assert isinstance(fitted().model_, Linear)
    assert isinstance(fitted(MLPRewardModel, **SMALL_MLP).model_, MLP)
