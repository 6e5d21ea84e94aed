"""One training step of a multilayer perceptron: batch, value, gradient, Adam.

A run takes K steps from the same start, on the same batches of the same pairs, and the table has the time of one step:
picking the batch's rows is part of it. refrm runs its solver object for K steps as `refrm.minimize` does between two
records, and draws the batches that the others are given.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import limits
import numpy as np
import peers
from timing import OURS, Bar, Case, build

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
Steps = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Takes so many steps from the start; returns theta and Adam's first moment, both in refrm's order of parameters."""


@dataclass(frozen=True)
class Work:
    """A network, its start, its pairs and its batches."""

    widths: tuple[int, int, int]
    activation: str
    start: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    batches: np.ndarray
    threads: int

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copies of W_1 (p, h), b_1 (h,) and w (h,) of the start."""
        p, h, _ = self.widths
        w, b, head = np.split(self.start.copy(), [p * h, p * h + h])
        return w.reshape(p, h), b, head


def make(batch: int, widths: tuple[int, int, int], activation: str, dtype: str, steps: int, threads: int) -> Work:
    import refrm
    from refrm.solvers import stream

    n = max(2048, 2 * batch)  # with fewer, refrm would draw a permutation every few steps
    pairs = refrm.make_pairs(n, widths[0], seed=0)
    start = refrm.MLP(widths[0], (widths[1],), activation).init(0, dtype)
    batches = stream(0, n, batch, 0, steps)
    return Work(widths, activation, start, pairs.chosen.astype(dtype), pairs.rejected.astype(dtype), batches, threads)


class Monitor:
    """What `Adam.advance` may ask of the run that it is part of: nothing is recorded, saved or solved beside it."""

    seed = 0

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def memo(self, key: str, build: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = build()
        return self.kept[key]

    def separable(self) -> bool:
        return False

    def until_due(self, step: int) -> int:
        return sys.maxsize

    def observe(self, state: Any) -> None: ...


def ours(work: Work) -> Steps:
    import refrm
    from refrm.solvers import State

    model = refrm.MLP(work.widths[0], (work.widths[1],), work.activation)
    objective = refrm.Objective(model, peers.ours(), work.chosen, work.rejected)
    monitor = Monitor()

    def run(steps: int) -> tuple[np.ndarray, np.ndarray]:
        solver = refrm.Adam(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, batch_size=work.batches.shape[1], steps=steps)
        state = State(work.start.copy(), np.zeros_like(work.start), np.zeros_like(work.start))
        solver.advance(objective, state, monitor)
        return state.theta, state.first

    return run


def numpy_activation(kind: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if kind == "relu":
        return np.maximum(z, 0), z > 0
    from scipy.special import ndtr

    cdf = ndtr(z)
    slope = np.exp(-0.5 * z * z)
    slope *= z
    slope *= z.dtype.type(1 / np.sqrt(2 * np.pi))
    slope += cdf
    return np.multiply(z, cdf, out=cdf), slope


def numpy_steps(work: Work) -> Steps:
    def run(steps: int) -> tuple[np.ndarray, np.ndarray]:
        params = work.parts
        first, second = [np.zeros_like(x) for x in params], [np.zeros_like(x) for x in params]
        w, b, head = params
        for k, batch in enumerate(work.batches[:steps], 1):
            x = np.concatenate([work.chosen[batch], work.rejected[batch]])
            z = x @ w
            z += b
            a, slope = numpy_activation(work.activation, z)
            r = a @ head
            _, g_w, g_l = peers.numpy_loss(r[: len(batch)], r[len(batch) :])
            dr = np.concatenate([g_w, g_l])
            bar = np.multiply(dr[:, None] * head, slope, out=z)
            for p, g, m, v in zip(params, (x.T @ bar, bar.sum(0), a.T @ dr), first, second, strict=True):
                m *= BETA1
                m += (1 - BETA1) * g
                v *= BETA2
                v += (1 - BETA2) * g * g
                p -= LR / (1 - BETA1**k) * m / (np.sqrt(v / (1 - BETA2**k)) + EPS)
        return np.concatenate([x.ravel() for x in params]), np.concatenate([x.ravel() for x in first])

    return run


def torch_parts(tensors: list[Any]) -> np.ndarray:
    """Return torch's parameters in refrm's order: nn.Linear has weights (h, p)."""
    w, b, head = (x.detach().numpy() for x in tensors)
    return np.concatenate([w.T.ravel(), b, head.ravel()])


def torch_eager(work: Work) -> Steps:
    """nn.Module, autograd and torch.optim.Adam in its fused form, the fastest that it has."""
    torch = peers.get_torch(work.threads)
    (p, h, _), (w, b, head) = work.widths, work.parts
    start = [torch.from_numpy(x) for x in (w.T.copy(), b, head[None])]
    chosen, rejected, batches = (torch.from_numpy(x) for x in (work.chosen, work.rejected, work.batches))
    bend = torch.nn.ReLU() if work.activation == "relu" else torch.nn.GELU()
    model = torch.nn.Sequential(torch.nn.Linear(p, h), bend, torch.nn.Linear(h, 1, bias=False)).to(chosen.dtype)
    params = list(model.parameters())

    def run(steps: int) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            for x, x0 in zip(params, start, strict=True):
                x.copy_(x0)
        optimiser = torch.optim.Adam(params, lr=LR, betas=(BETA1, BETA2), eps=EPS, fused=True)
        for batch in batches[:steps]:
            r_w, r_l = model(torch.cat([chosen[batch], rejected[batch]]))[:, 0].chunk(2)
            loss = peers.torch_loss(r_w, r_l)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return torch_parts(params), torch_parts([optimiser.state[x]["exp_avg"] for x in params])

    return run


def adam(g: Any, p: Any, m: Any, v: Any, k: Any, sqrt: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """Return a parameter and its moments after step k."""
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    return p - LR / (1 - BETA1**k) * m / (sqrt(v / (1 - BETA2**k)) + EPS), m, v


def torch_compiled(work: Work) -> Steps:
    """The whole step, gradient and update, as one compiled function."""
    torch = peers.get_torch(work.threads)
    F = torch.nn.functional
    bend = F.relu if work.activation == "relu" else F.gelu
    chosen, rejected, batches = (torch.from_numpy(x) for x in (work.chosen, work.rejected, work.batches))

    def loss(params: list[Any], x: Any) -> Any:
        w, b, head = params
        r_w, r_l = (bend(torch.addmm(b, x, w)) @ head).chunk(2)
        return peers.torch_loss(r_w, r_l)

    def step(params: list[Any], first: list[Any], second: list[Any], k: Any, batch: Any) -> None:
        x = torch.cat([chosen[batch], rejected[batch]])
        for g, p, m, v in zip(torch.func.grad(loss)(params, x), params, first, second, strict=True):
            for old, new in zip((p, m, v), adam(g, p, m, v, k, torch.sqrt), strict=True):
                old.copy_(new)

    compiled = torch.compile(step, dynamic=False)
    numbers = torch.arange(1, len(batches) + 1, dtype=chosen.dtype)

    def run(steps: int) -> tuple[np.ndarray, np.ndarray]:
        params = [torch.from_numpy(x) for x in work.parts]
        first, second = [torch.zeros_like(x) for x in params], [torch.zeros_like(x) for x in params]
        for k, batch in zip(numbers, batches[:steps], strict=False):
            compiled(params, first, second, k, batch)
        return tuple(np.concatenate([x.numpy().ravel() for x in state]) for state in (params, first))

    return run


def jax_steps(work: Work, scan: bool) -> Steps:
    """Each step one jitted call that reuses its arguments' memory, or all steps one call."""
    jax = peers.get_jax()
    bend = jax.nn.relu if work.activation == "relu" else partial(jax.nn.gelu, approximate=False)
    chosen, rejected, batches = (jax.numpy.asarray(x) for x in (work.chosen, work.rejected, work.batches))
    numbers = jax.numpy.arange(1, len(batches) + 1, dtype=chosen.dtype)

    def loss(params: tuple[Any, ...], x: Any) -> Any:
        w, b, head = params
        r = bend(x @ w + b) @ head
        return peers.jax_loss(*jax.numpy.split(r, 2))

    def step(state: tuple[Any, ...], at: tuple[Any, Any]) -> tuple[tuple[Any, ...], None]:
        k, batch = at
        grads = jax.grad(loss)(state[0], jax.numpy.concatenate([chosen[batch], rejected[batch]]))
        new = [adam(*parts, k, jax.numpy.sqrt) for parts in zip(grads, *state, strict=True)]
        return tuple(zip(*new, strict=True)), None

    one = jax.jit(step, donate_argnums=0)
    many = jax.jit(lambda state, at: jax.lax.scan(step, state, at)[0], donate_argnums=0)
    each = list(zip(numbers, batches, strict=True))

    def run(steps: int) -> tuple[np.ndarray, np.ndarray]:
        # the second state is a copy: what is donated must not share memory with NumPy's arrays
        params = tuple(jax.numpy.array(x, copy=True) for x in work.parts)
        state = (params, *(tuple(jax.numpy.zeros_like(x) for x in params) for _ in range(2)))
        if scan:
            state = many(state, (numbers[:steps], batches[:steps]))
        else:
            for at in each[:steps]:
                state, _ = one(state, at)
        return tuple(np.concatenate([np.asarray(x).ravel() for x in part]) for part in state[:2])

    return run


def agree(name: str, first_step: dict[str, tuple[np.ndarray, np.ndarray]], work: Work) -> None:
    """Raise unless all made the same first step.

    Adam's first moment is then (1 - BETA1) times the gradient, which may differ by what its sums of p + h + 2B terms
    cost in any order, relative to the gradient with every term positive. The step follows it with a slope of at most
    LR/EPS, and is at most LR: in float64 that says something.
    """
    u, batch = float(np.finfo(work.start.dtype).eps) / 2, work.batches[0]
    w, b, head = (np.abs(x.astype(np.float64)) for x in work.parts)
    x = np.abs(np.concatenate([work.chosen[batch], work.rejected[batch]]).astype(np.float64))
    dr = np.full(len(x), (1 + 4 * peers.CENTER * 10) / len(batch))  # |dJ/dr| where |r| <= 10
    a = x @ w + b
    bar = dr[:, None] * head * 1.13  # gelu's steepest
    largest = np.concatenate([(x.T @ bar).ravel(), bar.sum(0), a.T @ dr])
    terms = sum(work.widths) + len(x)
    off = 2 * terms * u * largest
    theta, moment = (np.asarray(part, np.float64) for part in first_step[OURS])
    for other, (found, m) in first_step.items():
        wrong = np.abs(m - moment) - off
        assert wrong.max() <= 0, f"{name}: the gradient of {other} is off by {wrong.max():g} more than rounding allows"
        apart = np.abs(found - theta) - np.minimum(2 * LR, LR / EPS * off) - 2 * u * np.abs(theta)
        assert apart.max() <= 0, f"{name}: the first step of {other} is off by {apart.max():g}"


def cases(threads: int, quick: bool) -> Iterator[Case]:
    sizes = [
        (32, (64, 32, 1), 200, [Bar("PyTorch eager", 10.0), Bar("JAX", 4.0)]),
        (256, (384, 256, 1), 40, [Bar("", 1.0)]),
        (4096, (1024, 1024, 1), 1, [Bar("limit", 1 / 1.1)]),
    ]
    for batch, widths, steps, bars in sizes[: 2 if quick else 3]:
        steps = min(steps, 5) if quick else steps
        for activation, dtype in (("relu", "float32"), ("gelu", "float64")):
            work = make(batch, widths, activation, dtype, steps, threads)
            makers: dict[str, Callable[[Work], Steps]] = {
                OURS: ours,
                "NumPy": numpy_steps,
                "PyTorch eager": torch_eager,
                "torch.compile": torch_compiled,
                "JAX jit": lambda work: jax_steps(work, False),
                "JAX jit, scan": lambda work: jax_steps(work, True),
            }
            if steps == 1:
                del makers["JAX jit, scan"]
            name = f"batch {batch} of {'-'.join(map(str, widths))}, {activation}, {dtype}"
            first, results, left_out = build({key: partial(bound, make, work) for key, make in makers.items()})
            agree(name, results, work)
            runs = {key: partial(run.args[0], steps) for key, run in first.items()}  # the same, K steps
            bare = limits.products(batch, widths, dtype, threads)
            many = {key: partial(repeat, run, steps) for key, run in bare.items()}
            yield Case(name, runs, many, bars, per=steps, left_out=left_out)


def bound(make: Callable[[Work], Steps], work: Work) -> partial[tuple[np.ndarray, np.ndarray]]:
    """Return a contender that takes the first step."""
    return partial(once, make(work))


def once(run: Steps) -> tuple[np.ndarray, np.ndarray]:
    return run(1)


def repeat(run: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        run()
