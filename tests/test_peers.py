"""The table of public implementations: the page is of the results, the results are of the pinned versions."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from refrm.oracle import MISTAKES

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"
RESULTS = json.loads((ROOT / "docs" / "reference" / "peers.json").read_text())
FINDINGS = [(peer, finding) for peer in RESULTS for finding in peer["findings"]]


@pytest.fixture
def module(monkeypatch):
    """Import a module of benchmarks/peers by name, and leave no trace of it."""
    monkeypatch.setattr(sys, "path", [str(PEERS), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


def pins() -> dict[str, str]:
    lines = [line for file in (PEERS / "requirements").glob("*.txt") for line in file.read_text().split()]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def test_the_page_is_that_of_the_results(module):
    assert (ROOT / "docs" / "reference" / "peers.md").read_text() == module("page").render(RESULTS)


def test_every_peer_is_judged_at_its_pinned_version(module):
    pinned = pins()
    assert {peer["package"] for peer in RESULTS} >= {"trl", "openrlhf", "llamafactory", "ms-swift", "easydel"}
    for peer in RESULTS:
        assert peer["version"] == pinned[peer["package"]]
    adapters = {file.stem for file in (PEERS / "adapters").glob("*.py")} - {"__init__"}
    assert adapters == set(sum(module("run").ENVIRONMENTS.values(), ()))
    assert adapters == {peer["package"].replace("-", "_") for peer in RESULTS}


def test_a_failing_verdict_names_what_fails():
    known = {mistake.id: mistake.name for mistake in MISTAKES}
    cases = [(peer, case[dtype]) for peer in RESULTS for case in peer["cases"] for dtype in ("float32", "bfloat16")]
    assert any(report["conforms"] for _, report in cases) and not all(report["conforms"] for _, report in cases)
    for _, report in cases:
        assert report["conforms"] == (not report["laws_broken"]) == (not report["failures"])
        assert all(known[mistake["id"]] == mistake["name"] for mistake in report["mistakes"])


@pytest.mark.parametrize(("peer", "finding"), FINDINGS, ids=[f"{p['package']}-{f['id']}" for p, f in FINDINGS])
def test_a_finding_says_where_what_and_why(peer, finding):
    assert finding["id"] in {"", *(mistake.id for mistake in MISTAKES)}
    assert finding["kind"] in {"wrong result", "unchecked input", "reporting", "limitation", "accuracy"}
    assert re.match(r"[\w/]+\.py: \w+", finding["where"])
    for part in ("text", "input", "output", "reason"):
        assert finding[part]
    assert finding["found"] and finding["found"] != finding["right"]


def test_stand_ins_import_and_do_nothing(module, tmp_path, monkeypatch):
    package = tmp_path / "shipped"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not to be run')")
    (package / "loss.py").write_text(
        "from absent.parts import Base, registered\nimport absent.more as more\n"
        "@registered\nclass Loss(Base, more.Mixin):\n    def __init__(self):\n        self.set = 1\n"
        "@more.registered(kind='b')\ndef twice(x):\n    return 2 * x\n"
        "def touch():\n    return more.compute() + 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shipped = module("loading").load("shipped.loss", bare=("shipped",), inert=("absent",))
    assert shipped.twice(3) == 6 and shipped.Loss().set == 1
    with pytest.raises(TypeError):
        shipped.touch()
    assert "absent" not in sys.modules
    with pytest.raises(ImportError, match="json is installed"):
        module("loading").load("shipped.loss", inert=("json",))


def test_a_finding_that_is_not_what_it_claims_stops_the_run(module, monkeypatch):
    run, peer = module("run"), module("peer")
    claim = peer.Finding("M2", "wrong result", "a.py: f", "t", "i", "o", [1.0], [2.0], "r", lambda: [1.5])
    stub = peer.Peer("numpy", "numpy.f", "called", (), (claim,))
    monkeypatch.setitem(sys.modules, "adapters.stub", type("Stub", (), {"PEERS": (stub,)}))
    monkeypatch.setitem(sys.modules, "adapters", type("Package", (), {"__path__": []}))
    with pytest.raises(SystemExit, match=r"M2 gives \[1.5\], not \[1.0\]"):
        run.judge("stub")
