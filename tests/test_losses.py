"""The loss terms: what they refuse, how they compose, what weights, NaN and dtypes mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import SquaredDifference

from refrm import BradleyTerry, InputError, SquaredSum, SumOfSquares, SumToZero, losses
from refrm.checks import check_number
from refrm.testing import score_pairs, weights

U = 2.0**-53
TERMS = [BradleyTerry(), BradleyTerry(0.5, 0.1), SquaredSum(), SumOfSquares(), SumOfSquares("mean"), SumToZero()]
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])
EVERY = pytest.mark.parametrize("term", TERMS, ids=repr)
W, V = np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, 0.5])


@pytest.mark.parametrize(
    ("r_w", "r_l", "message"),
    [
        (np.zeros((3, 1)), np.zeros(3), r"r_w must have shape \(N,\), got \(3, 1\)"),
        (np.zeros(3), np.zeros((3, 1)), r"r_l must have shape \(3,\), that of r_w, got \(3, 1\)"),
        (np.zeros(3), np.zeros(1), r"r_l must have shape \(3,\), that of r_w, got \(1,\)"),
        (np.zeros(1), np.zeros(3), r"r_l must have shape \(1,\), that of r_w, got \(3,\)"),
        (1.0, 2.0, r"r_w must have shape \(N,\), got \(\)"),
        ([], [], "empty batch"),
        (["a"], ["b"], "r_w must be real numbers, got dtype <U1"),
        ([1.0], [1j], "r_l must be real numbers, got dtype complex128"),
        ([True], [False], "r_w must be real numbers, got dtype bool"),
        ([None], [1.0], "r_w must be real numbers, got dtype object"),
        ([[1.0], [2.0, 3.0]], [1.0], r"r_w must be an array of shape \(N,\): .*inhomogeneous"),
        (np.ma.masked_array([1.0], [True]), [1.0], "r_w must not be a masked array"),
    ],
)
@EVERY
def test_scores_of_another_shape_or_kind_are_refused(term, r_w, r_l, message):
    for call in (term.value, term.value_and_grad, term.hessian, (2 * term).value):
        with pytest.raises(InputError, match=message):
            call(r_w, r_l)


@pytest.mark.parametrize("coef", [-1, -1e-300, np.nan, np.inf, "a", None, 1j])
@EVERY
def test_coefficients_below_zero_or_not_numbers_are_refused(term, coef):
    with pytest.raises(InputError, match=r"coefficient must be a number in \[0, inf\), got"):
        coef * term


def test_only_losses_can_be_added():
    with pytest.raises(TypeError):
        BradleyTerry() + 1.0


def test_a_product_of_coefficients_that_overflows_is_refused():
    with pytest.raises(InputError, match=r"coefficient must be a number in \[0, inf\), got inf"):
        1e200 * (1e200 * BradleyTerry())


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((3, 1)), r"weight must have shape \(3,\), one per pair, got \(3, 1\)"),
        (np.ones(2), r"weight must have shape \(3,\), one per pair, got \(2,\)"),
        ([1.0, -1.0, 1.0], r"weight must be finite, >= 0 and not all 0, got minimum -1"),
        ([0.0, 0.0, 0.0], "not all 0"),
        ([1.0, np.nan, 1.0], "weight must be finite"),
        ([1.0, np.inf, 1.0], "weight must be finite"),
        ("heavy", "weight must be real numbers"),
        (np.array(["1e4000", "1", "1"], np.longdouble), "weight must be finite"),
        (np.array([0x7F800001, 0, 1], np.uint32).view(np.float32), "weight must be finite"),  # a signalling NaN
    ],
)
def test_weights_are_checked(weight, message):
    for call in (BradleyTerry().value_and_grad, SumToZero().hessian):
        with pytest.raises(InputError, match=message):
            call(W, V, weight=weight)


@pytest.mark.parametrize(
    ("margin", "message"),
    [
        (np.zeros((3, 1)), r"margin must have shape \(\) or \(N,\), got \(3, 1\)"),
        (np.nan, "margin must be finite, got nan"),
        ([0.0, np.inf], "margin must be finite, got inf"),
        ("wide", "margin must be real numbers"),
    ],
)
def test_margins_are_checked(margin, message):
    with pytest.raises(InputError, match=message):
        BradleyTerry(margin)


def test_a_margin_of_another_length_is_refused_never_broadcast():
    for margin in ([1.0], [1.0, 2.0]):
        with pytest.raises(InputError, match=r"margin must have shape \(\) or \(3,\), that of r_w"):
            BradleyTerry(margin).value(W, V)


@pytest.mark.parametrize("eps", [-0.1, 0.5, 1.0, np.nan, "some"])
def test_label_smoothing_is_checked(eps):
    with pytest.raises(InputError, match=r"label_smoothing must be a number in \[0, 0.5\)"):
        BradleyTerry(label_smoothing=eps)


def test_factor_and_backend_are_checked():
    with pytest.raises(InputError, match='factor must be "sum" or "mean", got \'half\''):
        SumOfSquares("half")
    with pytest.raises(InputError, match='backend must be "auto", "numba" or "numpy", got \'torch\''):
        BradleyTerry().value(W, V, backend="torch")


@pytest.mark.parametrize(("low", "open_low", "interval"), [(0.0, False, "[0, 1)"), (0.0, True, "(0, 1)")])
def test_check_number_names_its_interval(low, open_low, interval):
    with pytest.raises(InputError) as error:
        check_number("lr", -1, low, 1.0, open_low=open_low)
    assert str(error.value) == f"lr must be a number in {interval}, got -1"


@BACKENDS
@EVERY
def test_nan_in_nan_out(term, backend):
    value, *_ = term.value_and_grad([np.nan, 1.0], [0.0, 0.0], backend=backend)
    assert np.isnan(value)
    if not isinstance(term, SumToZero):
        jet = term.pairs([np.nan, 1.0], [0.0, 0.0], backend=backend)
        assert np.isnan(jet.value[0]) and np.isnan(jet.g_w[0]) and np.isfinite([part[1] for part in jet]).all()


@BACKENDS
@EVERY
@given(score_pairs(max_magnitude=1e6, min_size=3, max_size=3), st.data())
def test_an_integer_weight_is_that_many_copies(term, backend, pair, data):
    copies = np.array(data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=3)))
    copies[data.draw(st.integers(0, 2))] += 1
    if term.__class__ is BradleyTerry and term.label_smoothing:
        term = BradleyTerry(np.array([0.5, -1.0, 2.0]), 0.1)
    index = np.repeat(np.arange(3), copies)
    weighted, w_w, w_l = term.value_and_grad(*pair, weight=copies, backend=backend)
    copied, c_w, c_l = term.take(index).value_and_grad(pair[0][index], pair[1][index], backend=backend)
    # Two means of the same numbers: 8 roundings of the largest term, in either.
    size = 1 + max(np.abs(x).max() for x in pair)
    assert abs(weighted - copied) <= 32 * U * max(size, size**2 * (not isinstance(term, BradleyTerry)))
    for whole, parts in ((w_w, c_w), (w_l, c_l)):
        summed = np.bincount(index, parts, minlength=3)
        np.testing.assert_allclose(whole, summed, rtol=0, atol=64 * U * size)


@BACKENDS
@given(score_pairs(max_magnitude=1e3, min_size=4, max_size=4), weights(4), st.integers(-1000, 900))
def test_weights_count_by_their_ratios_alone(backend, pair, weight, exponent):
    loss = BradleyTerry() + 0.1 * SumToZero()
    scaled = np.ldexp(weight, exponent)
    if np.all(np.ldexp(scaled, -exponent) == weight):  # nothing was lost to underflow
        for found, same in zip(
            loss.value_and_grad(*pair, weight=scaled, backend=backend),
            loss.value_and_grad(*pair, weight=weight, backend=backend),
            strict=True,
        ):
            np.testing.assert_array_equal(found, same)


@BACKENDS
@EVERY
def test_a_pair_of_weight_0_does_not_count_whatever_it_holds(term, backend):
    for first in (np.nan, np.inf, 1e200):
        found = term.value_and_grad([first, 1.0], [0.0, 2.0], weight=[0, 3], backend=backend)
        alone = term.value_and_grad([1.0], [2.0], backend=backend)
        assert found[0] == alone[0] and found[1].tolist() == [0.0, alone[1][0]]
        assert np.isfinite(term.hessian([first, 1.0], [0.0, 2.0], weight=[0, 3], backend=backend).dense()).all()


@BACKENDS
def test_weights_at_the_ends_of_the_range(backend):
    for weight in (1e308, 5e-324, 1e-310):
        found = BradleyTerry().value_and_grad([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], weight=[weight] * 3, backend=backend)
        assert found[0] == BradleyTerry().value([1.0], [0.0], backend=backend)


@BACKENDS
def test_float32_scores_are_computed_in_float64_and_the_value_stays_one(backend):
    w, v = np.float32([1e20, 110.0]), np.float32([1e19, 0.0])
    for loss in (SquaredSum(), BradleyTerry() + 1e-3 * SquaredSum(), SumToZero(), SumOfSquares()):
        value, g_w, g_l = loss.value_and_grad(w, v, weight=[1.0, 3.0], backend=backend)
        wide, x_w, x_l = loss.value_and_grad(w.astype(float), v.astype(float), weight=[1.0, 3.0], backend=backend)
        assert value == wide
        np.testing.assert_array_equal(g_w, x_w.astype(np.float32))
        np.testing.assert_array_equal(g_l, x_l.astype(np.float32))


@BACKENDS
def test_terms_compose(backend):
    loss = 2 * (BradleyTerry(margin=0.5) + 0.25 * SquaredSum()) + SumToZero() * 0.5
    parts = [(2.0, BradleyTerry(0.5)), (0.5, SquaredSum()), (0.5, SumToZero())]
    assert [coef for coef, _ in loss.terms] == [coef for coef, _ in parts]
    value, g_w, g_l = loss.value_and_grad(W, V, backend=backend)
    singles = [term.value_and_grad(W, V, backend=backend) for _, term in parts]
    for i, whole in enumerate((value, g_w, g_l)):  # a dozen roundings of terms of size below 8
        apart = sum(coef * one[i] for (coef, _), one in zip(parts, singles, strict=True))
        np.testing.assert_allclose(whole, apart, rtol=0, atol=12 * 8 * U)
    dense = loss.hessian(W, V, backend=backend).dense()
    each = [coef * term.hessian(W, V, backend=backend).dense() for coef, term in parts]
    np.testing.assert_allclose(dense, sum(each), rtol=8 * U)


@BACKENDS
def test_a_term_of_another_s_making_composes_too(backend):
    loss = BradleyTerry() + 2 * SquaredDifference() + 0 * SquaredDifference() + 0.5 * SumToZero()
    value, g_w, _ = loss.value_and_grad(W, V, weight=[1.0, 2.0, 0.0], backend=backend)
    d, share = (W - V)[:2], np.array([1.0, 2.0]) / 3
    known, k_w, _ = (BradleyTerry() + 0.5 * SumToZero()).value_and_grad(W, V, weight=[1, 2, 0], backend=backend)
    assert abs(value - known - 2 * share @ d**2) <= 32 * 8 * U
    np.testing.assert_allclose(g_w - k_w, [*(4 * share * d), 0.0], rtol=0, atol=32 * 8 * U)


def test_a_coefficient_of_zero_switches_a_term_off_even_where_it_overflows():
    loss = BradleyTerry() + 0 * SquaredSum()
    assert loss.value([1e200], [1e200]) == BradleyTerry().value([0.0], [0.0])


@EVERY
def test_hessian_dot_is_its_dense_product(term):
    weight, t = np.array([1.0, 2.0, 0.5]), np.array([0.5, -1.0, 3.0, 0.25, 2.0, -0.5])
    hessian = term.hessian(W, V, weight=weight)
    np.testing.assert_allclose(np.concatenate(hessian.dot(t[:3], t[3:])), hessian.dense() @ t, rtol=0, atol=64 * U)
    np.testing.assert_array_equal(hessian.dense(), hessian.dense().T)


def test_the_published_factors_of_the_sum_of_squares():
    assert SumOfSquares("sum").value([1.0], [3.0]) == 10.0  # E r_w^2 + E r_l^2
    assert SumOfSquares("mean").value([1.0], [3.0]) == 5.0  # the mean over the 2N scores
    assert (0.5 * SumOfSquares("mean")).value([1.0], [3.0]) == 2.5


def test_sum_to_zero_in_the_paper_s_convention():
    r_w, r_l, coef, batch = np.array([1.0, 2.0]), np.array([-0.5, 1.5]), 0.001, 2
    paper = coef * batch * np.mean(np.concatenate([r_w, r_l])) ** 2
    assert abs((coef * batch / 4 * SumToZero()).value(r_w, r_l) - paper) <= 4 * U * paper


def test_sum_to_zero_has_no_value_per_pair():
    with pytest.raises(InputError, match="SumToZero couples the pairs"):
        SumToZero().pairs(W, V)


def test_take_selects_margins():
    loss = BradleyTerry([1.0, 2.0, 3.0]) + 0.5 * SquaredSum()
    part = loss.take(np.array([2, 0]))
    assert part.terms[0][1].margin.tolist() == [3.0, 1.0] and part.terms[1][1] == SquaredSum()
    plain = BradleyTerry(1.0)
    assert plain.take(np.array([0])) is plain


@pytest.mark.parametrize(
    ("given_", "kept"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64), (np.float16, np.float64)],
)
@EVERY
def test_dtypes(term, given_, kept):
    value, g_w, g_l = term.value_and_grad(W.astype(given_), V.astype(given_))
    assert isinstance(value, float) and g_w.dtype == g_l.dtype == kept
    mixed = term.value_and_grad(W.astype(np.float32), V)
    assert mixed[1].dtype == np.float64


@EVERY
def test_inputs_are_left_alone_and_may_be_strided(term):
    w, v = np.arange(8.0)[::2], np.arange(8.0)[::-2]
    before = w.copy(), v.copy()
    np.testing.assert_array_equal(term.value_and_grad(w, v)[1], term.value_and_grad(*before)[1])
    assert (w == before[0]).all() and (v == before[1]).all()


def test_without_numba_auto_is_the_spec(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert losses.functions.__wrapped__("auto").__name__ == "refrm.spec"


def test_a_loss_says_what_it_must_supply():
    with pytest.raises(NotImplementedError):
        losses.Loss().value(W, V)
