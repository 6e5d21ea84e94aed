"""The linear model fitted from zero to a gradient norm of 1e-8, from the arrays to the parameters.

In float64 only: rounding theta to float32 alone leaves a gradient far above 1e-8. Preparation, such as differences or
S'S, is part of the time of everyone. A peer that takes more than `PATIENCE` times as long as refrm is stopped and
reported as slower than that.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import limits
import numpy as np
import peers
from linear import QUICK, SHAPES
from pseudo import sklearn_augmented
from timing import OURS, Bar, Case, Run, build

GOAL = 1e-8
PATIENCE, AT_LEAST = 4.0, 5.0
Solver = Callable[..., np.ndarray]


class Watch:
    """What the function being minimised looks after: the deadline, which ends the solver by `TimeoutError`."""

    deadline = float("inf")

    def start(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError


class Reached(Exception):
    """The gradient's norm is within the goal: peers' own tests are of other norms, and would let them go on."""

    def __init__(self, theta: np.ndarray) -> None:
        self.theta = theta


def until_reached(watch: Watch, data: tuple[np.ndarray, np.ndarray, float], **settings: Any) -> np.ndarray:
    """Return where `scipy.optimize.minimize` is when the gradient is within the goal, or else where it ends."""
    from scipy.optimize import minimize

    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        watch.check()
        value, grad = peers.numpy_linear(theta, *data)
        if np.linalg.norm(grad) <= GOAL:
            raise Reached(theta.copy())
        return value, grad

    try:
        return minimize(both, np.zeros(data[0].shape[1]), jac=True, **settings).x
    except Reached as reached:
        return reached.theta


def ours(watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> np.ndarray:
    """refrm's solver for many features, recording only the first and the last step."""
    import refrm

    objective = refrm.Objective(refrm.Linear(chosen.shape[1]), peers.ours(smoothing), chosen, rejected)
    return refrm.minimize(objective, refrm.LBFGS(tol=GOAL), record_every=10**9).theta


def scipy_lbfgs(watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> np.ndarray:
    options = {"gtol": 0, "ftol": 0, "maxiter": 10**5, "maxfun": 10**6, "maxcor": 20}
    return until_reached(watch, (chosen, rejected, smoothing), method="L-BFGS-B", options=options)


def scipy_trust_ncg(watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> np.ndarray:
    n, at = len(chosen), {"theta": np.array(np.nan), "h": np.array(np.nan)}

    def product(theta: np.ndarray, t: np.ndarray) -> np.ndarray:
        watch.check()
        if not np.array_equal(at["theta"], theta):
            at.update(theta=theta.copy(), h=peers.numpy_curvature(chosen @ theta, rejected @ theta) / n)
        t_w, t_l = chosen @ t, rejected @ t
        on_d, on_s = at["h"] * (t_w - t_l), 2 * peers.CENTER / n * (t_w + t_l)
        return chosen.T @ (on_s + on_d) + rejected.T @ (on_s - on_d)

    options = {"gtol": GOAL, "maxiter": 1000}
    return until_reached(watch, (chosen, rejected, smoothing), hessp=product, method="trust-ncg", options=options)


def numpy_newton(watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> np.ndarray:
    """Newton's method with halved steps, by one who saw that S enters by S'S alone."""
    from scipy.linalg import solve

    n, p = chosen.shape
    d, s = chosen - rejected, chosen + rejected
    penalty = 2 * peers.CENTER / n * (s.T @ s)

    def objective(theta: np.ndarray, z: np.ndarray) -> float:
        losses = np.log1p(np.exp(-np.abs(z))) - np.minimum(z, 0) + smoothing * z
        return float(losses.mean() + theta @ penalty @ theta / 2)

    theta, z = np.zeros(p), np.zeros(n)
    value = objective(theta, z)
    for _ in range(100):
        watch.check()
        e = np.exp(-np.abs(z))
        slope = smoothing - np.where(z >= 0, e, 1) / (1 + e)
        grad = d.T @ slope / n + penalty @ theta
        if np.linalg.norm(grad) <= GOAL:
            break
        hessian = penalty + (d * (e / (1 + e) ** 2 / n)[:, None]).T @ d
        step = -solve(hessian, grad, assume_a="pos")
        z_step, t = d @ step, 1.0
        while (new := objective(theta + t * step, z + t * z_step)) > value + 1e-4 * t * (grad @ step) + 1e-15:
            t /= 2
        theta, z, value = theta + t * step, z + t * z_step, new
    return theta


def torch_lbfgs(
    watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float, threads: int = 1
) -> np.ndarray:
    torch = peers.get_torch(threads)
    x_w, x_l = torch.from_numpy(chosen), torch.from_numpy(rejected)
    p = chosen.shape[1]
    theta = torch.zeros(p, dtype=torch.float64, requires_grad=True)
    settings = {"max_iter": 10**5, "max_eval": 10**6, "history_size": 20, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([theta], tolerance_grad=0, tolerance_change=0, **settings)

    def closure() -> Any:
        watch.check()
        optimiser.zero_grad()
        value = peers.torch_loss(x_w @ theta, x_l @ theta, smoothing)
        value.backward()
        if theta.grad.norm() <= GOAL:  # its own test is of the largest component, and between line searches
            raise StopIteration
        return value

    with contextlib.suppress(StopIteration):
        optimiser.step(closure)
    return theta.detach().numpy()


def sklearn_newton(watch: Watch, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> np.ndarray:
    n, p = chosen.shape
    if smoothing:
        raise NotImplementedError("label smoothing would double its rows, and its Hessian is singular for p > N")
    if p > n:
        raise NotImplementedError("takes minutes where p > N, and nothing stops it")
    return sklearn_augmented(chosen, rejected, peers.CENTER)


def gradient(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> tuple[float, float]:
    """Return the objective and the gradient's norm, in float64, by NumPy."""
    value, grad = peers.numpy_linear(theta, chosen, rejected, smoothing)
    return value, float(np.linalg.norm(grad))


def check(results: dict[str, np.ndarray], chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> dict[str, str]:
    """Return who did not reach the optimum, and why; J is convex, so that two points with gradients within `GOAL`
    differ in J by at most ``GOAL*|difference of theta|``, and by what N additions may cost.
    """
    value, norm = gradient(results[OURS], chosen, rejected, smoothing)
    assert norm <= GOAL, f"refrm ended at gradient norm {norm:g}"
    wrong = {}
    for name, theta in results.items():
        other, norm = gradient(theta, chosen, rejected, smoothing)
        apart = GOAL * float(np.linalg.norm(theta - results[OURS]))
        if norm > GOAL:
            wrong[name] = f"ended at gradient norm {norm:.2g}"
        elif abs(other - value) > apart + len(chosen) * np.finfo(float).eps * value:
            wrong[name] = f"ended at another objective, {other!r} for {value!r}"
    return wrong


def condition(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Return the condition number of the Hessian at the optimum, on the space that the pairs span."""
    from scipy.linalg import eigvalsh

    n, p = chosen.shape
    h = peers.numpy_curvature(chosen @ theta, rejected @ theta) / n
    d, s = chosen - rejected, chosen + rejected
    eigenvalues = eigvalsh(d.T @ (h[:, None] * d) + 2 * peers.CENTER / n * (s.T @ s))
    seen = eigenvalues[eigenvalues > p * np.finfo(float).eps * eigenvalues[-1]]
    return float(seen[-1] / seen[0])


def contend(solvers: dict[str, Solver], chosen: np.ndarray, rejected: np.ndarray, smoothing: float) -> Case:
    """Return the case of one set of pairs, after one checked run of each solver."""
    watch = Watch()
    slower: dict[str, float] = {}
    known: dict[str, float] = {}
    ours_takes = 0.0

    def start(name: str, solver: Solver) -> Run:
        nonlocal ours_takes

        def run() -> np.ndarray:
            return solver(watch, chosen, rejected, smoothing)

        if name == OURS:
            run()  # compiles, or loads what was compiled
            begin = time.monotonic()
            run()
            ours_takes = known[name] = time.monotonic() - begin
            return run
        limit = max(AT_LEAST, PATIENCE * ours_takes)

        def first() -> np.ndarray:
            watch.start(limit)
            begin = time.monotonic()
            try:
                result = run()
                known[name] = time.monotonic() - begin
                return result
            except TimeoutError:
                slower[name] = limit
                raise
            finally:
                watch.start(float("inf"))

        first.rest = run  # type: ignore[attr-defined]
        return first

    makers = {name: (lambda name=name, solver=solver: start(name, solver)) for name, solver in solvers.items()}
    runs, results, left_out = build(makers)
    runs = {name: getattr(run, "rest", run) for name, run in runs.items()}
    wrong = check(results, chosen, rejected, smoothing)
    left_out = {**{name: why for name, why in left_out.items() if name not in slower}, **wrong}
    kept = {name: run for name, run in runs.items() if name not in wrong}
    notes = [f"|theta| = {np.linalg.norm(results[OURS]):.3g}"]
    if chosen.shape[1] <= 1024:  # beyond, it takes longer than the fits
        notes.insert(0, f"condition of the Hessian {condition(results[OURS], chosen, rejected):.2g}")
    return Case(
        "", kept, bars=[Bar("", 3.0)], left_out=left_out, slower=slower, known=known, notes=notes, least_rounds=3
    )


def correlated(n: int, p: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs whose features are correlated as embeddings' are: the variances of their principal components fall
    like 1/k, in axes turned by reflections; the chosen one is drawn by a true reward of size 2.
    """
    rng = np.random.default_rng(seed)
    root = np.arange(1.0, p + 1) ** -0.5
    features = rng.standard_normal((2, n, p)) * (root / np.sqrt(np.mean(root**2)))
    reward = rng.standard_normal(p) * 2 / np.sqrt(2 * p)
    first = rng.random(n) < 1 / (1 + np.exp((features[1] - features[0]) @ reward))
    for _ in range(3):
        axis = rng.standard_normal(p)
        features -= np.multiply.outer(features @ axis, 2 * axis / (axis @ axis))
    chosen = np.where(first[:, None], features[0], features[1])
    return chosen, np.where(first[:, None], features[1], features[0])


def cases(threads: int, quick: bool) -> Iterator[Case]:
    solvers: dict[str, Solver] = {
        OURS: ours,
        "SciPy L-BFGS-B": scipy_lbfgs,
        "SciPy trust-ncg": scipy_trust_ncg,
        "NumPy Newton": numpy_newton,
        "PyTorch LBFGS": lambda *data: torch_lbfgs(*data, threads=threads),
        "scikit-learn": sklearn_newton,
    }
    for n, p in QUICK if quick else SHAPES:
        chosen, rejected = correlated(n, p)
        case = contend(solvers, chosen, rejected, 0.0)
        case.name = f"{n} x {p}"
        case.limits = limits.read(chosen, rejected, threads)
        case.left_out["choix"] = "has one parameter per item and no features; see the row of items"
        yield case
    yield items(20 if quick else 50, 500 if quick else 5000)


def items(n_items: int, games: int) -> Case:
    """Bradley-Terry abilities of items, lambda = 0: the one problem of this kind that choix can pose.

    J does not change when all abilities rise together; from zero every solver ends where they add up to 0, or is moved
    there.
    """
    rng = np.random.default_rng(0)
    one, other = rng.integers(n_items, size=games), rng.integers(1, n_items, size=games)
    other = (one + other) % n_items
    ability = rng.standard_normal(n_items)
    wins = rng.random(games) < 1 / (1 + np.exp(ability[other] - ability[one]))
    won, lost = np.where(wins, one, other), np.where(wins, other, one)
    chosen, rejected = np.eye(n_items)[won], np.eye(n_items)[lost]
    data = list(zip(won.tolist(), lost.tolist(), strict=True))

    def refrm_fit() -> np.ndarray:
        import refrm

        objective = refrm.Objective(refrm.Linear(n_items), refrm.BradleyTerry(), chosen, rejected)
        return refrm.minimize(objective, refrm.LBFGS(tol=GOAL), record_every=10**9).theta

    def choix_fit(method: str) -> Run:
        import choix

        if method == "ilsr":
            return lambda: choix.ilsr_pairwise(n_items, data, alpha=0, tol=1e-8, max_iter=1000)
        return lambda: choix.opt_pairwise(n_items, data, alpha=0, method=method, tol=1e-10)

    runs, results, left_out = build(
        {
            OURS: lambda: refrm_fit,
            "choix Newton-CG": lambda: choix_fit("Newton-CG"),
            "choix I-LSR": lambda: choix_fit("ilsr"),
            "scikit-learn": lambda: lambda: sklearn_augmented(chosen, rejected, 0.0),
        }
    )
    for name, theta in list(results.items()):
        z = (chosen - rejected) @ theta
        norm = np.linalg.norm((chosen - rejected).T @ (-1 / (1 + np.exp(z)))) / games
        if norm > GOAL:
            assert name != OURS, f"refrm ended at gradient norm {norm:g}"
            left_out[name] = f"ended at gradient norm {norm:.2g}"
            del runs[name]
    name = f"{n_items} items, {games} games, lambda = 0"
    return Case(name, runs, bars=[Bar("", 3.0)], left_out=left_out, least_rounds=5)
