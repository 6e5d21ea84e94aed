"""The algebra of T1 to T7 and of docs/theorems/derivations.md a second time, by SymPy: every derivative and identity.

SymPy differentiates the definitions; the formulas of the pages are written down here a second time and must agree
with that exactly. The network has a symbolic activation; refrm's code is compared with SymPy's derivatives in numbers.
"""

from functools import cache, partial
from itertools import combinations, permutations

import mpmath
import numpy as np
import pytest
import sympy as sp

from refrm import MLP, BradleyTerry, Linear, Objective, SquaredSum, SumOfSquares, SumToZero, spec
from refrm.losses import Hessian
from refrm.mlp import ACTIVATIONS
from refrm.theorems import U

x, z, d, s, m, w, v, t, a = sp.symbols("x z d s m r_w r_l t a", real=True)
eps, lam, eta, n = sp.symbols("epsilon lambda eta N", positive=True)


def sigma(x):
    return 1 / (1 + sp.exp(-x))


def softplus(x):
    return sp.log(1 + sp.exp(x))


def pairwise(z):
    return (1 - eps) * softplus(-z) + eps * softplus(z)


def same(left, right):
    """Whether two expressions in exponentials are identical: as rational functions of e^x, their difference is 0."""
    difference = sp.sympify(left - right)
    return sp.simplify(sp.together(difference.rewrite(sp.exp)).expand()) == 0


def symbols(name, *shape):
    """A matrix of real symbols."""
    rows, columns = (*shape, 1)[:2]
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{i}_{j}", real=True))


# --- The pairwise loss, T1 to T3 ---------------------------------------------------------------------------------


def test_softplus_and_sigmoid():
    assert same(softplus(x).diff(x), sigma(x))
    assert same(sigma(x) + sigma(-x), 1)
    assert same(sigma(x).diff(x), sigma(x) * sigma(-x))
    assert same(sigma(x) * sigma(-x), sp.Rational(1, 4) - (sigma(x) - sp.Rational(1, 2)) ** 2)
    assert same(sigma(x).diff(x, 2), sigma(x) * sigma(-x) * (sigma(-x) - sigma(x)))
    # Logarithms: softplus(x) = x + softplus(-x) after exp on both sides, and so the stable form for either sign.
    assert same(sp.exp(softplus(x)), sp.exp(x) * (1 + sp.exp(-x)))
    assert same(sigma(x), sp.exp(x) / (1 + sp.exp(x)))


def test_t1_shifts():
    f = sp.symbols("f", real=True)
    loss = pairwise(w - v - m)
    assert sp.expand(loss.subs({w: w + f, v: v + f}, simultaneous=True) - loss) == 0
    gradient = [loss.diff(r) for r in (w, v)]
    assert same(sum(gradient), 0)
    hessian = sp.hessian(loss, (w, v))
    assert all(same(entry, 0) for entry in hessian * sp.Matrix([1, 1]))
    # A part of the score that depends on the prompt alone, g(phi), has derivative 0.
    g, phi = sp.Function("g"), sp.symbols("phi")
    assert sp.simplify(loss.subs({w: w + g(phi), v: v + g(phi)}, simultaneous=True).diff(phi)) == 0


def test_t2_gradients_and_blocks():
    assert same(pairwise(z).diff(z), eps - sigma(-z))
    assert same(pairwise(z).diff(z), -((1 - eps) * sigma(-z) - eps * sigma(z)))
    assert same(pairwise(z).diff(z, 2), sigma(z) * sigma(-z))
    objective = (pairwise(w - v - m) + lam * (w + v) ** 2) / n
    slope = eps - sigma(-(w - v - m))
    assert same(objective.diff(w), (slope + 2 * lam * (w + v)) / n)
    assert same(objective.diff(v), (-slope + 2 * lam * (w + v)) / n)
    h = sp.symbols("h", positive=True)
    block = h * sp.Matrix([[1, -1], [-1, 1]]) + 2 * lam * sp.ones(2)
    found = sp.hessian(objective, (w, v)) * n
    exact = block.subs(h, sigma(w - v - m) * sigma(-(w - v - m)))
    assert all(same(*entries) for entries in zip(found, exact, strict=True))
    assert block * sp.Matrix([1, -1]) == 2 * h * sp.Matrix([1, -1])
    assert block * sp.Matrix([1, 1]) == 4 * lam * sp.Matrix([1, 1])


def test_the_forms_of_the_code_are_the_loss():
    # spec.bradley_terry for z >= 0 and for z < 0, with |z| = z and -z.
    tail = {1: sp.log(1 + sp.exp(-z)), -1: sp.log(1 + sp.exp(z))}
    for sign, rest in ((1, eps * z), (-1, -(1 - eps) * z)):
        # The derivatives agree, and the values at 0.
        assert same((tail[sign] + rest).diff(z), pairwise(z).diff(z))
        assert sp.simplify((tail[sign] + rest - pairwise(z)).subs(z, 0)) == 0


def test_t3_coordinates():
    to_scores = {w: (s + d) / 2, v: (s - d) / 2}
    assert sp.expand((w - v).subs(to_scores) - d) == sp.expand((w + v).subs(to_scores) - s) == 0
    above, below = sp.Function("A")(w - v), sp.Function("B")(w + v)
    grad_a, grad_b = ([f.diff(r).doit() for r in (w, v)] for f in (above, below))
    assert sp.simplify(sum(grad_a)) == 0
    assert sp.simplify(grad_b[0] - grad_b[1]) == 0
    assert sp.simplify(grad_a[0] * grad_b[0] + grad_a[1] * grad_b[1]) == 0
    # Any function f(r_w, r_l), here one with every second derivative, in the coordinates (d, s).
    f = w**2 * v**3 + sp.exp(w) * v
    moved = f.subs(to_scores, simultaneous=True)
    h_ww, h_wl, h_ll = (f.diff(*pair).subs(to_scores, simultaneous=True) for pair in ((w, w), (w, v), (v, v)))
    assert sp.simplify(moved.diff(d) - (f.diff(w) - f.diff(v)).subs(to_scores, simultaneous=True) / 2) == 0
    assert sp.simplify(moved.diff(s) - (f.diff(w) + f.diff(v)).subs(to_scores, simultaneous=True) / 2) == 0
    assert sp.simplify(moved.diff(d, 2) - (h_ww - 2 * h_wl + h_ll) / 4) == 0
    assert sp.simplify(moved.diff(s, 2) - (h_ww + 2 * h_wl + h_ll) / 4) == 0
    assert sp.simplify(moved.diff(d, s) - (h_ww - h_ll) / 4) == 0


# --- Penalties, T4 -------------------------------------------------------------------------------------------------


def test_penalties_of_one_pair():
    for penalty, gradient, hessian in (
        ((w + v) ** 2, [2 * (w + v)] * 2, [[2, 2], [2, 2]]),
        (w**2 + v**2, [2 * w, 2 * v], [[2, 0], [0, 2]]),
        ((w - v) ** 2, [2 * (w - v), -2 * (w - v)], [[2, -2], [-2, 2]]),
    ):
        assert [sp.expand(penalty.diff(r) - g) for r, g in zip((w, v), gradient, strict=True)] == [0, 0]
        assert sp.hessian(penalty, (w, v)) == sp.Matrix(hessian)
    assert sp.expand((w + v) ** 2 + (w - v) ** 2 - 2 * (w**2 + v**2)) == 0


def invariant(size, moves):
    """The symmetric matrices that no move, a signed permutation, changes: a basis of them, and the general one."""
    entry = {key: sp.Symbol(f"a_{key}") for key in combinations_with_diagonal(size)}
    general = sp.Matrix(size, size, lambda i, j: entry[min(i, j), max(i, j)])
    equations = [e for move in moves for e in move.T * general * move - general if e != 0]
    solution = sp.solve(equations, list(entry.values()), dict=True)[0] if equations else {}
    general = general.subs(solution)
    return general, sorted(general.free_symbols, key=str)


def combinations_with_diagonal(size):
    return [(i, j) for i in range(size) for j in range(i, size)]


def test_t4_forms():
    alpha, beta, gamma = sp.symbols("alpha beta gamma", real=True)

    def form(first, second):
        return alpha * first**2 + 2 * beta * first * second + gamma * second**2

    coordinates = form((s + d) / 2, (s - d) / 2)
    parts = (alpha + 2 * beta + gamma) / 4 * s**2, (alpha - gamma) / 2 * s * d, (alpha - 2 * beta + gamma) / 4 * d**2
    assert sp.expand(coordinates - sum(parts)) == 0
    assert sp.expand(parts[0] - form(s / 2, s / 2)) == 0
    assert sp.expand(parts[1] - (coordinates - coordinates.subs(d, -d)) / 2) == 0
    assert sp.expand(parts[2] - form(d / 2, -d / 2)) == 0
    # One pair: the hypotheses as equations have one solution, up to a factor.
    hypotheses = [*sp.Poly(form(w, v) - form(v, w), w, v).coeffs(), *sp.Poly(form(a, -a), a).coeffs()]
    assert sp.solve(hypotheses, [alpha, gamma], dict=True) == [{alpha: beta, gamma: beta}]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_t4_forms_of_k_responses(k):
    swaps = [sp.eye(k).elementary_row_op("n<->m", row1=i, row2=i + 1) for i in range(k - 1)]
    general, free = invariant(k, swaps)
    assert len(free) == 2
    off, same_place = general[0, 1], general[0, 0]
    assert (general - (same_place - off) * sp.eye(k) - off * sp.ones(k)).expand() == sp.zeros(k)
    r = symbols("r", k)
    total, squares = sum(r), sum(e**2 for e in r)
    assert sp.expand(sum((r[i] + r[j]) ** 2 for i, j in combinations(range(k), 2)) - (k - 2) * squares - total**2) == 0
    b = sp.symbols("b")
    q = a * squares + b * total**2
    for i, j in permutations(range(k), 2):
        assert sp.expand(q.diff(r[i]) - q.diff(r[j]) - 2 * a * (r[i] - r[j])) == 0
    # No force on any difference: equal rows, which a symmetric matrix has only if all entries are equal.
    form = sp.Matrix(k, k, lambda i, j: sp.Symbol(f"a_{min(i, j)}_{max(i, j)}"))
    rows = [form[i, j] - form[i + 1, j] for i in range(k - 1) for j in range(k)]
    solved = form.subs(sp.solve(rows, list(form.free_symbols - {form[k - 1, k - 1]}), dict=True)[0])
    assert solved == form[k - 1, k - 1] * sp.ones(k)


@pytest.mark.parametrize("pairs", [2, 3])
def test_t4_forms_of_n_pairs(pairs):
    # In the order d_1, ..., d_N, s_1, ..., s_N: exchange within a pair turns one d, reordering permutes both.
    turns = [sp.diag(*[-1 if j == i else 1 for j in range(2 * pairs)]) for i in range(pairs)]
    swaps = [sp.eye(pairs).elementary_row_op("n<->m", row1=i, row2=i + 1) for i in range(pairs - 1)]
    general, free = invariant(2 * pairs, [*turns, *(sp.diag(p, p) for p in swaps)])
    assert len(free) == 3
    a_d, a_s, a_mean = general[0, 0], general[pairs, pairs] - general[pairs, pairs + 1], general[pairs, pairs + 1]
    expected = sp.diag(a_d * sp.eye(pairs), a_s * sp.eye(pairs) + a_mean * sp.ones(pairs))
    assert (general - expected).expand() == sp.zeros(2 * pairs)


# --- Means, sum-to-zero, all losses at once ------------------------------------------------------------------------


def test_losses_on_scores():
    # Three pairs, any shares, all four coefficients; the pairwise loss as a function of which only derivatives matter.
    c, c_d, c_s, c_mean = sp.symbols("c c_d c_s c_mean", positive=True)
    r_w, r_l, q = symbols("w", 3), symbols("v", 3), symbols("q", 3)
    mu = sum(q[i] * (r_w[i] + r_l[i]) for i in range(3))
    scores = [*r_w, *r_l]
    f = c_mean * mu**2 + sum(
        q[i] * (c * pairwise(r_w[i] - r_l[i] - m) + c_d * (r_w[i] - r_l[i]) ** 2 + c_s * (r_w[i] + r_l[i]) ** 2)
        for i in range(3)
    )
    slope = [eps - sigma(-(r_w[i] - r_l[i] - m)) for i in range(3)]
    for i in range(3):
        on_s = 2 * c_s * (r_w[i] + r_l[i]) + 2 * c_mean * mu
        on_d = c * slope[i] + 2 * c_d * (r_w[i] - r_l[i])
        assert same(f.diff(r_w[i]), q[i] * (on_s + on_d))
        assert same(f.diff(r_l[i]), q[i] * (on_s - on_d))
    both = sp.Matrix([*q, *q])
    assert (sp.hessian(mu**2, scores) - 2 * both * both.T).expand() == sp.zeros(6)
    assert sp.Matrix([(mu**2).diff(r) for r in scores]).equals(2 * mu * both)
    t_w, t_l = symbols("s", 3), symbols("t", 3)
    product = 2 * both * sum(q[i] * (t_w[i] + t_l[i]) for i in range(3))
    assert (sp.hessian(mu**2, scores) * sp.Matrix([*t_w, *t_l]) - product).expand() == sp.zeros(6, 1)


def test_refrm_on_scores_is_what_sympy_derives():
    rng = np.random.default_rng(1)
    r_w, r_l, q = symbols("w", 3), symbols("v", 3), symbols("q", 3)
    mu = sum(q[i] * (r_w[i] + r_l[i]) for i in range(3))
    f = sp.Rational(7, 10) * mu**2 + sum(
        q[i] * (pairwise(r_w[i] - r_l[i] - m) + (r_w[i] + r_l[i]) ** 2 / 2 + 3 * (r_w[i] ** 2 + r_l[i] ** 2) / 10)
        for i in range(3)
    )
    arguments = [*r_w, *r_l, *q, eps, m]
    scores = arguments[:6]
    value, gradient = sp.lambdify(arguments, f, "mpmath"), sp.lambdify(arguments, [f.diff(r) for r in scores], "mpmath")
    hessian = sp.lambdify(arguments, [f.diff(r, u) for r in scores for u in scores], "mpmath")
    loss = BradleyTerry(0.75, 0.125) + 0.5 * SquaredSum() + 0.3 * SumOfSquares() + 0.7 * SumToZero()
    for _ in range(5):
        at, weight = 2 * rng.standard_normal(6), rng.integers(1, 5, 3)
        point = [*at.tolist(), *(sp.Rational(int(k), int(weight.sum())) for k in weight), 0.125, 0.75]
        for backend in ("numba", "numpy"):
            found, g_w, g_l = loss.value_and_grad(at[:3], at[3:], weight=weight, backend=backend)
            # 16 roundings of terms of at most (1 + |s| + |d|)^2, twice over.
            bound = 32 * U * (1 + 2 * np.abs(at).max()) ** 2
            assert abs(found - float(value(*point))) <= bound
            np.testing.assert_allclose([*g_w, *g_l], np.array(gradient(*point), float), rtol=0, atol=bound)
            dense = loss.hessian(at[:3], at[3:], weight=weight, backend=backend)
            assert isinstance(dense, Hessian)
            exact = np.array(hessian(*point), float).reshape(6, 6)
            np.testing.assert_allclose(dense.dense(), exact, rtol=0, atol=bound)
            np.testing.assert_allclose(np.concatenate(dense.dot(at[:3], at[3:])), exact @ at, rtol=0, atol=6 * bound)


# --- T5 to T7 ------------------------------------------------------------------------------------------------------


def test_t5_flow_and_step():
    sums = s * sp.exp(-4 * lam * t / n)
    assert sp.simplify(sums.diff(t) + 4 * lam / n * sums) == 0
    # omega(c) = W(e^c) is the Wright omega function for real c; z = log omega solves the equation and begins at z.
    c = z + sp.exp(z) + 2 * t / n
    omega = sp.LambertW(sp.exp(c))
    # omega + log omega = c is the definition; differentiated, omega'(1 + 1/omega) = c' = 2/N.
    o, rate = sp.symbols("omega rate", positive=True)
    (slope,) = sp.solve(rate * (1 + 1 / o) - 2 / n, rate)
    assert sp.simplify(slope / o - 2 / n * sigma(-sp.log(o))) == 0  # z' = omega'/omega = (2/N) sigma(-z), z = log omega
    assert sp.simplify(omega.diff(t) - slope.subs(o, omega)) == 0
    assert abs(sp.N((c - omega).subs({t: 0, n: 3, z: sp.Rational(7, 5)}), 40) - sp.Rational(7, 5)) < sp.Float("1e-35")
    # One step of gradient descent, and the second derivative along the flow.
    objective = (softplus(-(w - v - m)) + lam * (w + v) ** 2) / n
    step = [r - eta * objective.diff(r) for r in (w, v)]
    assert same(step[0] + step[1], (1 - 4 * eta * lam / n) * (w + v))
    assert same(step[0] - step[1], w - v + 2 * eta / n * sigma(-(w - v - m)))
    velocity = 2 / n * sigma(-z)
    assert same(velocity.diff(z) * velocity, -4 / n**2 * sigma(z) * sigma(-z) * sigma(-z))
    assert same((z + eta * velocity).diff(z), 1 - 2 * eta / n * sigma(z) * sigma(-z))


def test_t6_rate():
    # Two pairs, two features and a bias: the mean score along -grad L, for any shares.
    p, pairs = 2, 2
    x_w, x_l, theta, q = symbols("x", pairs, p), symbols("y", pairs, p), symbols("theta", p + 1), symbols("q", pairs)
    ones = sp.ones(pairs, 1)
    r_w, r_l = (x.row_join(ones) * theta for x in (x_w, x_l))
    slope = [sp.Function("l")(r_w[i] - r_l[i] - m) for i in range(pairs)]
    loss = sum(q[i] * slope[i] for i in range(pairs))
    mean = sum(q[i] * (r_w[i] + r_l[i]) for i in range(pairs)) / 2
    rate = -sum(mean.diff(k) * loss.diff(k).doit() for k in theta)
    phi = (x_w + x_l).T * q / 2
    force = [-slope[i].diff(theta[0]).doit() / (x_w[i, 0] - x_l[i, 0]) for i in range(pairs)]
    formula = sum(q[i] * force[i] * (phi.T * (x_w - x_l)[i, :].T)[0] for i in range(pairs))
    assert sp.simplify(rate - formula) == 0
    # Free scores: the rate is 0.
    free_w, free_l = symbols("w", pairs), symbols("v", pairs)
    loss = sum(q[i] * sp.Function("l")(free_w[i] - free_l[i]) for i in range(pairs))
    mean = sum(q[i] * (free_w[i] + free_l[i]) for i in range(pairs)) / 2
    assert sp.simplify(sum(mean.diff(r) * loss.diff(r).doit() for r in [*free_w, *free_l])) == 0
    assert sp.simplify(-pairwise(z).diff(z).subs(z, 0) - (sp.Rational(1, 2) - eps)) == 0


def test_t7_curvature_and_descent():
    # One pair, two features; a mean over pairs adds these up with their shares.
    d_row, s_row, theta, direction = symbols("D", 2), symbols("S", 2), symbols("o", 2), symbols("v", 2)
    moved = theta + t * direction
    margin, total = d_row.dot(moved) - m, s_row.dot(moved)
    curvature = (pairwise(margin) + lam * total**2).diff(t, 2)
    h = sigma(margin) * sigma(-margin)
    assert same(curvature, h * d_row.dot(direction) ** 2 + 2 * lam * s_row.dot(direction) ** 2)
    # The descent lemma's two integrals, with the curvature at its bound.
    square, beta, u = sp.symbols("g beta u", positive=True)
    slope = -eta * square + sp.integrate(beta * eta**2 * square, (u, 0, t))
    drop = sp.integrate(slope, (t, 0, 1))
    assert sp.expand(drop + eta * (1 - eta * beta / 2) * square) == 0
    assert sp.expand(drop.subs(eta, 1 / beta) + square / (2 * beta)) == 0
    # From zero scores log 2; with smoothing the loss is at least the entropy.
    assert sp.simplify(pairwise(0) - sp.log(2)) == 0
    best = sp.log((1 - eps) / eps)
    entropy = -(1 - eps) * sp.log(1 - eps) - eps * sp.log(eps)
    assert sp.simplify(pairwise(z).diff(z).subs(z, best)) == 0
    least = pairwise(z).subs(z, best).subs(eps, sp.Rational(1, 10)) - entropy.subs(eps, sp.Rational(1, 10))
    assert sp.simplify(sp.expand_log(sp.simplify(least), force=True)) == 0


# --- The linear model ----------------------------------------------------------------------------------------------


def test_linear_model():
    # Any twice differentiable loss of two pairs with sum-to-zero coupling, as its general second-order jet: a quadratic
    # function has every Hessian, and derivatives at a point see no more.
    pairs, p, c_mean = 2, 2, sp.symbols("c_mean")
    x_w, x_l, theta, q = symbols("x", pairs, p), symbols("y", pairs, p), symbols("o", p + 1), symbols("q", pairs)
    jacobians = [x.row_join(sp.ones(pairs, 1)) for x in (x_w, x_l)]
    r_w, r_l = (jacobian * theta for jacobian in jacobians)
    g, h = symbols("g", pairs, 2), symbols("h", pairs, 3)
    mu = sum(q[i] * (r_w[i] + r_l[i]) for i in range(pairs))
    j = c_mean * mu**2 + sum(
        g[i, 0] * r_w[i]
        + g[i, 1] * r_l[i]
        + h[i, 0] * r_w[i] ** 2 / 2
        + h[i, 1] * r_w[i] * r_l[i]
        + h[i, 2] * r_l[i] ** 2 / 2
        for i in range(pairs)
    )
    gradient = sp.Matrix([j.diff(k) for k in theta])
    g_w = sp.Matrix([g[i, 0] + h[i, 0] * r_w[i] + h[i, 1] * r_l[i] + 2 * c_mean * mu * q[i] for i in range(pairs)])
    g_l = sp.Matrix([g[i, 1] + h[i, 1] * r_w[i] + h[i, 2] * r_l[i] + 2 * c_mean * mu * q[i] for i in range(pairs)])
    assert (gradient - jacobians[0].T * g_w - jacobians[1].T * g_l).expand() == sp.zeros(p + 1, 1)
    difference, total = jacobians[0] - jacobians[1], jacobians[0] + jacobians[1]
    assert difference[:, p] == sp.zeros(pairs, 1) and total[:, p] == 2 * sp.ones(pairs, 1)
    f_dd, f_ss, f_ds = (
        sp.diag(
            *[(h[i, 0] + sign * 2 * h[i, 1] + h[i, 2]) / 4 if sign else (h[i, 0] - h[i, 2]) / 4 for i in range(pairs)]
        )
        for sign in (-1, 1, 0)
    )
    nu = total.T * q
    formula = difference.T * f_dd * difference + total.T * f_ss * total + 2 * c_mean * nu * nu.T
    formula += difference.T * f_ds * total + total.T * f_ds * difference
    assert (sp.hessian(j, theta) - formula).expand() == sp.zeros(p + 1)


# --- The network ---------------------------------------------------------------------------------------------------


class phi2(sp.Function):
    """The activation's second derivative, of which nothing else is known."""


class phi1(sp.Function):
    """The activation's first derivative."""

    def fdiff(self, argindex=1):
        return phi2(self.args[0])


class phi(sp.Function):
    """The activation."""

    def fdiff(self, argindex=1):
        return phi1(self.args[0])


WIDTHS, ROWS = (2, 2, 2), 2


def pieces(flat):
    """The parts of a flat parameter vector: [(W_1, b_1), ..., (w, b)], each a Matrix."""
    parts, at = [], 0
    for fan_in, fan_out in zip(WIDTHS, (*WIDTHS[1:], 1), strict=True):
        weight = sp.Matrix(fan_in, fan_out, flat[at : at + fan_in * fan_out])
        at += fan_in * fan_out
        parts.append((weight, sp.Matrix(1, fan_out, flat[at : at + fan_out])))
        at += fan_out
    return parts


def flatten(parts):
    return [entry for weight, bias in parts for entry in [*weight, *bias]]


class Page:
    """The tables of derivations.md in matrix notation."""

    def __init__(self, x, theta, rho, direction, rho_t):
        (*hidden, (w, b)), (*moving, (v, beta)) = pieces(theta), pieces(direction)
        ones = sp.ones(x.rows, 1)
        a, z, a_t, z_t = [x], [None], [sp.zeros(*x.shape)], [None]
        for (weight, bias), (weight_t, bias_t) in zip(hidden, moving, strict=True):
            z.append(a[-1] * weight + ones * bias)
            z_t.append(a_t[-1] * weight + a[-1] * weight_t + ones * bias_t)
            a.append(z[-1].applyfunc(phi))
            a_t.append(z[-1].applyfunc(phi1).multiply_elementwise(z_t[-1]))
        self.r, self.r_t = a[-1] * w + ones * b, a_t[-1] * w + a[-1] * v + ones * beta
        grad, grad_t = [(a[-1].T * rho, ones.T * rho)], [(a_t[-1].T * rho + a[-1].T * rho_t, ones.T * rho_t)]
        a_bar, a_bar_t = rho * w.T, rho_t * w.T + rho * v.T
        for k in range(len(hidden), 0, -1):
            (weight, _), (weight_t, _) = hidden[k - 1], moving[k - 1]
            slope, bend = z[k].applyfunc(phi1), z[k].applyfunc(phi2)
            z_bar = a_bar.multiply_elementwise(slope)
            z_bar_t = a_bar_t.multiply_elementwise(slope)
            z_bar_t += a_bar.multiply_elementwise(bend).multiply_elementwise(z_t[k])
            grad.insert(0, (a[k - 1].T * z_bar, ones.T * z_bar))
            grad_t.insert(0, (a_t[k - 1].T * z_bar + a[k - 1].T * z_bar_t, ones.T * z_bar_t))
            a_bar, a_bar_t = z_bar * weight.T, z_bar_t * weight.T + z_bar * weight_t.T
        self.vjp, self.vjp_t = flatten(grad), flatten(grad_t)


def index_score(x, theta, i):
    """The score of row i in index notation, entry by entry: the definition that SymPy differentiates."""
    (*hidden, (w, b)), row = pieces(theta), [x[i, j] for j in range(x.cols)]
    for weight, bias in hidden:
        row = [phi(sum(row[k] * weight[k, j] for k in range(len(row))) + bias[j]) for j in range(weight.cols)]
    return sum(row[j] * w[j] for j in range(len(row))) + b[0]


X, RHO, RHO_T = symbols("x", ROWS, WIDTHS[0]), symbols("rho", ROWS), symbols("rho_t", ROWS)
N_PARAMS = MLP(WIDTHS[0], WIDTHS[1:], head_bias=True).n_params
THETA, T = list(symbols("theta", N_PARAMS)), list(symbols("t", N_PARAMS))
SCORES = [index_score(X, THETA, i) for i in range(ROWS)]
VJP = [sum(RHO[i] * SCORES[i].diff(k) for i in range(ROWS)) for k in THETA]
JVP = [sum(score.diff(k) * step for k, step in zip(THETA, T, strict=True)) for score in SCORES]


def along(expression):
    """The derivative as theta moves along T and rho along RHO_T."""
    moved = sum(expression.diff(k) * step for k, step in zip(THETA, T, strict=True))
    return moved + sum(expression.diff(RHO[i]) * RHO_T[i] for i in range(ROWS))


VJP_T = [along(g) for g in VJP]


def test_mlp_formulas_of_the_page():
    page = Page(X, THETA, RHO, T, RHO_T)
    for found, derived in (
        (page.r, SCORES),
        (page.r_t, JVP),
        (page.vjp, VJP),
        (page.vjp_t, VJP_T),
    ):
        assert all(sp.expand(one - other) == 0 for one, other in zip(found, derived, strict=True))
    bond = sum(RHO[i] * JVP[i] for i in range(ROWS)) - sum(g * step for g, step in zip(VJP, T, strict=True))
    assert sp.expand(bond) == 0


def test_hessian_product_of_an_objective_is_the_tangent_of_its_vjp():
    # Any two scores of any two parameters, and a loss of them as its general second-order jet.
    theta, step = symbols("o", 2), symbols("t", 2)
    r = sp.Matrix([sp.Function(f"r_{i}")(*theta) for i in range(2)])
    g, h = symbols("g", 2), sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"h_{min(i, j)}_{max(i, j)}"))
    j = (g.T * r)[0] + (r.T * h * r)[0] / 2
    jacobian, rho = r.jacobian(theta), g + h * r
    assert (sp.Matrix([j.diff(k) for k in theta]) - jacobian.T * rho).expand() == sp.zeros(2, 1)
    curvature = sum((rho[i] * sp.hessian(r[i], theta) for i in range(2)), sp.zeros(2))
    product = jacobian.T * h * jacobian * step + curvature * step
    assert (sp.hessian(j, theta) * step - product).expand() == sp.zeros(2, 1)
    # The same as the tangent of the VJP: R moves with theta along the step, rho by H R t.
    turned = sum((jacobian.diff(theta[k]) * step[k] for k in range(2)), sp.zeros(2))
    assert (turned.T * rho + jacobian.T * (h * jacobian * step) - product).expand() == sp.zeros(2, 1)


DEFINITIONS = {
    "tanh": sp.tanh(z),
    "gelu": z * (1 + sp.erf(z / sp.sqrt(2))) / 2,
    "softplus": softplus(z),
    "relu": sp.Piecewise((z, z > 0), (0, True)),
}


def test_activations():
    normal = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    cdf = (1 + sp.erf(z / sp.sqrt(2))) / 2
    formulas = {
        "tanh": (1 - sp.tanh(z) ** 2, -2 * sp.tanh(z) * (1 - sp.tanh(z) ** 2)),
        "gelu": (cdf + z * normal, (2 - z**2) * normal),
        "softplus": (sigma(z), sigma(z) * sigma(-z)),
    }
    for name, (first, second) in formulas.items():
        assert same(DEFINITIONS[name].diff(z), first)
        assert same(DEFINITIONS[name].diff(z, 2), second)
    assert sp.simplify(normal - cdf.diff(z)) == 0 and sp.simplify(normal.diff(z) + z * normal) == 0


@cache
def network():
    """Scores, JVP, VJP and its tangent as one function of (phi, phi', phi'') and of all the numbers."""
    names = [phi.__name__, phi1.__name__, phi2.__name__]
    current = {}
    modules = [{name: partial(lambda key, u: current[key](u), name) for name in names}, "mpmath"]
    arguments = [*X, *THETA, *RHO, *T, *RHO_T]
    compiled = sp.lambdify(arguments, [*SCORES, *JVP, *VJP, *VJP_T], modules, cse=True)

    def evaluate(functions, point):
        current.update(zip(names, functions, strict=True))
        return np.array(compiled(*point), float)

    return evaluate, len(arguments)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_mlp_of_refrm_is_what_sympy_derives(name):
    # SymPy's derivatives of its own definitions, with 50 digits: the truth. Every result is a sum of products of
    # parameters, features and values of phi, phi', phi''. The same sum of sizes, 2 + |z| for those three, is a bound of
    # it, and of what a rounded z does to it (phi to phi'' are 2-Lipschitz). A path has fewer than 64 roundings.
    with mpmath.workdps(50):
        evaluate, count = network()
        exact = [sp.lambdify(z, DEFINITIONS[name].diff(z, order), "mpmath") for order in range(3)]
        model, rng = MLP(WIDTHS[0], WIDTHS[1:], name, head_bias=True), np.random.default_rng(7)
        for _ in range(3):
            point = rng.standard_normal(count)
            x, theta, rho, step, rho_t = np.split(point, np.cumsum([len(X), N_PARAMS, ROWS, N_PARAMS]))
            x = x.reshape(ROWS, -1)
            found = [
                model.reward(theta, x),
                model.jvp(theta, x, step),
                model.vjp(theta, x, rho),
                model.vjp_tangent(theta, x, rho, step, rho_t),
            ]
            truth = evaluate(exact, map(mpmath.mpf, point))
            bound = 64 * U * evaluate([lambda u: 2 + u] * 3, np.abs(point))
            assert np.all(np.abs(np.concatenate(found) - truth) <= bound)
            assert bound.max() < 1e-9  # far below any mistake


def test_objective_of_refrm_is_the_chain_rule_around_it():
    # J = F(r_w, r_l) with both sides from one theta: gradient and Hessian product from the Jacobians of the scores.
    rng = np.random.default_rng(3)
    chosen, rejected, weight = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.integers(1, 4, 4)
    loss = BradleyTerry(0.5, 0.1) + 0.3 * SquaredSum() + 0.2 * SumToZero()
    for model in (Linear(3, True), MLP(3, (3,), "tanh", True)):
        objective = Objective(model, loss, chosen, rejected, weight)
        theta, step = rng.standard_normal((2, model.n_params))
        r_w, r_l = objective.scores(theta)
        unit = np.eye(model.n_params)
        jacobian = np.array([np.concatenate([model.jvp(theta, x, e) for x in (chosen, rejected)]) for e in unit]).T
        _, g_w, g_l = loss.value_and_grad(r_w, r_l, weight=weight)
        g, moved = np.concatenate([g_w, g_l]), jacobian @ step
        # Products of at most two features, two parameters, a step, and derivatives of the loss, added up: `size` is
        # more than all of them together. Fewer than 64 roundings each.
        size = np.prod([1 + np.abs(of).sum() for of in (chosen, rejected, theta, theta, step, r_w - r_l, r_w + r_l)])
        np.testing.assert_allclose(objective.value_and_grad(theta)[1], jacobian.T @ g, rtol=0, atol=64 * U * size)
        curved = sum(
            model.vjp_tangent(theta, x, part, step, np.zeros(4)) for x, part in ((chosen, g_w), (rejected, g_l))
        )
        product = jacobian.T @ (loss.hessian(r_w, r_l, weight=weight).dense() @ moved) + curved
        np.testing.assert_allclose(objective.hvp(theta, step), product, rtol=0, atol=64 * U * size)
        if isinstance(model, Linear):
            np.testing.assert_allclose(objective.hessian(theta) @ step, product, rtol=0, atol=64 * U * size)


def test_stable_forms_of_spec_in_numbers():
    # softplus and sigmoid as written for floats, against mpmath, over the range of floats: 4 roundings of the result.
    at = np.array([-745.0, -40.0, -1.5, -1e-9, 0.0, 1e-9, 0.3, 17.0, 40.0, 709.0])
    with np.errstate(under="ignore"):
        found = spec.softplus(at), spec.sigmoid(at)
    for function, values in zip((softplus, sigma), found, strict=True):
        with mpmath.workdps(400):  # log(1 + exp(-745))
            exact = np.array([float(sp.lambdify(x, function(x), "mpmath")(mpmath.mpf(u))) for u in at])
        assert np.all(np.abs(values - exact) <= 8 * U * exact + 2.0**-1074)
