"""Training logs: aggregates by step, as trainers write them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from refrm.diagnosis.blocks import Place, plain
from refrm.diagnosis.data import SERIES, Log, Problems
from refrm.diagnosis.formats import Unreadable, number
from refrm.errors import FileError

NAMES = {
    **{name: name for name in SERIES},
    # TRL and axolotl
    "mean_reward": "mean_score",
    "min_reward": "min_score",
    "max_reward": "max_score",
    "margin": "mean_margin",
    # ms-swift, whose center_rewards_loss is already multiplied by its coefficient
    "rewards/chosen": "mean_chosen",
    "rewards/rejected": "mean_rejected",
    "rewards/margins": "mean_margin",
    "rewards/accuracies": "accuracy",
    "center_rewards_loss": "penalty",
    # OpenRLHF, EasyDeL, NeMo, xtuner, Open-Assistant
    "chosen_reward": "mean_chosen",
    "reject_reward": "mean_rejected",
    "chosen_rewards": "mean_chosen",
    "rejected_rewards": "mean_rejected",
    "rewards_chosen_mean": "mean_chosen",
    "acc": "accuracy",
    "rewards_rejected_mean": "mean_rejected",
    "chosen_score_mean": "mean_chosen",
    "reward_mean": "mean_score",
    "rejected_score_mean": "mean_rejected",
    "pos_score": "mean_chosen",
    "neg_score": "mean_rejected",
    "score_diff": "mean_margin",
    "acc_mean": "accuracy",
}
"""The series (`refrm.diagnosis.data.SERIES`) by the keys of the frameworks, without their prefixes."""

HELD_OUT = ("eval_", "eval/", "eval/eval_", "val/", "valid/", "heldout_")
TRAINED = ("", "train/", "train_")
STEPS = ("step", "global_step", "current_steps", "global_step/max_steps", "train/global_step", "_step", "iteration")
FRAMEWORKS = {
    "global_step/max_steps": "ms-swift",
    "rewards/margins": "ms-swift",
    "current_steps": "llama-factory",
    "mean_reward": "trl",
    "eval_mean_reward": "trl",
    "mean_score": "refrm",  # after TRL's: `refrm.diagnosis.trl` adds it there
}

_EVALUATION = re.compile(
    r"chosen_last_scores \([^)]*\) : *(\S+?),.*?reject(?:ed)?_last_scores \([^)]*\) : *(\S+?),.*?acc \([^)]*\) : *(\S+)"
)
_STEP = re.compile(r"\bstep=(\d+), skipped=")


def series_of(key: str) -> str | None:
    """Return the series that a key holds, or None."""
    for prefix in HELD_OUT:
        if key.startswith(prefix) and key.removeprefix(prefix) in NAMES:
            return f"heldout_{NAMES[key.removeprefix(prefix)]}"
    for prefix in TRAINED:
        if key.startswith(prefix) and key.removeprefix(prefix) in NAMES and key != "train_loss":
            return NAMES[key.removeprefix(prefix)]
    return None  # train_loss is TRL's mean over the whole run


def is_log(rows: Iterable[Any]) -> bool:
    """Return whether rows are records of a log: one has both a step and a series."""
    return any(
        isinstance(row, Mapping) and any(key in row for key in STEPS) and any(map(series_of, row)) for row in rows
    )


def step_of(row: Mapping[str, Any]) -> float:
    """Return the step of a record, or raise `Unreadable`."""
    for key in STEPS:
        if key in row:
            value = row[key]
            step = number(str(value).partition("/")[0] if isinstance(value, str) else value, key)
            if step is None or not math.isfinite(step):
                raise Unreadable(f"a step in {key!r}, got {value!r}")
            return step
    raise Unreadable(f"a step, as {STEPS[0]!r}")


def log_of(name: str, records: Sequence[Mapping[str, Any]], problems: Problems, framework: str = "") -> Log:
    """Return the log of records in the order in which they were written; a later one overrides an earlier one.

    Parameters
    ----------
    name : str
        What was read.
    records : sequence of mappings
        With a step (`step_of`) and series (`series_of`); other keys are left aside.
    problems : Problems
        What could not be read.
    framework : str
        Whose log it is where the keys do not tell.
    """
    table: dict[float, dict[str, float]] = {}
    bad: dict[str, int] = {}
    for record in records:
        at = table.setdefault(step_of(record), {})
        for key, value in record.items():
            series = series_of(key)
            if series is None:
                continue
            try:
                figure = number(value, key)
            except Unreadable:
                continue
            if figure is not None and not math.isfinite(figure):
                bad[series], figure = bad.get(series, 0) + 1, math.nan
            if figure is not None:
                at[series] = figure
    steps = sorted(step for step, found in table.items() if found)
    names = [
        n for prefix in ("", "heldout_") for n in (prefix + s for s in SERIES) if any(n in table[t] for t in steps)
    ]
    if not names:
        raise FileError(f"{name} has no series of a training log")
    keys = {key for record in records for key in record}
    framework = next((name for key, name in FRAMEWORKS.items() if key in keys), framework)
    columns = {key: np.array([table[step].get(key, math.nan) for step in steps]) for key in names}
    return Log(name, np.array(steps), columns, bad, framework, problems)


def evaluations(path: Place) -> list[dict[str, float]]:
    """Return the records that DeepSpeed-Chat prints among other things.

    Its steps are those that DeepSpeed prints now and then ("step=100, skipped=0"), the last one before an evaluation;
    where two evaluations would have the same one, it is the number of the evaluation.
    """
    found: list[dict[str, float]] = []
    step = 0.0
    with plain(path) as (stream, _):
        for line in stream:
            text = line.decode(errors="replace")
            if last := _STEP.findall(text):
                step = float(last[-1])
            if match := _EVALUATION.search(text):
                try:
                    w, v, accuracy = (float(group.rstrip(",.")) for group in match.groups())
                except ValueError:
                    continue
                figures = {"eval/mean_chosen": w, "eval/mean_rejected": v, "eval/accuracy": accuracy}
                found.append({"step": step, **figures})
    if len({record["step"] for record in found}) < len(found):
        found = [{**record, "step": float(at)} for at, record in enumerate(found)]
    return found
