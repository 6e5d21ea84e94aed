"""Trainings with any loss of the oracle's catalogue, right or wrong: refrm's models, and the forms' gradients."""

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize as scipy_minimize

import refrm
from refrm.diagnosis import Log
from refrm.oracle.catalogue import BY_NAME
from refrm.oracle.forms import Form, evaluate
from refrm.theorems import step_bound

RIGHT = Form()


def form(mistake, variant=0):
    """Return the form that makes a mistake of the catalogue."""
    return replace(RIGHT, **BY_NAME[mistake].changes[variant])


def value_and_grad(model, form, pairs, theta, margin=None, rows=slice(None), **settings):
    """Return a form's loss over some pairs, and its gradient in theta."""
    x_w, x_l = pairs.chosen[rows], pairs.rejected[rows]
    r_w, r_l = model.reward(theta, x_w), model.reward(theta, x_l)
    out = evaluate(form, r_w, r_l, None if margin is None else margin[rows], **settings)
    return float(out.loss), model.vjp(theta, x_w, out.g_w) + model.vjp(theta, x_l, out.g_l)


def rest(pairs, form=RIGHT, margin=None, bias=True, **settings):
    """Return where the linear model comes to rest under a loss: by L-BFGS, to a gradient of 1e-9."""
    model = refrm.Linear(pairs.chosen.shape[1], bias)
    found = scipy_minimize(
        lambda theta: value_and_grad(model, form, pairs, theta, margin, **settings),
        model.init(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "gtol": 1e-9, "ftol": 0.0, "maxcor": 30},
    )
    return found.x


def newton(pairs, coef, margin=0.0, eps=0.0):
    """Return where refrm's own fit of the linear model comes to rest."""
    loss = refrm.BradleyTerry(margin=margin, label_smoothing=eps) + coef * refrm.SquaredSum()
    objective = refrm.Objective(refrm.Linear(pairs.chosen.shape[1], True), loss, pairs.chosen, pairs.rejected)
    return refrm.minimize(objective, refrm.Newton()).theta


def descend(pairs, form=RIGHT, steps=1000, every=100, batch=None, seed=0, speed=1.0, margin=None, **settings):
    """Return the parameters every so many steps of gradient descent, from zero, and the records of a trainer's log.

    The learning rate is ``speed`` times that of T7, 1/beta. A record holds means over its batch, taken before the step.
    """
    n, p = pairs.chosen.shape
    model, rng = refrm.Linear(p, True), np.random.default_rng(seed)
    theta = model.init()
    objective = refrm.Objective(model, refrm.BradleyTerry(), pairs.chosen, pairs.rejected)
    lr = speed / step_bound(objective, max(settings.get("coef", 0.0), 0.0))
    kept, records = [], []
    for step in range(steps + 1):
        rows = np.arange(n) if batch is None else rng.choice(n, batch, replace=False)
        with np.errstate(all="ignore"):
            loss, grad = value_and_grad(model, form, pairs, theta, margin, rows, **settings)
        if step % every == 0:
            kept.append((step, theta.copy()))
            r_w, r_l = model.reward(theta, pairs.chosen[rows]), model.reward(theta, pairs.rejected[rows])
            records.append((step, loss, r_w, r_l))
        theta = theta - lr * grad
    return kept, records


def scores(pairs, theta):
    """Return the scores of chosen and rejected responses."""
    model = refrm.Linear(pairs.chosen.shape[1], len(theta) > pairs.chosen.shape[1])
    return model.reward(theta, pairs.chosen), model.reward(theta, pairs.rejected)


def checkpoints(pairs, kept):
    """Return scores and steps of all pairs at all checkpoints, as `diagnose` takes them."""
    both = [scores(pairs, theta) for _, theta in kept]
    r_w, r_l = (np.concatenate(side) for side in zip(*both, strict=True))
    return {"r_w": r_w, "r_l": r_l, "step": np.repeat([float(step) for step, _ in kept], len(pairs.chosen))}


def trl_log(records):
    """Return the log that TRL's trainer would write: loss, mean, smallest and largest score, margin and accuracy."""
    step, loss, r_w, r_l = zip(*records, strict=True)
    both = [np.concatenate(sides) for sides in zip(r_w, r_l, strict=True)]
    series = {
        "loss": [x if np.isfinite(x) else np.nan for x in loss],
        "mean_score": [x.mean() for x in both],
        "min_score": [x.min() for x in both],
        "max_score": [x.max() for x in both],
        "mean_margin": [(w - v).mean() for w, v in zip(r_w, r_l, strict=True)],
        "accuracy": [(w > v).mean() for w, v in zip(r_w, r_l, strict=True)],
    }
    bad = {"loss": sum(not np.isfinite(x) for x in loss)}
    columns = {key: np.array(values, dtype=float) for key, values in series.items()}
    return Log("trainer_state.json", np.array(step, dtype=float), columns, {k: n for k, n in bad.items() if n}, "trl")
