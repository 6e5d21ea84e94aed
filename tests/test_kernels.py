"""The kernels and the spec against arbitrary precision, over the whole range of float64."""

import math
import os
import threading
from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refrm import BradleyTerry, SquaredSum, SumOfSquares, kernels, spec
from refrm.kernels import blocks, compiler, narrow, pairwise, scalar
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
    """The stated bounds of `refrm.kernels`: loss and gradient 2 ulp, curvature 4; with label smoothing loss 3, gradient
    2.5 of the larger term."""
    loss, slope, curvature, losing = reference.bradley_terry(r_w, r_l, margin, eps)
    assert reference.ulps(jet.value[0], loss) <= (3 if eps else 2)
    assert reference.ulps(jet.g_w[0], slope, max(losing, reference.exact(eps)) if eps else None) <= 2 + 0.5 * bool(eps)
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
def test_mean_within_two_and_a_half_ulp(data):
    n = data.draw(st.integers(1, 40))
    values = np.array(data.draw(st.lists(st.floats(0, 1e308) | st.floats(0, 1e-300), min_size=n, max_size=n)))
    weight = data.draw(weights(n))
    total = sum(map(Fraction, weight))
    truth = sum(Fraction(w) * Fraction(x) for w, x in zip(weight, values, strict=True)) / total
    with np.errstate(all="ignore"):  # a product beyond 2^996 has no error term, and needs none where its weight is 0
        found = Fraction(kernels.mean(values, weight))
    assert abs(found - truth) <= Fraction(5, 2) * Fraction(float(np.spacing(float(truth))))


@pytest.mark.compiled
@pytest.mark.parametrize(("n", "size"), [(10**6, 1.0), (3 * 10**6 + 1, 1e-290), (20000, 1e303)])
def test_mean_within_three_ulp_of_many_that_weigh_the_same(n, size):
    values = size * np.exp(np.random.default_rng(n).uniform(-12, 12, n))
    down = 2.0 ** -(100 * (size > 1))  # where the sum itself would overflow
    truth = math.fsum(down * values) / n  # within one ulp of the exact mean
    assert abs(down * kernels.mean(values, np.ones(n)) - truth) <= 3 * np.spacing(truth)


def test_mean_of_what_is_not_a_number():
    with np.errstate(all="ignore"):
        for bad in (np.nan, np.inf):
            np.testing.assert_equal(kernels.mean(np.array([1.0, bad]), np.ones(2)), bad)


COEF = (1.0, 0.25, 0.5, 0.125)


@pytest.mark.parametrize("kind", ["plain", "weighted"])
@settings(max_examples=60)
@given(st.data())
def test_a_whole_loss_everywhere(kind, data):
    with np.errstate(all="ignore"):
        check_a_whole_loss(kind, data)


def check_a_whole_loss(kind, data):
    n = data.draw(st.integers(1, 9))
    pair = data.draw(score_pairs(max_magnitude=1e100, min_size=n, max_size=n))
    if kind == "plain":
        margin, eps, coef, share = np.zeros(n), 0.0, (1.0, 0.0, 0.5, 0.125), None
        means, g_w, g_l = kernels.objective(*pair, None, eps, coef, None)
    else:
        margin = np.array(data.draw(st.lists(margins(), min_size=n, max_size=n)))
        eps, coef, weight = data.draw(label_smoothings()), COEF, data.draw(weights(n))
        share = weight / weight.sum()
        means, g_w, g_l = kernels.objective(*pair, margin, eps, coef, share)
    q = [1 / reference.MP.mpf(n)] * n if share is None else [reference.exact(x) for x in share]
    w, v = ([reference.exact(x) for x in side] for side in pair)
    truth = [reference.bradley_terry(*row, eps) for row in zip(*pair, margin, strict=True)]
    mean_loss = sum(x * row[0] for x, row in zip(q, truth, strict=True))
    mean_square = sum(x * (a + b) ** 2 for x, a, b in zip(q, w, v, strict=True))
    mean_s = sum(x * (a + b) for x, a, b in zip(q, w, v, strict=True))
    size = sum(x * (abs(a) + abs(b)) for x, a, b in zip(q, w, v, strict=True))
    # docs/theorems/numerics.md, in u of each result, which is less than an ulp of it
    assert reference.ulps(means[0], mean_loss) <= (7 if kind == "plain" else 10)
    assert reference.ulps(means[2], mean_square) <= 8
    error = 2 * reference.spacing(mean_s) + size * 2.0**-95  # twice the working precision, of the terms that cancel
    assert abs(means[3] - mean_s) <= error
    for i in range(n):
        on_d = coef[0] * truth[i][1] + 2 * coef[1] * (w[i] - v[i])
        on_s = 2 * coef[2] * (w[i] + v[i]) + 2 * coef[3] * mean_s
        terms = coef[0] * max(truth[i][3], eps) + 2 * coef[1] * abs(w[i] - v[i]) + 2 * coef[2] * abs(w[i] + v[i])
        # 10u of the terms, as docs/theorems/numerics.md derives; a few of the smallest steps where they underflow.
        allowed = 10 * 2.0**-53 * q[i] * (terms + 2 * coef[3] * abs(mean_s)) + 2 * coef[3] * q[i] * error + 2.0**-1070
        assert abs(g_w[i] - q[i] * (on_s + on_d)) <= allowed
        assert abs(g_l[i] - q[i] * (on_s - on_d)) <= allowed


@given(score_pairs(dtype=np.float32, max_magnitude=1e18), label_smoothings())
def test_kernels_and_spec_agree_on_whole_losses(pair, eps):
    # float32 results differ by one rounding where the float64 results straddle a boundary between two of them.
    share = np.full(len(pair[0]), 1 / len(pair[0]))
    for dtype, u in ((np.float64, 2.0**-50), (np.float32, 2.0**-22)):
        w, v = (np.clip(x, -500, 500).astype(dtype) for x in pair)
        for arguments in ((None, 0.0, (1.0, 0.0, 0.1, 0.1), None), (np.full(len(w), 0.5), eps, COEF, share)):
            with np.errstate(all="ignore"):
                found, truth = (of.objective(w, v, *arguments) for of in (kernels, spec))
            np.testing.assert_allclose(found[1], truth[1], rtol=u, atol=4e3 * 2.0**-50 + 2e3 * (u > 1e-10) * u)
            assert found[1].dtype == found[2].dtype == dtype
            # spec loses |d| ulp in the tail
            np.testing.assert_allclose(found[0][0], truth[0][0], rtol=2e3 * 2.0**-52)


@pytest.mark.compiled
def test_the_same_bits_on_any_number_of_threads():
    import numba

    rng = np.random.default_rng(5)
    w, v = rng.normal(size=(2, 5 * pairwise.CHUNK + 77))
    share = rng.random(len(w))
    results = []
    before = numba.get_num_threads()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            for dtype in (np.float64, np.float32):
                for arguments in ((None, 0.0, (1.0, 0.0, 0.1, 0.1), None), (None, 0.1, COEF, share / share.sum())):
                    means, g_w, g_l = kernels.objective(w.astype(dtype), v.astype(dtype), *arguments)
                    results.append((means, g_w.tobytes(), g_l.tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(set(results)) == 4


@pytest.mark.parametrize(
    ("n", "p"), [(1, 1), (2, 3), (15, 4), (37, 5), (70, 2), (83, 150), (32, 5500)]
)  # the last but one: parts of odd size, and columns left over; the last: two rows a block, and no rest
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_linear_pass_everywhere(n, p, dtype):
    # Sums of p and of n products in another order: each is off by at most (n + p + 8)u times its terms' sizes, which
    # the squares of sums, up to 2*size, double twice, and which both ways of computing them may be.
    rng = np.random.default_rng(n)
    x_w, x_l = rng.normal(size=(2, n, p)).astype(dtype)
    share = rng.random(n)
    share /= share.sum()
    for theta in (rng.normal(size=p) / p**0.5, rng.normal(size=p + 1) / p**0.5):  # of scores near 1, which it can see
        size = 1 + np.abs(theta).sum() * max(np.abs(x_w).max(), np.abs(x_l).max())
        for arguments in (
            (None, 0.0, (1.0, 0.0, 0.1, 0.0), None),
            (None, 0.0, (1.0, 0.0, 0.1, 0.2), None),
            (rng.normal(size=n), 0.1, COEF, share),
        ):
            found, truth = (of.linear_objective(x_w, x_l, theta, *arguments) for of in (kernels, spec))
            bound = 16 * (n + p + 8) * 2.0**-53 * size**2
            np.testing.assert_allclose(found[0][::2], truth[0][::2], rtol=0, atol=bound)
            np.testing.assert_allclose(found[1], truth[1], rtol=0, atol=bound * size)
            assert found[1].dtype == np.float64 and found[1].shape == theta.shape


@pytest.mark.compiled
def test_the_linear_pass_has_the_same_bits_on_any_number_of_threads():
    import numba

    rng = np.random.default_rng(6)
    x_w, x_l = rng.normal(size=(2, 5001, 40))
    theta, before, results = rng.normal(size=41), numba.get_num_threads(), set()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            means, grad = kernels.linear_objective(x_w, x_l, theta, None, 0.0, (1.0, 0.0, 0.1, 0.0), None)
            results.add((means, grad.tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


def test_threads_take_every_part_once_and_part():
    done, begun, over = [], threading.Event(), threading.Event()
    compiler.pool.cache_clear()
    compiler.side_by_side(2, 5, lambda begin, end: done.extend(range(begin, end)))
    assert sorted(done) == list(range(5))
    held = compiler.pool(1).submit(lambda: (begun.set(), over.wait()))
    try:
        begun.wait()
        compiler.side_by_side(2, 5, lambda begin, end: done.extend(range(begin, end)))
        assert sorted(done[5:]) == list(range(5))  # it did not wait for a thread that had not begun
    finally:
        over.set()
        held.result()
    with pytest.raises(ZeroDivisionError):
        compiler.side_by_side(2, 5, lambda begin, end: 1 // 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_begins_its_own_threads(monkeypatch):
    moved = []
    monkeypatch.setattr(compiler, "PROCESSOR", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: {1, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda number, where: moved.append(number), raising=False)
    compiler.pool(1).submit(int).result()
    child = os.fork()
    if child == 0:  # those of its parent are not its own to move, and may be gone
        done = []
        compiler.side_by_side(2, 5, lambda begin, end: done.extend(range(begin, end)))
        os._exit(bool(moved) or sorted(done) != list(range(5)))
    assert os.waitpid(child, 0)[1] == 0


def test_threads_that_may_not_be_moved_stay_where_they_are(monkeypatch):
    def refuse(number, where):
        raise PermissionError

    monkeypatch.setattr(compiler, "PROCESSOR", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: {1, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    compiler.pool(1).submit(int).result()
    compiler.part_from(compiler.pool(1))


def test_threads_on_one_processor_stay_there(monkeypatch):
    moved = []
    monkeypatch.setattr(compiler, "PROCESSOR", lambda: 3)
    monkeypatch.setattr(os, "sched_setaffinity", lambda number, where: moved.append(where), raising=False)
    compiler.pool.cache_clear()
    compiler.pool(1).submit(int).result()
    for allowed, there in (({3}, []), ({1, 3}, [{1}])):
        monkeypatch.setattr(os, "sched_getaffinity", lambda number, allowed=allowed: allowed, raising=False)
        compiler.part_from(compiler.pool(1))
        assert moved == there


def test_means_whose_sums_leave_the_range():
    with np.errstate(all="ignore"):
        huge, one = np.full(2, -1e308), np.full(1000, 1e153)
        assert kernels.objective(huge, 0 * huge, None, 0.0, (1.0, 0.0, 0.0, 0.0), None)[0][0] == 1e308
        assert kernels.objective(one, 0 * one, None, 0.0, (1.0, 0.0, 1.0, 0.0), None)[0][2] == 1e153**2
        for share in (None, np.full(1000, 1e-3)):
            tail = kernels.objective(np.full(1000, 705.0), np.zeros(1000), None, 0.0, (1.0, 0.0, 0.0, 0.0), share)[0][0]
            assert reference.ulps(tail, reference.bradley_terry(705.0, 0.0)[0]) <= 4
        nothing = kernels.objective(huge, huge, None, 0.0, (1.0, 0.0, 0.0, 0.0), np.zeros(2))
        assert nothing[0][0] == 0.0 and not nothing[1].any()


def test_the_linear_pass_whose_sums_leave_the_range():
    x, plain = np.full((100, 2), 1e99), (1.0, 0.0, 0.0, 0.0)
    for theta in (np.full(2, -1e208), np.array([-1e208, -1e208, 1e300])):
        (loss, *_), grad = kernels.linear_objective(x, -x, theta, None, 0.0, plain, None)
        np.testing.assert_allclose(loss, 4e307, rtol=1e-14)
        np.testing.assert_allclose(grad[:2], -2e99, rtol=1e-14)


def test_squares_so_small_that_their_shares_underflow():
    for s in (2.0**-535, 2.0**-510.3):
        w = np.full(1000, s)
        for share in (None, np.full(1000, 1e-3)):
            means, _, _ = kernels.objective(w, 0 * w, None, 0.1, COEF, share)
            assert means[1] == means[2] == s * s


@pytest.mark.parametrize("other", [0.0, 800.0])  # the score of another pair: its loss underflows, or does not
@pytest.mark.parametrize(("s", "share"), [(1e155, 1e-20), (1e170, 1e-100)])
def test_a_square_that_overflows_though_its_share_does_not(other, s, share):
    truth, shares, one = share * s * s, np.array([1.0, share]), np.zeros((2, 1))
    one[1] = 1.0
    means, _, _ = kernels.objective(np.array([other, s]), np.zeros(2), None, 0.0, (1.0, 0.5, 0.25, 0.0), shares)
    np.testing.assert_allclose(means[1:3], truth, rtol=1e-14)
    means, _ = kernels.linear_objective(one, 0 * one, np.array([s]), None, 0.0, (1.0, 0.0, 0.25, 0.0), shares)
    np.testing.assert_allclose(means[2], truth, rtol=1e-14)


@pytest.mark.parametrize("bad", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize("score", [800.0, 30.0, 1e200])  # the loss of the others underflows, or a square overflows
def test_a_pair_of_weight_0_does_not_count_at_the_ends_either(bad, score):
    loss = BradleyTerry() + SquaredSum()
    found = loss.value_and_grad([bad, score], [0.0, 0.0], weight=[0.0, 1.0])
    alone = loss.value_and_grad([score], [0.0])
    assert found[0] == alone[0] and found[1][0] == found[2][0] == 0.0


def test_weights_of_very_different_sizes():
    weight = np.array([1.0] * 8 + [2.0**-53] * 120)  # a plain sum loses the small ones one by one
    for backend in ("numba", "numpy"):
        assert abs(BradleyTerry().value(weight, weight, weight=weight, backend=backend) - math.log(2)) <= 2.0**-51


def test_penalties_do_not_cancel_in_the_gradient():
    for backend in ("numba", "numpy"):
        value, g_w, g_l = SumOfSquares().value_and_grad([1e-17], [1.0], backend=backend)
        assert (value, g_w[0], g_l[0]) == (1.0, 2e-17, 2.0)
        _, g_w, g_l = SquaredSum().value_and_grad([np.inf], [np.inf], backend=backend)
        assert g_w[0] == g_l[0] == np.inf


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") != "1", reason="compiled, a chunk has its size built in")
def test_the_same_bits_on_two_threads_uncompiled(monkeypatch):
    monkeypatch.setattr(pairwise, "CHUNK", 8)
    w, v = np.random.default_rng(5).normal(size=(2, 43))
    results = []
    for threads in (1, 2):
        monkeypatch.setattr("numba.get_num_threads", lambda threads=threads: threads)
        means, g_w, g_l = kernels.objective(w, v, None, 0.0, (1.0, 0.0, 0.1, 0.1), None)
        results.append((means, g_w.tobytes(), g_l.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 255, 256, 257, 511, 512, 513, 1025])
def test_every_length_of_a_block(n):
    w, v = np.random.default_rng(n).normal(size=(2, n))
    for loss in ((1.0, 0.0, 0.1, 0.0), COEF):
        found, truth = (of.objective(w, v, None, 0.0, loss, None) for of in (kernels, spec))
        np.testing.assert_allclose(found[0][::2], truth[0][::2], rtol=1e-13)
        np.testing.assert_allclose(found[1], truth[1], rtol=1e-13, atol=1e-16)


ENDS = {
    "e^-128": 128.0,
    "e^-88": 88.0,
    "e^-38": 38.0,
    "e^-27": 27.0,
    "e^-9": 9.0,
    "log 2": 0.0,
    "9": -9.0,
    "128": -128.0,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n", [17, 255, 256, 257, 1025])
def test_the_mean_of_losses_of_any_size(end, n):
    # One logarithm of up to 1025 factors 1 + e^-|d|, from 1 + 1e-56 to 2^1025: 7u, and 8u for the squares.
    w = ENDS[end] * np.linspace(0.99, 1.0, n)
    v = w - np.random.default_rng(n).permutation(w)
    w = w + v
    means, _, _ = kernels.objective(w, v, None, 0.0, (1.0, 0.0, 0.1, 0.0), None)
    exact = [(reference.exact(a), reference.exact(b)) for a, b in zip(w, v, strict=True)]
    loss = sum(reference.MP.log1p(reference.MP.exp(b - a)) for a, b in exact) / n
    square = sum((a + b) ** 2 for a, b in exact) / n
    assert abs(means[0] - loss) <= 7 * 2.0**-53 * loss
    assert abs(means[2] - square) <= 8 * 2.0**-53 * square


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 3, 17, 255, 256, 257, 512, 1025, 4999])  # the last: a linear part of 256 and 56
def test_one_margin_for_all_pairs_is_the_same_margin_for_each(n, dtype):
    # One margin and equal shares are read from one block of them; the bits are those of N of each.
    w, v = np.random.default_rng(n).normal(size=(2, n)).astype(dtype)
    coef, share = (1.0, 0.5, 0.25, 0.125), np.full(n, 1.0 / n)
    x_w, x_l = w[:, None].repeat(3, 1), v[:, None].repeat(3, 1)
    for margin in (0.0, 0.7):
        one, each = (None if margin == 0.0 else np.array([margin])), np.full(n, margin)
        found, full = (kernels.objective(w, v, m, 0.1, coef, q) for m, q in ((one, None), (each, share)))
        assert found[0] == full[0]
        assert found[1].tobytes() == full[1].tobytes() and found[2].tobytes() == full[2].tobytes()
        theta = np.array([0.5, -0.25, 1.0])
        found, full = (
            kernels.linear_objective(x_w, x_l, theta, m, 0.1, coef, q) for m, q in ((one, None), (each, share))
        )
        assert found[0] == full[0] and found[1].tobytes() == full[1].tobytes()


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") != "1", reason="compiled, their number is built in")
def test_several_products_of_losses_uncompiled(monkeypatch):
    monkeypatch.setattr(blocks, "ROUNDS", 2)
    w, v = np.random.default_rng(6).normal(size=(2, 5 * blocks.BLOCK))
    found, truth = (of.objective(w, v, None, 0.0, (1.0, 0.0, 0.1, 0.0), None)[0] for of in (kernels, spec))
    np.testing.assert_allclose(found[::2], truth[::2], rtol=1e-14)


@pytest.mark.compiled
def test_a_product_of_losses_does_not_overflow(monkeypatch):
    monkeypatch.setattr(pairwise, "at_the_ends", None)  # which would mend it
    n = 2 * pairwise.CHUNK + 5000  # several products of 2^512 a lane, the last one folded
    means, g_w, g_l = kernels.objective(np.ones(n), np.ones(n), None, 0.0, (1.0, 0.0, 0.0, 0.0), None)
    assert abs(means[0] - math.log(2)) <= 7 * 2.0**-53 * math.log(2)
    assert (g_w == -0.5 / n).all() and (g_l == 0.5 / n).all()


@pytest.mark.parametrize(
    "scores", [(800.0, 0.0), (0.0, 800.0), (1e308, 1e308), (-1e308, 1e308), (np.inf, 0.0), (np.nan, 0)]
)
def test_a_block_with_a_pair_that_is_out_of_the_ordinary(scores):
    w, v = np.random.default_rng(0).normal(size=(2, 300))
    for at in (7, 290):  # in a whole block, and in one that is filled up
        check_a_pair_out_of_the_ordinary(w, v, at, scores)


def check_a_pair_out_of_the_ordinary(w, v, at, scores):
    w, v = w.copy(), v.copy()
    w[at], v[at] = scores
    with np.errstate(all="ignore"):
        for coef in ((1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.5, 0.0)):
            found, truth = (of.objective(w, v, None, 0.0, coef, None) for of in (kernels, spec))
            np.testing.assert_allclose(found[0][0], truth[0][0], rtol=1e-13)
            np.testing.assert_allclose(found[1], truth[1], rtol=1e-12)
            if np.isfinite(scores).all() or coef[2]:
                np.testing.assert_allclose(found[0][2], truth[0][2], rtol=1e-13)


# --- float32 ------------------------------------------------------------------------------------------------------


def check_float32(w, v, coef=(1.0, 0.0, 0.01, 0.0)):
    """The promise: gradients are the float32 nearest to the float64 result, the mean is within 2^-42 of its value."""
    w, v = (np.asarray(x, np.float32) for x in (w, v))
    with np.errstate(all="ignore"):
        found, full = (kernels.objective(w.astype(t), v.astype(t), None, 0.0, coef, None) for t in (np.float32, float))
        for g, whole in zip(found[1:], full[1:], strict=True):
            assert g.dtype == np.float32
            np.testing.assert_array_equal(g, whole.astype(np.float32))
    np.testing.assert_allclose(found[0], full[0], rtol=2.0**-42)


def try_narrow(w, v, c_s):
    """Return whether `narrow_block` is sure of the gradients of one pair, with c_pair = 1."""
    one = [np.array([x], np.float32) for x in (w, v, 0, 0)]
    return narrow.narrow_block(*one[:2], (1.0, 0.0, c_s, 0.0, 0.0), *one[2:], blocks.start())


def near(points):
    """Each float32, and its neighbours on either side."""
    x = np.float32(points)
    return np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])


BOUNDARIES = near(
    [0.0, -0.0, 1e-45, 1e-38, 1e-8, 1.0, 88.0, 104.0, *(math.log(2) / 2 * np.arange(1, 40)), 127.5, 128.0]
)


def test_the_exponential_of_float32_differences():
    # 2^-46 each from the polynomial and from rounding d, 2^-49 from LOG2E, and three roundings.
    w, v = np.concatenate([BOUNDARIES, 50 * np.abs(np.float32(FREE))]), np.float32(0.1) * near([0.0, 1.0, 1e-7, 3.0])[0]
    e, s = np.empty((2, w.size))
    largest, linear, square = narrow.exponentials(w, np.full_like(w, v), e, s)
    for x, found in zip(w, e, strict=True):
        truth = reference.MP.exp(-abs(reference.exact(x) - reference.exact(v)))
        assert abs(found - truth) <= 2.0**-44.9 * truth
    d = w.astype(float) - float(v)
    assert largest == np.abs(d).max().view(np.int64)
    np.testing.assert_allclose([linear, square], [np.maximum(-d, 0).sum(), (s * s).sum()], rtol=w.size * 2.0**-53)


@pytest.mark.parametrize("c_s", [0.0, 1e-3, 0.5])
def test_float32_at_every_boundary(c_s):
    for other in (0.0, 1.0, -1e-3, 16777216.0):
        for sign in (1, -1):
            w = sign * BOUNDARIES + np.float32(other)
            check_float32(w, np.full_like(w, other), (1.0, 0.0, c_s, 0.0))


@given(score_pairs(dtype=np.float32), st.sampled_from([0.0, 1e-300, 1e-3, 0.5, 1e38]), st.sampled_from([0.0, 0.25]))
def test_float32_everywhere(pair, c_s, c_mean):
    with np.errstate(all="ignore"):
        found, full = (
            kernels.objective(*(x.astype(t) for x in pair), None, 0.0, (1.0, 0.0, c_s, c_mean), None)
            for t in (np.float32, float)
        )
        for g, whole in zip(found[1:], full[1:], strict=True):
            np.testing.assert_array_equal(g, whole.astype(np.float32))
        np.testing.assert_allclose(found[0], full[0], rtol=2.0**-42, atol=1e-300)


@pytest.mark.compiled
@pytest.mark.parametrize("spread", [1e-3, 1.0, 10.0, 40.0])
def test_float32_in_bulk(spread):
    w, v = spread * np.random.default_rng(1).normal(size=(2, 300_001))
    for c_s in (0.0, 0.01, 0.5):
        check_float32(w, v, (1.0, 0.0, c_s, 0.0))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n", [1, 2, 3, 511, 512, 513])
def test_the_mean_of_float32_losses_of_any_size(end, n):
    # Products of up to 512 factors 1 + e: from 1 + 512*e^-127 to 2^512, by either way of taking the logarithm.
    w = ENDS[end] * np.linspace(0.99, 1.0, n)
    check_float32(w, np.zeros(n), (1.0, 0.0, 0.0, 0.0))


def test_float32_halfway_between_two():
    # c_s is chosen so that the gradient is halfway between two float32 to within a few ulp of float64: no arithmetic of
    # less than 50 bits can tell to which side it rounds. And once so that it is halfway, whatever the slope adds.
    rng = np.random.default_rng(2)
    unsure = 0
    for w, v in np.float32(3 * rng.normal(size=(300, 2))):
        s = float(w) + float(v)
        losing = 1 / (1 + math.exp(float(w) - float(v)))
        target = np.float32(math.copysign(rng.uniform(1, 8), s))
        tie = (float(target) + float(np.nextafter(target, np.float32(np.inf)))) / 2
        c_s = (tie + losing) / (2 * s)
        if c_s > 0:
            check_float32([w], [v], (1.0, 0.0, c_s, 0.0))
            assert try_narrow(w, v, c_s * (1 + 2.0**-30))
            if losing > 0.1:  # below, the interval of 2^-43*losing is lost in a gradient of up to 8
                assert not try_narrow(w, v, c_s)
                unsure += 1
    assert unsure > 50
    for d in (30.0, 60.0, 100.0):  # s = 2^24 + 1 exactly
        check_float32([2.0**23 + d / 2 + 1], [2.0**23 - d / 2], (1.0, 0.0, 0.5, 0.0))
        check_float32([2.0**23 - d / 2], [2.0**23 + d / 2 + 1], (2.0**-40, 0.0, 0.5, 0.0))


def test_float32_after_the_last_whole_part():
    # Ten pairs are left, one of them within an ulp of float64 of halfway: one by one it may round to the other side.
    w, v = np.zeros((2, 522))
    w[515], v[515] = float.fromhex("-0x1.018fc2p-1"), float.fromhex("0x1.d7b3b8p-2")
    check_float32(w, v, (1.0, 0.0, float.fromhex("0x1.5dc0a18fa64c6p+5"), 0.0))


@pytest.mark.parametrize(
    "bad", [(np.nan, 0), (np.inf, 0), (-np.inf, 0), (np.inf, np.inf), (3e38, -3e38), (200, 0), (0, 200)]
)
@pytest.mark.parametrize("coef", [(1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.5, 0.0), (1.0, 0.0, 0.5, 0.25)])
def test_a_float32_block_with_a_pair_that_is_out_of_the_ordinary(bad, coef):
    w, v = np.random.default_rng(0).normal(size=(2, 20))
    w[7], v[7] = bad
    check_float32(w, v, coef)


def test_the_coefficients_are_those_of_the_script():
    script = reference.coefficients()
    for find, expected, error in (
        (script.exp_polynomial, scalar.EXP, 4e-18),
        (script.log_polynomial, scalar.LOG, 2e-18),
        (script.exp2_polynomial, narrow.EXP2, 2.0**-46),
    ):
        found, largest = find(len(expected) - 1)
        assert [float(c) for c in found] == list(expected) and largest <= error


def test_where_no_cache_can_be_written_the_kernels_are_compiled_without(monkeypatch):
    def njit(cache=False, **_):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr("numba.njit", njit)
    assert compiler.jit(len) is len
