"""ms-swift: `RewardTrainer.compute_loss`, and the same of its Megatron trainer, with the attributes that they touch."""

from collections import defaultdict
from types import SimpleNamespace

import torch
from loading import load
from peer import Case, Finding, Peer

trainers = load(
    "swift.rlhf_trainers.reward_trainer",
    bare=("swift", "swift.rlhf_trainers"),
    inert=(
        "pandas", "trl", "accelerate", "transformers",
        "swift.trainers", "swift.utils", "swift.rlhf_trainers.rlhf_mixin",
    ),
)  # fmt: skip
megatron = load(
    "swift.megatron.trainers.reward_trainer",
    bare=("swift", "swift.megatron", "swift.megatron.trainers"),
    inert=("megatron", "swift.utils", "swift.megatron.trainers.rlhf_mixin"),
)


class Metric:
    def update(self, value):
        self.value = value


def trainer(coefficient: float | None):
    made = trainers.RewardTrainer.__new__(trainers.RewardTrainer)
    made.args = SimpleNamespace(center_rewards_coefficient=coefficient)
    made.model = SimpleNamespace(training=True)
    made.custom_metrics = {"train": defaultdict(Metric)}
    return made


def loss(coefficient: float | None = None, made=None):
    made = made or trainer(coefficient)

    def compute(r_w, r_l, margin=None):
        inputs = {"attention_mask": torch.ones(2 * len(r_w), 1, dtype=torch.int64)}
        if margin is not None:
            inputs["margin"] = margin
        return made.compute_loss(lambda **_: SimpleNamespace(logits=torch.cat([r_w, r_l])[:, None]), inputs)

    return compute


def megatron_loss(coefficient: float | None = None):
    made = megatron.MegatronRewardTrainer.__new__(megatron.MegatronRewardTrainer)
    made.args = SimpleNamespace(center_rewards_coefficient=coefficient)
    made.get_last_tokens = lambda output, packed, mask: output  # one token per response
    made._all_reduce_metric = lambda metric: metric

    def compute(r_w, r_l, margin=None):
        data = {} if margin is None else {"margin": margin}
        return made.loss_func(torch.cat([r_w, r_l])[:, None], data=data)[0]

    return compute


def negative_coefficient() -> list[float]:
    r = torch.tensor([10.0])
    return [loss(-0.01)(r, r).item(), loss(-0.01)(10 * r, 10 * r).item()]


def logged() -> list[float]:
    made = trainer(0.01)
    loss(made=made)(torch.tensor([3.0]), torch.tensor([1.0]))
    return [made.custom_metrics["train"]["center_rewards_loss"].value.item()]


STAND_INS = "the module file is imported without its packages' `__init__`, other imports are stand-ins; the trainer "
PEERS = (
    Peer(
        "ms-swift",
        "swift.rlhf_trainers.reward_trainer.RewardTrainer.compute_loss",
        STAND_INS + "object is made without its constructor and given `args`, `model.training` and `custom_metrics`; a "
        "stand-in model returns the scores as (2N, 1)",
        (
            Case("no penalty", loss(), {"coef": 0.0}),
            Case("center_rewards_coefficient=0.01", loss(0.01), {"coef": 0.01}),
        ),
        (
            Finding(
                "R2",
                "unchecked input",
                "swift/arguments/rlhf_args.py: RLHFArguments.center_rewards_coefficient, and "
                "swift/rlhf_trainers/reward_trainer.py: RewardTrainer.compute_loss",
                "A negative coefficient is used without a word, and the loss then has no minimum. RLHFArguments could "
                "refuse it.",
                "coefficient -0.01; one pair of scores (10, 10), then (100, 100)",
                "loss",
                [0.6931471805599453 - 4.0, 0.6931471805599453 - 400.0],
                [],
                "T10: with -lambda the loss is unbounded below as soon as a sum of scores can move",
                negative_coefficient,
            ),
            Finding(
                "R7",
                "reporting",
                "swift/rlhf_trainers/reward_trainer.py: RewardTrainer.compute_loss",
                "The logged `center_rewards_loss` is already multiplied by the coefficient, which its name does not "
                "say: a reader who weighs it again is wrong by that factor.",
                "coefficient 0.01, scores (3, 1), whose mean (r_w + r_l)^2 is 16",
                "center_rewards_loss",
                [0.16],
                [],
                "docs/reference/conventions.md, Sign, factor, reduction",
                logged,
            ),
        ),
    ),
    Peer(
        "ms-swift",
        "swift.megatron.trainers.reward_trainer.MegatronRewardTrainer.loss_func",
        STAND_INS + "object is made without its constructor; the last-token lookup and the reduction of metrics over "
        "ranks pass their argument through",
        (
            Case("no penalty", megatron_loss(), {"coef": 0.0}),
            Case("center_rewards_coefficient=0.01", megatron_loss(0.01), {"coef": 0.01}),
        ),
    ),
)
