"""pykoi: `RewardFinetuning.compute_loss`, with a stand-in model that returns the scores as (N, 1)."""

from loading import load
from peer import Case, Peer

module = load(
    "pykoi.rlhf.rw_finetuning",
    bare=("pykoi", "pykoi.rlhf"),
    inert=(
        "evaluate", "datasets", "transformers", "peft", "pykoi.chat", "pykoi.telemetry", "pykoi.rlhf.config",
    ),
)  # fmt: skip
trainer = module.RewardFinetuning.__new__(module.RewardFinetuning)


def loss(r_w, r_l):
    inputs = {"input_ids_x": r_w, "attention_mask_x": None, "input_ids_y": r_l, "attention_mask_y": None}
    return trainer.compute_loss(lambda input_ids, attention_mask: (input_ids[:, None],), inputs)


PEERS = (
    Peer(
        "pykoi",
        "pykoi.rlhf.rw_finetuning.RewardFinetuning.compute_loss",
        "the module file is imported without its packages' `__init__`; transformers, datasets, evaluate, peft and "
        "its own database and telemetry are stand-ins; the trainer object is made without its constructor "
        "(`compute_loss` does not use it)",
        (Case("", loss, {"coef": 0.0}),),
    ),
)
