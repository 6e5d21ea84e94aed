"""Solvers for an `Objective`: Newton and L-BFGS (SciPy), SGD and Adam (jitted); recorded, resumable, deterministic.

What is promised: the same objective, settings and seed give the same bits, for one NumPy/SciPy/BLAS build and number of
BLAS threads; and a fit that is killed and resumed from its checkpoint ends at the same bits as an uninterrupted one.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from refrm import spec
from refrm.errors import FileError, InputError
from refrm.files import read_about, write_npz
from refrm.linear import Linear
from refrm.losses import BradleyTerry, Sum, check_number, functions
from refrm.mlp import ACTIVATIONS, MLP
from refrm.objective import Objective
from refrm.separation import separating_direction
from refrm.spec import Array

Record = dict[str, float]

RESTART = 100
"""L-BFGS forgets its memory every so many iterations, checkpoint or not: that is where a checkpoint can resume it."""


@dataclass
class State:
    """What a solver carries from step to step; a checkpoint holds exactly this and the history."""

    theta: Array
    first: Array  # momentum, or Adam's first moment
    second: Array  # Adam's second moment
    step: int = 0
    stop: str = ""
    undetermined: int | None = None


@dataclass(frozen=True)
class FitResult:
    """Where a fit ended, and how it went.

    Attributes
    ----------
    theta : array of shape (n_params,)
        The last parameters.
    stop : str
        Why it stopped: "converged" (gradient norm <= tol, or the predicted decrease is below rounding), "completed"
        (all steps of SGD or Adam were taken), "max_iter", "stalled" (the line search finds no decrease although the
        gradient exceeds tol), "separable" (J has no minimiser, T9), "diverged" (J is not finite).
    message : str
        The same in a sentence, with figures.
    steps : int
        Steps or iterations taken.
    history : list of dict
        One record per recorded step: see `evaluate`; keys on held-out pairs begin with "heldout_".
    undetermined : int or None
        Newton only: the dimension of the parameters that the data and the loss leave undetermined (T9).
    """

    theta: Array
    stop: str
    message: str
    steps: int
    history: list[Record]
    undetermined: int | None = None

    def column(self, key: str) -> Array:
        """Return one key of the history as an array, shape (records,)."""
        return np.array([record[key] for record in self.history])


def evaluate(objective: Objective, theta: Array) -> Record:
    """Return the figures of a record, weighted like the objective.

    ``loss`` (pairwise terms), ``penalty`` (all others, already times their coefficients), ``mean_score`` (of all 2N
    scores, mean s / 2), ``spread`` (standard deviation of the pair means s/2), ``mean_margin`` and ``std_margin`` (of
    d, without the margin m), ``accuracy`` (share of d > 0, a tie counts one half), ``grad_norm`` (Euclidean, of all
    of J). Standard deviations divide by N.
    """
    value, grad, r_w, r_l = objective.evaluate(theta)
    pairwise = Sum(tuple(pair for pair in objective.loss.terms if isinstance(pair[1], BradleyTerry)))
    loss = pairwise.value(r_w, r_l, weight=objective.weight, backend=objective.backend)
    share = objective.weight / objective.weight.sum()
    with np.errstate(all="ignore"):
        half, d = (r_w.astype(np.float64) + r_l) / 2, r_w.astype(np.float64) - r_l
        mean, margin = share @ half, share @ d
        return {
            "loss": loss,
            "penalty": value - loss if len(objective.loss.terms) > 1 else 0.0,
            "mean_score": float(mean),
            "spread": math.sqrt(share @ (half - mean) ** 2),
            "mean_margin": float(margin),
            "std_margin": math.sqrt(share @ (d - margin) ** 2),
            "accuracy": float(objective.weight @ ((d > 0) + 0.5 * (d == 0)) / objective.weight.sum()),
            "grad_norm": float(np.linalg.norm(grad.astype(np.float64))),
        }


@dataclass(frozen=True)
class Newton:
    """Newton's method with backtracking, for the linear model; from zero it finds the minimiser of least norm.

    Directions that neither the differences nor a penalty can see are found once, from the Gram matrix of what the
    loss sees, with its columns scaled to length 1 (an eigenvalue below ``p*eps*largest`` counts as 0); the search
    stays in the complement.
    """

    tol: float = 1e-10
    max_iter: int = 100

    def advance(self, objective: Objective, state: State, run: "Run") -> None:
        """Take one iteration."""
        if not isinstance(objective.model, Linear):
            raise InputError(
                f"Newton is for the linear model, got {type(objective.model).__name__}; use LBFGS, SGD or Adam"
            )
        basis = run.memo("basis", lambda: visible(objective))
        state.undetermined = objective.model.n_params - basis.shape[1]
        value, grad = objective.value_and_grad(state.theta)
        if not math.isfinite(value):
            state.stop = "diverged"
        elif np.linalg.norm(grad) <= self.tol:
            state.stop = "converged"
        elif state.step >= self.max_iter:
            state.stop = "max_iter"
        elif state.step % 10 == 9 and run.memo("separable", lambda: separating_direction(objective) is not None):
            state.stop = "separable"
        if state.stop:
            return
        g = basis.T @ grad
        try:
            factor = np.linalg.cholesky(basis.T @ objective.hessian(state.theta) @ basis)
            half = np.linalg.solve(factor, g)
            direction = -basis @ np.linalg.solve(factor.T, half)
            decrement = float(half @ half)
        except np.linalg.LinAlgError:  # curvature below rounding: far out on separable data
            state.stop = "separable" if separating_direction(objective) is not None else "stalled"
            return
        t = 1.0
        while objective.value(state.theta + t * direction) > value - 1e-4 * t * decrement:
            if t * decrement <= 4 * np.finfo(np.float64).eps * max(value, np.finfo(np.float64).tiny):
                state.stop = "converged"  # what is left to gain is below the rounding of J
                return
            t /= 2
        state.theta = (state.theta + t * direction).astype(state.theta.dtype)
        state.step += 1


def visible(objective: Objective) -> Array:
    """Return a basis, shape (p, rank), of the directions in which the linear objective is not constant (T9)."""
    share = objective.weight / objective.weight.sum()
    a, b, c = np.sum([coef * np.array(term.quadratic) for coef, term in objective.loss.terms], axis=0)
    x_w, x_l = (Linear.design(objective.model, x).astype(np.float64) for x in (objective.chosen, objective.rejected))  # type: ignore[arg-type]
    rows = [(x_w - x_l)[share > 0]]
    if b > 0 or a > 0:
        rows.append((x_w + x_l)[share > 0])
    elif c > 0:
        rows.append(share[None] @ (x_w + x_l))
    gram = sum(x.T @ x for x in rows)
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1
    eigenvalues, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = eigenvalues > len(gram) * np.finfo(np.float64).eps * eigenvalues[-1]
    # The row space of rows/scale, carried back to that of rows.
    return np.linalg.qr(scale[:, None] * vectors[:, kept])[0] if not kept.all() else np.eye(len(gram))


@dataclass(frozen=True)
class LBFGS:
    """SciPy's L-BFGS, for any model; ``tol`` bounds the largest component of the gradient."""

    tol: float = 1e-8
    max_iter: int = 2000

    def advance(self, objective: Objective, state: State, run: "Run") -> None:
        """Run until the next restart."""
        from scipy.optimize import minimize as scipy_minimize

        def observe(x: Array) -> None:
            state.step += 1
            if state.step < stop_at:
                run.observe(replace(state, theta=x.astype(state.theta.dtype)))

        begun, stop_at = state.step, min(state.step + RESTART, self.max_iter)
        if begun >= self.max_iter:
            state.stop = "max_iter"
            return
        with np.errstate(all="ignore"):
            found = scipy_minimize(
                lambda x: tuple(np.float64(part) for part in objective.value_and_grad(x)),
                state.theta.astype(np.float64),
                method="L-BFGS-B",
                jac=True,
                callback=observe,
                options={"maxiter": stop_at - begun, "maxfun": 10**9, "gtol": self.tol, "ftol": 0, "maxcor": 20},
            )
        state.theta = found.x.astype(state.theta.dtype)
        if not math.isfinite(found.fun):
            state.stop = "diverged"
        elif np.abs(found.jac).max() <= self.tol:
            state.stop = "converged"
        elif state.step == begun:  # not even the first step from a fresh memory
            state.stop = "stalled"
        if (state.stop or state.step >= self.max_iter) and run.separable():
            state.stop = "separable"


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
    """What SGD and Adam share: a fixed number of steps on minibatches."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 64
    steps: int = 1000

    def rule(self) -> tuple[bool, float, float, float, float, float]:
        """Return (adam, lr, beta1 or momentum, beta2, eps, weight decay)."""
        raise NotImplementedError

    def advance(self, objective: Objective, state: State, run: "Run") -> None:
        """Take the steps until the next one that is recorded or saved."""
        count = min(run.until_due(state.step), self.steps - state.step)
        if count > 0:
            batches = stream(run.seed, len(objective), self.batch_size, state.step, count)
            descend = _descend if functions(objective.backend) is spec else _descend_compiled
            with np.errstate(all="ignore"):
                descend(objective, state, batches, self.rule())
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
Solver = Newton | LBFGS | SGD | Adam


def _descend_compiled(objective: Objective, state: State, batches: Array, rule: Rule) -> None:
    from refrm import kernels

    model, loss = objective.model, objective.loss
    pairwise = [(coef, term) for coef, term in loss.terms if isinstance(term, BradleyTerry)]
    c_pair, term = pairwise[0] if pairwise else (0.0, BradleyTerry())
    a, b, c = (float(x) for x in np.sum([coef * np.array(term.quadratic) for coef, term in loss.terms], axis=0))
    if isinstance(model, MLP):
        network = (np.array(model.widths), list(ACTIVATIONS).index(model.activation), model.head_bias)
    else:
        network = (np.array([model.n_features, 1]), 0, bool(model.n_params - model.n_features))
    margin = np.broadcast_to(term.margin, len(objective)).copy()
    kernels.descend(
        state.theta, state.first, state.second, state.step, batches,
        objective.chosen, objective.rejected, margin, objective.weight,
        network, (term.label_smoothing, c_pair, a, b, c), rule,
    )  # fmt: skip


def _descend(objective: Objective, state: State, batches: Array, rule: Rule) -> None:
    """The steps of `refrm.kernels.descend`, one at a time, on `refrm.spec`."""
    adam, lr, beta1, beta2, eps, decay = rule
    theta, first, second = state.theta, state.first, state.second
    for n, batch in enumerate(batches, state.step + 1):
        # A batch in which every weight is zero moves nothing but the momentum.
        grad = objective.take(batch).value_and_grad(theta)[1] if objective.weight[batch].any() else np.zeros_like(theta)
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
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < (name == "batch_size"):
                raise InputError(f"{name} must be an integer >= {int(name == 'batch_size')}, got {value!r}")
        else:
            high = 1.0 if name in ("momentum", "beta1", "beta2") else math.inf
            check_number(name, value, 0.0, high, open_low=name in ("lr", "eps"))


@dataclass
class Run:
    """One call of `minimize`: what is recorded and saved, and when."""

    objective: Objective
    heldout: Objective | None
    seed: int
    record_every: int
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int
    callback: Callable[[Record], None] | None
    fingerprint: str
    history: list[Record] = field(default_factory=list)
    saved: int = 0
    _memo: dict[str, Any] = field(default_factory=dict)

    def memo(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returned the first time."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def separable(self) -> bool:
        """Return whether the (linear) objective has no minimiser; where all is well this costs no linear program."""
        return bool(self.memo("separable", lambda: separating_direction(self.objective) is not None))

    def until_due(self, step: int) -> int:
        """Return how many steps remain until the next record or checkpoint."""
        to_record = self.record_every - step % self.record_every
        return min(to_record, self.checkpoint_every - step % self.checkpoint_every) if self.checkpoint else to_record

    def observe(self, state: State) -> None:
        """Record the step if it is due, or the last."""
        if (state.step % self.record_every and not state.stop) or (
            self.history and self.history[-1]["step"] == state.step
        ):
            return
        record = {"step": float(state.step), **evaluate(self.objective, state.theta)}
        if self.heldout is not None:
            record |= {f"heldout_{key}": value for key, value in evaluate(self.heldout, state.theta).items()}
        self.history.append(record)
        if self.callback is not None:
            self.callback(record)

    def save(self, state: State) -> None:
        """Write the checkpoint if it is due, or the last."""
        if self.checkpoint is None or not (state.stop or state.step - self.saved >= self.checkpoint_every):
            return
        self.saved = state.step - state.step % self.checkpoint_every
        about = {
            "kind": "checkpoint",
            "fingerprint": self.fingerprint,
            "step": state.step,
            "stop": state.stop,
            "undetermined": state.undetermined,
            "history": self.history,
        }
        write_npz(self.checkpoint, about, theta=state.theta, first=state.first, second=state.second)

    def load(self, path: str | os.PathLike[str]) -> State:
        """Return the state of a checkpoint of this very fit, or raise `FileError`."""
        about, arrays = read_about(path, "checkpoint")
        if about["fingerprint"] != self.fingerprint:
            raise FileError(f"checkpoint {path} belongs to a fit of other data, model, loss or settings")
        self.history = about["history"]
        self.saved = about["step"] - about["step"] % self.checkpoint_every
        return State(**arrays, step=about["step"], stop=about["stop"], undetermined=about["undetermined"])


def _fingerprint(objective: Objective, heldout: Objective | None, *settings: Any) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for one in (objective, heldout):
        if one is not None:
            terms = [
                (c, type(t).__name__, {k: np.asarray(v).tolist() for k, v in vars(t).items()})
                for c, t in one.loss.terms
            ]
            digest.update(json.dumps([repr(one.model), terms, one.backend, str(one.chosen.dtype)]).encode())
            for array in (one.chosen, one.rejected, one.weight):
                digest.update(array.tobytes())
    return digest.hexdigest()


_MESSAGES = {
    "converged": "converged after {step} iterations: gradient norm {grad_norm:.3g}",
    "completed": "completed all {step} steps: gradient norm {grad_norm:.3g}",
    "max_iter": "stopped at the limit of {step} iterations: gradient norm {grad_norm:.3g}, not converged",
    "stalled": "stalled after {step} iterations: no step lowers the objective, gradient norm {grad_norm:.3g}",
    "separable": "separable: some direction raises margins for ever and the loss falls along it, so there is no"
    " minimiser (T9); stopped at step {step}, mean margin {mean_margin:.3g}. Label smoothing bounds the margins (T14),"
    " the squared sum does not",
    "diverged": "diverged: the objective was no longer finite at step {step}; a smaller lr may help",
}


def minimize(
    objective: Objective,
    solver: Solver,
    *,
    theta: Array | None = None,
    heldout: Objective | None = None,
    seed: int = 0,
    record_every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
    callback: Callable[[Record], None] | None = None,
) -> FitResult:
    """Minimise an objective.

    Parameters
    ----------
    objective : Objective
        What to minimise; its dtype is that of the computation.
    solver : Newton, LBFGS, SGD or Adam
        The method with its settings.
    theta : array of shape (n_params,), optional
        The starting point; by default ``objective.model.init(seed)``.
    heldout : Objective, optional
        Pairs that are evaluated with each record and never trained on.
    seed : int
        Seed of the starting point and of the order of the pairs.
    record_every : int
        Steps between records; the first and the last step are always recorded.
    checkpoint : path, optional
        Where to save the state every ``checkpoint_every`` steps and at the end; L-BFGS saves at its restarts. An
        existing file is refused unless ``resume`` is true.
    resume : bool
        Continue from ``checkpoint`` if it exists, to the same bits as without the interruption.
    callback : callable, optional
        Called with each record.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        For arguments out of range, or a solver that does not fit the model.
    FileError
        For a checkpoint that exists (without ``resume``), cannot be read, or belongs to another fit.
    """
    check_solver(solver)
    for name, count in (("record_every", record_every), ("checkpoint_every", checkpoint_every)):
        if not isinstance(count, int | np.integer) or count < 1:
            raise InputError(f"{name} must be an integer >= 1, got {count!r}")
    if sum(isinstance(term, BradleyTerry) for _, term in objective.loss.terms) > 1:
        raise InputError("the loss has more than one BradleyTerry term; minimize takes one")
    begin = objective.model.init(seed) if theta is None else theta
    begin = objective.check_theta(begin).copy()
    fingerprint = _fingerprint(objective, heldout, solver, seed, record_every, checkpoint_every, begin.tobytes())
    run = Run(objective, heldout, seed, record_every, checkpoint, checkpoint_every, callback, fingerprint)
    state = State(begin, np.zeros_like(begin), np.zeros_like(begin))
    if checkpoint is not None and os.path.exists(checkpoint):
        if not resume:
            raise FileError(f"checkpoint {checkpoint} exists: resume from it, or remove it")
        state = run.load(checkpoint)
    else:
        run.observe(state)
    while not state.stop:
        solver.advance(objective, state, run)
        run.observe(state)
        run.save(state)
    last = run.history[-1]
    message = _MESSAGES[state.stop].format(**{**last, "step": state.step})
    return FitResult(state.theta, state.stop, message, state.step, run.history, state.undetermined)
