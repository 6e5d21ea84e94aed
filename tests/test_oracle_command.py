"""`refrm check`: exit codes, text, JSON and JUnit, and implementations that take their process down."""

import json
import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from refrm.oracle import command

LOSSES = """
import os, time
import numpy as np

def right(r_w, r_l):
    return np.mean(np.logaddexp(0, r_l - r_w))

def difference(r_w, r_l):
    return right(r_w, r_l) + 0.1 * np.mean((r_w - r_l) ** 2)

def with_margin(r_w, r_l, target):
    return np.mean(np.logaddexp(0, target - (r_w - r_l)))

def by_name(r_w, r_l, *, margin=None):
    return with_margin(r_w, r_l, 0 if margin is None else -margin)

class Losses:
    @staticmethod
    def right(r_w, r_l):
        return right(r_w, r_l)

def prints(r_w, r_l):
    os.write(1, b"from below")
    print("from above")
    return right(r_w, r_l)

def ends(r_w, r_l):
    os._exit(7)

def crashes(r_w, r_l):
    os.abort()

def holds_the_lock(r_w, r_l):
    return sum(range(10**15))

number = 3
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "mylosses.py").write_text(LOSSES)
    (tmp_path / "random.py").write_text("")  # a name of the standard library: not to be met before MODULE is
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")

    def refrm(*arguments):
        return subprocess.run(
            [sys.executable, "-P", "-m", "refrm", "check", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )

    return refrm


def test_a_right_loss(run, tmp_path):
    began = time.perf_counter()
    done = run("mylosses:right")
    assert time.perf_counter() - began < 60  # 3 s on a machine of its own
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "right conforms"
    assert "judged as  mean(-log sigma(d))" in lines
    assert max(map(len, lines)) <= 110
    assert run(f"{tmp_path}/mylosses.py:Losses.right", "--quiet").stdout == ""


def test_a_wrong_loss_in_every_form(run, tmp_path):
    done = run("mylosses:difference", "--coef", "0.1", "--json", "--junit", "report.xml")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert not report["conforms"] and report["mistakes"][0]["name"] == "squared-difference"
    assert report["mistakes"][0]["source"] == "huggingface/trl#1932"
    assert report["failures"][0]["found"] != report["failures"][0]["right"]
    tree = ElementTree.fromstring((tmp_path / "report.xml").read_text())
    cases = {case.get("name"): case.find("failure") for case in tree.iter("testcase")}
    assert int(tree.get("failures")) == sum(x is not None for x in cases.values()) == len(report["laws_broken"])
    assert "squared-difference" in cases["vectors"].text and cases["repeat"] is None
    assert run("mylosses:difference").returncode == 1


def test_stated_conventions_reach_the_check(run):
    done = run("mylosses:right", "--reduction", "sum", "--dtype", "float32", "--no-gradients", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["dtypes"] == ["float32"]
    assert report["convention"]["found"] == ["coef"]
    assert json.loads(run("mylosses:with_margin", "--json").stdout)["convention"]["margin"] is True
    assert "M2 margin-sign" in run("mylosses:by_name").stdout


def test_what_is_printed_is_not_in_the_way(run):
    done = run("mylosses:prints", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and any("from above" in note for note in report["notes"])


@pytest.mark.parametrize(("f", "said"), [("ends", "exit code 7"), ("crashes", "signal 6")])
def test_an_implementation_that_takes_its_process_down(run, f, said):
    done = run(f"mylosses:{f}")
    assert done.returncode == 1 and said in done.stdout and done.stderr == ""


def test_an_implementation_that_cannot_be_interrupted(monkeypatch, tmp_path):
    (tmp_path / "mylosses.py").write_text(LOSSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "GRACE", 1.0)
    task = {"module": "mylosses", "function": "holds_the_lock", "settings": {"time_limit": 0.5}}
    assert "cannot be interrupted" in command._in_a_process(task, 0.5)["text"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mylosses"], "MODULE:FUNCTION must be such as mylosses:reward_loss, got 'mylosses'"),
        (["mylosses:wrong"], "mylosses has no function 'wrong'"),
        (["mylosses:number"], "mylosses:number is no function, but int"),
        (["absent:f"], "absent cannot be imported: ModuleNotFoundError"),
        (["broken:f"], "broken cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        (["mylosses:right", "--framework", "absent"], "framework 'absent' cannot be imported"),
        (["mylosses:right", "--coef", "-1"], "Invalid value for '--coef'"),
        (["mylosses:right", "--margin"], "margin: right takes none"),
        (["mylosses:with_margin", "--no-margin"], "margin: with_margin cannot be called without"),
        (["mylosses:right", "--junit", "no/such/folder.xml"], "--junit: cannot write"),
    ],
)
def test_what_could_not_run(run, arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refrm: error: ") and said in done.stderr and done.stderr.count("\n") == 1
