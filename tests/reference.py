"""The truth, in arbitrary precision: every term of one pair as an exact function of its float inputs."""

import mpmath
import numpy as np

MP = mpmath.mp.clone()
MP.prec = 2300  # holds every sum of three float64 exactly, with 100 bits to spare


def exact(x):
    return MP.mpf(float(x))


def bradley_terry(r_w, r_l, margin=0.0, label_smoothing=0.0):
    """Return (loss, slope in r_w, curvature, sigma(-z)) of one pair."""
    z, eps = exact(r_w) - exact(r_l) - exact(margin), exact(label_smoothing)
    # Past 800, exp(-|z|) < 1e-347 is 0 at any precision a test asks for.
    e = MP.exp(-abs(z)) if abs(z) < 800 else MP.mpf(0)
    tail = MP.log1p(e)
    losing = e / (1 + e) if z >= 0 else 1 / (1 + e)
    linear = eps * z if z >= 0 else -(1 - eps) * z
    return linear + tail, eps - losing, e / (1 + e) ** 2, losing


def spacing(truth, dtype=np.float64):
    """One ulp at ``truth``, the smallest step of the dtype at and near zero."""
    return exact(np.spacing(np.abs(dtype(truth))))


def ulps(found, truth, of=None):
    """The error of ``found`` in ulp of ``of`` (by default of the truth); overflow must give the infinity of its
    sign."""
    if abs(truth) > np.finfo(np.float64).max:
        return 0.0 if found == np.sign(float(MP.sign(truth))) * np.inf or np.isfinite(found) else np.inf
    return (
        float(abs(exact(found) - truth) / spacing(abs(truth) if of is None else of)) if np.isfinite(found) else np.inf
    )


def coefficients():
    """The module docs/coefficients.py."""
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parent.parent / "docs" / "coefficients.py"
    description = importlib.util.spec_from_file_location("coefficients", path)
    script = importlib.util.module_from_spec(description)
    description.loader.exec_module(script)
    return script
