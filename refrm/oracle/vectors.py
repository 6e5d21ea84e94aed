"""The published test vectors: read, converted to arrays, and able to judge a result.

The files are JSON inside the package; docs/reference/vectors.md describes them. Nothing here computes a loss: the
expected values come from arbitrary precision, and this module only compares with them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from refrm.errors import InputError
from refrm.spec import Array

NAMES = ("bradley_terry", "penalties", "objective", "models", "training")
"""The files of version 1, in their order."""

FORMATS = {
    "float64": (53, -1022, 1024),
    "float32": (24, -126, 128),
    "bfloat16": (8, -126, 128),
    "float16": (11, -14, 16),
}
"""Of each dtype the bits of the significand, the exponent of the smallest normal number, that past the largest."""


def spacing(x: ArrayLike, dtype: str) -> Array:
    """Return one ulp of ``dtype`` at ``x``: the distance of the floats there, at and near zero the smallest."""
    bits, low, _ = FORMATS[dtype]
    size = np.abs(np.asarray(x, np.float64))
    exponent = np.frexp(np.where(np.isfinite(size), size, 0))[1] - 1
    return np.asarray(np.ldexp(1.0, np.where(size > 0, np.maximum(exponent, low), low) - bits + 1))


@dataclass(frozen=True, eq=False)
class Expected:
    """One expected quantity: the correctly rounded float64 ``value``, and how far from it a right result may be.

    ``bound`` has the shape of ``value`` and is in ulp of ``dtype`` at the value (``kind`` "ulp") or absolute (``kind``
    "absolute"); ``reason`` says where it comes from. NaN and infinities must be met. Where value and tolerance
    together pass the largest number of the dtype, the infinity of the value's sign is right as well.
    """

    value: Array
    kind: str
    bound: Array
    reason: str
    dtype: str

    def errors(self, found: ArrayLike) -> Array:
        """Return |found - value| in ulp of the dtype, shape of ``value``; infinity where only one is finite, or NaN.

        For a single value ``found`` may have shape () as well.

        Raises
        ------
        InputError
            For another shape.
        """
        return self._distance(found, spacing(self.value, self.dtype))

    def accepts(self, found: ArrayLike) -> bool:
        """Return whether every element of ``found`` is within its tolerance."""
        unit = spacing(self.value, self.dtype) if self.kind == "ulp" else np.ones_like(self.value)
        return bool((self._distance(found, unit) <= self.bound).all())

    def _distance(self, found: ArrayLike, unit: Array) -> Array:
        x = np.asarray(found, np.float64)
        if x.ndim == 0 and self.value.size == 1:
            x = x.reshape(self.value.shape)
        if x.shape != self.value.shape:
            raise InputError(f"found must have shape {self.value.shape}, got {x.shape}")
        with np.errstate(all="ignore"):
            allowed = self.bound * spacing(self.value, self.dtype) if self.kind == "ulp" else self.bound
            past = np.abs(self.value) / 2 + allowed / 2 >= 2.0 ** (FORMATS[self.dtype][2] - 1)
            overflow = np.isinf(x) & (np.sign(x) == np.sign(self.value)) & past
            met = overflow | (x == self.value) | (np.isnan(x) & np.isnan(self.value))
            distance = np.abs(x - self.value) / unit
        return np.where(met, 0.0, np.where(np.isnan(distance), np.inf, distance))


@dataclass(frozen=True, eq=False)
class Vector:
    """One test: inputs in the group's dtype (bfloat16 as float32, exactly), and what is expected of each quantity.

    ``flags`` name the mistakes that this vector is known to catch; `VectorFile.notes` describes them.
    """

    id: str
    comment: str
    flags: tuple[str, ...]
    inputs: Mapping[str, Array]
    expected: Mapping[str, Expected]


@dataclass(frozen=True)
class Convention:
    """What is computed: pairwise loss + coef*factor*penalty, or the penalty alone where the term is one.

    ``penalty`` is "squared-sum", "sum-of-squares", "sum-to-zero" or None; ``factor`` is "1", "1/2" or "B/4", B the
    number of pairs; ``reduction`` is "mean", over pairs.
    """

    penalty: str | None
    coef: float
    factor: str
    label_smoothing: float
    reduction: str

    def multiplier(self, n: int) -> float:
        """Return coef*factor for a batch of ``n`` pairs."""
        return self.coef * {"1": 1.0, "1/2": 0.5, "B/4": n / 4}[self.factor]


@dataclass(frozen=True, eq=False)
class Group:
    """Tests of one term, convention and dtype.

    ``requires`` holds what a right implementation may lack: "subnormals" (results below the smallest normal number are
    kept), "infinities" (infinite and NaN scores have the documented meaning), "widened" (half-precision scores are
    widened to float32 before they are subtracted). ``model``, ``rule``, ``steps``: as in the file, None where there is
    none.
    """

    comment: str
    term: str
    dtype: str
    convention: Convention
    theorems: tuple[str, ...]
    conventions: tuple[str, ...]
    requires: tuple[str, ...]
    model: Mapping[str, Any] | None
    rule: Mapping[str, Any] | None
    steps: int | None
    tests: tuple[Vector, ...]


@dataclass(frozen=True)
class Note:
    """What a flag means: an id, a description of the mistake, and its public source."""

    id: str
    description: str
    source: str


@dataclass(frozen=True, eq=False)
class VectorFile:
    """One file of vectors."""

    name: str
    version: str
    generator: str
    notes: Mapping[str, Note]
    groups: tuple[Group, ...]

    def __iter__(self) -> Iterator[tuple[Group, Vector]]:
        """Iterate over all tests, each with its group."""
        return ((group, test) for group in self.groups for test in group.tests)


def _array(node: Mapping[str, Any], dtype: str = "float64") -> Array:
    values = np.array([float.fromhex(text) for text in node["hex"]]).reshape(node.get("shape", -1))
    array = values.astype({"bfloat16": "float32"}.get(dtype, dtype))
    array.flags.writeable = False
    return array


def _number(node: Mapping[str, Any]) -> float:
    return float.fromhex(node["hex"][0])


def _expected(node: Mapping[str, Any], dtype: str, reasons: Mapping[str, str]) -> Expected:
    value, tolerance = _array(node), node["tolerance"]
    bound = np.array(tolerance["bound"], np.float64).reshape(value.shape)
    return Expected(value, tolerance["kind"], bound, reasons[tolerance["reason"]], dtype)


def _group(node: Mapping[str, Any], reasons: Mapping[str, str]) -> Group:
    dtype, convention, rule = node["dtype"], node["convention"], node.get("rule")
    tests = (
        Vector(
            test["id"],
            test["comment"],
            tuple(test["flags"]),
            {name: _array(x, dtype) for name, x in test["inputs"].items()},
            {name: _expected(x, dtype, reasons) for name, x in test["expected"].items()},
        )
        for test in node["tests"]
    )
    return Group(
        node["comment"],
        node["term"],
        dtype,
        Convention(
            convention["penalty"],
            _number(convention["coef"]),
            convention["factor"],
            _number(convention["label_smoothing"]),
            convention["reduction"],
        ),
        tuple(node["theorems"]),
        tuple(node["conventions"]),
        tuple(node["requires"]),
        node.get("model"),
        rule and {key: x if key == "name" else _number(x) for key, x in rule.items()},
        node.get("steps"),
        tuple(tests),
    )


@cache
def load_vectors() -> tuple[VectorFile, ...]:
    """Return the test vectors of version 1, one `VectorFile` for each of `NAMES`; their arrays are read-only.

    Examples
    --------
    >>> file = load_vectors()[0]
    >>> group, test = next(iter(file))
    >>> group.term, group.dtype, test.inputs["r_w"].tolist(), test.inputs["r_l"].tolist()
    ('bradley-terry', 'float64', [1.0], [-1.0])
    >>> test.expected["value"].accepts([0.1269280110429725]), test.expected["value"].accepts([0.12692801])
    (True, False)
    """
    loaded = []
    for name in NAMES:
        node = json.loads((files("refrm.oracle") / "data" / "v1" / f"{name}.json").read_text(encoding="utf-8"))
        notes = {flag: Note(**note) for flag, note in node["notes"].items()}
        groups = tuple(_group(group, node["reasons"]) for group in node["groups"])
        loaded.append(VectorFile(node["name"], node["version"], node["generator"], notes, groups))
    return tuple(loaded)
