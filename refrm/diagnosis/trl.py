"""The live diagnosis for Hugging Face trainers: `watch` a `trl.RewardTrainer`.

What the trainer's own log lacks is added beside it, under names that `refrm diagnose trainer_state.json` reads. The
scores come from a forward hook on the model, so they are those that the loss is computed from, whatever wraps the
model (accelerate, PEFT, gradient checkpointing). Nothing of the trainer is replaced.
"""

from typing import Any

from refrm.diagnosis.callback import Monitor, Window
from refrm.errors import InputError

try:
    from transformers import TrainerCallback
except ModuleNotFoundError:  # then there is no trainer to watch; what is written here can be read all the same
    TrainerCallback = object

SHOWN = ("mean_score", "spread", "std_margin", "mean_square_sum", "invisible_share", "nonfinite")
"""Figures that are added to the trainer's log; the others are there by the names that it gives them."""


class ScoreMonitor(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """The callback that `watch` gives to a trainer.

    Attributes
    ----------
    monitor : Monitor
        Has the history of all reports; ``monitor.diagnosis()`` diagnoses the pairs trained on last.
    """

    def __init__(self, monitor: Monitor, accelerator: Any) -> None:
        self.monitor = monitor
        self._accelerator = accelerator
        self._hook: Any = None
        self._evaluated: Any = None
        self._step = 0

    def attach(self, model: Any) -> None:
        """Listen to what the model puts out, from now on."""
        self.detach()
        self._hook = model.register_forward_hook(self._listen)

    def detach(self) -> None:
        """Listen no more."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _listen(self, model: Any, _: Any, output: Any) -> None:
        if model.training:
            self._add(output.logits, heldout=False)
        else:  # perhaps of an evaluation, perhaps of somebody who uses the model: `on_prediction_step` tells
            self._evaluated = output.logits

    def _add(self, scores: Any, heldout: bool) -> None:
        if scores.numel() != len(scores) or len(scores) % 2:
            raise InputError(
                f"the model's scores must have shape (2N, 1), the chosen ones first, got {tuple(scores.shape)}"
            )
        r_w, r_l = scores.detach().reshape(2, -1)
        self.monitor.add(r_w, r_l, self._step, heldout=heldout)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the step: batches of it are those of the step to come, as in the log."""
        self._step = state.global_step + 1

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up the batch of an evaluation."""
        if self._evaluated is not None:
            self._add(self._evaluated, heldout=True)
            self._evaluated = None

    def on_predict(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget what was predicted: it is not logged."""
        self.monitor.take(heldout=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Add figures to what is logged: of the pairs since the last log, over all processes."""
        if logs is None or "train_runtime" in logs:
            return
        kind = next((key.removesuffix("runtime") for key in logs if key.endswith("_runtime")), "")
        figures = self._report(bool(kind), state.global_step)
        added = {f"{kind}{name}": figures[name] for name in SHOWN if name in figures}
        logs.update(added)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(added)

    def _report(self, heldout: bool, step: int) -> dict[str, float]:
        window = self.monitor.take(heldout=heldout)
        if self._accelerator.num_processes > 1:
            import torch

            mine = torch.tensor([window.vector()], dtype=torch.float64, device=self._accelerator.device)
            window = Window()
            for numbers in self._accelerator.gather(mine).tolist():
                window = window.merged(Window(*numbers))
        if not self._accelerator.is_main_process:
            return {}
        return self.monitor.report(step, heldout=heldout, window=window)


def watch(
    trainer: Any, *, label_smoothing: float = 0.0, target: float = 1.0, keep: int = 1 << 20, coef: float | None = None
) -> ScoreMonitor:
    """Watch the scores of a trainer: log what tells shift from margin, and warn when scores drift.

    Parameters
    ----------
    trainer : trl.RewardTrainer
        Or another `transformers.Trainer` whose model returns logits of shape (2N, 1), the chosen responses first.
    label_smoothing, target, keep
        See `refrm.diagnosis.callback.Monitor`.
    coef : float, optional
        By default the trainer's ``center_rewards_coefficient``.

    Returns
    -------
    ScoreMonitor

    Raises
    ------
    InputError
        If the trainer is watched already, or is no trainer.
    """
    try:
        callbacks, model, accelerator = trainer.callback_handler.callbacks, trainer.model, trainer.accelerator
    except AttributeError:
        raise InputError(f"trainer must be a transformers.Trainer, got {trainer!r}") from None
    if any(isinstance(callback, ScoreMonitor) for callback in callbacks):
        raise InputError("the trainer is watched already")
    if coef is None:
        coef = getattr(trainer.args, "center_rewards_coefficient", None)
    monitor = Monitor(coef=coef, label_smoothing=label_smoothing, target=target, keep=keep)
    callback = ScoreMonitor(monitor, accelerator)
    callback.attach(model)
    callbacks.insert(0, callback)  # before those that report what is logged
    return callback
