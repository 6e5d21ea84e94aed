"""The live monitor: its figures by their definitions, however batches come; what it warns of, and what not."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refrm
from refrm.diagnosis.callback import FIRST, Monitor, ScoreWarning, Window
from refrm.errors import InputError

U = 2.0**-53


def pairs(rng, n, shift=0.0, spread=0.4, scale=2.0):
    """Scores whose margins claim the right probabilities."""
    d = scale * rng.standard_normal(n)
    d = np.where(rng.random(n) < 1 / (1 + np.exp(-d)), d, -d)
    h = shift + spread * rng.standard_normal(n)
    return h + d / 2, h - d / 2


def train(monitor, steps, drift=0.0, seed=0, every=5):
    """Feed a monitor; return what it warned of."""
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(steps):
            monitor.add(*pairs(rng, 16, drift * step), step)
            if step % every == every - 1:
                monitor.report()
    assert all(one.category is ScoreWarning for one in told)
    return [str(one.message) for one in told]


def figures(r_w, r_l):
    """A record by its definition."""
    s, d = r_w + r_l, r_w - r_l
    return {
        "loss": np.logaddexp(0, -d).mean(),
        "mean_score": (s / 2).mean(),
        "spread": (s / 2).std(),
        "min_score": min(r_w.min(), r_l.min()),
        "max_score": max(r_w.max(), r_l.max()),
        "mean_margin": d.mean(),
        "std_margin": d.std(),
        "accuracy": np.mean((d > 0) + 0.5 * (d == 0)),
        "mean_square_sum": np.mean(s * s),
        "invisible_share": np.mean(s * s) / np.mean(s * s + d * d),
    }


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, 500.0, -3e4]),
)
def test_a_report_is_of_all_pairs_since_the_last_one(seed, sizes, shift):
    r_w, r_l = np.round(shift + np.random.default_rng(seed).standard_normal((2, sum(sizes))), 1)
    monitor = Monitor()
    monitor.add(1e6 * np.ones(3), np.zeros(3))
    monitor.report()
    cuts = np.cumsum(sizes)[:-1]
    for w, v in zip(np.split(r_w, cuts), np.split(r_l, cuts), strict=True):
        monitor.add(w, v)
    found, expected = monitor.report(), figures(r_w, r_l)
    # sums of N terms, each rounded at the size of the scores; a standard deviation is the root of such a variance
    n, size = len(r_w), float(np.max(np.abs([r_w, r_l])))
    slack = {"spread": np.sqrt(8 * n * U) * size, "std_margin": np.sqrt(8 * n * U) * size}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert abs(found[name] - value) <= slack.get(name, 8 * n * U * max(1.0, size, value))
    assert monitor.report() == {} and len(monitor.history) == 2


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5))
def test_windows_merge_in_either_order_and_travel_as_numbers(seed, n, m):
    r = np.random.default_rng(seed).standard_normal((2, n + m))
    r[0, : min(1, n)] = np.nan
    one, two, whole = (Window.of(*r[:, part]) for part in (slice(n), slice(n, None), slice(None)))
    for merged in (one.merged(two), two.merged(one), Window(*one.vector()).merged(two)):
        assert merged.vector() == pytest.approx(whole.vector(), rel=1e-12, abs=64 * U)


def test_a_shift_costs_no_digits_of_the_spread():
    r_w, r_l = pairs(np.random.default_rng(0), 4096)
    records = []
    for shift in (0.0, 2.0**20):  # which these scores take without more than a rounding of 2^-33
        monitor = Monitor()
        for part in np.split(np.arange(4096), 64):
            monitor.add(r_w[part] + shift, r_l[part] + shift)
        records.append(monitor.report())
    for name in ("spread", "mean_margin", "std_margin", "loss"):
        assert abs(records[0][name] - records[1][name]) < 2.0**-31


def test_drift_is_warned_of_once_with_what_helps():
    monitor = Monitor()
    told = train(monitor, 1200, drift=0.005)
    drifts = [text for text in told if ": drift: " in text]
    assert len(drifts) == 1 and "What helps: train with " in drifts[0] and "(T8)" in drifts[0]
    step = int(drifts[0].split(":")[0].removeprefix("step "))
    assert 0.005 * step < 2  # before the mean score is as large as the margins
    assert any(": global-shift: " in text for text in told)
    assert len(told) == len({text.split(": ")[1] for text in told})
    assert monitor.diagnosis().findings[0].id == "drift"


def test_health_is_not_warned_of():
    assert [seed for seed in range(10) if train(Monitor(), 600, seed=seed)] == []


def test_what_is_not_finite_is_told_at_once():
    monitor = Monitor()
    monitor.add([1.0, np.nan, np.inf], [0.0, 1.0, 2.0], step=7)
    with pytest.warns(ScoreWarning, match=r"step 7: non-finite: "):
        record = monitor.report()
    assert record["nonfinite"] == 2 and record["mean_score"] == 0.5
    monitor.add([np.nan], [0.0])
    assert monitor.report() == {"nonfinite": 1.0}  # and no second warning
    assert monitor.log().nonfinite == {"mean_score": 3}
    assert monitor.diagnosis().figures.nonfinite == 3


def test_held_out_pairs_are_a_series_of_their_own():
    monitor, rng = Monitor(coef=0.1), np.random.default_rng(0)
    for step in (10, 20, 30):
        monitor.add(*pairs(rng, 64), step)
        monitor.add(*pairs(rng, 64, shift=3.0), heldout=True)
        monitor.report()
        assert monitor.report(heldout=True)["mean_score"] > 2
    log = monitor.log()
    assert log.step.tolist() == [10, 20, 30]
    assert np.all(np.abs(log.series["mean_score"]) < 1) and np.all(log.series["heldout_mean_score"] > 2)
    assert monitor.diagnosis().n_pairs == 3 * 64 and monitor.diagnosis().settings.coef == 0.1


def test_the_last_pairs_are_kept_and_no_more():
    monitor = Monitor(keep=100)
    for step in range(10):
        monitor.add(np.full(30, float(step)), np.zeros(30), step)
    found = monitor.diagnosis()
    assert found.n_pairs == 90 and found.series["step"].tolist() == [7, 8, 9]
    none = Monitor(keep=0)
    none.add([1.0], [0.0], 1)
    none.report()
    assert none.diagnosis().kind == "log"


def test_batches_are_counted_where_no_step_is_given():
    monitor = Monitor()
    for _ in range(4):
        monitor.add([1.0], [0.0])
    monitor.report()
    monitor.add([1.0], [0.0])
    monitor.report(step=17)
    assert [one["step"] for one in monitor.history] == [4, 17]


def test_tensors_of_any_device_and_type():
    class Tensor:
        """As much of a tensor as needs a way to NumPy."""

        def __init__(self, values, done=()):
            self.values, self.done = values, done

        def __getattr__(self, name):
            if name not in ("detach", "float", "cpu"):
                raise AttributeError(name)
            return lambda: Tensor(self.values, (*self.done, name))

        def numpy(self):
            assert self.done == ("detach", "float", "cpu")
            return np.asarray(self.values, np.float32)

    monitor = Monitor()
    monitor.add(Tensor([3.0, 1.0]), Tensor([1.0, 3.0]))
    assert monitor.report()["mean_score"] == 2


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda m: m.add([[1.0]], [[0.0]]), r"r_w must have shape \(N,\), got \(1, 1\)"),
        (lambda m: m.add([1.0], [0.0, 1.0]), r"r_l must have shape \(1,\)"),
        (lambda m: m.add([1.0], [0.0], step=float("nan")), "step must be finite, got nan"),
        (lambda m: m.diagnosis(), "the monitor has seen no scores yet"),
        (lambda m: Monitor(keep=-1), "keep must be an integer >= 0, got -1"),
        (lambda m: Monitor(coef=-1.0), "coef must be a number in"),
    ],
)
def test_what_cannot_be_watched(call, says):
    with pytest.raises(InputError, match=says):
        call(Monitor())


def test_fits_of_refrm_are_watched_by_their_callback():
    data = refrm.make_pairs(400, 8, shared=4.0)
    objective = refrm.Objective(refrm.Linear(8), refrm.BradleyTerry(), data.chosen, data.rejected, backend="numpy")
    monitor = Monitor()
    with pytest.warns(ScoreWarning, match=r": drift: "):
        result = refrm.minimize(objective, refrm.SGD(steps=120, lr=0.02, batch_size=400), callback=monitor)
    assert monitor.history == result.history and len(monitor.history) > FIRST
    found = monitor.diagnosis()
    assert found.kind == "log" and "drift" in [one.id for one in found.findings]
    centred = Monitor(coef=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refrm.LinearRewardModel(center=0.1, bias=True, backend="numpy").fit(
            refrm.stack_pairs(data.chosen, data.rejected), callback=centred
        )
    assert centred.diagnosis().healthy


def test_import_loads_numpy_only():
    heavy = ("scipy", "numba", "polars", "matplotlib", "click", "rich", "torch", "transformers")
    code = f"import sys, refrm.diagnosis.callback; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
