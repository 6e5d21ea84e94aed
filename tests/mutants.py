"""Wrong losses and models, each with the mistake it makes and where it was seen; every theorem's test must reject its
own."""

from dataclasses import dataclass

import numpy as np

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
class SummedBatch(Term):
    """(sum s)^2/N: the sum-to-zero penalty whose size grows with the batch (RM-Robustness)."""

    def _value_and_grad(self, r_w, r_l, share, of):
        total = np.sum(r_w + r_l)
        return (
            total * total / r_w.size,
            np.full_like(r_w, 2 * total / r_w.size),
            np.full_like(r_w, 2 * total / r_w.size),
        )


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
