"""The command line: what it writes, and that bad input gets one line and exit code 2."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from refrm import load, make_pairs
from refrm.cli import run

pytestmark = pytest.mark.compiled
PAIRS = make_pairs(60, 4, seed=1)


def refrm(*arguments, cwd):
    """Run the command line in this process; starting one for each would take most of the tests' time."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def in_a_process(*arguments, cwd, **options):
    """Run the command line in a new process."""
    command = [sys.executable, "-P", "-m", "refrm", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with pairs, a fitted model, and files that are wrong in every way."""
    d = tmp_path_factory.mktemp("cli")
    w, v = PAIRS.chosen, PAIRS.rejected
    np.savez(d / "pairs.npz", chosen=w, rejected=v, heavy=np.arange(60), short=np.ones(3))
    np.savez(d / "other.npz", good=w, bad=v)
    np.savez(d / "shapes.npz", chosen=w, rejected=v[:3])
    np.savez(d / "nan.npz", chosen=np.where(w > 1, np.nan, w), rejected=v)
    np.savez(d / "huge.npz", chosen=1e300 * w, rejected=v)
    np.savez(d / "text.npz", chosen=w.astype(str), rejected=v)
    np.savez(d / "empty.npz", chosen=w[:0], rejected=v[:0])
    np.savez(d / "one.npz", chosen=w[:1], rejected=v[:1])
    np.savez(d / "cube.npz", chosen=w[None], rejected=v[None])
    np.savez(d / "objects.npz", chosen=np.array([{}], object), rejected=v)
    np.savez(d / "separable.npz", chosen=np.ones((5, 2)), rejected=np.zeros((5, 2)))
    np.save(d / "single.npy", w)
    (d / "table.csv").write_text("chosen,rejected\n")
    (d / "cut.npz").write_bytes((d / "pairs.npz").read_bytes()[:700])
    (d / "directory").mkdir()
    os.mkfifo(d / "fifo")
    done = refrm("fit", "pairs.npz", "-o", "model.npz", "--center", "0.01", "--quiet", cwd=d)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return d


def test_fit_prints_a_table_and_writes_model_log_and_plot(place, tmp_path):
    done = refrm(
        "fit", "pairs.npz", "-o", tmp_path / "m.npz", "--center", "0.01", "--held-out", "0.2", "--bias", cwd=place
    )
    assert done.returncode == 0 and done.stderr == ""
    for text in ("mean score", "held-out acc", "48 pairs", "converged after", "m.npz", "m.fit.jsonl", "m.fit.png"):
        assert text in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.fit.jsonl", "m.fit.png", "m.npz"]
    assert (tmp_path / "m.fit.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (tmp_path / "m.fit.jsonl").read_text().splitlines()]
    assert records[0]["step"] == 0 and records[-1] == load(tmp_path / "m.npz").result_.history[0]
    assert "heldout_accuracy" in records[-1]


def test_fit_as_json(place, tmp_path):
    done = refrm("fit", "pairs.npz", "-o", tmp_path / "m.npz", "--no-plot", "--json", cwd=place)
    about = json.loads(done.stdout)
    assert done.stderr == "" and about["stop"] == "converged" and about["pairs"] == 60 and about["held_out"] == 0
    assert about["undetermined"] == 1 and about["plot"] is None and about["last"]["accuracy"] > 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.fit.jsonl", "m.npz"]


def test_fit_says_what_is_undetermined_and_what_is_separable(place, tmp_path):
    done = refrm("fit", "pairs.npz", "-o", tmp_path / "m.npz", "--no-plot", cwd=place)
    assert "The data leave 1 of 4 directions undetermined; they stay at 0." in done.stdout
    done = refrm("fit", "separable.npz", "-o", tmp_path / "m.npz", "--no-plot", cwd=place)
    assert done.returncode == 0 and "separable: some direction raises margins for ever" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        "--model mlp --hidden 6,3 --activation tanh --steps 40 --lr 0.01 --batch-size 8 --weight-decay 0.1 --bias",
        "--model mlp --hidden 6 --solver lbfgs --steps 20 --tol 1e-3 --dtype float32 --margin 0.5",
        "--solver sgd --momentum 0.9 --lr 0.01 --steps 30 --label-smoothing 0.1 --record-every 7",
        "--solver newton --weight heavy --center 0.1 --seed 3 --log l.jsonl --plot p.png",
    ],
)
def test_fit_with_every_option(place, tmp_path, options):
    done = refrm("fit", place / "pairs.npz", "-o", "m.npz", *options.split(), cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert load(tmp_path / "m.npz").predict(PAIRS.chosen).shape == (60,)


def test_names_of_arrays_and_of_files_are_free(place, tmp_path):
    output = tmp_path / "ein M\u00f6dell"
    done = refrm("fit", "other.npz", "-o", output, "--chosen", "good", "--rejected", "bad", "--no-plot", cwd=place)
    assert done.returncode == 0
    np.testing.assert_array_equal(load(output).theta_, load_of(place, tmp_path, "pairs.npz").theta_)


def load_of(place, tmp_path, pairs):
    assert refrm("fit", pairs, "-o", tmp_path / "same.npz", "--no-plot", cwd=place).returncode == 0
    return load(tmp_path / "same.npz")


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_score(place, tmp_path, suffix):
    output = tmp_path / f"scores.{suffix}"
    done = refrm("score", "model.npz", "pairs.npz", "-o", output, cwd=place)
    assert done.returncode == 0 and "chosen: 60 scores, mean" in done.stdout and "rejected: 60 scores" in done.stdout
    expected = load(place / "model.npz").predict(PAIRS.chosen)
    if suffix == "npz":
        np.testing.assert_array_equal(np.load(output)["chosen"], expected)
    else:
        lines = output.read_text().splitlines()
        assert lines[0] == "array,index,score" and len(lines) == 121
        assert [float(line.split(",")[2]) for line in lines[1:61]] == expected.tolist()
    only = refrm("score", "model.npz", "pairs.npz", "-o", output, "--array", "chosen", "--json", cwd=place)
    assert list(json.loads(only.stdout)["arrays"]) == ["chosen"]
    assert refrm("score", "model.npz", "pairs.npz", "-o", output, "--quiet", cwd=place).stdout == ""


BAD = [
    ("fit missing.npz -o m.npz", "missing.npz does not exist"),
    ("fit directory -o m.npz", "cannot read directory: Is a directory"),
    ("fit table.csv -o m.npz", "table.csv is not an .npz archive of plain arrays"),
    ("fit single.npy -o m.npz", "single.npy is a single array, not an .npz archive"),
    ("fit cut.npz -o m.npz", "cut.npz is not a"),
    ("fit objects.npz -o m.npz", "Python objects are never unpickled"),
    ("fit other.npz -o m.npz", "--chosen: other.npz has no array 'chosen'; it has good, bad"),
    ("fit pairs.npz -o m.npz --rejected no", "--rejected: pairs.npz has no array 'no'"),
    ("fit pairs.npz -o m.npz --weight short", "--weight short must have shape (60,), got (3,)"),
    ("fit pairs.npz -o m.npz --weight no", "--weight: pairs.npz has no array 'no'"),
    ("fit shapes.npz -o m.npz", "rejected must have shape (60, 4), that of chosen, got (3, 4)"),
    ("fit nan.npz -o m.npz", "chosen must be finite"),
    ("fit huge.npz -o m.npz", "chosen must be finite and at most 1e+100 in size"),
    ("fit text.npz -o m.npz", "chosen must be real numbers"),
    ("fit empty.npz -o m.npz", "chosen and rejected are empty, shape (0, 4)"),
    ("fit cube.npz -o m.npz", "chosen must have shape (N, n_features)"),
    ("fit one.npz -o m.npz --held-out 0.9", "--held-out 0.9 leaves no pair of 1 to train on"),
    ("fit pairs.npz", "Missing option '-o' / '--output'"),
    ("fit -o m.npz", "Missing argument 'PAIRS'"),
    ("fit pairs.npz -o m.npz --center -1", "Invalid value for '--center': it must be a number in [0, inf), got '-1'"),
    ("fit pairs.npz -o m.npz --center nan", "Invalid value for '--center'"),
    ("fit pairs.npz -o m.npz --center ten", "Invalid value for '--center'"),
    ("fit pairs.npz -o m.npz --margin inf", "Invalid value for '--margin'"),
    ("fit pairs.npz -o m.npz --label-smoothing 0.5", "Invalid value for '--label-smoothing': it must be a number in"),
    ("fit pairs.npz -o m.npz --held-out 1", "Invalid value for '--held-out'"),
    ("fit pairs.npz -o m.npz --steps 0", "Invalid value for '--steps'"),
    ("fit pairs.npz -o m.npz --steps 1.5", "Invalid value for '--steps'"),
    ("fit pairs.npz -o m.npz --solver sgd --lr 0", "Invalid value for '--lr': it must be a number in (0, inf)"),
    ("fit pairs.npz -o m.npz --solver sgd --momentum 1", "Invalid value for '--momentum'"),
    ("fit pairs.npz -o m.npz --seed -1", "Invalid value for '--seed'"),
    ("fit pairs.npz -o m.npz --solver nadam", "Invalid value for '--solver'"),
    ("fit pairs.npz -o m.npz --lr 0.1", "--lr does not apply to --model linear with --solver newton"),
    ("fit pairs.npz -o m.npz --hidden 5", "--hidden does not apply to --model linear"),
    ("fit pairs.npz -o m.npz --model mlp --tol 1", "--tol does not apply to --model mlp with --solver adam"),
    ("fit pairs.npz -o m.npz --model mlp --solver newton", "--solver newton is for the linear model"),
    ("fit pairs.npz -o m.npz --model mlp --hidden 5,x", "--hidden must be integers >= 1 such as 256,64, got '5,x'"),
    ("fit pairs.npz -o m.npz --model mlp --hidden 0", "--hidden must be integers >= 1 such as 256,64, got '0'"),
    ("score model.npz empty.npz -o s.npz", "array chosen of empty.npz is empty: there is nothing to score"),
    ("fit pairs.npz -o m.npz --resume", "--resume needs --checkpoint"),
    ("fit pairs.npz -o pairs.npz", "-o pairs.npz is also an input"),
    ("fit pairs.npz -o m.npz --log m.npz", "--log m.npz is also the file of -o"),
    ("fit pairs.npz -o nowhere/m.npz", "-o: cannot write nowhere/m.npz: its directory does not exist"),
    ("fit pairs.npz -o directory", "-o: cannot write directory: it exists and is not a file"),
    ("fit pairs.npz -o fifo", "-o: cannot write fifo: it exists and is not a file"),
    ("fit pairs.npz -o m.npz --checkpoint model.npz --resume", "is a model of refrm, expected a checkpoint"),
    ("fit pairs.npz -o m.npz --checkpoint pairs.npz", "--checkpoint pairs.npz is also an input"),
    ("fit pairs.npz -o m.npz --checkpoint other.npz", "other.npz exists: resume from it, or remove it"),
    ("fit pairs.npz -o model.npz --solver sgd --lr 1e300 --center 1", "theta_ must be finite to be saved; the fit div"),
    ("fit pairs.npz -o m.npz extra", "unexpected extra argument"),
    ("score model.npz missing.npz -o s.npz", "missing.npz does not exist"),
    ("score pairs.npz pairs.npz -o s.npz", "pairs.npz is not a model of refrm"),
    ("score model.npz pairs.npz -o s.txt", "-o must end in .npz or .csv, got s.txt"),
    ("score model.npz pairs.npz -o model.npz", "-o model.npz is also an input"),
    ("score model.npz pairs.npz -o s.npz --array no", "--array: pairs.npz has no array 'no'"),
    ("score model.npz pairs.npz -o s.npz --array heavy", "array heavy: X must have shape"),
    ("score model.npz nan.npz -o s.npz", "array chosen: X must be finite"),
    ("score model.npz separable.npz -o s.npz", "separable.npz has no array of shape (M, 4), the model's width"),
    ("demo --coef 0", "Invalid value for '--coef': it must be a number in (0, inf), got '0'"),
    ("demo --steps 0", "Invalid value for '--steps'"),
    ("demo --plot nowhere/p.png", "--plot: cannot write nowhere/p.png: its directory does not exist"),
    ("dance", "No such command 'dance'"),
    ("--what", "No such option"),
]


@pytest.mark.parametrize(("command", "message"), BAD, ids=[command for command, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(place, command, message):
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    done = refrm(*command.split(), cwd=place)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("refrm: error: ") and done.stderr.count("\n") == 1 and message in done.stderr
    after = {path: path.read_bytes() for path in place.iterdir() if path.is_file() and path in before}
    changed = {path.name for path in before if before[path] != after.get(path)}
    assert changed <= {"model.fit.jsonl"}  # a diverged fit leaves the log that shows it
    assert not any(path.name.startswith(".") for path in place.iterdir())


def test_a_process_ends_with_the_exit_code_and_one_line(place):
    done = in_a_process("fit", "missing.npz", "-o", "m.npz", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "refrm: error: missing.npz does not exist\n"
    done = in_a_process("fit", "pairs.npz", "-o", "m.npz", "--json", "--no-plot", cwd=place)
    assert (done.returncode, done.stderr) == (0, "") and json.loads(done.stdout)["stop"] == "converged"


def test_an_empty_name_is_not_a_file(place):
    done = refrm("fit", "pairs.npz", "-o", "", cwd=place)
    assert done.returncode == 2 and "'' is not the name of a file" in done.stderr


def test_help_teaches_by_example(place):
    for command in ([], ["fit"], ["score"], ["demo"]):
        done = refrm(*command, "--help", cwd=place)
        assert done.returncode == 0 and "Examples:" in done.stdout
    bare = refrm(cwd=place)
    assert bare.returncode == 2 and "Usage: refrm" in bare.stderr + bare.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_that_is_full_or_closed(place):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "refrm", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.startswith("refrm: error: cannot write to standard output: No space")
    assert done.stderr.count("\n") == 1
    command = f"'{sys.executable}' -P -m refrm score model.npz pairs.npz -o closed.npz >&-"
    done = subprocess.run(command, shell=True, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and (place / "closed.npz").exists()
    command = f"'{sys.executable}' -P -m refrm --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_fit_killed_with_signal_9_resumes_to_the_same_bits(place, tmp_path):
    options = "--model mlp --hidden 8 --steps 3000 --lr 0.01 --record-every 50 --checkpoint-every 20 --no-plot --quiet"
    command = ["fit", place / "pairs.npz", *options.split()]
    assert refrm(*command, "-o", "whole.npz", cwd=tmp_path).returncode == 0
    killed = [*map(str, command), "-o", "killed.npz", "--checkpoint", "run.npz", "--resume"]
    process = subprocess.Popen([sys.executable, "-P", "-m", "refrm", *killed], cwd=tmp_path)
    while not (tmp_path / "run.npz").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "killed.npz").exists()
    assert refrm(*killed, cwd=tmp_path).returncode == 0
    for name in ("npz", "fit.jsonl"):
        assert (tmp_path / f"whole.{name}").read_bytes() == (tmp_path / f"killed.{name}").read_bytes()


def test_demo(tmp_path):
    done = refrm("demo", "--steps", "60", "--plot", "d.png", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    for text in ("pairwise loss alone", "+ (r_w + r_l)^2", "the mistake", "(T1)", "(T3)", "(T7)", "plot: d.png"):
        assert text in done.stdout
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    done = refrm("demo", "--steps", "60", "--json", "--no-plot", cwd=tmp_path)
    about = json.loads(done.stdout)
    assert done.stderr == "" and len(about["results"]) == 3 and len(about["sentences"]) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_there_is_a_progress_bar_on_a_terminal_only(place, tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = ["fit", str(place / "pairs.npz"), "-o", "m.npz", "--solver", "sgd", "--steps", "2000", "--no-plot"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "refrm", *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 4096)
            except OSError:  # the other end has closed
                break
            if not shown:
                break
        process.stdout.read()
    os.close(leader)
    assert process.returncode == 0 and b"fitting" in shown and b"/2000" in shown
