"""What the command line accepts: the types of its options, which of them go together, and where it may write."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refrm.errors import FileError, InputError

if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # not generic in the lowest click


class Number(_ParamType):
    """A number in an interval, checked as the library checks it."""

    name = "number"

    def __init__(self, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
        self.low, self.high, self.open_low = low, high, open_low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from refrm.checks import check_number

        try:
            number = float(value)
        except ValueError:
            number = math.nan
        try:
            return check_number("it", number, self.low, self.high, open_low=self.open_low)
        except InputError as error:
            text = str(error).rpartition(", got ")[0]
            self.fail(f"{text}, got {value!r}", param, ctx)


smoothing_option = click.option(
    "--label-smoothing",
    type=Number(0, 0.5),
    default=0.0,
    show_default=True,
    metavar="EPS",
    help="Probability of a flipped label, below 0.5.",
)


def path(text: str) -> Path:
    """Return the path of a file, which must have a name."""
    if not Path(text).name:
        raise click.BadParameter(f"{text!r} is not the name of a file")
    return Path(text)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json and --quiet."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(command)
    return click.option("--quiet", is_flag=True, help="Print nothing but errors.")(command)


def check_outputs(inputs: list[Path], outputs: dict[str, Path | None]) -> None:
    """Refuse, before any work, an output that cannot be written, or that is an input or another output."""
    from refrm.files import check_writable

    taken = {file.resolve(): "an input" for file in inputs}
    for option, file in outputs.items():
        if file is None:
            continue
        if file.resolve() in taken:
            raise InputError(f"{option} {file} is also {taken[file.resolve()]}")
        taken[file.resolve()] = f"the file of {option}"
        try:
            check_writable(file)
        except FileError as error:
            raise FileError(f"{option}: {error}") from None


SOLVER_OPTIONS = {
    "newton": {"steps": "max_iter", "tol": "tol"},
    "lbfgs": {"steps": "max_iter", "tol": "tol"},
    "sgd": {
        "steps": "steps",
        "lr": "lr",
        "momentum": "momentum",
        "batch_size": "batch_size",
        "weight_decay": "weight_decay",
    },
    "adam": {"steps": "steps", "lr": "lr", "batch_size": "batch_size", "weight_decay": "weight_decay"},
}
MODEL_OPTIONS = {"linear": ("bias",), "mlp": ("bias", "hidden", "activation")}


def build(model: str, solver: str | None, settings: dict[str, Any], shared: dict[str, Any]) -> Any:
    """Return the estimator for the options that were given (not None); one that does not apply is refused."""
    from refrm import solvers
    from refrm.estimators import LinearRewardModel, MLPRewardModel

    given = {name: value for name, value in settings.items() if value is not None}
    solver = solver or ("newton" if model == "linear" else "adam")
    if model == "mlp" and solver == "newton":
        raise InputError("--solver newton is for the linear model; use lbfgs, sgd or adam")
    known, shape = SOLVER_OPTIONS[solver], MODEL_OPTIONS[model]
    for name in given:
        if name not in known and name not in shape:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} does not apply to --model {model} with --solver {solver}")
    named = {"newton": solvers.Newton, "lbfgs": solvers.LBFGS, "sgd": solvers.SGD, "adam": solvers.Adam}
    chosen = named[solver](**{known[name]: value for name, value in given.items() if name in known})
    form = {name: value for name, value in given.items() if name in shape}
    if model == "linear":
        # Newton evaluates the loss a dozen times: there loading the kernels costs more than they save.
        backend = "numpy" if solver == "newton" else "auto"
        return LinearRewardModel(solver=chosen, backend=backend, **shared, **form)
    if "bias" in form:
        form["head_bias"] = form.pop("bias")
    return MLPRewardModel(solver=chosen, **shared, **form)


def widths(text: str | None) -> tuple[int, ...] | None:
    """Return the hidden widths of "256,64"."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--hidden must be integers >= 1 such as 256,64, got {text!r}")
    return tuple(int(part) for part in parts)
