"""From pairs to a diagnosis: read once (twice with a time axis), count, compute figures, apply rules."""

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from refrm.diagnosis import rules_data, rules_scale
from refrm.diagnosis.bounds import largest_pull
from refrm.diagnosis.case import Case, ranked
from refrm.diagnosis.data import Chunk, PairSource, Settings
from refrm.diagnosis.figures import figures
from refrm.diagnosis.groups import Effects, components, effects
from refrm.diagnosis.intervals import Level
from refrm.diagnosis.model import Bound, Diagnosis, Estimate, Finding, Groups, Trend
from refrm.diagnosis.suspicions import ENOUGH, grid
from refrm.diagnosis.tally import BLOCK, Tally, cut
from refrm.diagnosis.timeline import Timeline, scan
from refrm.diagnosis.trends import trend
from refrm.errors import InputError
from refrm.spec import Array

LANES = 4
"""Tallies that share the work, whatever the number of threads: the sums do not depend on the machine."""

THREADED = 8 * BLOCK
"""Pairs in a chunk from which on threads pay."""

SUBSETS = 256
"""The most subsets that get figures of their own."""

FALSE_ALARMS = 0.01
"""The probability of any finding on healthy pairs, shared by all rules and subsets (Bonferroni)."""

RULES = (*rules_data.RULES, *rules_scale.RULES)
"""The first one is for pairs without a finite score, too."""


def diagnose_source(source: PairSource, settings: Settings | None = None) -> Diagnosis:
    """Diagnose the pairs of a source.

    Parameters
    ----------
    source : PairSource
        Read once; twice if it has steps.
    settings : Settings, optional

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        For no pairs at all, steps that are not finite, or more than 256 subsets.
    """
    settings = settings or Settings()
    timeline = scan(source)
    tallies: dict[int, list[Tally]] = {}
    read = 0
    with ThreadPoolExecutor(min(LANES, os.cpu_count() or 1)) as pool:
        for chunk in source.chunks():
            read += len(chunk.r_w)
            if timeline is not None:
                assert chunk.step is not None
                timeline.add(chunk)
                if not timeline.whole:
                    chunk = cut(chunk, chunk.step >= timeline.start)
            work: list[tuple[Tally, Chunk]] = []
            for code, part in _by_subset(chunk):
                if code not in tallies:
                    tallies[code] = [Tally(settings, (settings.seed, code, k)) for k in range(LANES)]
                work += _shares(tallies[code], part)
            if len(tallies) > SUBSETS:
                raise InputError(f"subset has more than {SUBSETS} labels: is it a prompt's, a group?")
            if len(chunk.r_w) < THREADED:
                for tally, part in work:
                    tally.add(part)
            else:
                for job in [pool.submit(tally.add, part) for tally, part in work]:
                    job.result()
    if not read:
        raise InputError(f"no pairs in {source.name}")
    parts = {code: _merged(lanes, settings, code) for code, lanes in sorted(tallies.items())}
    return _diagnosis(source, settings, parts, timeline, read)


def _by_subset(chunk: Chunk) -> Iterator[tuple[int, Chunk]]:
    codes = chunk.subset
    if codes is None or not len(codes):
        yield 0, chunk
        return
    if np.any(codes[1:] < codes[:-1]):
        short = codes.max() < 2**15 and codes.min() >= 0
        order = np.argsort(codes.astype(np.int16) if short else codes, kind="stable")  # of short integers by radix
        chunk, codes = cut(chunk, order), codes[order]
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        yield int(codes[start]), cut(chunk, slice(start, end))


def _shares(lanes: list[Tally], chunk: Chunk) -> list[tuple[Tally, Chunk]]:
    if len(chunk.r_w) < THREADED:
        return [(lanes[0], chunk)]
    edges = np.linspace(0, len(chunk.r_w), LANES + 1).astype(int)
    return [(lane, cut(chunk, slice(a, b))) for lane, a, b in zip(lanes, edges, edges[1:], strict=False)]


def _merged(tallies: Iterable[Tally], settings: Settings, seed: int) -> Tally:
    total = Tally(settings, (settings.seed, seed, LANES))
    for tally in tallies:
        total.merge(tally)
    return total


def _diagnosis(
    source: PairSource, settings: Settings, parts: dict[int, Tally], timeline: Timeline | None, read: int
) -> Diagnosis:
    names = source.names
    several = len(parts) > 1 and bool(names)
    whole = _merged(parts.values(), settings, SUBSETS) if len(parts) > 1 else next(iter(parts.values()))
    strict = FALSE_ALARMS / (len(RULES) * (1 + len(parts) * several))
    groups = components(whole.groups, settings.seed)
    overall = _case("", whole, settings, strict)
    series, trends, by = {}, {}, effects(whole.groups)
    if timeline is not None:
        series = timeline.series()
        trends = _trends(series, settings.seed, by)
    overall = replace(
        overall,
        groups=groups if isinstance(groups, Groups) else None,
        series=series,
        trends=trends,
    )
    overall = replace(overall, bounds=_bounds(overall, by))
    cases = [overall]
    if several:
        for code, tally in parts.items():
            case = _part(names[code], tally, settings, strict)
            if timeline is not None and timeline.subsets:
                own = timeline.series(code)
                case = replace(case, series=own, trends=_trends(own, settings.seed, effects(tally.groups)))
                trends |= {f"{name}@{names[code]}": one for name, one in case.trends.items()}
            cases.append(case)
    found = [finding for case in cases for rule in (RULES if case.shown.n else RULES[:1]) for finding in rule(case)]
    return Diagnosis(
        kind="pairs",
        name=source.name,
        settings=settings,
        findings=ranked(_gathered(found)),
        figures=overall.shown,
        subsets={case.name: case.shown for case in cases[1:]},
        n_pairs=read,
        window=None if timeline is None else (timeline.start, timeline.end),
        groups=overall.groups,
        series=series,
        trends=trends,
        bounds=overall.bounds,
        subtract=overall.shown.mean_score,
        suggested_coef=overall.suggested_coef,
        exact=("n", "nonfinite", "min_score", "max_score"),
        unknown=_unknown(overall, groups, timeline),
        notes=_notes(overall, several),
        sample=(whole.sample.rows[:, 0], whole.sample.rows[:, 1]),
        problems=source.problems,
    )


def _case(name: str, tally: Tally, settings: Settings, strict: float) -> Case:
    shown = figures(tally, Level())
    return Case(
        name,
        tally,
        shown,
        figures(tally, Level(strict)),
        settings,
        grid(tally.sample.rows) if shown.n else None,
        strict,
    )


def _part(name: str, tally: Tally, settings: Settings, strict: float) -> Case:
    """Return the case of a subset; how its shift differs between prompts only where that is in question."""
    case = _case(name, tally, settings, strict)
    if case.strict.spread is None or case.strict.spread.low <= case.yardstick / 2:
        return case
    groups = components(tally.groups, settings.seed)
    return replace(case, groups=groups if isinstance(groups, Groups) else None)


def _trends(series: dict[str, Array], seed: int, by: Effects) -> dict[str, Trend]:
    """Return the trends of a series; standard errors are from each step's pairs, as dependent as those at the end."""
    n = np.sqrt(series["n"])
    size = np.sqrt(np.maximum(series["mean_square_margin"] - series["mean_size"] ** 2, 0))
    errors = {
        "mean_score": series["spread"] / n,
        "spread": series["spread"] / n / math.sqrt(2),
        "mean_margin": series["std_margin"] / n,
        "mean_size": size / n,
        "accuracy": np.sqrt(series["accuracy"] * (1 - series["accuracy"])) / n,
    }
    effect = (by.shift, by.shift, by.margin, by.margin, by.accuracy)
    errors = {name: error * math.sqrt(one) for (name, error), one in zip(errors.items(), effect, strict=True)}
    found = {name: trend(series["step"], series[name], error, seed) for name, error in errors.items()}
    return {name: one for name, one in found.items() if one is not None}


def _bounds(case: Case, by: Effects) -> tuple[Bound, ...]:
    """Return what T7 and T8 say about mean s^2, given the coefficient; T7 at every step."""
    coef, eps = case.settings.coef, case.settings.label_smoothing
    value, strict = case.shown.mean_square_sum, case.strict.mean_square_sum
    if not coef or value is None or strict is None:
        return ()
    pairs, _, pull, start = case.tally.margins.tolist()
    rest = (pull / pairs if pairs else float(largest_pull(np.zeros(()), eps))) / (2 * coef)
    begin = start / pairs if pairs else math.log(2)
    begin = (begin if case.settings.start is None else case.settings.start) / coef
    # With all pairs of the training at hand there is no sampling error, and 1% allows for an end short of rest.
    low = value.value / 1.01 if case.settings.converged else strict.low
    found = [
        Bound("T8", "mean s^2 at rest", value, rest, low <= rest),
        Bound("T7", "mean s^2 since the start", value, begin, low <= begin),
    ]
    if case.series:
        mean, spread, n, each = (case.series[key] for key in ("mean_score", "spread", "n", "mean_square_sum"))
        # Var s^2 as of a normal distribution: 16 (4 mean^2 var + 2 var^2)
        error = 4 * np.sqrt((4 * mean**2 + 2 * spread**2) * spread**2 * by.shift / n)
        lows = each - Level(case.level / len(n)).t(math.inf) * error
        worst = int(np.argmax(lows))
        top, half = float(each[worst]), float(error[worst]) * Level().t(math.inf)
        what = f"mean s^2 at step {case.series['step'][worst]:g}"
        found.append(Bound("T7", what, Estimate(top, top - half, top + half), begin, float(lows[worst]) <= begin))
    return tuple(found)


def _gathered(found: list[Finding]) -> list[Finding]:
    """Return the findings of all pairs, and of subsets those that are not already there: one for each kind."""
    overall = [finding for finding in found if not finding.subset]
    known = {finding.id for finding in overall if finding.severity == "finding"}
    own: dict[str, list[Finding]] = {}
    for finding in found:
        if finding.subset and finding.severity == "finding" and finding.id not in known:
            own.setdefault(finding.id, []).append(finding)
    for same in own.values():
        labels = [finding.subset for finding in same]
        more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
        overall.append(replace(same[0], subset=", ".join(labels[:3]) + more))
    return overall


def _unknown(case: Case, groups: Groups | str, timeline: Timeline | None) -> dict[str, str]:
    unknown = {}
    if isinstance(groups, str):
        unknown["groups"] = groups
    if timeline is None:
        unknown["trends"] = "the pairs have no steps, or one: a drift cannot be seen"
    if case.shown.lengths is None:
        unknown["lengths"] = "no lengths are given"
    if not case.settings.coef:
        unknown["bounds"] = "T7 and T8 need the coefficient of the training"
    if case.shown.calibration and case.shown.calibration.factor is None:
        unknown["calibration.factor"] = "all margins are on one side, or 0: the likelihood has no maximum"
    if case.shown.n < ENOUGH:
        unknown["clusters, rounding"] = f"{case.shown.n} pairs are too few: what is not found here may still be there"
    if case.shown.n and rules_data.untold(case):
        unknown["duplicates"] = "scores are rounded: repetitions cannot be told from coincidences"
    return unknown


def _notes(case: Case, several: bool) -> tuple[str, ...]:
    notes = [
        "intervals allow for the dependence of pairs of one prompt"
        if case.tally.groups is not None
        else "intervals take pairs as independent: no column names the prompt"
    ]
    rows = len(case.tally.sample.rows)
    if case.tally.sample.rate < 1:
        notes.append(f"the factor, histograms, rounding and clusters are from a random sample of {rows:,} pairs")
    if not case.tally.pairs.full:
        notes.append("repeated pairs are counted among a random sample of all distinct pairs, by hash")
    if case.groups and case.groups.kept < case.groups.n:
        notes.append(f"prompts are a random sample of {case.groups.kept:,}, by hash, with all of their pairs")
    if case.bounds:
        notes.append("T7 and T8 bound the pairs trained on; held-out pairs only as far as the model generalises")
    if several:
        notes.append("a finding of a subset is listed where it is not one of all pairs")
    return tuple(notes)
