"""The theorems as properties: each holds on refrm for every drawn input, and rejects the mutants named beside it."""

from functools import partial
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import (
    DetachedCurvature,
    DetachedRejected,
    ForgetsRejected,
    ForgetsRejectedMLP,
    HalvedGradient,
    MinusSquaredSum,
    MissingLog,
    NormalisedArgument,
    OneSided,
    QuadraticForm,
    SmoothingFlipped,
    SmoothingIgnored,
    SoftSum,
    SquaredDifference,
    SummedBatch,
    WrongSlopeSign,
    bfloat16_cut_off,
    centred_apart,
    centred_by_the_chosen,
    centred_by_the_sum,
    standardised,
)

from refrm import (
    LBFGS,
    MLP,
    SGD,
    BradleyTerry,
    InputError,
    Linear,
    Newton,
    Objective,
    SquaredSum,
    SumOfSquares,
    SumToZero,
    check_gradient,
    load_baseball,
    make_pairs,
    minimize,
)
from refrm import theorems as t
from refrm.geometry import separating_direction
from refrm.spec import sigmoid
from refrm.testing import score_pairs
from refrm.theorems import PAIRWISE, U

BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])


class On:
    """A loss bound to one backend."""

    def __init__(self, loss, backend):
        self.loss, self.backend = loss, backend

    def value_and_grad(self, r_w, r_l):
        return self.loss.value_and_grad(r_w, r_l, backend=self.backend)

    def hessian(self, r_w, r_l):
        return self.loss.hessian(r_w, r_l, backend=self.backend)


moderate = score_pairs(max_magnitude=1e6)
small = score_pairs(max_magnitude=30.0, max_size=5)
shifts = st.floats(-1e9, 1e9)
margins = st.floats(-20, 20)
smoothings = st.floats(0, 0.49)
coefs = st.floats(1e-3, 10)


@st.composite
def problems(draw, max_pairs=12, max_features=4):
    """Features of chosen and rejected responses, and a generator for what else is random."""
    n, p = draw(st.integers(1, max_pairs)), draw(st.integers(1, max_features))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0.1, 1.0, 10.0]))
    common = size * draw(st.sampled_from([0.0, 1.0])) * rng.standard_normal((n, p))
    return size * rng.standard_normal((n, p)) + common, size * rng.standard_normal((n, p)) + common, rng


def scores(*pairs):
    return np.array([w for w, _ in pairs], float), np.array([v for _, v in pairs], float)


EXAMPLE = scores((1.0, -1.0), (2.0, 0.5), (-1.5, 0.25), (3.0, 3.0))


# --- T1: shift invariance ----------------------------------------------------------------------------------------


@BACKENDS
@given(moderate, shifts, margins, smoothings)
def test_t1_shift_invariance_of_scores(backend, pair, shift, margin, smoothing):
    assert t.shift_invariance(On(BradleyTerry(margin, smoothing), backend), *pair, shift, margin).holds


@given(moderate, st.data())
def test_t1_holds_with_a_shift_per_pair(pair, data):
    shift = np.array(data.draw(st.lists(shifts, min_size=len(pair[0]), max_size=len(pair[0]))))
    assert t.shift_invariance(PAIRWISE, *pair, shift).holds


def test_t1_the_pair_the_project_is_named_for():
    for w, v in ((500.0, 498.0), (1e6, 1e6 - 2)):
        assert PAIRWISE.value_and_grad([w], [v]) == PAIRWISE.value_and_grad([1.0], [-1.0])


@pytest.mark.parametrize(
    "mutant", [NormalisedArgument(), PAIRWISE + 0.01 * SquaredSum(), PAIRWISE + 0.01 * OneSided(), DetachedRejected()]
)
def test_t1_rejects(mutant):
    assert t.shift_invariance(PAIRWISE, *EXAMPLE, 7.0).holds
    assert not t.shift_invariance(mutant, *EXAMPLE, 7.0).holds


def bias_gradient(objective, theta):
    """The derivative along an output bias, which T1 makes zero, and the rounding of its 2N-term sum of |terms| <= 1/N
    each."""
    return abs(objective.value_and_grad(theta)[1][-1]), 2 * len(objective) * U * 2


@pytest.mark.parametrize(
    "model", [lambda p: Linear(p, True), lambda p: MLP(p, (5, 3), "tanh", True)], ids=["linear", "mlp"]
)
@given(problems(), shifts)
def test_t1_on_models(model, problem, shift):
    chosen, rejected, rng = problem
    objective = Objective(model(chosen.shape[1]), PAIRWISE, chosen, rejected)
    theta = rng.standard_normal(objective.model.n_params)
    residual, bound = bias_gradient(objective, theta)
    assert residual <= bound
    assert t.shift_invariance(PAIRWISE, *objective.scores(theta), shift).holds


@pytest.mark.parametrize("model", [Linear(4, True), MLP(4, (8,), "gelu", True)], ids=["linear", "mlp"])
def test_t1_along_a_training_the_bias_stays(model):
    # Each step may move the bias by lr times the rounding of bias_gradient, and by one rounding of the sum.
    data, lr, steps = make_pairs(40, 4, shared=3.0), 0.1, 300
    begin = model.init(3)
    begin[-1] = 7.0
    for loss, stays in ((PAIRWISE, True), (PAIRWISE + 0.01 * SquaredSum(), False)):
        objective = Objective(model, loss, data.chosen, data.rejected)
        result = minimize(objective, SGD(lr=lr, steps=steps, batch_size=8), theta=begin, record_every=steps)
        moved = abs(result.theta[-1] - 7.0)
        assert bool(moved <= steps * (lr * 2 * 8 * U * 2 + 8 * U)) is stays


def test_t1_along_a_training_common_features_are_invisible():
    # On a dyadic grid adding c_i to both responses of pair i leaves every difference of features exact, so that over
    # the reals the two trainings coincide. Gradient descent with lr <= 2/beta does not amplify errors, so they add
    # up: steps * lr * (rounding of the gradient), at most 4u(2N + 2p + 8) of its terms, with scores entering through
    # a slope that is 1/4-Lipschitz.
    rng = np.random.default_rng(5)
    n, p, steps = 30, 4, 200
    chosen, rejected, common = (rng.integers(-32, 32, (n, p)) / 16 for _ in range(3))
    runs = []
    for add in (0 * common, 8 * common):
        objective = Objective(Linear(p), PAIRWISE, chosen + add, rejected + add)
        lr = 1 / t.step_bound(Objective(Linear(p), PAIRWISE, chosen, rejected), 0.0)
        runs.append((minimize(objective, SGD(lr=lr, steps=steps, batch_size=n), record_every=steps), objective))
    (plain, _), (moved, objective) = runs
    largest = np.abs(objective.chosen).max() + np.abs(objective.rejected).max()
    slope = 1 + 0.25 * largest * np.abs(moved.theta).sum()
    rounding = 4 * U * (2 * n + 2 * p + 8) * np.sqrt(p) * largest * slope
    assert np.linalg.norm(plain.theta - moved.theta) <= steps * lr * 2 * rounding
    assert moved.history[-1]["spread"] > 2 * plain.history[-1]["spread"]  # ... although the scores inflate


# --- T2: gradients -----------------------------------------------------------------------------------------------


@BACKENDS
@given(small, margins, smoothings, coefs)
def test_t2_gradients(backend, pair, margin, smoothing, coef):
    loss = BradleyTerry(margin, smoothing) + coef * SquaredSum() + coef * SumToZero() + coef * SumOfSquares()
    assert t.gradients(On(loss, backend), *pair).holds


@given(small, margins)
def test_t2_closed_form(pair, margin):
    r_w, r_l = pair
    value, g_w, g_l = (BradleyTerry(margin) + 0.25 * SquaredSum()).value_and_grad(r_w, r_l)
    z = r_w - r_l - margin
    # The slope is 1/4-Lipschitz in z, whose rounding is u(|d| + |z|); 8u for the rest.
    rounding = (U * (np.abs(r_w - r_l) + np.abs(z)) + 8 * U * (1 + np.abs(r_w) + np.abs(r_l))) / len(r_w)
    assert np.all(np.abs(g_w - (-1 / (1 + np.exp(z)) + 0.5 * (r_w + r_l)) / len(r_w)) <= rounding)
    assert np.all(np.abs(g_l - (1 / (1 + np.exp(z)) + 0.5 * (r_w + r_l)) / len(r_w)) <= rounding)


@pytest.mark.parametrize(
    "mutant", [WrongSlopeSign(), MissingLog(), DetachedRejected(), HalvedGradient(), DetachedCurvature()]
)
def test_t2_rejects(mutant):
    assert not t.gradients(mutant, *EXAMPLE).holds


@pytest.mark.parametrize(
    ("right", "wrong"), [(Linear(3), ForgetsRejected(3)), (MLP(3, (4,)), ForgetsRejectedMLP(3, (4,)))]
)
def test_t2_rejects_a_model_that_forgets_the_rejected_side(right, wrong):
    data = make_pairs(6, 3)
    theta = right.init(1) + 0.1
    for model, ok in ((right, True), (wrong, False)):
        objective = Objective(model, PAIRWISE + 0.1 * SquaredSum(), data.chosen, data.rejected)
        assert check_gradient(objective.value_and_grad, theta).ok is ok


# --- T3: decoupling ----------------------------------------------------------------------------------------------


@BACKENDS
@given(moderate, margins, smoothings)
def test_t3_decoupling(backend, pair, margin, smoothing):
    pairwise = On(BradleyTerry(margin, smoothing), backend)
    assert t.decoupling(pairwise, On(SquaredSum(), backend), *pair).holds
    assert t.decoupling(pairwise, On(SumToZero(), backend), *pair).holds


@pytest.mark.parametrize("mutant", [SquaredDifference(), SumOfSquares(), OneSided()])
def test_t3_rejects(mutant):
    assert not t.decoupling(PAIRWISE, mutant, *EXAMPLE).holds


# --- T4: uniqueness of the term ------------------------------------------------------------------------------------


@BACKENDS
@given(moderate, coefs)
def test_t4_uniqueness(backend, pair, coef):
    assert t.uniqueness(On(coef * SquaredSum(), backend), *pair).holds


whole = st.integers(-9, 9).map(float)


@given(whole, whole, whole)
def test_t4_hypotheses_and_conclusion_are_one(a, b, c):
    # Whole numbers: nothing rounds. Exchange and (1, -1) are the hypotheses; (1, 0) and (0, 1) show the form.
    form, one, zero = QuadraticForm(a, b, c), np.ones(1), np.zeros(1)
    symmetric = form.value([3.0], [1.0]) == form.value([1.0], [3.0])
    assert (symmetric and form.value(one, -one) == 0) is (a == b == c)
    verdict = t.uniqueness(form, *EXAMPLE)
    assert verdict.holds is (a == b == c)
    assert t.function_of_sum(form, *EXAMPLE, 0.5).holds is (a == b == c)
    # What the proof says of any form: Q(r) = Q(s/2, s/2) + (Q(r_w, r_l) - Q(r_l, r_w))/2 + Q(d/2, -d/2).
    for r_w, r_l in ((one, zero), (zero, one), (4 * one, -2 * one)):
        s, d = (r_w + r_l) / 2, (r_w - r_l) / 2
        swapped = (form.value(r_w, r_l) - form.value(r_l, r_w)) / 2
        assert form.value(r_w, r_l) == form.value(s, s) + swapped + form.value(d, -d)


@pytest.mark.parametrize("penalty", [SquaredSum(), SumToZero(), SoftSum()])
@given(score_pairs(max_magnitude=1e3), st.floats(-1e3, 1e3))
def test_t4_function_of_sum(penalty, pair, move):
    assert t.function_of_sum(penalty, *pair, move).holds


@given(st.integers(2, 5), coefs, coefs, coefs)
def test_t4_three_numbers_are_every_penalty(n, on_d, on_s, on_mean):
    loss = on_d * SumOfSquares() + on_s * SquaredSum() + on_mean * SumToZero()
    assert t.pair_form(loss, n).holds
    # a*mean d^2 + b*mean s^2 + c*(mean s)^2 with the numbers of the loss is the loss. 8 roundings of each term.
    (a, b, c), (w, v) = loss.penalty, (np.linspace(-1, 2, n), np.linspace(0.5, -3, n) ** 2)
    parts = a * np.mean((w - v) ** 2), b * np.mean((w + v) ** 2), c * np.mean(w + v) ** 2
    assert abs(loss.value(w, v) - sum(parts)) <= 8 * U * (n + 4) * sum(parts)


@given(st.integers(2, 6), whole, whole)
def test_t4_k_responses(k, a, b):
    def gradient(r):
        return 2 * a * r + 2 * b * r.sum()

    assert t.responses_form(gradient, k).holds is (a == 0)


def test_t4_two_responses_are_a_pair():
    def gradient(r):
        return np.concatenate(SquaredSum().value_and_grad(r[:1], r[1:])[1:])

    assert t.responses_form(gradient, 2).holds


@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_t4_invariant_forms_are_two_numbers(k, seed, make_invariant):
    # The mean over all orders of the responses is invariant, and it is a*I + b*11' exactly in whole numbers.
    form = np.random.default_rng(seed).integers(-3, 4, (k, k))
    form = form + form.T
    if make_invariant:
        form = sum(form[np.ix_(p, p)] for p in map(list, permutations(range(k))))
    invariant = all((form[np.ix_(p, p)] == form).all() for p in map(list, permutations(range(k))))
    b = form[0, 1]
    assert invariant is bool((form == (form[0, 0] - b) * np.eye(k) + b).all())
    assert invariant or not make_invariant


@pytest.mark.parametrize("mutant", [SquaredDifference(), SumOfSquares(), OneSided(), HalvedGradient()])
def test_t4_rejects(mutant):
    assert t.uniqueness(SquaredSum(), *EXAMPLE).holds
    assert not t.uniqueness(mutant, *EXAMPLE).holds


@pytest.mark.parametrize("mutant", [SquaredDifference(), SumOfSquares(), OneSided()])
def test_t4_rejects_penalties_that_see_the_margin(mutant):
    assert not t.function_of_sum(mutant, *EXAMPLE, 0.5).holds


def test_t4_rejects_a_form_that_tells_the_sides_apart():
    assert not t.pair_form(OneSided(), 3).holds
    assert t.pair_form(SummedBatch(), 3).holds  # wrong in its factor, of this form nevertheless


@given(st.integers(2, 6))
def test_t4_rejects_the_term_summed_over_all_pairs_of_k_responses(k):
    def gradient(r):
        return sum(2 * (r[i] + r[j]) * (np.eye(k)[i] + np.eye(k)[j]) for i, j in combinations(range(k), 2))

    # It is (k - 2)*sum r^2 + (sum r)^2: from three responses on it pulls on the margins.
    assert t.responses_form(gradient, k).holds is (k == 2)
    pulled = gradient(np.arange(k, dtype=float))
    assert (np.diff(pulled) == 2 * (k - 2)).all()


# --- T5: free scores ---------------------------------------------------------------------------------------------


@given(score_pairs(max_magnitude=5.0, max_size=4), st.floats(0, 2), st.floats(0.001, 0.05), st.integers(1, 60))
def test_t5_free_dynamics(pair, coef, lr, steps):
    assert t.free_dynamics(PAIRWISE + coef * SquaredSum(), coef, *pair, lr, steps).holds


@pytest.mark.parametrize(
    "mutant",
    [
        PAIRWISE + 0.5 * SquaredDifference(),
        PAIRWISE,
        PAIRWISE + 0.5 * HalvedGradient(),
        PAIRWISE + 0.5 * MinusSquaredSum(),
    ],
)
def test_t5_rejects(mutant):
    assert t.free_dynamics(PAIRWISE + 0.5 * SquaredSum(), 0.5, *EXAMPLE, 0.05, 50).holds
    assert not t.free_dynamics(mutant, 0.5, *EXAMPLE, 0.05, 50).holds


@given(st.integers(1, 48), st.integers(-3, 3), st.sampled_from([1, 2, 4]))
def test_t5_contracts_iff_the_step_is_below_n_over_2_lambda(sixteenths, exponent, n):
    # Every number is dyadic and short: nothing rounds.
    coef, s = 2.0**exponent, np.arange(1.0, n + 1)
    lr = sixteenths / 16 * n / (2 * coef)
    _, g_w, g_l = (coef * SquaredSum()).value_and_grad(s, 0 * s)
    after = s - lr * (g_w + g_l)
    assert bool((np.abs(after) < s).all()) is (sixteenths < 16)
    assert bool((np.abs(after) > s).all()) is (sixteenths > 16)


# --- T6: why scores drift ----------------------------------------------------------------------------------------


@given(problems(), margins)
def test_t6_drift(problem, margin):
    chosen, rejected, rng = problem
    weight = rng.random(len(chosen)) + 0.1
    objective = Objective(Linear(chosen.shape[1]), BradleyTerry(margin), chosen, rejected, weight)
    assert t.drift(objective, rng.standard_normal(chosen.shape[1]), margin).holds


@given(score_pairs(max_magnitude=10.0, max_size=5), margins)
def test_t6_free_scores_do_not_drift(pair, margin):
    # Scores as parameters are a linear model with one feature for each response; nothing is shared, and nothing moves.
    n = len(pair[0])
    unit = np.eye(2 * n)
    objective = Objective(Linear(2 * n), BradleyTerry(margin), unit[:n], unit[n:])
    theta = np.concatenate(pair)
    assert t.drift(objective, theta, margin).holds
    _, grad = objective.value_and_grad(theta)
    assert (grad[:n] + grad[n:] == 0).all()


def test_t6_rejects_a_penalised_loss():
    data = make_pairs(50, 4, shared=2.0)
    for loss, ok in ((PAIRWISE, True), (PAIRWISE + 0.1 * SquaredSum(), False)):
        objective = Objective(Linear(4), loss, data.chosen, data.rejected)
        assert t.drift(objective, np.ones(4)).holds is ok


# --- T7: bounded mean, along the way -------------------------------------------------------------------------------


def along(objective, solver, coef, **options):
    """Check T7 at every record of a fit; return the largest mean s^2 relative to its bound."""
    result = minimize(objective, solver, **options)
    start = result.history[0]["loss"] + result.history[0]["penalty"]
    worst = 0.0
    for record in result.history:
        mean_s2 = 4 * (record["mean_score"] ** 2 + record["spread"] ** 2)
        worst = max(worst, mean_s2 / (start / coef))
        assert 4 * record["mean_score"] ** 2 <= mean_s2
    copies = np.ones(len(objective), int) if objective.weight is None else objective.weight.astype(int)
    final = np.repeat(np.add(*objective.scores(result.theta)), copies)
    return worst, t.bounded_mean(final, start, coef).holds, result


@given(problems(), coefs)
def test_t7_bounded_mean_along_gradient_descent(problem, coef):
    chosen, rejected, rng = problem
    weight = rng.integers(1, 5, len(chosen))
    objective = Objective(Linear(chosen.shape[1]), PAIRWISE + coef * SquaredSum(), chosen, rejected, weight)
    solver = SGD(lr=1 / t.step_bound(objective, coef), batch_size=len(objective), steps=20)
    worst, holds, result = along(objective, solver, coef, theta=rng.standard_normal(chosen.shape[1]))
    assert worst <= 1 + 1e3 * U and holds  # mean s^2 <= J0/coef, and a dozen roundings of each record
    values = result.column("loss") + result.column("penalty")
    assert np.all(np.diff(values) <= 64 * U * values[0])  # monotone for this step


@given(problems(), coefs, margins, smoothings, st.booleans())
def test_t7_descent(problem, coef, margin, smoothing, bias):
    chosen, rejected, rng = problem
    loss, weight = BradleyTerry(margin, smoothing) + coef * SquaredSum(), rng.random(len(chosen)) + 0.1
    objective = Objective(Linear(chosen.shape[1], bias), loss, chosen, rejected, weight)
    assert t.descent(objective, rng.standard_normal(objective.model.n_params), coef).holds


@given(problems(), coefs)
def test_t7_from_zero_scores_the_bound_is_log_2(problem, coef):
    chosen, rejected, _ = problem
    objective = Objective(Linear(chosen.shape[1]), PAIRWISE + coef * SquaredSum(), chosen, rejected)
    theta = np.zeros(chosen.shape[1])
    assert abs(objective.value(theta) - np.log(2)) <= 4 * U
    for _ in range(5):
        theta = theta - objective.value_and_grad(theta)[1] / t.step_bound(objective, coef)
        assert t.bounded_mean(np.add(*objective.scores(theta)), np.log(2), coef).holds


def test_t7_bounded_mean_along_lbfgs_of_an_mlp():
    data = make_pairs(60, 5, shared=3.0)
    for seed in range(3):
        objective = Objective(MLP(5, (8,), "tanh"), PAIRWISE + 0.05 * SquaredSum(), data.chosen, data.rejected)
        worst, holds, _ = along(objective, LBFGS(max_iter=60), 0.05, seed=seed)
        assert worst <= 1 + 1e3 * U and holds


@pytest.mark.compiled
@pytest.mark.parametrize("mutant", [PAIRWISE, PAIRWISE + 0.1 * SquaredDifference(), PAIRWISE + 0.1 * SumToZero()])
def test_t7_rejects(mutant):
    data = make_pairs(60, 5, shared=20.0)
    for loss, ok in ((PAIRWISE + 0.1 * SquaredSum(), True), (mutant, False)):
        objective = Objective(Linear(5), loss, data.chosen, data.rejected)
        lr = 1 / t.step_bound(Objective(Linear(5), PAIRWISE, data.chosen, data.rejected), 0.1)
        assert along(objective, SGD(lr=lr, batch_size=60, steps=2000), 0.1, record_every=100)[1] is ok


@pytest.mark.parametrize("mutant", [WrongSlopeSign(), DetachedRejected()])
def test_t7_rejects_a_gradient_that_does_not_descend(mutant):
    data = make_pairs(60, 5, shared=3.0)
    for loss, ok in ((PAIRWISE, True), (mutant, False)):
        objective = Objective(Linear(5), loss + 0.1 * SquaredSum(), data.chosen, data.rejected)
        assert t.descent(objective, np.zeros(5), 0.1).holds is ok


# --- T8: bounded mean, at rest -----------------------------------------------------------------------------------


@given(problems(), coefs, st.floats(0, 5))
def test_t8_universal_bound_linear(problem, coef, margin):
    chosen, rejected, rng = problem
    p = chosen.shape[1]
    weight = rng.random(len(chosen)) + 0.1
    objective = Objective(Linear(p), BradleyTerry(margin) + coef * SquaredSum(), chosen, rejected, weight)
    # The identity behind the theorem holds everywhere ...
    assert t.universal_bound(objective, rng.standard_normal(p), coef, slice(p), margin).holds
    # ... and where Newton comes to rest it is the theorem; on separable data the margins grow, and it still holds.
    result = minimize(objective, Newton(max_iter=30), record_every=30)
    assert t.universal_bound(objective, result.theta, coef, slice(p), margin).holds


@given(problems(max_pairs=8), coefs, st.sampled_from(["relu", "tanh", "gelu", "softplus"]), st.booleans())
def test_t8_universal_bound_mlp(problem, coef, activation, head_bias):
    chosen, rejected, rng = problem
    model = MLP(chosen.shape[1], (6,), activation, head_bias)
    objective = Objective(model, PAIRWISE + coef * SquaredSum(), chosen, rejected)
    head = slice(-6 - head_bias, None)
    assert t.universal_bound(objective, rng.standard_normal(model.n_params), coef, head).holds
    result = minimize(objective, LBFGS(max_iter=40), seed=1, record_every=40)
    assert t.universal_bound(objective, result.theta, coef, head).holds


@settings(max_examples=40)
@given(problems(), coefs, smoothings, st.data())
def test_t8_with_label_smoothing_and_a_margin_for_each_pair(problem, coef, smoothing, data):
    chosen, rejected, rng = problem
    margin = np.array(data.draw(st.lists(margins, min_size=len(chosen), max_size=len(chosen))))
    weight = rng.random(len(chosen)) + 0.1
    loss = BradleyTerry(margin, smoothing) + coef * SquaredSum()
    objective, head = Objective(Linear(chosen.shape[1]), loss, chosen, rejected, weight), slice(chosen.shape[1])
    assert t.universal_bound(objective, rng.standard_normal(chosen.shape[1]), coef, head, margin, smoothing).holds
    result = minimize(objective, Newton(max_iter=30), record_every=30)
    assert t.universal_bound(objective, result.theta, coef, head, margin, smoothing).holds


@given(st.floats(-30, 30), smoothings, st.floats(-60, 60))
def test_t8_no_margin_has_more_force_than_the_resting_one(margin, smoothing, d):
    # d*(sigma(m - d) - eps), its slope 1 + |m - d|/4 or less, and 8 roundings of each factor.
    force = d * (sigmoid(margin - d) - smoothing)
    assert force <= t.resting_force(margin, smoothing) + 8 * U * (1 + abs(d)) * (1 + abs(margin) + abs(d))
    if margin >= 0:
        # Smoothing lowers it. It is reached at 0 <= d <= 1 + W(exp(margin - 1)) <= 2 + margin; roundings as above.
        assert t.resting_force(margin, smoothing) <= t.resting_force(margin) + 8 * U * (2 + margin) ** 2


def test_t8_weight_decay_only_lowers_the_bound():
    data = make_pairs(60, 5, shared=2.0)
    objective = Objective(Linear(5), PAIRWISE + 0.1 * SquaredSum(), data.chosen, data.rejected)
    steep, decay, start = t.step_bound(objective, 0.1) + 0.1, 0.1, np.ones(5)
    solver = SGD(lr=1 / steep, batch_size=60, steps=2000, weight_decay=decay)
    theta = minimize(objective, solver, theta=start, record_every=2000).theta
    _, grad = objective.value_and_grad(theta)
    # Every step shrinks the distance to rest by 1 - decay/steep, and the force there is at most steep times it.
    left = steep * 2 * np.linalg.norm(start - theta) * (1 - decay / steep) ** 2000
    assert np.linalg.norm(grad + decay * theta) <= left <= 1e-6
    assert theta @ grad < 0 and t.universal_bound(objective, theta, 0.1, slice(5)).holds
    assert np.mean(np.add(*objective.scores(theta)) ** 2) <= t.W_1_E / (2 * 0.1)


def test_t8_the_constant_and_that_it_is_attained():
    d = np.linspace(-50, 50, 200001)
    from scipy.special import expit, lambertw

    assert abs(t.W_1_E - lambertw(np.exp(-1)).real) <= 2 * U
    assert np.max(d * expit(-d)) <= t.W_1_E
    # One pair and one parameter that ties d and s: rest is where their two forces balance, at d = 1 + W.
    coef = 0.25
    top, s = 1 + t.W_1_E, np.sqrt(t.W_1_E / (2 * coef))
    objective = Objective(Linear(1), PAIRWISE + coef * SquaredSum(), [[(top + s) / 2]], [[(s - top) / 2]])
    _, grad = objective.value_and_grad([1.0])
    assert abs(grad[0]) <= 16 * U  # theta = 1 is the minimiser, and there mean s^2 equals the bound
    assert t.universal_bound(objective, np.ones(1), coef, slice(1)).holds


@pytest.mark.compiled
@pytest.mark.parametrize("mutant", [SquaredDifference(), 0.0 * SquaredSum(), HalvedGradient()])
def test_t8_rejects(mutant):
    data = make_pairs(60, 5, shared=20.0)
    for penalty, ok in ((SquaredSum(), True), (mutant, False)):
        objective = Objective(Linear(5), PAIRWISE + 0.1 * penalty, data.chosen, data.rejected)
        theta = minimize(objective, SGD(lr=2e-4, batch_size=60, steps=4000), record_every=4000).theta
        assert t.universal_bound(objective, theta, 0.1, slice(5)).holds is ok


def test_t8_an_unpenalised_bias_centres_exactly():
    data = make_pairs(80, 4, shared=2.0)
    objective = Objective(Linear(4, bias=True), PAIRWISE + 0.1 * SquaredSum(), data.chosen, data.rejected)
    result = minimize(objective, Newton())
    # dJ/db = 4*coef*mean(s), and mean(s) = 2*mean_score.
    assert abs(2 * result.history[-1]["mean_score"]) <= result.history[-1]["grad_norm"] / (4 * 0.1) + 16 * U


# --- T9: convexity, uniqueness, existence ------------------------------------------------------------------------


@given(problems(), coefs)
def test_t9_linear_hessian(problem, coef):
    chosen, rejected, rng = problem
    weight = rng.random(len(chosen)) + 0.1
    objective = Objective(Linear(chosen.shape[1]), PAIRWISE + coef * SquaredSum(), chosen, rejected, weight)
    assert t.linear_hessian(objective, rng.standard_normal(chosen.shape[1]) / 10, coef).holds


@pytest.mark.parametrize("mutant", [SquaredDifference(), SumOfSquares(), MinusSquaredSum()])
def test_t9_rejects(mutant):
    data = make_pairs(20, 3)
    for penalty, ok in ((SquaredSum(), True), (mutant, False)):
        objective = Objective(Linear(3), PAIRWISE + 0.5 * penalty, data.chosen, data.rejected)
        assert t.linear_hessian(objective, np.ones(3), 0.5).holds is ok


@given(st.integers(2, 7), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_t9_free_shifts_are_components(items, games, seed):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, items, (2, games))
    i, j = i[i != j], j[i != j]
    if not len(i):
        i, j = np.array([0]), np.array([1])
    count, label = connected_components(coo_array((np.ones(len(i)), (i, j)), (items, items)), directed=False)
    pairs = np.eye(items)[i], np.eye(items)[j]
    assert t.free_shifts(Objective(Linear(items), PAIRWISE, *pairs), count).holds
    # With the term, only items that nobody compared stay free.
    alone = items - len(set(i) | set(j))
    assert t.free_shifts(Objective(Linear(items), PAIRWISE + 0.1 * SquaredSum(), *pairs), alone).holds
    assert not t.free_shifts(Objective(Linear(items), PAIRWISE + 0.1 * SquaredSum(), *pairs), count).holds


@st.composite
def comparisons(draw):
    """Items, and winners and losers of some games between different items."""
    items = draw(st.integers(2, 7))
    game = st.lists(st.integers(0, items - 1), min_size=2, max_size=2, unique=True)
    won, lost = np.array(draw(st.lists(game, min_size=1, max_size=9))).T
    return items, won, lost


def two_colours(items, won, lost):
    """The components as lists of items, each with its two colours, or None where it is not bipartite."""
    found, left = [], set(range(items))
    while left:
        colour, queue, proper = {min(left): 0}, [min(left)], True
        while queue:
            item = queue.pop()
            for other in {*lost[won == item], *won[lost == item]}:
                if other not in colour:
                    colour[other] = 1 - colour[item]
                    queue.append(other)
                proper &= colour[other] != colour[item]
        found.append((sorted(colour), colour if proper else None))
        left -= set(colour)
    return found


@given(comparisons(), coefs)
def test_t9_the_signless_laplacian_is_singular_on_bipartite_components(games, coef):
    items, won, lost = games
    objective = Objective(Linear(items), coef * SquaredSum(), np.eye(items)[won], np.eye(items)[lost])
    bipartite = sum(colour is not None for _, colour in two_colours(*games))
    assert t.signless_laplacian(objective, coef, bipartite).holds
    if bipartite < items:
        assert not t.signless_laplacian(objective, coef, bipartite + 1).holds


@pytest.mark.parametrize("mutant", [SquaredDifference(), SumOfSquares(), MinusSquaredSum()])
def test_t9_rejects_other_laplacians(mutant):
    triangle = np.eye(3), np.eye(3)[[1, 2, 0]]
    for penalty, ok in ((SquaredSum(), True), (mutant, False)):
        assert t.signless_laplacian(Objective(Linear(3), penalty, *triangle), 1.0, 0).holds is ok


@given(comparisons())
def test_t9_when_items_have_a_minimiser(games):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    items, won, lost = games
    pairs = np.eye(items)[won], np.eye(items)[lost]
    beats = coo_array((np.ones(len(won)), (won, lost)), (items, items))
    strong, weak = (connected_components(beats, connection=kind)[0] for kind in ("strong", "weak"))
    one_sided = any(
        colour is not None and len(component) > 1 and len({colour[w] for w in won if w in colour}) == 1
        for component, colour in two_colours(*games)
    )
    for loss, exists in (
        (PAIRWISE, strong == weak),  # everyone can be reached from everyone along wins (Zermelo, Ford)
        (PAIRWISE + 0.1 * SquaredSum(), not one_sided),  # no bipartite component in which one side wins every game
        (BradleyTerry(0, 0.1), True),
    ):
        assert (separating_direction(Objective(Linear(items), loss, *pairs)) is None) is exists


def test_t9_one_minimiser_from_anywhere_with_the_term():
    season = load_baseball()
    for coef, undetermined in ((0.0, 1), (0.01, 0)):
        objective = Objective(Linear(7), PAIRWISE + coef * SquaredSum(), season.chosen, season.rejected, season.weight)
        results = [minimize(objective, Newton(), theta=start * np.ones(7)) for start in (0.0, 3.0)]
        assert [r.undetermined for r in results] == [undetermined] * 2
        apart = np.linalg.norm(results[0].theta - results[1].theta)
        curvature = np.linalg.eigvalsh(objective.hessian(results[0].theta))[0]
        if coef:  # strongly convex around the minimiser: |theta - theta*| <= 2*|grad|/curvature, twice
            assert apart <= 4 * max(r.history[-1]["grad_norm"] for r in results) / curvature + 64 * U
        else:  # the shift that the data cannot see is kept: 3*sqrt(7)
            assert (
                abs(apart - 3 * np.sqrt(7))
                <= 1e-10 / np.linalg.eigvalsh(objective.hessian(results[0].theta))[1] * 4 + 64 * U
            )


def test_t9_antisymmetric_separable_data_diverge_with_the_term():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((15, 3))
    x[:, 0] = np.abs(x[:, 0]) + 0.1
    objective = Objective(Linear(3), PAIRWISE + 10.0 * SquaredSum(), x, -x)
    result = minimize(objective, Newton())
    assert result.stop == "separable" and result.history[-1]["penalty"] == 0.0
    assert result.history[-1]["mean_margin"] > 5


# --- T10: the printed sign ---------------------------------------------------------------------------------------


@given(score_pairs(max_magnitude=5.0, max_size=4), st.floats(0.01, 2), st.integers(1, 60))
def test_t10_printed_sign_inflates(pair, coef, steps):
    assert t.printed_sign(PAIRWISE + coef * MinusSquaredSum(), coef, *pair, 0.05, steps).holds


def test_t10_rejects_the_right_sign_and_refrm_refuses_the_wrong_one():
    assert not t.printed_sign(PAIRWISE + 0.5 * SquaredSum(), 0.5, *EXAMPLE, 0.05, 50).holds
    with pytest.raises(InputError, match=r"coefficient .* got -0\.01"):
        PAIRWISE + -0.01 * SquaredSum()
    # Unbounded below: the deeper the further s moves.
    loss = PAIRWISE + 0.01 * MinusSquaredSum()
    values = [loss.value([c + 1.0], [c - 1.0]) for c in (0.0, 10.0, 1e3, 1e6)]
    assert np.all(np.diff(values) < 0) and values[-1] < -1e9


# --- T11: centring afterwards ------------------------------------------------------------------------------------


@given(moderate)
def test_t11_centring_by_one_constant_keeps_margins_and_spread(pair):
    assert t.centring(t.centred, *pair).holds


@given(moderate)
def test_t11_centring_pair_by_pair_leaves_no_sum(pair):
    assert t.centring(partial(t.centred, per_pair=True), *pair, per_pair=True).holds


@given(score_pairs(max_magnitude=1e3), st.floats(-1e3, 1e3))
def test_t11_no_other_constant_leaves_less(pair, other):
    # mean (s - 2c)^2 = mean s^2 - 4c mean s + 4c^2. After centring |mean s| is at most the bound of `centring`, which
    # through 4c costs 8(n + 4)u of this size; the rounded scores, sums, squares and means cost less than as much again.
    w, v = t.centred(*pair)
    least, more = (SquaredSum().value(w - c, v - c) for c in (0.0, other))
    size = np.mean((np.abs(w) + np.abs(v) + 2 * abs(other)) ** 2) + np.mean(np.abs(pair[0]) + np.abs(pair[1])) ** 2
    assert abs(more - least - 4 * other * other) <= 16 * (len(w) + 4) * U * size + 2.0**-1070


@pytest.mark.parametrize("mutant", [centred_by_the_sum, centred_by_the_chosen, centred_apart, standardised])
def test_t11_rejects(mutant):
    assert t.centring(t.centred, *EXAMPLE).holds
    assert not t.centring(mutant, *EXAMPLE).holds


def test_t11_rejects_one_way_of_centring_for_the_other():
    assert not t.centring(partial(t.centred, per_pair=True), *EXAMPLE).holds  # the spread has gone
    assert not t.centring(t.centred, *EXAMPLE, per_pair=True).holds  # the spread has stayed


# --- T12: batch-wise sum-to-zero ---------------------------------------------------------------------------------


@given(moderate)
def test_t12_jensen(pair):
    assert t.jensen(*pair).holds


@given(score_pairs(max_magnitude=1e3, min_size=1, max_size=7), st.data())
def test_t12_batch_expectation(pair, data):
    size = data.draw(st.integers(1, len(pair[0])))
    assert t.batch_expectation(SumToZero(), *pair, size).holds


@pytest.mark.parametrize("mutant", [SummedBatch(), SquaredSum()])
def test_t12_rejects(mutant):
    assert t.batch_expectation(SumToZero(), *EXAMPLE, 2).holds
    assert not t.batch_expectation(mutant, *EXAMPLE, 2).holds


# --- T13: what a shift costs in floating point ---------------------------------------------------------------------


@given(score_pairs(dtype=np.float32, max_magnitude=1e4), st.floats(-1e6, 1e6, width=32))
def test_t13_shift_cost_float32(pair, shift):
    assert t.shift_cost(*pair, shift, 2.0**-24).holds


@given(st.data())
def test_t13_shift_cost_float16(data):
    values = st.floats(-100, 100, width=16)
    w, v = (np.array(data.draw(st.lists(values, min_size=3, max_size=3)), np.float16) for _ in range(2))
    assert t.shift_cost(w, v, data.draw(st.floats(-1000, 1000, width=16)), 2.0**-11).holds


def bfloat16(a, b):
    """The sum of float32 arrays as bfloat16, to nearest, ties to even; for sums that float32 has exactly."""
    bits = (a + b).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(
        np.float32
    )


# Multiples of 1/8 up to 31: numbers of bfloat16, whose sums with whole numbers up to 2^20 float32 has exactly.
eighths = st.lists(st.integers(-248, 248), min_size=3, max_size=3).map(lambda k: np.array(k, np.float32) / 8)


@given(eighths, eighths, st.integers(0, 20), st.integers(128, 255))
def test_t13_shift_cost_bfloat16(w, v, exponent, significand):
    w, v = (bfloat16(x, np.zeros_like(x)) for x in (w, v))
    assert t.shift_cost(w, v, significand * 2.0 ** (exponent - 7), 2.0**-8, bfloat16).holds


def test_t13_rejects_bfloat16_that_is_cut_off():
    w, v = np.array([1.75], np.float32), np.array([-256.0], np.float32)  # 257.75 is cut to 256, and should be 258
    assert t.shift_cost(w, v, 256.0, 2.0**-8, bfloat16).holds
    assert not t.shift_cost(w, v, 256.0, 2.0**-8, bfloat16_cut_off).holds


def test_t13_rejects_exact_invariance_and_half_the_cost():
    # 0.24 and 0.26 above 512 in float16, whose spacing there is 1/2: the one goes down, the other up, and the margin
    # -0.02 becomes -0.5. +0.1 and -0.1 around it become one number.
    w, v = np.array([0.24, 0.1], np.float16), np.array([0.26, -0.1], np.float16)
    assert t.shift_cost(w, v, 512.0, 2.0**-11).holds
    assert not t.shift_cost(w, v, 512.0, 2.0**-12).holds  # the margin moved by more than a format of one bit more could
    assert (w + np.float16(512) == v + np.float16(512)).tolist() == [False, True]


# --- T14: smoothed labels bound the margin -------------------------------------------------------------------------


@BACKENDS
@given(st.floats(1e-6, 0.49), margins)
def test_t14_smallest_at_log_odds(backend, smoothing, margin):
    assert t.smoothed_minimum(On(BradleyTerry(margin, smoothing), backend), smoothing, margin).holds


@pytest.mark.parametrize("mutant", [SmoothingFlipped, SmoothingIgnored])
def test_t14_rejects(mutant):
    assert t.smoothed_minimum(BradleyTerry(0, 0.1), 0.1).holds
    assert not t.smoothed_minimum(mutant(0.1), 0.1).holds


@given(problems(), st.floats(0.01, 0.4), coefs)
def test_t14_bounds_every_margin_also_where_the_term_sees_nothing(problem, smoothing, coef):
    # Antisymmetric features, separable or not. Wherever J <= J0, mean |d| <= J0/eps; from zero scores J0 = log 2.
    chosen, _, _ = problem
    loss = BradleyTerry(0, smoothing) + coef * SquaredSum()
    result = minimize(Objective(Linear(chosen.shape[1]), loss, chosen, -chosen), Newton(), record_every=1000)
    r_w, r_l = Objective(Linear(chosen.shape[1]), loss, chosen, -chosen).scores(result.theta)
    assert result.stop == "converged"
    assert np.mean(np.abs(r_w - r_l)) <= np.log(2) / smoothing * (1 + 8 * U)


def test_t14_without_smoothing_no_margin_is_best():
    losses = [PAIRWISE.value([d], [0.0]) for d in (1.0, 10.0, 100.0, 700.0)]
    assert all(np.diff(losses) < 0)
