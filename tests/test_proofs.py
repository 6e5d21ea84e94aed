"""The check of the formal proofs rejects what is not one, and the proofs are of the theorems that refrm states."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refrm import theorems

ROOT = Path(__file__).parent.parent
PROOFS = ROOT / "docs" / "proofs"
GUIDE = ROOT / "docs" / "theorems" / "formal.md"

spec = importlib.util.spec_from_file_location("check_proofs", PROOFS / "check.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

MISSING = check.missing()
coq = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} is missing (Debian: coq, libcoq-coquelicot)")

STATEMENT = "(* begin: T1_x *)\nTheorem T1_x (P : Prop) : P -> P.\n(* end: T1_x *)\n"
PROOF = "Proof. trivial. Qed.\n"
MARKS = [("start-after", "begin"), ("end-before", "end")]


def folder(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.v").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "Admitted.",
        "Axiom a : False.",
        "Axioms a b : False.",
        "Parameter a : False.",
        "Conjecture a : False.",
        "Hypothesis a : False.",
        "Hypotheses a b : False.",
        "Variable a : False.",
        "Context (a : False).",
        "Declare Module M : S.",
        "Proof. admit. Qed.",
        "Proof. give_up. Qed.",
        "Unset Guard Checking.",
        "#[bypass_check(guard)] Fixpoint f (n : nat) : False := f n.",
        "Load other.",
        "Admit Obligations.",
        'Notation "x <= y" := True.',
    ],
)
def test_words_that_weaken_a_proof_are_rejected(tmp_path, line):
    with pytest.raises(check.Rejected, match=r"^T01\.v: .* must not occur"):
        check.read(folder(tmp_path, T01=STATEMENT + PROOF + line))


def test_comments_and_strings_are_no_code(tmp_path):
    text = '(* Axiom (* Admitted *) "*)" admit *)\n' + STATEMENT + PROOF + 'Check "Axiom ""admit"" (*".\n'
    assert check.uncommented('a (* b (* c *) d *) e "(* f" g') == 'a  e "" g'
    assert check.read(folder(tmp_path, T01=text))["T01"][2] == ["T1_x"]
    with pytest.raises(check.Rejected, match="admit must not occur"):
        check.read(folder(tmp_path, T01=text + 'Check "(*". admit. Check "*)".'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Theorem T1_x : True.\n", "without markers of their own: T1_x"),
        ("(* begin: T1_y *)\nTheorem T1_x : True.\n(* end: T1_y *)\n", "markers T1_y hold T1_x"),
        ("(* begin: T1_y *)\nTheorem T1_x : True.\n(* end: T1_x *)\n", "'begin: T1_y' is followed by 'end: T1_x'"),
        ("(* begin: T1_x *)\nTheorem T1_x : True.\n", "stands alone"),
        ("(* begin: bound *)\nTheorem bound : True.\n(* end: bound *)\n", "does not begin with an id"),
    ],
)
def test_every_theorem_stands_between_its_markers(tmp_path, text, message):
    with pytest.raises(check.Rejected, match=f"T01.v: .*{message}"):
        check.read(folder(tmp_path, T01=text))


def test_the_markers_hold_the_statement_alone():
    assert check.statements(STATEMENT + PROOF) == {"T1_x": "Theorem T1_x (P : Prop) : P -> P.\n"}
    for path in PROOFS.glob("*.v"):
        for name, statement in check.statements(path.read_text()).items():
            assert "Proof" not in statement and statement.rstrip().endswith((".", "*)")), name


def test_assumptions_are_read():
    assert check.axioms("Closed under the global context\n") == []
    listed = "Axioms:\nB.b : forall P : Prop,\n  P\nA.a\n  : forall x,\n      x\n"
    assert check.axioms(listed) == ["A.a", "B.b"]
    with pytest.raises(check.Rejected, match="not understood"):
        check.axioms("")


def test_a_folder_without_proofs_is_rejected(tmp_path):
    with pytest.raises(check.Rejected, match=r"no \.v files$"):
        check.read(tmp_path)


@coq
def test_a_proof_is_accepted(tmp_path):
    other = STATEMENT.replace("T1_x", "T2_x") + "Proof. apply T1_x. Qed.\n"
    where, axioms = check.check(folder(tmp_path, T02="From Refrm Require Import T01.\n" + other, T01=STATEMENT + PROOF))
    assert where == {"T1_x": "T01", "T2_x": "T02"} and axioms == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["T01.v", "T02.v"]


@coq
@pytest.mark.parametrize(
    ("proof", "message"),
    [
        ("Proof. Qed.\n", "coqc does not accept it"),
        ("Proof. trivial.\n", "coqc does not accept it"),
    ],
)
def test_what_coq_does_not_accept_is_rejected(tmp_path, proof, message):
    with pytest.raises(check.Rejected, match=f"T01.v: {message}"):
        check.check(folder(tmp_path, T01=STATEMENT + proof))


@coq
def test_an_assumption_that_no_word_betrays_is_rejected(tmp_path):
    hidden = STATEMENT.replace("P -> P", "forall p q : P, p = q").replace("T1_x", "T1_y")
    text = "From Coq Require Import ProofIrrelevance.\n" + hidden + "Proof. apply proof_irrelevance. Qed.\n"
    with pytest.raises(check.Rejected, match=r"^T1_y: not without .*proof_irrelevance$"):
        check.check(folder(tmp_path, T01=text + STATEMENT + PROOF))


@coq
def test_files_that_need_each_other_are_rejected(tmp_path):
    with pytest.raises(check.Rejected, match="T01: need a file that is not there, or each other"):
        check.check(folder(tmp_path, T01="From Refrm Require Import T99.\n" + STATEMENT + PROOF))


@pytest.mark.parametrize(("require", "code"), [("", 0), ("1", 1)])
def test_without_coq_the_check_is_skipped_in_one_line_unless_required(tmp_path, require, code):
    env = os.environ | {"PATH": str(tmp_path), "REFRM_REQUIRE_COQ": require}
    done = subprocess.run([sys.executable, PROOFS / "check.py"], env=env, capture_output=True, text=True)
    assert done.returncode == code
    assert re.fullmatch(r"proofs (skipped|not checked): coqc is missing .*\n", done.stdout + done.stderr)


def test_coq_without_its_library_is_missing_something(tmp_path, monkeypatch):
    (tmp_path / "coqc").write_text(f"#!/bin/sh\necho {tmp_path}\n")
    (tmp_path / "coqc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check.missing() == "Coquelicot"
    (tmp_path / "user-contrib" / "Coquelicot").mkdir(parents=True)
    assert check.missing() == ""


def names():
    return [name for _, _, names in check.read(PROOFS).values() for name in names]


def test_the_theorems_of_the_registry_are_those_that_are_proven():
    assert {name.split("_")[0] for name in names()} == set(theorems.THEOREMS)


def test_the_guide_lists_every_formal_theorem_in_its_row():
    rows = re.findall(r"^\| \[(T\d+) [^|]*\| ([^|]*) \|", GUIDE.read_text(), re.M)
    assert [key for key, _ in rows] == list(theorems.THEOREMS)
    listed = [(key, name) for key, cell in rows for name in re.findall(r"`(\w+)`", cell)]
    assert all(name.startswith(f"{key}_") for key, name in listed)
    assert sorted(name for _, name in listed) == sorted(names())


def test_the_guide_speaks_of_theorems_and_axioms_that_are_there():
    text = GUIDE.read_text()
    assert set(re.findall(r"`(T\d+_\w+)`", text)) == set(names())
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", text, re.M)) == check.ALLOWED


@pytest.mark.parametrize("key", theorems.THEOREMS)
def test_a_page_shows_or_names_its_formal_theorems(key):
    page = (GUIDE.parent / f"{key.lower()}.md").read_text()
    section = page.partition("\n## Machine-checked\n")[2].partition("\n## ")[0]
    begins, ends = (re.findall(rf'^:{at}: "{word}: (\w+) \*\)"$', section, re.M) for at, word in MARKS)
    assert begins == ends
    assert len(begins) == section.count("{literalinclude}")
    own = {name for name in names() if name.startswith(f"{key}_")}
    assert own & set(begins)
    mentioned = set(re.findall(r"\b(T[1-9]\d*_\w+)", section))
    assert {name for name in mentioned if name.startswith(f"{key}_")} == own
    assert mentioned <= set(names())
    assert "](formal.md)" in section and "Left out: " in " ".join(section.split())
