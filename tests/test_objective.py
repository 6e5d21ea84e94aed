"""J(theta): the chain rule between loss and model, and what it refuses."""

import numpy as np
import pytest

from refrm import MLP, BradleyTerry, InputError, Linear, Objective, SquaredSum, SumOfSquares, SumToZero, make_pairs

DATA = make_pairs(12, 3, seed=4)
LOSS = BradleyTerry(0.25, 0.05) + 0.5 * SquaredSum() + 0.25 * SumToZero() + 0.125 * SumOfSquares()
WEIGHT = np.arange(12.0)


@pytest.mark.parametrize("model", [Linear(3), Linear(3, True), MLP(3, (4,), "tanh", True)])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_value_and_scores(model, backend):
    objective = Objective(model, LOSS, DATA.chosen, DATA.rejected, WEIGHT, backend)
    theta = model.init(2) + 0.5
    r_w, r_l = objective.scores(theta)
    # One product with all rows or two with halves: each score differs by the rounding of its sum of 4 terms.
    np.testing.assert_allclose(r_w, model.reward(theta, DATA.chosen), rtol=64 * 2.0**-52)
    np.testing.assert_allclose(r_l, model.reward(theta, DATA.rejected), rtol=64 * 2.0**-52)
    value = LOSS.value(r_w, r_l, weight=WEIGHT, backend=backend)
    np.testing.assert_allclose(objective.value(theta), value, rtol=64 * 2.0**-52)
    assert objective.value(theta) == objective.value_and_grad(theta)[0]
    assert len(objective) == 12


@pytest.mark.parametrize("bias", [False, True])
def test_hessian_is_its_products(bias):
    model = Linear(3, bias)
    objective = Objective(model, LOSS, DATA.chosen, DATA.rejected, WEIGHT)
    theta = np.linspace(-1, 1, model.n_params)
    columns = np.stack([objective.hvp(theta, e) for e in np.eye(model.n_params)])
    hessian = objective.hessian(theta)
    np.testing.assert_allclose(columns, hessian, rtol=0, atol=2.0**-52 * 64 * np.abs(hessian).max())


def test_hessian_is_for_the_linear_model():
    objective = Objective(MLP(3), LOSS, DATA.chosen, DATA.rejected)
    with pytest.raises(InputError, match="hessian is for the linear model, got MLP; use hvp"):
        objective.hessian(objective.model.init())


def test_take_is_the_objective_of_those_pairs():
    index = np.array([3, 1, 7])
    loss = BradleyTerry(np.arange(12.0)) + 0.5 * SquaredSum()
    part = Objective(Linear(3), loss, DATA.chosen, DATA.rejected, WEIGHT).take(index)
    same = Objective(
        Linear(3), BradleyTerry([3.0, 1.0, 7.0]) + 0.5 * SquaredSum(), DATA.chosen[index], DATA.rejected[index],
        [3.0, 1.0, 7.0],
    )  # fmt: skip
    assert part.value(np.ones(3)) == same.value(np.ones(3))


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        (np.zeros((2, 4)), np.zeros((2, 4)), r"chosen must have shape \(N, 3\), got \(2, 4\)"),
        (np.zeros((2, 3)), np.zeros((3, 3)), r"rejected must have shape \(2, 3\), that of chosen, got \(3, 3\)"),
        (np.zeros(3), np.zeros(3), r"chosen must have shape \(N, 3\), got \(3,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"chosen and rejected are empty, shape \(0, 3\)"),
        (
            [[1, np.nan, 0]],
            [[0, 0, 0]],
            r"chosen must be finite and at most 1e\+100 in size, got nan at index \(0, 1\)",
        ),
        ([[0, 0, 0]], [[0, 0, -np.inf]], r"rejected must be finite .* got -inf at index \(0, 2\)"),
        ([[1e101, 0, 0]], [[0, 0, 0]], "chosen must be finite and at most"),
        (np.float32([[np.inf, 0, 0]]), [[0, 0, 0]], r"at most 3.4e\+38 in size, got inf"),
        ([["a", "b", "c"]], [[0, 0, 0]], "chosen must be real numbers"),
    ],
)
def test_bad_features_are_refused(chosen, rejected, message):
    with pytest.raises(InputError, match=message):
        Objective(Linear(3), LOSS, chosen, rejected)


def test_margins_and_weights_must_fit_the_pairs():
    with pytest.raises(InputError, match=r"margin must have shape \(\) or \(12,\)"):
        Objective(Linear(3), BradleyTerry([1.0, 2.0]), DATA.chosen, DATA.rejected)
    with pytest.raises(InputError, match=r"weight must have shape \(12,\)"):
        Objective(Linear(3), LOSS, DATA.chosen, DATA.rejected, [1.0])


def test_theta_of_another_shape_is_refused():
    objective = Objective(Linear(3), LOSS, DATA.chosen, DATA.rejected)
    for call in (objective.value, objective.value_and_grad, objective.scores, objective.hessian):
        with pytest.raises(InputError, match=r"theta must have shape \(3,\), the model's parameters, got \(4,\)"):
            call(np.zeros(4))


def test_float32_features_make_a_float32_computation():
    objective = Objective(Linear(3), LOSS, DATA.chosen.astype("f4"), DATA.rejected.astype("f4"))
    assert objective.value_and_grad(np.zeros(3))[1].dtype == np.float32
    mixed = Objective(Linear(3), LOSS, DATA.chosen.astype("f4"), DATA.rejected)
    assert mixed.value_and_grad(np.zeros(3))[1].dtype == np.float64


def test_models_and_losses_are_told_apart():
    with pytest.raises(InputError, match=r"model must be a reward model such as Linear\(n_features\), got None"):
        Objective(None, LOSS, DATA.chosen, DATA.rejected)
    with pytest.raises(InputError, match=r"loss must be a loss such as BradleyTerry\(\) .*, got 'bt'"):
        Objective(Linear(3), "bt", DATA.chosen, DATA.rejected)


def test_features_of_the_right_layout_are_not_copied(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((5, 3), np.float32))
    mapped = np.load(path, mmap_mode="r")
    objective = Objective(Linear(3), LOSS.take(slice(0, 1)), mapped[:4], mapped[1:])
    assert np.shares_memory(objective.chosen, mapped) and np.shares_memory(objective.widen().rejected, mapped)
    assert objective.dtype == np.float32 and objective.widen().dtype == np.float64
    assert objective.value_and_grad(np.ones(3))[1].dtype == np.float32
    assert objective.widen().value_and_grad(np.ones(3))[1].dtype == np.float64


@pytest.mark.parametrize("dtype", ["int32", "float16", "foo", bool])
def test_a_dtype_that_is_not_computed_in(dtype):
    with pytest.raises(InputError, match="dtype must be float64 or float32, got"):
        Objective(Linear(3), LOSS, DATA.chosen, DATA.rejected, dtype=dtype)


def test_an_objective_makes_nothing_as_long_as_its_features():
    import tracemalloc

    x, y = np.zeros((2, 1 << 20, 1), np.float32)
    tracemalloc.start()
    try:
        Objective(Linear(1), LOSS, x, y)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 4
    finally:
        tracemalloc.stop()
