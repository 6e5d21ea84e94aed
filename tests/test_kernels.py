"""The kernels and the spec against arbitrary precision, over the whole range of float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from refrm import SumOfSquares, kernels, spec
from refrm.mlp import ACTIVATIONS
from refrm.testing import label_smoothings, margins, score_pairs, weights

RNG = np.random.default_rng(0)
FREE = RNG.normal(size=60)
CASES = {
    "near 0": (FREE, RNG.normal(size=60), np.zeros(1)),
    "shifted": (500 + FREE, 500 + RNG.normal(size=60), np.zeros(1)),
    "cancelling": (100 * FREE * (1 + 1e-12 * RNG.normal(size=60)), 100 * FREE, 1e-9 * RNG.normal(size=60)),
    "cancelled by the margin": (1e9 + FREE, 0.125 * FREE, np.full(60, 1e9)),
    "tails": (np.linspace(-746, 746, 101), np.zeros(101), np.zeros(1)),
}
SUBNORMALS = st.integers(-40, 40).map(lambda k: k * 5e-324)


def check_pair(r_w, r_l, margin, eps, jet):
    """The stated bounds of `refrm.kernels`: loss and gradient 2 ulp, curvature 4; smoothed slopes in ulp of the
    larger term."""
    loss, slope, curvature, losing = reference.bradley_terry(r_w, r_l, margin, eps)
    assert reference.ulps(jet.value[0], loss) <= 2
    assert reference.ulps(jet.g_w[0], slope, max(losing, reference.exact(eps)) if eps else None) <= 2
    assert reference.ulps(jet.h_ww[0], curvature) <= 4
    assert jet.g_l[0] == -jet.g_w[0] and jet.h_ll[0] == jet.h_ww[0] == -jet.h_wl[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_bradley_terry_where_it_is_hard(case, eps):
    r_w, r_l, margin = CASES[case]
    margin = np.broadcast_to(margin, r_w.shape)
    for i in range(len(r_w)):
        one = [x[i : i + 1].copy() for x in (r_w, r_l, margin)]
        check_pair(*(x[0] for x in one), eps, kernels.bradley_terry(*one, eps))


@given(score_pairs(max_size=1), margins(1.7e308), label_smoothings())
@example((np.array([-1.8483181827385115e307]), np.array([1.7156009933748134e308])), -1.7945654931485986e308, 0.0)
@example((np.array([-np.finfo(float).max]), np.array([2.0**970])), -np.finfo(float).max, 0.0)
@example((np.array([np.finfo(float).max]), np.array([-np.finfo(float).max])), 0.0, 0.0)
def test_bradley_terry_everywhere(pair, margin, eps):
    with np.errstate(all="ignore"):
        check_pair(*(x[0] for x in pair), margin, eps, kernels.bradley_terry(*pair, np.array([margin]), eps))


@given(SUBNORMALS, SUBNORMALS, SUBNORMALS)
def test_bradley_terry_of_subnormals(r_w, r_l, margin):
    one = [np.array([x]) for x in (r_w, r_l, margin)]
    check_pair(r_w, r_l, margin, 0.0, kernels.bradley_terry(*one, 0.0))


@given(score_pairs(max_magnitude=1e6), margins(), label_smoothings())
def test_the_spec_within_its_stated_bound(pair, margin, eps):
    # |z| + 4 ulp: rounding d, then z, moves the exponent by u(|d| + |z|), an ulp being at least u of the result.
    jet = spec.bradley_terry(*pair, np.array([margin]), eps)
    for i, (r_w, r_l) in enumerate(zip(*pair, strict=True)):
        loss, slope, _, losing = reference.bradley_terry(r_w, r_l, margin, eps)
        allowed = abs(r_w - r_l) + abs(r_w - r_l - margin) + 4
        assert reference.ulps(jet.value[i], loss) <= allowed
        assert reference.ulps(jet.g_w[i], slope, max(losing, reference.exact(eps))) <= allowed


@given(score_pairs(dtype=np.float32), margins(), label_smoothings())
def test_float32_is_the_float64_result_rounded_once(pair, margin, eps):
    wide = [x.astype(np.float64) for x in pair]
    with np.errstate(all="ignore"):
        for name, rest in (
            ("bradley_terry", (np.array([margin]), eps)),
            ("squared_sum", ()),
            ("sum_of_squares", ()),
        ):
            narrow, full = getattr(kernels, name)(*pair, *rest), getattr(kernels, name)(*wide, *rest)
            for part, whole in zip(narrow, full, strict=True):
                assert part.dtype == np.float32
                np.testing.assert_array_equal(part, whole.astype(np.float32))


@given(score_pairs())
def test_penalties_everywhere(pair):
    with np.errstate(all="ignore"):
        together, apart = kernels.squared_sum(*pair), kernels.sum_of_squares(*pair)
        halved = SumOfSquares("mean").pairs(*pair)
    for i, (r_w, r_l) in enumerate(zip(*(map(reference.exact, x) for x in pair), strict=True)):
        s = r_w + r_l
        assert reference.ulps(together.value[i], s * s) <= 2
        assert reference.ulps(together.g_w[i], 2 * s) <= 2 and together.g_l[i] == together.g_w[i]
        assert reference.ulps(apart.value[i], r_w * r_w + r_l * r_l) <= 2
        assert reference.ulps(apart.g_w[i], 2 * r_w) == reference.ulps(apart.g_l[i], 2 * r_l) == 0
    for part, half in zip(apart, halved, strict=True):
        np.testing.assert_array_equal(half, 0.5 * part)


@given(st.data())
def test_mean_within_two_ulp(data):
    n = data.draw(st.integers(1, 40))
    values = np.array(data.draw(st.lists(st.floats(0, 1e308) | st.floats(0, 1e-300), min_size=n, max_size=n)))
    weight = data.draw(weights(n))
    total = sum(map(Fraction, weight))
    truth = sum(Fraction(w) * Fraction(x) for w, x in zip(weight, values, strict=True)) / total
    found = Fraction(kernels.mean(values, weight))
    assert abs(found - truth) <= 2 * Fraction(float(np.spacing(float(truth))))


@pytest.mark.compiled
@pytest.mark.parametrize(("n", "size"), [(10**6, 1.0), (3 * 10**6 + 1, 1e-290), (20000, 1e303)])
def test_mean_within_two_ulp_of_many(n, size):
    values = size * np.exp(np.random.default_rng(n).uniform(-12, 12, n))
    down = 2.0 ** -(100 * (size > 1))  # where the sum itself would overflow
    truth = math.fsum(down * values) / n  # within one ulp of the exact mean
    assert abs(down * kernels.mean(values, np.ones(n)) - truth) <= 3 * np.spacing(truth)


def test_mean_of_what_is_not_a_number():
    with np.errstate(all="ignore"):
        for bad in (np.nan, np.inf):
            np.testing.assert_equal(kernels.mean(np.array([1.0, bad]), np.ones(2)), bad)


@given(score_pairs(max_magnitude=1e150, max_size=6))
def test_sum_to_zero(pair):
    share = np.full(len(pair[0]), 1.0)
    share /= share.sum()
    value, g = kernels.sum_to_zero(*pair, share)
    mean = sum(
        reference.exact(q) * (reference.exact(w) + reference.exact(v)) for q, w, v in zip(share, *pair, strict=True)
    )
    # Twice the working precision: one rounding of the mean, and (N u)^2 of the terms that cancel in it.
    size = sum(abs(x) for side in pair for x in side)
    error = abs(mean) * 2.0**-52 + size * (len(share) * 2.0**-52) ** 2 + 5e-324
    assert abs(value - mean * mean) <= 2 * (abs(mean) + error) * error + 5e-324
    for q, slope in zip(share, g, strict=True):
        assert abs(slope - 2 * mean * reference.exact(q)) <= 4 * error


@given(st.floats(-800, 800) | st.floats(-2, 2) | st.just(0.0))
def test_activations_agree_with_the_model_s(z):
    for kind, name in enumerate(ACTIVATIONS):
        with np.errstate(under="ignore"):
            a, slope, _ = (float(x[0]) for x in ACTIVATIONS[name](np.array([z])))
        found = kernels.activate(kind, z)
        # exp(-z^2/2) and erfc lose z^2 ulp to the rounding of their argument; the rest a few, of 1 + |z|.
        size = 2.0**-52 * (8 + 4 * z * z * math.exp(-min(z * z / 2, 700))) * (1 + abs(z))
        assert abs(found[0] - a) <= size and abs(found[1] - slope) <= size


def test_relu_has_derivative_0_at_0():
    assert kernels.activate(kernels.RELU, 0.0) == (0.0, 0.0)
    assert ACTIVATIONS["relu"](np.zeros(1))[1][0] == 0.0


def test_where_no_cache_can_be_written_the_kernels_are_compiled_without(monkeypatch):
    def njit(cache=False, **_):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr("numba.njit", njit)
    assert kernels.jit(len) is len
