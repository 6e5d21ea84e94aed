"""`refrm diagnose`: exit codes, what it prints, options that name columns, and one line for whatever cannot be read."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from refrm.cli import cli, run
from refrm.diagnosis import command

N = 2000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with healthy scores, shifted ones, a log, and files that are wrong."""
    d = tmp_path_factory.mktemp("diagnose")
    rng = np.random.default_rng(0)
    margin = 2 * rng.standard_normal(N)
    # labels drawn with the probabilities that the margins claim
    margin = np.where(rng.random(N) < 1 / (1 + np.exp(-margin)), margin, -margin)
    middle = 0.3 * rng.standard_normal(N)
    frame = pl.DataFrame({"chosen": middle + margin / 2, "rejected": middle - margin / 2})
    frame.write_ndjson(d / "healthy.jsonl")
    shifted = frame.select(good=pl.col("chosen") + 500, bad=pl.col("rejected") + 500, part=pl.lit("[red]a"))
    shifted.write_csv(d / "shifted.csv")
    for step in (100, 200, 300):
        (d / f"checkpoint-{step}").mkdir()
        (frame + step / 10).write_parquet(d / f"checkpoint-{step}" / "scores.parquet")
    history = [{"step": i, "loss": 0.5, "mean_reward": 0.1, "margin": 1.0, "accuracy": 0.75} for i in range(40)]
    (d / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    lines = (d / "healthy.jsonl").read_text().splitlines()
    lines[3] = "\x1b[31moops"
    (d / "one-bad.jsonl").write_text("\n".join(lines))
    (d / "many-bad.jsonl").write_text("\n".join(lines[:1] + lines[3:4] * 10))
    (d / "empty.jsonl").write_text("")
    return d


def refrm(*arguments, cwd, stdin=None):
    """Run the command line in this process."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(cli, ["diagnose", *map(str, arguments)], input=stdin)


def in_a_process(*arguments, cwd, stdin=b""):
    command = [sys.executable, "-P", "-m", "refrm", "diagnose", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, input=stdin, check=False, timeout=300)


def test_healthy_scores(place):
    done = refrm("healthy.jsonl", cwd=place)
    assert done.exit_code == 0 and done.stderr == ""
    assert "healthy.jsonl (2,000 pairs)" in done.stdout and "healthy: nothing to act on" in done.stdout
    assert len(done.stdout.splitlines()) <= 24


def test_findings_with_a_cure(place):
    done = refrm(
        "shifted.csv", "--chosen", "good", "--rejected", "bad", "--subset", "part", "--lambda", "0.01", cwd=place
    )
    assert done.exit_code == 1 and done.stderr == ""
    assert "global-shift" in done.stdout and "subtract 500" in done.stdout
    assert len(done.stdout.splitlines()) <= 40


def test_json(place):
    done = refrm("shifted.csv", "--chosen", "good", "--rejected", "bad", "--subset", "part", "--json", cwd=place)
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["healthy"] is False and found["n_pairs"] == N
    assert list(found["subsets"]) == ["[red]a"] or found["subsets"] == {}
    assert abs(found["figures"]["mean_score"]["value"] - 500) < 1
    assert found["findings"][0]["id"] == "global-shift" and "T11" in found["findings"][0]["theorems"]
    assert json.loads(refrm("healthy.jsonl", "--json", cwd=place).stdout)["healthy"] is True


def test_settings_reach_the_diagnosis(place):
    options = ("--coef", "0.1", "--label-smoothing", "0.05", "--target-spread", "2", "--start", "0.5", "--seed", "3")
    found = json.loads(refrm("healthy.jsonl", "--json", "--converged", *options, cwd=place).stdout)
    expected = {"coef": 0.1, "label_smoothing": 0.05, "target": 2, "start": 0.5, "seed": 3, "converged": True}
    assert found["settings"] == expected and {bound["theorem"] for bound in found["bounds"]} >= {"T7", "T8"}


def test_checkpoints_are_a_time_axis(place):
    files = [f"checkpoint-{step}/scores.parquet" for step in (200, 100, 300)]
    found = json.loads(refrm(*files, "--json", cwd=place).stdout)
    assert found["series"]["step"] == [100, 200, 300] and "steps by file: 200, 100, 300" in found["notes"]
    assert abs(found["trends"]["mean_score"]["slope"]["value"] - 100) < 1
    found = json.loads(refrm(*files, "--json", "--together", cwd=place).stdout)
    assert found["n_pairs"] == 3 * N and found["trends"] == {}


def test_a_training_log(place):
    done = refrm("trainer_state.json", cwd=place)
    assert done.exit_code == 0 and "trainer_state.json (training log)" in done.stdout
    assert json.loads(refrm("trainer_state.json", "--json", cwd=place).stdout)["kind"] == "log"


def test_quiet_and_standard_input(place):
    healthy = (place / "healthy.jsonl").read_bytes()
    done = in_a_process("-", "--quiet", cwd=place, stdin=healthy)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    shifted = (place / "shifted.csv").read_bytes()
    done = refrm("-", "--chosen", "good", "--rejected", "bad", "--format", "csv", cwd=place, stdin=shifted)
    assert done.exit_code == 1 and "standard input (2,000 pairs)" in done.stdout and done.stderr == ""
    parquet = (place / "checkpoint-100" / "scores.parquet").read_bytes()
    assert refrm("-", "--quiet", cwd=place, stdin=parquet).exit_code == 1
    done = in_a_process("-", cwd=place)
    assert (done.returncode, done.stderr) == (2, b"refrm: error: standard input is empty\n")


def test_malformed_lines_are_shown(place):
    done = refrm("one-bad.jsonl", cwd=place)
    assert done.exit_code == 0 and "\x1b" not in done.stdout
    assert "left out: 1" in done.stdout and "one-bad.jsonl, line 4: expected JSON" in done.stdout
    problems = json.loads(refrm("one-bad.jsonl", "--json", cwd=place).stdout)["problems"]
    assert problems["count"] == 1 and problems["shown"][0]["line"] == 4


WRONG = {
    "nothing.jsonl": "nothing.jsonl does not exist",
    ".": ". is a directory",
    "empty.jsonl": "empty.jsonl is empty",
    "many-bad.jsonl": "10 of 11 rows are malformed, more than 0.01 of them (--max-bad); line 2: expected JSON",
    "healthy.jsonl --chosen x --rejected y": "--chosen: healthy.jsonl has no column 'x'; it has chosen, rejected",
    "healthy.jsonl --chosen chosen": "--chosen and --rejected go together",
    "shifted.csv": "it has the columns good, bad, part: name those of the scores with --chosen and --rejected",
    "healthy.jsonl healthy.jsonl": "a file is named twice",
    "healthy.jsonl trainer_state.json": "is a training log",
    "healthy.jsonl --format parquet": "is not a whole Parquet file",
    "healthy.jsonl --coef -1": "Invalid value for '--lambda'",
    "healthy.jsonl --label-smoothing 0.5": "Invalid value for '--label-smoothing'",
    "healthy.jsonl --format xml": "Invalid value for '--format'",
    "": "Missing argument 'FILE...'",
}


@pytest.mark.parametrize("arguments", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_is_one_line_and_exit_code_2(place, capsys, arguments):
    with contextlib.chdir(place), pytest.raises(SystemExit) as stop:
        run(["diagnose", *arguments.split()])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and "\x1b" not in err
    assert err.startswith("refrm: error: ") and err.count("\n") == 1 and WRONG[arguments] in err


def test_a_panic_of_native_code_is_one_line_as_well(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"chosen": [1.0, 2.0, 3.0] * 40, "rejected": [0.5] * 120}).write_ipc("whole.arrow")
    data = (tmp_path / "whole.arrow").read_bytes()
    refused = 0
    for at in range(-192, -156):  # in the footer, which says where the batches are: of some damage there polars panics
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        (tmp_path / "x.arrow").write_bytes(damaged)
        with pytest.raises(SystemExit) as stop:
            run(["diagnose", "x.arrow", "--quiet"])
        err = capfd.readouterr().err  # of native code, too
        assert err.startswith("refrm: error: x.arrow is not ") if stop.value.code == 2 else err == ""
        assert err.count("\n") == (stop.value.code == 2)
        refused += stop.value.code == 2
    assert refused


def test_standard_error_is_given_back():
    code = """
import contextlib, os, sys
from refrm.console import python_alone_on_stderr
with contextlib.suppress(ZeroDivisionError), python_alone_on_stderr():
    os.write(2, b"native")
    print("ours", file=sys.stderr)
    1 / 0
os.write(2, b"after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.split() == [b"ours", b"after"]


def test_more_malformed_rows_on_request(place):
    assert refrm("many-bad.jsonl", "--max-bad", "0.95", "--quiet", cwd=place).exit_code in (0, 1)


def test_progress_of_long_files(place, monkeypatch):
    told = []

    @contextlib.contextmanager
    def progress(total, text, quiet):
        told.append((total, quiet))
        yield told.append

    monkeypatch.setattr(command, "progress", progress)
    refrm("healthy.jsonl", cwd=place)
    assert told[0] == (0, True)
    told.clear()
    monkeypatch.setattr(command, "LONG", 0)
    monkeypatch.setattr(command, "MEGABYTE", 1)
    refrm("healthy.jsonl", cwd=place)
    size = os.path.getsize(place / "healthy.jsonl")
    assert told[0] == (size, False) and told[-1] == size
    refrm("healthy.jsonl", "--json", cwd=place)
    assert (size, True) in told


def test_little_is_loaded(place):
    code = """
import sys
from refrm.cli import run
try:
    run(["diagnose", "healthy.jsonl", "--quiet"])
except SystemExit:
    pass
print([name for name in ("numba", "matplotlib", "sklearn", "pyarrow", "pandas", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_polars(place):
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")
sys.meta_path.insert(0, Hidden())
from refrm.cli import run
run(["diagnose", "healthy.jsonl"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "refrm: error: reading files needs polars: pip install 'refrm[cli]'\n"
