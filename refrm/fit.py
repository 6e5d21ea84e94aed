"""Fitting an `Objective`: `minimize` runs a solver, records, saves and resumes.

What is promised: the same objective, settings and seed give the same bits, for one NumPy/SciPy/BLAS build and number of
BLAS threads; and a fit that is killed and resumed from its checkpoint ends at the same bits as an uninterrupted one.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from refrm import spec
from refrm.checks import check_integer
from refrm.errors import FileError, InputError
from refrm.files import read_about, write_npz
from refrm.geometry import separating_direction, visible
from refrm.losses import BradleyTerry, Sum
from refrm.objective import Objective, Point
from refrm.solvers import LBFGS, Newton, Solver, State, check_solver
from refrm.spec import Array

Record = dict[str, float]
RECORD = {
    *("step", "loss", "penalty", "mean_score", "spread", "mean_margin", "std_margin", "accuracy", "grad_norm"),
}
"""The keys of every record; those on held-out pairs come on top."""

BLOCK = 1 << 16
"""Pairs that are scored, or hashed, in one go."""


@dataclass(frozen=True)
class FitResult:
    """Where a fit ended, and how it went.

    Attributes
    ----------
    theta : array of shape (n_params,)
        The last parameters.
    stop : str
        Why it stopped: "converged" (by the solver's tol, or the predicted decrease is below rounding), "completed"
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


@np.errstate(all="ignore")
def evaluate(objective: Objective, theta: Array, at: Point | None = None) -> Record:
    """Return the figures of a record, weighted like the objective; ``at`` is what it is at theta, if that is known.

    ``loss`` (pairwise terms), ``penalty`` (all others, already times their coefficients), ``mean_score`` (of all 2N
    scores, mean s / 2), ``spread`` (standard deviation of the pair means s/2), ``mean_margin`` and ``std_margin`` (of
    d, without the margin m), ``accuracy`` (share of d > 0, a tie counts one half), ``grad_norm`` (Euclidean, of all
    of J). Standard deviations divide by N.
    """
    n, scores, terms = len(objective), None, objective.loss.terms
    everything = float(n) if objective.weight is None else float(objective.weight.sum())
    if objective.in_one_pass:
        at = at or objective.at(theta)
        grad, (loss, penalty) = at.grad, at.parts
    else:  # by the definition: a record should not cost the compilation of kernels
        _, grad, *scores = replace(objective, backend="numpy").evaluate(theta)
        kinds = (Sum(tuple(x for x in terms if isinstance(x[1], BradleyTerry) is pair)) for pair in (True, False))
        loss, penalty = (kind._of_shares(scores[0], scores[1], objective._share, spec)[0] for kind in kinds)
    parts = []
    for begin in range(0, n, BLOCK):  # no memory that grows with N
        part = slice(begin, begin + BLOCK)
        rows = objective.scores(theta, part) if scores is None else (r[part] for r in scores)
        r_w, r_l = (r.astype(np.float64) for r in rows)
        weight = np.ones(len(r_w)) if objective.weight is None else objective.weight[part]
        half, d, block = (r_w + r_l) / 2, r_w - r_l, weight.sum()
        centers = weight @ half / (block or 1), weight @ d / (block or 1)
        spreads = (weight @ (x - center) ** 2 for x, center in zip((half, d), centers, strict=True))
        parts.append((block, *centers, *spreads, weight @ ((d > 0) + 0.5 * (d == 0))))
    blocks, half, d, half_spread, d_spread, right = np.array(parts).T
    mean, margin = blocks @ half / everything, blocks @ d / everything
    return {
        "loss": loss,
        "penalty": penalty,
        "mean_score": float(mean),
        "spread": math.sqrt((half_spread.sum() + blocks @ (half - mean) ** 2) / everything),
        "mean_margin": float(margin),
        "std_margin": math.sqrt((d_spread.sum() + blocks @ (d - margin) ** 2) / everything),
        "accuracy": float(right.sum() / everything),
        "grad_norm": float(np.linalg.norm(grad.astype(np.float64))),
    }


@dataclass
class Run:
    """One call of `minimize`: what is recorded and saved, and when."""

    objective: Objective
    solver: Solver
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
    found: tuple[int, Point | None] = (-1, None)

    def point(self, state: State) -> Point:
        """Return the objective at the state's parameters; ``found`` are the last step and point of which it is known.

        L-BFGS writes there what it finds, in float64; that of float32 parameters is another.
        """
        step, point = self.found
        if point is None or step != state.step or point.grad.dtype != state.theta.dtype:
            point = self.objective.at(state.theta)
            self.found = state.step, point
        return point

    def memo(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returned the first time."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def separable(self) -> bool:
        """Return whether the (linear) objective has no minimiser; the linear program is solved once."""
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
        at = self.point(state) if self.objective.in_one_pass else None
        record = {"step": float(state.step), **evaluate(self.objective, state.theta, at)}
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
        about = {key: getattr(state, key) for key in ("step", "stop", "undetermined")}
        about |= {"kind": "checkpoint", "fingerprint": self.fingerprint, "history": self.history}
        write_npz(self.checkpoint, about, theta=state.theta, first=state.first, second=state.second)

    def fits(self, state: State) -> bool:
        """Return whether the arrays of a state are those of this fit."""
        check_integer("step", state.step, 0)
        check_integer("undetermined", state.undetermined or 0, 0)
        shape, dtype = (self.objective.model.n_params,), self.objective.dtype
        first, kind = shape, dtype
        if isinstance(self.solver, Newton):
            first = visible(self.objective)[1].shape[:1]
        if isinstance(self.solver, Newton | LBFGS) and state.step > 0:
            kind = np.dtype(np.float64)
        return (
            (state.theta.shape, state.theta.dtype) == (shape, dtype)
            and (state.first.shape, state.first.dtype) == (first, kind)
            and state.second.shape == shape
            and state.second.dtype in (dtype, kind)
        )

    def load(self, path: str | os.PathLike[str]) -> State:
        """Return the state of a checkpoint of this very fit, or raise `FileError`."""
        about, arrays = read_about(path, "checkpoint")
        if about.get("fingerprint") != self.fingerprint:
            raise FileError(f"checkpoint {path} belongs to a fit of other data, model, loss or settings")
        try:
            state = State(**arrays, step=about["step"], stop=about["stop"], undetermined=about["undetermined"])
            whole = self.fits(state) and state.stop in ("", *_MESSAGES)
            whole &= bool(about["history"]) and all(set(record) >= RECORD for record in about["history"])
        except (KeyError, TypeError, AttributeError, InputError):
            whole = False
        if not whole:
            raise FileError(f"checkpoint {path} is damaged")
        self.history = about["history"]
        self.saved = state.step - state.step % self.checkpoint_every
        return state


def _fingerprint(objective: Objective, heldout: Objective | None, *settings: Any) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for one in (objective, heldout):
        if one is not None:
            terms = [
                (c, type(t).__name__, {f.name: np.asarray(getattr(t, f.name)).tolist() for f in fields(cast(Any, t))})
                for c, t in one.loss.terms
            ]
            digest.update(json.dumps([repr(one.model), terms, one.backend, str(one.dtype)]).encode())
            for array in (one.chosen, one.rejected, one.relative_weight):
                for at in range(0, len(array), BLOCK):
                    digest.update(array[at : at + BLOCK].tobytes())
    return digest.hexdigest()


_MESSAGES = {
    "converged": "converged after {step} iterations: gradient norm {grad_norm:.3g}",
    "completed": "completed all {step} steps: gradient norm {grad_norm:.3g}",
    "max_iter": "stopped at the limit of {step} iterations: gradient norm {grad_norm:.3g}, not converged",
    "stalled": "stalled after {step} iterations: no step lowers the objective, gradient norm {grad_norm:.3g}",
    "separable": "separable: some direction raises margins for ever and the loss falls along it, so there is no"
    " minimiser (T9); stopped at step {step}, mean margin {mean_margin:.3g}. Label smoothing bounds the margins (T14),"
    " the squared sum does not",
    "diverged": "diverged: the objective was no longer finite at step {step}; features, coefficients or"
    " a learning rate on a smaller scale may help",
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
    if not isinstance(objective, Objective) or not isinstance(heldout, Objective | None):
        raise InputError(f"objective and heldout must be an Objective, got {objective!r} and {heldout!r}")
    if heldout is not None and heldout.model != objective.model:
        raise InputError(f"heldout must have the model of the objective, {objective.model}, got {heldout.model}")
    check_solver(solver)
    check_integer("record_every", record_every, 1)
    check_integer("checkpoint_every", checkpoint_every, 1)
    check_integer("seed", seed, 0)
    if sum(isinstance(term, BradleyTerry) for _, term in objective.loss.terms) > 1:
        raise InputError("the loss has more than one BradleyTerry term; minimize takes one")
    begin = objective.model.init(seed) if theta is None else theta
    begin = objective.check_theta(begin).copy()
    settings = (solver, seed, record_every, checkpoint_every, begin.tobytes())
    fingerprint = _fingerprint(objective, heldout, *settings) if checkpoint is not None else ""
    run = Run(objective, solver, heldout, seed, record_every, checkpoint, checkpoint_every, callback, fingerprint)
    state = State(begin, np.zeros_like(begin), np.zeros_like(begin))
    resumed = checkpoint is not None and os.path.exists(checkpoint)
    if resumed and not resume:
        raise FileError(f"checkpoint {checkpoint} exists: resume from it, or remove it")
    with np.errstate(all="ignore"):  # what is not finite is found out, and said as the reason to stop
        if checkpoint is not None and resumed:
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
