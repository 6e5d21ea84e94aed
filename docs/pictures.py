"""The pictures of the theorem pages, from refrm's own numbers: ``python docs/pictures.py [--only NAME] [--out DIR]``.

Each is a function that returns a figure; `make` writes them as SVG, the same bytes on every run of one installation.
Colours are Okabe and Ito's, and dashes, markers or words say again what a colour says. The pages that show them have
the words: an alternative text, and a caption that says what to see.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.special import wrightomega

import refrm
from refrm import LBFGS, MLP, Adam, BradleyTerry, Linear, Newton, Objective, SquaredSum, SumToZero, make_pairs, minimize
from refrm.demo import SquaredDifference
from refrm.files import write_atomic
from refrm.losses import Loss, Term
from refrm.oracle.forms import rounded
from refrm.oracle.vectors import FORMATS, spacing
from refrm.spec import Array, Jet, sigmoid
from refrm.theorems import W_1_E, free_shifts, universal_bound

BLACK, GREY, ORANGE, SKY, GREEN = "#000000", "#595959", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
WIDTH = 7.4  # inches, a column of the site
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "mathtext.fontset": "cm",
    "svg.hashsalt": "refrm",
    "svg.fonttype": "path",  # drawn alike on every machine; what is read aloud is the alternative text
}
SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#E6F1F8", "#B9D8EA", "#7FB5D6"])


@dataclass(frozen=True)
class MinusSquaredSum(Term):
    """The printed sign taken literally, here to be seen failing: -mean (r_w + r_l)^2 (T10)."""

    quadratic: ClassVar[tuple[float, float, float]] = (0.0, -1.0, 0.0)

    def _jet(self, r_w: Array, r_l: Array, of: Any) -> Jet:
        return Jet(*(-part for part in SquaredSum().pairs(r_w, r_l)))


def surface() -> Figure:
    """T1, T3: the loss over the plane of scores, alone and with the term."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    side = np.linspace(-6, 6, 121)
    grid = [part.ravel() for part in np.meshgrid(side, side)]
    points = np.array([[-3.0, -5.0], [-1, -3], [1, -1], [3, 1], [5, 3]])
    levels = [0.01, 0.05, 0.3, 1, 3, 10]
    panels = (
        (0.0, "the pairwise loss: flat along $(1,1)$", ([-4, 6], [-6, 4]), 8.0),
        (0.1, "with $0.1\\,(r_w+r_l)^2$: a valley along $s=0$", ([-6, 6], [6, -6]), 1.4),
    )
    for axes, (coef, title, floor, scale) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        height = BradleyTerry().pairs(*grid).value + coef * SquaredSum().pairs(*grid).value
        height = height.reshape(len(side), -1)
        axes.contourf(side, side, np.log10(height), levels=np.log10([1e-7, *levels, 30]), cmap=SHADES)
        lines = axes.contour(side, side, height, levels=levels, colors=BLACK, linewidths=0.5)
        axes.clabel(lines, [x for x in levels if x < 10], fmt="%g", fontsize=7.5)
        loss = BradleyTerry() + coef * SquaredSum()
        axes.plot(*floor, color=GREY, linewidth=1.2, dashes=(5, 3))
        for point in points:
            force = -np.concatenate(loss.value_and_grad(point[:1], point[1:])[1:])
            style = {"arrowstyle": "-|>", "color": RED, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", point + scale * force, point, arrowprops=style)
        axes.plot(*points.T, "o", color=RED, markersize=5, markeredgecolor="white")
        ticks = range(-6, 7, 2)
        axes.set(title=title, xlabel="$r_w$, score of the chosen response", aspect="equal", xlim=(-6, 6), ylim=(-6, 6))
        axes.set(xticks=ticks, yticks=ticks)
    same = BradleyTerry().value(points[:1, 0], points[:1, 1])
    words = f"dashed: $r_w-r_l=2$\nloss {same:.3f} all along"
    figure.axes[0].text(5.8, -5.7, words, ha="right", va="bottom", fontsize=8.5, linespacing=1.4)
    figure.axes[0].set_ylabel("$r_l$, score of the rejected response")
    return figure


def descend(loss: Loss, r_w: Array, r_l: Array, lr: float, seen: Array) -> Array:
    """Return the free scores of gradient descent at the steps ``seen``, shape (steps, 2, N); each pair is its own
    problem.
    """
    found, at = np.empty((len(seen), 2, len(r_w))), 0
    for i, step in enumerate(seen):
        for _ in range(step - at):
            _, g_w, g_l = loss.value_and_grad(r_w, r_l, backend="numpy")
            r_w, r_l = r_w - lr * len(r_w) * g_w, r_l - lr * len(r_l) * g_l
        found[i], at = (r_w, r_l), step
    return found


def free_scores() -> Figure:
    """T5, T10: gradient descent on free scores, and the closed forms."""
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    margins, sums = figure.subplots(1, 2)
    d, s, coef, lr = np.array([-4.0, 0.0, 3.0]), np.array([-6.0, 4.0, 8.0]), 0.05, 0.02
    runs: list[tuple[str, Loss, float, dict[str, Any]]] = [
        ("$\\lambda=0$", BradleyTerry(), 0.0, {"marker": "o", "color": RED, "markersize": 6.5}),
        (f"$\\lambda={coef}$", BradleyTerry() + coef * SquaredSum(), coef, {"marker": "x", "color": BLUE}),
        (f"$-{coef}$, printed sign", BradleyTerry() + coef * MinusSquaredSum(), -coef, {"marker": "^", "color": BLACK}),
    ]
    late, early = np.unique(np.geomspace(10, 15_000, 20).astype(int)), np.arange(0, 1001, 100)
    t = np.geomspace(late[0], late[-1], 200) * lr
    margins.plot(t, np.log(wrightomega(d + np.exp(d) + 2 * t[:, None])).real, color=GREY, linewidth=1.2)
    for name, loss, signed, style in runs:
        points: dict[str, Any] = {"linestyle": "", "fillstyle": "none", "markersize": 5, **style}
        if signed >= 0:
            track = descend(loss, (s + d) / 2, (s - d) / 2, lr, late)
            margins.plot(late * lr, track[:, 0] - track[:, 1], **points)
        times = np.linspace(0, 20, 201)
        sums.plot(times, s * np.exp(-4 * signed * times[:, None]), color=GREY, linewidth=1.2)
        drawn = sums.plot(early * lr, descend(loss, (s + d) / 2, (s - d) / 2, lr, early).sum(1), **points)
        drawn[0].set_label(name)
    margins.set(xscale="log", xlabel="time $t$", ylabel="margin $d=r_w-r_l$", title="margins do not feel the term")
    sums.set(xlabel="time $t$", ylabel="sum $s=r_w+r_l$", title="sums feel nothing else", ylim=(-26, 26))
    sums.axhline(0, color=BLACK, linewidth=0.6)
    sums.legend(loc="upper right", handletextpad=0.1)
    return figure


def inflation() -> Figure:
    """T6, T7, T10, T12: one MLP, one data set, five objectives."""
    figure = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    data, coef, steps = make_pairs(2000, 32), 0.01, 3000
    runs: list[tuple[str, Loss, str, Any]] = [
        ("pairwise loss alone", BradleyTerry(), RED, "-"),
        ("$+\\,\\lambda\\,$mean$\\,(r_w+r_l)^2$", BradleyTerry() + coef * SquaredSum(), BLUE, "-"),
        ("mistake: $+\\,\\lambda\\,$mean$\\,(r_w-r_l)^2$", BradleyTerry() + coef * SquaredDifference(), GREEN, ":"),
        ("mistake: $-\\,\\lambda\\,$mean$\\,(r_w+r_l)^2$", BradleyTerry() + coef * MinusSquaredSum(), BLACK, "-."),
        (
            "weaker: $+\\,\\lambda\\,($batch mean of $r_w+r_l)^2$",
            BradleyTerry() + coef * SumToZero(),
            ORANGE,
            (0, (4, 1.5)),
        ),
    ]
    panels = figure.subplots(1, 3)
    keys = ("mean_score", "spread", "mean_margin")
    top = {"mean_score": (-2, 8), "spread": (0, 8), "mean_margin": (-0.5, 8)}
    for name, loss, colour, dashes in runs:
        objective = Objective(MLP(32, (64,), "gelu"), loss, data.chosen, data.rejected)
        result = minimize(objective, Adam(lr=1e-3, batch_size=64, steps=steps), record_every=25)
        for axes, key in zip(panels, keys, strict=True):
            width = 2.4 if colour == BLUE else 1.6
            kept = result.column(key)
            axes.plot(result.column("step"), kept, color=colour, linestyle=dashes, linewidth=width, label=name)
            if colour == BLACK:
                axes.text(220, 0.95 * top[key][1], f"{kept[-1]:.0f} at the end", va="center", fontsize=8)
    titles = ("mean score", "spread of the pair means", "mean margin $r_w-r_l$")
    for axes, key, title in zip(panels, keys, titles, strict=True):
        axes.set(title=title, xlabel="step", ylim=top[key], xlim=(0, steps), xticks=(0, 1000, 2000, 3000))
        axes.axhline(0, color=BLACK, linewidth=0.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=3)
    return figure


def problems(count: int) -> list[tuple[float, Objective, slice, Newton | LBFGS]]:
    """Return ``count`` random linear problems and a tenth as many MLPs: coefficient, objective, head, solver."""
    rng, found = np.random.default_rng(8), []
    for i in range(count + count // 10):
        n, p = int(rng.integers(3, 60)), int(rng.integers(1, 7))
        coef = 10 ** rng.uniform(-3, 1)
        shared = rng.standard_normal((n, p)) * 10 ** rng.uniform(-1, 1)
        own = rng.standard_normal((2, n, p)) + rng.uniform(0, 2) * np.array([1.0, -1])[:, None, None]
        loss = BradleyTerry() + coef * SquaredSum()
        if i < count:
            model, head, solver = Linear(p), slice(None), Newton(max_iter=60)
        else:
            model, head, solver = MLP(p, (3,), "tanh"), slice(-3, None), LBFGS(max_iter=400)
        found.append((coef, Objective(model, loss, shared + own[0], shared + own[1]), head, solver))
    return found


def bound() -> Figure:
    """T8: random problems at rest, below the universal bound and below the curve that proves it."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    cloud, proof = figure.subplots(1, 2)
    rest: dict[str, list[tuple[float, float, float]]] = {"linear": [], "MLP": []}
    for coef, objective, head, solver in problems(330):
        result = minimize(objective, solver, record_every=10_000)
        if result.stop == "converged":
            r_w, r_l = objective.scores(result.theta)
            assert universal_bound(objective, result.theta, coef, head).holds
            kind = type(objective.model).__name__
            rest["linear" if kind == "Linear" else kind].append(
                (coef, float(np.mean((r_w + r_l) ** 2)), float(np.mean(r_w - r_l)))
            )
    top = 1 + W_1_E
    s = np.sqrt(W_1_E / 2)
    attained = Objective(Linear(1), BradleyTerry() + SquaredSum(), [[(s + top) / 2]], [[(s - top) / 2]])
    scores = attained.scores(minimize(attained, Newton()).theta)
    edge, d = np.array([8e-4, 12]), np.linspace(-1.2, 8, 300)
    cloud.plot(edge, W_1_E / (2 * edge), color=BLACK)
    cloud.annotate(
        "$W(1/e)/(2\\lambda)$", (0.05, W_1_E / 0.1), (0.09, 12), arrowprops={"arrowstyle": "-", "linewidth": 0.7}
    )
    proof.plot(d, d * sigmoid(-d), color=BLACK)
    proof.annotate(
        "$d\\,\\sigma(-d)$", (3.6, 3.6 * sigmoid(-3.6)), (4.3, 0.17), arrowprops={"arrowstyle": "-", "linewidth": 0.7}
    )
    proof.axhline(W_1_E, color=GREY, linewidth=0.8, dashes=(5, 3))
    proof.text(8, W_1_E + 0.004, "$W(1/e)=0.278\\ldots$", ha="right", va="bottom", color=GREY)
    markers: dict[str, dict[str, Any]] = {
        "linear": {"marker": "o", "color": SKY, "markeredgecolor": BLUE, "markersize": 4.5, "markeredgewidth": 0.6},
        "MLP": {"marker": "^", "color": ORANGE, "markeredgecolor": BLACK, "markersize": 5.5, "markeredgewidth": 0.6},
    }
    for kind, found in rest.items():
        coef, mean, margin = np.array(found).T
        cloud.plot(coef, mean, linestyle="", label=f"{len(found)} random {kind} problems", **markers[kind])
        proof.plot(margin, 2 * coef * mean, linestyle="", **markers[kind])
    star: dict[str, Any] = {"marker": "*", "color": RED, "markeredgecolor": BLACK, "markersize": 13, "linestyle": ""}
    attains = float((scores[0] + scores[1])[0] ** 2)
    cloud.plot(1, attains, label="one pair that attains it", **star)
    proof.plot(float((scores[0] - scores[1])[0]), 2 * attains, **star)
    cloud.set(xscale="log", yscale="log", xlabel="$\\lambda$", ylabel="mean $s^2$ at rest", xlim=edge, ylim=(1e-5, 400))
    cloud.set_title("mean $s^2$ at rest: none above the line")
    cloud.legend(loc="lower left", handletextpad=0.1)
    proof.set(xlabel="mean margin at rest", ylabel="$2\\lambda$ mean $s^2$", xlim=(-1.2, 8), ylim=(0, 0.32))
    proof.set_title("the reason: $2\\lambda$ mean $s^2$ = mean of $d\\,\\sigma(-d)$")
    return figure


def resolution() -> Figure:
    """T13: how far apart the floats are at a score, and which margins that leaves."""
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    gaps, left = figure.subplots(1, 2)
    formats = {
        "bfloat16": (RED, "-", "bfloat16"),
        "float16": (BLUE, "--", "float16"),
        "float32": (GREEN, ":", "float32"),
    }
    for name, (colour, dashes, label) in formats.items():
        last = min(2.0**21, 2.0 ** FORMATS[name][2])
        size = 2.0 ** np.arange(-2, np.log2(last) + 1)
        gap = spacing(size[:-1], name)
        gaps.stairs(gap, size, baseline=None, color=colour, linestyle=dashes, linewidth=1.8)
        gaps.text(size[-1] * 1.15, gap[-1], label, color=colour, va="center", fontsize=8.5)
        if name == "float16":
            gaps.plot(size[-1], gap[-1], marker="|", color=colour, markersize=9)
    gaps.plot(500, spacing(500, "bfloat16"), "o", color=BLACK, markersize=5)
    gaps.annotate("at 500: 2 apart", (500, 2), (0.6, 30), arrowprops={"arrowstyle": "-", "linewidth": 0.7})
    gaps.set(
        xscale="log", yscale="log", xlabel="size of the scores", ylabel="distance to the next float", xlim=(0.25, 3e8)
    )
    gaps.set(title="resolution of scores", xticks=[1, 1e2, 1e4, 1e6])
    margin = np.linspace(0, 4.9, 981)
    for shift, style in ((0.0, (BLACK, "-", 1.0)), (60.0, (BLUE, "--", 1.6)), (498.0, (RED, "-", 1.8))):
        kept = rounded(np.float32(shift) + margin.astype(np.float32), "bfloat16") - np.float32(shift)
        left.plot(margin, kept, color=style[0], linestyle=style[1], linewidth=style[2], label=f"$r_l={shift:g}$")
    left.set(
        title="margins that bfloat16 can hold",
        xlabel="true margin",
        ylabel="margin of the rounded scores",
        aspect="equal",
    )
    left.legend(loc="upper left", handlelength=2.6)
    return figure


def laplacian() -> Figure:
    """T9: what loss and penalty determine on a tournament with an odd and an even cycle."""
    figure = Figure(figsize=(WIDTH, 3.35), layout="constrained")
    names = "ABCDEFG"
    at = np.array([[0, 1.25], [1.3, 1.25], [0.65, 2.35], [0, 0.1], [1.3, 0.1], [1.3, -1.2], [0, -1.2]])
    pairs = np.array([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 6), (6, 3)])
    items = np.eye(len(names))
    n, zero = len(pairs), np.zeros(len(names))

    def hessian(loss: Loss) -> tuple[Array, Objective]:
        objective = Objective(Linear(len(names)), loss, items[pairs[:, 0]], items[pairs[:, 1]])
        return objective.hessian(zero), objective

    of_loss, plain = hessian(BradleyTerry())
    of_both, _ = hessian(BradleyTerry() + SquaredSum())
    matrices = 4 * n * of_loss, n / 2 * (of_both - of_loss)  # at zero scores h = 1/4
    free = [len(names) - int(np.linalg.matrix_rank(x)) for x in (*matrices, of_both)]
    assert free_shifts(plain, 2).holds and free == [2, 1, 0]
    alone = np.linalg.svd(matrices[1])[2][-1]  # what the penalty leaves free
    graph, *panels = figure.subplots(1, 3, width_ratios=(0.72, 1, 1))
    for i, j in pairs:
        style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.3, "shrinkA": 10, "shrinkB": 10}
        graph.annotate("", at[j], at[i], arrowprops=style)
    for name, (x, y), sign in zip(
        names, at, np.rint(np.sign(alone) * (np.abs(alone) > 1e-9)) * np.sign(alone[3]), strict=True
    ):
        face = {0.0: "white", 1.0: "#9CCBE8", -1.0: "#F4C08B"}[float(sign)]
        graph.plot(x, y, "o", markersize=19, color=face, markeredgecolor=BLACK, markeredgewidth=0.9)
        graph.text(x, y, name + {0.0: "", 1.0: "$+$", -1.0: "$-$"}[float(sign)], ha="center", va="center")
    graph.set(xlim=(-0.45, 1.75), ylim=(-1.6, 2.75), aspect="equal", title="who beat whom")
    graph.axis("off")
    colours = LinearSegmentedColormap.from_list("signs", ["#F4C08B", "#FFFFFF", "#9CCBE8"])
    titles = (
        f"loss: Laplacian\nleaves {free[0]} shifts free",
        f"penalty: signless Laplacian\nleaves {free[1]} free, the signs at the left",
    )
    for axes, matrix, title in zip(panels, matrices, titles, strict=True):
        axes.imshow(matrix, cmap=colours, vmin=-2, vmax=2)
        for (i, j), x in np.ndenumerate(np.rint(matrix)):
            text = f"{x:.0f}".replace("-", "−") if x else "·"
            axes.text(j, i, text, ha="center", va="center", color=BLACK if x else GREY)
        axes.set(title=title, xticks=range(len(names)), yticks=range(len(names)))
        axes.set_xticklabels(names)
        axes.set_yticklabels(names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "surface": surface,
    "free-scores": free_scores,
    "inflation": inflation,
    "universal-bound": bound,
    "resolution": resolution,
    "laplacian": laplacian,
}


def svg(name: str) -> bytes:
    """Return the picture ``name`` as SVG: no date, no random ids."""
    with matplotlib.rc_context(STYLE):
        figure, buffer = PICTURES[name](), io.BytesIO()
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def newest() -> float:
    """Return when the code that the pictures come from was last changed."""
    return max(path.stat().st_mtime for path in (Path(__file__), *Path(refrm.__path__[0]).rglob("*.py")))


def make(out: Path, only: str | None = None) -> list[Path]:
    """Write the pictures to ``out``, but those that are newer than their code; return the paths of all of them."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.svg" for name in PICTURES if only in (None, name)]
    for path in paths:
        if not path.exists() or path.stat().st_mtime < newest():
            write_atomic(path, svg(path.stem))
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation.")
    parser.add_argument("--only", choices=list(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "_pictures")
    arguments = parser.parse_args()
    for path in make(arguments.out, arguments.only):
        print(path)
