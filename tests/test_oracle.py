"""The checker is checked: no mistake passes and each is named, no right loss fails, and nothing that an implementation
does ends the check."""

import contextlib
import doctest
import itertools
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from mutants import OF_FLAG
from reference import MP, bradley_terry, spacing
from reference import exact as mp
from scipy import special

import refrm
from refrm import testing
from refrm.errors import InputError
from refrm.oracle import MISTAKES, check, judge
from refrm.oracle.catalogue import BY_NAME, changed, combinations
from refrm.oracle.forms import Form, evaluate, rounded
from refrm.oracle.identify import PROBES
from refrm.oracle.laws import LAWS
from refrm.oracle.sweep import SPANS, STEPS, grid, lattice
from refrm.oracle.truth import Convention, exact, expected
from refrm.oracle.vectors import Convention as VectorConvention
from refrm.testing import assert_conforms

COEF = 0.125


def made(form, *, coef=COEF, eps=0.0, gradients=True):
    """A loss of this form, with its gradients."""

    def loss(r_w, r_l, margin):
        outcome = evaluate(form, r_w, r_l, margin, coef=coef, label_smoothing=eps)
        return tuple(outcome) if gradients else outcome.loss

    return loss


def textbook(r_w, r_l):
    d = r_w - r_l
    return np.mean(np.maximum(-d, 0) + np.log1p(np.exp(-np.abs(d))))


def logaddexp(r_w, r_l, margin):
    return np.mean(np.logaddexp(0, -(r_w - r_l - margin))) + 0.01 * np.mean((r_w + r_l) ** 2)


def log_expit(r_w, r_l):
    return -special.log_expit(r_w - r_l) + 0.1 * (r_w**2 + r_l**2)


def by_hand(r_w, r_l, margin):
    z, n = r_w - r_l - margin, len(r_w)
    slope, pull = -special.expit(-z) / n, 2 * r_w.dtype.type(0.3) * (r_w + r_l) / n
    value = np.mean(np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z))) + r_w.dtype.type(0.3) * (r_w + r_l) ** 2)
    return value, (slope + pull, -slope + pull)


def smoothed(r_w, r_l):
    d, eps = r_w - r_l, r_w.dtype.type(0.1)
    return np.sum((1 - eps) * np.logaddexp(0, -d) + eps * np.logaddexp(0, d) + (r_w + r_l) ** 2 / 2)


def in_float32(r_w, r_l):
    return float(textbook(r_w.astype(np.float32), r_l.astype(np.float32)))


def by_column(r_w, r_l):
    if r_w.ndim != 2:
        raise ValueError("expected (N, 1)")
    return np.logaddexp(0, r_l - r_w)


def one_by_one(r_w, r_l):
    """A mean in another order, to zero: of single pairs, in Python."""
    total = 0.0
    for a, b in zip(r_w, r_l, strict=True):
        total += np.logaddexp(0, b - a)
    return total / len(r_w) + 0.5 * np.mean(r_w + r_l) ** 2


def keeps_dims(r_w, r_l):
    return np.mean(np.logaddexp(0, r_l - r_w), keepdims=True)


def refuses_what_is_not_finite(r_w, r_l):
    if not (np.isfinite(r_w).all() and np.isfinite(r_l).all()):
        raise ValueError("scores must be finite")
    return textbook(r_w, r_l)


RIGHT = {
    refuses_what_is_not_finite: "mean(-log sigma(d))",
    keeps_dims: "mean(-log sigma(d))",
    textbook: "mean(-log sigma(d))",
    logaddexp: "mean(-log sigma(d - margin)) + 0.01*mean(r_w + r_l)^2",
    log_expit: "-log sigma(d) + 0.1*(r_w^2 + r_l^2), for each pair",
    by_hand: "mean(-log sigma(d - margin)) + 0.3*mean(r_w + r_l)^2",
    in_float32: "mean(-log sigma(d))",
    by_column: "-log sigma(d), for each pair",
    one_by_one: "mean(-log sigma(d)) + 0.5*(mean(r_w + r_l))^2",
}


@pytest.mark.parametrize("f", list(RIGHT), ids=lambda f: f.__name__)
def test_a_right_loss_conforms_and_its_convention_is_found(f):
    report = check(f)
    assert report.conforms, str(report)
    assert report.convention["loss"] == RIGHT[f]
    assert not report.mistakes and not report.failures and not report.broken
    assert {x.quantity for x in report.accuracy} == ({"value"} if f is not by_hand else {"value", "grad_w", "grad_l"})


def test_a_margin_is_found_wherever_it_is_in_the_signature():
    def only_by_name(r_w, r_l, *, margin=None):
        return np.mean(np.logaddexp(0, r_l - r_w + (0 if margin is None else margin)))

    def after_another(r_w, r_l, reduction="mean", margin=0.0):
        return getattr(np, reduction)(np.logaddexp(0, r_l - r_w - margin))

    report = check(only_by_name)
    assert report.conforms and report.convention["margin"], str(report)
    assert [m.name for m in check(after_another).mistakes] == ["margin-sign"]
    assert not check(only_by_name, margin=False).convention["margin"]
    assert check(only_by_name, margin=True).convention["margin"]
    assert check(lambda *scores: only_by_name(*scores[:2]), margin=True).convention["margin"]
    with pytest.raises(InputError, match="margin: <lambda> takes none"):
        check(lambda r_w, r_l: only_by_name(r_w, r_l), margin=True)


def test_a_right_loss_conforms_as_stated():
    report = check(smoothed, label_smoothing=0.1, coef=1, factor=0.5, reduction="sum")
    assert report.conforms, str(report)
    assert report.convention["found"] == []
    assert_conforms(logaddexp, coef=0.01, reduction="mean")
    with pytest.raises(AssertionError, match="L9 smoothing-ignored"):
        assert_conforms(lambda r_w, r_l: textbook(r_w, r_l), label_smoothing=0.1)


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=pytest.mark.compiled)])
def test_refrm_conforms_and_the_kernels_are_exact(backend):
    def judged(coef):
        loss = refrm.BradleyTerry() + coef * refrm.SquaredSum()
        f = partial(loss.value_and_grad, backend=backend)
        return check(lambda r_w, r_l: f(r_w, r_l), coef=coef, reduction="mean", time_limit=300)  # compiles at first

    for report in (judged(0.0), judged(0.25)):
        assert report.conforms, str(report)
    worst = {(x.dtype, x.quantity): x.ulp for x in judged(0.0).accuracy}
    assert worst["float64", "value"] > 10 if backend == "numpy" else max(worst.values()) <= 2


def variants():
    for mistake in MISTAKES:
        for i, form in enumerate(changed(Form(), (mistake,))):
            yield pytest.param(mistake, form, True, id=f"{mistake.name}-{i}" if i else mistake.name)
            if not i and mistake.id not in ("G1", "G2"):  # those are in the gradient alone
                yield pytest.param(mistake, form, False, id=f"{mistake.name}-values")


def names_of(mistakes, stated):
    """What the report is to name: with lambda stated, a minus is a minus; two names for one form are one."""
    names = {mistake.name for mistake in mistakes}
    return {"minus-sign" if name == "negative-coefficient" and stated else name for name in names}


@pytest.mark.parametrize(("mistake", "form", "gradients"), list(variants()))
def test_every_known_mistake_fails_and_is_named(mistake, form, gradients):
    eps = 0.125 if "smoothing" in mistake.name else 0.0
    report = check(made(form, gradients=gradients, eps=eps), coef=COEF, reduction="mean", label_smoothing=eps)
    assert not report.conforms
    assert {m.name for m in report.mistakes} == names_of([mistake], stated=True), str(report)
    assert report.where == "value and gradient"
    assert f"{report.mistakes[0].id} {report.mistakes[0].name}" in str(report)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_what_is_a_convention_is_found_as_one_and_what_is_none_fails(mistake):
    form = next(changed(Form(), (mistake,)))
    eps = 0.125 if "smoothing" in mistake.name else 0.0
    report = check(made(form, eps=eps), label_smoothing=eps)
    unknown = {"minus-sign": "negative-coefficient"}
    if mistake.convention or mistake.name == "penalty-twice":  # the square of an unknown number is unknown, too
        assert report.conforms, str(report)
    else:
        assert not report.conforms
        assert {m.name for m in report.mistakes} == {unknown.get(mistake.name, mistake.name)}, str(report)
    assert report.convention["penalty"] in (form.penalty, "squared-sum")


def sample_of_pairs():
    """Every sixteenth of the pairs."""
    pairs = [pair for pair in combinations() if len(pair) == 2 and "negative-coefficient" not in {m.name for m in pair}]
    return pairs[::16]


@pytest.mark.parametrize("pair", sample_of_pairs(), ids=lambda pair: "-and-".join(m.name for m in pair))
def test_two_mistakes_are_both_named(pair):
    form = next(changed(Form(), pair))
    eps = 0.125 if any("smoothing" in m.name for m in pair) else 0.0
    f, options = made(form, eps=eps), {"coef": COEF, "reduction": "mean", "label_smoothing": eps}
    report = check(f, **options)
    assert not report.conforms
    named = {m.name for m in report.mistakes}
    if named != names_of(pair, stated=True):  # fewer or others that compute the very same
        assert 0 < len(named) <= 2, str(report)
        others = tuple(BY_NAME[name] for name in named)
        assert any(equal(form, other, eps) for other in changed(Form(), others))


def equal(form, other, eps):
    """Whether two forms give the same for every probe, gradients included."""
    for pairs in PROBES:
        one, two = (evaluate(x, *pairs, coef=COEF, label_smoothing=eps) for x in (form, other))
        finite = np.isfinite(one.loss).all()
        for a, b in zip(one[: 3 if finite else 1], two, strict=False):
            if not np.allclose(a, b, rtol=1e-9, atol=1e-13, equal_nan=True):
                return False
    return True


SHARED = sorted(set(OF_FLAG) & set(BY_NAME) - {"rounded-difference"})  # that mutant looks at the file's dtype


@pytest.mark.parametrize("name", SHARED)
def test_the_same_mistakes_written_by_others_are_named(name):
    eps = 0.125 if "smoothing" in name else 0.0
    of = VectorConvention("squared-sum", COEF, "1", eps, "mean")
    group = SimpleNamespace(
        term="objective", convention=of, requires=(), rule=None, model=None, dtype="float64", steps=None
    )

    def loss(r_w, r_l, margin):
        found = OF_FLAG[name].run(group, {"r_w": r_w, "r_l": r_l, "margin": margin})
        return np.asarray(found["value"]).reshape(()), found["grad_w"], found["grad_l"]

    report = check(loss, coef=COEF, reduction="mean", label_smoothing=eps)
    assert not report.conforms
    assert {m.name for m in report.mistakes} == names_of([BY_NAME[name]], stated=True), str(report)


def log1p_exp(r_w, r_l):
    return np.mean(np.log1p(np.exp(r_l - r_w)))


def log_softmax(r_w, r_l):
    return -np.mean(special.log_softmax(np.stack([r_w, r_l]), axis=0)[0])


@pytest.mark.parametrize(("f", "names"), [(log1p_exp, ["naive-log-exp"]), (log_softmax, ["cross-entropy"])])
def test_a_loss_that_stays_finite_is_not_said_to_overflow(f, names):
    report = check(f)
    assert not report.conforms and [m.name for m in report.mistakes] == names, str(report)


def test_a_mistake_in_the_gradient_alone_is_said_to_be_there():
    def halved(r_w, r_l):
        s = r_w + r_l
        slope = -special.expit(r_l - r_w) / len(r_w)
        pull = COEF * s / len(r_w)
        return np.mean(np.logaddexp(0, r_l - r_w) + COEF * s**2), slope + pull, -slope + pull

    report = check(halved, coef=COEF)
    assert [m.name for m in report.mistakes] == ["factor-of-two"] and report.where == "gradient"
    assert "[in the gradient]" in str(report)


# --- Right but for a rare input.

RARE = {
    "d": lambda w, v, m: w - v,
    "r_w": lambda w, v, m: w,
    "r_l": lambda w, v, m: v,
    "s": lambda w, v, m: w + v,
    "margin": lambda w, v, m: m,
}


@pytest.mark.parametrize(
    ("start", "reduction", "gradients"),
    [(-31.7, "mean", True), (-3.3, "none", False), (0.7, "mean", False), (38.2, "none", True)],
)
@pytest.mark.parametrize("of", list(RARE))
def test_a_loss_that_is_wrong_on_one_part_in_ten_thousand_is_caught(of, start, reduction, gradients):
    lo, hi = start, start + 80 / 10_000  # of [-40, 40]

    def rare(r_w, r_l, margin):
        outcome = evaluate(Form(reduction=reduction), r_w, r_l, margin)
        x = RARE[of](r_w, r_l, margin)
        wrong = np.where((x >= lo) & (x < hi), 1e-3, 0).astype(r_w.dtype)
        n = len(r_w) if reduction == "mean" else 1
        loss = outcome.loss + (np.mean(wrong * np.abs(outcome.loss)) if reduction == "mean" else wrong * outcome.loss)
        return (loss, outcome.g_w, outcome.g_l + wrong * outcome.g_l / n * 0) if gradients else loss

    report = check(rare)
    assert not report.conforms and not report.mistakes
    assert "sweep" in report.broken or "vectors" in report.broken
    assert len(report.failures[0].r_w) == 1
    assert (
        lo
        <= RARE[of](
            *(np.array(x or [0.0]) for x in (report.failures[0].r_w, report.failures[0].r_l, report.failures[0].margin))
        )[0]
        < hi
    )


@pytest.mark.parametrize("size", [7, 33, 40])
def test_a_loss_that_is_wrong_for_one_size_of_the_batch_is_caught(size):
    report = check(lambda r_w, r_l: textbook(r_w, r_l) * (1.001 if len(r_w) == size else 1))
    assert "batch size" in report.broken and len(report.failures[0].r_w) == size


def test_the_grid_and_the_lattice_leave_no_gaps():
    x = grid("float64")
    for span in SPANS:
        inside = x[np.abs(x) <= span]
        assert np.max(np.diff(inside)) <= span / STEPS and inside[0] == -span and inside[-1] == span
    for reach in (3.0, 30.0):
        batch = lattice("float64", reach)
        cells = np.floor((np.stack([batch.w, batch.v]) + reach) / (2 * reach) * 100).astype(int)
        assert len(set(map(tuple, cells.T))) == 100**2  # every square of a ten-thousandth of the plane


# --- The truth that the sweep judges by, against arbitrary precision.


@pytest.mark.parametrize("eps", [0.0, 0.125])
def test_the_truth_is_right_and_its_allowance_holds_what_it_says(eps):
    rng = np.random.default_rng(3)
    d = np.concatenate([np.linspace(-750, 750, 301), rng.normal(size=50), 40 + rng.normal(size=50)])
    v = rng.choice([0.0, 0.3, -7.7, 1e3], d.size)
    w, m = d + v, rng.choice([0.0, 0.1], d.size)
    of = Convention(Form(reduction="none"), label_smoothing=eps, margin=True)
    right, off = expected(w, v, m, of, "float64")
    for i in range(d.size):
        value, slope, _, losing = bradley_terry(w[i], v[i], m[i], eps)
        assert abs(mp(right.loss[i]) - value) <= 4 * spacing(value)
        assert abs(mp(right.g_w[i]) - slope) <= 4 * spacing(max(losing, eps))
        z, u = abs(mp(w[i]) - mp(v[i]) - mp(m[i])), MP.mpf(2) ** -53
        assert off.loss[i] <= 2.0**-1022 + float(u * value * (21 + 3 * abs(mp(w[i]) - mp(v[i])) + 3 * z + 3) * 4)


def test_forms_have_the_gradients_of_their_values():
    rng = np.random.default_rng(0)
    w, v, m = np.abs(rng.normal(size=4)), rng.normal(size=4), np.abs(rng.normal(size=4)) / 100
    h = 1e-6
    for mistakes in [(), *combinations(1)]:
        for form in changed(Form(), mistakes):
            if form.detached != "none" or form.rounding != "none":
                continue
            outcome = evaluate(form, w, v, m, coef=0.3, label_smoothing=0.1)
            for side, grad in ((0, outcome.g_w), (1, outcome.g_l)):
                for i in range(4):
                    step = np.eye(4)[i] * h
                    ends = [
                        evaluate(
                            form,
                            w + t * step * (side == 0),
                            v + t * step * (side == 1),
                            m,
                            coef=0.3,
                            label_smoothing=0.1,
                        ).loss
                        for t in (1, -1)
                    ]
                    assert abs((ends[0] - ends[1]) / (2 * h) - grad[i]) < 1e-7, form


def test_rounding_to_bfloat16_is_to_nearest_even():
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -3.0, np.inf, np.nan])
    np.testing.assert_array_equal(rounded(x, "bfloat16"), [1, 1 + 2.0**-6, 1 + 2.0**-7, -3.0, np.inf, np.nan])


# --- Whatever it does, it is reported.


def raises(r_w, r_l):
    raise KeyError("missing")


def raises_late(r_w, r_l):
    if len(r_w) > 100:
        raise MemoryError("too many pairs")
    return textbook(r_w, r_l)


def exits(r_w, r_l):
    raise SystemExit(3)


def hangs(r_w, r_l):
    while True:
        pass


def hangs_late(r_w, r_l):
    while len(r_w) > 100:
        time.sleep(10)
    return textbook(r_w, r_l)


def stubborn(r_w, r_l):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(10)


def prints(r_w, r_l):
    print("loss", len(r_w))
    return textbook(r_w, r_l)


def returns_nan(r_w, r_l):
    return np.float64("nan")


def returns_none(r_w, r_l):
    return None


def returns_text(r_w, r_l):
    return "0.5"


def returns_two(r_w, r_l):
    return textbook(r_w, r_l), {"rewards": r_w}


def returns_square(r_w, r_l):
    return np.logaddexp(0, r_l[None, :] - r_w[:, None])


def returns_column(r_w, r_l):
    return np.logaddexp(0, r_l - r_w)[:, None]


def returns_short_gradient(r_w, r_l):
    return textbook(r_w, r_l), r_w[:1], r_l[:1]


def changes(r_w, r_l):
    r_w -= r_l
    return textbook(r_w, 0 * r_w)


def hides_nan(r_w, r_l):
    return np.nanmean(np.logaddexp(0, r_l - r_w))


def forgets_its_place():
    calls = itertools.count()
    return lambda r_w, r_l: textbook(r_w, r_l) * (1 + 1e-6 * next(calls))


@pytest.mark.parametrize(
    ("f", "law", "said"),
    [
        (raises, "call", "raised KeyError: 'missing'"),
        (raises_late, "call", "raised MemoryError: too many pairs"),
        (exits, "call", "raised SystemExit: 3"),
        (hangs, "call", "took more than 0.2 s"),
        (hangs_late, "call", "took more than 0.2 s"),
        (stubborn, "call", "took more than 0.2 s"),
        (returns_nan, "vectors", "value is nan"),
        (returns_none, "call", "returned None"),
        (returns_text, "call", "returned str"),
        (returns_two, "call", "returned 2 things"),
        (returns_square, "shape", "returned a loss of shape (1, 1)"),
        (returns_column, "shape", "returned a loss of shape (1, 1)"),
        (returns_short_gradient, "shape", "returned a gradient of shape (1,)"),
        (changes, "mutation", "it changed its inputs"),
        (hides_nan, "nan", "a NaN score gives a loss of"),
        (forgets_its_place(), "repeat", "two calls with the same inputs differ"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_misbehaving_implementation_is_reported(f, law, said):
    report = check(f, time_limit=0.2)
    assert not report.conforms
    assert law in report.broken
    assert any(said in failure.message for failure in report.failures), str(report)
    assert report.as_dict()["laws_broken"][law] == LAWS[law]


def test_printing_is_noted_and_kept_from_the_output(capsys):
    report = check(prints)
    assert report.conforms and any("prints: 'loss " in note for note in report.notes)
    assert capsys.readouterr() == ("", "")


def test_a_time_limit_may_be_longer_than_any_timer():
    assert check(textbook, time_limit=1e300).conforms


def test_the_time_limit_holds_in_another_thread():
    reports = []
    thread = threading.Thread(target=lambda: reports.append(check(stubborn, time_limit=0.2)))
    thread.start()
    thread.join(20)
    assert "took more than" in reports[0].failures[0].message


def test_shapes_that_meet_by_accident_are_noted():
    notes = " ".join(check(logaddexp).notes)
    assert "huggingface/trl#719" in notes and "modelscope/ms-swift#9927" in notes

    def careful(r_w, r_l):
        if r_w.shape != r_l.shape:
            raise ValueError(f"shapes {r_w.shape} and {r_l.shape}")
        return textbook(r_w, r_l)

    assert not any("not refused" in note for note in check(careful).notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coef": -0.1}, "coef must be"),
        ({"factor": 0}, "factor must be"),
        ({"penalty": "l2"}, "penalty must be one of squared-sum"),
        ({"reduction": "max"}, "reduction must be one of mean"),
        ({"label_smoothing": 0.5}, "label_smoothing must be"),
        ({"dtypes": ["int8"]}, "dtypes must be of float64"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"framework": "no_such_framework"}, "framework 'no_such_framework' cannot be imported"),
        ({"framework": "os"}, "framework 'os' is no array module"),
        ({"dtypes": ["bfloat16"]}, "dtypes: NumPy has no bfloat16"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        check(textbook, **options)
    with pytest.raises(InputError, match="f must be a function"):
        check(3)


def test_the_examples_of_the_check():
    for module in (judge, testing):
        failed, attempted = doctest.testmod(module)
        assert (failed, attempted > 2) == (0, True)


def test_the_catalogue_is_sound():
    assert len({m.id for m in MISTAKES}) == len({m.name for m in MISTAKES}) == len(MISTAKES)
    parts = set(Form.__dataclass_fields__)
    for mistake in MISTAKES:
        assert mistake.parts <= parts
        assert mistake.description.startswith("your ") and mistake.source


def test_an_exact_pair_is_part_of_its_batch():
    of = Convention(Form(), coef=0.5)
    w, v = np.array([1.0, 2.0]), np.array([0.5, 3.0])
    whole, one = exact(w, v, None, of, "float64"), exact(w[1:], v[1:], None, of, "float64")
    assert [x.tolist() for x in whole.of(slice(1, 2))] == [x.tolist() for x in one]


def test_gradients_that_are_none_are_none():
    report = check(lambda r_w, r_l: (np.mean(np.logaddexp(0, r_l - r_w)), None, None))
    assert report.conforms and report.gradients == "none"


def test_a_flag_is_not_a_margin():
    def loss(r_w, r_l, use_margin=True):
        assert use_margin is True
        return np.mean(np.logaddexp(0, r_l - r_w))

    report = check(loss)
    assert report.conforms and not report.convention["margin"]
