"""TRL: the real `RewardTrainer`, built by its own constructor around a tiny model, its `compute_loss` called as it is.

Only the model handed to `compute_loss` is a stand-in: one that returns the scores it is given, of shape (2N, 1), chosen
first, as the models that TRL trains do.
"""

import functools
import tempfile
from types import SimpleNamespace

import torch
from datasets import Dataset
from peer import Case, Finding, Peer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer


@functools.cache
def trainer(coefficient: float | None) -> RewardTrainer:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "<eos>": 2, "yes": 3, "no": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        num_labels=1,
        pad_token_id=0,
    )
    return RewardTrainer(
        model=LlamaForSequenceClassification(config),
        args=RewardConfig(
            output_dir=tempfile.mkdtemp(),
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            center_rewards_coefficient=coefficient,
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"chosen": "yes", "rejected": "no"}]),
    )


def loss(coefficient: float | None = None):
    made = trainer(coefficient)

    def compute(r_w, r_l, margin=None):
        inputs = {"attention_mask": torch.ones(2 * len(r_w), 1, dtype=torch.int64)}
        if margin is not None:
            inputs["margin"] = margin
        logits = torch.cat([r_w, r_l])[:, None]
        return made.compute_loss(lambda **_: SimpleNamespace(logits=logits), inputs)

    return compute


def negative_coefficient() -> list[float]:
    r = torch.tensor([10.0])
    return [loss(-0.01)(r, r).item(), loss(-0.01)(10 * r, 10 * r).item()]


PEERS = (
    Peer(
        "trl",
        "trl.RewardTrainer.compute_loss",
        "the trainer is built by its own constructor, around a tiny Llama model; a stand-in model returns the scores",
        (
            Case("no penalty", loss(), {"coef": 0.0}),
            Case("center_rewards_coefficient=0.01", loss(0.01), {"coef": 0.01}),
        ),
        (
            Finding(
                "R2",
                "unchecked input",
                "trl/trainer/reward_config.py: RewardConfig.center_rewards_coefficient",
                "A negative coefficient is accepted without a word, and the loss then has no minimum. "
                "RewardConfig could refuse it.",
                "RewardConfig(center_rewards_coefficient=-0.01); one pair of scores (10, 10), then (100, 100)",
                "loss",
                [0.6931471805599453 - 4.0, 0.6931471805599453 - 400.0],
                [],
                "T10: with -lambda the loss is unbounded below as soon as a sum of scores can move",
                negative_coefficient,
            ),
        ),
    ),
)
