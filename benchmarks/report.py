"""From times to the table, its verdicts and the plots."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyperf
from timing import OURS

import refrm

PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "scikit-learn", "choix", "polars", "duckdb", "pyperf")
ABOUT = ("cpu_model_name", "cpu_count", "cpu_config", "platform", "python_version", "load_avg_1min")
TITLES = {
    "pairwise": "Pairwise loss and squared sum: value and both gradients",
    "linear": "Linear model: one value and gradient",
    "fit": "Linear model: fitted from zero to a gradient norm of 1e-8",
    "mlp": "MLP: one training step",
    "command": "The whole command",
    "compiling": "Compiling",
    "diagnose": "Diagnosis",
    "growth": "Growth",
}
FLAT = 1.15


def machine() -> dict[str, str]:
    """Return the processor, what else ran on it, and the versions."""
    found = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    about = {key: str(found[key]) for key in ABOUT if key in found}
    about["refrm"] = refrm.__version__
    for package in PACKAGES:
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not installed"
    return about


def benchmark(row: dict[str, Any], name: str) -> pyperf.Benchmark:
    """Return the times of one contender as pyperf has them."""
    about = {"name": f"{row['group']}: {row['name']}, {row['threads']} threads: {name}", "unit": "second"}
    return pyperf.Benchmark([pyperf.Run(row["times"][name], metadata=about, collect_metadata=False)])


def suite(rows: list[dict[str, Any]]) -> pyperf.BenchmarkSuite:
    """Return all times, for ``python -m pyperf``."""
    return pyperf.BenchmarkSuite([benchmark(row, name) for row in rows for name in row.get("times", ())])


def judge(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with statistics for times, ratios, and whether the bars are met."""
    return [judge_growth(row) if row["group"] == "growth" else judge_times(row) for row in rows]


def judge_growth(row: dict[str, Any]) -> dict[str, Any]:
    medians = [point["median"] for point in row["points"]]
    memory = [point["anonymous"] for point in row["points"] if point["anonymous"]]
    bars = [{"against": "time per pair, most/least", "most": FLAT, "reached": max(medians) / min(medians)}]
    if memory:
        bars.append({"against": "peak memory, most/least", "most": FLAT, "reached": max(memory) / min(memory)})
    return {**row, "bars": [{**bar, "met": bar["reached"] <= FLAT} for bar in bars]}


def judge_times(row: dict[str, Any]) -> dict[str, Any]:
    times = {}
    for name in row["times"]:
        found = benchmark(row, name)
        low, high = found.percentile(25), found.percentile(75)
        times[name] = {"median": found.median(), "low": low, "high": high, "rounds": found.get_nvalue()}
    ours = times[OURS]["median"]
    medians = {name: t["median"] / ours for name, t in times.items()} | {
        name: seconds / ours for name, seconds in row["slower"].items()
    }
    limits = {name: ratio for name, ratio in medians.items() if name.startswith("limit")}
    peers = {name: ratio for name, ratio in medians.items() if name not in limits and name != OURS}
    bars = []
    for bar in row["bars"]:
        among = {name: x for name, x in (limits if bar["against"] == "limit" else peers).items()
                 if name.startswith(bar["against"])}  # fmt: skip
        name = min(among, key=among.__getitem__, default=None)
        reached = among.get(name)
        met = None if reached is None else reached >= bar["least"]
        bars.append({**bar, "by": name, "reached": reached, "met": met})
    return {
        **row,
        "times": times,
        "limit": min(limits, key=limits.__getitem__, default=None),
        "limit/refrm": min(limits.values(), default=None),
        "fastest": min(peers, key=peers.__getitem__, default=None),
        "fastest/refrm": min(peers.values(), default=None),
        "bars": bars,
    }


def seconds(t: float) -> str:
    """Return a time with its unit, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if t >= size:
            return f"{t / size:.3g} {unit}" if t / size < 999.5 else f"{t / size:.0f} {unit}"
    return f"{t / 1e-6:.3g} µs"


def verdict(bar: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a bar and whether it is met."""
    if "most" in bar:
        return f"{bar['against']} {bar['reached']:.2f}, at most {bar['most']}: {'met' if bar['met'] else '**missed**'}"
    of = bar["against"] or "fastest peer"
    if bar["reached"] is None:
        return f"{bar['least']:.3g} x {of}: no such peer"
    more = "> " if bar["by"] in row["slower"] else ""
    return f"{bar['least']:.3g} x {of}: {more}{bar['reached']:.3g}, {'met' if bar['met'] else '**missed**'}"


def markdown(about: dict[str, str], rows: list[dict[str, Any]], images: str = "") -> str:
    """Return the whole page, with the plots that are in the directory ``images``."""
    intro = (
        "Written by `benchmarks/run.py`, as docs/reference/benchmarks.md explains; medians with quartiles in",
        "parentheses. A bar of 5 x fastest peer asks for five times its speed, and one of 0.85 x limit for that share",
        "of the limit.",
    )
    lines = ["# Benchmarks", "", *intro, ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    for group, title in TITLES.items():
        chosen = [row for row in rows if row["group"] == group]
        if chosen:
            picture = [f"![{title}: ratios and bars]({images}/bench-{group}.svg)", ""] if images else []
            lines += ["", f"## {title}", "", *picture, *(growth(chosen) if group == "growth" else table(chosen))]
    bars = [bar["met"] for row in rows for bar in row["bars"]]
    lines += ["", f"{bars.count(True)} of {len(bars)} bars met."]
    return "\n".join(lines) + "\n"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of a group, and what is to be said of its rows."""
    lines = ["| work | threads | refrm | limit | refrm/limit | peers | fastest peer/refrm | bars |", "|---" * 8 + "|"]
    remarks: dict[str, list[str]] = {}
    for row in rows:
        times = row["times"]
        ours = times[OURS]
        spread = f"{seconds(ours['median'])} ({seconds(ours['low'])}-{seconds(ours['high'])})"
        limits = [f"{name.removeprefix('limit: ')} {seconds(t['median'])}" for name, t in sorted(
            times.items(), key=lambda item: item[1]["median"]) if name.startswith("limit")]  # fmt: skip
        peers = {name: t["median"] for name, t in times.items() if name != OURS and not name.startswith("limit")}
        shown = [f"{name} {seconds(t)}" for name, t in sorted(peers.items(), key=lambda item: item[1])]
        shown += [f"{name} > {seconds(t)}" for name, t in row["slower"].items()]
        of_limit = f"{1 / row['limit/refrm']:.2f}" if row["limit/refrm"] else ""
        ratio = f"{row['fastest/refrm']:.2f}" if row["fastest/refrm"] else ""
        ratio = f"> {ratio}" if row["fastest"] in row["slower"] else ratio
        bars = "; ".join(verdict(bar, row) for bar in row["bars"])
        cells = (row["name"], row["threads"], spread, "; ".join(limits), of_limit, "; ".join(shown), ratio, bars)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        about = [f"{name} is left out: {why}" for name, why in row["left_out"].items()] + row["notes"]
        for remark in about:
            remarks.setdefault(remark, []).append(f"{row['name']} ({row['threads']})")
    everywhere = len(rows)
    said = [f"- {remark}" if len(where) == everywhere else f"- {', '.join(where)}: {remark}"
            for remark, where in remarks.items()]  # fmt: skip
    return [*lines, "", *said] if said else lines


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of time and memory against the number of pairs."""
    lines = []
    for row in rows:
        lines += ["", f"{row['name']}, {row['threads']} threads:", ""]
        lines += ["| pairs | ns per pair | reading alone | setting up, once | peak memory asked for | ru_maxrss |"]
        lines += ["|---" * 6 + "|"]
        for p in row["points"]:
            spread = f"{p['median']:.3g} ({p['low']:.3g}-{p['high']:.3g})"
            asked = f"{p['anonymous'] / 1e6:.0f} MB" if p["anonymous"] else "unknown"
            cells = (f"{p['pairs']:.0e}".replace("e+0", "e"), spread, f"{p['read']:.3g}", f"{p['setup']:.3g}", asked)
            lines.append("| " + " | ".join(cells) + f" | {p['maxrss'] / 1e6:.0f} MB |")
        lines += ["", *(f"- {verdict(bar, row)}" for bar in row["bars"]), *(f"- {note}" for note in row["notes"])]
    return lines[1:]


def plots(place: Path, rows: list[dict[str, Any]]) -> None:
    """Write bench-GROUP.svg for every group: ratios as dots with the bars marked, growth as lines."""
    import matplotlib
    from matplotlib.figure import Figure

    from refrm.plots import STYLES

    place.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "refrm", "font.size": 9}):
        for group, title in TITLES.items():
            chosen = [row for row in rows if row["group"] == group]
            if not chosen:
                continue
            height = 3.5 if group == "growth" else 1.4 + 0.24 * len({row["name"] for row in chosen})
            figure = Figure(figsize=(9, height), layout="constrained")
            figure.suptitle(title)
            (draw_growth if group == "growth" else draw_ratios)(figure, chosen, [colour for colour, _ in STYLES])
            figure.savefig(place / f"bench-{group}.svg", metadata={"Date": None})


def draw_ratios(figure: Any, rows: list[dict[str, Any]], colours: list[str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    names = list(dict.fromkeys(row["name"] for row in rows))
    panels = figure.subplots(1, 2, sharey=True)
    texts = (("fastest/refrm", "times as fast as the fastest peer"), ("limit/refrm", "share of the physical limit"))
    every = sorted({row["threads"] for row in rows})
    for axes, (key, text) in zip(panels, texts, strict=True):
        for threads, colour, marker in zip(every, colours, "osD^", strict=False):
            some = [row for row in rows if row["threads"] == threads and row[key]]
            label = f"{threads} thread{'s' * (threads > 1)}"
            at = [names.index(row["name"]) for row in some]
            axes.scatter([row[key] for row in some], at, s=22, color=colour, marker=marker, label=label, zorder=3)
        for row in rows:
            for bar in row["bars"]:
                if (bar["against"] == "limit") == (key == "limit/refrm") and bar["against"] in ("", "limit"):
                    axes.scatter(bar["least"], names.index(row["name"]), s=130, color="black", marker="|", zorder=2)
        axes.axvline(1, color="black", linewidth=0.6)
        axes.set(xscale="log", xlabel=text, yticks=range(len(names)), yticklabels=names)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    panels[0].scatter([], [], s=130, color="black", marker="|", label="bar")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def draw_growth(figure: Any, rows: list[dict[str, Any]], colours: list[str]) -> None:
    time, memory = figure.subplots(1, 2)
    for row, colour in zip(rows, colours, strict=False):
        pairs = [p["pairs"] for p in row["points"]]
        label = row["name"].split(",")[0]
        time.plot(pairs, [p["median"] for p in row["points"]], "o-", color=colour, label=label)
        time.plot(pairs, [p["read"] for p in row["points"]], ":", color=colour, label=f"{label}: reading alone")
        if all(p["anonymous"] for p in row["points"]):
            memory.plot(pairs, [p["anonymous"] / 1e6 for p in row["points"]], "o-", color=colour, label=label)
        memory.plot(pairs, [p["maxrss"] / 1e6 for p in row["points"]], ":", color=colour, label=f"{label}: with files")
    time.set(xscale="log", ylim=(0, None), xlabel="pairs", ylabel="ns per pair")
    memory.set(xscale="log", yscale="log", xlabel="pairs", ylabel="peak memory, MB")
    for axes in (time, memory):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
