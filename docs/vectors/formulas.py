"""The formulas of the test vectors over an arithmetic ``a`` of `balls`: losses, penalties, models, trainings.

Written from docs/reference/conventions.md and docs/theorems/, not from refrm's code, which the vectors are to judge.
"""

from flint import arb

ONE, HALF = arb(1), arb(1) / 2


def softplus(a, x):
    """Return log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return a.add(x.max(arb(0)), a.log1p(a.exp(-abs(x))))


def sigmoid(a, x):
    """Return 1/(1 + exp(-x)), by exp(-|x|)."""
    e = a.exp(-abs(x) if x > 0 or x < 0 else -x)
    return a.div(e if x < 0 else ONE, a.add(ONE, e))


def pairwise(a, r_w, r_l, margin, eps):
    """Return loss and slope in r_w of one pair; z = (r_w - r_l) - margin. Infinite scores follow the limits."""
    z = a.sub(r_w, r_l)
    if margin is not None:
        z = a.sub(z, margin)
    if z.is_nan():
        return arb.nan(), arb.nan()
    if not z.is_finite():
        wins = z > 0
        lost = arb.pos_inf() if eps > 0 or not wins else arb(0)
        return lost, eps if wins else eps - 1
    if eps == 0:
        return softplus(a, -z), -sigmoid(a, -z)
    right, flipped = 1 - eps, eps
    value = a.add(a.mul(right, softplus(a, -z)), a.mul(flipped, softplus(a, z)))
    return value, a.add(a.mul(-right, sigmoid(a, -z)), a.mul(flipped, sigmoid(a, z)))


FACTORS = {"1": lambda n: arb(1), "1/2": lambda n: HALF, "B/4": lambda n: arb(n) / 4}


def scores(a, c, r_w, r_l):
    """Return {quantity: [ball]} of the case ``c`` at the scores: value, gradients, and their parts before ``coef``.

    ``c`` has margin and weight (lists or None), eps, coef, penalty (or None), factor, pairwise (whether it counts).
    """
    n, out = len(r_w), {}
    weight = c.weight or [ONE] * n
    counted = [i for i in range(n) if weight[i] > 0]
    total = a.sum([weight[i] for i in counted])

    def mean(x):
        return a.div(a.sum([a.mul(weight[i], x[i]) for i in counted]), total)

    def shares(x):
        return [a.div(a.mul(weight[i], x[i]), total) if i in counted else arb(0) for i in range(n)]

    parts = {}
    if c.pairwise:
        margin = [None] * n if c.margin is None else c.margin * (n if len(c.margin) == 1 else 1)
        pairs = [pairwise(a, *item, c.eps) for item in zip(r_w, r_l, margin, strict=True)]
        slope = shares([pair[1] for pair in pairs])
        if c.weight is None:
            out["loss"] = [pair[0] for pair in pairs]
        parts["pairwise"] = mean([pair[0] for pair in pairs]), slope, [-g for g in slope]
    if c.penalty:
        factor = FACTORS[c.factor](n)
        parts["penalty"] = tuple(
            [a.mul(factor, x) for x in part] if isinstance(part, list) else a.mul(factor, part)
            for part in PENALTIES[c.penalty](a, r_w, r_l, mean, shares)
        )
    if len(parts) == 1:
        coef = c.coef if c.penalty else ONE
        value, g_w, g_l = next(iter(parts.values()))
        total_of = (a.mul(coef, value), [a.mul(coef, g) for g in g_w], [a.mul(coef, g) for g in g_l])
    else:
        (v, v_w, v_l), (p, p_w, p_l) = parts["pairwise"], parts["penalty"]
        total_of = (
            a.add(v, a.mul(c.coef, p)),
            [a.add(x, a.mul(c.coef, y)) for x, y in zip(v_w, p_w, strict=True)],
            [a.add(x, a.mul(c.coef, y)) for x, y in zip(v_l, p_l, strict=True)],
        )
        out |= {"pairwise": [v], "pairwise_grad_w": v_w, "pairwise_grad_l": v_l}
        out |= {"penalty": [p], "penalty_grad_w": p_w, "penalty_grad_l": p_l}
    return out | {"value": [total_of[0]], "grad_w": total_of[1], "grad_l": total_of[2]}


def _squared_sum(a, r_w, r_l, mean, shares):
    s = [a.add(*pair) for pair in zip(r_w, r_l, strict=True)]
    g = shares([2 * x for x in s])
    return mean([a.mul(x, x) for x in s]), g, g


def _sum_of_squares(a, r_w, r_l, mean, shares):
    values = [a.add(a.mul(w, w), a.mul(v, v)) for w, v in zip(r_w, r_l, strict=True)]
    return mean(values), shares([2 * w for w in r_w]), shares([2 * v for v in r_l])


def _sum_to_zero(a, r_w, r_l, mean, shares):
    middle = a.add(mean(r_w), mean(r_l))  # no cancellation before the last step: its errors cover every order
    g = shares([2 * middle] * len(r_w))
    return a.mul(middle, middle), g, g


PENALTIES = {"squared-sum": _squared_sum, "sum-of-squares": _sum_of_squares, "sum-to-zero": _sum_to_zero}


def activation(a, name, z):
    """Return phi(z) and phi'(z); the derivative of relu at 0 is 0."""
    if name == "relu":
        if not (z > 0 or z <= 0):
            raise ArithmeticError("the sign of a pre-activation is not certain")
        return (z, ONE) if z > 0 else (arb(0), arb(0))
    if name == "tanh":
        y = a.tanh(z)
        return y, a.sub(ONE, a.mul(y, y))
    if name == "softplus":
        return softplus(a, z), sigmoid(a, z)
    cdf = a.mul(HALF, a.add(ONE, a.erf(a.mul(z, a.round(HALF.sqrt())))))
    density = a.mul(a.exp(a.mul(a.mul(z, z), -HALF)), a.round((2 * arb.pi()).rsqrt()))
    return a.mul(z, cdf), a.add(cdf, a.mul(z, density))


class Model:
    """Linear (no hidden layer) or MLP; theta is flat: for each layer the weights (fan_in x fan_out, C order), then
    its biases, the head last; the head has a bias only if ``bias``.
    """

    def __init__(self, n_features, hidden, activation, bias):
        self.widths, self.activation, self.bias = (n_features, *hidden, 1), activation, bias

    def layers(self, theta):
        """Yield (fan_in, fan_out, position of the weights, of the biases or None)."""
        position, last = 0, len(self.widths) - 2
        for k in range(last + 1):
            m, n = self.widths[k : k + 2]
            biased = k < last or self.bias
            yield m, n, position, position + m * n if biased else None
            position += m * n + (n if biased else 0)
        assert position == len(theta)

    def forward(self, a, theta, x):
        """Return the score of the features ``x`` and for each layer its input and phi' there."""
        trace, values, slopes = [], x, [ONE] * len(x)
        for k, (m, n, at, bias_at) in enumerate(self.layers(theta)):
            trace.append((values, slopes))
            bias = [] if bias_at is None else theta[bias_at : bias_at + n]
            z = [a.sum([a.mul(values[i], theta[at + i * n + j]) for i in range(m)] + bias[j : j + 1]) for j in range(n)]
            if k == len(self.widths) - 2:
                return z[0], trace
            values, slopes = map(list, zip(*(activation(a, self.activation, x) for x in z), strict=True))
        raise AssertionError

    def backward(self, a, theta, trace, dr):
        """Return the gradient of dr*r in theta."""
        grad, bar = [arb(0)] * len(theta), [dr]
        for (m, n, at, bias_at), (values, slopes) in reversed(list(zip(self.layers(theta), trace, strict=True))):
            for j in range(n):
                for i in range(m):
                    grad[at + i * n + j] = a.mul(values[i], bar[j])
                if bias_at is not None:
                    grad[bias_at + j] = bar[j]
            bar = [a.mul(slopes[i], a.sum([a.mul(theta[at + i * n + j], bar[j]) for j in range(n)])) for i in range(m)]
        return grad


def model(a, c, theta):
    """Return {quantity: [ball]} of the case ``c`` at theta: scores, value, grad; chosen and rejected share theta, so
    that the gradients of both add.
    """
    passes = [[c.model.forward(a, theta, x) for x in rows] for rows in (c.chosen, c.rejected)]
    r_w, r_l = ([r for r, _ in side] for side in passes)
    at = scores(a, c, r_w, r_l)
    terms = [
        c.model.backward(a, theta, trace, dr)
        for side, g in zip(passes, (at["grad_w"], at["grad_l"]), strict=True)
        for (_, trace), dr in zip(side, g, strict=True)
    ]
    grad = [a.sum(list(column)) for column in zip(*terms, strict=True)]
    return {"r_w": r_w, "r_l": r_l, "value": at["value"], "grad": grad}


def training(a, c):
    """Return {"value": J before each step, "theta": the parameters after each step, one after the other}.

    SGD: v <- momentum*v + g, theta <- theta - lr*(v + decay*theta). Adam: m, v moving averages of g and g^2, both
    divided by 1 - beta^n at step n, theta <- theta - lr*(m/(sqrt(v) + eps) + decay*theta).
    """
    rule, theta = c.rule, list(c.theta)
    first, second = [arb(0)] * len(theta), [arb(0)] * len(theta)
    values, path, power_1, power_2 = [], [], ONE, ONE
    for _ in range(c.steps):
        at = model(a, c, theta)
        values += at["value"]
        if rule["name"] == "sgd":
            first = [a.add(a.mul(rule["momentum"], m), g) for m, g in zip(first, at["grad"], strict=True)]
            moves = first
        else:
            b_1, b_2 = rule["beta1"], rule["beta2"]
            rest_1, rest_2 = a.sub(ONE, b_1), a.sub(ONE, b_2)
            power_1, power_2 = a.mul(power_1, b_1), a.mul(power_2, b_2)
            first = [a.add(a.mul(b_1, m), a.mul(rest_1, g)) for m, g in zip(first, at["grad"], strict=True)]
            second = [a.add(a.mul(b_2, v), a.mul(rest_2, a.mul(g, g))) for v, g in zip(second, at["grad"], strict=True)]
            moves = [
                a.div(
                    a.div(m, a.sub(ONE, power_1)),
                    a.add(a.sqrt(a.div(v, a.sub(ONE, power_2))), rule["eps"]),
                )
                for m, v in zip(first, second, strict=True)
            ]
        theta = [
            a.sub(t, a.mul(rule["lr"], a.add(move, a.mul(rule["weight_decay"], t))))
            for t, move in zip(theta, moves, strict=True)
        ]
        path += theta
    return {"value": values, "theta": path}
