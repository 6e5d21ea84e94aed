"""The package as a whole: what it loads, which way its arrows point, and that it works where little is installed."""

import ast
import io
import os
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import refrm

PACKAGE = Path(refrm.__file__).parent
FILES = {path.stem: [path] for path in PACKAGE.glob("*.py")}
FILES |= {name: sorted((PACKAGE / name).glob("*.py")) for name in ("kernels", "oracle", "theorems", "diagnosis")}
MODULES = {name: ast.parse("\n".join(path.read_text() for path in paths)) for name, paths in FILES.items()}

# What each module may import of the package, at any level of nesting.
CORE = {
    "errors": set(),
    "spec": set(),
    "checks": {"errors", "spec"},
    "kernels": {"spec"},
    "files": {"errors", "spec"},
    "losses": {"checks", "errors", "kernels", "spec"},
    "linear": {"checks", "spec"},
    "mlp": {"checks", "errors", "spec"},
    "objective": {"checks", "errors", "linear", "losses", "spec"},
    "geometry": {"errors", "linear", "losses", "objective", "spec"},
    "solvers": {"checks", "errors", "geometry", "kernels", "linear", "losses", "mlp", "objective", "spec"},
    "fit": {"checks", "errors", "files", "geometry", "losses", "objective", "solvers", "spec"},
    "estimators": {
        *("checks", "errors", "files", "fit", "linear", "losses", "mlp", "objective", "solvers", "spec"),
    },
    "gradcheck": {"checks", "errors", "spec"},
    "datasets": {"checks", "errors", "spec"},
}


def imported(tree):
    """The modules that a tree imports, by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "refrm":
                yield from (f"refrm.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("module", CORE)
def test_arrows_point_one_way(module):
    names = set(imported(MODULES[module]))
    ours = {name.split(".")[1] for name in names if name.startswith("refrm.")} - {module}
    assert ours <= CORE[module]
    others = {name.split(".")[0] for name in names} - {"refrm"} - set(sys.stdlib_module_names)
    allowed = {"numpy", "scipy", "numba"} | ({"sklearn"} if module == "estimators" else set())
    assert others <= allowed
    assert "numba" not in others or module == "kernels"


def test_the_oracle_judges_by_published_numbers_not_by_the_code_that_it_may_judge():
    shown = {"refrm.console", "refrm.options", "refrm.files"}  # by its command alone
    for path in FILES["oracle"]:
        names = {name for name in imported(ast.parse(path.read_text())) if name.startswith("refrm")}
        ours = {name for name in names if not name.startswith("refrm.oracle")}
        assert ours <= {"refrm.checks", "refrm.errors", "refrm.spec"} | (shown if path.stem == "command" else set())


ENGINE = (
    *("aggregates", "arrays", "bounds", "calibration", "case", "data", "engine", "figures", "groups", "intervals"),
    *("model", "moments", "precision", "rules_data", "rules_log", "rules_scale", "sampling", "suspicions", "tally"),
    *("timeline", "trends"),
)


def test_the_diagnosis_needs_scores_and_nothing_of_the_fits():
    for path in FILES["diagnosis"]:
        names = set(imported(ast.parse(path.read_text())))
        ours = {name for name in names if name.startswith("refrm.") and not name.startswith("refrm.diagnosis")}
        assert not ours & {f"refrm.{name}" for name in set(CORE) - {"checks", "errors", "files", "spec", "fit"}}
        if path.stem in ENGINE:
            assert ours <= {"refrm.checks", "refrm.errors", "refrm.spec"}
            own = {name.split(".")[2] for name in names if name.startswith("refrm.diagnosis.")}
            assert own <= set(ENGINE)  # it knows neither files nor reports
            assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) <= {"refrm", "numpy", "scipy"}


def test_the_arrows_have_no_cycle():
    order = list(CORE)
    for module, below in CORE.items():
        assert all(order.index(name) < order.index(module) for name in below)


def test_every_jitted_function_is_in_one_directory():
    for name in MODULES:
        assert name == "kernels" or "numba" not in {n.split(".")[0] for n in imported(MODULES[name])}


def test_sizes():
    longest = {str(path): len(path.read_text().splitlines()) for paths in FILES.values() for path in paths}
    assert max(longest.values()) <= 400, max(longest, key=longest.get)
    model = ("spec", "kernels", "losses", "linear", "mlp", "objective", "geometry", "solvers", "fit", "estimators")
    assert sum(lines_of_code(path) for name in model for path in FILES[name]) <= 2450


def lines_of_code(path):
    """Lines that are neither blank nor comment nor docstring."""
    text = path.read_text()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in skipped]
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_everything_public_is_there_and_documented():
    for name in refrm.__all__:
        assert getattr(refrm, name) is not None
        assert name == "__version__" or getattr(refrm, name).__doc__
    assert set(refrm.__all__) == set(dir(refrm))
    with pytest.raises(AttributeError, match="module 'refrm' has no attribute 'Loss'"):
        refrm.Loss  # noqa: B018


def run(code, **env):
    """Run Python code in a new process; return its standard output."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing():
    heavy = (
        "scipy",
        "numba",
        "matplotlib",
        "click",
        "rich",
        "hypothesis",
        "sklearn",
        "polars",
        "refrm.oracle",
        "refrm.diagnosis",
    )
    assert run(f"import sys, refrm; print([m for m in {heavy!r} if m in sys.modules])").strip() == "[]"


def test_import_of_the_diagnosis_loads_numpy_only():
    heavy = ("scipy", "numba", "polars", "matplotlib", "click", "rich", "torch", "transformers", "trl", "refrm.oracle")
    assert run(f"import sys, refrm.diagnosis; print([m for m in {heavy!r} if m in sys.modules])").strip() == "[]"


def test_without_numba_everything_works_on_the_spec():
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba" else found(name, package)
import refrm
pairs = refrm.make_pairs(50, 4)
X = refrm.stack_pairs(pairs.chosen, pairs.rejected)
for model in (refrm.LinearRewardModel(center=0.1), refrm.MLPRewardModel(solver=refrm.Adam(steps=20))):
    print(model.fit(X).result_.stop)
assert "numba" not in sys.modules
"""
    assert run(code).split() == ["converged", "completed"]


@pytest.mark.compiled
def test_from_a_read_only_install_with_an_unwritable_home(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "refrm", ignore=shutil.ignore_patterns("__pycache__"))
    # A cache directory cannot be made inside a file, whoever asks: this holds for root, too.
    (site / "refrm" / "kernels" / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    env = {key: str(nowhere / "x") for key in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "NUMBA_CACHE_DIR")}
    env.pop("NUMBA_CACHE_DIR")
    code = """
import os
os.environ.pop("NUMBA_CACHE_DIR", None)
import refrm
assert refrm.__file__.startswith(os.environ["SITE"])
print(refrm.BradleyTerry().value([2.0], [2.0], backend="numba") == refrm.BradleyTerry().value([0.0], [0.0]))
"""
    assert run(code, **env, SITE=str(site), PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1").strip() == "True"
    assert (site / "refrm" / "kernels" / "__pycache__").is_file()


@pytest.mark.compiled
def test_a_cached_kernel_is_never_stale(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "refrm", ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(site), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    code = """
import numpy as np
from refrm.kernels import squared_sum
print(squared_sum(np.array([1.0]), np.array([3.0])).value[0], sum(squared_sum.stats.cache_hits.values()))
"""
    assert [run(code, **env).split() for _ in range(2)] == [["16.0", "0"], ["16.0", "1"]]
    # A callee in another file changes, and neither its size nor its time of change does.
    file = site / "refrm" / "kernels" / "compiler.py"
    before = file.stat()
    text = file.read_text()
    file.write_text(text.replace("    s = a + b\n    t = s - a\n", "    s = a - b\n    t = s - a\n"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.read_text() != text and file.stat().st_size == before.st_size
    assert run(code, **env).split() == ["-20.0", "0"]  # (1 - 3)^2 + 2*(1 - 3)*6, where the cache holds 16


def test_python_m_refrm_and_a_missing_extra():
    done = subprocess.run([sys.executable, "-m", "refrm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"refrm, version {refrm.__version__}\n"
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise ModuleNotFoundError("No module named 'click'", name="click")
sys.meta_path.insert(0, Hidden())
sys.stderr = sys.stdout
from refrm.__main__ import main
try:
    main()
except SystemExit as stop:
    print(stop.code)
"""
    expected = ["refrm: error: the command line needs click: pip install 'refrm[cli]'", "2"]
    assert run(code).splitlines() == expected
