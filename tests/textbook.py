"""A right implementation of all that the test vectors hold, as a textbook has it: plain NumPy, in the dtype of the
scores, independent of refrm. The wrong ones in `mutants` are this with one part exchanged."""

from itertools import pairwise

import numpy as np
from scipy.special import erf

PENALTIES = ("squared-sum", "sum-of-squares", "sum-to-zero")


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


class Textbook:
    """``run`` gives every quantity of a vector; the other methods are the parts."""

    def run(self, group, inputs):
        x = dict(inputs)
        if "widened" in group.requires and x["r_w"].dtype == np.float16:
            x = {name: values.astype(np.float32) for name, values in x.items()}
        with np.errstate(all="ignore"):
            if group.rule:
                return self.training(group, x)
            if group.model:
                return self.model(group, x, x["theta"])
            return self.scores(group, x["r_w"], x["r_l"], x.get("margin"), x.get("weight"))

    # --- losses

    def argument(self, w, v):
        """d and its derivatives in r_w and r_l."""
        return w - v, 1, -1

    def subtract(self, d, margin):
        return d - margin

    def likelihood(self, z):
        """Loss and slope in z."""
        return np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z))), -sigmoid(-z)

    def smoothed(self, z, eps):
        value, slope = self.likelihood(z)
        if not eps:
            return value, slope
        other, other_slope = self.likelihood(-z)
        return (1 - eps) * value + eps * other, (1 - eps) * slope - eps * other_slope

    def pairwise(self, w, v, margin, eps, share):
        """Loss of each pair, their mean, and its gradients."""
        d, by_w, by_v = self.argument(w, v)
        value, slope = self.smoothed(d if margin is None else self.subtract(d, margin), eps)
        slope = self.counting(share, slope)
        return value, np.sum(self.counting(share, value)), by_w * slope, by_v * slope

    def counting(self, share, x):
        return np.where(share > 0, share * x, 0)

    def shares(self, weight, n):
        return weight / np.sum(weight)

    def penalty(self, name, w, v, share):
        """The penalty before coefficient and factor, and its gradients."""
        if name == "sum-of-squares":
            value = w * w + v * v
            return np.sum(self.counting(share, value)), self.counting(share, 2 * w), self.counting(share, 2 * v)
        s = w + v
        if name == "sum-to-zero":
            mean = np.sum(self.counting(share, s))
            return mean * mean, 2 * mean * share, 2 * mean * share
        return np.sum(self.counting(share, s * s)), self.counting(share, 2 * s), self.counting(share, 2 * s)

    def multiplier(self, convention, n):
        return convention.coef

    def clean(self, w, v):
        return w, v

    def gradients(self, g_w, g_l):
        return g_w, g_l

    def scores(self, group, r_w, r_l, margin=None, weight=None):
        kind, n, c = r_w.dtype.type, r_w.size, group.convention
        share = self.shares(np.ones(n, kind) if weight is None else weight, n)
        w, v = self.clean(r_w, r_l)
        out, value, g_w, g_l = {}, kind(0), np.zeros(n, kind), np.zeros(n, kind)
        if group.term not in PENALTIES:
            loss, value, g_w, g_l = self.pairwise(w, v, margin, kind(c.label_smoothing), share)
            out = {"loss": loss, "pairwise": value, "pairwise_grad_w": g_w, "pairwise_grad_l": g_l}
        if c.penalty:
            factor = kind({"1": 1, "1/2": 0.5, "B/4": n / 4}[c.factor])
            p, p_w, p_l = (factor * part for part in self.penalty(c.penalty, w, v, share))
            out |= {"penalty": p, "penalty_grad_w": p_w, "penalty_grad_l": p_l}
            coef = kind(self.multiplier(c, n))
            value, g_w, g_l = value + coef * p, g_w + coef * p_w, g_l + coef * p_l
        g_w, g_l = self.gradients(g_w, g_l)
        return out | {"value": value, "grad_w": g_w, "grad_l": g_l}

    # --- models

    def activation(self, name, z):
        if name == "relu":
            return np.maximum(z, 0), self.step(z)
        if name == "tanh":
            return np.tanh(z), 1 - np.tanh(z) ** 2
        if name == "softplus":
            return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), sigmoid(z)
        return self.gelu(z)

    def step(self, z):
        return (z > 0).astype(z.dtype)

    def gelu(self, z):
        cdf = (1 + erf(z / np.sqrt(2))) / 2
        return z * cdf, cdf + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    def accumulate(self, chosen, rejected):
        return chosen + rejected

    def bias_gradient(self, g):
        return g

    def layers(self, model, theta):
        widths, position, out = [model["n_features"], *model["hidden"], 1], 0, []
        for k, (m, n) in enumerate(pairwise(widths)):
            weight = theta[position : position + m * n].reshape(m, n)
            size = n if k < len(widths) - 2 or model["bias"] else 0
            out.append((weight, theta[position + m * n : position + m * n + size]))
            position += m * n + size
        return out

    def forward(self, model, theta, x):
        trace, layers = [], self.layers(model, theta)
        for k, (weight, bias) in enumerate(layers):
            slope = 1 if k == 0 else slope  # noqa: F821
            trace.append((x, slope))
            z = x @ weight + (bias if bias.size else 0)
            if k < len(layers) - 1:
                x, slope = self.activation(model["activation"], z)
        return z[:, 0], trace

    def backward(self, model, theta, trace, dr):
        bar, parts = dr[:, None], []
        for k, (weight, bias) in reversed(list(enumerate(self.layers(model, theta)))):
            x, slope = trace[k]
            head = [self.bias_gradient(bar.sum(0))] if k == len(trace) - 1 else [bar.sum(0)]
            parts = [(x.T @ bar).ravel(), *(head if bias.size else []), *parts]
            bar = (bar @ weight.T) * slope
        return np.concatenate(parts)

    def model(self, group, x, theta):
        model = group.model
        r_w, trace_w = self.forward(model, theta, x["chosen"])
        r_l, trace_l = self.forward(model, theta, x["rejected"])
        at = self.scores(group, r_w, r_l, x.get("margin"), x.get("weight"))
        chosen = self.backward(model, theta, trace_w, at["grad_w"])
        rejected = self.backward(model, theta, trace_l, at["grad_l"])
        return {"r_w": r_w, "r_l": r_l, "value": at["value"], "grad": self.accumulate(chosen, rejected)}

    # --- trainings

    def sgd(self, state, g, rule, n):
        state["m"] = rule["momentum"] * state["m"] + g
        return state["m"]

    def adam(self, state, g, rule, n):
        state["m"] = rule["beta1"] * state["m"] + (1 - rule["beta1"]) * g
        state["v"] = rule["beta2"] * state["v"] + (1 - rule["beta2"]) * g * g
        return self.quotient(state["m"], state["v"], rule, n)

    def quotient(self, m, v, rule, n):
        return m / (1 - rule["beta1"] ** n) / (np.sqrt(v / (1 - rule["beta2"] ** n)) + rule["eps"])

    def decay(self, step, g, theta, rule):
        """The move of one step, and decoupled weight decay."""
        return step(g) + rule["weight_decay"] * theta

    def training(self, group, x):
        theta, rule = x["theta"], group.rule
        state = {"m": np.zeros_like(theta), "v": np.zeros_like(theta)}
        values, path = [], []
        for n in range(1, group.steps + 1):
            at = self.model(group, x, theta)
            values.append(at["value"])
            move = self.decay(lambda g, n=n: getattr(self, rule["name"])(state, g, rule, n), at["grad"], theta, rule)
            theta = (theta - rule["lr"] * move).astype(theta.dtype)
            path.append(theta)
        return {"value": np.array(values), "theta": np.array(path)}
