"""Visible directions and separation, on data that are hard for either."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refrm import (
    LBFGS,
    MLP,
    BradleyTerry,
    InputError,
    Linear,
    Newton,
    Objective,
    SquaredSum,
    SumOfSquares,
    SumToZero,
    minimize,
)
from refrm.geometry import conditioner, frame, separating_direction, visible

PAIRWISE = BradleyTerry()


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**32 - 1), st.integers(-12, 12))
def test_frame(n, p, rank, seed, exponent):
    rng = np.random.default_rng(seed)
    rank = min(rank, n, p)
    rows = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p)) * 10.0 ** rng.integers(-3, 4, p)
    rows *= 10.0**exponent
    basis, coordinates = frame(rows)
    assert basis.shape == (p, rank) and coordinates.shape == (rank, p)
    # Columns differ by up to 1e6 in size, which is what the basis' condition costs.
    rounding = 1e6 * 64 * 2.0**-52
    np.testing.assert_allclose((rows @ basis).T @ (rows @ basis), np.eye(rank), rtol=0, atol=1e-6)
    np.testing.assert_allclose(coordinates @ basis, np.eye(rank), rtol=0, atol=1e-6)
    v = rng.standard_normal(p)
    hidden = rows @ (v - basis @ (coordinates @ v))
    assert np.abs(hidden).max() <= rounding * (np.abs(rows) @ np.abs(v)).max()


def differences(d, loss=PAIRWISE, s=None):
    """An objective with given differences and sums of features."""
    d = np.asarray(d, float)
    s = 0 * d if s is None else np.asarray(s, float)
    # These tests are of geometry, not of kernels; uncompiled, the definition is the faster of the two.
    return Objective(Linear(d.shape[1]), loss, (s + d) / 2, (s - d) / 2, backend="numpy")


def test_nearly_dependent_columns_are_told_from_dependent_ones():
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 200))
    assert visible(differences(np.stack([x, x], 1)))[0].shape[1] == 1
    assert visible(differences(np.stack([x, x + 1e-8 * z], 1)))[0].shape[1] == 2
    offset = 1e8 + rng.standard_normal((200, 3))
    objective = Objective(Linear(3), PAIRWISE + 0.01 * SquaredSum(), offset, 1e8 + rng.standard_normal((200, 3)))
    assert visible(objective)[0].shape[1] == 3


@pytest.mark.parametrize(
    ("loss", "rank"),
    [(PAIRWISE, 1), (PAIRWISE + SquaredSum(), 2), (PAIRWISE + SumToZero(), 2), (PAIRWISE + 0 * SquaredSum(), 1)],
)
def test_what_each_loss_sees(loss, rank):
    # d sees the first feature, s the second, nobody the third.
    assert visible(differences([[1, 0, 0], [2, 0, 0]], loss, [[0, 1, 0], [0, 2, 0]]))[0].shape[1] == rank


def test_pairs_of_weight_0_are_not_seen():
    data = np.eye(2), np.zeros((2, 2))
    assert visible(Objective(Linear(2), PAIRWISE, *data, [1.0, 0.0]))[0].shape[1] == 1


def test_only_the_linear_model_has_a_geometry():
    with pytest.raises(InputError, match="needs the linear model, got MLP"):
        visible(Objective(MLP(1), PAIRWISE, [[1.0]], [[0.0]]))


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e10, [1.0, 1e-10], [1e8, 1.0]])
def test_separation_whatever_the_scale(scale):
    rng = np.random.default_rng(1)
    d = rng.standard_normal((60, 2))
    noisy = differences(d * scale)
    assert separating_direction(noisy) is None
    d[:, 1] = np.abs(d[:, 1])
    v = separating_direction(differences(d * scale))
    assert v is not None
    size = 1e-9 * (np.abs(d * scale) @ np.abs(v)).max()  # the feasibility tolerance of the linear program
    assert np.all(d * scale @ v >= -size) and np.any(d * scale @ v > size)


def test_separation_that_is_hard_to_see():
    v = separating_direction(differences([[1, 0], [-1, 1e-8], [1, 1e-8]]))
    assert v is not None and np.all(np.array([[1, 0], [-1, 1e-8], [1, 1e-8]]) @ v >= -1e-16)
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((2, 200))
    sign = np.where(rng.random(200) < 0.5, 1, -1)
    for h in (1.0, 1e-4, 1e-9):
        assert separating_direction(differences(np.stack([x, x + h * z], 1) * sign[:, None])) is None


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_separable_by_construction_and_by_the_perceptron(n, p, seed):
    rng = np.random.default_rng(seed)
    d, w = rng.standard_normal((n, p)), rng.standard_normal(p)
    margin = d @ w
    separable = d * np.where(margin >= 0, 1, -1)[:, None]
    v = separating_direction(differences(separable))
    assert v is not None
    size = 1e-9 * (np.abs(separable) @ np.abs(v)).max()
    assert np.all(separable @ v >= -size) and np.any(separable @ v > size)
    both = np.concatenate([separable, -separable])  # every pair once in either order: never separable
    assert separating_direction(differences(both)) is None


@pytest.mark.parametrize(
    ("loss", "separable"),
    [
        (PAIRWISE, True),
        (BradleyTerry(3.0), True),
        (BradleyTerry(0.0, 0.01), False),  # smoothing bounds every margin (T14)
        (PAIRWISE + SumOfSquares(), False),  # so does a pull on the margin
        (SquaredSum(), False),
        (0 * PAIRWISE + SquaredSum(), False),
        (PAIRWISE + SquaredSum(), True),  # the second feature separates, and no sum sees it
        (PAIRWISE + SumToZero(), True),
    ],
)
def test_what_each_loss_lets_run(loss, separable):
    objective = differences([[0.5, 1], [-0.5, 2]], loss, [[1, 0], [2, 0]])
    assert (separating_direction(objective) is not None) is separable


def test_a_penalty_on_every_direction_leaves_nothing_to_run():
    rng = np.random.default_rng(4)
    d = np.abs(rng.standard_normal((30, 3)))
    for scale in (1.0, 1e-10):
        objective = differences(scale * d, PAIRWISE + SquaredSum(), scale * rng.standard_normal((30, 3)))
        assert separating_direction(objective) is None


def test_there_is_nothing_to_separate_in_equal_features_or_an_mlp():
    assert separating_direction(differences([[0.0], [0.0]])) is None
    assert separating_direction(Objective(MLP(1), PAIRWISE, [[1.0]], [[0.0]])) is None


@pytest.mark.parametrize("scale", [1e-20, 1e-11, 1e-6, 1.0, 1e7, 1e9, 1e20])
def test_newton_does_not_see_the_scale_of_a_feature(scale):
    rng = np.random.default_rng(5)
    d = rng.standard_normal((200, 3)) + 0.3
    result = minimize(differences(d * [1.0, scale, 1.0]), Newton())
    plain = minimize(differences(d), Newton())
    assert result.stop == plain.stop == "converged" and plain.undetermined == 0
    np.testing.assert_allclose(result.theta * [1.0, scale, 1.0], plain.theta, rtol=1e-9)


# --- coordinates of L-BFGS, and its certificate that there is a minimiser --------------------------------------------


def coordinates_of(objective):
    """The conditioner and its matrix B, column by column."""
    found = conditioner(objective)
    units = np.eye(objective.model.n_params)
    basis = np.stack([found.forth(e) for e in units], 1)
    # The transposed product sums the same terms, whatever their order.
    rounding = 64 * 2.0**-52 * np.abs(basis).max()
    np.testing.assert_allclose(np.stack([found.back(e) for e in units]), basis, rtol=0, atol=rounding)
    return found, basis


@given(st.integers(2, 12), st.integers(1, 4), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_in_its_coordinates_the_hessian_at_zero_is_the_identity(n, p, coef, seed):
    rng = np.random.default_rng(seed)
    d, s = rng.standard_normal((2, n, p)) * 10.0 ** rng.integers(-3, 4, p)
    d[:, 0] = d[:, -1]  # dependent, unless it is the only one
    objective = differences(d, PAIRWISE + coef * SquaredSum(), s)
    found, basis = coordinates_of(objective)
    seen = basis[:, : found.rank]
    # The squares of singular values down to 1e-6 of the largest are known to about 1e-15/1e-12.
    identity = seen.T @ objective.hessian(np.zeros(p)) @ seen
    np.testing.assert_allclose(identity, np.eye(found.rank), rtol=0, atol=0.02)
    assert 1 <= found.rank <= p and basis.shape == (p, p)


def test_coordinates_from_some_of_many_pairs():
    d = np.random.default_rng(0).standard_normal((1500, 300))
    found, basis = coordinates_of(differences(d))
    assert len(found.index) == 1280 == len(found.some) and found.index[-1] == 1499
    hessian = found.some.hessian(np.zeros(300))
    # So many rows of independent columns have condition below 100, and so lose no more than two digits.
    np.testing.assert_allclose(basis.T @ hessian @ basis, np.eye(300), rtol=0, atol=1e-11)
    assert len(conditioner(differences(d[:, :2])).index) == 256  # of few features, 128 pairs each are enough
    assert len(conditioner(differences(d[:, :2]), every=True).index) == 1500


@given(st.integers(2, 10), st.integers(1, 3), st.sampled_from([0.0, 0.1]), st.integers(0, 2**32 - 1))
def test_a_certified_minimiser_exists(n, p, coef, seed):
    # Small integers: whether they are separable is decided without rounding.
    rng = np.random.default_rng(seed)
    d, s = rng.integers(-2, 3, (2, n, p)).astype(float)
    objective = differences(d, PAIRWISE + coef * SquaredSum(), s)
    near, theta = conditioner(objective), rng.standard_normal(p)
    for _ in range(60):  # gradient descent in its coordinates, of step 1, never overshoots: h <= 1/4
        _, grad = objective.value_and_grad(theta)
        if near.certifies(objective, theta, grad):
            assert separating_direction(objective) is None
            return
        theta = theta - near.forth(near.back(grad))
    assert separating_direction(objective) is not None or np.abs(theta).max() > 1


def test_what_cannot_be_certified():
    objective = differences([[1.0], [2.0]])  # separable: the gradient alone never shows a minimiser
    near = conditioner(objective)
    for theta in (0.0, 3.0, 30.0):
        assert not near.certifies(objective, np.array([theta]), objective.value_and_grad(np.array([theta]))[1])
    assert not near.certifies(objective, np.zeros(1), np.array([np.nan]))
    penalty = differences([[1.0], [-2.0]], SquaredSum(), [[1.0], [1.0]])
    smoothed = differences([[1.0], [2.0]], BradleyTerry(0.0, 0.1))
    for bounded in (penalty, smoothed):  # there always is one, whatever the gradient
        assert conditioner(bounded).certifies(bounded, np.zeros(1), np.ones(1))
    assert conditioner(Objective(MLP(2, (2,)), PAIRWISE, np.ones((2, 2)), np.zeros((2, 2)))) is None
    with np.errstate(all="ignore"):
        assert conditioner(differences([[1.0]], PAIRWISE + 1e308 * SquaredSum(), [[9.0]])) is None


def test_what_some_pairs_do_not_see_is_neither_lost_nor_certified():
    rng = np.random.default_rng(1)
    d = rng.standard_normal((1500, 300))
    index = conditioner(differences(d)).index
    unseen = np.setdiff1d(np.arange(1500), index)
    d[:, 7] = 0
    d[unseen[:20], 7] = rng.standard_normal(20)
    objective = differences(d)
    fitted, truth = (minimize(objective, solver, record_every=1000) for solver in (LBFGS(), Newton()))
    assert fitted.stop == truth.stop == "converged" and conditioner(objective).rank == 299
    # Both have gradients of norm 1e-8 or less, in a valley that is no flatter than 1e-3.
    np.testing.assert_allclose(fitted.theta, truth.theta, rtol=0, atol=2e-5)
    d[:, 7] = 0
    d[unseen[:20], 7] = 1.0  # separable, along a feature that the coordinates do not know
    objective = differences(d)
    theta = truth.theta * (np.arange(300) != 7)
    grad = objective.value_and_grad(theta)[1]
    assert not conditioner(objective).certifies(objective, theta, grad)


@pytest.mark.parametrize("size", [1e-6, 1e-7, 1e-8])
def test_a_narrow_separation_is_not_certified_away(size):
    objective = Objective(Linear(2), PAIRWISE, np.array([[1, 1 + size], [-1, -1 + size]]), np.zeros((2, 2)))
    for theta in (np.zeros(2), np.array([-3.0, 3.0])):
        assert not conditioner(objective).certifies(objective, theta, objective.value_and_grad(theta)[1])


def test_the_mean_of_some_sums_certifies_nothing_of_the_mean_of_all():
    d, s = np.random.default_rng(2).standard_normal((2, 1500, 300))
    objective = differences(d, PAIRWISE + SumToZero(), s)
    theta = minimize(objective, Newton(), record_every=1000).theta
    coordinates = conditioner(objective)
    assert len(coordinates.index) < 1500
    assert not coordinates.certifies(objective, theta, objective.value_and_grad(theta)[1])


def test_newton_asks_of_pairs_that_are_separable_only_in_part():
    # The first two pairs contradict each other, the third is separated along the second feature.
    for weight in (None, [1.0, 2.0, 3.0]):
        d = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
        assert minimize(Objective(Linear(2), PAIRWISE, d, 0 * d, weight), Newton()).stop == "separable"
    assert minimize(differences([[0.0, 0.0]]), Newton()).stop == "converged"


def test_separation_does_not_depend_on_the_scale_of_a_feature():
    x = np.array([[0.0, -1, 1, -2], [2, 2, -1, 2], [0, 1, -2, -2]])
    y = np.array([[0.0, -1, 0, -2], [0, 0, 2, -2], [0, -2, 2, -2]])
    loss = PAIRWISE + SquaredSum()
    for scale in (np.ones(4), np.array([0.1, 1e3, 10, 0.01])):
        assert separating_direction(Objective(Linear(4, True), loss, x * scale, y * scale, [1, 2, 1])) is None


def test_newton_from_zero_has_the_least_norm_with_few_pairs_too():
    d, s = np.random.default_rng(4).standard_normal((2, 10, 40))
    for loss in (BradleyTerry(0, 0.1), BradleyTerry(0, 0.1) + 0.01 * SquaredSum()):
        objective = differences(d, loss, s)
        rows = np.concatenate([d, s]) if len(loss.terms) > 1 else d
        theta = minimize(objective, Newton()).theta
        outside = theta - np.linalg.pinv(rows) @ (rows @ theta)
        # 40 terms of a well-conditioned projection
        assert np.abs(outside).max() <= 40 * 64 * 2.0**-52 * np.abs(theta).max()


def test_float32_features_hide_what_is_below_their_rounding():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60, 2, 1))
    features = np.concatenate([x, rng.standard_normal((60, 2, 1)), x], axis=2) @ rng.standard_normal((3, 3))
    for dtype, rank in ((np.float64, 2), (np.float32, 2)):
        w, v = (features[:, k].astype(dtype) for k in (0, 1))
        assert visible(Objective(Linear(3), PAIRWISE, w, v))[0].shape[1] == rank
        result = minimize(Objective(Linear(3), PAIRWISE, w, v), Newton())
        assert np.abs(result.theta).max() < 10


@pytest.mark.parametrize("seed", range(3))
def test_conjugate_gradients_prove_what_the_coordinates_cannot(seed, monkeypatch):
    # Margins of size 7: at the minimiser there are p far below the curvature 1/4 that the coordinates go by.
    rng = np.random.default_rng(seed)
    d = 4 * rng.standard_normal((200, 3))
    d *= np.where(rng.random(200) < 1 / (1 + np.exp(-d @ np.ones(3))), 1, -1)[:, None]
    objective, way = differences(d), rng.standard_normal(3)
    near, best, products = conditioner(objective), minimize(objective, Newton()).theta, []
    monkeypatch.setattr(Objective, "hvp", lambda self, *at, hvp=Objective.hvp: products.append(1) or hvp(self, *at))
    for far in (1e-3, 1e-4, 1e-5, 1e-6):
        theta = best + far * way
        assert near.certifies(objective, theta, objective.value_and_grad(theta)[1])
    assert len(products) == 12  # in exact arithmetic, three steps for three parameters are all
    theta = best + 0.1 * way  # Newton's step from here is too long to prove anything
    assert not near.certifies(objective, theta, objective.value_and_grad(theta)[1])


def test_what_a_fit_can_prove_needs_no_linear_program(monkeypatch):
    monkeypatch.setattr("refrm.fit.separating_direction", lambda _: pytest.fail("a linear program was asked"))
    d, s = np.random.default_rng(5).standard_normal((2, 1500, 300))
    for loss, weight in ((PAIRWISE, None), (PAIRWISE + 0.01 * SquaredSum(), np.arange(1500.0))):
        objective = Objective(Linear(300), loss, (s + d) / 2, (s - d) / 2, weight, backend="numpy")
        assert minimize(objective, LBFGS(), record_every=1000).stop == "converged"
    # Some pairs do not see the last feature, all do.
    d[conditioner(objective).index, -1] = 0
    assert minimize(differences(d), LBFGS(), record_every=1000).stop == "converged"


def test_a_gradient_proves_nothing_where_pairs_are_separable():
    rng = np.random.default_rng(6)
    for d in (np.abs(rng.standard_normal((30, 1))), np.abs(rng.standard_normal((30, 2)))):
        objective = differences(d)
        assert minimize(objective, LBFGS()).stop == "separable"
        for far in (0.0, 1.0, 10.0, 30.0):
            theta = np.full(d.shape[1], far)
            assert not conditioner(objective).certifies(objective, theta, objective.value_and_grad(theta)[1])
