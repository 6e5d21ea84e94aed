"""Arena-Rank: the loss of its Bradley-Terry ratings (JAX): a score is a competitor's rating, a pair a match won."""

import jax
import jax.numpy as jnp
from loading import load
from peer import Case, Finding, Peer

module = load(
    "arena_rank.models.bradley_terry",
    bare=("arena_rank", "arena_rank.models"),
    inert=("jaxtyping", "optax", "pandas", "arena_rank.utils"),
)


def loss(r_w, r_l):
    (n,) = r_w.shape  # ratings have one axis
    matches = {
        "pairs": jnp.stack([jnp.arange(n), n + jnp.arange(n)], axis=1),
        "opt_weights": jnp.ones(n, dtype=r_w.dtype),
        "outcomes": jnp.ones(n, dtype=r_w.dtype),
    }
    return module.BradleyTerry.loss_function({"ratings": jnp.concatenate([r_w, r_l])}, matches)


def tail() -> list[float]:
    r_w, r_l = jnp.asarray([40.0]), jnp.zeros(1)  # float64: the module asks for it
    value, slope = jax.value_and_grad(loss)(r_w, r_l)
    return [float(value), float(slope[0])]


PEERS = (
    Peer(
        "arena-rank",
        "arena_rank.models.bradley_terry.BradleyTerry.loss_function",
        "the module file is imported without its packages' `__init__`; jaxtyping, optax, pandas and its own helpers "
        "are stand-ins; outcomes and weights are 1",
        (Case("", loss, {"coef": 0.0}),),
        (
            Finding(
                "",
                "accuracy",
                "arena_rank/models/bradley_terry.py: BradleyTerry.loss_function",
                "The loss of a match that the better one wins is a difference of nearly equal numbers, softplus(d) "
                "- d: it has an absolute error of an ulp of d, and no correct digit left from d = 37 on, where loss "
                "and gradient are 0. Outcome by outcome, y*softplus(-d) + (1 - y)*softplus(d) is the same function "
                "without the difference. A fit hardly feels it: such matches weigh little.",
                "float64 ratings 40 and 0, outcome 1",
                "loss, and its gradient in the winner's rating",
                [0.0, 0.0],
                [4.248354255291589e-18, -4.248354255291589e-18],
                "T2, and docs/theorems/numerics.md",
                tail,
            ),
        ),
    ),
)
