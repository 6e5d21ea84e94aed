"""For tests, yours and refrm's: `assert_conforms` judges any implementation of the loss; Hypothesis strategies for
scores, margins and weights straddle every branch boundary of the kernels.

The extra ``testing`` installs what this module needs.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from refrm.spec import Array

if TYPE_CHECKING:
    from refrm.oracle import Report

BOUNDARIES = (0.0, math.log(4.0), 0.5 * math.log(2.0), 60 * math.log(2.0), 36.7, 709.78, 744.44, 745.14, 746.0)
"""Sizes of z = d - margin at which a kernel takes another branch or a float changes its range."""


def _step(x: float, width: int) -> float:
    """Return the spacing of floats at x."""
    with np.errstate(over="ignore"):  # at the largest float numpy looks for the next one
        return float(np.spacing(np.float32(x) if width == 32 else x))


def _near(boundary: float, width: int) -> st.SearchStrategy[float]:
    """Floats within a few steps, and within a few percent, of +-boundary."""
    step = _step(boundary, width)
    near = st.builds(lambda k, sign: sign * (boundary + k * step), st.integers(-4, 4), st.sampled_from([-1.0, 1.0]))
    wide = st.builds(lambda x, sign: sign * boundary * x, st.floats(0.95, 1.05), st.sampled_from([-1.0, 1.0]))
    return near | wide


@st.composite
def _pair(draw: st.DrawFn, width: int, limit: float) -> tuple[float, float]:
    """Draw one pair of finite scores of at most ``limit``: free, or with a margin at a boundary on top of a shift."""
    anything = st.floats(-limit, limit, width=width)  # type: ignore[arg-type]
    first = draw(anything)
    kind = draw(st.sampled_from(["free", "boundary", "tie", "close", "opposite"]))
    if kind == "free":
        second = draw(anything)
    elif kind == "tie":
        second = first
    elif kind == "opposite":
        second = -first
    elif kind == "close":
        second = first + draw(st.integers(-8, 8)) * _step(first, width)
    else:
        first = draw(st.sampled_from([0.0, 1.0, -3.0, 500.0]) | st.floats(-1, 1, width=width))  # type: ignore[arg-type]
        second = first - draw(st.sampled_from(BOUNDARIES).flatmap(lambda boundary: _near(boundary, width)))
    return tuple(max(-limit, min(limit, x)) for x in (first, second))  # type: ignore[return-value]


def score_pairs(
    *, dtype: Any = np.float64, min_size: int = 1, max_size: int = 8, max_magnitude: float | None = None
) -> st.SearchStrategy[tuple[Array, Array]]:
    """Return a strategy for (r_w, r_l), finite, of one shape (N,), min_size <= N <= max_size.

    Parameters
    ----------
    dtype : float64 or float32
        Of both arrays.
    min_size, max_size : int
        Bounds of N.
    max_magnitude : float, optional
        Bound of every score; by default the largest float of the dtype.
    """
    kind = np.dtype(dtype)
    limit = float(np.finfo(kind).max) if max_magnitude is None else max_magnitude
    width = 8 * kind.itemsize
    pairs = st.lists(_pair(width, float(kind.type(limit))), min_size=min_size, max_size=max_size)
    return pairs.map(lambda rows: (np.array([w for w, _ in rows], kind), np.array([v for _, v in rows], kind)))


def margins(limit: float = 1e3) -> st.SearchStrategy[float]:
    """Return a strategy for finite margins m: 0 most often, boundaries, and anything up to ``limit``."""
    return st.just(0.0) | st.sampled_from([x for x in BOUNDARIES if x <= limit]) | st.floats(-limit, limit)


def label_smoothings() -> st.SearchStrategy[float]:
    """Return a strategy for label smoothings in [0, 1/2), 0 and the smallest float included."""
    return st.sampled_from([0.0, 5e-324, 1e-16, 0.1, 0.5 - 2**-54]) | st.floats(0, 0.5, exclude_max=True)


@st.composite
def weights(draw: st.DrawFn, size: int) -> Array:
    """Draw weights of ``size`` pairs: integers or floats >= 0, some 0, at least one positive."""
    one = st.integers(0, 5).map(float) | st.floats(0, 1e6)
    drawn = np.array(draw(st.lists(one, min_size=size, max_size=size)))
    drawn[draw(st.integers(0, size - 1))] += 1.0
    return drawn


def assert_conforms(f: Callable[..., Any], **options: Any) -> "Report":
    """Judge an implementation of the loss by `refrm.oracle.check`; raise AssertionError, its report, if it is wrong.

    Parameters
    ----------
    f : callable
        Of (r_w, r_l) or (r_w, r_l, margin), of any framework.
    **options
        Of `refrm.oracle.check`: what is stated of the convention, such as ``coef=0.01, reduction="mean"``.

    Returns
    -------
    Report
        What was found: convention, accuracy, notes.

    Examples
    --------
    >>> import numpy as np
    >>> report = assert_conforms(lambda r_w, r_l: np.logaddexp(0, r_l - r_w).mean(), coef=0, reduction="mean")
    >>> report.convention["loss"]
    'mean(-log sigma(d))'
    """
    from refrm.oracle import check

    report = check(f, **options)
    if not report.conforms:
        raise AssertionError(str(report))
    return report
