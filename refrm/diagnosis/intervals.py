"""Intervals: of means by Student's t, of shares by Wilson, of correlations by Fisher's z; and the size of a step."""

import math
from collections.abc import Callable
from functools import lru_cache

from refrm.diagnosis.model import Estimate


class Level:
    """A two-sided error probability ``alpha``, and the intervals that have it."""

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha = alpha

    def t(self, n: float) -> float:
        """Return the quantile of Student's t with n - 1 degrees of freedom; infinite below two observations."""
        return _quantile(self.alpha, max(n - 1, 0.0))

    def mean(self, value: float, variance: float, n: float, effect: float = 1.0) -> Estimate:
        """Return the interval of a mean of ``n`` observations with this variance of one, the mean square deviation.

        ``effect`` is the design effect: by how much the variance of the mean exceeds that of independent pairs.
        """
        half = self.t(n / effect) * math.sqrt(max(variance, 0.0) * effect / (n - 1)) if n > 1 else math.inf
        return Estimate(float(value), float(value - half), float(value + half))

    def deviation(self, square: float, fourth: float, n: float, effect: float = 1.0) -> Estimate:
        """Return the interval of a standard deviation, from the second and fourth central moments.

        A sample variance has the variance (fourth - (n - 3)/(n - 1) square^2)/n: above 0 for two observations, too.
        """
        variance = fourth - (n - 3) / (n - 1) * square**2 if n > 1 else 0.0
        return root(self.mean(square, variance, n, effect))

    def share(self, k: float, n: float, effect: float = 1.0) -> Estimate:
        """Return Wilson's interval of k out of n."""
        if not n:
            return Estimate(math.nan, 0.0, 1.0, "wilson")
        m, p = n / effect, k / n
        z2 = self.t(math.inf) ** 2
        centre = (p + z2 / (2 * m)) / (1 + z2 / m)
        half = math.sqrt(z2 * (p * (1 - p) / m + z2 / (4 * m * m))) / (1 + z2 / m)
        # at 0 and 1 the interval ends there, but for rounding
        return Estimate(
            p, 0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half), "wilson"
        )

    def correlation(self, value: float, n: float) -> Estimate:
        """Return Fisher's interval of a correlation of n pairs."""
        if n <= 3 or not abs(value) < 1:
            return Estimate(value, *((value, value) if abs(value) == 1 and n > 3 else (-1.0, 1.0)))
        z, half = math.atanh(value), self.t(math.inf) / math.sqrt(n - 3)
        return Estimate(value, math.tanh(z - half), math.tanh(z + half))

    def ratio(self, k: float, n: float, variance: float) -> Estimate:
        """Return the interval of a share whose variance is given; within [0, 1]."""
        half = self.t(math.inf) * math.sqrt(max(variance, 0.0))
        return Estimate(k / n, max(0.0, k / n - half), min(1.0, k / n + half), "sampled")


@lru_cache(maxsize=4096)
def _quantile(alpha: float, freedom: float) -> float:
    from scipy.special import ndtri, stdtrit

    if freedom <= 0:
        return math.inf
    return -float(ndtri(alpha / 2)) if freedom > 1e6 else -float(stdtrit(freedom, alpha / 2))


def root(estimate: Estimate) -> Estimate:
    """Return the square root of a non-negative figure and of its interval."""
    return through(estimate, lambda x: math.sqrt(max(x, 0.0)))


def through(estimate: Estimate, f: Callable[[float], float]) -> Estimate:
    """Return an increasing or decreasing function of a figure, with its interval."""
    low, high = sorted((f(estimate.low), f(estimate.high)))
    return Estimate(f(estimate.value), low, high, estimate.how)


def two_sided(z: float) -> float:
    """Return the p-value of a standard normal statistic."""
    return math.erfc(abs(z) / math.sqrt(2)) if not math.isnan(z) else math.nan
