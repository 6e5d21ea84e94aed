"""The engine of the diagnosis: sums, figures, intervals and trends, against other ways to compute them."""

import doctest
import json
import math
from fractions import Fraction
from inspect import signature
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from scipy import special, stats
from scipy.optimize import minimize_scalar

from refrm.diagnosis import arrays, diagnose, diagnose_source
from refrm.diagnosis import trends as trends_module
from refrm.diagnosis.arrays import ArraySource
from refrm.diagnosis.bounds import Wrong, largest_pull, margin_bounds, pulls
from refrm.diagnosis.calibration import calibrate
from refrm.diagnosis.data import Chunk, Settings
from refrm.diagnosis.figures import figures
from refrm.diagnosis.groups import components, effects
from refrm.diagnosis.intervals import Level
from refrm.diagnosis.moments import Moments
from refrm.diagnosis.precision import FORMATS, counts
from refrm.diagnosis.sampling import CAPACITY, Sample, Table, mixed
from refrm.diagnosis.suspicions import clusters, grid, repeated
from refrm.diagnosis.tally import BLOCK, Tally
from refrm.diagnosis.timeline import POINTS, scan
from refrm.errors import InputError
from refrm.oracle.catalogue import BY_NAME
from refrm.oracle.forms import Form, evaluate, rounded
from refrm.spec import softplus

U = 2.0**-53


def calibrated(rng, n, width=3.0):
    """Margins whose probabilities are right."""
    d = width * rng.standard_normal(n)
    return np.where(rng.random(n) < special.expit(d), d, -d)


def pairs(seed=0, n=2000, width=3.0, spread=0.7):
    """Scores of a healthy model."""
    rng = np.random.default_rng(seed)
    d, h = calibrated(rng, n, width), spread * rng.standard_normal(n)
    return h + d / 2, h - d / 2


def tallied(r_w, r_l, **more):
    """A tally of pairs."""
    tally = Tally(more.pop("settings", Settings()))
    tally.add(Chunk(r_w, r_l, **more))
    return tally


# --- moments


scores = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=30))
def test_moments_are_those_of_exact_arithmetic(rows):
    r_w, r_l = np.array(rows).T
    moments = Moments()
    moments.add(r_w, r_l, r_w - r_l)
    h = [(Fraction(w) + Fraction(v)) / 2 for w, v in rows]
    d = [Fraction(float(x)) for x in r_w - r_l]
    n = len(rows)
    mean_h, mean_d = sum(h) / n, sum(d) / n
    found_h, found_d, m = moments.central()
    size = Fraction(float(np.abs(r_w).max() + np.abs(r_l).max()))
    # each term is a product of i + j factors of at most 2*size, each off by a few u*size; sums add n u
    for exact, found in [(mean_h, found_h), (mean_d, found_d)]:
        assert abs(Fraction(float(found)) - exact) <= (n + 8) * U * size
    for i in range(5):
        for j in range(5 - i):
            exact = sum((a - mean_h) ** i * (b - mean_d) ** j for a, b in zip(h, d, strict=True)) / n
            assert abs(Fraction(float(m[i, j])) - exact) <= (i + j) * (n + 32) * 4 * U * (2 * size) ** (i + j)


def test_a_spread_of_one_at_a_million():
    rng = np.random.default_rng(0)
    r_w, r_l = rng.standard_normal((2, 50000))
    near, far = tallied(r_w, r_l).moments.central(), tallied(r_w + 1e6, r_l + 1e6).moments.central()
    # adding 1e6 rounds every score by u*1e6 at most; the moments are of order 1 to 10
    np.testing.assert_allclose(far[2], near[2], atol=100 * U * 1e6)
    assert abs(far[0] - 1e6 - near[0]) < 2 * U * 1e6


@given(st.lists(st.integers(0, 400), min_size=1, max_size=5), st.integers(0, 10**6), st.sampled_from([0.0, 1e6]))
def test_merged_tallies_are_the_whole(sizes, seed, shift):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    columns = {
        "group": rng.integers(0, 50, n),
        "length_w": rng.integers(1, 9, n).astype(float),
        "length_l": rng.integers(1, 9, n).astype(float),
        "margin": rng.choice([0.0, 1.0], n),
    }
    r_w, r_l = rng.standard_normal((2, n)) * 3 + shift
    r_w[rng.random(n) < 0.05] = np.nan
    told = Settings(converged=True, coef=0.1, label_smoothing=0.1)
    whole = tallied(r_w, r_l, settings=told, **columns)
    total = Tally(told)
    at = 0
    for size in sizes:
        part = slice(at, at + size)
        total.merge(tallied(r_w[part], r_l[part], settings=told, **{k: x[part] for k, x in columns.items()}))
        at += size
    assert (total.n, total.nonfinite, total.right, total.tied) == (whole.n, whole.nonfinite, whole.right, whole.tied)
    if not total.n:
        return
    assert (total.low, total.high, total.widest) == (whole.low, whole.high, whole.widest)
    np.testing.assert_array_equal(total.precision, whole.precision)
    np.testing.assert_array_equal(total.bins[:2], whole.bins[:2])
    # sums of n terms in another order: n u of their size; pivots add the rounding of scores at 1e6
    for name in ("likelihood", "pulls", "margins", "bins"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=0, atol=1e4 * n * U)
    loose = 1e4 * (n * U + U * shift)
    for mine, other in zip(total.moments.central(), whole.moments.central(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=8 * U, atol=loose)
    one, two = (components(x.groups, 0) for x in (total, whole))
    assert type(one) is type(two)
    if not isinstance(one, str):
        assert one.kept == two.kept and abs(one.between.value - two.between.value) <= loose
    assert repeated(total.pairs, Level()) == repeated(whole.pairs, Level())
    for i, j in ((2, 5), (0, 3), (1, 4)):
        np.testing.assert_allclose(total.lengths.correlation(i, j), whole.lengths.correlation(i, j), atol=loose)
    order = [np.lexsort(x.sample.rows.T) for x in (total, whole)]
    np.testing.assert_array_equal(total.sample.rows[order[0]], whole.sample.rows[order[1]])


# --- figures and their invariances


def plain(found):
    """The figures of a diagnosis that depend on d alone, and those of the shift."""
    f = found.figures
    margin = [f.mean_margin, f.std_margin, f.accuracy["half"], f.calibration.log_loss, f.calibration.ece, f.ties]
    return np.array([[x.value, x.low, x.high] for x in margin]), f


FEW = profile(max_examples=25)
"""A diagnosis takes some milliseconds."""


@FEW
@given(st.integers(0, 50), st.floats(-1000, 1000))
def test_a_constant_changes_the_shift_alone(seed, c):
    r_w, r_l = pairs(seed, 200)
    before, f = plain(diagnose(r_w, r_l))
    after, g = plain(diagnose(r_w + c, r_l + c))
    # T13: d moves by u(|r_w + c| + |r_l + c|); no margin here is so small that this changes its sign
    np.testing.assert_allclose(after, before, atol=1e4 * U * (abs(c) + 10))
    assert abs(g.mean_score.value - f.mean_score.value - c) < 100 * U * (abs(c) + 10)
    assert abs(g.spread.value - f.spread.value) < 1e4 * U * (abs(c) + 10)
    energy = 4 * (g.mean_score.value**2 + g.spread.value**2)
    assert math.isclose(g.mean_square_sum.value, energy, rel_tol=1e-12)
    visible = g.mean_margin.value**2 + g.std_margin.value**2
    assert math.isclose(g.invisible.value, energy / (energy + visible), rel_tol=1e-12)


@FEW
@given(st.integers(0, 50))
def test_order_does_not_matter_and_exchange_reflects(seed):
    r_w, r_l = pairs(seed, 300)
    order = np.random.default_rng(seed).permutation(300)
    one, two, swapped = diagnose(r_w, r_l), diagnose(r_w[order], r_l[order]), diagnose(r_l, r_w)
    np.testing.assert_allclose(plain(one)[0], plain(two)[0], atol=300 * 100 * U)
    assert [f.id for f in one.findings] == [f.id for f in two.findings]
    a, b = one.figures, swapped.figures
    assert math.isclose(a.mean_margin.value, -b.mean_margin.value, rel_tol=1e-9)
    assert math.isclose(a.accuracy["half"].value, 1 - b.accuracy["half"].value, rel_tol=1e-12)
    assert a.mean_score.value == pytest.approx(b.mean_score.value, abs=1e-12)


@FEW
@given(st.integers(0, 50), st.sampled_from([0.25, 2.0, 1024.0]))
def test_a_factor_scales_and_the_best_factor_undoes_it(seed, k):
    r_w, r_l = pairs(seed, 300)
    one, two = diagnose(r_w, r_l).figures, diagnose(k * r_w, k * r_l).figures
    for name in ("mean_score", "spread", "mean_margin", "std_margin", "mean_chosen", "mean_rejected"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose([b.value, b.low, b.high], np.multiply(k, [a.value, a.low, a.high]), rtol=1e-9)
    np.testing.assert_allclose(two.calibration.factor.value, one.calibration.factor.value / k, rtol=1e-6)


def test_figures_are_what_they_are_called():
    r_w, r_l = pairs(3, 5000)
    r_l[:50] = r_w[:50]
    d, s = r_w - r_l, r_w + r_l
    f = figures(tallied(r_w, r_l), Level())
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(f.mean_score.value, np.mean(s) / 2, **close)
    np.testing.assert_allclose(f.spread.value, np.std(s / 2), **close)
    np.testing.assert_allclose(f.mean_square_sum.value, np.mean(s * s), **close)
    np.testing.assert_allclose([f.mean_chosen.value, f.mean_rejected.value], [r_w.mean(), r_l.mean()], **close)
    np.testing.assert_allclose(f.std_margin.value, np.std(d), **close)
    assert f.accuracy["wrong"].value == np.mean(d > 0) and f.accuracy["correct"].value == np.mean(d >= 0)
    assert f.accuracy["half"].value == np.mean((d > 0) + 0.5 * (d == 0))
    assert f.accuracy["dropped"].value == np.mean(d[d != 0] > 0)
    np.testing.assert_allclose(f.calibration.log_loss.value, np.mean(softplus(-d)), **close)
    np.testing.assert_allclose(f.calibration.brier.value, np.mean(special.expit(-d) ** 2), **close)
    assert (f.min_score, f.max_score) == (min(r_w.min(), r_l.min()), max(r_w.max(), r_l.max()))
    assert sum(f.margins.counts) == sum(f.scores.counts) == f.n == 5000
    assert sum(b.n for b in f.calibration.curve) == 5000


def test_loss_as_trained():
    r_w, r_l = pairs(4, 700)
    m = np.random.default_rng(0).choice([0.0, 0.5, 2.0], 700)
    for margin in (None, m):
        for eps in (0.0, 0.1):
            found = tallied(r_w, r_l, margin=margin, settings=Settings(label_smoothing=eps))
            expected = evaluate(Form(), r_w, r_l, margin, label_smoothing=eps).loss
            np.testing.assert_allclose(figures(found, Level()).loss.value, expected, rtol=1e-12)


def test_intervals_cover():
    """95% intervals hold the truth in 95% of the samples: within four standard errors of that, over 400 samples."""
    truth = {"mean_score": 0.5, "spread": 1.0, "mean_square_sum": 5.0, "invisible": 5 / 14, "std_margin": 3.0}
    truth["mean_chosen"] = 0.5
    rng = np.random.default_rng(1)
    held = dict.fromkeys(truth, 0)
    for _ in range(400):
        h, d = 0.5 + rng.standard_normal(400), 3 * rng.standard_normal(400)
        found = figures(tallied(h + d / 2, h - d / 2), Level())
        for name, value in truth.items():
            held[name] += getattr(found, name).low <= value <= getattr(found, name).high
    for name in truth:
        assert abs(held[name] / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400), name


def test_levels():
    level = Level(0.05)
    assert level.t(math.inf) == pytest.approx(1.959963984540054)
    assert level.t(5) == pytest.approx(stats.t.ppf(0.975, 4))
    ours, theirs = level.share(7, 50), stats.binomtest(7, 50).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert level.share(0, 10).low == 0 and level.share(10, 10).high == 1 and level.share(0, 0).high == 1
    assert level.share(50, 100, effect=4.0).high == pytest.approx(level.share(12.5, 25).high)
    theirs = stats.pearsonr(*np.random.default_rng(0).standard_normal((2, 40)))
    assert level.correlation(theirs.statistic, 40).low == pytest.approx(theirs.confidence_interval().low)
    assert level.mean(1.0, 2.0, 1).high == math.inf
    x = np.array([1.0, 2.0, 4.0])
    assert level.mean(x.mean(), x.var(), 3).high == pytest.approx(
        stats.t.interval(0.95, 2, loc=x.mean(), scale=stats.sem(x))[1]
    )


def test_two_pairs_do_not_tell_a_spread():
    found = diagnose([1.0, 2.0], [0.0, 0.5])
    spread = found.figures.spread  # of two, v for the variance and v^2 for the fourth moment: 2 v^2 is its variance
    high = spread.value * math.sqrt(1 + stats.t.ppf(0.975, 1) * math.sqrt(2))
    assert (spread.low, spread.high) == pytest.approx((0.0, high))
    assert "2 pairs are too few" in found.unknown["clusters, rounding"]
    assert "clusters, rounding" not in diagnose(*pairs(0, 100)).unknown


# --- calibration


def test_ece_and_its_noise():
    r_w, r_l = pairs(0, 3000)
    found = calibrate(tallied(r_w, r_l), Level())
    d = r_w - r_l
    confidence, right = special.expit(np.abs(d)), d > 0
    where = np.minimum(np.floor((1 - confidence) * 40), 19)
    ece = sum(abs(np.sum(confidence[where == k] - right[where == k])) for k in range(20)) / 3000
    assert found.ece.value == pytest.approx(ece, abs=1e-12)
    assert found.ece.low <= found.ece.value
    assert found.gap.value == pytest.approx(np.mean(confidence - right))
    # averages over healthy samples: the noise is the mean of ece, and p-values are uniform
    many = [calibrate(tallied(*pairs(seed, 1000)), Level()) for seed in range(200)]
    eces, noise = [x.ece.value for x in many], np.mean([x.ece_noise for x in many])
    assert abs(np.mean(eces) - noise) < 4 * np.std(eces) / math.sqrt(200)
    assert stats.kstest([x.p_value for x in many], "uniform").pvalue > 1e-4


def test_the_best_factor():
    r_w, r_l = pairs(5, 800)
    d = 2.5 * (r_w - r_l)
    found = calibrate(tallied(d / 2, -d / 2), Level())
    best = minimize_scalar(
        lambda a: np.mean(softplus(-a * d)), bounds=(0, 5), method="bounded", options={"xatol": 1e-9}
    )
    assert found.factor.value == pytest.approx(best.x, rel=1e-5)
    assert found.saved == pytest.approx(np.mean(softplus(-d)) - best.fun, abs=1e-9)
    assert found.factor.low < 0.4 < found.factor.high
    assert calibrate(tallied(np.ones(50), np.zeros(50)), Level()).factor is None


def test_few_expected_errors_are_counted_by_poisson():
    sure = np.full(1000, 8.0)  # sigma(-8) = 0.000335: 0.335 errors expected
    d = sure.copy()
    d[:6] = -8
    assert calibrate(tallied(d, 0 * d), Level()).p_value == pytest.approx(
        2 * stats.poisson.sf(5, 1000 * special.expit(-8.0))
    )
    assert calibrate(tallied(sure, 0 * d), Level()).p_value == 1.0


# --- groups


def test_lengths_that_are_no_lengths_do_not_count():
    r_w, r_l = pairs(0, 100)
    length = np.random.default_rng(0).integers(10, 90, (2, 100)).astype(float)
    odd = {"length_w": np.r_[length[0], 1e308, np.nan], "length_l": np.r_[length[1], -1e308, 5]}
    found = diagnose(np.r_[r_w, 3, 4], np.r_[r_l, 1, 2], **odd).figures.lengths.margin
    assert found == diagnose(r_w, r_l, length_w=length[0], length_l=length[1]).figures.lengths.margin


def test_variance_components_and_effects():
    rng = np.random.default_rng(0)
    table = Table(6)
    group = np.repeat(np.arange(3000), rng.integers(1, 8, 3000))
    x = 2.0 * rng.standard_normal(3000)[group] + rng.standard_normal(len(group))
    y = rng.standard_normal(len(group))
    table.add(mixed(group), np.stack([np.ones(len(x)), x, x * x, y, y * y, y > 0], axis=1))
    found = components(table, 0)
    assert found.between.low < 4 < found.between.high and found.within.low < 1 < found.within.high
    assert found.share.low < 0.8 < found.share.high and found.n == found.kept == 3000
    by = effects(table)
    # the mean's variance: between * sum n^2/N^2 + within/N, over (between + within)/N
    n = np.bincount(group)
    expected = (4 * np.sum(n * n) / len(x) + 1) / 5
    assert by.shift == pytest.approx(expected, rel=0.1) and by.margin == pytest.approx(1, abs=0.1)


def test_groups_that_tell_nothing():
    r_w, r_l = pairs(0, 100)
    assert "no column" in diagnose(r_w, r_l).unknown["groups"]
    assert "more than one pair" in diagnose(r_w, r_l, group=np.arange(100)).unknown["groups"]
    assert diagnose(r_w, r_l, group=np.zeros(100, int)).groups is None
    names = np.array([f"prompt {k}" for k in range(50)] * 2)
    assert diagnose(r_w, r_l, group=names).groups.n == 50


def test_every_interval_allows_for_prompts():
    """Each pair eight times, as one prompt: no interval may be narrower than without the copies."""
    r_w, r_l = pairs(3, 300, 1.5)
    r_w, r_l = r_w + 20, r_l + 20  # where bfloat16 loses some
    length = np.random.default_rng(0).integers(10, 90, (2, 300)).astype(float)
    columns = {"r_w": r_w, "r_l": r_l, "length_w": length[0], "length_l": length[1]}
    once = diagnose(**columns).figures
    copies = diagnose(**{k: np.repeat(x, 8) for k, x in columns.items()}, group=np.repeat(np.arange(300), 8)).figures

    def estimates(f):
        c, p = f.calibration, f.precision["bfloat16"]
        yield from (f.mean_score, f.spread, f.mean_margin, f.std_margin, f.mean_square_sum, f.invisible, f.loss)
        yield from (c.log_loss, c.brier, c.ece, c.gap, c.factor, p.below, p.tied, f.accuracy["half"])
        yield from (f.lengths.margin, f.lengths.chosen, f.lengths.accuracy_longer)

    for one, many in zip(estimates(once), estimates(copies), strict=True):
        # 400 draws leave a bootstrap's ends a few percent uncertain; a design effect forgotten is a factor of 2.8
        assert many.high - many.low > 0.8 * (one.high - one.low), (one, many)
    assert copies.calibration.ece_noise == pytest.approx(once.calibration.ece_noise, rel=0.05)


def test_prompts_that_scatter_are_no_drift():
    """Three steps of 20 new prompts of 50 pairs each: what differs between steps is which prompts they drew."""
    rng, alarms = np.random.default_rng(3), 0
    step, group = np.repeat([0, 1000, 2000], 1000), np.repeat(np.arange(60), 50)
    for _ in range(8):
        d = calibrated(rng, 3000, 1.8)
        h = rng.normal(0, 0.6, 60)[group] + 0.2 * rng.standard_normal(3000)
        alarms += not diagnose(h + d / 2, h - d / 2, step=step, group=group).healthy
    assert not alarms
    h = h + step / 500
    assert "drift" in [one.id for one in diagnose(h + d / 2, h - d / 2, step=step, group=group).findings]


# --- precision


def every_size(rng):
    """Numbers of all sizes, with ties of the narrow formats among them."""
    x = np.ldexp(rng.uniform(0.5, 1, 4000), rng.integers(-150, 131, 4000)) * rng.choice([-1, 1], 4000)
    ties = np.ldexp(rng.integers(2**8, 2**9, 2000) + 0.5, rng.integers(-40, 12, 2000))
    return np.concatenate([x, ties, [0.0, 65504.0, 65519.0, 65520.0, 65536.0, 2.0**-24, 2.0**-25, 1e-320]])


def test_rounding_is_that_of_the_formats():
    x = every_size(np.random.default_rng(0))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(FORMATS["float32"].rounded(x), x.astype(np.float32))
        np.testing.assert_array_equal(FORMATS["float16"].rounded(x), x.astype(np.float16))
        single = x.astype(np.float32).astype(float)
        fine = np.abs(single) < 3e38
        np.testing.assert_array_equal(FORMATS["bfloat16"].rounded(single[fine]), rounded(single[fine], "bfloat16"))
    for name, kind in (("float32", np.float32), ("float16", np.float16)):
        y = np.abs(x[np.abs(x) < 60000])
        assert np.all(FORMATS[name].spacing(y) >= np.spacing(y.astype(kind)).astype(float) / 2)


def test_counts_are_those_of_every_pair():
    rng = np.random.default_rng(1)
    x = every_size(rng)
    y = np.where(
        rng.random(len(x)) < 0.8, x * (1 + rng.uniform(-1, 1, len(x)) * 2.0 ** rng.integers(-30, 0, len(x))), x
    )
    d = x - y
    for row, form in zip(counts(x, y, np.maximum(np.abs(x), np.abs(y)), np.abs(d)), FORMATS.values(), strict=True):
        a, b = form.rounded(x), form.rounded(y)
        spacing = form.spacing(np.maximum(np.abs(x), np.abs(y)))
        assert row[0] == np.sum((d != 0) & (np.abs(d) < spacing)) > 0
        assert row[1] == np.sum((d != 0) & (a == b)) > 0
        assert row[2] == np.sum(np.isinf(a) | np.isinf(b))
        assert not np.any((a > b) & (d < 0) | (a < b) & (d > 0))  # rounding never reverses a ranking


# --- samples


def test_a_sample_is_even_and_bounded():
    sample, other = Sample(1, (1,)), Sample(1, (2,))
    for at in range(0, 40 * BLOCK, BLOCK):
        (sample if at < 30 * BLOCK else other).add(np.arange(at, at + BLOCK, dtype=float))
    sample.merge(other)
    rows = sample.rows[:, 0]
    assert CAPACITY / 4 < len(rows) <= CAPACITY and len(np.unique(rows)) == len(rows)
    assert len(rows) == pytest.approx(40 * BLOCK * sample.rate, abs=5 * math.sqrt(len(rows)))
    # even over the stream: chi-square of ten parts
    assert stats.chisquare(np.histogram(rows, 10, (0, 40 * BLOCK))[0]).pvalue > 1e-4


def test_a_table_keeps_all_that_belongs_to_a_key():
    keys = mixed(np.arange(200000) % 50000)
    table, other = Table(1), Table(1)
    for at in range(0, 200000, BLOCK):
        part = keys[at : at + BLOCK]
        one = table if at < 120000 else other
        part = part[one.below(part)]
        one.add(part, np.ones((len(part), 1)))
    table.merge(other)
    assert not table.full and CAPACITY / 3 < len(table.keys) <= CAPACITY
    assert np.all(table.sums == 4)
    kept = len(table.keys) * 2.0**64 / table.limit
    assert kept == pytest.approx(50000, rel=5 / math.sqrt(len(table.keys)))
    assert np.all(table.keys < np.uint64(table.limit))


def test_hashes_of_coarse_numbers_do_not_collide():
    x = np.arange(1, 301) / 4.0  # low bits all 0
    w, v = (a.ravel() for a in np.meshgrid(x, x))
    keys = mixed(w, v)
    assert len(np.unique(keys)) == 90000
    assert stats.chisquare(np.bincount((keys >> np.uint64(58)).astype(int), minlength=64)).pvalue > 1e-4
    assert mixed(np.array([0.0]))[0] == mixed(np.array([-0.0]))[0]


def test_repetitions_by_hash():
    rng = np.random.default_rng(0)
    r_w, r_l = rng.standard_normal((2, 60000))
    again = rng.integers(0, 60000, 20000)
    tally = tallied(np.concatenate([r_w, r_w[again]]), np.concatenate([r_l, r_l[again]]))
    found = repeated(tally.pairs, Level(1e-6))
    assert found.how == "sampled" and found.low < 0.25 < found.high
    exact = repeated(tallied(np.append(r_w[:99], r_w[0]), np.append(r_l[:99], r_l[0])).pairs, Level())
    assert (exact.value, exact.how) == (0.01, "exact")


# --- suspicions


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda r: np.round(r), "whole numbers"),
        (lambda r: np.round(r, 1), "1 decimals"),
        (lambda r: np.round(r, 2), "2 decimals"),
        (lambda r: np.round(r, 2).astype(np.float32).astype(float), "2 decimals"),
        (lambda r: np.round(r, 5), None),
        (lambda r: rounded(r, "bfloat16"), "bfloat16"),
        (lambda r: rounded(r + 300, "bfloat16"), "bfloat16"),
        (lambda r: r.astype(np.float16).astype(float), "float16"),
        (lambda r: r.astype(np.float32).astype(float), None),
        (lambda r: (1e5 + r).astype(np.float32).astype(float), None),
        (lambda r: 0 * r, None),
        (lambda r: r, None),
    ],
)
def test_grids(make, expected):
    found = grid(make(np.stack(pairs(0, 500), axis=1)))
    assert (found and found.name) == expected


def test_clusters():
    rng = np.random.default_rng(0)
    normal, flat = clusters(rng.standard_normal(5000)), clusters(rng.random(5000))
    assert normal.separation == pytest.approx(2 * math.sqrt(2 / math.pi) / math.sqrt(1 - 2 / math.pi), rel=0.05)
    assert flat.separation == pytest.approx(math.sqrt(12), rel=0.05)
    two = clusters(np.concatenate([rng.standard_normal(900), 300 + rng.standard_normal(100)]))
    assert two.minority == 0.1 and two.separation > 100
    assert clusters(np.ones(100)) is None


# --- bounds


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.3])
def test_the_largest_pull(eps):
    m = np.linspace(-5, 40, 46)
    d = np.linspace(0, 90, 900001)
    best = [np.max(d * (special.expit(x - d) - eps)) for x in m]
    np.testing.assert_allclose(largest_pull(m, eps), best, rtol=1e-7, atol=1e-9)
    if not eps:
        np.testing.assert_allclose(largest_pull(m), special.lambertw(np.exp(m - 1)).real, rtol=1e-12)
    rng = np.random.default_rng(0)
    margins = rng.uniform(-3, 70, 200)
    n, total, bound, start = margin_bounds(margins, eps)
    exact = largest_pull(margins[margins <= 60], eps).sum() + margins[margins > 60].sum()
    assert (n, total) == (200, margins.sum()) and abs(bound - exact) <= 200 * 4e-5
    np.testing.assert_allclose(start, (softplus(margins) - eps * margins).sum())


@pytest.mark.parametrize("name", [wrong.name for wrong in Wrong])
def test_pulls_are_those_of_the_catalogue(name):
    r_w, r_l = pairs(6, 300)
    m, eps = np.random.default_rng(0).choice([0.0, 0.7], 300), 0.1
    changes = {} if name == "right" else BY_NAME[name.replace("_", "-")].changes[0]
    if name == "missing_log":
        eps = 0.0  # a mistake of the plain likelihood
    out = evaluate(Form(**changes), r_w, r_l, m, label_smoothing=eps)
    np.testing.assert_allclose(pulls(r_w - r_l, m, eps)[Wrong[name]], -300 * (r_w @ out.g_w + r_l @ out.g_l), rtol=1e-9)


# --- trends


@given(st.lists(st.integers(-5, 5), min_size=8, max_size=30), st.integers(0, 9))
def test_trends_are_scipy_s(values, seed):
    y = np.array(values, dtype=float)
    x = np.sort(np.random.default_rng(seed).choice(100, len(y), replace=False)).astype(float)
    slope, theirs = trends_module.theil_sen(x, y), stats.theilslopes(y, x)
    assert slope.value == theirs.slope
    if np.ptp(y) > 0:
        # beyond the last rank SciPy gives the last slope, and we infinity: nothing is known there
        assert slope.low in (theirs.low_slope, -np.inf) and slope.high in (theirs.high_slope, np.inf)


@pytest.mark.parametrize("y", [[1, 2, 3, 4, 5], [1, 1, 2, 2, 3], [1, 1, 1, 2, 2]])
def test_the_variance_of_kendall_s_s_is_that_over_all_orders(y):
    i, j = np.triu_indices(5, 1)
    s = [np.sign(np.subtract(np.array(p)[j], np.array(p)[i])).sum() for p in permutations(y)]
    assert trends_module._variance(np.array(y)) == pytest.approx(np.var(s))


def test_mann_kendall_s_p_value():
    rng = np.random.default_rng(0)
    found = [trends_module.mann_kendall(rng.standard_normal(20)) for _ in range(500)]
    assert abs(np.mean(np.array(found) < 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 500)
    y = rng.standard_normal(9)
    assert trends_module.mann_kendall(y) == pytest.approx(stats.kendalltau(np.arange(9), y).pvalue, abs=0.05)
    assert trends_module.mann_kendall(np.ones(9)) == 1.0


def test_a_trend_of_three_checkpoints_needs_their_errors():
    step, y = np.array([0.0, 100.0, 200.0]), np.array([0.0, 1.0, 2.0])
    clear = trends_module.trend(step, y, np.full(3, 0.01))
    assert clear.p_value < 1e-6 and clear.slope.low < 10 < clear.slope.high and clear.change == 2
    assert trends_module.trend(step, y, np.full(3, 2.0)).p_value > 0.1
    assert trends_module.trend(step, np.array([0.0, 3.0, 2.0]), np.full(3, 0.01)).p_value > 0.5
    wobble = np.array([0.0, 2.0, 1.0, 3.0, 4.0, 5.0, 7.0, 6.0])
    assert trends_module.trend(np.arange(8.0), wobble, np.full(8, 0.01)).p_value < 1e-6
    assert trends_module.trend(np.arange(8.0), np.array([0.0, 3, 1, 4, 0, 3, 1, 4]), np.full(8, 0.01)).p_value > 0.5
    paired = trends_module.trend(np.arange(11.0), np.arange(11.0), np.full(11, 100.0))  # errors do not add up
    assert paired.p_value == pytest.approx(2 * trends_module.mann_kendall(np.arange(11.0)))
    assert trends_module.trend(step, y).p_value > 0.1
    many = np.random.default_rng(0).standard_normal((5, 3))
    each = [trends_module.theil_sen(step, one).value for one in many]
    assert np.median(trends_module._slopes(step, many), axis=-1).tolist() == each
    assert trends_module.trend(step[:1], y[:1]) is None
    assert trends_module.trend(step, np.array([np.nan, 1.0, 2.0])).n == 2


# --- the time axis and the engine


class Pieces(ArraySource):
    """A source of small chunks."""

    size = 700

    def chunks(self):
        for at in range(0, len(self.whole.r_w), self.size):
            columns = (self.whole.margin, self.whole.step, self.whole.group, None, None, self.whole.subset)
            part = slice(at, at + self.size)
            yield Chunk(self.whole.r_w[part], self.whole.r_l[part], *(None if c is None else c[part] for c in columns))


def test_series_are_means_per_step():
    rng = np.random.default_rng(0)
    r_w, r_l = rng.standard_normal((2, 5000)) + 1e5
    step, subset = rng.integers(0, 7, 5000).astype(float), rng.integers(0, 3, 5000)
    source = Pieces(Chunk(r_w, r_l, step=step, subset=subset), ("a", "b", "c"))
    timeline = scan(source)
    for chunk in source.chunks():
        timeline.add(chunk)
    for code in (None, 1):
        series = timeline.series(code)
        for k in range(7):
            here = (step == k) & (True if code is None else subset == code)
            h, d = (r_w + r_l)[here] / 2, (r_w - r_l)[here]
            expected = [k, here.sum(), h.mean(), h.std(), d.mean(), d.std(), np.mean(d > 0), np.mean(softplus(-d))]
            names = ("step", "n", "mean_score", "spread", "mean_margin", "std_margin", "accuracy", "loss")
            np.testing.assert_allclose([series[name][k] for name in names], expected, rtol=1e-8)
            np.testing.assert_allclose(series["mean_size"][k], np.mean(np.abs(d)))
    assert timeline.start == 5 and timeline.end == 6  # 714 pairs a step: the last two have 1,000


def test_the_figures_are_those_of_the_end():
    r_w, r_l = pairs(0, 6000)
    c = np.repeat([500.0, 100.0, 0.0], 2000)
    found = diagnose(r_w + c, r_l + c, step=np.repeat([0, 10, 20], 2000))
    assert found.window == (20, 20) and found.n_pairs == 6000 and found.figures.n == 2000
    assert found.healthy  # the shift is gone
    assert found.trends["mean_score"].change < 0
    assert diagnose(r_w, r_l, step=np.full(6000, 7)).window is None


def test_many_steps_and_many_subsets_stay_bounded():
    n = 80000
    rng = np.random.default_rng(0)
    r_w, r_l = rng.standard_normal((2, n))
    source = ArraySource(Chunk(r_w, r_l, step=rng.random(n), subset=np.arange(n) % 200), tuple(map(str, range(200))))
    timeline = scan(source)
    assert len(timeline.edges) <= POINTS
    for chunk in source.chunks():
        timeline.add(chunk)
    assert timeline.subsets == 0 and timeline.series()["n"].sum() == n


def test_chunks_and_threads_do_not_change_what_is_found():
    r_w, r_l = pairs(0, 150000)
    subset = np.arange(150000) % 3
    whole = Chunk(r_w, r_l, group=np.arange(150000) // 3, subset=subset)
    one = diagnose_source(ArraySource(whole, ("a", "b", "c")))
    source = Pieces(whole, ("a", "b", "c"))
    Pieces.size = 9000
    two = diagnose_source(source)
    Pieces.size = 700
    # sums in another order: 1e6 u; samples differ
    for a, b in [(one.figures, two.figures), (one.subsets["b"], two.subsets["b"])]:
        for name in ("mean_score", "spread", "mean_margin", "mean_square_sum"):
            assert getattr(a, name).value == pytest.approx(getattr(b, name).value, rel=1e-9, abs=1e-9)
        assert a.accuracy == b.accuracy
        for p, q in zip(a.precision.values(), b.precision.values(), strict=True):
            assert (p.below.value, p.tied.value, p.overflow) == (q.below.value, q.tied.value, q.overflow)
            assert p.below.high == pytest.approx(q.below.high, rel=1e-9)
    assert one.as_dict() == diagnose_source(ArraySource(whole, ("a", "b", "c"))).as_dict()  # the same bits again


def test_the_dict_is_json_whatever_comes_in():
    nothing = diagnose([np.nan, np.inf], [0.0, 1.0])
    assert nothing.figures.n == 0 and not nothing.healthy
    for found in (nothing, diagnose([1.0], [0.0]), diagnose([1e59, 2.0], [1.0, -1e59], coef=0.1)):
        json.dumps(found.as_dict(), allow_nan=False)
        assert found.verdict and found.as_dict()["healthy"] == found.healthy


def test_the_example():
    assert doctest.testmod(arrays).attempted > 3 and doctest.testmod(arrays).failed == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coef": -1.0}, "coef must be a number in"),
        ({"target": 0.0}, "target must be"),
        ({"label_smoothing": 0.5}, "label_smoothing must be"),
        ({"converged": 1}, "converged must be True or False"),
        ({"subset": np.arange(300)}, "subset must have at most 256 labels"),
        ({"step": np.full(300, np.nan)}, "step must be finite"),
        ({"length_w": np.ones(300)}, "both be given"),
        ({"margin": np.ones(3)}, "margin must have shape"),
        ({"margin": np.inf}, "margin must be finite"),
        ({"step": np.arange(300) * 1e305}, "step must be finite, and within 1e"),
        ({"margin": -1e308}, "margin must be finite, and within 1e"),
        ({"group": np.ones(300)}, "group must be integers or strings"),
    ],
)
def test_bad_input_is_one_error(settings, message):
    with pytest.raises(InputError, match=message):
        diagnose(*pairs(0, 300), **settings)


def test_no_pairs_and_too_many_subsets_in_a_source():
    with pytest.raises(InputError, match="no pairs in arrays"):
        diagnose_source(ArraySource(Chunk(np.empty(0), np.empty(0))))
    r = np.zeros(300)
    with pytest.raises(InputError, match="more than 256 labels"):
        diagnose_source(ArraySource(Chunk(r, r, subset=np.arange(300)), tuple(map(str, range(300)))))


def test_settings_are_checked():
    assert Settings(coef=0.01).coef == 0.01
    with pytest.raises(InputError, match="seed must be an integer"):
        Settings(seed=-1)


def test_the_settings_of_diagnose_are_those_of_settings():
    own, told = (signature(function).parameters for function in (Settings, diagnose))
    assert [(name, one.default) for name, one in own.items()] == [(n, one.default) for n, one in told.items()][-6:]
