"""The linear model and the MLP: rewards by hand, gradients and tangents as identities."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refrm import MLP, BradleyTerry, InputError, Linear, Objective, SquaredSum, SumToZero, check_gradient, make_pairs
from refrm.mlp import INITS

ACTIVATIONS = ["relu", "tanh", "gelu", "softplus"]
PHI = {
    "relu": lambda z: max(z, 0.0),
    "tanh": math.tanh,
    "gelu": lambda z: z * 0.5 * (1 + math.erf(z / math.sqrt(2))),
    "softplus": lambda z: math.log1p(math.exp(z)),
}


def models():
    """Linear, and MLPs of every activation, of no, one and two hidden layers, with and without a bias."""
    linear = st.builds(Linear, st.integers(1, 4), st.booleans())
    hidden = st.lists(st.integers(1, 4), max_size=3).map(tuple)
    return linear | st.builds(MLP, st.integers(1, 4), hidden, st.sampled_from(ACTIVATIONS), st.booleans())


def test_linear_by_hand():
    x, dr = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, -0.5])
    assert Linear(2).reward(np.array([0.5, -1.0]), x).tolist() == [-1.5, -2.5]
    assert Linear(2, True).reward(np.array([0.5, -1.0, 10.0]), x).tolist() == [8.5, 7.5]
    assert Linear(2).vjp(np.zeros(2), x, dr).tolist() == [-0.5, 0.0]
    assert Linear(2, True).vjp(np.zeros(3), x, dr).tolist() == [-0.5, 0.0, 0.5]
    assert Linear(2, True).design(x).tolist() == [[1.0, 2.0, 1.0], [3.0, 4.0, 1.0]]
    assert Linear(2, True).init().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_mlp_by_hand(activation, bias):
    model = MLP(2, (2, 1), activation, bias)
    theta = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -0.75, 2.0, -1.0, 0.125, -1.5, 4.0][: model.n_params])
    phi = PHI[activation]
    for x in ([1.0, -1.0], [0.3, 0.7]):
        a = phi(x[0] * 1.0 + x[1] * 0.5 + 0.25), phi(x[0] * -2.0 + x[1] * 3.0 - 0.75)
        b = phi(2.0 * a[0] - a[1] + 0.125)
        expected = -1.5 * b + (4.0 if bias else 0.0)
        assert abs(model.reward(theta, np.array([x]))[0] - expected) <= 32 * 2.0**-52


def test_an_mlp_without_hidden_layers_is_linear():
    x, theta = np.arange(6.0).reshape(3, 2), np.array([1.0, -2.0, 0.5])
    np.testing.assert_array_equal(MLP(2, (), head_bias=True).reward(theta, x), Linear(2, True).reward(theta, x))


@given(models(), st.integers(0, 2**32 - 1))
def test_vjp_is_the_transpose_of_jvp(model, seed):
    rng = np.random.default_rng(seed)
    theta, t = rng.standard_normal((2, model.n_params))
    x, dr = rng.standard_normal((5, model.n_features)), rng.standard_normal(5)
    left, right = dr @ model.jvp(theta, x, t), model.vjp(theta, x, dr) @ t
    # Both are sums over all paths through the network; their size is that of the same sum with absolute values.
    size = np.abs(dr) @ np.abs(model.jvp(theta, x, t)) + np.abs(model.vjp(theta, x, dr)) @ np.abs(t)
    depth = len(getattr(model, "hidden", ())) + 1
    scale = 1.0
    for w, _ in model.layers(np.abs(theta)) if depth > 1 else []:
        scale *= 1 + np.linalg.norm(w)
    paths = scale * (1 + np.linalg.norm(t)) * np.linalg.norm(dr) * (1 + np.linalg.norm(x))
    assert abs(left - right) <= 2.0**-52 * 64 * depth * (size + paths)
    np.testing.assert_array_equal(model.linearize(theta, x)[0], model.reward(theta, x))
    np.testing.assert_array_equal(model.linearize(theta, x)[1](dr), model.vjp(theta, x, dr))


@pytest.mark.compiled
@given(models(), st.integers(0, 2**32 - 1), st.floats(0, 2))
def test_gradients_and_hessian_products(model, seed, coef):
    rng = np.random.default_rng(seed)
    chosen, rejected = rng.standard_normal((2, 4, model.n_features))
    loss = BradleyTerry(0.5, 0.1) + coef * SquaredSum() + coef * SumToZero()
    objective = Objective(model, loss, chosen, rejected, rng.random(4) + 0.1)
    theta = rng.standard_normal(model.n_params)
    step = 0.1
    if getattr(model, "activation", "") == "relu":  # smooth as long as no pre-activation changes its sign
        step = 0.5 * distance_to_kink(model, theta, np.concatenate([chosen, rejected])) / (1 + np.linalg.norm(theta))
        assume(step > 1e-6)
    report = check_gradient(objective.value_and_grad, theta, hvp=objective.hvp, step=step)
    assert report.ok, str(report)


def distance_to_kink(model, theta, x):
    """How far theta can move in any direction, to first order, before some pre-activation changes its sign."""
    distance, a, slopes = 1.0, x, np.ones(len(x))
    for w, b in model.layers(theta)[:-1]:
        slopes = slopes + np.linalg.norm(a, axis=1)
        z = a @ w + b
        distance = min(distance, np.min(np.abs(z).min(1) / (1 + slopes * (1 + np.linalg.norm(w)))))
        a, slopes = np.maximum(z, 0), slopes * (1 + np.linalg.norm(w))
    return distance


def test_relu_has_derivative_0_at_0():
    model = MLP(1, (1,), "relu")
    at_the_kink = model.vjp(np.array([1.0, 0.0, 1.0]), np.zeros((1, 1)), np.ones(1))
    assert at_the_kink.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("scale", INITS)
def test_initialisation(scale):
    model = MLP(200, (300, 100), init_scale=scale, head_bias=True)
    (w1, b1), (w2, b2), (head, bias) = model.layers(model.init(7))
    for w in (w1, w2):
        # The sample deviation of n normals is within 5 standard errors, sigma/sqrt(2n), of sigma.
        sigma = INITS[scale](*w.shape)
        assert abs(w.std() - sigma) <= 5 * sigma / math.sqrt(2 * w.size)
    assert abs(head.std() - 0.1) <= 5 * 0.1 / math.sqrt(200)
    assert not b1.any() and not b2.any() and not bias.any()
    np.testing.assert_array_equal(model.init(7), model.init(7))
    assert (model.init(7) != model.init(8)).any()
    assert {"he": 0.1, "glorot": math.sqrt(2 / 500), "lecun": math.sqrt(1 / 200)}[scale] == INITS[scale](200, 300)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("model", [Linear(3, True), MLP(3, (4, 2), head_bias=True)], ids=["linear", "mlp"])
def test_float32_stays_float32(model, activation):
    if isinstance(model, MLP):
        model = MLP(3, (4, 2), activation, True)
    theta, data = model.init(0, "float32") + np.float32(0.1), make_pairs(4, 3)
    objective = Objective(
        model, BradleyTerry() + 0.1 * SquaredSum(), data.chosen.astype("f4"), data.rejected.astype("f4")
    )
    value, grad = objective.value_and_grad(theta)
    assert theta.dtype == grad.dtype == objective.scores(theta)[0].dtype == np.float32
    assert objective.hvp(theta, theta).dtype == np.float32
    wide = Objective(model, objective.loss, objective.chosen.astype(float), objective.rejected.astype(float))
    # A dozen float32 roundings of sums of fewer than 16 terms of size below 10.
    np.testing.assert_allclose(grad, wide.value_and_grad(theta.astype(float))[1], rtol=0, atol=12 * 16 * 10 * 2.0**-24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "swish"}, "activation must be one of relu, tanh, gelu, softplus, got 'swish'"),
        ({"init_scale": "xavier"}, "init_scale must be one of he, glorot, lecun, got 'xavier'"),
        ({"hidden": (4, 0)}, "hidden must be an integer >= 1, got 0"),
        ({"hidden": (4.0,)}, "hidden must be an integer >= 1, got 4.0"),
        ({"hidden": 4}, "hidden must be a tuple of integers >= 1, got 4"),
        ({"n_features": 0}, "n_features must be an integer >= 1, got 0"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        MLP(**{"n_features": 3, **arguments})


def test_a_linear_model_has_features():
    for wrong in (0, 1.0, True, "3"):
        with pytest.raises(InputError, match="n_features must be an integer >= 1"):
            Linear(wrong)
