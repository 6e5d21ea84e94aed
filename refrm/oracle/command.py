"""`refrm check MODULE:FUNCTION`: the implementation runs in a process of its own, which it may take down with it.

The parent shows the report; the child, ``python -m refrm.oracle.command``, imports the implementation, checks it, and
writes the report as JSON to a file descriptor of its own, so that what the implementation prints is not in the way.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from refrm.console import finite, print_json
from refrm.errors import InputError, RefrmError
from refrm.options import Number, check_outputs, output_options, path, smoothing_option

IMPORT, GRACE = 600.0, 30.0
"""Seconds for the import, and beyond the time limit of a call, after which a process that hangs is ended."""


@click.command()
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option("--coef", type=Number(0), metavar="COEF", help="Weight of the penalty; default: found out.")
@click.option(
    "--penalty",
    type=click.Choice(["squared-sum", "sum-of-squares", "sum-to-zero", "batch-sum"]),
    help="Default: squared-sum where --coef is given, else found out.",
)
@click.option("--factor", type=Number(0, open_low=True), default=1.0, show_default=True, help="Of the penalty.")
@click.option("--reduction", type=click.Choice(["mean", "sum", "none"]), help="Default: found out.")
@click.option("--margin/--no-margin", default=None, help="Whether FUNCTION takes a margin; default: by its signature.")
@smoothing_option
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
    help="May be repeated; default: float64 and float32.",
)
@click.option("--framework", metavar="NAME", help="numpy, torch, jax or an array API module; default: found out.")
@click.option("--no-gradients", is_flag=True, help="Judge values alone.")
@click.option(
    "--time-limit",
    type=Number(0, open_low=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="For one call of FUNCTION.",
)
@click.option("--junit", type=path, metavar="FILE", help="Write a JUnit XML file, too.")
@output_options
@click.pass_context
def check(ctx: click.Context, /, target: str, junit: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Check a reward loss: is it right, and if not, which known mistake is it?

    FUNCTION takes (r_w, r_l) or (r_w, r_l, margin), arrays of NumPy, PyTorch, JAX or an array API module, and returns
    the loss, or (loss, gradient in r_w, gradient in r_l). MODULE is imported from the current directory, or is a
    .py file. Exit code 0: conforms, 1: does not, 2: could not run.

    \b
    Examples:
      refrm check mylosses:reward_loss
      refrm check train/loss.py:pairwise --coef 0.01 --reduction mean
      refrm check mylosses:reward_loss --json
      refrm check mylosses:reward_loss --junit report.xml
    """
    module, _, function = target.rpartition(":")
    if not module or not function:
        raise InputError(f"MODULE:FUNCTION must be such as mylosses:reward_loss, got {target!r}")
    if junit is not None:
        check_outputs([], {"--junit": junit})
    settings = {name: value for name, value in options.items() if name != "no_gradients"}
    settings |= {"dtypes": list(options["dtypes"]) or None, "gradients": False if options["no_gradients"] else None}
    done = _in_a_process({"module": module, "function": function, "settings": settings}, options["time_limit"])
    if "error" in done:
        raise InputError(done["error"])
    if junit is not None:
        from refrm.files import write_atomic

        write_atomic(junit, done["junit"].encode())
    if as_json:
        print_json(done["report"])
    elif not quiet:
        click.echo(done["text"])
    ctx.exit(0 if done["report"]["conforms"] else 1)


def _in_a_process(task: dict[str, Any], time_limit: float) -> dict[str, Any]:
    """Run the task in a new process; return what it wrote, or a report of how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        answer, beat, output = (Path(folder) / name for name in ("answer.json", "beat", "output"))
        command = [sys.executable, "-P", "-m", "refrm.oracle.command", json.dumps(task), str(answer), str(beat)]
        with open(output, "wb") as sink:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
            began = time.time()
            try:
                while (code := _wait(child)) is None:
                    last, limit = (beat.stat().st_mtime, time_limit + GRACE) if beat.exists() else (began, IMPORT)
                    if time.time() - last > limit:
                        break
            finally:
                child.kill()
                child.wait()
        if answer.exists():
            result: dict[str, Any] = json.loads(answer.read_text())
            return result
        printed = output.read_bytes()
    how = f"the process ended with exit code {code}"
    how = f"the process was ended by signal {-code}" if code is not None and code < 0 else how
    how = "it hangs, and cannot be interrupted" if code is None else how
    from refrm.oracle.report import Report
    from refrm.oracle.trial import Failure

    said = " ".join(printed.decode(errors="replace").split())[-200:]
    report = Report(task["function"], False, failures=(Failure("call", f"{how}{': ' + said if said else ''}", ""),))
    return _shown(report)


def _wait(child: "subprocess.Popen[bytes]") -> int | None:
    """Return the exit code, or None after a second."""
    try:
        return child.wait(1.0)
    except subprocess.TimeoutExpired:
        return None


def _shown(report: Any) -> dict[str, Any]:
    return {"report": finite(report.as_dict()), "text": str(report), "junit": report.junit()}


def _load(module: str, function: str) -> Any:
    """Import a function; `InputError` says what could not be found."""
    sys.path.insert(0, os.getcwd())
    try:
        if module.endswith(".py"):
            sys.path.insert(0, str(Path(module).resolve().parent))
            module = Path(module).stem
        found: Any = importlib.import_module(module)
        for name in function.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise InputError(f"{module} has no function {function!r}: {error}") from None
    except BaseException as error:
        said = " ".join(str(error).split())
        raise InputError(f"{module} cannot be imported: {type(error).__name__}: {said}") from None
    return found


def main(task: str, answer: str, beat: str) -> None:
    """Check in this process, touching the file ``beat`` at each call, and write the answer."""
    from refrm.files import write_atomic
    from refrm.oracle.judge import check

    node = json.loads(task)
    try:
        f = _load(node["module"], node["function"])
        if not callable(f):
            raise InputError(f"{node['module']}:{node['function']} is no function, but {type(f).__name__}")

        @functools.wraps(f)
        def beating(*args: Any, **named: Any) -> Any:
            os.utime(beat)
            return f(*args, **named)

        Path(beat).touch()
        done = _shown(check(beating, name=node["function"], **node["settings"]))
    except RefrmError as error:
        done = {"error": str(error)}
    write_atomic(Path(answer), json.dumps(done).encode())
    sys.stdout.flush()
    os._exit(0)  # not waiting for what the implementation may have left running


if __name__ == "__main__":
    main(*sys.argv[1:])
