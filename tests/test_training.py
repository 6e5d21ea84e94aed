"""The compiled training steps: activations against arbitrary precision, and the same bits on any number of threads."""

import math
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import MP, coefficients, exact

from refrm import MLP, SGD, Adam, BradleyTerry, Linear, Objective, SquaredSum, make_pairs, minimize
from refrm.kernels import activations, training
from refrm.mlp import ACTIVATIONS

U = 2.0**-53
# Around 0 and 1, and where exp(-700) is passed: by exp(-2|z|) at 350, by exp(-z^2/2) at 37.4, by exp(-|z|) at 700.
BOUNDARIES = (5e-324, 1e-300, 1e-8, 0.75, 1.0, 5.0, 350.0, math.sqrt(1400.0), 700.0, 1e9, 1e300)
NEAR = [x * (1 + k * 2 * U) for x in BOUNDARIES for k in (-2, -1, 0, 1, 2)]
GRID = [*NEAR, *(-x for x in NEAR), 0.0, *np.linspace(-40, 40, 401)]


def apply(name, z):
    """The kernel's activation and derivative of an array."""
    a, slope = np.array(z), np.full_like(z, np.nan)
    with np.errstate(all="ignore"):  # uncompiled, NumPy warns of a square that overflows
        activations.activate(list(ACTIVATIONS).index(name), a, slope)
    return a, slope


def truth(name, z):
    """(activation, derivative, size of the derivative's terms)."""
    z, zero = exact(z), exact(0)
    if name == "relu":
        return max(z, zero), exact(z > 0), exact(1)
    x = MP.exp(-min(abs(z), exact(1e4)) * (2 if name == "tanh" else 1))  # past 1e4 it is far below the range of floats
    if name == "tanh":
        slope = 4 * x / (1 + x) ** 2
        return MP.tanh(max(-exact(1e4), min(exact(1e4), z))), slope, slope
    if name == "softplus":
        slope = 1 / (1 + x) if z > 0 else x / (1 + x)
        return max(z, zero) + MP.log1p(x), slope, slope
    t = max(-exact(1e3), min(exact(1e3), z))
    cdf, part = MP.erfc(-t / MP.sqrt(2)) / 2, t * MP.exp(-t * t / 2) / MP.sqrt(2 * MP.pi)
    return z * cdf, cdf + part, cdf + abs(part)


def check(name, z):
    """The bounds of docs/theorems/numerics.md, in units of u; below exp(-700), times |z|, the result may be 0."""
    value_bound, slope_bound = {"relu": (0, 0), "tanh": (6, 9), "gelu": (14, 14), "softplus": (5, 4)}[name]
    with MP.workprec(200):
        # Uncompiled, fma rounds twice: that costs z^2/2 in gelu's exponent, and 4 more elsewhere.
        free = 4 * (name != "relu") if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 0
        for x, a, slope in zip(z, *apply(name, z), strict=True):
            value, derivative, size = truth(name, float(x))
            lost = exact(1.1e-304) * (1 + abs(exact(x)) if abs(x) < 1e3 else 1)
            more = free * (1 + exact(x) ** 2 if name == "gelu" and abs(x) < 40 else 1)
            assert abs(exact(a) - value) <= (value_bound + more) * U * abs(value) + lost, (name, x)
            assert abs(exact(slope) - derivative) <= (slope_bound + more) * U * size + lost, (name, x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_every_boundary(name):
    check(name, np.array(GRID))


@given(st.lists(st.floats(-750, 750) | st.floats(-40, 40) | st.floats(-1, 1), min_size=1, max_size=9))
def test_activations_everywhere(z):
    for name in ACTIVATIONS:
        check(name, np.array(z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_float32_are_rounded_once(name):
    z = np.concatenate([np.linspace(-8, 8, 203), [0.0, -60.0, 60.0]]).astype("f4")
    for narrow, wide in zip(apply(name, z), apply(name, z.astype("f8")), strict=True):
        assert narrow.dtype == np.float32
        np.testing.assert_array_equal(narrow, wide.astype("f4"))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_nan_and_infinity_are_the_definition_s(name):
    z = np.array([np.nan, np.inf])
    with np.errstate(invalid="ignore"):
        found, expected = apply(name, z), ACTIVATIONS[name](z)
    np.testing.assert_array_equal(found[0], expected[0])
    assert name == "relu" or np.isnan(found[1][0])


def test_relu_has_derivative_0_at_0():
    for z in (0.0, -0.0):
        a, slope = apply("relu", np.array([z]))
        assert a == 0 and slope == 0 == ACTIVATIONS["relu"](np.array([z]))[1]


def test_the_coefficients_are_those_of_the_script():
    found, largest = coefficients().mills_polynomial(21)
    assert [float(c) for c in found] == list(activations.MILLS) and largest <= 2e-17


@pytest.mark.parametrize("solver", [SGD(lr=0.05, batch_size=300, steps=3), Adam(lr=0.01, batch_size=256, steps=3)])
@pytest.mark.parametrize("model", [Linear(4, True), MLP(4, (64, 96), "relu", True)], ids=repr)
def test_the_same_bits_on_any_number_of_threads(monkeypatch, model, solver):
    data = make_pairs(300, 4, seed=2)
    theta = np.linspace(-1, 1, model.n_params)
    found = []
    for threads, large in ((1, 1), (2, 1), (3, 1), (3, 1 << 30)):  # 3 and never: the loop in one piece
        monkeypatch.setattr("numba.get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(training, "LARGE", large)
        for dtype in ("f8", "f4"):
            objective = Objective(
                model, BradleyTerry() + 0.1 * SquaredSum(), data.chosen.astype(dtype), data.rejected.astype(dtype)
            )
            found.append(minimize(objective, solver, theta=theta, record_every=3).theta.tobytes())
    assert len(set(found)) == 2  # one for each dtype


def test_adam_in_float32():
    rng, u = np.random.default_rng(0), 2.0**-24
    theta, grad, first, second = np.abs(rng.standard_normal((4, 1000))).astype("f4")
    old = [x.astype("f8") for x in (theta, grad, first, second)]
    training.adam(theta, grad, first, second, 3, (True, 0.1, 0.9, 0.999, 1e-8, 0.01))
    m, v = 0.9 * old[2] + 0.1 * old[1], 0.999 * old[3] + 0.001 * old[1] ** 2
    more = 3 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 1  # NumPy's product of a float32 and a float is float32
    np.testing.assert_allclose(first, m, rtol=more * u)
    np.testing.assert_allclose(second, v, rtol=more * u)
    move, decay = 0.1 * m / (1 - 0.9**3) / (np.sqrt(v / (1 - 0.999**3)) + 1e-8), 0.001 * old[0]
    expected = old[0] - move - decay
    # docs/theorems/numerics.md; the decay has three roundings, and the difference one; what is of order u^2 fits in 1%
    assert (np.abs(theta - expected) <= 1.01 * u * ((8 + 2 * more) * move + 3 * decay + np.abs(expected))).all()


def test_blocks_cover_everything_once():
    for pairs, widths in ((1, (3, 1)), (300, (4, 64, 96, 1)), (5, (1, 20000, 1))):
        parameters = sum(n * m + m for n, m in pairwise(widths))
        stages = training.plan(np.array(widths), pairs, parameters)
        hidden = len(widths) - 2
        assert len(stages) == 2 * hidden + 3
        items = [pairs, *[2 * pairs] * hidden, *[2 * pairs] * hidden, 0, parameters]
        assert stages[:, 1].tolist() == items
        assert (stages[:, 2] >= 1).all()
