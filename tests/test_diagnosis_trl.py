"""The real trl.RewardTrainer around a tiny model with random weights, watched: `tox -e trl`."""

import json
import math
import os
import random
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

pytest.importorskip("trl", reason="trl is not installed: tox -e trl")

import torch
from click.testing import CliRunner
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

from refrm.cli import cli
from refrm.diagnosis.callback import ScoreWarning
from refrm.diagnosis.trl import SHOWN, watch
from refrm.errors import InputError

WORDS = [f"w{i}" for i in range(40)]
torch.set_num_threads(1)
OURS = set(SHOWN) - {"nonfinite"}


class Drifting(LlamaForSequenceClassification):
    """Adds a constant to all scores that grows with each batch trained on: the loss cannot see it."""

    added = 0.0

    def forward(self, *args, **settings):
        output = super().forward(*args, **settings)
        if self.training:
            self.added += 0.05
        output.logits = output.logits + self.added
        return output


class Spy(LlamaForSequenceClassification):
    """Notes the scores that it returns."""

    def __init__(self, config):
        super().__init__(config)
        self.seen = {True: [], False: []}

    def forward(self, *args, **settings):
        output = super().forward(*args, **settings)
        self.seen[self.training].append(output.logits.detach().double())
        return output


def pairs(n, seed):
    """Pairs of nonsense that end in a word which tells the better one, mostly."""
    drawn = random.Random(seed)
    texts = [[" ".join(drawn.choices(WORDS, k=5)) for _ in range(2)] for _ in range(n)]
    ends = [("w1", "w2") if drawn.random() < 0.8 else ("w2", "w1") for _ in range(n)]
    return Dataset.from_list(
        [{"chosen": f"{a} {x}", "rejected": f"{b} {y}"} for (a, b), (x, y) in zip(texts, ends, strict=True)]
    )


def build(place, model=LlamaForSequenceClassification, evaluated=None, **settings):
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "<eos>", *WORDS])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=len(words), num_key_value_heads=1, num_labels=1, pad_token_id=0, **size)
    defaults = {"per_device_train_batch_size": 4, "logging_steps": 2, "max_steps": 12, "learning_rate": 1e-2}
    quiet = {"report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True, "output_dir": str(place)}
    return RewardTrainer(
        model=model(config),
        args=RewardConfig(**{**quiet, **defaults, **settings}),
        processing_class=tokenizer,
        train_dataset=pairs(64, 0),
        eval_dataset=evaluated,
    )


def figures(batches):
    """The figures of batches of scores, shape (2N, 1), by their definitions."""
    r_w, r_l = torch.cat([scores.reshape(2, -1) for scores in batches], dim=1)
    half, d = (r_w + r_l) / 2, r_w - r_l
    squares = ((r_w + r_l) ** 2).mean()
    return {
        "mean_score": half.mean(),
        "spread": half.std(correction=0),
        "std_margin": d.std(correction=0),
        "mean_square_sum": squares,
        "invisible_share": squares / (squares + (d * d).mean()),
    }


def test_the_log_has_the_figures_of_the_pairs_since_the_last_log(tmp_path):
    trainer = build(tmp_path, Spy, gradient_accumulation_steps=2, max_steps=6)
    watch(trainer)
    trainer.train()
    logs = [one for one in trainer.state.log_history if "loss" in one]
    assert [one["step"] for one in logs] == [2, 4, 6]
    batches = trainer.model.seen[True]
    assert len(batches) == 12
    for at, log in enumerate(logs):
        expected = figures(batches[4 * at : 4 * at + 4])
        assert set(expected) <= set(log)
        for name, value in expected.items():  # float32 scores, summed in float64: nothing but the last bits differs
            assert log[name] == pytest.approx(float(value), rel=1e-9, abs=1e-12)
        # the trainer's mean over batches of one size is the mean over pairs, in float32
        assert log["mean_score"] == pytest.approx(log["mean_reward"], rel=1e-5, abs=1e-6)
    assert "spread" not in trainer.state.log_history[-1]  # the summary of the run


def test_whoever_reports_the_log_reports_these_figures(tmp_path):
    trainer = build(tmp_path)
    first = next(iter(trainer.callback_handler.callbacks))
    seen = []
    first.on_log = lambda *_, logs, **__: seen.append(dict(logs))
    watch(trainer)
    trainer.train()
    assert len(seen) == 7 and all(set(logs) >= OURS for logs in seen[:-1])


def test_held_out_pairs_have_figures_of_their_own(tmp_path):
    trainer = build(tmp_path, Spy, evaluated=pairs(20, 1), eval_strategy="steps", eval_steps=6)
    callback = watch(trainer)
    trainer.train()
    held = [one for one in trainer.state.log_history if "eval_loss" in one]
    assert [one["step"] for one in held] == [6, 12]
    batches = trainer.model.seen[False]
    half = len(batches) // 2
    for part, log in ((batches[:half], held[0]), (batches[half:], held[1])):
        for name, value in figures(part).items():
            assert log[f"eval_{name}"] == pytest.approx(float(value), rel=1e-9, abs=1e-12)
    before = len(callback.monitor.history)
    trainer.predict(trainer.eval_dataset)
    with torch.no_grad():  # of somebody who uses the model: one text, and no pair
        trainer.model(input_ids=torch.tensor([[3, 4, 5]]))
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(held[1]["eval_loss"], rel=1e-6)
    assert len(callback.monitor.history) == before + 1
    last, same = trainer.state.log_history[-1], held[1]
    assert {name: last[f"eval_{name}"] for name in OURS} == {name: same[f"eval_{name}"] for name in OURS}


def test_training_is_what_it_was(tmp_path):
    ends = []
    for watched in (False, True):
        trainer = build(tmp_path, evaluated=pairs(8, 1), eval_strategy="steps", eval_steps=6)
        if watched:
            watch(trainer)
        trainer.train()
        ends.append(torch.cat([p.detach().ravel() for p in trainer.model.parameters()]))
    assert torch.equal(*ends)


def test_the_saved_log_can_be_diagnosed(tmp_path):
    coef = 0.01
    trainer = build(tmp_path, save_strategy="steps", save_steps=12, center_rewards_coefficient=coef)
    callback = watch(trainer)
    trainer.train()
    assert callback.monitor.settings.coef == coef
    state = tmp_path / "checkpoint-12" / "trainer_state.json"
    assert set(json.loads(state.read_text())["log_history"][-1]) >= OURS
    done = CliRunner().invoke(cli, ["diagnose", str(state), "--coef", str(coef), "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code in (0, 1) and found["figures"]["spread"]["value"] > 0
    assert {bound["what"] for bound in found["bounds"]} == {"mean s^2 at rest", "mean s^2 since the start"}
    assert callback.monitor.diagnosis().n_pairs == 12 * 4


def test_drift_is_warned_of_once_and_health_is_not(tmp_path):
    steps = {"max_steps": 120, "logging_steps": 2}
    healthy = build(tmp_path, **steps, center_rewards_coefficient=0.1)
    watch(healthy)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScoreWarning)
        healthy.train()
    trainer = build(tmp_path, Drifting, **steps)
    callback = watch(trainer)
    with pytest.warns(ScoreWarning) as told:
        trainer.train()
    messages = [str(one.message) for one in told if one.category is ScoreWarning]
    drifts = [text for text in messages if ": drift: " in text]
    assert len(drifts) == 1 and "train with" in drifts[0]
    slope = callback.monitor.diagnosis().trends["mean_score"].slope
    assert slope.value == pytest.approx(50, rel=0.05)  # 0.05 a step; what the model learns is small beside it


def test_what_cannot_be_watched(tmp_path):
    with pytest.raises(InputError, match=r"must be a transformers\.Trainer"):
        watch(SimpleNamespace())
    trainer = build(tmp_path)
    callback = watch(trainer)
    with pytest.raises(InputError, match="watched already"):
        watch(trainer)
    trainer.model.train()
    with pytest.raises(InputError, match=r"shape \(2N, 1\), the chosen ones first, got \(3, 1\)"):
        trainer.model(input_ids=torch.tensor([[3], [4], [5]]))
    callback.detach()
    trainer.model(input_ids=torch.tensor([[3], [4], [5]]))


def test_several_processes_report_on_the_pairs_of_all(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logs = json.loads((tmp_path / "logs.json").read_text())
    assert len(logs) == 3
    for log in logs:  # the trainer's own mean is over both processes
        assert log["mean_score"] == pytest.approx(log["mean_reward"], rel=1e-5, abs=1e-6)
        assert math.isfinite(log["spread"])


def main(place):
    """Train in one of several processes."""
    trainer = build(place, max_steps=6)
    watch(trainer)
    trainer.train()
    if trainer.accelerator.is_main_process:
        logs = [one for one in trainer.state.log_history if "loss" in one]
        with open(f"{place}/logs.json", "w") as file:
            json.dump(logs, file)


if __name__ == "__main__":
    main(sys.argv[1])
