"""The whole range without gaps, and the accuracy: against `refrm.oracle.truth`, on grids that no rare input escapes."""

import numpy as np

from refrm.oracle.forms import rounded
from refrm.oracle.trial import Batch, Trial
from refrm.oracle.truth import exact
from refrm.spec import Array

STEPS = 10_000
"""A loss that is wrong on one part in this many of a range, ``SPANS``, meets the grid there."""
SPANS = (4, 40, 1000)


def _exact_in(x: Array, dtype: str) -> Array:
    """Return x rounded to the dtype, as float64."""
    return x if dtype == "float64" else rounded(x.astype(np.float32), dtype).astype(np.float64)


def grid(dtype: str) -> Array:
    """Return numbers on uniform grids of less than half a part in `STEPS` of each range, and on a logarithmic one."""
    parts = [np.ldexp(np.outer([1.0, -1.0], 1 + np.arange(8) / 8)[..., None], np.arange(-60, 61)).ravel()]
    for span in SPANS:
        step = 2.0 ** np.floor(np.log2(span / STEPS))
        parts.append(np.arange(-np.floor(span / step), span / step + 1) * step)
    x = np.concatenate(parts)
    return np.asarray(np.unique(_exact_in(x[np.abs(x) < 200] if dtype in ("float16", "bfloat16") else x, dtype)))


def lattice(dtype: str, reach: float) -> Batch:
    """Return pairs within ``reach`` and margins in [0, 2) that fill their ranges evenly (Kronecker), sorted by d."""
    # 1/p and 1/p^2, p^3 = p + 1: in the plane these leave no hole; the golden ratio for the margins.
    ratios = (0.7548776662466927, 0.5698402909980532, 0.6180339887498949)
    bits = 2.0**20 if dtype == "float64" else 2.0**14
    x, y, z = (np.floor(np.arange(1, 2**15 + 1) * ratio % 1.0 * bits) / bits for ratio in ratios)
    w, v = (2 * x - 1) * reach, (2 * y - 1) * reach
    return Batch(w, v, 2 * z).of(np.argsort(w - v, kind="stable"))


def sweep(trial: Trial, every: bool) -> None:
    """Check loss and slope all along d, and with ``every`` along r_w, r_l, s and m, and evenly over the plane.

    Batches hold neighbours, so that no large loss hides a wrong small one.
    """
    half, x = trial.dtype in ("float16", "bfloat16"), grid(trial.dtype)
    n, o = 8 if half else 512 if trial.dtype == "float64" else 256, 0 * x
    passes = [Batch(x, o), *([] if half else [lattice(trial.dtype, 30.0)])]
    if every:
        passes += [Batch(o, -x), Batch(x, -x) if half else Batch(x / 2, -x / 2)]
        near = x[np.abs(x) <= SPANS[-1]]
        passes += [] if half else [Batch(near + 1, near), lattice(trial.dtype, 3.0), lattice(trial.dtype, 300.0)]
    if trial.of.margin:
        passes.append(Batch(o + 1, o, x))
    for whole in passes:
        batch = whole if trial.of.margin else Batch(whole.w, whole.v)
        known = exact(*batch, trial.convention, trial.dtype)
        for part in (slice(k, k + n) for k in range(0, batch.w.size, n)):
            trial.see("sweep", batch.of(part), known.of(part))


def accuracy(trial: Trial) -> None:
    """Measure single pairs: d from tail to tail and near 0, with scores that round, the margins 0 and 0.3."""
    reach = 8.0 if trial.dtype in ("float16", "bfloat16") else 60.0
    small = np.geomspace(1e-6, 1, 40)
    d = np.concatenate([np.linspace(-reach, reach, 241), small, -small])
    i = np.arange(d.size)
    v, m = np.where(i % 2, 0.3, 0.0), np.where(i % 3, 0.0, 0.3)
    w, v, m = (_exact_in(x, trial.dtype) for x in (d + v, v, m))
    trial.measure(Batch(w, v, m if trial.of.margin else None))
