"""The algebra of T8 to T14 and of docs/theorems/numerics.md a second time: by SymPy, and by mpmath or exact fractions
where it is about numbers.
"""

import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from runpy import run_path

import mpmath
import numpy as np
import pytest
import reference
import sympy as sp

from refrm import kernels
from refrm.kernels import activations, compiler, narrow, scalar
from refrm.theorems import W_1_E, resting_force

ROOT = Path(__file__).parent.parent
d, m, z, t, x, lam, eps, c = sp.symbols("d m z t x lambda epsilon c", real=True)
MP = mpmath.mp.clone()
MP.prec = 200
U = Fraction(1, 2**53)


def sigma(x):
    return 1 / (1 + sp.exp(-x))


def softplus(x):
    return sp.log(1 + sp.exp(x))


def smoothed(z):
    return (1 - eps) * softplus(-z) + eps * softplus(z)


class Loss(sp.Function):
    """The smoothed loss of one pair, its derivatives by name; `test_t14_...` has them in full."""

    def fdiff(self, index=1):
        return Slope(*self.args)


class Slope(sp.Function):
    """epsilon - sigma(-z)."""

    def fdiff(self, index=1):
        return Curvature(*self.args)


class Curvature(sp.Function):
    """sigma(z) sigma(-z)."""


def zero(expression):
    """Whether an expression in exponentials is 0, as a rational function of them."""
    return sp.simplify(sp.together(sp.sympify(expression).rewrite(sp.exp)).expand()) == 0


def vector(name, n):
    return sp.Matrix(sp.symbols(f"{name}:{n}", real=True))


# --- T8 ----------------------------------------------------------------------------------------------------------


def test_t8_resting_force():
    # c e^c = e^(m-1): put m = 1 + c + log c. Then c e^(d-m) = e^(d-1-c), and at d = 1 + c the force is c, at its top.
    at = {m: 1 + c + sp.log(c)}
    positive = sp.Symbol("c", positive=True)
    force = (d * sigma(m - d)).subs(at).subs(c, positive)
    assert sp.simplify((c * sp.exp(d - m)).subs(at).subs(c, positive) - sp.exp(d - 1 - positive)) == 0
    assert sp.simplify(force.subs(d, 1 + positive) - positive) == 0
    assert sp.simplify(sp.diff(force, d).subs(d, 1 + positive)) == 0
    # e^x >= 1 + x, with equality at 0 only: its difference is convex and flat there.
    gap = sp.exp(x) - 1 - x
    assert gap.subs(x, 0) == gap.diff(x).subs(x, 0) == 0 and gap.diff(x, 2) == sp.exp(x)
    # With smoothing: the slope of the force over sigma(z) sigma(-z), and the force where that is 0.
    g = d * (sigma(m - d) - eps)
    slope = (g.diff(d) / (sigma(d - m) * sigma(m - d))).subs(d, z + m)
    root = 1 - 2 * eps + (1 - eps) * sp.exp(-z) - eps * sp.exp(z) - (z + m)
    assert zero(slope - root)
    assert zero(root.diff(z) + (1 - eps) * sp.exp(-z) + eps * sp.exp(z) + 1)
    shift = sp.solve(root, m)[0]
    assert zero((g.subs(d, z + m) - (z + m) ** 2 * sigma(z) * sigma(-z)).subs(m, shift))


def test_t8_constants():
    w = MP.lambertw(MP.exp(-1)).real
    assert abs(w - W_1_E) <= float(U) * w
    assert MP.nstr(w, 5) == "0.27846" and MP.nstr(w / 2, 5) == "0.13923"
    peak = MP.findroot(lambda d: MP.diff(lambda y: y / (1 + MP.exp(y)), d), 1.3)
    assert abs(peak - 1 - w) < 1e-30
    for margin, smoothing in ((0.0, 0.1), (1.5, 0.01), (-4.0, 0.3), (2.0, 0.45)):

        def force(d, margin=margin, smoothing=smoothing):
            return d * (1 / (1 + MP.exp(d - margin)) - smoothing)

        top = max(force(MP.mpf(k) / 16) for k in range(-320, 321))
        at = MP.findroot(lambda d, force=force: MP.diff(force, d), resting_force(margin) + 0.5 if margin >= 0 else -1)
        found = float(resting_force(margin, smoothing))
        assert top <= force(at) * (1 + 1e-25) and abs(found - force(at)) <= 8 * float(U) * (1 + abs(at) + abs(margin))


def test_t8_identity_and_attainment():
    # Two pairs, a head of two weights and a bias; the features are symbols, so they may come from any layers below.
    a, q, margins = vector("a", 3), vector("q", 2), vector("m", 2)
    r = [(sp.Matrix([[*vector(f"f{i}{side}_", 2), 1]]) * a)[0] for i in range(2) for side in "wl"]
    gaps, sums = [r[0] - r[1], r[2] - r[3]], [r[0] + r[1], r[2] + r[3]]
    objective = sum(q[i] * (Loss(gaps[i] - margins[i]) + lam * sums[i] ** 2) for i in range(2))
    work = sum(a[k] * objective.diff(a[k]) for k in range(3))
    pushed = -sum(q[i] * gaps[i] * Slope(gaps[i] - margins[i]) for i in range(2))
    squares = sum(q[i] * sums[i] ** 2 for i in range(2))
    assert sp.expand(2 * lam * squares - pushed - work) == 0
    assert sp.expand(objective.diff(a[2]) - 4 * lam * sum(q[i] * sums[i] for i in range(2))) == 0  # the bias
    # One parameter, features (S + D)/2 and (S - D)/2 with S^2 = c/(2 lambda), c = D (sigma(m - D) - eps).
    one = smoothed(t * d - m) + lam * t**2 * d * (sigma(m - d) - eps) / (2 * lam)
    assert zero(one.diff(t).subs(t, 1))


# --- T9 ----------------------------------------------------------------------------------------------------------


def linear_objective():
    """A linear objective of two pairs in two parameters, its D, S and theta, all symbols."""
    x_w, x_l = (sp.Matrix(2, 2, sp.symbols(f"{name}:4", real=True)) for name in ("w", "l"))
    theta, q, margins = vector("theta", 2), vector("q", 2), vector("m", 2)
    gaps, sums = x_w - x_l, x_w + x_l
    args = gaps * theta - margins
    value = sum(q[i] * (Loss(args[i]) + lam * (sums * theta)[i] ** 2) for i in range(2))
    return value, gaps, sums, theta, q, args


def vanishes(matrix):
    return all(sp.expand(entry) == 0 for entry in matrix)


def test_t9_hessian():
    value, gaps, sums, theta, q, args = linear_objective()
    h = sp.diag(*(q[i] * Curvature(args[i]) for i in range(2)))
    expected = gaps.T * h * gaps + 2 * lam * sums.T * sp.diag(*q) * sums
    assert vanishes(sp.hessian(value, list(theta)) - expected)
    to_sides = sp.Matrix([[1, 1], [-1, 1]]) / 2  # (D, S) -> (X_w, X_l): one-to-one, so both have the same kernel
    assert to_sides.det() != 0


def test_t9_certificates():
    value, gaps, sums, theta, q, args = linear_objective()
    p, step, k = vector("p", 2), vector("step", 2), vector("k", 2)
    grad = sp.Matrix([value.diff(y) for y in theta]).subs({Slope(args[i]): -p[i] for i in range(2)})
    assert zero(sigma(z) * sigma(-z) - sigma(-z) * (1 - sigma(-z)))  # h = p (1 - p)
    summed = sp.Matrix([q[i] * (sums * theta)[i] for i in range(2)])
    losing = sp.Matrix([q[i] * p[i] for i in range(2)])
    assert vanishes(grad + gaps.T * losing - 2 * lam * sums.T * summed)
    # A Newton step, and one of any Hessian D'diag(k)D + 2 lambda S'S: what D'y is left with is in the span of S'.
    h = sp.diag(*(q[i] * p[i] * (1 - p[i]) for i in range(2)))
    newton = gaps.T * h * gaps * step + 2 * lam * sums.T * sp.diag(*q) * sums * step + grad
    y = sp.Matrix([q[i] * p[i] * (1 - (1 - p[i]) * (gaps * step)[i]) for i in range(2)])
    assert vanishes(newton + gaps.T * y - 2 * lam * sums.T * (summed + sp.diag(*q) * sums * step))
    other = gaps.T * sp.diag(*k) * gaps * step + 2 * lam * sums.T * sums * step - grad
    y = losing + sp.diag(*k) * gaps * step
    assert vanishes(other - gaps.T * y + 2 * lam * sums.T * (summed - sums * step))


def components(n, edges):
    """The number of components of a graph and of bipartite ones among them, by two-colouring."""
    count = bipartite = 0
    left = set(range(n))
    while left:
        colour, queue, proper = {min(left): 0}, [min(left)], True
        while queue:
            j = queue.pop()
            for k in [b if a == j else a for a, b in edges if j in (a, b)]:
                if k not in colour:
                    colour[k] = 1 - colour[j]
                    queue.append(k)
                proper &= colour[k] != colour[j]
        count, bipartite, left = count + 1, bipartite + proper, left - set(colour)
    return count, bipartite


@pytest.mark.parametrize("n", [2, 3, 4])
def test_t9_laplacians_of_small_graphs(n):
    every = list(combinations(range(n), 2))
    unit = sp.eye(n)
    for edges in (e for size in range(len(every) + 1) for e in combinations(every, size)):
        minus, plus = sp.zeros(n), sp.zeros(n)
        for j, k in edges:
            minus += (unit[:, j] - unit[:, k]) * (unit[:, j] - unit[:, k]).T
            plus += (unit[:, j] + unit[:, k]) * (unit[:, j] + unit[:, k]).T
        degree = sp.diag(*(sum(j in e for e in edges) for j in range(n)))
        assert degree - minus == plus - degree  # the adjacency matrix
        count, bipartite = components(n, edges)
        alone = n - len({j for e in edges for j in e})
        assert [n - a.rank() for a in (minus, plus, minus + plus)] == [count, bipartite, alone]


# --- T10 and T11 -------------------------------------------------------------------------------------------------


def test_t10_printed_sign():
    w, v, q, eta, start = sp.symbols("r_w r_l q eta s_0", real=True)
    value = q * (smoothed(w - v - m) - lam * (w + v) ** 2)
    moved = value.subs({w: w + t, v: v + t}, simultaneous=True) - value
    assert sp.expand(sp.simplify(moved) + 4 * lam * q * t * (w + v + t)) == 0
    s, gap = -value.diff(w) - value.diff(v), -value.diff(w) + value.diff(v)
    assert zero(s - 4 * lam * q * (w + v))
    assert not sp.expand(gap).has(lam)
    assert zero(gap + 2 * q * smoothed(z).diff(z).subs(z, w - v - m))
    flow = start * sp.exp(4 * lam * q * t)
    assert sp.simplify(flow.diff(t) - 4 * lam * q * flow) == 0
    assert sp.expand((w + v + eta * 4 * lam * q * (w + v)) - (1 + 4 * eta * lam * q) * (w + v)) == 0


def test_t11_least_squares():
    s = vector("s", 4)
    mean = sum(s) / 4
    left = sum((y - 2 * c) ** 2 for y in s) / 4
    variance = sum((y - mean) ** 2 for y in s) / 4
    assert sp.expand(left - variance - (mean - 2 * c) ** 2) == 0
    assert sp.solve(left.diff(c), c) == [sp.expand(mean / 2)] and left.diff(c, 2) == 8
    w, v = sp.symbols("r_w r_l")
    assert sp.expand(w - (w + v) / 2 - (w - v) / 2) == sp.expand(v - (w + v) / 2 + (w - v) / 2) == 0


# --- T12 ---------------------------------------------------------------------------------------------------------


def test_t12_without_replacement():
    n, size, mu, variance = sp.symbols("N B mu V", positive=True)
    one = sp.binomial(n - 1, size - 1) / sp.binomial(n, size)
    two = sp.binomial(n - 2, size - 2) / sp.binomial(n, size)
    assert sp.combsimp(one) == size / n
    assert sp.simplify(sp.combsimp(two) - size * (size - 1) / (n * (n - 1))) == 0
    squares = n * (mu**2 + variance)
    crossed = n**2 * mu**2 - squares
    found = (size / n * squares + size * (size - 1) / (n * (n - 1)) * crossed) / size**2
    assert sp.simplify(found - mu**2 - variance / size * (n - size) / (n - 1)) == 0
    assert sp.simplify((n / size - 1).diff(size) + n / size**2) == 0
    for many in range(2, 6):
        s = vector("s", many)
        mean, square = sum(s) / many, sum(y**2 for y in s) / many
        for few in range(1, many + 1):
            batches = list(combinations(s, few))
            expected = sum((sum(batch) / few) ** 2 for batch in batches) / len(batches)
            formula = mean**2 + (square - mean**2) / few * sp.Rational(many - few, many - 1)
            assert sp.expand(expected - formula) == 0
            assert sp.expand(sum(sum(y**2 for y in b) / few for b in batches) / len(batches) - square) == 0
    assert sp.solve((n - size) / (size * (n - 1)) - sp.Rational(1, 100), size) == [100 * n / (n + 99)]


# --- T13 ---------------------------------------------------------------------------------------------------------


def rounded(x, p):
    """The number of p bits nearest to a fraction, ties to even; no end of the range."""
    if not x:
        return x
    exponent = math.floor(math.log2(abs(x)))
    exponent += (abs(x) >= Fraction(2) ** (exponent + 1)) - (abs(x) < Fraction(2) ** exponent)
    step = Fraction(2) ** (exponent - p + 1)
    return round(x / step) * step  # Fraction rounds half to even


@pytest.mark.parametrize("p", [8, 11, 24, 53])
def test_t13_a_sharp_example_in_every_format(p):
    u = Fraction(1, 2**p)
    r_w, r_l, shift = Fraction(1), -1 - 2 * u, u
    assert all(rounded(y, p) == y for y in (r_w, r_l, shift))
    moved = rounded(r_w + shift, p) - rounded(r_l + shift, p)
    size = abs(r_w + shift) + abs(r_l + shift)
    assert abs(moved - (r_w - r_l)) == u / (1 + u) * size
    # Sums of all pairs of numbers with few bits: both bounds of part 1, and Sterbenz' lemma.
    few = [Fraction(k) * Fraction(2) ** e for k in range(8, 16) for e in (-4, -3, 0, 2)]
    for a in few:
        for b in few:
            for total in (a + b, a - b):
                error = abs(rounded(total, 4) - total)
                assert error <= Fraction(1, 16) * min(abs(total), abs(rounded(total, 4)))
            if a <= 2 * b and b <= 2 * a:
                assert rounded(a - b, 4) == a - b


def test_t13_steps_between_256_and_512():
    steps = {p: Fraction(2) ** (8 - p + 1) for p in (8, 11, 24, 53)}
    assert steps == {8: 2, 11: Fraction(1, 4), 24: Fraction(1, 2**15), 53: Fraction(1, 2**44)}
    assert (rounded(Fraction(10**6), 8), rounded(Fraction(999999), 8)) == (999424, 999424)


# --- T14 ---------------------------------------------------------------------------------------------------------


def test_t14_log_odds_entropy_and_growth():
    e = sp.Symbol("epsilon", positive=True)
    loss, best = smoothed(z).subs(eps, e), sp.log((1 - e) / e)
    assert zero(loss.diff(z) - (e - sigma(-z)))
    assert zero(loss.diff(z, 2) - sigma(z) * sigma(-z))
    assert sp.simplify(loss.diff(z).subs(z, best)) == 0
    assert sp.simplify(sigma(best) - (1 - e)) == 0
    # softplus(-z) = -log sigma(z), softplus(z) = -log sigma(-z), both after exp; hence entropy and divergence.
    assert zero(sp.exp(softplus(-z)) - 1 / sigma(z)) and zero(sp.exp(softplus(z)) - 1 / sigma(-z))
    entropy = -(1 - e) * sp.log(1 - e) - e * sp.log(e)
    for value in (sp.Rational(1, 10), sp.Rational(1, 3), sp.Rational(49, 100)):
        assert abs(sp.N((loss.subs(z, best) - entropy).subs(e, value), 30)) < 1e-28
    # loss = softplus(-z) + eps z, and with -z and 1 - eps: hence at least eps |z| on either side.
    assert zero(sp.exp(softplus(z) - softplus(-z) - z) - 1)


# --- docs/theorems/numerics.md -----------------------------------------------------------------------------------

SCRIPT = run_path(str(ROOT / "docs/roundings.py"))


def plain(function):
    """A kernel's Python code, compiled or not."""
    return getattr(function, "py_func", function)


def test_error_free_transformations():
    rng = np.random.default_rng(0)
    for k in range(2000):
        a, b = rng.standard_normal(2) * 2.0 ** rng.integers(-60, 60, 2)
        if k % 4 == 0:
            b = -a * (1 + rng.integers(-4, 5) * 2.0**-52)  # cancels
        for combine, exact in ((compiler.two_sum, Fraction(a) + Fraction(b)), (compiler.two_product, None)):
            high, low = plain(combine)(float(a), float(b))
            assert Fraction(high) + Fraction(low) == (Fraction(a) * Fraction(b) if exact is None else exact)
            assert abs(low) <= np.spacing(abs(high)) / 2
        small, large = sorted((a, b), key=abs)
        s = large + small
        assert Fraction(s) + Fraction(small - (s - large)) == Fraction(a) + Fraction(b)


def test_the_argument_keeps_twice_the_precision():
    rng = np.random.default_rng(1)
    for k in range(2000):
        w, v, margin = rng.standard_normal(3) * 2.0 ** rng.integers(-30, 30, 3)
        if k % 2:  # cancelled by the margin
            margin = (w - v) * (1 + rng.integers(-3, 4) * 2.0**-50)
        exact = Fraction(w) - Fraction(v) - Fraction(margin)
        high, low = plain(scalar.argument)(float(w), float(v), float(margin))
        assert abs(Fraction(high) + Fraction(low) - exact) <= abs(exact) / 2**104
        z0 = (w - v) - margin
        assert z0 == 0 or abs(low) <= abs(z0)  # for the fast two-sum of blocks


def test_constants_of_the_reduction():
    high, low = Fraction(scalar.LN2_HI), Fraction(scalar.LN2_LO)
    assert (high * 2**33).denominator == 1 and high < 1  # 33 bits
    log2 = MP.log(2)
    assert abs(MP.mpf(scalar.LN2_HI) + MP.mpf(scalar.LN2_LO) - log2) < MP.mpf(2) ** -86
    assert 0 < 1 - scalar.LN2_HI / log2 < 2.8e-10 and low > 0
    assert abs(scalar.LOG2E * log2 - 1) <= float(U)
    assert 1076 * scalar.LN2_LO < 2.1e-7 < 2.0**-22
    for k in range(1, 1077):  # a half-integer away from k*log 2 is still within a factor of 2 of k*LN2_HI
        for side in (-1, 1):
            a = (k + side * (0.5 + MP.mpf(2) ** -43)) * log2
            assert k * scalar.LN2_HI / 2 <= a <= 2 * k * scalar.LN2_HI
    assert MP.exp(-746) < MP.mpf(2) ** -1076


def test_the_logarithm_is_what_is_summed():
    g, s = sp.Symbol("g", positive=True), sp.Symbol("s", positive=True)
    of_s = {g: 2 * s / (1 - s)}
    artanh = sp.log((1 + s) / (1 - s))
    rest = artanh / s - 2
    h = g**2 / 2
    assert sp.simplify((g - (h - s * (h + rest))).subs(of_s) - artanh) == 0
    assert sp.simplify(sp.exp(artanh) - (1 + g).subs(of_s)) == 0
    assert sp.simplify((g / (2 + g)).subs(of_s) - s) == 0
    assert sp.series(artanh / s - 2, s, 0, 8).removeO() == 2 * s**2 / 3 + 2 * s**4 / 5 + 2 * s**6 / 7
    assert sp.simplify(((sp.sqrt(2) - 1) / (sp.sqrt(2) + 1)) - (3 - 2 * sp.sqrt(2))) == 0
    assert sp.simplify(g.subs(g, 1 / sp.sqrt(2) - 1) / (1 + 1 / sp.sqrt(2)) + 3 - 2 * sp.sqrt(2)) == 0


def test_the_quotient_and_its_correction():
    e, f, top, rest = sp.symbols("e f t c", positive=True)
    y = (e + f) / (top + rest)
    assert sp.simplify(y - e / top - (f - y * rest) / top) == 0
    # The loss passes errors of x on with x/(1 + x) <= log(1 + x), and of z with at most 1.
    gap = sp.log(1 + x) - x / (1 + x)
    assert gap.subs(x, 0) == 0 and sp.simplify(gap.diff(x) - x / (1 + x) ** 2) == 0
    assert zero((t + sp.log(1 + sp.exp(-t)) - sigma(t)).diff(t) - sigma(t) ** 2)
    assert abs(float(sp.log(2) - sp.Rational(1, 2)) - 0.19) < 0.005
    assert zero(smoothed(z).diff(z, 2) / sigma(-z) - sigma(z))


def test_what_the_polynomials_miss():
    worst = dict.fromkeys(("EXP", "EXP_NEAR_0", "LOG", "MILLS"), 0)
    u, half, edge = MP.mpf(2) ** -53, MP.log(2) / 2, 3 - 2 * MP.sqrt(2)
    for k in range(-300, 301):
        r = half * k / 300 or half / 1000
        q = MP.polyval(scalar.EXP[::-1], r)
        missed = abs(1 + r + r * r * q - MP.exp(r)) / u
        worst["EXP"] = max(worst["EXP"], missed / MP.exp(r))
        worst["EXP_NEAR_0"] = max(worst["EXP_NEAR_0"], missed / r**2)
    for k in range(1, 301):
        s = edge * k / 300
        missed = abs(2 * s + s**3 * MP.polyval(scalar.LOG[::-1], s * s) - 2 * MP.atanh(s)) / u
        worst["LOG"] = max(worst["LOG"], missed / (2 * MP.atanh(s)))
        v = 2 * MP.mpf(k - 1) / 300 - 1
        high = 5 * (1 + v) / (1 - v)
        right = (high + 5) * MP.exp(high**2 / 2) * MP.erfc(high / MP.sqrt(2)) / 2
        if high < MP.sqrt(1400):
            worst["MILLS"] = max(worst["MILLS"], abs(MP.polyval(activations.MILLS[::-1], v) - right) / right / u)
    for name, missed in worst.items():
        assert 0.8 * SCRIPT[name] <= missed <= SCRIPT[name], name


def test_what_float32_misses():
    # The table of numerics.md for |d| <= REACH; its sum is what NEAR and FAR, and so 2^-44, have to cover.
    two = MP.mpf(2)
    rounded = two**-53 * narrow.REACH
    constant = narrow.REACH * MP.log(2) * abs(scalar.LOG2E - 1 / MP.log(2))
    grid = (MP.mpf(k) / 600 for k in range(-300, 301))
    polynomial = max(abs(MP.polyval(narrow.EXP2[::-1], r) / two**r - 1) for r in grid)
    assert rounded <= two**-46
    assert two**-49 < constant <= two**-48.9
    assert two**-46.08 < polynomial <= two**-46.06
    assert two**-46 + two**-48.9 + two**-46.06 + two**-52 <= two**-44.9
    assert min(1 + narrow.NEAR, -1 - narrow.FAR) == 2.0**-44 > two**-44.9 + 2 * two**-53 + two**-51


def test_roundings_are_within_what_is_stated():
    stated = {
        "loss, z >= 0, in ulp": 2,
        "loss, z < 0, in ulp": 2,
        "slope, in ulp": 2,
        "curvature, in ulp": 4,
        "smoothed loss, in ulp": 3,
        "smoothed slope, in ulp of its larger term": 2.5,
        "loss, in u": 3,
        "smoothed loss, in u": 4,
        "exp, in u": 0.9,
        "slope, in u": 2.6,
        "tanh, in u": 6,
        "tanh', in u": 9,
        "gelu, in u": 14,
        "gelu', in u": 14,
        "softplus, in u": 5,
        "softplus', in u": 4,
    }
    found = SCRIPT["table"]()
    assert found.keys() == stated.keys()
    for kind, bound in found.items():
        assert 0 < bound <= stated[kind], kind


def test_roundings_that_cancel_and_sums_that_are_exact_do_not_count():
    step, half = SCRIPT["Step"], SCRIPT["half"]
    a, b = step(1.0), step(0.3)
    s = a + b
    assert s.bound() == half(1.3) == 1.0
    assert (b - (s - a)).bound() == 1.0  # what two_sum returns is the error of s, and no more
    assert (s + (b - (s - a))).parents[1][0].bound() == 1.0
    e = s + step((b - (s - a)).value, (*((y, side) for y, side in ((a, 1.0), (b, 1.0), (s, -1.0))),))
    assert e.bound() == half(1.3)  # s + e is a + b, rounded once
    assert (a - step(0.75)).bound() == 0.0  # Sterbenz
    assert (b * 2.0).bound() == 0.0 and (b * b).bound() == half(0.09)
    assert (b / a).bound() == half(0.3)


@pytest.mark.compiled
def test_a_smoothed_loss_may_err_by_more_than_two_ulp():
    r_w, r_l, smoothing = 5.980436402585654, 21.41995131819766, 0.48772183839915223
    jet = kernels.bradley_terry(np.array([r_w]), np.array([r_l]), np.zeros(1), smoothing)
    truth = reference.bradley_terry(r_w, r_l, 0.0, smoothing)[0]
    assert 2.39 < reference.ulps(jet.value[0], truth) < 2.4


def test_a_quotient_of_two_rounded_sums():
    # Mantissas of both sums: their halves of an ulp, in ulp of the quotient.
    grid = [1 + k / 200 for k in range(200)]
    for upper in grid:
        for lower in grid:
            mantissa = upper / lower if upper >= lower else 2 * upper / lower
            assert (1 / upper + 1 / lower) * mantissa / 2 <= (1.5 if upper >= lower else 2)


def test_derivatives_of_the_activations():
    y = sp.exp(-2 * z)
    assert zero(sp.tanh(z).rewrite(sp.exp) - (1 - y) / (1 + y))
    assert zero(((1 - y) / (1 + y)).diff(z) - 4 * y / (1 + y) ** 2)
    cdf, density = (1 + sp.erf(z / sp.sqrt(2))) / 2, sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    assert sp.simplify((z * cdf).diff(z) - cdf - z * density) == 0
    assert zero(softplus(z).diff(z) - sigma(z))
    assert -0.76 < MP.findroot(lambda y: MP.ncdf(y) + y * MP.npdf(y), -0.75) < -0.74
