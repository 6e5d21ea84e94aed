"""Judge public implementations of the loss and write docs/reference/peers.json and peers.md: ``tox -e peers``.

The peers' dependencies conflict, so that there are three environments, built here from pinned requirements: NAME.txt
with its dependencies, then NAME-alone.txt without. Every adapter runs in a process of its own, without a GPU and
without fetching anything.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVIRONMENTS = {
    "trl": ("trl",),
    "torch": ("openrlhf", "llamafactory", "ms_swift", "nemo_aligner", "xtuner", "torchrl", "pykoi", "llm_blender"),
    "jax": ("easydel", "arena_rank"),
}
DTYPES = ("float32", "bfloat16")


def build(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment, built if its requirements have changed since it was."""
    files = [HERE / "requirements" / f"{name}{part}.txt" for part in ("", "-alone")]
    files = [file for file in files if file.exists()]
    wanted = "".join(file.read_text() for file in files)
    place, python = folder / name, folder / name / "bin" / "python"
    stamp = place / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        for file in files:
            alone = ["--no-deps"] if file.stem.endswith("-alone") else []
            subprocess.run([python, "-m", "pip", "install", "--quiet", *alone, "-r", file], check=True)
        stamp.write_text(wanted)
    return python


def same(found: float, claimed: float) -> bool:
    return found == claimed or (math.isnan(found) and math.isnan(claimed)) or math.isclose(found, claimed, rel_tol=1e-6)


def shortened(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with its three smallest failures."""
    return report | {"failures": report["failures"][:3]}


def judge(adapter: str) -> list[dict[str, Any]]:
    """Judge the peers of one adapter, in this process; raise if a finding is not what it claims to be."""
    from importlib import import_module
    from importlib.metadata import version

    from refrm.oracle import check

    judged = []
    for peer in import_module(f"adapters.{adapter}").PEERS:
        cases = []
        for case in peer.cases:
            stated = case.stated | {"name": peer.entry, "time_limit": 60.0}
            reports = {dtype: check(case.loss, dtypes=[dtype], **stated) for dtype in DTYPES}
            shown = {dtype: shortened(report.as_dict()) for dtype, report in reports.items()}
            cases.append({"setting": case.name} | shown)
        findings = []
        for finding in peer.findings:
            shown = finding.shown()
            if len(shown) != len(finding.found) or not all(map(same, shown, finding.found)):
                raise SystemExit(f"{peer.entry}: {finding.id} gives {shown}, not {finding.found} as it claims")
            told = {key: value for key, value in vars(finding).items() if key not in ("shown", "found")}
            findings.append(told | {"found": shown})
        about = {"package": peer.package, "version": version(peer.package), "entry": peer.entry, "called": peer.called}
        judged.append(about | {"cases": cases, "findings": findings})
    return judged


def finite(x: Any) -> Any:
    """Return x with the floats that JSON does not have as strings."""
    if isinstance(x, dict):
        return {key: finite(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [finite(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=ROOT / ".tox" / "peers" / "environments")
    parser.add_argument("--only", choices=sum(ENVIRONMENTS.values(), ()), help="judge one, and print its JSON")
    parser.add_argument("--judge", nargs=2, metavar=("ADAPTER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        adapter, file = options.judge
        Path(file).write_text(json.dumps(finite(judge(adapter))))
        return
    settings = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    settings["PYTHONPATH"] = str(ROOT)
    results = []
    for name, adapters in ENVIRONMENTS.items():
        adapters = [adapter for adapter in adapters if options.only in (None, adapter)]
        if not adapters:
            continue
        python = build(options.environments, name)
        for adapter in adapters:
            print(f"{name}: {adapter}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder, "judged.json")
                command = [python, HERE / "run.py", "--judge", adapter, out]
                if subprocess.run(command, env=os.environ | settings, stdout=sys.stderr).returncode:
                    raise SystemExit(f"{adapter} could not be judged")
                results += json.loads(out.read_text())
    text = json.dumps(results, indent=1) + "\n"
    if options.only:
        print(text)
        return
    from page import render

    (ROOT / "docs" / "reference" / "peers.json").write_text(text)
    (ROOT / "docs" / "reference" / "peers.md").write_text(render(results))


if __name__ == "__main__":
    main()
