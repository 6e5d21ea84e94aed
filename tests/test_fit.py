"""Fitting: every way to stop, what is recorded, and resuming to the same bits."""

import contextlib
import json
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrm import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    BradleyTerry,
    FileError,
    InputError,
    Linear,
    Newton,
    Objective,
    SquaredSum,
    SumOfSquares,
    SumToZero,
    load_baseball,
    make_pairs,
    minimize,
)
from refrm.files import read_npz, write_npz
from refrm.fit import evaluate
from refrm.solvers import stream

DATA = make_pairs(60, 4, seed=1)
LOSS = BradleyTerry() + 0.05 * SquaredSum()
PAIRWISE = BradleyTerry()
U = 2.0**-53


def objective_of(model=None, loss=LOSS, weight=None, backend="auto", dtype="f8"):
    return Objective(model or Linear(4), loss, DATA.chosen.astype(dtype), DATA.rejected.astype(dtype), weight, backend)


# --- what is recorded --------------------------------------------------------------------------------------------


def test_a_record_by_hand():
    weight = np.array([1.0, 3.0])
    objective = Objective(Linear(1), BradleyTerry() + 0.5 * SquaredSum(), [[3.0], [1.0]], [[1.0], [1.0]], weight)
    record = evaluate(objective, np.array([2.0]))
    r_w, r_l = np.array([6.0, 2.0]), np.array([2.0, 2.0])
    share = weight / 4
    half, d = (r_w + r_l) / 2, r_w - r_l
    expected = {
        "loss": share @ np.log1p(np.exp(-d)),
        "penalty": 0.5 * share @ (r_w + r_l) ** 2,
        "mean_score": share @ half,
        "spread": np.sqrt(share @ (half - share @ half) ** 2),
        "mean_margin": share @ d,
        "std_margin": np.sqrt(share @ (d - share @ d) ** 2),
        "accuracy": 0.25 * 1 + 0.75 * 0.5,  # a tie counts one half
        "grad_norm": np.linalg.norm(objective.value_and_grad([2.0])[1]),
    }
    assert record.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(record[key] - value) <= 16 * U * abs(value), key


def test_the_penalty_is_computed_not_what_is_left_over():
    alone = objective_of(loss=SquaredSum())
    found = evaluate(alone, np.ones(4))
    # scores of 4 products, and their mean, in another order
    assert abs(found["penalty"] - alone.value(np.ones(4))) <= 64 * U * found["penalty"] and found["loss"] == 0
    tiny = evaluate(objective_of(loss=BradleyTerry() + 1e-20 * SquaredSum()), np.ones(4))
    assert abs(tiny["penalty"] - 1e-20 * alone.value(np.ones(4))) <= 64 * U * tiny["penalty"]


@pytest.mark.parametrize("solver", [Newton(), LBFGS(), SGD(steps=25), Adam(steps=25)], ids=lambda s: type(s).__name__)
def test_what_is_recorded_and_when(solver):
    seen = []
    result = minimize(objective_of(), solver, heldout=objective_of(), record_every=10, callback=seen.append)
    assert seen == result.history
    steps = [record["step"] for record in result.history]
    assert steps[0] == 0 and steps[-1] == result.steps and all(step % 10 == 0 for step in steps[:-1])
    assert steps == sorted(set(steps))
    for record in result.history:
        assert len(record) == 17
        for key, value in record.items():
            if key.startswith("heldout_"):
                assert value == record[key.removeprefix("heldout_")]
    assert result.column("loss").tolist() == [record["loss"] for record in result.history]


# --- every way to stop -------------------------------------------------------------------------------------------


def separable(loss=PAIRWISE):
    rng = np.random.default_rng(0)
    return Objective(Linear(2), loss, np.abs(rng.standard_normal((20, 2))) + 0.1, np.zeros((20, 2)))


@pytest.mark.parametrize(
    ("objective", "solver", "stop", "message"),
    [
        (objective_of(), Newton(), "converged", "converged after .* iterations: gradient norm"),
        (objective_of(), LBFGS(), "converged", "converged after"),
        (objective_of(dtype="f4"), Newton(), "converged", "converged after"),
        (objective_of(dtype="f4"), LBFGS(), "converged", "converged after"),
        (objective_of(), Newton(tol=0.0), "converged", "converged after"),  # below the rounding of J
        (objective_of(), SGD(steps=3), "completed", "completed all 3 steps"),
        (objective_of(), Adam(steps=3), "completed", "completed all 3 steps"),
        (objective_of(), Adam(steps=0), "completed", "completed all 0 steps"),
        (objective_of(), Newton(max_iter=1), "max_iter", "limit of 1 iterations: .* not converged"),
        (objective_of(), LBFGS(max_iter=2), "max_iter", "limit of 2 iterations: .* not converged"),
        (objective_of(), LBFGS(max_iter=0), "max_iter", "limit of 0 iterations"),
        (objective_of(), LBFGS(tol=0.0), "stalled", "no step lowers the objective"),
        (separable(), Newton(), "separable", "no minimiser .T9."),
        (separable(), Newton(max_iter=3), "separable", "stopped at step 3"),
        (separable(), LBFGS(), "separable", "Label smoothing bounds the margins"),
        (separable(), SGD(steps=3), "separable", "stopped at step 3"),
        (separable(BradleyTerry() + 0.1 * SquaredSum()), Newton(), "converged", ""),
        (separable(BradleyTerry(0, 0.1)), Newton(), "converged", ""),
        (objective_of(), SGD(lr=1e300, steps=20), "diverged", "no longer finite at step"),
        (objective_of(loss=BradleyTerry() + 1e-308 * SquaredSum()), Newton(), "diverged", "no longer finite"),
        (objective_of(loss=BradleyTerry() + 1e308 * SquaredSum()), Newton(), "diverged", "no longer finite"),
        (objective_of(loss=BradleyTerry() + 1e308 * SquaredSum()), LBFGS(), "diverged", "no longer finite"),
    ],
)
def test_stops(objective, solver, stop, message):
    start = next((x for text, x in (("1e+308", 1.0), ("1e-308", 1e200)) if text in repr(objective.loss)), 0.0)
    result = minimize(objective, solver, theta=np.full(objective.model.n_params, start))
    assert result.stop == stop
    assert re.search(message, result.message), result.message


def test_a_start_far_out_on_separable_data_is_separable_not_converged():
    for start in (30.0, 800.0):
        result = minimize(Objective(Linear(1), BradleyTerry(), [[1.0]], [[0.0]]), Newton(), theta=np.array([start]))
        assert result.stop == "separable"


def test_newton_with_nothing_to_see():
    result = minimize(Objective(Linear(2), BradleyTerry(), [[1.0, 2.0]], [[1.0, 2.0]]), Newton(), theta=np.ones(2))
    assert (result.stop, result.undetermined, result.theta.tolist()) == ("converged", 2, [1.0, 1.0])


def test_newton_comes_back_from_where_the_loss_is_flat():
    # Far out every sigma(z)*sigma(-z) underflows; there the bound 1/4 of the curvature makes the step.
    objective = Objective(Linear(1), BradleyTerry(), [[1.0], [-1.0]], [[0.0], [0.0]], [3.0, 1.0])
    for start in (760.0, -800.0):
        result = minimize(objective, Newton(max_iter=2000), theta=np.array([start]), record_every=2000)
        assert result.stop == "converged" and abs(result.theta[0] - np.log(3)) <= 1e-12


@pytest.mark.compiled
@pytest.mark.parametrize("margin", [10.0, 30.0, 100.0])
def test_newton_finds_the_minimiser_where_the_start_is_flat(margin):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data = rng.normal(size=(2, 60, 3))
        result = minimize(Objective(Linear(3), BradleyTerry(margin), *data), Newton())
        assert result.stop == "converged"


def test_a_pair_of_weight_0_does_not_count_in_training_where_its_scores_overflow():
    chosen, rejected = np.float32([[1, 0], [3.4e38, 3.4e38]]), np.float32([[0, 1], [-3.4e38, -3.4e38]])
    for backend in ("numba", "numpy"):
        objective = Objective(Linear(2), LOSS, chosen, rejected, [1.0, 0.0], backend)
        result = minimize(objective, SGD(lr=0.5, batch_size=2, steps=20), theta=np.array([2.0, 1.0]), record_every=20)
        assert np.isfinite(result.theta).all()


def test_newton_is_for_the_linear_model():
    with pytest.raises(InputError, match="Newton is for the linear model, got MLP; use LBFGS, SGD or Adam"):
        minimize(objective_of(MLP(4)), Newton())


# --- what is found -----------------------------------------------------------------------------------------------


def test_the_baseball_season():
    season = load_baseball()
    objective = Objective(Linear(7), BradleyTerry(), season.chosen, season.rejected, season.weight)
    result = minimize(objective, Newton())
    published = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]
    assert np.round(result.theta - result.theta[-1], 4).tolist() == published
    assert result.undetermined == 1 and abs(result.theta.sum()) <= 64 * U  # of least norm
    curvature = np.linalg.eigvalsh(objective.hessian(result.theta))[1]  # the smallest but for the shift, which is 0
    for solver in (LBFGS(), SGD(lr=2.0, batch_size=42, steps=500), Adam(lr=0.05, batch_size=42, steps=500)):
        found = minimize(objective, solver, record_every=3000)
        apart = found.theta - found.theta.mean() - result.theta
        assert np.linalg.norm(apart) <= 2 * found.history[-1]["grad_norm"] / curvature + 1e-13
        assert found.history[-1]["grad_norm"] < 1e-3


@pytest.mark.parametrize("loss", [LOSS, LOSS + 0.1 * SumToZero(), BradleyTerry(0.5, 0.1) + 0.1 * SumOfSquares()])
@pytest.mark.parametrize("bias", [False, True])
def test_newton_and_lbfgs_meet(loss, bias):
    objective = objective_of(Linear(4, bias), loss, np.arange(1.0, 61.0))
    newton, lbfgs = minimize(objective, Newton()), minimize(objective, LBFGS(tol=1e-10))
    # |theta - theta*| <= |grad|/curvature at each end
    curvature = np.linalg.eigvalsh(objective.hessian(newton.theta))[0]
    bound = sum(np.linalg.norm(objective.value_and_grad(r.theta)[1]) for r in (newton, lbfgs)) / curvature
    assert np.linalg.norm(newton.theta - lbfgs.theta) <= 2 * bound + 1e-12


def test_integer_weights_are_copies_for_every_solver():
    copies = np.arange(60) % 3
    index = np.repeat(np.arange(60), copies)
    weighted = objective_of(weight=copies)
    copied = Objective(Linear(4), LOSS, DATA.chosen[index], DATA.rejected[index])
    for solver in (Newton(), LBFGS(), SGD(lr=0.01, batch_size=60, steps=50), Adam(lr=0.01, batch_size=60, steps=50)):
        # The same sums in another order: rounding, amplified at most by the condition of 60 steps.
        np.testing.assert_allclose(minimize(weighted, solver).theta, minimize(copied, solver).theta, rtol=0, atol=1e-7)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_minibatches_of_weighted_pairs_minimise_the_weighted_objective(backend):
    # 9 pairs say +1 for one that says -1: the minimiser is log 9, of which a batch of one pair knows nothing.
    objective = Objective(Linear(1), BradleyTerry(), [[1.0], [-1.0]], [[0.0], [0.0]], [9.0, 1.0], backend)
    found = minimize(objective, SGD(lr=0.02, batch_size=1, steps=2000), record_every=2000).theta[0]
    # Two opposite steps of at most lr*1.8/10 follow each other.
    assert abs(found - np.log(9)) <= 0.02 * 1.8


def test_a_batch_of_pairs_without_weight_moves_nothing():
    weight = np.zeros(60)
    weight[0] = 1.0
    for backend in ("numba", "numpy"):
        objective = objective_of(weight=weight, backend=backend)
        batch = stream(0, 60, 1, 0, 1)[0, 0]
        result = minimize(objective, SGD(lr=0.1, batch_size=1, steps=1), theta=np.ones(4))
        assert (result.theta == 1.0).all() == (batch != 0)


# --- the compiled loop and the NumPy loop ------------------------------------------------------------------------

MODELS = [
    Linear(4),
    Linear(4, True),
    MLP(4, (5, 3), "tanh", True),
    MLP(4, (6,), "relu"),
    MLP(4, (6,), "softplus", True),
]
EVERY_TERM = BradleyTerry(0.25, 0.05) + 0.05 * SquaredSum() + 0.02 * SumToZero() + 0.01 * SumOfSquares()


@pytest.mark.parametrize("model", [*MODELS, MLP(4, (6,), "gelu")], ids=repr)
@pytest.mark.parametrize(
    "solver",
    [
        SGD(lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=7, steps=30),
        SGD(lr=0.05, batch_size=100, steps=10),
        Adam(lr=0.01, weight_decay=0.1, batch_size=7, steps=30),
    ],
    ids=["momentum", "full batch", "adamw"],
)
def test_the_compiled_loop_is_the_numpy_loop(model, solver):
    weight = np.arange(60) % 4
    compiled, plain = (
        minimize(objective_of(model, EVERY_TERM, weight, backend), solver, seed=3, record_every=30).theta
        for backend in ("numba", "numpy")
    )
    # Thirty steps amplify the rounding of either loop by less than 1e4; Adam divides by gradients of 1e-8 at least.
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-8 if isinstance(solver, Adam) else 1e-11)


@pytest.mark.parametrize("model", MODELS[1:3], ids=repr)
def test_float32_trains_in_float32(model):
    for backend, solver in (("numba", Adam(steps=20)), ("numpy", SGD(steps=20))):
        narrow = minimize(objective_of(model, backend=backend, dtype="f4"), solver)
        wide = minimize(objective_of(model, backend=backend), solver)
        assert narrow.theta.dtype == np.float32
        # Twenty steps of lr 1e-3 (Adam) or 0.1 with gradients below 10: each adds a float32 rounding of its size.
        np.testing.assert_allclose(narrow.theta, wide.theta, rtol=0, atol=20 * 1e3 * 2.0**-24)


# --- the order of the pairs --------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 25), st.integers(0, 40), st.integers(1, 40))
def test_stream(seed, n, size, step, count):
    batches = stream(seed, n, size, step, count)
    assert batches.shape == (count, min(size, n) if size >= n else size)
    whole = stream(seed, n, size, 0, step + count)
    np.testing.assert_array_equal(batches, whole[step:])  # any step's batch without the steps before it
    for epoch in range(whole.size // n):
        assert sorted(whole.ravel()[epoch * n : (epoch + 1) * n]) == list(range(n))


# --- the same bits -----------------------------------------------------------------------------------------------

RESUMABLE = [
    (Linear(4), Newton()),
    (MLP(4, (5,), "tanh"), LBFGS(max_iter=250, tol=0.0)),
    (MLP(4, (5,), "gelu", True), Adam(lr=0.01, batch_size=16, steps=90)),
    (MLP(4, (5,), "relu"), SGD(lr=0.05, momentum=0.9, batch_size=16, steps=90)),
]


class Killed(Exception):
    """What stands for kill -9 here: nothing after it runs."""


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(("model", "solver"), RESUMABLE, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("kills", [(1,), (40, 70), (101, 150)])
def test_a_killed_fit_resumes_to_the_same_bits(tmp_path, model, solver, kills, dtype):
    objective = objective_of(model, dtype=dtype)
    options = {"heldout": objective, "seed": 5, "record_every": 7, "checkpoint_every": 10}
    whole = minimize(objective, solver, checkpoint=tmp_path / "whole.npz", **options)
    plain = minimize(objective, solver, **options)
    for at in kills:

        def die(record, at=at):
            if record["step"] >= at:
                raise Killed

        with contextlib.suppress(Killed):
            minimize(objective, solver, checkpoint=tmp_path / "run.npz", resume=True, callback=die, **options)
    resumed = minimize(objective, solver, checkpoint=tmp_path / "run.npz", resume=True, **options)
    for other in (whole, plain):
        assert resumed.theta.tobytes() == other.theta.tobytes()
        assert (resumed.history, resumed.stop, resumed.message) == (other.history, other.stop, other.message)
        assert resumed.undetermined == other.undetermined
    done = minimize(objective, solver, checkpoint=tmp_path / "run.npz", resume=True, **options)
    assert done.theta.tobytes() == whole.theta.tobytes() and done.history == whole.history


@pytest.mark.parametrize("solver", [Newton(), LBFGS(), SGD(steps=99), Adam(steps=99)], ids=lambda s: type(s).__name__)
def test_the_same_seed_gives_the_same_bits(solver):
    first, second = (minimize(objective_of(), solver, seed=7) for _ in range(2))
    assert first.theta.tobytes() == second.theta.tobytes() and first.history == second.history


def test_another_seed_gives_another_order():
    first, second = (minimize(objective_of(), SGD(batch_size=8, steps=9), seed=seed).theta for seed in (0, 1))
    assert (first != second).any()


# --- checkpoints that do not fit ---------------------------------------------------------------------------------


def saved(tmp_path):
    path = tmp_path / "run.npz"
    minimize(objective_of(), SGD(steps=20), checkpoint=path)
    return path


def test_a_checkpoint_is_not_overwritten_by_another_fit(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileError, match="exists: resume from it, or remove it"):
        minimize(objective_of(), SGD(steps=20), checkpoint=path)
    for change in (
        {"solver": SGD(steps=21)},
        {"seed": 1},
        {"record_every": 2},
        {"theta": np.ones(4)},
        {"objective": objective_of(loss=BradleyTerry())},
        {"objective": objective_of(weight=np.arange(60))},
        {"objective": objective_of(backend="numpy")},
        {"objective": objective_of(Linear(4, True))},
        {"heldout": objective_of()},
    ):
        arguments = {"objective": objective_of(), "solver": SGD(steps=20), **change}
        with pytest.raises(FileError, match="belongs to a fit of other data, model, loss or settings"):
            minimize(arguments.pop("objective"), arguments.pop("solver"), checkpoint=path, resume=True, **arguments)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        {"step": "x"},
        {"step": -1},
        {"stop": "tired"},
        {"history": []},
        {"history": [1]},
        {"history": None},
        {"history": [{"step": 0.0}]},
        {"undetermined": "x"},
        {"arrays": {"theta": np.zeros(3)}},
        {"arrays": {"theta": np.zeros(4, "f4")}},
        {"arrays": {"first": np.zeros(3)}},
        {"arrays": {"second": np.zeros((4, 4))}},
        {"arrays": {"first": np.array(["a"] * 4)}},
        {"arrays": {"extra": np.zeros(3)}},
    ],
)
def test_a_damaged_checkpoint_is_refused_with_one_line(tmp_path, damage):
    path = saved(tmp_path)
    arrays = read_npz(path)
    about = json.loads(str(arrays.pop("about")))
    write_npz(
        path, about | {k: v for k, v in damage.items() if k != "arrays"}, **{**arrays, **damage.get("arrays", {})}
    )
    with pytest.raises(FileError, match="is damaged"):
        minimize(objective_of(), SGD(steps=20), checkpoint=path, resume=True)


def test_a_damaged_checkpoint_of_newton_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    minimize(objective_of(), Newton(max_iter=2), checkpoint=path)
    arrays = read_npz(path)
    about = json.loads(str(arrays.pop("about")))
    write_npz(path, about, **{**arrays, "first": np.zeros(2)})
    with pytest.raises(FileError, match="is damaged"):
        minimize(objective_of(), Newton(max_iter=2), checkpoint=path, resume=True)


def test_a_cut_checkpoint_is_refused(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileError, match=r"is not a(n| whole) \.npz archive"):
        minimize(objective_of(), SGD(steps=20), checkpoint=path, resume=True)


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"

    def fail(*_):
        raise OSError(28, "No space left on device")

    minimize(objective_of(), SGD(steps=20), checkpoint=path, checkpoint_every=10)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    path.unlink()
    with pytest.raises(FileError, match="No space left"):
        minimize(objective_of(), SGD(steps=20), checkpoint=path, checkpoint_every=10)
    assert list(tmp_path.iterdir()) == [] and before


# --- bad arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "newton"}, r"solver must be Newton\(\), LBFGS\(\), SGD\(\) or Adam\(\), got 'newton'"),
        ({"solver": SGD(lr=0.0)}, r"lr must be a number in \(0, inf\), got 0.0"),
        ({"solver": SGD(lr="1")}, "lr must be a number in"),
        ({"solver": SGD(momentum=1.0)}, r"momentum must be a number in \[0, 1\)"),
        ({"solver": SGD(batch_size=0)}, "batch_size must be an integer >= 1, got 0"),
        ({"solver": SGD(steps=1.5)}, "steps must be an integer >= 0, got 1.5"),
        ({"solver": Adam(eps=0.0)}, r"eps must be a number in \(0, inf\)"),
        ({"solver": Newton(tol=-1.0)}, r"tol must be a number in \[0, inf\)"),
        ({"solver": LBFGS(max_iter=True)}, "max_iter must be an integer >= 0, got True"),
        ({"record_every": 0}, "record_every must be an integer >= 1"),
        ({"checkpoint_every": 1.0}, "checkpoint_every must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"theta": np.zeros(5)}, r"theta must have shape \(4,\)"),
        ({"heldout": "no"}, "objective and heldout must be an Objective"),
        (
            {"heldout": Objective(Linear(3), LOSS, [[1, 2, 3]], [[0, 0, 0]])},
            "heldout must have the model of the objective",
        ),
        ({"objective": None}, "objective and heldout must be an Objective"),
        ({"objective": objective_of(loss=BradleyTerry() + BradleyTerry())}, "more than one BradleyTerry term"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    given_ = {"objective": objective_of(), "solver": Newton(), **arguments}
    with pytest.raises(InputError, match=message):
        minimize(given_.pop("objective"), given_.pop("solver"), **given_)


@pytest.mark.compiled
@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_an_unpenalised_fit_of_noise_stops_for_a_reason_that_is_true(seed, p):
    from refrm.geometry import separating_direction

    rng = np.random.default_rng(seed)
    objective = Objective(Linear(p), BradleyTerry(), *rng.standard_normal((2, 12, p)))
    result = minimize(objective, Newton())
    assert result.stop == ("separable" if separating_direction(objective) is not None else "converged")


def test_lbfgs_takes_no_step_from_a_minimiser():
    objective = objective_of(loss=BradleyTerry() + 0.1 * SquaredSum())
    found = minimize(objective, LBFGS())
    again = minimize(objective, LBFGS(), theta=found.theta)
    assert (again.stop, again.steps) == ("converged", 0) and (again.theta == found.theta).all()
