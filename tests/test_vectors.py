"""The test vectors: well formed, true, unchanged, passed by right implementations and failed by each flag's mutant."""

import doctest
import hashlib
import json
import math
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import vector_truth
from mutants import OF_FLAG
from textbook import Textbook

import refrm
from refrm import MLP, SGD, Adam, BradleyTerry, InputError, Linear, Objective, SquaredSum, SumOfSquares, SumToZero
from refrm.oracle import vectors
from refrm.oracle.vectors import NAMES, load_vectors, spacing
from refrm.theorems import THEOREMS

MP = vector_truth.MP
ROOT = Path(__file__).parent.parent
DATA = Path(refrm.__file__).parent / "oracle" / "data" / "v1"
RAW = {name: json.loads((DATA / f"{name}.json").read_text()) for name in NAMES}
TESTS = [(group, test) for file in load_vectors() for group, test in file]


@cache
def verdict(implementation):
    """The ids of the vectors that an implementation (a function of group and inputs) fails, and of what quantities."""
    failed = {}
    for group, test in TESTS:
        found = implementation(group, test.inputs)
        wrong = [
            f"{name}: {found[name]}, not {expected.value}"
            for name, expected in test.expected.items()
            if name in found and not expected.accepts(np.reshape(found[name], expected.value.shape))
        ]
        if wrong:
            failed[test.id] = wrong
    return failed


def every_number(node):
    if isinstance(node, dict):
        if "hex" in node:
            yield node
        for child in node.values():
            yield from every_number(child)
    elif isinstance(node, list):
        for child in node:
            yield from every_number(child)


@pytest.mark.parametrize("name", NAMES)
def test_files_fit_their_schema(name):
    schema = json.loads((DATA / RAW[name]["schema"]).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(RAW[name], schema)
    assert RAW[name]["name"] == name
    assert RAW[name]["tests"] == sum(len(group["tests"]) for group in RAW[name]["groups"])


def test_a_schema_refuses_what_does_not_fit():
    schema = json.loads((DATA / "scores.schema.json").read_text())
    broken = json.loads((DATA / "objective.json").read_text())
    broken["groups"][0]["tests"][0]["inputs"]["r_w"]["hex"][0] = "1.5"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_nothing_published_changes():
    lines = (DATA / "SHA256SUMS").read_text().splitlines()
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {path.name for path in DATA.iterdir()} == {*digests, "SHA256SUMS"}
    for name, digest in digests.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name


def test_ids_are_unique_and_flags_are_described():
    ids = [test.id for _, test in TESTS]
    assert len(ids) == len(set(ids)) >= 400
    for file in load_vectors():
        used = {flag for _, test in file for flag in test.flags}
        assert used == set(file.notes)
    by_flag = [(flag, note.id) for file in load_vectors() for flag, note in file.notes.items()]
    assert len({flag for flag, _ in by_flag}) == len({id for _, id in by_flag}) == len(set(by_flag))


def test_hex_and_decimal_agree():
    nodes = list(every_number(list(RAW.values())))
    assert len(nodes) > 2500
    for node in nodes:
        size = math.prod(node.get("shape", [len(node["hex"])]))
        assert len(node["hex"]) == len(node["decimal"]) == size
        for text, decimal in zip(node["hex"], node["decimal"], strict=True):
            np.testing.assert_equal(float.fromhex(text), float(decimal))
        if "tolerance" in node:
            assert len(node["tolerance"]["bound"]) == size


def test_inputs_are_numbers_of_their_dtype():
    for group, test in TESTS:
        for x in test.inputs.values():
            values = x.astype(np.float64)
            if group.dtype == "bfloat16":
                assert np.array_equal(x.view(np.uint32) & 0xFFFF, np.zeros(x.shape))
            else:
                assert x.dtype == group.dtype
            with np.errstate(all="ignore"):
                steps = values / spacing(values, group.dtype)
            assert (np.isin(np.abs(values), (np.inf, 0)) | np.isnan(values) | (steps == np.rint(steps))).all()


def test_every_vector_cites_what_it_holds_and_says_why_its_tolerance_is_right():
    page = (ROOT / "docs/reference/vectors.md").read_text()
    for group, test in TESTS:
        assert group.theorems or group.conventions, test.id
        assert set(group.theorems) <= set(THEOREMS), test.id
        assert all(f"`{name}`" in page for name in group.conventions), test.id
        for expected in test.expected.values():
            assert len(expected.reason) > 50
            assert (expected.bound[np.isnan(expected.value)] == 0).all()


def test_every_mistake_named_on_the_page_is_a_flag():
    page = (ROOT / "docs/reference/vectors.md").read_text()
    for name in {"subnormals", "infinities", "widened"}:
        assert f"`{name}`" in page


# --- truth


def finite(test):
    return all(np.isfinite(x).all() for x in test.inputs.values())


def is_rounded(x, truth):
    """Whether the float64 x is nearest to the number ``truth``."""
    if np.isinf(x):
        return MP.sign(truth) == np.sign(x) and abs(truth) >= MP.mpf(2) ** 1024 - MP.mpf(2) ** 970
    with MP.workprec(2400):
        half = MP.mpf(float(spacing(x, "float64"))) / 2
        return abs(MP.mpf(float(x)) - truth) <= half * (1 + MP.mpf(2) ** -200)


DIFFERENTIABLE = [item for item in TESTS if finite(item[1]) and "relu at zero" not in item[0].conventions]
SAMPLE = np.random.default_rng(20261124).permutation(len(DIFFERENTIABLE))[:150].tolist()
SAMPLE += [i for i, (group, _) in enumerate(DIFFERENTIABLE) if group.rule and i not in SAMPLE]


@pytest.mark.parametrize("index", SAMPLE, ids=lambda i: DIFFERENTIABLE[i][1].id)
def test_expected_values_are_those_of_another_computation(index):
    group, test = DIFFERENTIABLE[index]
    truth = vector_truth.expected(group, test.inputs)
    for name, quantity in test.expected.items():
        for x, number in zip(quantity.value.ravel(), truth[name], strict=True):
            assert is_rounded(x, number), (name, x, float(number))


def test_that_computation_tells_neighbours_apart():
    group, test = TESTS[0]
    truth = vector_truth.expected(group, test.inputs)["value"][0]
    x = test.expected["value"].value[0]
    assert (
        is_rounded(x, truth) and not is_rounded(np.nextafter(x, 1), truth) and not is_rounded(np.nextafter(x, 0), truth)
    )


# --- right and wrong implementations


def of_refrm(backend):
    """refrm itself, as an implementation of the vectors."""

    def loss_of(group, inputs):
        c = group.convention
        size = len(inputs["r_w"] if "r_w" in inputs else inputs["chosen"])
        penalty = {"squared-sum": SquaredSum(), "sum-of-squares": SumOfSquares(), "sum-to-zero": SumToZero()}
        term = c.multiplier(size) * penalty[c.penalty] if c.penalty else None
        if group.term in penalty:
            return term
        margin = inputs.get("margin", np.zeros(1))
        pairwise = BradleyTerry(margin if margin.size > 1 else margin[0], c.label_smoothing)
        return pairwise + term if term else pairwise

    def run(group, inputs):
        loss, weight = loss_of(group, inputs), inputs.get("weight")
        if not group.model:
            w, v = (
                inputs[key].astype(np.float32 if group.dtype == "float16" else inputs[key].dtype)
                for key in ("r_w", "r_l")
            )
            value, g_w, g_l = loss.value_and_grad(w, v, weight=weight, backend=backend)
            found = {"value": value, "grad_w": g_w, "grad_l": g_l}
            if group.term == "bradley-terry":
                found["loss"] = loss.pairs(w, v, backend=backend).value
            return found
        m = group.model
        hidden = tuple(m["hidden"])
        model = MLP(3, hidden, m["activation"], m["bias"]) if hidden else Linear(3, m["bias"])
        chosen, rejected, theta = inputs["chosen"], inputs["rejected"], inputs["theta"]
        objective = Objective(model, loss, chosen, rejected, weight, backend)
        if not group.rule:
            value, grad, r_w, r_l = objective.evaluate(theta)
            return {"value": value, "grad": grad, "r_w": r_w, "r_l": r_l}
        settings = {key: x for key, x in group.rule.items() if key != "name"} | {"batch_size": len(chosen)}
        rule = {"sgd": SGD, "adam": Adam}[group.rule["name"]]
        path = [
            refrm.minimize(objective, rule(steps=n, **settings), theta=theta).theta for n in range(1, group.steps + 1)
        ]
        return {"value": [objective.value(t) for t in [theta, *path[:-1]]], "theta": path}

    return run


RIGHT = {"textbook": Textbook().run, "refrm numpy": of_refrm("numpy"), "refrm numba": of_refrm("numba")}


@pytest.mark.parametrize("name", RIGHT)
def test_right_implementations_pass(name):
    assert verdict(RIGHT[name]) == {}


WRONG = {flag: mutant.run for flag, mutant in OF_FLAG.items()}


@pytest.mark.parametrize("flag", sorted({flag for _, test in TESTS for flag in test.flags}))
def test_every_flag_has_a_mutant_that_fails_each_of_its_vectors(flag):
    flagged = {test.id for _, test in TESTS if flag in test.flags}
    assert flagged <= set(verdict(WRONG[flag])), flagged - set(verdict(WRONG[flag]))


def test_every_mutant_has_a_flag():
    assert set(OF_FLAG) == {flag for file in load_vectors() for flag in file.notes}


def test_every_vector_is_failed_by_some_mutant():
    killed = set().union(*(verdict(run) for run in WRONG.values()))
    assert {test.id for _, test in TESTS} <= killed


# --- the loader


def test_what_is_accepted():
    by_id = {test.id: test for _, test in TESTS}
    exact = by_id["bt-001"].expected["value"]
    bound = exact.bound[0] * spacing(exact.value, "float64")
    assert exact.accepts(exact.value + bound * [0.9])
    assert not exact.accepts(exact.value + bound * [1.2])
    assert exact.errors(exact.value).tolist() == exact.errors(exact.value[0]).tolist() == [0.0]
    for wrong in (np.nan, np.inf, -np.inf):
        assert not exact.accepts([wrong])
    with pytest.raises(InputError, match=r"found must have shape \(1,\), got \(2,\)"):
        exact.accepts([1.0, 2.0])


def test_infinities_and_nan_must_be_met():
    expected = [e for _, test in TESTS for e in test.expected.values() if e.value.size == 1]
    infinite = [e for e in expected if np.isinf(e.value[0])]
    nan = [e for e in expected if np.isnan(e.value[0])]
    assert len(infinite) > 10 < len(nan)
    for e in infinite:
        assert e.accepts(e.value) and not e.accepts(-e.value) and not e.accepts([np.nan]) and not e.accepts([1e308])
        assert e.errors([1.0]).tolist() == [np.inf]
    for e in nan:
        assert e.accepts([np.nan]) and not e.accepts([0.0]) and not e.accepts([np.inf])


def test_an_overflow_of_the_dtype_may_be_infinite():
    large = [
        e
        for group, test in TESTS
        for e in test.expected.values()
        if group.dtype == "float32" and e.value.size == 1 and 3.5e38 < abs(e.value[0]) < np.inf
    ]
    assert large
    for e in large:
        assert e.accepts(np.sign(e.value) * np.inf) and not e.accepts(-np.sign(e.value) * np.inf)


def test_examples_of_the_loader():
    failed, tried = doctest.testmod(vectors)
    assert failed == 0 < tried


def test_arrays_are_read_only():
    _, test = TESTS[0]
    with pytest.raises(ValueError, match="read-only"):
        test.inputs["r_w"][0] = 0


@pytest.mark.parametrize(("dtype", "kind"), [("float64", np.float64), ("float32", np.float32), ("float16", np.float16)])
def test_spacing_is_numpy_s(dtype, kind):
    x = np.array([0, 1, -1, 1.5, 0.99, 3, 1000, 6e-8, 1e-5, 6.2e-5], kind)
    assert spacing(x, dtype).tolist() == np.spacing(np.abs(x)).astype(np.float64).tolist()
    assert spacing(0.0, "bfloat16") == 2.0**-133 and spacing(1.0, "bfloat16") == 2.0**-7


# --- the page's runner


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node (node) for the runner in JavaScript")
@pytest.mark.parametrize(
    "mistake",
    [
        None,
        *re.findall(
            r'"([\w-]+)"', re.search(r"MISTAKES = \[(.*)\]", (ROOT / "docs/vectors/runner.mjs").read_text())[1]
        ),
    ],
)
def test_the_runner_in_javascript(mistake):
    option = ["--mistake", mistake] if mistake else []
    command = ["node", str(ROOT / "docs/vectors/runner.mjs"), str(DATA), *option]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *failures, last = found.stdout.splitlines()
    tests, passed, failed = map(int, re.fullmatch(r"(\d+) tests, (\d+) passed, (\d+) failed", last).groups())
    assert (tests, passed + failed, found.stderr) == (sum(RAW[name]["tests"] for name in NAMES[:3]), tests, "")
    assert found.returncode == (1 if mistake else 0) and failed == len(failures)
    if mistake:
        flagged = [
            test.id
            for file in load_vectors()[:3]
            for group, test in file
            # In float64 arithmetic no float32 overflows; and its penalty is wrong where it is the squared sum.
            if mistake in test.flags and group.dtype == "float64"
            if mistake != "squared-difference" or group.convention.penalty == "squared-sum"
        ]
        assert set(flagged) <= {line.split(" ")[0] for line in failures}
    else:
        assert failed == 0
