"""Plots of fits, drawn without pyplot: no global state, no window, and half the time to import."""

import io
import os
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refrm.files import write_atomic
from refrm.fit import Record

# Okabe and Ito's colours, told apart by every reader; dashes tell them apart in print.
STYLES = (("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", ":"), ("#CC79A7", "-."))


def plot_training(path: str | os.PathLike[str], histories: Mapping[str, list[Record]], title: str) -> None:
    """Write a PNG with two panels over training: the mean score with a band of one spread of the pair means, and the
    mean margin.
    """
    figure = Figure(figsize=(9, 4))
    FigureCanvasAgg(figure)
    # constrained layout, which draws everything twice, takes a tenth of the time of a whole `refrm fit`
    place = {"left": 0.08, "right": 0.98, "top": 0.85, "bottom": 0.24, "wspace": 0.22}
    scores, margins = figure.subplots(1, 2, gridspec_kw=place)
    for (name, history), (colour, line) in zip(histories.items(), STYLES, strict=False):
        step, mean, spread, margin = (
            np.array([r[key] for r in history]) for key in ("step", "mean_score", "spread", "mean_margin")
        )
        scores.fill_between(step, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        scores.plot(step, mean, color=colour, linestyle=line, label=name, linewidth=2)
        margins.plot(step, margin, color=colour, linestyle=line, label=name, linewidth=2)
        if any("heldout_mean_margin" in record for record in history):
            held = [record["heldout_mean_margin"] for record in history]
            margins.plot(step, held, color=colour, linestyle=line, linewidth=0.8, label=f"{name}, held out")
    scores.axhline(0, color="black", linewidth=0.6)
    scores.set(xlabel="step", ylabel="score", title="mean score, band: spread of the pair means")
    margins.set(xlabel="step", ylabel="r_w - r_l", title="mean margin")
    for axes in (scores, margins):
        axes.spines[["top", "right"]].set_visible(False)
    names = margins.get_legend_handles_labels()
    figure.legend(*names, loc="lower center", ncols=3, frameon=False, fontsize="small")
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
