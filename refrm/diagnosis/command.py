"""`refrm diagnose FILE...`: a verdict on scores or on a training log, with its evidence and a cure."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refrm.console import print_json, progress, python_alone_on_stderr
from refrm.diagnosis.formats import OPTIONS
from refrm.errors import InputError
from refrm.options import Number, check_outputs, output_options, path, smoothing_option

if TYPE_CHECKING:
    from refrm.diagnosis.model import Diagnosis

SUFFIXES = (".png", ".svg")
FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "npz", "stdout")
MEGABYTE = 10**6
LONG = 20 * MEGABYTE
"""Bytes from which on a file gets a progress bar."""

COLUMNS = {
    "r_w": "of the chosen responses' scores",
    "r_l": "of the rejected responses' scores",
    "margin": "of the margin that the loss subtracts",
    "step": "of the training step",
    "group": "of the prompt, or an id of it",
    "length_w": "of the chosen responses' lengths",
    "length_l": "of the rejected responses' lengths",
    "subset": "of the part of the data that is to get figures of its own",
}


def naming(command: Any) -> Any:
    """Add the options that name columns."""
    for role, what in reversed(COLUMNS.items()):
        command = click.option(OPTIONS[role], role, metavar="NAME", help=f"Column {what}.")(command)
    return command


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of all files; default: found out.")
@naming
@click.option("--together", is_flag=True, help="Several files are parts of one set, not points in time.")
@click.option(
    "--max-bad",
    type=Number(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Stop where more than this share of a file's rows, and at least 10, are malformed; a missing score is not.",
)
@click.option("--lambda", "--coef", "coef", type=Number(0), metavar="COEF", help="Weight of mean (r_w + r_l)^2.")
@smoothing_option
@click.option(
    "--target-spread",
    "target",
    type=Number(0, open_low=True),
    default=1.0,
    show_default=True,
    metavar="SIZE",
    help="Root mean square of the pairs' mean scores that the suggested coefficient is to keep.",
)
@click.option("--start", type=Number(0), metavar="J0", help="Objective where training began; default: of zero scores.")
@click.option("--converged", is_flag=True, help="These are all pairs of the training, at rest: T8 must hold exactly.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of samples and bootstrap.")
@click.option("--html", type=path, help="Write a page with everything, pictures included, to send around.")
@click.option("--plot", type=path, help="Write the pictures, as .png or .svg.")
@output_options
@click.pass_context
def diagnose(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    form: str | None,
    together: bool,
    max_bad: float,
    html: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Diagnose a run: what is wrong with its scores, how sure is that, and what helps?

    FILE holds scores pair by pair, or is a training log; - is standard input. Formats of RewardBench, LLaMA-Factory,
    OpenRLHF, TRL, ms-swift, DeepSpeed-Chat and refrm are recognised; name other columns by options. Several files are
    points in time, by the steps in their names. Rows that are malformed or lack a score are counted, shown and left
    out; NaN and infinities are scores, and judged. Exit code 0: healthy, 1: something to act on, 2: could not be read.

    \b
    Examples:
      refrm diagnose scores.jsonl
      refrm diagnose scores.parquet --chosen good --rejected bad --group prompt_id --coef 0.01
      refrm diagnose checkpoint-*/scores.jsonl
      refrm diagnose outputs/trainer_state.json --html report.html
      refrm diagnose - --format csv --quiet < scores.csv
    """
    try:
        from refrm.diagnosis.sources import Opened, Pairs
    except ModuleNotFoundError as error:
        raise InputError(f"reading files needs {error.name}: pip install 'refrm[cli]'") from None
    from refrm.diagnosis import Settings

    if plot is not None and plot.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot must end in {' or '.join(SUFFIXES)}, got {plot}")
    check_outputs([Path(file) for file in files if file != "-"], {"--html": html, "--plot": plot})
    named = {role: options.pop(role) for role in COLUMNS}
    about = Settings(**options)
    given = {role: name for role, name in named.items() if name is not None}
    with python_alone_on_stderr(), Opened(files, given, form, together, max_bad) as held:
        if isinstance(held, Pairs):
            with progress(held.total // MEGABYTE, "reading, MB", quiet or as_json or held.total < LONG) as moved:
                from refrm.diagnosis import diagnose_source

                held.moved = lambda count: moved(count // MEGABYTE)
                found = diagnose_source(held, about)
            found = replace(found, notes=(*held.notes, *found.notes))
        else:
            from refrm.diagnosis import diagnose_log

            found = diagnose_log(held, about)
    _write(found, html, plot)
    _show(found, html, as_json, quiet)
    ctx.exit(0 if found.healthy else 1)


def _write(found: "Diagnosis", html: Path | None, plot: Path | None) -> None:
    if html is not None:
        from refrm.diagnosis.html import write_html

        write_html(html, found)
    if plot is not None:
        from refrm.diagnosis.plots import plot_diagnosis

        plot_diagnosis(plot, found)


def _show(found: "Diagnosis", html: Path | None, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        from refrm.diagnosis.terminal import show

        show(found, str(html or ""))
