"""Wrong losses and models, each with the mistake it makes and where it was seen; every theorem's test must reject its
own."""

from dataclasses import dataclass

import numpy as np
from textbook import Textbook

from refrm import MLP, Linear
from refrm.losses import Term
from refrm.spec import Jet, bradley_terry, sigmoid, softplus, squared_sum

ONE = np.ones(1)


class Wrong(Term):
    """A term whose mistake is in its jet; value, gradient and Hessian agree with each other unless it says
    otherwise."""


@dataclass(frozen=True)
class SquaredDifference(Wrong):
    """mean (r_w - r_l)^2: the squared difference for the squared sum (first draft of huggingface/trl#1932)."""

    quadratic = (1.0, 0.0, 0.0)

    def _jet(self, r_w, r_l, of):
        d, two = r_w - r_l, np.full_like(r_w, 2)
        return Jet(d * d, 2 * d, -2 * d, two, -two, two)


@dataclass(frozen=True)
class MinusSquaredSum(Wrong):
    """-mean (r_w + r_l)^2: the sign that a course text prints (T10)."""

    quadratic = (0.0, -1.0, 0.0)

    def _jet(self, r_w, r_l, of):
        return Jet(*(-part for part in squared_sum(r_w, r_l)))


@dataclass(frozen=True)
class OneSided(Wrong):
    """mean r_w^2: only the chosen score is held."""

    def _jet(self, r_w, r_l, of):
        zero = np.zeros_like(r_w)
        return Jet(r_w * r_w, 2 * r_w, zero, zero + 2, zero, zero)


@dataclass(frozen=True)
class QuadraticForm(Wrong):
    """mean (a*r_w^2 + 2*b*r_w*r_l + c*r_l^2): right as a form, wrong as the term unless a = b = c (T4)."""

    a: float
    b: float
    c: float

    def _jet(self, r_w, r_l, of):
        a, b, c, one = self.a, self.b, self.c, np.ones_like(r_w)
        value = a * r_w * r_w + 2 * b * r_w * r_l + c * r_l * r_l
        return Jet(value, 2 * (a * r_w + b * r_l), 2 * (b * r_w + c * r_l), 2 * a * one, 2 * b * one, 2 * c * one)


@dataclass(frozen=True)
class SoftSum(Wrong):
    """mean (sqrt(1 + s^2) - 1): no quadratic form, but a function of s alone (T4)."""

    def _jet(self, r_w, r_l, of):
        s = r_w + r_l
        root = np.sqrt(1 + s * s)
        slope, bend = s / root, 1 / root**3
        return Jet(s * s / (1 + root), slope, slope, bend, bend, bend)


@dataclass(frozen=True)
class NormalisedArgument(Wrong):
    """softplus(-d/sqrt(r_w^2 + r_l^2)): the normalised argument of RM-Robustness; gradient as for the plain loss."""

    def _jet(self, r_w, r_l, of):
        jet = bradley_terry(r_w, r_l, 0.0, 0.0)
        return jet._replace(value=softplus(-(r_w - r_l) / np.sqrt(1e-300 + r_w * r_w + r_l * r_l)))


@dataclass(frozen=True)
class DetachedRejected(Wrong):
    """The pairwise loss with no gradient to the rejected score."""

    def _jet(self, r_w, r_l, of):
        return bradley_terry(r_w, r_l, 0.0, 0.0)._replace(g_l=np.zeros_like(r_l))


@dataclass(frozen=True)
class WrongSlopeSign(Wrong):
    """The pairwise loss whose gradient has the sign of descent left in."""

    def _jet(self, r_w, r_l, of):
        jet = bradley_terry(r_w, r_l, 0.0, 0.0)
        return jet._replace(g_w=-jet.g_w, g_l=-jet.g_l)


@dataclass(frozen=True)
class MissingLog(Wrong):
    """The value -sigma(d), with the gradient of the likelihood."""

    def _jet(self, r_w, r_l, of):
        return bradley_terry(r_w, r_l, 0.0, 0.0)._replace(value=-sigmoid(r_w - r_l))


@dataclass(frozen=True)
class HalvedGradient(Wrong):
    """The squared sum with the gradient of half of it (a factor lost between ports)."""

    def _jet(self, r_w, r_l, of):
        jet = squared_sum(r_w, r_l)
        return jet._replace(g_w=jet.g_w / 2, g_l=jet.g_l / 2)


@dataclass(frozen=True)
class DetachedCurvature(Wrong):
    """The pairwise loss with twice its curvature."""

    def _jet(self, r_w, r_l, of):
        jet = bradley_terry(r_w, r_l, 0.0, 0.0)
        return jet._replace(h_ww=2 * jet.h_ww, h_wl=2 * jet.h_wl, h_ll=2 * jet.h_ll)


@dataclass(frozen=True)
class SmoothingFlipped(Wrong):
    """The smoothed loss with eps and 1 - eps exchanged: smallest where the rejected response wins."""

    eps: float

    def _jet(self, r_w, r_l, of):
        return bradley_terry(r_w, r_l, 0.0, 1 - self.eps)


@dataclass(frozen=True)
class SmoothingIgnored(Wrong):
    """The smoothed loss without its smoothing: no margin is best."""

    eps: float

    def _jet(self, r_w, r_l, of):
        return bradley_terry(r_w, r_l, 0.0, 0.0)


@dataclass(frozen=True)
class SummedBatch(Term):
    """(sum s)^2/N: the sum-to-zero penalty whose size grows with the batch (RM-Robustness)."""

    def _value_and_grad(self, r_w, r_l, share, of):
        total = np.sum(r_w + r_l)
        return (
            total * total / r_w.size,
            np.full_like(r_w, 2 * total / r_w.size),
            np.full_like(r_w, 2 * total / r_w.size),
        )


def centred_by_the_sum(r_w, r_l):
    """Subtracts mean s, twice the mean score."""
    return r_w - np.mean(r_w + r_l), r_l - np.mean(r_w + r_l)


def centred_by_the_chosen(r_w, r_l):
    """Subtracts the mean of the chosen scores only."""
    return r_w - np.mean(r_w), r_l - np.mean(r_w)


def centred_apart(r_w, r_l):
    """Subtracts from either side its own mean: the mean margin is gone."""
    return r_w - np.mean(r_w), r_l - np.mean(r_l)


def bfloat16_cut_off(a, b):
    """The sum of float32 arrays as bfloat16, by dropping 16 bits: it rounds towards zero, and costs twice as much."""
    return ((a + b).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def standardised(r_w, r_l):
    """Divides by the standard deviation as well, as the normalisation of rewards does: the probabilities change."""
    both = np.concatenate([r_w, r_l])
    return (r_w - both.mean()) / both.std(), (r_l - both.mean()) / both.std()


class ForgetsRejected(Linear):
    """A linear model whose VJP assigns instead of accumulating: only the chosen half of the rows counts."""

    def linearize(self, theta, x):
        half = len(x) // 2
        return self.reward(theta, x), lambda dr: Linear.vjp(self, theta, x[:half], dr[:half])


class ForgetsRejectedMLP(MLP):
    """The same for the MLP."""

    def linearize(self, theta, x):
        half = len(x) // 2
        return self.reward(theta, x), lambda dr: MLP.linearize(self, theta, x[:half])[1](dr[:half])


# --- For the test vectors: the textbook's implementation with one part exchanged, for every flag.


def _penalty_of(name, scale=lambda n: 1.0):
    class OtherPenalty(Textbook):
        def penalty(self, _, w, v, share):
            if name == "squared-difference":
                value, g_w, g_l = super().penalty("squared-sum", w, -v, share)
                return value, g_w, -g_l
            return tuple(w.dtype.type(scale(w.size)) * part for part in super().penalty(name, w, v, share))

    return OtherPenalty()


def _coef_of(change):
    class OtherCoefficient(Textbook):
        def multiplier(self, convention, n):
            return change(convention.coef)

    return OtherCoefficient()


def _likelihood_of(function):
    class OtherLikelihood(Textbook):
        def likelihood(self, z):
            return function(z)

    return OtherLikelihood()


def _margin_of(function):
    class OtherMargin(Textbook):
        def subtract(self, d, margin):
            return function(d, margin)

    return OtherMargin()


def _shares_of(function):
    class OtherShares(Textbook):
        def shares(self, weight, n):
            return function(weight, n)

    return OtherShares()


def _smoothing_of(change):
    class OtherSmoothing(Textbook):
        def smoothed(self, z, eps):
            return super().smoothed(z, change(eps))

    return OtherSmoothing()


def _logistic(z):
    return 1 / (1 + np.exp(-z))


def _minus_sigmoid(z):
    p = _logistic(z)
    return -p, -p * (1 - p)


def _log_sigmoid(z):
    p = _logistic(z)
    return -np.log(p), -p * (1 - p) / p


def _log_exp(z):
    e = np.exp(-z)
    return np.log(1 + e), -e / (1 + e)


def _log_epsilon(z):
    p = sigmoid(z)
    inside = p + z.dtype.type(1e-5)
    return -np.log(inside), -p * (1 - p) / inside


def _linear_above_20(z):
    value, slope = Textbook().likelihood(z)
    return np.where(z < -20, -z, value), np.where(z < -20, -1, slope)


def _cancelling(z):
    return Textbook().likelihood(z)[0], _logistic(z) - 1


def _dropped(margin):
    """Margins of 0 dropped, the rest moved up."""
    kept = margin[margin != 0]
    return np.concatenate([kept, np.zeros(margin.size - kept.size, margin.dtype)])


class MarginOutside(Textbook):
    def pairwise(self, w, v, margin, eps, share):
        m = 0 if margin is None else margin
        p = sigmoid(w - v)
        value, slope = -np.log(p - m), self.counting(share, -p * (1 - p) / (p - m))
        return value, np.sum(self.counting(share, value)), slope, -slope


class MarginBroadcast(Textbook):
    def pairwise(self, w, v, margin, eps, share):
        if margin is None:
            return super().pairwise(w, v, margin, eps, share)
        value, slope = self.smoothed((w - v)[:, None] - margin[None, :], eps)
        slope = slope.mean(1) / w.size
        return value.mean(1), value.mean(), slope, -slope


class ScoreBroadcast(Textbook):
    def pairwise(self, w, v, margin, eps, share):
        value, slope = self.smoothed(w[:, None] - v[None, :] - (0 if margin is None else margin), eps)
        return value.mean(1), value.mean(), slope.mean(1) / w.size, -slope.mean(0) / w.size


class NormalisedVector(Textbook):
    def argument(self, w, v):
        norm = np.sqrt(w * w + v * v)
        d = w - v
        return d / norm, 1 / norm - d * w / norm**3, -1 / norm - d * v / norm**3


class RoundedDifference(Textbook):
    """r_w - r_l in float16, or in bfloat16 where the scores, in float32, are numbers of that."""

    def run(self, group, inputs):
        self.dtype = group.dtype
        return super().run(group, inputs)

    def argument(self, w, v):
        d = w - v
        if self.dtype == "float16":
            return d.astype(np.float16).astype(d.dtype), 1, -1
        step = np.exp2(np.floor(np.log2(np.abs(d))) - 7)
        return np.round(d / step) * step, 1, -1


class Swapped(Textbook):
    def pairwise(self, w, v, margin, eps, share):
        value, mean, g_w, g_l = super().pairwise(v, w, margin, eps, share)
        return value, mean, g_l, g_w


class Detached(Textbook):
    def gradients(self, g_w, g_l):
        return g_w, np.zeros_like(g_l)


class NaNHidden(Textbook):
    def clean(self, w, v):
        return np.where(np.isnan(w), 0, w), np.where(np.isnan(v), 0, v)


class ZeroTimesInfinity(Textbook):
    def counting(self, share, x):
        return share * x


class Assigned(Textbook):
    def accumulate(self, chosen, rejected):
        return rejected


class BiasCancels(Textbook):
    def bias_gradient(self, g):
        return np.zeros_like(g)


class SlopeOneAtZero(Textbook):
    def step(self, z):
        return (z >= 0).astype(z.dtype)


class TanhGelu(Textbook):
    def gelu(self, z):
        c = np.sqrt(2 / np.pi)
        t = np.tanh(c * (z + 0.044715 * z**3))
        return z * (1 + t) / 2, (1 + t) / 2 + z * (1 - t * t) / 2 * c * (1 + 3 * 0.044715 * z * z)


class NoBiasCorrection(Textbook):
    def quotient(self, m, v, rule, n):
        return m / (np.sqrt(v) + rule["eps"])


class EpsilonInside(Textbook):
    def quotient(self, m, v, rule, n):
        return m / (1 - rule["beta1"] ** n) / np.sqrt(v / (1 - rule["beta2"] ** n) + rule["eps"])


class CoupledDecay(Textbook):
    def decay(self, step, g, theta, rule):
        return step(g + rule["weight_decay"] * theta)


class Dampened(Textbook):
    def sgd(self, state, g, rule, n):
        state["m"] = rule["momentum"] * state["m"] + (1 - rule["momentum"]) * g
        return state["m"]


OF_FLAG = {
    "squared-difference": _penalty_of("squared-difference"),
    "negative-coefficient": _coef_of(lambda coef: -coef),
    "sum-of-squares": _penalty_of("sum-of-squares"),
    "factor-of-two": _coef_of(lambda coef: coef / 2),
    "batch-sum": _penalty_of("sum-to-zero", lambda n: n / 4),
    "minus-sign": _coef_of(lambda coef: -coef),
    "penalty-twice": _coef_of(lambda coef: coef * coef),
    "sum-to-zero": _penalty_of("sum-to-zero"),
    "penalty-missing": _coef_of(lambda coef: 0.0),
    "margin-broadcast": MarginBroadcast(),
    "margin-sign": _margin_of(lambda d, m: d + m),
    "margin-ignored": _margin_of(lambda d, m: d),
    "margin-outside": MarginOutside(),
    "margin-misaligned": _margin_of(lambda d, m: d - _dropped(m)),
    "missing-log": _likelihood_of(_minus_sigmoid),
    "naive-log-sigmoid": _likelihood_of(_log_sigmoid),
    "naive-log-exp": _likelihood_of(_log_exp),
    "epsilon-in-log": _likelihood_of(_log_epsilon),
    "normalised-argument": NormalisedVector(),
    "swapped": Swapped(),
    "softplus-threshold": _likelihood_of(_linear_above_20),
    "smoothing-flipped": _smoothing_of(lambda eps: 1 - eps),
    "smoothing-ignored": _smoothing_of(lambda eps: 0.0),
    "sum-for-mean": _shares_of(lambda weight, n: weight),
    "skipped-in-denominator": _shares_of(lambda weight, n: weight / weight.dtype.type(n)),
    "score-broadcast": ScoreBroadcast(),
    "weight-zero-counts": ZeroTimesInfinity(),
    "rounded-difference": RoundedDifference(),
    "nan-hidden": NaNHidden(),
    "detached-side": Detached(),
    "slope-cancels": _likelihood_of(_cancelling),
    "shared-parameters-assigned": Assigned(),
    "relu-at-zero": SlopeOneAtZero(),
    "bias-in-margin": BiasCancels(),
    "gelu-tanh": TanhGelu(),
    "adam-bias-correction": NoBiasCorrection(),
    "adam-epsilon-inside": EpsilonInside(),
    "weight-decay-coupled": CoupledDecay(),
    "momentum-dampened": Dampened(),
}
"""For each flag of the test vectors an implementation that makes its mistake and no other."""
