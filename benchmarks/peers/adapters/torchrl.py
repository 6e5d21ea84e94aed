"""TorchRL: `GPT2RewardModel.compute_reward_loss`, the pairwise loss over tokens, with one token per response."""

from types import SimpleNamespace

import torch
from loading import load
from peer import Case, Finding, Peer

model = load(
    "torchrl.modules.models.llm", bare=("torchrl", "torchrl.modules", "torchrl.modules.models")
).GPT2RewardModel
PAD = 0


def tokens(chosen, rejected, chosen_rewards, rejected_rewards):
    return model.compute_reward_loss(
        SimpleNamespace(input_ids=chosen, rewards=chosen_rewards),
        SimpleNamespace(input_ids=rejected, rewards=rejected_rewards),
        PAD,
    )


def loss(r_w, r_l):
    ones = torch.ones(len(r_w), 1, dtype=torch.int64)
    return tokens(ones, 2 * ones, r_w[:, None], r_l[:, None])


def pads() -> list[float]:
    chosen = torch.tensor([[2.0, 2.0, 0.0]], requires_grad=True)
    tokens(torch.tensor([[5, 6, PAD]]), torch.tensor([[5, 7, 8]]), chosen, torch.ones(1, 3)).backward()
    return chosen.grad[0].tolist()


def after_pad() -> list[float]:
    scores = torch.ones(1, 3)
    return [tokens(torch.tensor([[5, PAD, 6]]), torch.tensor([[5, PAD, 7]]), 2 * scores, scores).item()]


WHERE = "torchrl/modules/models/llm.py: GPT2RewardModel._compute_reward_loss"
PEERS = (
    Peer(
        "torchrl",
        "torchrl.modules.models.llm.GPT2RewardModel.compute_reward_loss",
        "the module file is imported without its packages' `__init__`; the method is called with batches of one "
        "differing token per response",
        (Case("one token per response", loss, {"coef": 0.0}),),
        (
            Finding(
                "",
                "wrong result",
                WHERE,
                "The span runs to the longer of the two ends, so that the shorter response's scores at padding "
                "count, and are trained, as if they were tokens (as in DeepSpeedExamples#316); `end_scores` never "
                "reads them. Ending each response's span at its own end, or comparing end scores, would leave them "
                "out.",
                "input ids (5, 6, pad) and (5, 7, 8); chosen scores (2, 2, 0), rejected scores (1, 1, 1)",
                "gradient in the three chosen scores, the last of them at the pad",
                [0.0, -0.5 * 0.2689414213699951, -0.5 * 0.7310585786300049],
                [],
                "a pad has no score: the gradient there is to be 0",
                pads,
            ),
            Finding(
                "",
                "wrong result",
                WHERE,
                "The first padding id is taken for the end, also inside a text. With GPT-2 the padding id is that "
                "of the end-of-text token: where both texts contain it before they differ, the span is empty, and "
                "its mean, and the batch's loss, is NaN. Reading the end from the attention mask would not confuse "
                "them.",
                "input ids (5, pad, 6) and (5, pad, 7); scores 2 and 1",
                "loss",
                [float("nan")],
                [0.31326168751822286],
                "docs/reference/conventions.md, NaN and infinity: finite scores have a finite loss",
                after_pad,
            ),
        ),
    ),
)
