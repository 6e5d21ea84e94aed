"""The methods of `refrm.minimize`: Newton and L-BFGS (SciPy) for the whole sum, SGD and Adam (jitted) in minibatches.

A solver is a frozen set of settings with one method, ``advance``, which moves a `State` on to the next point at which
it can be stopped, recorded or saved, and sets ``state.stop`` when it is done.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from refrm import spec
from refrm.checks import check_integer, check_number
from refrm.errors import InputError
from refrm.geometry import Conditioner, conditioner, visible
from refrm.linear import Linear
from refrm.losses import BradleyTerry, functions
from refrm.mlp import ACTIVATIONS, MLP
from refrm.objective import Objective, Point
from refrm.spec import Array

RESTART = 100
"""L-BFGS forgets its memory every so many iterations, checkpoint or not: that is where a checkpoint can resume it."""


@dataclass
class State:
    """What a solver carries from step to step; a checkpoint holds exactly this and the history."""

    theta: Array
    first: Array  # momentum, Adam's first moment, Newton's coordinates, or L-BFGS's point in float64
    second: Array  # Adam's second moment, or what Newton leaves alone
    step: int = 0
    stop: str = ""
    undetermined: int | None = None


class Monitor(Protocol):
    """What a solver may ask of the run that it is part of."""

    seed: int

    found: tuple[int, Point | None]

    def point(self, state: State) -> Point: ...
    def memo(self, key: str, make: Callable[[], Any]) -> Any: ...
    def separable(self) -> bool: ...
    def until_due(self, step: int) -> int: ...
    def observe(self, state: State) -> None: ...


@dataclass(frozen=True)
class Newton:
    """Newton's method with backtracking, for the linear model; from zero it finds the minimiser of least norm.

    It works in float64, and in coordinates in which the pairs are orthonormal (`refrm.geometry.frame`), so that the
    scale of a feature does not matter; directions that neither the differences nor a penalty can see stay as they
    began. It has converged when the Newton decrement, the distance to the minimiser in the norm of the Hessian, is at
    most ``tol*sqrt(J)``; a ``tol`` below 64 eps counts as 64 eps.
    """

    tol: float = 1e-10
    max_iter: int = 500

    def advance(self, objective: Objective, state: State, run: Monitor) -> None:
        """Take one iteration."""
        if not isinstance(objective.model, Linear):
            raise InputError(
                f"Newton is for the linear model, got {type(objective.model).__name__}; use LBFGS, SGD or Adam"
            )
        basis, coordinates = run.memo("frame", lambda: visible(objective))
        state.undetermined = objective.model.n_params - basis.shape[1]
        if not basis.size:
            state.stop = "converged"  # J is constant
            return
        seen = run.memo("seen", lambda: reduced(objective, basis))
        if state.step == 0:
            state.first = coordinates @ state.theta
            state.second = state.theta - basis @ state.first
        u = state.first
        (value, grad), hessian = seen.value_and_grad(u), seen.hessian(u)
        if not math.isfinite(value + hessian.sum()):
            state.stop = "diverged"
            return
        step, decrement = newton_step(hessian, grad)
        flat = decrement > 2 * value
        if flat:  # more than there is to gain, J being >= 0: far out, where J is flat
            largest = 0.25 * sum(coef for coef, term in objective.loss.terms if isinstance(term, BradleyTerry))
            damping = largest * objective.share.max()  # bounds its curvature anywhere
            step, decrement = newton_step(hessian + damping * np.eye(len(u)), grad)
        near = decrement <= max(self.tol, 64 * np.finfo(np.float64).eps) ** 2 * value  # its rounding is a few eps^2
        if near:
            state.stop = "converged" if (not flat and settled(seen, step)) or not run.separable() else "separable"
        elif state.step >= self.max_iter:
            state.stop = "separable" if run.separable() else "max_iter"
        elif state.step % 10 == 9 and run.separable():
            state.stop = "separable"
        t = 1.0
        while not state.stop and seen.value(u + t * step) > value - 1e-4 * t * decrement:
            if t * decrement <= 4 * np.finfo(np.float64).eps * value:
                state.stop = "converged"  # what is left to gain is below the rounding of J
            t /= 2
        while not state.stop and flat and seen.value(u + 2 * t * step) < seen.value(u + t * step):
            t *= 2  # there the bound of the curvature is far above the curvature
        # The last step costs nothing more, and squares what is left of the error.
        if not state.stop or (state.stop == "converged" and near and decrement > 0):
            state.first = u + t * step
            state.theta = (state.second + basis @ state.first).astype(state.theta.dtype)
            state.step += 1


def newton_step(hessian: Array, grad: Array) -> tuple[Array, float]:
    """Return the Newton step and the squared decrement, infinite where the Hessian is singular to rounding."""
    from scipy.linalg import solve_triangular

    try:
        factor = np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        return np.zeros_like(grad), math.inf
    half = solve_triangular(factor, grad, lower=True, check_finite=False)
    return -solve_triangular(factor, half, trans="T", lower=True, check_finite=False), float(half @ half)


def settled(seen: Objective, step: Array) -> bool:
    """Return whether a Newton step proves that there is a minimiser: it changes no margin by 1 or more (T9).

    With h = p (1 - p) the Hessian's weights, y = q (p + h d) in `refrm.geometry.Conditioner.certifies`, d the changes
    with the opposite sign, is positive if d > -1/(1 - p). Half of it is left to rounding.
    """
    w, v = seen.scores(step)
    return bool(np.abs((w - v)[seen.relative_weight > 0]).max() < 0.5)


def reduced(objective: Objective, basis: Array) -> Objective:
    """Return the linear objective in the coordinates of ``basis``, float64."""
    w, v = (Linear.design(objective.model, x) @ basis for x in (objective.chosen, objective.rejected))  # type: ignore[arg-type]
    return Objective(Linear(basis.shape[1]), objective.loss, w, v, objective.weight, objective.backend)


@dataclass(frozen=True)
class LBFGS:
    """SciPy's L-BFGS, for any model, in float64; ``tol`` bounds the Euclidean norm of the gradient, as records have it.

    For the linear model it works in coordinates in which the Hessian at zero scores is about the identity
    (`refrm.geometry.conditioner`): the scale of a feature and most of the correlation between features do not matter.
    """

    tol: float = 1e-8
    max_iter: int = 2000

    def advance(self, objective: Objective, state: State, run: Monitor) -> None:
        """Run until the next restart."""
        from scipy.optimize import minimize as scipy_minimize

        wide = run.memo("wide", objective.widen)
        near = run.memo("conditioner", lambda: conditioner(wide))
        begun, stop_at = state.step, min(state.step + RESTART, self.max_iter)
        if begun == 0:
            state.first = state.theta.astype(np.float64)
        forth, back = (near.forth, near.back) if near else (np.copy, np.copy)
        origin, at = state.first, np.zeros_like(state.first)
        first = accepted = last = run.point(state) if wide is objective else wide.at(origin)

        def move(u: Array) -> Point:
            nonlocal at, last
            if not np.array_equal(u, at):
                at = u.copy()
                last = wide.at(origin + forth(u))
            return last

        def value_and_grad(u: Array) -> tuple[float, Array]:
            return move(u).value, back(last.grad)

        def observe(u: Array) -> None:
            nonlocal accepted
            accepted = move(u)
            state.step += 1
            run.found = state.step, accepted
            if state.step < stop_at:
                run.observe(replace(state, theta=accepted.theta.astype(state.theta.dtype)))
            if norm(accepted) <= self.tol:
                raise StopIteration

        if norm(last) > self.tol and begun < stop_at:
            options = {"maxiter": stop_at - begun, "maxfun": 10**9, "gtol": 0, "ftol": 0, "maxcor": 20}
            scipy_minimize(value_and_grad, at, method="L-BFGS-B", jac=True, callback=observe, options=options)
        state.first, state.theta = accepted.theta, accepted.theta.astype(state.theta.dtype)
        if not math.isfinite(last.value):
            state.stop = "diverged"
        elif norm(accepted) <= self.tol:
            state.stop = "converged"
        elif state.step >= self.max_iter:
            state.stop = "max_iter"
        elif accepted.value >= first.value and norm(accepted) >= norm(first):
            state.stop = "stalled"  # from a fresh memory
        if state.stop and not (near and proven(wide, near, accepted)) and run.separable():
            state.stop = "separable"


def proven(objective: Objective, near: Conditioner, point: Point) -> bool:
    """Return whether the gradient where L-BFGS is proves that there is a minimiser, if need be with all pairs."""
    if near.certifies(objective, point.theta, point.grad):
        return True
    every = conditioner(objective, every=True) if len(near.index) < len(objective) else None
    return every is not None and every.certifies(objective, point.theta, point.grad)


def norm(point: Point) -> float:
    """Return the Euclidean norm of the gradient."""
    return float(np.linalg.norm(point.grad))


def stream(seed: int, n: int, size: int, step: int, count: int) -> Array:
    """Return the batches of steps ``step`` to ``step + count - 1``, shape (count, size), as indices of pairs.

    Epoch e is a permutation of the pairs drawn from (seed, e); batches cut the sequence of epochs into equal lengths,
    so that any step's batch is known without the steps before it. ``size >= n`` means all pairs, in order.
    """
    if size >= n:
        return np.tile(np.arange(n), (count, 1))
    begin, end = step * size, (step + count) * size
    epochs = range(begin // n, (end - 1) // n + 1)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(n) for epoch in epochs])
    return order[begin - epochs[0] * n : end - epochs[0] * n].reshape(count, size)


@dataclass(frozen=True)
class _Stochastic:
    """What SGD and Adam share: a fixed number of steps on minibatches.

    The gradient of a batch of B pairs is the sum of their gradients times weight/(B*mean weight of all pairs): over an
    epoch its mean is the gradient of J, for weighted pairs too (but for `SumToZero`, see T12).
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 64
    steps: int = 1000

    def rule(self) -> tuple[bool, float, float, float, float, float]:
        """Return (adam, lr, beta1 or momentum, beta2, eps, weight decay)."""
        raise NotImplementedError

    def advance(self, objective: Objective, state: State, run: Monitor) -> None:
        """Take the steps until the next one that is recorded or saved."""
        count = min(run.until_due(state.step), self.steps - state.step)
        if count > 0:
            batches = stream(run.seed, len(objective), self.batch_size, state.step, count)
            descend = _descend if functions(objective.backend) is spec else _descend_compiled
            descend(objective, state, batches, self.rule(), run.memo)
            state.step += count
        if not np.isfinite(state.theta).all():
            state.stop = "diverged"
        elif state.step >= self.steps:
            state.stop = "separable" if run.separable() else "completed"


@dataclass(frozen=True)
class SGD(_Stochastic):
    """Minibatch SGD with heavy-ball momentum, v <- momentum*v + g (no dampening), and decoupled weight decay.

    ``batch_size`` of N or more is full-batch gradient descent; on the linear model it is monotone for lr <= 1/beta
    (T7).
    """

    lr: float = 0.1
    momentum: float = 0.0

    def rule(self) -> tuple[bool, float, float, float, float, float]:
        """Return the optimiser's numbers."""
        return False, self.lr, self.momentum, 0.0, 0.0, self.weight_decay


@dataclass(frozen=True)
class Adam(_Stochastic):
    """Adam (arXiv 1412.6980), with decoupled weight decay: AdamW (arXiv 1711.05101) where it is positive."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def rule(self) -> tuple[bool, float, float, float, float, float]:
        """Return the optimiser's numbers."""
        return True, self.lr, self.beta1, self.beta2, self.eps, self.weight_decay


Rule = tuple[bool, float, float, float, float, float]
Memo = Callable[[str, Callable[[], Any]], Any]
Solver = Newton | LBFGS | SGD | Adam


def _descend_compiled(objective: Objective, state: State, batches: Array, rule: Rule, memo: Memo) -> None:
    from refrm import kernels

    model, loss = objective.model, objective.loss
    pairwise = [(coef, term) for coef, term in loss.terms if isinstance(term, BradleyTerry)]
    c_pair, term = pairwise[0] if pairwise else (0.0, BradleyTerry())
    if isinstance(model, MLP):
        network = (np.array(model.widths), list(ACTIVATIONS).index(model.activation), model.head_bias)
    else:
        network = (np.array([model.n_features, 1]), 0, bool(model.n_params - model.n_features))
    margin = memo("margin", lambda: np.broadcast_to(term.margin, len(objective)).copy())
    shape = network[0], batches.shape[1], state.theta.size
    work = memo("work", lambda: kernels.workspace(*shape, state.theta.dtype))
    kernels.descend(
        state.theta, state.first, state.second, state.step, batches,
        objective.chosen, objective.rejected, margin, objective.relative_weight,
        network, (term.label_smoothing, c_pair, *loss.penalty), rule, work,
    )  # fmt: skip


def _descend(objective: Objective, state: State, batches: Array, rule: Rule, memo: Memo) -> None:
    """The steps of `refrm.kernels.descend`, one at a time, on `refrm.spec`."""
    adam, lr, beta1, beta2, eps, decay = rule
    theta, first, second = state.theta, state.first, state.second
    weight = objective.relative_weight
    for n, batch in enumerate(batches, state.step + 1):
        size = len(batch)
        r, vjp = objective.model.linearize(theta, np.concatenate([objective.chosen[batch], objective.rejected[batch]]))
        share = weight[batch] / size
        _, g_w, g_l = objective.loss.take(batch)._of_shares(r[:size], r[size:], share, spec)
        grad = vjp(np.concatenate([g_w, g_l]))
        first *= beta1
        first += (1 - beta1) * grad if adam else grad
        move = first
        if adam:
            second *= beta2
            second += (1 - beta2) * grad * grad
            move = first / (1 - beta1**n) / (np.sqrt(second / (1 - beta2**n)) + eps)
        theta -= lr * (move + decay * theta)


def check_solver(solver: Solver) -> None:
    """Raise `InputError` if a setting of ``solver`` is out of range."""
    if not isinstance(solver, Newton | LBFGS | SGD | Adam):
        raise InputError(f"solver must be Newton(), LBFGS(), SGD() or Adam(), got {solver!r}")
    for name, value in asdict(solver).items():
        if name in ("max_iter", "steps", "batch_size"):
            check_integer(name, value, int(name == "batch_size"))
        else:
            high = 1.0 if name in ("momentum", "beta1", "beta2") else math.inf
            check_number(name, value, 0.0, high, open_low=name in ("lr", "eps"))
