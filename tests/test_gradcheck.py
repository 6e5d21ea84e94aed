"""The gradient check is itself checked: it accepts what is right and rejects what is 0.1% off."""

import numpy as np
import pytest

from refrm import MLP, BradleyTerry, InputError, Linear, Objective, SquaredSum, check_gradient, make_pairs
from refrm.gradcheck import Check, GradientReport

DATA = make_pairs(30, 4, seed=2)
MODELS = [Linear(4, True), MLP(4, (6, 3), "tanh", True), MLP(4, (8,), "gelu"), MLP(4, (5,), "softplus")]


def objective_of(model):
    return Objective(model, BradleyTerry() + 0.05 * SquaredSum(), DATA.chosen, DATA.rejected, backend="numpy")


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_accepts_ours_and_rejects_a_gradient_that_is_a_thousandth_off(model):
    objective, theta = objective_of(model), model.init(5) + 0.1
    assert check_gradient(objective.value_and_grad, theta, hvp=objective.hvp).ok

    def off(x):
        value, grad = objective.value_and_grad(x)
        return value, 1.001 * grad

    report = check_gradient(off, theta)
    assert not report.ok
    for way in ("differences", "integral"):  # each way sees it alone
        assert any(not check.ok for check in report.checks if way in check.way)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_rejects_one_component_that_is_a_thousandth_off(model):
    objective, theta = objective_of(model), model.init(5) + 0.1
    largest = np.abs(objective.value_and_grad(theta)[1]).argmax()

    def off(x):
        value, grad = objective.value_and_grad(x)
        grad[largest] *= 1.001
        return value, grad

    assert not check_gradient(off, theta).ok


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_rejects_a_hessian_product_that_is_a_thousandth_off_or_not_symmetric(model):
    objective, theta = objective_of(model), model.init(5) + 0.1
    assert not check_gradient(objective.value_and_grad, theta, hvp=lambda x, t: 1.001 * objective.hvp(x, t)).ok
    skew = np.zeros((theta.size, theta.size))
    skew[0, 1], skew[1, 0] = 1.0, -1.0
    report = check_gradient(objective.value_and_grad, theta, hvp=lambda x, t: objective.hvp(x, t) + skew @ t)
    assert any(not check.ok for check in report.checks if "symmetry" in check.way)


def test_accepts_many_smooth_functions_at_many_places():
    rng = np.random.default_rng(8)
    for _ in range(300):
        scale, shift = 10.0 ** rng.uniform(-3, 3), 10.0 ** rng.uniform(-3, 3)
        a = rng.standard_normal((4, 4))

        def smooth(x, scale=scale, a=a):
            y = a @ x
            return scale * np.sum(np.sin(y)), scale * a.T @ np.cos(y)

        assert check_gradient(smooth, shift * rng.standard_normal(4)).ok


def test_nan_is_wrong_and_a_zero_gradient_is_right():
    assert not check_gradient(lambda x: (np.nan, 0 * x), [1.0]).ok
    assert not check_gradient(lambda x: (np.sum(x), np.nan * x), [1.0]).ok
    assert check_gradient(lambda x: (3.0, 0 * x), [1.0, 2.0]).ok


def test_a_kink_is_said_to_be_one():
    report = check_gradient(lambda x: (np.abs(x).sum(), np.where(x > 0, 1.0, -1.0)), [0.0, 0.0], directions=3)
    assert not report.ok
    assert any("not smooth here" in check.way for check in report.checks) or any(
        "differences" in check.way and not check.ok for check in report.checks
    )
    noise = np.random.default_rng(0)
    rough = check_gradient(lambda x: (0.0, noise.standard_normal(1)), [1.0])
    assert any("not smooth here" in check.way and not check.ok for check in rough.checks)


def test_the_report_names_the_worst():
    good, bad = Check("good", 0.0, 0.0), Check("bad", 2.0, 1.0)
    report = GradientReport((good, bad))
    assert good.ok and not bad.ok and report.worst is bad
    assert str(report) == "WRONG: 2 checks, worst bad: residual 2, bound 1"
    assert str(GradientReport((good,))).startswith("ok: 1 checks")
    assert GradientReport((bad, Check("nan", np.nan, 1.0))).worst.way == "nan"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta": [[1.0]]}, r"theta must have shape \(n_params,\), got \(1, 1\)"),
        ({"value_and_grad": lambda x: 1.0}, r"value_and_grad must return \(value, gradient\)"),
        ({"theta": []}, "theta is empty"),
        ({"hvp": lambda x, t: np.zeros(2)}, r"hvp must return an array of shape \(1,\), that of theta, got \(2,\)"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"step": 0.0}, r"step must be a number in \(0, inf\)"),
        ({"directions": 0}, "directions must be an integer >= 1, got 0"),
        ({"value_and_grad": lambda x: (1.0, np.zeros(3))}, r"gradient of shape \(1,\), that of theta, got \(3,\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        check_gradient(**{"value_and_grad": lambda x: (x @ x, 2 * x), "theta": [1.0], **arguments})
