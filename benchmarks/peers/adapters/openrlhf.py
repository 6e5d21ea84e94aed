"""OpenRLHF: its two loss modules, called with the shapes of `RewardModelTrainer`: scores and margins (N,)."""

import torch
from loading import load
from peer import Case, Finding, Peer

module = load("openrlhf.models.loss", bare=("openrlhf", "openrlhf.models"), inert=("deepspeed",))
pairwise, log_exp = module.PairWiseLoss(), module.LogExpLoss()


def overflow() -> list[float]:
    r_w, r_l = torch.zeros(1, requires_grad=True), torch.full((1,), 100.0)
    loss = log_exp(r_w, r_l)
    loss.backward()
    return [loss.item(), r_w.grad.item()]


def margin() -> list[float]:
    return [log_exp(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([1.0])).item()]


CALLED = "the module file is imported without its package's `__init__`; deepspeed is a stand-in; the class is called"
WHERE = "openrlhf/models/loss.py: LogExpLoss.forward"
PEERS = (
    Peer(
        "openrlhf",
        "openrlhf.models.loss.PairWiseLoss",
        CALLED,
        (Case("", lambda r_w, r_l, margin=None: pairwise(r_w, r_l, margin), {"coef": 0.0}),),
    ),
    Peer(
        "openrlhf",
        "openrlhf.models.loss.LogExpLoss",
        CALLED,
        (Case("", lambda r_w, r_l, margin=None: log_exp(r_w, r_l, margin), {"coef": 0.0}),),
        (
            Finding(
                "L3",
                "wrong result",
                WHERE,
                "`log(1 + exp(r_l - r_w))` overflows: from a difference of 89 in float32 the loss is inf and the "
                "gradient NaN, which ends the training. `-F.logsigmoid(chosen_reward - reject_reward)`, as in "
                "PairWiseLoss, is the same function without the overflow.",
                "float32 scores r_w = 0, r_l = 100",
                "loss, and its gradient in r_w",
                [float("inf"), float("nan")],
                [100.0, -1.0],
                "T2; docs/reference/conventions.md, NaN and infinity",
                overflow,
            ),
            Finding(
                "M3",
                "wrong result",
                WHERE,
                "The argument `margin` is accepted and has no effect, so that a run with the margin loss enabled "
                "and any loss but `sigmoid` trains without margins, silently.",
                "float32 scores r_w = 2, r_l = 1, margin = 1",
                "loss",
                [0.31326168751822286],
                [0.6931471805599453],
                "docs/reference/conventions.md, Notation: the margin is subtracted inside the sigmoid",
                margin,
            ),
        ),
    ),
)
