"""What an adapter says of a peer, and what the run finds out about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something wrong in a peer, told so that its maintainers could act on it, and shown again at every run.

    ``shown`` calls the peer and returns what came out as a list of numbers; the run fails unless it is ``found`` to
    within ``rtol``, so that no sentence outlives the mistake that it describes.
    """

    id: str  # of the catalogue of known mistakes, where it is one of them
    kind: str  # "wrong result", "unchecked input", "reporting" or "limitation"
    where: str  # file: function, in the installed package
    text: str
    input: str
    output: str  # what the numbers are
    found: list[float]
    right: list[float]  # empty where no number is
    reason: str
    shown: Callable[[], list[float]]
    rtol: float = 1e-6


@dataclass(frozen=True)
class Case:
    """One loss of a peer under one setting: ``loss(r_w, r_l)`` or ``loss(r_w, r_l, margin)``, and what is stated."""

    name: str
    loss: Callable[..., Any]
    stated: dict[str, Any] = field(default_factory=dict)  # keyword arguments of refrm.oracle.check


@dataclass(frozen=True)
class Peer:
    """A package: where its loss is, how it was called, its cases and findings."""

    package: str
    entry: str
    called: str
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...] = ()
