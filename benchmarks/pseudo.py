"""The squared-sum objective in the only form in which scikit-learn can fit it."""

import numpy as np


def sklearn_augmented(chosen: np.ndarray, rejected: np.ndarray, center: float, goal: float = 1e-8) -> np.ndarray:
    """Return the minimiser of mean softplus(-d) + center*mean(s^2), its gradient's norm within ``goal``.

    scikit-learn's penalties cannot pose the squared sum; its likelihood can, by pseudo-observations. For a row a and
    small eps, softplus(eps*a.t) + softplus(-eps*a.t) = 2 log 2 + eps^2 (a.t)^2/4 - eps^4 (a.t)^4/96. The rows a are
    those of sqrt(center/N)*R, R the triangular factor of S, so that sum (a.t)^2 = center*mean(s^2); each enters with
    both labels and weight 4*N/eps^2, where a difference has weight 1. Relative to the penalty the error is below
    (eps*a.t)^2/24. Half of the differences change sign with their label, because there must be two classes.
    """
    from sklearn.linear_model import LogisticRegression

    (n, p), eps = chosen.shape, 1e-3
    sign = np.where(np.arange(n) % 2, -1.0, 1.0)
    rows = [(chosen - rejected) * sign[:, None]]
    labels, weights = [sign > 0], [np.ones(n)]
    if center:
        factor = np.sqrt(center / n) * np.linalg.qr(chosen + rejected, mode="r")
        k = len(factor)
        rows += [eps * factor, eps * factor]
        labels += [np.ones(k, bool), np.zeros(k, bool)]
        weights += [np.full(2 * k, 4 * n / eps**2)]
    weight = np.concatenate(weights)
    # its gradient is that of the mean over all weights
    tol = goal / np.sqrt(p) * n / weight.sum() / 10
    solver = "newton-cholesky" if center else "lbfgs"  # of what nothing holds, the Hessian may be singular
    model = LogisticRegression(C=np.inf, fit_intercept=False, solver=solver, tol=tol, max_iter=100)
    return model.fit(np.concatenate(rows), np.concatenate(labels), weight).coef_[0]
