"""XTuner: `RewardModel.compute_loss`, with one token per response and a language model that returns the scores."""

import torch
from loading import load
from peer import Case, Finding, Peer

module = load(
    "xtuner.model.reward",
    bare=("xtuner", "xtuner.model"),
    inert=(
        "mmengine", "peft", "transformers",
        "xtuner.model.modules", "xtuner.model.utils", "xtuner.parallel", "xtuner.registry", "xtuner.utils",
    ),
)  # fmt: skip
module.get_sequence_parallel_world_size = lambda: 1  # the stand-in knows no ranks


def loss(penalty: str, weight: float = 0.0):
    model = module.RewardModel.__new__(module.RewardModel)
    model.loss_type, model.penalty_type, model.penalty_weight = "ranking", penalty, weight
    model.llm = lambda scores: (scores,)
    model.v_head = lambda hidden: hidden

    def compute(r_w, r_l):
        labels = torch.tensor([[0]] * len(r_w) + [[1]] * len(r_w))
        return model.compute_loss({"scores": torch.cat([r_w, r_l])[:, None]}, labels)["loss"]

    return compute


def barrier() -> list[float]:
    with_barrier, without = (torch.tensor([10.0], requires_grad=True) for _ in range(2))
    r_l = torch.tensor([9.0])
    loss("log_barrier", 1.0)(with_barrier, r_l).backward()
    loss("none")(without, r_l).backward()
    return [(with_barrier.grad - without.grad).item()]


PEERS = (
    Peer(
        "xtuner",
        "xtuner.model.reward.RewardModel.compute_loss",
        "the module file is imported without its packages' `__init__`; mmengine, transformers, peft and its own "
        "helpers are stand-ins; the model object is made without its constructor, with a language model and a head "
        "that return the scores",
        (
            Case('penalty_type="none"', loss("none"), {"coef": 0.0}),
            Case(
                'penalty_type="L2", penalty_weight=0.01', loss("L2", 0.01), {"coef": 0.01, "penalty": "sum-of-squares"}
            ),
        ),
        (
            Finding(
                "",
                "limitation",
                "xtuner/model/reward.py: RewardModel.log_barrier_penalty",
                "The default penalty, -log(5 - r) - log(r + 5), is clamped at |r| = 4.999, so that beyond it is "
                "constant: where the barrier has been passed it pulls no score back. Continuing it linearly, or a "
                "squared-sum term beside it, would.",
                'penalty_type="log_barrier", penalty_weight=1, float32 scores r_w = 10, r_l = 9',
                "gradient of the penalty in r_w",
                [0.0],
                [],
                "a barrier's gradient points inwards wherever a score can be; compare T7 and T8, which bound the mean",
                barrier,
            ),
        ),
    ),
)
