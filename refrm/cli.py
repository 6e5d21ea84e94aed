"""The command line: `refrm demo`, `refrm fit`, `refrm score`, `refrm check`, `refrm diagnose`.

Anything heavier than click is imported where it is used, so that ``refrm --help`` answers at once. Exit codes: 0; 1
from `refrm check` for what does not conform and from `refrm diagnose` for findings; 2 for anything that could not be
read, understood or written, with one line on stderr.
"""

import json
import math
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from refrm import __version__
from refrm.console import figures, finite, print_json, print_table, progress
from refrm.errors import InputError, RefrmError
from refrm.options import SOLVER_OPTIONS, Number, build, check_outputs, output_options, path, smoothing_option, widths

if TYPE_CHECKING:
    from refrm.fit import Record


class _Lazy(click.Group):
    """A group whose further commands are imported when they are asked for."""

    lazy: ClassVar = {"check": "refrm.oracle.command", "diagnose": "refrm.diagnosis.command"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy:
            command: click.Command = getattr(import_module(self.lazy[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="refrm")
def cli() -> None:
    """The loss that trains reward models: see it, fit it, score with it, check yours.

    \b
    Examples:
      refrm demo                                      why scores inflate, and what stops it
      refrm fit pairs.npz -o model.npz --center 0.01  fit a linear model to your pairs
      refrm score model.npz features.npz -o out.npz   score responses with it
      refrm check mylosses:reward_loss                is your loss right? if not, what is wrong?
      refrm diagnose scores.jsonl                     are your scores right? if not, what helps?
    """


@cli.command()
@click.option(
    "--steps", default=1500, show_default=True, type=click.IntRange(1), help="Training steps for each objective."
)
@click.option(
    "--coef",
    default=0.01,
    show_default=True,
    type=Number(0, open_low=True),
    metavar="COEF",
    help="Weight of both penalties.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of data, start and order.")
@click.option("--plot", type=path, default=Path("refrm-demo.png"), show_default=True, help="Where to write the plot.")
@click.option("--no-plot", is_flag=True, help="Write no plot.")
@output_options
def demo(steps: int, coef: float, seed: int, plot: Path, no_plot: bool, as_json: bool, quiet: bool) -> None:
    """See reward scores inflate, and what stops it.

    Trains one MLP three times, from the same start on the same pairs: with the pairwise loss alone, with the squared
    sum, and with the squared difference, the mistake.

    \b
    Examples:
      refrm demo
      refrm demo --coef 0.1 --steps 3000 --plot inflation.png
      refrm demo --json --no-plot
    """
    from refrm.demo import explain, train

    where = None if no_plot else plot
    check_outputs([], {"--plot": where})
    done = {"runs": 0, "last": 0.0}
    with progress(3 * steps, "training three times", quiet or as_json) as moved:

        def follow(record: "Record") -> None:
            done["runs"] += record["step"] < done["last"]
            done["last"] = record["step"]
            moved(int(done["runs"] * steps + record["step"]))

        results = train(coef, steps, seed, follow)
    sentences = explain(results, coef)
    if where is not None:
        from refrm.plots import plot_training

        histories = {name: result.history for name, result in results.items()}
        plot_training(where, histories, f"Why scores inflate, and what stops it (lambda = {coef:g})")
    last = {name: result.history[-1] for name, result in results.items()}
    if as_json:
        print_json(
            {
                "coef": coef,
                "steps": steps,
                "seed": seed,
                "results": last,
                "sentences": sentences,
                "plot": where and str(where),
            }
        )
    elif not quiet:
        print_table([(name, figures(record)) for name, record in last.items()])
        click.echo("\n\n".join(sentences))
        if where is not None:
            click.echo(f"\nplot: {where}")


def array_of(arrays: dict[str, Any], name: str, option: str, path: Path) -> Any:
    """Return one array of a file, or say which there are."""
    if name not in arrays:
        raise InputError(f"{option}: {path} has no array {name!r}; it has {', '.join(arrays) or 'none'}")
    return arrays[name]


@cli.command()
@click.argument("pairs", type=path)
@click.option("-o", "--output", required=True, type=path, help="Where to write the model (.npz).")
@click.option(
    "--chosen", default="chosen", show_default=True, help="Name of the array of chosen responses, shape (N, features)."
)
@click.option("--rejected", default="rejected", show_default=True, help="Name of the array of rejected responses.")
@click.option("--weight", help="Name of an array of weights, shape (N,).")
@click.option("--model", type=click.Choice(["linear", "mlp"]), default="linear", show_default=True)
@click.option("--hidden", help="Widths of the hidden layers of the MLP, such as 256,64.")
@click.option("--activation", type=click.Choice(["gelu", "relu", "tanh", "softplus"]), help="Of the MLP.")
@click.option("--bias", is_flag=True, default=None, help="Give the output a bias.")
@click.option(
    "--center", default=0.0, show_default=True, type=Number(0), metavar="COEF", help="Weight of mean (r_w + r_l)^2."
)
@click.option(
    "--margin", default=0.0, show_default=True, type=Number(-math.inf), metavar="M", help="Margin inside the sigmoid."
)
@smoothing_option
@click.option("--solver", type=click.Choice(list(SOLVER_OPTIONS)), help="Default: newton for linear, adam for mlp.")
@click.option("--steps", type=click.IntRange(1), help="Steps of sgd and adam, most iterations of newton and lbfgs.")
@click.option("--tol", type=Number(0), help="When newton (decrement/sqrt(J)) and lbfgs (norm of the gradient) stop.")
@click.option("--lr", type=Number(0, open_low=True), help="Learning rate of sgd and adam.")
@click.option("--momentum", type=Number(0, 1), help="Momentum of sgd.")
@click.option("--batch-size", type=click.IntRange(1), help="Pairs in a batch of sgd and adam.")
@click.option("--weight-decay", type=Number(0), help="Decoupled weight decay of sgd and adam.")
@click.option(
    "--held-out",
    default=0.0,
    show_default=True,
    type=Number(0, 1),
    metavar="SHARE",
    help="Share of the pairs to hold out, in [0, 1).",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of split, start and order.")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option(
    "--record-every", type=click.IntRange(1), help="Steps between records; default: 1 or a hundredth of the steps."
)
@click.option("--checkpoint", type=path, help="Save the state here as the fit goes on.")
@click.option("--checkpoint-every", default=100, show_default=True, type=click.IntRange(1), help="Steps between saves.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint if it exists; ends at the same bits.")
@click.option("--log", type=path, help="JSON-lines log of every record; default: MODEL.fit.jsonl.")
@click.option("--plot", type=path, help="Plot of the training; default: MODEL.fit.png.")
@click.option("--no-plot", is_flag=True, help="Write no plot.")
@output_options
def fit(pairs: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Fit a reward model to the pairs in PAIRS.npz.

    \b
    Examples:
      refrm fit pairs.npz -o model.npz
      refrm fit pairs.npz -o model.npz --center 0.01 --held-out 0.2
      refrm fit pairs.npz -o model.npz --model mlp --hidden 256 --lr 1e-3 --steps 4000
      refrm fit pairs.npz -o model.npz --model mlp --checkpoint run.npz --resume
      refrm fit pairs.npz -o model.npz --chosen good --rejected bad --json
    """
    import numpy as np

    from refrm.errors import FitWarning
    from refrm.estimators import stack_pairs
    from refrm.files import read_npz, write_atomic

    share = options["held_out"]
    log, plot = options["log"] or output.with_suffix(".fit.jsonl"), options["plot"] or output.with_suffix(".fit.png")
    plot = None if options["no_plot"] else plot
    check_outputs([pairs], {"-o": output, "--log": log, "--plot": plot, "--checkpoint": options["checkpoint"]})
    if options["resume"] and options["checkpoint"] is None:
        raise InputError("--resume needs --checkpoint")
    solver_names = ("steps", "tol", "lr", "momentum", "batch_size", "weight_decay", "bias", "activation")
    settings = {name: options[name] for name in solver_names} | {"hidden": widths(options["hidden"])}
    shared = {name: options[name] for name in ("center", "margin", "label_smoothing", "seed", "dtype")}
    estimator = build(options["model"], options["solver"], settings, shared)

    arrays = read_npz(pairs)
    X = stack_pairs(
        array_of(arrays, options["chosen"], "--chosen", pairs),
        array_of(arrays, options["rejected"], "--rejected", pairs),
    )
    weight = None if options["weight"] is None else array_of(arrays, options["weight"], "--weight", pairs)
    if weight is not None and np.shape(weight) != (len(X),):
        raise InputError(f"--weight {options['weight']} must have shape ({len(X)},), got {np.shape(weight)}")
    order = np.random.default_rng(options["seed"]).permutation(len(X))
    held, seen = np.sort(order[: round(share * len(X))]), np.sort(order[round(share * len(X)) :])
    if not len(seen):
        raise InputError(f"--held-out {share:g} leaves no pair of {len(X)} to train on")
    stochastic = hasattr(estimator.solver, "steps")
    total = estimator.solver.steps if stochastic else estimator.solver.max_iter
    every = options["record_every"] or (max(1, total // 100) if stochastic else 1)
    with progress(total, "fitting", quiet or as_json) as moved, warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # the message is printed below
        estimator.fit(
            X[seen],
            sample_weight=None if weight is None else weight[seen],
            heldout=X[held] if len(held) else None,
            record_every=every,
            checkpoint=options["checkpoint"],
            checkpoint_every=options["checkpoint_every"],
            resume=options["resume"],
            callback=lambda record: moved(int(record["step"])),
        )
    result = estimator.result_
    write_atomic(log, "".join(json.dumps(finite(record)) + "\n" for record in result.history).encode())
    estimator.save(output)
    if plot is not None:
        from refrm.plots import plot_training

        plot_training(plot, {"training": result.history}, f"{type(estimator).__name__}, lambda = {options['center']:g}")
    last = result.history[-1]
    if as_json:
        about = {"stop": result.stop, "message": result.message, "steps": result.steps}
        counts = {"pairs": len(seen), "held_out": len(held), "undetermined": result.undetermined}
        files = {"model": str(output), "log": str(log), "plot": plot and str(plot)}
        print_json({**about, **counts, "last": last, **files})
    elif not quiet:
        print_table([(f"{len(seen)} pairs", figures(last))])
        click.echo(f"{result.message}.")
        if result.undetermined:
            free, n = result.undetermined, estimator.model_.n_params
            click.echo(f"The data leave {free} of {n} directions undetermined; they stay at 0.")
        click.echo(f"model: {output}, log: {log}" + (f", plot: {plot}" if plot else ""))


@cli.command()
@click.argument("model", type=path)
@click.argument("features", type=path)
@click.option("-o", "--output", required=True, type=path, help="Where to write the scores: .npz, or .csv.")
@click.option(
    "--array", "names", multiple=True, help="Array to score (may be repeated); default: all of the model's width."
)
@output_options
def score(model: Path, features: Path, output: Path, names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Score the responses in FEATURES.npz with a fitted model.

    \b
    Examples:
      refrm score model.npz features.npz -o scores.npz
      refrm score model.npz pairs.npz -o scores.csv --array chosen
    """
    import numpy as np

    from refrm.estimators import load
    from refrm.files import read_npz, write_arrays, write_atomic

    if output.suffix not in (".npz", ".csv"):
        raise InputError(f"-o must end in .npz or .csv, got {output}")
    check_outputs([model, features], {"-o": output})
    estimator, arrays = load(model), read_npz(features)
    p = estimator.n_features_in_
    names = names or tuple(name for name, array in arrays.items() if array.ndim == 2 and array.shape[1] == p)
    if not names:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{features} has no array of shape (M, {p}), the model's width; it has {shapes or 'none'}")
    scores = {}
    for name in names:
        rows = array_of(arrays, name, "--array", features)
        if not np.shape(rows)[:1] > (0,):
            raise InputError(f"array {name} of {features} is empty: there is nothing to score")
        try:
            scores[name] = estimator.predict(rows)
        except InputError as error:
            raise InputError(f"array {name}: {error}") from None
    if output.suffix == ".csv":
        lines = [f"{name},{i},{float(r)!r}\n" for name, rs in scores.items() for i, r in enumerate(rs)]
        write_atomic(output, ("array,index,score\n" + "".join(lines)).encode())
    else:
        write_arrays(output, scores)
    about = {name: {"count": len(r), "mean": float(np.mean(r)), "std": float(np.std(r))} for name, r in scores.items()}
    if as_json:
        print_json({"arrays": about, "output": str(output)})
    elif not quiet:
        for name, stats in about.items():
            click.echo(
                f"{name}: {stats['count']} scores, mean {stats['mean']:.4g}, standard deviation {stats['std']:.4g}"
            )
        click.echo(f"scores: {output}")


def run(arguments: list[str] | None = None) -> None:
    """Run the command line; whatever the user can mend becomes one line on stderr and exit code 2."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as in >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        code = cli.main(arguments, prog_name="refrm", standalone_mode=False)
        sys.stdout.flush()
        if code:  # of ctx.exit
            sys.exit(code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        print("refrm: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:  # standard output: every file has its own check
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # there the reader has gone, and nobody is left to tell
            print(f"refrm: error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except (click.ClickException, RefrmError, MemoryError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error) or type(error).__name__
        print(f"refrm: error: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(2)
