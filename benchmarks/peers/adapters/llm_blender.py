"""LLM-Blender: the loss of its pair ranker PairRM, with label 1, which says that the left one is better."""

import torch
from loading import load
from peer import Case, Finding, Peer

module = load(
    "llm_blender.pair_ranker.pairrm", bare=("llm_blender", "llm_blender.pair_ranker"), inert=("transformers",)
)
model = module.DebertaV2PairRM.__new__(module.DebertaV2PairRM)


def labelled(label: float, r_w, r_l):
    return model.compute_loss(r_w[:, None], r_l[:, None], torch.full((len(r_w), 1), label))


def overflow() -> list[float]:
    r_w, r_l = torch.zeros(1, requires_grad=True), torch.full((1,), 100.0)
    loss = labelled(1.0, r_w, r_l)
    loss.backward()
    return [loss.item(), r_w.grad.item()]


def right_is_better() -> list[float]:
    return [labelled(0.0, torch.tensor([2.0]), torch.tensor([0.0])).item()]


WHERE = "llm_blender/pair_ranker/pairrm.py: DebertaV2PairRM.compute_loss"
PEERS = (
    Peer(
        "llm-blender",
        "llm_blender.pair_ranker.pairrm.DebertaV2PairRM.compute_loss",
        "the module file is imported without its packages' `__init__`; transformers is a stand-in; the model object "
        "is made without its constructor (`compute_loss` does not use it)",
        (Case("label 1", lambda r_w, r_l: labelled(1.0, r_w, r_l), {"coef": 0.0}),),
        (
            Finding(
                "L2",
                "wrong result",
                WHERE + " (the same expression is in ranker.py: CrossCompareReranker.compute_loss)",
                "`-log(sigmoid(d))` is inf, and its gradient NaN, once sigmoid(d) has underflowed: below -89 or so in "
                "float32. `-torch.nn.functional.logsigmoid(d)` is the same function without the underflow.",
                "float32 scores r_w = 0, r_l = 100",
                "loss, and its gradient in r_w",
                [float("inf"), float("nan")],
                [100.0, -1.0],
                "T2; docs/reference/conventions.md, NaN and infinity",
                overflow,
            ),
            Finding(
                "",
                "wrong result",
                WHERE,
                "The docstring gives the labels as 1/0/-1 for left/right/both is better; the code takes their sign, "
                "so that 0 (documented: right) gives the constant ln 2 with gradient 0, and -1 (documented: both) "
                "trains the right one up. Either the docstring or the code is wrong.",
                "scores 2 (left) and 0 (right), label 0",
                "loss",
                [0.6931471805599453],
                [2.1269280110429727],
                "where the right one is better the pairwise loss is softplus(2), and its gradient is not 0 (T2)",
                right_is_better,
            ),
        ),
    ),
)
