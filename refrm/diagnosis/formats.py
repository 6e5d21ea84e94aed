"""Which columns of a file hold what: known formats by their keys, others by the names that the caller gives."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refrm.diagnosis.data import LARGEST
from refrm.errors import FileError

SCORES = {
    "RewardBench": ("scores_chosen", "scores_rejected"),
    "OpenRLHF": ("chosen_reward", "rejected_reward"),
    "summarize_from_feedback": ("chosen_rewards", "rejected_rewards"),
    "chosen_score": ("chosen_score", "rejected_score"),
    "score_chosen": ("score_chosen", "score_rejected"),
    "reward_chosen": ("reward_chosen", "reward_rejected"),
    "chosen_scores": ("chosen_scores", "rejected_scores"),
    "r_w": ("r_w", "r_l"),
    "accept": ("accept", "reject"),
    "chosen": ("chosen", "rejected"),
}
"""Columns of scores by format, in the order in which they are tried: "chosen" may hold texts beside scores."""

MANY = ("scores", "num_correct")
"""RewardBench-2: the scores of a prompt's responses, of which the first so many are correct."""

LENGTHS = (("length_chosen", "length_rejected"), ("chosen_length", "rejected_length"), ("length_w", "length_l"))
TEXTS = (("text_chosen", "text_rejected"), ("chosen", "rejected"), ("response_chosen", "response_rejected"))
ALONE = {
    "margin": ("margin",),
    "step": ("step", "global_step"),
    "group": ("group", "prompt_id", "prompt", "query"),
    "subset": ("subset",),
}
NUMBERS = ("r_w", "r_l", "margin", "step", "length_w", "length_l")
"""Roles whose columns hold numbers; "group" and "subset" hold anything, "text_w" and "text_l" texts or messages."""

OPTIONS = {
    "r_w": "--chosen",
    "r_l": "--rejected",
    "margin": "--margin",
    "step": "--step",
    "group": "--group",
    "length_w": "--length-chosen",
    "length_l": "--length-rejected",
    "subset": "--subset",
}
MISSING = ("", "null", "none", "na", "n/a")
"""Words in a text file for a score that is not there, whatever their case."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE)


class Unreadable(Exception):
    """A row that is no pair; the message says what was expected. ``missing``: it only lacks a score."""

    def __init__(self, expected: str, missing: bool = False) -> None:
        super().__init__(expected)
        self.missing = missing


@dataclass(frozen=True)
class Layout:
    """Where the roles of a pair are.

    Attributes
    ----------
    format : str
        Whose format it is.
    columns : mapping of str to str
        Column by role: "r_w", "r_l" or "scores", "num_correct"; and those of the others that there are.
    kinds : mapping of str to str
        What a role's column holds, by the first rows (`kind`).
    notes : tuple of str
        What was assumed.
    """

    format: str
    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())

    @property
    def roles(self) -> tuple[str, ...]:
        """What is known of a pair."""
        found = {f"length_{role[-1]}" if role.startswith("text") else role for role in self.columns}
        if self.many:
            found |= {"r_w", "r_l", "group"}
        return tuple(role for role in (*NUMBERS, "group", "subset") if role in found)

    @property
    def many(self) -> bool:
        """Whether a row holds several pairs."""
        return "scores" in self.columns


def number(value: Any, column: str) -> float | None:
    """Return a number, also from a list around it or from text, or None for one that is missing; or raise."""
    inner = value
    while isinstance(inner, list | tuple) and len(inner) <= 1:
        inner = inner[0] if inner else None
    if isinstance(inner, str):
        word = inner.strip()
        if word.lower() in MISSING:
            return None
        inner = float(word) if _NUMBER.fullmatch(word) else inner
    if inner is None:
        return None
    if isinstance(inner, bool) or not isinstance(inner, int | float):
        raise Unreadable(f"a number in {column!r}, got {short(value)}")
    try:
        return float(inner)
    except OverflowError:
        raise Unreadable(f"a number within the range of float64 in {column!r}, got {short(value)}") from None


def short(value: Any) -> str:
    """Return a value as one short line, with nothing that would move a terminal's cursor."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


def length(value: Any) -> float | None:
    """Return the characters of a text, or of the contents of a list of messages; None for anything else."""
    if isinstance(value, str):
        return float(len(value))
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        contents = [part.get("content") for part in value]
        return float(sum(len(text) for text in contents if isinstance(text, str)))
    return None


def kind(values: Iterable[Any]) -> str:
    """Return what values are: "null", "number", "list" (of one number), "mixed" (both, deeper lists, numbers in
    text), "text", "messages", or "other".
    """
    found = {_kind(value) for value in values} - {"null"}
    if not found:
        return "null"
    if len(found) == 1:
        return found.pop()
    return "mixed" if found & {"number", "list", "mixed"} else "other"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    if isinstance(value, str):
        word = value.strip()
        return "null" if word.lower() in MISSING else "mixed" if _NUMBER.fullmatch(word) else "text"
    if isinstance(value, list) and length(value) is not None:
        return "messages"
    try:
        number(value, "")
    except Unreadable:
        return "other"
    return "list" if isinstance(value[0] if value else 0.0, int | float) else "mixed"


def recognise(rows: Sequence[Mapping[str, Any]], named: Mapping[str, str], file: str) -> Layout | None:
    """Return the layout of a file by its first rows, or None if there is no known one.

    Parameters
    ----------
    rows : sequence of mappings
        Some rows; not all need to have all keys.
    named : mapping of str to str
        Columns that the caller names, by role.
    file : str
        Its name, for messages.

    Raises
    ------
    FileError
        If a named column is not there, or does not hold what it must.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    kinds = {key: kind(row.get(key) for row in rows) for key in keys}
    for role, column in named.items():
        if column not in kinds:
            raise FileError(f"{OPTIONS[role]}: {file} has no column {column!r}; it has {listed(keys)}")
        if role in NUMBERS and not _numeric(kinds[column]):
            example = next(row[column] for row in rows if row.get(column) is not None)
            raise FileError(f"{OPTIONS[role]}: column {column!r} of {file} must hold numbers, got {short(example)}")
    columns = {role: named[role] for role in ("r_w", "r_l") if role in named}
    form = "named by options"
    if not columns:
        for form, (w, v) in SCORES.items():
            if w in kinds and v in kinds and _numeric(kinds[w]) and _numeric(kinds[v]):
                form, columns = (w if form in SCORES["chosen"] else form), {"r_w": w, "r_l": v}
                break
        else:
            if not set(MANY) <= set(kinds):
                return None
            form, columns = "RewardBench-2", dict(zip(MANY, MANY, strict=True))
    columns |= {role: column for role, column in named.items() if role not in columns}
    taken = set(columns.values())
    for role, candidates in ALONE.items():
        free = [c for c in candidates if c in kinds and c not in taken and _fits(role, kinds[c])]
        if role not in columns and free:
            columns[role] = free[0]
    if "scores" in columns:
        if "group" not in columns and "id" in kinds:
            columns["group"] = "id"
    elif not {"length_w", "length_l"} & set(columns):
        columns |= _lengths(kinds, taken)
    notes: tuple[str, ...] = ()
    if "margin" in columns and "margin" not in named and _is_difference(rows, columns):
        notes = (f"column {columns.pop('margin')!r} of {file} is r_w - r_l, no margin of the loss: left aside",)
    return Layout(form, columns, {role: kinds[column] for role, column in columns.items()}, notes)


def _numeric(kind: str) -> bool:
    return kind in ("number", "list", "mixed", "null")


def _fits(role: str, kind: str) -> bool:
    return kind != "null" and (_numeric(kind) or role not in NUMBERS)


def _lengths(kinds: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """Return the columns of lengths; or else of texts, whose characters count."""
    for w, v in LENGTHS:
        if w in kinds and v in kinds and _fits("length_w", kinds[w]) and _fits("length_l", kinds[v]):
            return {"length_w": w, "length_l": v}
    for w, v in TEXTS:
        both = {kinds.get(w), kinds.get(v)}
        if not {w, v} & taken and {"null"} < both | {"null"} <= {"text", "messages", "null"}:
            return {"text_w": w, "text_l": v}
    return {}


def _is_difference(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> bool:
    """Return whether "margin" is r_w - r_l, up to two decimals of each: many logs use the word like that."""
    largest = 0.0
    for row in rows:
        try:
            m, w, v = (number(row.get(columns.get(role, ""), None), "") for role in ("margin", "r_w", "r_l"))
        except Unreadable:
            continue
        if m is None or w is None or v is None or not math.isfinite(m + w + v):
            continue
        if abs(m - (w - v)) > 0.015 + 1e-3 * abs(m):  # three roundings of at most 0.005 each, or of 16 bits
            return False
        largest = max(largest, abs(m))
    return largest > 0.1


def listed(names: Iterable[str]) -> str:
    """Return names in one line, the first twenty of them."""
    some = [name if name.isprintable() else repr(name) for name in map(str, names)]
    return ", ".join(some[:20]) + (f" and {len(some) - 20} more" if len(some) > 20 else "") or "none"


def pairs_of(layout: Layout, row: Mapping[str, Any], position: int) -> list[dict[str, Any]]:
    """Return the pairs of a row, each a value by role; or raise `Unreadable`."""
    if not isinstance(row, Mapping):
        raise Unreadable(f"an object with {layout.columns[next(iter(layout.columns))]!r}, got {short(row)}")
    found: dict[str, Any] = {}
    for role, column in layout.columns.items():
        if column not in row and role in ("r_w", "r_l", "margin", "step", *MANY):
            raise Unreadable(f"{column!r}, which is not there; there are {listed(row)}")
        value = row.get(column)
        if role in NUMBERS:
            found[role] = number(value, column)
            if found[role] is None and not role.startswith("length"):
                raise Unreadable(f"a number in {column!r}, which is empty", missing=role in ("r_w", "r_l"))
            if role in ("margin", "step") and not abs(found[role]) <= LARGEST:
                raise Unreadable(f"a finite number, within {LARGEST:g}, in {column!r}, got {found[role]}")
        elif role in ("text_w", "text_l"):
            found[f"length_{role[-1]}"] = length(value)
        elif role in ("group", "subset"):
            found[role] = as_text(value)
        else:
            found[role] = value
    return _many(layout, found, position) if layout.many else [found]


def as_text(value: Any) -> str | None:
    """Return an id as text: equal for equal ids, whatever the format wrote them as."""
    import json

    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _many(layout: Layout, found: dict[str, Any], position: int) -> list[dict[str, Any]]:
    """Return each correct response against each other one."""
    scores, correct = found.pop("scores"), found.pop("num_correct")
    column, count = (layout.columns[role] for role in MANY)
    if not isinstance(scores, list):
        raise Unreadable(f"a list of scores in {column!r}, got {short(scores)}")
    if isinstance(correct, bool) or correct not in range(1, len(scores)):
        raise Unreadable(f"an integer between 1 and {len(scores) - 1} in {count!r}, got {short(correct)}")
    values = [number(score, column) for score in scores]
    if None in values:
        raise Unreadable(f"a number for each response in {column!r}, one is empty", missing=True)
    found["group"] = found.get("group") or f"\0{position}"
    return [{**found, "r_w": w, "r_l": v} for w in values[: int(correct)] for v in values[int(correct) :]]
