"""docs/reference/peers.md, from the results in docs/reference/peers.json."""

from typing import Any

HEAD = """# Public implementations, checked

Written by `tox -e peers`, which installs each package at the version below, calls the loss that it ships, and
judges it by `refrm check`: the published numbers, and the laws of the loss. No GPU, no model weights, and no code of
theirs in this repository. The same for programs: [peers.json](peers.json).

A verdict is on the loss as a function of scores, value and gradients, for every setting in a row of its own, in
float32 and in bfloat16, the types that reward models are trained in. "ulp" is the largest error, in units in the last
place of that type, of the loss or a gradient; rounding r_w - r_l alone costs about |r_w - r_l|/2 of them in the tail,
in every implementation that subtracts first ([numerics.md](../theorems/numerics.md)). What else was found while
calling them is told below the table; every run shows it again, with the numbers printed here.
"""

TAIL = """
## What was not to be had

- trlx has no release in the package index; what the index has as nemo-rl (0.0.0), align-anything (0.0.1b0), safe-rlhf,
  lmflow and deepspeedchat are placeholders without a loss; the source distribution of colossalai (0.5.0) leaves out
  its chat application.
- axolotl (0.19.0) has no loss of its own: its reward trainer inherits TRL's `compute_loss`, and its configuration has
  no bound on `center_rewards_coefficient` either (read, not run).
"""


def number(x: Any) -> str:
    return x if isinstance(x, str) else f"{x + 0.0:.6g}"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def ulp(report: dict[str, Any]) -> str:
    worst = max(report["accuracy"], key=lambda entry: float(entry["ulp"]), default=None)
    return f", {float(worst['ulp']):.1f} ulp" if worst and report["conforms"] else ""


def verdict(report: dict[str, Any]) -> str:
    return ("conforms" if report["conforms"] else "**does not conform**") + ulp(report)


def mistakes(case: dict[str, Any]) -> str:
    found = {m["id"]: m["name"] for dtype in ("float32", "bfloat16") for m in case[dtype]["mistakes"]}
    if found:
        return ", ".join(f"{id} {name}" for id, name in found.items())
    broken = [case[dtype] for dtype in ("float32", "bfloat16") if not case[dtype]["conforms"]]
    return f"none of the known; breaks {', '.join(broken[0]['laws_broken'])}" if broken else ""


def table(results: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| package | entry point | setting | loss judged | float32 | bfloat16 | mistake |",
        "|---|---|---|---|---|---|---|",
    ]
    for peer in results:
        for case in peer["cases"]:
            cells = [
                f"{peer['package']} {peer['version']}",
                f"`{peer['entry'].split('.', 1)[1]}`",
                case["setting"],
                f"`{case['float32']['convention']['loss']}`",
                verdict(case["float32"]),
                verdict(case["bfloat16"]),
                mistakes(case),
            ]
            lines.append("| " + " | ".join(map(cell, cells)) + " |")
    return lines


def told(peer: dict[str, Any], finding: dict[str, Any]) -> list[str]:
    known = f" ({finding['id']} of the known mistakes)" if finding["id"] else ""
    right = f"; right: {', '.join(map(number, finding['right']))}" if finding["right"] else ""
    return [
        "",
        f"**{peer['package']} {peer['version']}: {finding['kind']}{known}.** `{finding['where']}`",
        "",
        finding["text"],
        "",
        f"- In: {finding['input']}.",
        f"- Out: {finding['output']}: {', '.join(map(number, finding['found']))}{right}.",
        f"- Why: {finding['reason']}.",
    ]


def render(results: list[dict[str, Any]]) -> str:
    """Return the page: the table, what was found wrong, and how each was called."""
    lines = [HEAD, *table(results), "", "## What was found"]
    for peer in results:
        for finding in peer["findings"]:
            lines += told(peer, finding)
    lines += ["", "## How each was called", ""]
    for peer in results:
        lines.append(f"- {peer['package']} {peer['version']}, `{peer['entry']}`: {peer['called']}.")
    return "\n".join(lines) + "\n" + TAIL
