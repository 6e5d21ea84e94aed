"""What the test vectors expect, a second time and by other means: only J is written down, in mpmath, and every gradient
is a central difference of it, with a step h so small that its error, near h^2 of the derivative, is none."""

import mpmath

MP = mpmath.mp.clone()
BITS = {"scores": 2400, "models": 720}  # scores reach from 1e308 to 5e-324, features and parameters do not


def numbers(x):
    return [MP.mpf(float(v)) for v in x.ravel()]


def softplus(x):
    return MP.log1p(MP.exp(x)) if x < 0 else x + MP.log1p(MP.exp(-x))


def mean(values, weight):
    return sum(q * v for q, v in zip(weight, values, strict=True)) / sum(weight)


def losses(group, r_w, r_l, margin):
    """The pairwise loss of each pair."""
    eps = MP.mpf(group.convention.label_smoothing)
    margin = margin * (len(r_w) // len(margin))
    z = [w - v - m for w, v, m in zip(r_w, r_l, margin, strict=True)]
    return [(1 - eps) * softplus(-x) + (eps * softplus(x) if eps else 0) for x in z]


def penalty(group, r_w, r_l, weight):
    """The penalty, before its coefficient."""
    c, n = group.convention, len(r_w)
    s = [w + v for w, v in zip(r_w, r_l, strict=True)]
    value = {
        "squared-sum": lambda: mean([x**2 for x in s], weight),
        "sum-of-squares": lambda: mean([w**2 + v**2 for w, v in zip(r_w, r_l, strict=True)], weight),
        "sum-to-zero": lambda: mean(s, weight) ** 2,
    }[c.penalty]()
    return {"1": 1, "1/2": MP.mpf(1) / 2, "B/4": MP.mpf(n) / 4}[c.factor] * value


def parts(group, n, margin, weight):
    """{part: (coefficient, function of the 2n scores)}; J is their sum."""
    found = {}
    if group.term not in ("squared-sum", "sum-of-squares", "sum-to-zero"):
        found["pairwise"] = 1, lambda x: mean(losses(group, x[:n], x[n:], margin), weight)
    if group.convention.penalty:
        found["penalty"] = MP.mpf(group.convention.coef), lambda x: penalty(group, x[:n], x[n:], weight)
    return found


def gradient(f, x):
    """Central differences of f at the list x."""
    found, step = [], MP.mpf(2) ** -(MP.prec // 6)
    for i in range(len(x)):
        at = [f([v + sign * step * (j == i) for j, v in enumerate(x)]) for sign in (1, -1)]
        found.append((at[0] - at[1]) / (2 * step))
    return found


PHI = {
    "relu": lambda z: max(z, MP.mpf(0)),
    "tanh": MP.tanh,
    "softplus": softplus,
    "gelu": lambda z: z * (1 + MP.erf(z / MP.sqrt(2))) / 2,
}


def reward(model, theta, x):
    """The score of one feature vector; theta as docs/reference/vectors.md lays it out."""
    rest, widths = list(theta), [*model["hidden"], 1]
    for k, n in enumerate(widths):
        weight = [[rest.pop(0) for _ in range(n)] for _ in x]
        bias = [rest.pop(0) if k < len(widths) - 1 or model["bias"] else 0 for _ in range(n)]
        z = [sum(v * row[j] for v, row in zip(x, weight, strict=True)) + bias[j] for j in range(n)]
        x = z if k == len(widths) - 1 else [PHI[model["activation"]](v) for v in z]
    assert not rest
    return x[0]


def expected(group, inputs):
    """{quantity: numbers}, flat."""
    with MP.workprec(BITS["models" if group.model else "scores"]):
        return _expected(group, inputs)


def _expected(group, inputs):
    n = len(inputs["r_w"] if "r_w" in inputs else inputs["chosen"])
    weight = numbers(inputs["weight"]) if "weight" in inputs else [MP.mpf(1)] * n
    margin = numbers(inputs["margin"]) if "margin" in inputs else [MP.mpf(0)]
    terms = parts(group, n, margin, weight)
    if not group.model:
        r, found = numbers(inputs["r_w"]) + numbers(inputs["r_l"]), {}
        value, total = MP.mpf(0), [MP.mpf(0)] * (2 * n)
        for name, (coef, f) in terms.items():
            g = gradient(f, r)
            found |= {name: [f(r)], f"{name}_grad_w": g[:n], f"{name}_grad_l": g[n:]}
            value, total = value + coef * f(r), [a + coef * b for a, b in zip(total, g, strict=True)]
        loss = losses(group, r[:n], r[n:], margin) if "pairwise" in terms else []
        return found | {"loss": loss, "value": [value], "grad_w": total[:n], "grad_l": total[n:]}
    rows = [[numbers(x) for x in inputs[side]] for side in ("chosen", "rejected")]

    def scores(theta):
        return [[reward(group.model, theta, x) for x in side] for side in rows]

    def objective(theta):
        r_w, r_l = scores(theta)
        return sum(coef * f(r_w + r_l) for coef, f in terms.values())

    theta = numbers(inputs["theta"])
    if not group.rule:
        r_w, r_l = scores(theta)
        return {"r_w": r_w, "r_l": r_l, "value": [objective(theta)], "grad": gradient(objective, theta)}
    rule = {key: x if key == "name" else MP.mpf(x) for key, x in group.rule.items()}
    m, v, values, path = [MP.mpf(0)] * len(theta), [MP.mpf(0)] * len(theta), [], []
    for step in range(1, group.steps + 1):
        values.append(objective(theta))
        g = gradient(objective, theta)
        if rule["name"] == "sgd":
            m = move = [rule["momentum"] * a + b for a, b in zip(m, g, strict=True)]
        else:
            b_1, b_2 = rule["beta1"], rule["beta2"]
            m = [b_1 * a + (1 - b_1) * b for a, b in zip(m, g, strict=True)]
            v = [b_2 * a + (1 - b_2) * b**2 for a, b in zip(v, g, strict=True)]
            move = [
                a / (1 - b_1**step) / (MP.sqrt(b / (1 - b_2**step)) + rule["eps"]) for a, b in zip(m, v, strict=True)
            ]
        theta = [t - rule["lr"] * (a + rule["weight_decay"] * t) for t, a in zip(theta, move, strict=True)]
        path += theta
    return {"value": values, "theta": path}
