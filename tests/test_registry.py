"""Page, predicates, property tests, mutants and vectors of every theorem: a test fails where one lacks its partner."""

import ast
import inspect
import json
import re
from pathlib import Path

import mutants
import pytest

import refrm.oracle
from refrm import theorems
from refrm.theorems import THEOREMS, Verdict, models, scores

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs/theorems"
SECTIONS = [
    "In plain words",
    "Hypotheses",
    "Statement",
    "Proof",
    "In code",
    "What holds it",
    "Machine-checked",
    "Exercise",
]
TREE = ast.parse((ROOT / "tests/test_theorems.py").read_text())
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
ALGEBRA = "".join(path.read_text() for path in sorted((ROOT / "tests").glob("test_algebra*.py")))
FILES = {p.name: json.loads(p.read_text()) for p in sorted(Path(refrm.oracle.__file__).parent.glob("data/v1/*.json"))}
VECTORS = {name: content for name, content in FILES.items() if "groups" in content}

EACH = pytest.mark.parametrize("theorem", THEOREMS.values(), ids=THEOREMS)


def page_of(theorem):
    return (PAGES / f"{theorem.id.lower()}.md").read_text()


def properties_of(theorem):
    return [name for name in FUNCTIONS if name.startswith(f"test_{theorem.id.lower()}_")]


def reached(name):
    """The names that a function of tests/test_theorems.py uses, and those that its helpers there use."""
    names, queue = set(), [name]
    while queue:
        for node in ast.walk(FUNCTIONS[queue.pop()]):
            found = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
            if found is not None and found not in names:
                names.add(found)
                queue += [found] if found in FUNCTIONS else []
    return names


def names_of(theorem):
    return [predicate.__name__ for predicate in theorem.predicates]


def citing(theorem):
    """The files of vectors with a group that cites the theorem, and the flags whose source does."""
    files, flags = set(), set()
    for name, content in VECTORS.items():
        if any(theorem.id in group["theorems"] for group in content["groups"]):
            files.add(name)
        for flag, note in content["notes"].items():
            if re.search(rf"\b{theorem.id}\b", note["source"]):
                flags.add(flag)
    return files, flags


def test_fourteen_in_order():
    assert list(THEOREMS) == [f"T{k}" for k in range(1, 15)]
    assert all(key == theorem.id for key, theorem in THEOREMS.items())
    assert sorted(PAGES.glob("t[0-9]*.md")) == sorted(PAGES / f"t{k}.md" for k in range(1, 15))


def test_every_predicate_is_of_one_theorem():
    found = [
        function
        for module in (scores, models)
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if inspect.signature(function).return_annotation is Verdict and function.__module__ == module.__name__
    ]
    registered = [predicate for theorem in THEOREMS.values() for predicate in theorem.predicates]
    assert len(registered) == len(set(registered)) > 14
    assert set(found) == set(registered)
    assert all(predicate.__name__ in theorems.__all__ for predicate in registered)


@EACH
def test_its_predicates_bear_its_id(theorem):
    assert theorem.predicates
    for predicate in theorem.predicates:
        assert re.match(rf"{theorem.id}\b", predicate.__doc__)


@EACH
def test_its_page_has_the_shape_and_names_the_same_predicates(theorem):
    page = page_of(theorem)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", page, re.S).groups()
    assert f"theorem: {theorem.id}" in front.splitlines()
    assert f"predicates: [{', '.join(names_of(theorem))}]" in front.splitlines()
    assert re.findall(r"^# (.*)$", re.sub(r"```.*?```", "", body, flags=re.S), re.M) == [
        f"{theorem.id} {theorem.title}"
    ]
    headings = re.findall(r"^## (.*)$", body, re.M)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    included = re.findall(r"^:pyobject: (\S+)$", body, re.M)
    assert set(names_of(theorem)) <= set(included)


@EACH
def test_its_predicates_are_held_by_properties(theorem):
    drawn = [
        name for name in properties_of(theorem) if any("given" in ast.dump(d) for d in FUNCTIONS[name].decorator_list)
    ]
    assert set(names_of(theorem)) <= set().union(*map(reached, drawn))


@EACH
def test_its_predicates_reject_a_mutant(theorem):
    rejecting = [name for name in properties_of(theorem) if "rejects" in name]
    assert set(names_of(theorem)) & set().union(*map(reached, rejecting))


@EACH
def test_its_page_names_its_tests_and_mutants(theorem):
    held = page_of(theorem).partition("\n## What holds it\n")[2].partition("\n## ")[0]
    tests = properties_of(theorem)
    prefix = f"test_{theorem.id.lower()}_"
    algebra = [name for name in re.findall(r"^def (test_\w+)\(", ALGEBRA, re.M) if name.startswith(prefix)]
    assert set(re.findall(r"`(test_t\d+_\w+)`", held)) == {*tests, *algebra}
    wrong = {
        name
        for test in tests
        if "rejects" in test
        for name in reached(test)
        if getattr(getattr(mutants, name, None), "__module__", "") == "mutants"
    }
    assert wrong <= set(re.findall(r"`(\w+)`", held))


@EACH
def test_vectors_cite_it_or_the_registry_says_why_not(theorem):
    files, flags = citing(theorem)
    assert bool(files or flags) is (theorem.no_vectors == "")
    held = page_of(theorem).partition("\n## What holds it\n")[2].partition("\n## ")[0]
    assert {f"`{name}`" for name in files} | {f"`{flag}`" for flag in flags} <= set(re.findall(r"`[^`\n]+`", held))
    assert theorem.no_vectors in " ".join(held.split())


def test_vectors_cite_theorems_only():
    cited = {key for content in VECTORS.values() for group in content["groups"] for key in group["theorems"]}
    assert cited <= set(THEOREMS)
