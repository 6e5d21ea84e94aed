"""A diagnosis as one page: a file to send around. It needs no network and no script, and the same diagnosis gives the
same bytes.

Whatever comes from outside (names of files and subsets, lines that could not be read) passes `markup.text`; should that
fail, the page's own policy still forbids scripts and requests.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from refrm import __version__
from refrm.diagnosis import wording
from refrm.diagnosis.markup import Name, sentence, table, text
from refrm.diagnosis.model import Diagnosis, Estimate, Finding, Trend
from refrm.diagnosis.panels import panels
from refrm.diagnosis.plots import as_svg
from refrm.files import write_atomic
from refrm.theorems import THEOREMS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

HOW = {
    "asymptotic": "from the mean and variance over the pairs, by Student's t",
    "wilson": "Wilson's interval of a share",
    "bootstrap": "from resampled data",
    "theil-sen": "Sen's interval of a median slope",
    "sampled": "from a random sample of the pairs",
    "exact": "counted, without error",
}


def write_html(path: str | os.PathLike[str], found: Diagnosis) -> None:
    """Write a diagnosis as one self-contained page.

    Parameters
    ----------
    path : path
    found : Diagnosis

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    write_atomic(path, page(found).encode())


def page(found: Diagnosis) -> str:
    """Return the page."""
    style = resources.files("refrm.diagnosis").joinpath("report.css").read_text(encoding="utf-8")
    title = f"{'Healthy' if found.healthy else 'Findings'}: {found.name}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{text(title)}</title>",
        f"<style>\n{style}</style>\n</head>\n<body>",
        *_header(found),
        "<main>",
        *_findings(found),
        *_pictures(found),
        *_figures(found),
        *_subsets(found),
        *_trends(found),
        *_bounds(found),
        *_unknown(found),
        *_problems(found),
        *_method(found),
        "</main>",
        f"<footer>Made by refrm {text(__version__)}: <code>refrm diagnose</code>.</footer>",
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _header(found: Diagnosis) -> Iterator[str]:
    severe = [one for one in found.findings if one.severity == "finding"]
    word = "Healthy" if not severe else f"{len(severe)} finding{'s' if len(severe) > 1 else ''}"
    yield f'<header class="{"good" if found.healthy else "bad"}">'
    about = "; ".join(filter(None, wording.subject(found)))
    yield f'<p class="what">{text(found.name)}<br><span>{text(about)}</span></p>'
    yield f'<h1><span class="mark" aria-hidden="true"><b>{"✓" if found.healthy else "!"}</b></span> {word}</h1>'
    links = [f'<li><a href="#finding-{k}">{sentence(one.title)}</a></li>' for k, one in enumerate(severe, 1)]
    yield f"<ol>{''.join(links)}</ol>" if links else "<p>There is nothing to act on.</p>"
    yield "</header>"


def _findings(found: Diagnosis) -> Iterator[str]:
    for severity, heading, key in (("finding", "What to act on", "finding"), ("note", "What to know", "note")):
        chosen = [one for one in found.findings if one.severity == severity]
        if chosen:
            yield f"<section><h2>{heading}</h2>"
            for k, one in enumerate(chosen, 1):
                yield from _finding(one, f"{key}-{k}")
            yield "</section>"


def _finding(one: Finding, key: str) -> Iterator[str]:
    where = f" in {text(one.subset)}" if one.subset else ""
    yield f'<article id="{key}" class="{text(one.severity)}"><h3>{sentence(one.title)}{where}</h3>'
    yield f'<p class="id"><code>{text(one.id)}</code></p><div class="sides"><div>'
    yield f"<h4>What helps</h4><p>{sentence(one.cure)}</p>"
    yield f"<h4>What that does not mend</h4><p>{sentence(one.will_not_fix)}</p>"
    known = [(name, THEOREMS[name].says) for name in dict.fromkeys(one.theorems) if name in THEOREMS]
    if known and one.severity == "finding":
        yield '<h4>Why this is so</h4><dl class="why">'
        yield from (f"<dt>{name}</dt><dd>{text(says)}</dd>" for name, says in known)
        yield "</dl>"
    yield "</div>"
    found = list(wording.evidence(one.evidence))
    if found:
        yield from table("Evidence", ("", "figure", "95% interval"), ((name, rest) for name, *rest in found))
    yield "</div>"
    mistakes = list(_mistakes(one.lookalikes))
    if mistakes and one.severity == "finding":
        yield "<details><summary>Mistakes in a loss that would look like this</summary><dl>"
        yield from mistakes
        yield "</dl></details>"
    yield "</article>"


def _mistakes(names: Sequence[str]) -> Iterator[str]:
    from refrm.oracle.catalogue import MISTAKES

    known = {one.name: one for one in MISTAKES}
    for name in names:
        if name in known:
            yield f"<dt><code>{text(name)}</code></dt><dd>{sentence(known[name].description)}</dd>"


def _pictures(found: Diagnosis) -> Iterator[str]:
    drawn = panels(found)
    if not drawn:
        return
    yield '<section><h2>Pictures</h2><div class="pictures">'
    for panel in drawn:
        yield (
            f'<figure role="group" aria-labelledby="title-{panel.key}"><h3 id="title-{panel.key}">{text(panel.title)}'
            f"</h3>{as_svg(panel)}<figcaption>{text(panel.says)}</figcaption></figure>"
        )
    yield "</div></section>"


def _figures(found: Diagnosis) -> Iterator[str]:
    rows: list[tuple[Name, Sequence[str]]] = [
        ((row.label, row.means), (wording.value(row.value, row.share), wording.interval(row.value, row.share)))
        for row in wording.rows(found.figures)
    ]
    if found.groups is not None:
        g = found.groups
        means = f"how much of the variance of s/2 is between prompts; {wording.number(g.n)} prompts"
        rows.append((("share between prompts", means), (wording.value(g.share, True), wording.interval(g.share, True))))
    if found.subtract is not None and found.kind == "pairs":
        e = found.subtract
        rows.append((("constant to subtract", "centres the scores (T11)"), (wording.value(e), wording.interval(e))))
    if found.suggested_coef is not None:
        means = f"coefficient of mean s^2 that keeps the root mean square of s/2 below {found.settings.target:g} (T8)"
        rows.append((("suggested coefficient", means), (wording.number(found.suggested_coef), "")))
    if rows:
        yield "<section><h2>Figures</h2>"
        yield from table("All figures", ("", "figure", "95% interval"), rows)
        yield "</section>"


_COLUMNS = ("mean_score", "spread", "mean_margin", "accuracy.half", "accuracy.as logged", "loss", "ece", "invisible")


def _subsets(found: Diagnosis) -> Iterator[str]:
    if not found.subsets:
        return
    by_name = {name: {row.key: row for row in wording.rows(f)} for name, f in found.subsets.items()}
    columns = [key for key in _COLUMNS if any(key in rows for rows in by_name.values())]
    labels = {key: row.label for rows in by_name.values() for key, row in rows.items()}
    pairs = found.kind == "pairs"
    yield "<section><h2>By subset</h2>"
    heads = ("subset", *(["pairs"] if pairs else []), *(labels[key] for key in columns))
    cells = [
        (name, (*([f"{found.subsets[name].n:,}"] if pairs else []), *(_cell(rows.get(key)) for key in columns)))
        for name, rows in by_name.items()
    ]
    yield from table("Subsets, with 95% intervals", heads, cells)
    yield "</section>"


def _cell(row: wording.Row | None) -> str:
    if row is None:
        return ""
    return wording.both(row.value, row.share)


def _trends(found: Diagnosis) -> Iterator[str]:
    if not found.trends:
        return
    overall = {name: trend for name, trend in found.trends.items() if "@" not in name}
    own = {name: trend for name, trend in found.trends.items() if "@" in name}
    yield "<section><h2>Trends</h2>"
    yield from table("Trends over the steps: Theil-Sen and Mann-Kendall", _TREND, _trend_rows(overall))
    if own:
        yield "<details><summary>Trends of the subsets</summary>"
        yield from table("Trends of the subsets", _TREND, _trend_rows(own))
        yield "</details>"
    yield "</section>"


_TREND = ("series", "slope per 1,000 steps", "95% interval", "change in all", "p-value", "slope of the second half")


def _trend_rows(trends: Mapping[str, Trend]) -> Iterator[tuple[Name, Sequence[str]]]:
    for name, trend in trends.items():
        late = trend.late
        yield (
            trend_name(name),
            (
                wording.value(trend.slope),
                wording.interval(trend.slope),
                wording.number(trend.change),
                wording.probability(trend.p_value),
                "" if late is None else wording.both(late.slope),
            ),
        )


def trend_name(key: str) -> str:
    """Return the name of a trend for a reader."""
    name, _, subset = key.partition("@")
    held = name.startswith("heldout_")
    text = name.removeprefix("heldout_").replace("mean_size", "mean |d|").replace("_", " ")
    return text + (", held out" if held else "") + (f" in {subset}" if subset else "")


def _bounds(found: Diagnosis) -> Iterator[str]:
    if not found.bounds:
        return
    yield "<section><h2>What the coefficient promises</h2>"
    rows = [
        (
            f"{bound.theorem}, {bound.what}",
            (
                wording.value(bound.value),
                wording.interval(bound.value),
                wording.number(bound.bound),
                "holds" if bound.holds else "violated",
            ),
        )
        for bound in found.bounds
    ]
    yield from table(
        f"Bounds for the coefficient {found.settings.coef:g}",
        ("", "figure", "95% interval", "at most", ""),
        rows,
    )
    yield "</section>"


def _unknown(found: Diagnosis) -> Iterator[str]:
    if not found.unknown:
        return
    yield '<section><h2>What this input cannot tell</h2><dl class="list">'
    for name, why in found.unknown.items():
        yield f"<dt>{text(name.replace('_', ' '))}</dt><dd>{sentence(why)}</dd>"
    yield "</dl></section>"


def _problems(found: Diagnosis) -> Iterator[str]:
    if not found.problems.count:
        return
    shown = found.problems.shown
    yield "<section><h2>What could not be read</h2>"
    yield f"<p>{found.problems.count:,} rows are no pairs and were left out."
    yield f" The first {len(shown)}:</p>" if shown else "</p>"
    if shown:
        rows = [(one.file, (f"{one.line:,}", one.expected)) for one in shown]
        yield from table("Rows that were left out", ("file", "line", "expected"), rows)
    yield "</section>"


def _method(found: Diagnosis) -> Iterator[str]:
    s = found.settings
    yield "<section><h2>How it was computed</h2><ul>"
    for note in found.notes:
        yield f"<li>{sentence(note)}</li>"
    hows = sorted({how for how in _hows(found) if how in HOW})
    if hows:
        yield "<li>95% intervals are: " + "; ".join(f"{text(how)}, {HOW[how]}" for how in hows) + ".</li>"
    yield (
        "<li>A finding is decided by wider intervals, such that any finding on healthy scores has a probability of at"
        " most about 1%, whatever the number of rules and subsets.</li>"
    )
    coef = "not given" if s.coef is None else f"{s.coef:g}"
    start = "that of zero scores" if s.start is None else f"{s.start:g}"
    yield (
        f"<li>Settings: coefficient of mean s^2 {coef}; label smoothing {s.label_smoothing:g}; objective at the start"
        f" {start}; target for the root mean square of s/2 {s.target:g}; seed {s.seed}"
        f"{'; taken to be at rest on all pairs of the training' if s.converged else ''}.</li>"
    )
    yield (
        "<li>r_w is the score of the chosen response, r_l of the rejected one; d = r_w - r_l is the margin, s = r_w +"
        " r_l, and s/2 the shift; sigma(x) = 1/(1 + exp(-x)).</li>"
    )
    yield "</ul></section>"


def _hows(found: Diagnosis) -> Iterator[str]:
    for f in (found.figures, *found.subsets.values()):
        for row in wording.rows(f):
            if isinstance(row.value, Estimate):
                yield row.value.how
    for trend in found.trends.values():
        yield trend.slope.how
