"""EasyDeL: the `training_step` of its reward trainer (JAX), with scores of shape (N, 1), as its models return them.

The step computes loss and gradients; what would update the model's state hands them back instead.
"""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
from loading import load
from peer import Case, Finding, Peer

PACKAGES = ("easydel", "easydel.trainers", "easydel.trainers.reward_trainer")
module = load(
    "easydel.trainers.reward_trainer._fn",
    bare=PACKAGES,
    inert=("eformer", "optax", "easydel.infra", "easydel.utils"),
)
module.with_sharding_constraint = lambda arr, sharding: arr
module.LossMetrics = dict
module.update_metrics = lambda metrics, **_: metrics
module.update_state_respectfully = lambda gradients, metrics, **_: SimpleNamespace(
    gradients=gradients, loss=metrics["loss"]
)
transforms = load(
    "easydel.trainers.prompt_transforms",
    bare=PACKAGES,
    inert=("datasets", "jinja2", "pyarrow", "transformers", "easydel.data", "easydel.infra", "easydel.utils"),
)


def loss(coefficient: float | None = None):
    def compute(r_w, r_l, margin=None):
        one = jnp.ones((len(r_w), 1), dtype=jnp.int32)
        batch = {f"{part}_{side}": one for part in ("input_ids", "attention_mask") for side in ("chosen", "rejected")}
        batch["input_ids_rejected"] = 2 * one
        if margin is not None:
            batch["margin"] = margin

        def merge(scores):
            sides = iter(scores)  # the model is called for the chosen responses, then for the rejected ones
            return lambda input_ids, attention_mask: SimpleNamespace(logits=next(sides)[:, None])

        state = SimpleNamespace(graphstate=(r_w, r_l), merge=merge, step=0)
        done, _ = module.training_step(state, batch, center_rewards_coefficient=coefficient)
        return done.loss, done.gradients

    return compute


def broadcast() -> list[float]:
    r_w, r_l, margin = (jnp.asarray(x, dtype=jnp.float32) for x in ([4.0, 0.0], [0.0, 0.0], [0.0, 4.0]))
    return [float(loss()(r_w, r_l, margin)[0])]


class Tokenizer:
    pad_token_id = 0
    chat_template = None

    def __call__(self, text, max_length, **_):
        return {"input_ids": [1] * max_length, "attention_mask": [1] * max_length}


def dropped() -> list[float]:
    transform = transforms.RewardPreprocessTransform(tokenizer=Tokenizer(), max_length=4)
    return [float("margin" in transform({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.5}))]


def softplus(x: float) -> float:
    return float(np.logaddexp(0, x))


PEERS = (
    Peer(
        "easydel",
        "easydel.trainers.reward_trainer._fn.training_step",
        "the module file, and that of its minibatch helpers, are imported without their packages' `__init__`; eformer, "
        "optax and its model classes are stand-ins; a stand-in state returns the scores as (N, 1), and hands back loss "
        "and gradients where the step would update the model",
        (
            Case("margins", loss(), {"coef": 0.0}),
            Case("no margins", loss(), {"coef": 0.0, "margin": False}),
            Case("no margins, center_rewards_coefficient=0.01", loss(0.01), {"coef": 0.01, "margin": False}),
        ),
        (
            Finding(
                "M1",
                "wrong result",
                "easydel/trainers/reward_trainer/_fn.py: training_step and evaluation_step",
                "A sequence-classification model with one label returns logits (N, 1), the collator stacks margins "
                "to (N,): their difference is (N, N), and the mean runs over every score with every margin. "
                "Both shapes were seen with its own Llama model and collator, in a full installation. "
                "`rewards.squeeze(-1)` before the difference would keep the pairs.",
                "scores r_w = (4, 0), r_l = (0, 0), margins (0, 4)",
                "loss",
                [(softplus(-4) + softplus(0) + softplus(0) + softplus(4)) / 4],
                [(softplus(-4) + softplus(4)) / 2],
                "docs/reference/conventions.md, Shapes and dtypes: a margin belongs to its pair",
                broadcast,
            ),
            Finding(
                "M3",
                "wrong result",
                "easydel/trainers/prompt_transforms.py: RewardPreprocessTransform, through purify_example",
                "Margins of text examples never reach the loss: after tokenising, only the fields of "
                '_TOKENIZED_FIELDS are kept, and "margin" is not one of them (examples that come tokenised keep '
                'it). Training goes on without margins, silently. purify_example(result, keep_fields={"margin"}) '
                "would keep them.",
                'an example with "prompt", "chosen", "rejected" and "margin"',
                'whether the transformed example has a "margin"',
                [0.0],
                [1.0],
                "docs/reference/conventions.md, Notation: the margin is subtracted inside the sigmoid",
                dropped,
            ),
        ),
    ),
)
