"""LLaMA-Factory: `PairwiseTrainer.compute_loss`, with one token per response and a model that returns its score."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from loading import load
from peer import Case, Finding, Peer

module = load(
    "llamafactory.train.rm.trainer",
    bare=("llamafactory", "llamafactory.train", "llamafactory.train.rm"),
    inert=("transformers", "llamafactory.extras", "llamafactory.train.callbacks", "llamafactory.train.trainer_utils"),
)
module.logger = SimpleNamespace(info_rank0=lambda message: None)  # the stand-in has no such method
trainer = module.PairwiseTrainer.__new__(module.PairwiseTrainer)


def loss(r_w, r_l):
    tokens = torch.ones(2 * len(r_w), 1, dtype=torch.int64)
    values = torch.cat([r_w, r_l])[:, None]
    return trainer.compute_loss(lambda **_: (None, None, values), {"input_ids": tokens, "attention_mask": tokens})


def rounded() -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        trainer.args = SimpleNamespace(output_dir=folder)
        trainer.is_world_process_zero = lambda: True
        trainer.save_predictions(SimpleNamespace(predictions=(np.array([0.004]), np.array([0.001]))))
        row = json.loads((Path(folder) / "generated_predictions.jsonl").read_text())
    return [row["chosen"], row["rejected"]]


PEERS = (
    Peer(
        "llamafactory",
        "llamafactory.train.rm.trainer.PairwiseTrainer.compute_loss",
        "the module file is imported without its packages' `__init__`; transformers and its own logging, callbacks and "
        "optimizer helpers are stand-ins, the trainer object is made without its constructor (`compute_loss` does "
        "not use it)",
        (Case("", loss, {"coef": 0.0}),),
        (
            Finding(
                "",
                "reporting",
                "llamafactory/train/rm/trainer.py: PairwiseTrainer.save_predictions",
                "Scores are rounded to two decimals before they are saved, so that pairs closer than 0.01 become "
                "ties, and neither accuracy nor loss can be computed again from the file. The scores could be saved "
                "as they are.",
                "scores 0.004 (chosen) and 0.001 (rejected)",
                "the line of generated_predictions.jsonl",
                [0.0, 0.0],
                [0.004, 0.001],
                "docs/reference/conventions.md, Accuracy of pairs and ties",
                rounded,
            ),
        ),
    ),
)
