"""Every claim of the README and the docs that can be run is run."""

import doctest
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pages import PAGES, ROOT, anchors, blocks, indented_code, prose

import refrm
from refrm import BradleyTerry

ALL = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

SHOWN = {
    "text": "a form or a formula, nothing to run",
    "{literalinclude}": "docs/pins.py holds it",
    "{toctree}": "the site's build resolves it",
    "{include}": "the site's build resolves it",
    "{eval-rst}": "the site's build resolves it",
    "{theorem-map}": "made from refrm.theorems.THEOREMS when the site is built",
    "{commands}": "made from the command line's own help when the site is built",
}
"""Kinds of blocks that are not run, and why."""

NOT_RUN = {
    "python -m pip install": "it installs what the tests run in",
    "tox": "it runs these tests",
    "pytest": "it runs these tests",
    "NUMBA_DISABLE_JIT=1 pytest": "it runs these tests",
    "node docs/vectors/runner.mjs": "tests/test_vectors.py runs it",
    "python docs/pins.py": "tests/test_site.py runs it",
}
"""Commands by their beginning, and why they are not run here."""


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def run_pycon(block, names, page):
    test = doctest.DocTestParser().get_doctest(block.text, names, name_of(page), str(page), block.line - 1)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
    assert test.examples


def run_python(block, names, page):
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def commands(text):
    """The commands of a block, without comments, continued lines joined."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def run_bash(block, names, page):
    lines = [line for line in commands(block.text) if not line.startswith(tuple(NOT_RUN))]
    script = "\n".join(['refrm() { "$PYTHON" -m refrm "$@"; }', 'python() { "$PYTHON" "$@"; }', *lines])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A directory with the files that the pages speak of."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    pairs = refrm.make_pairs(200, 8)
    np.savez(tmp_path / "pairs.npz", chosen=pairs.chosen, rejected=pairs.rejected)
    np.savez(tmp_path / "features.npz", features=pairs.chosen)
    (tmp_path / "mylosses.py").write_text(
        "import numpy as np\ndef reward_loss(r_w, r_l):\n"
        "    return np.mean(np.logaddexp(0, r_l - r_w) + 0.01 * (r_w + r_l) ** 2)\n"
    )
    rng = np.random.default_rng(0)
    d, s = rng.normal(size=(2, 300))
    d = np.where(rng.random(300) < 1 / (1 + np.exp(-d)), d, -d)  # calibrated: exit code 0
    lines = (json.dumps({"chosen": (a + b) / 2, "rejected": (a - b) / 2}) for a, b in zip(s, d, strict=True))
    (tmp_path / "scores.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = {"pycon": run_pycon, "python": run_python, "bash": run_bash}


@pytest.mark.compiled
@ALL
def test_every_block_runs(page, at_work):
    names = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.kind in RUN and not block.needs:
            RUN[block.kind](block, names, page)


@ALL
def test_every_block_is_run_or_has_a_reason(page):
    text = page.read_text()
    for block in blocks(text):
        assert block.kind in RUN or block.kind in SHOWN, f"line {block.line}: a block of an unknown kind"
        assert block.kind != "{eval-rst}" or "code" not in block.text
        if block.kind == "pycon":
            wants = "".join(example.want for example in doctest.DocTestParser().get_examples(block.text))
            assert not re.search(r"\bnp\.\w+", wants), f"line {block.line}: NumPy 1.26 shows its numbers without a name"
    assert not indented_code(text), "code that is only indented has no language: fence it"
    assert not any(">>>" in line for line in prose(text)), "a prompt outside of ```pycon"


def test_what_is_not_run_is_there_still():
    lines = [line for page in PAGES for b in blocks(page.read_text()) if b.kind == "bash" for line in commands(b.text)]
    for beginning in NOT_RUN:
        assert any(line.startswith(beginning) for line in lines), beginning


# --- blocks that need a framework: run where it is installed, `tox -e frameworks`


class Tokenizer:
    """A stand-in: one token for each letter, padding at the left."""

    pad_token, eos_token = None, "."

    def __call__(self, texts, *, return_tensors, padding, truncation):
        import torch

        width = max(map(len, texts))
        ids = torch.tensor([[0] * (width - len(text)) + [ord(letter) for letter in text] for text in texts])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class LanguageModel:
    """A stand-in: 64 numbers that say which token it is."""

    def eval(self):
        return self

    def __call__(self, input_ids, attention_mask, output_hidden_states):
        import torch

        return SimpleNamespace(hidden_states=(None, torch.sin(input_ids[..., None] * torch.arange(1.0, 65.0))))


def compute_loss(model, inputs):
    """What trl.RewardTrainer computes with center_rewards_coefficient=0.01."""
    import torch

    r_w, r_l = torch.chunk(model().logits.squeeze(-1), 2)
    d = r_w - r_l - inputs["margin"] if "margin" in inputs else r_w - r_l
    return -torch.nn.functional.logsigmoid(d).mean() + 0.01 * torch.mean((r_w + r_l) ** 2)


def check_head(names):
    """The last letter decides, wherever the padding is, and the PyTorch head scores as refrm does."""
    import torch

    def padded_right(texts, **_):
        ids = torch.tensor([[97, 98, 0], [97, 98, 99]])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    for tokenizer in (Tokenizer(), padded_right):
        states = names["hidden_states"](LanguageModel(), tokenizer, ["ab", "abc"])
        np.testing.assert_allclose(states, np.sin([[98], [99]] * np.arange(1.0, 65.0)), atol=1e-3)
    states = names["hidden_states"](LanguageModel(), Tokenizer(), ["a text to score"])
    found, expected = names["head"](torch.from_numpy(states)).item(), names["fitted"].predict(states).item()
    assert abs(found - expected) <= 2**-23 * 64 * np.abs(names["fitted"].theta_).sum()  # 64 float32 terms, |state| <= 1


NEEDED = sorted({(name_of(page), b.needs) for page in PAGES for b in blocks(page.read_text()) if b.needs})


@pytest.mark.compiled
@pytest.mark.parametrize(("page", "needs"), NEEDED)
def test_every_block_that_needs_a_framework_runs(page, needs, at_work, monkeypatch):
    pytest.importorskip(needs, reason=f"{needs} is not installed: tox -e frameworks")
    made = {
        name: SimpleNamespace(from_pretrained=lambda _, stand_in=stand_in: stand_in())
        for name, stand_in in (("AutoModelForCausalLM", LanguageModel), ("AutoTokenizer", Tokenizer))
    }
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(**made))
    (at_work / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    names = {"__name__": "__main__", "trainer": SimpleNamespace(compute_loss=compute_loss)}
    for block in blocks((ROOT / page).read_text()):
        if block.kind in RUN and block.needs in ("", needs):
            RUN[block.kind](block, names, ROOT / page)
    if "hidden_states" in names:
        check_head(names)


# --- docstrings, links, names, tables


def test_examples_of_docstrings():
    attempted = 0
    for module in pkgutil.walk_packages(refrm.__path__, "refrm."):
        if not module.name.endswith("__main__"):
            failed, tried = doctest.testmod(importlib.import_module(module.name))
            assert failed == 0
            attempted += tried
    assert attempted >= 6


@ALL
def test_links_and_names_exist(page):
    text = "\n".join(prose(page.read_text()))
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), f"{target}#{anchor}"
    for path in re.findall(r"`((?:refrm|tests|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(refrm(?:\.\w+)+)(?:\(\))?`", text):
        assert found(name), name


def found(name):
    """Whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            here = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            here = getattr(here, part, None)
        return here is not None
    return False


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_table_of_infinities(backend):
    rows = re.findall(r"^\| ([+-]inf|finite) \|(.*)\|$", (ROOT / "docs/reference/conventions.md").read_text(), re.M)
    assert len(rows) == 8
    eps = 0.25
    meaning = {"finite": 3.0, "NaN": np.nan, "eps": eps, "eps - 1": eps - 1}
    for first, rest in rows:
        cells = [meaning[c] if c in meaning else float(c) for c in (first, *(c.strip() for c in rest.split("|")))]
        for smoothing, loss, gradient in ((0.0, cells[2], cells[3]), (eps, cells[4], cells[5])):
            jet = BradleyTerry(label_smoothing=smoothing).pairs(cells[:1], cells[1:2], backend=backend)
            np.testing.assert_array_equal([jet.value[0], jet.g_w[0], jet.g_l[0]], [loss, gradient, -gradient])


def test_the_version_is_the_package_s():
    assert importlib.metadata.version("refrm") == refrm.__version__
