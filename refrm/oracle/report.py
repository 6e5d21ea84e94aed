"""What a check found: as an object, as text, as JSON and as JUnit XML."""

import math
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.etree import ElementTree

from refrm.oracle.catalogue import Mistake
from refrm.oracle.laws import LAWS
from refrm.oracle.trial import Failure


@dataclass(frozen=True)
class Accuracy:
    """The largest error of one quantity, in ulp of the dtype, and the pair at which it is."""

    dtype: str
    quantity: str
    ulp: float
    r_w: float
    r_l: float
    margin: float


@dataclass(frozen=True)
class Report:
    """What `refrm.oracle.check` found.

    Attributes
    ----------
    name : str
        Of the implementation.
    conforms : bool
        True if nothing failed.
    framework, gradients : str
        The arrays it takes; "returned", "autograd" or "none".
    dtypes : tuple of str
        Those that were judged.
    convention : dict
        ``loss`` in one line, and ``coef``, ``factor``, ``penalty``, ``reduction``, ``margin``, ``label_smoothing``;
        ``found`` names those that were found out, the others were stated.
    mistakes : tuple of Mistake
        The known mistakes that reproduce every output; empty if there is none, or none is known.
    where : str
        "value and gradient", or what alone is wrong.
    failures : tuple of Failure
        Everything that is wrong, the smallest case first.
    accuracy : tuple of Accuracy
        The worst of each quantity and dtype.
    checks : dict
        The number of checks of each law.
    notes : tuple of str
        What was seen and does not count: printing, optional vectors, hazards.
    """

    name: str
    conforms: bool
    framework: str = ""
    gradients: str = "none"
    dtypes: tuple[str, ...] = ()
    convention: dict[str, Any] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    where: str = ""
    failures: tuple[Failure, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    checks: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the laws that do not hold."""
        names = {failure.law for failure in self.failures}
        return tuple(law for law in LAWS if law in names)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.conforms:
            return f"{self.name} conforms"
        if self.mistakes:
            return f"{self.name} does not conform: {', '.join(m.name for m in self.mistakes)}"
        if not self.failures:
            return f"{self.name} does not conform"
        return f"{self.name} does not conform: {self.failures[0].law}: {self.failures[0].message}"

    def as_dict(self) -> dict[str, Any]:
        """Return what `refrm check --json` prints: plain dicts, lists, strings and numbers."""
        mistakes = [
            {"id": m.id, "name": m.name, "description": m.description, "source": m.source} for m in self.mistakes
        ]
        return {
            "name": self.name,
            "conforms": self.conforms,
            "verdict": self.verdict,
            "framework": self.framework,
            "gradients": self.gradients,
            "dtypes": list(self.dtypes),
            "convention": self.convention,
            "mistakes": mistakes,
            "where": self.where,
            "laws_broken": {law: LAWS[law] for law in self.broken},
            "failures": [asdict(failure) for failure in self.failures],
            "accuracy": [asdict(x) for x in self.accuracy],
            "checks": self.checks,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Return the report as text, at most 110 columns wide."""
        lines = [self.verdict.split(": ")[0] if self.mistakes or self.failures else self.verdict, ""]
        if self.convention:
            found = self.convention["found"]
            how = ", ".join(f"{part} found" for part in found) or "as stated"
            lines += [f"judged as  {self.convention['loss']}", f"           ({how})"]
        if self.framework:
            lines.append(
                f"called     with {self.framework} arrays, {', '.join(self.dtypes)}; gradients: {self.gradients}"
            )
        if self.checks:
            lines.append(f"checked    {sum(self.checks.values())} calls, {len(self.checks)} laws")
        if self.conforms:
            lines += [
                f"accuracy   {x.dtype} {x.quantity}: at worst {x.ulp:.3g} ulp, at r_w = {x.r_w:.6g}, r_l = {x.r_l:.6g}"
                + (f", margin = {x.margin:.6g}" if x.margin else "")
                for x in self.accuracy
            ]
        for mistake in self.mistakes:
            at = "" if self.where == "value and gradient" else f" [in the {self.where}]"
            lines.append(f"mistake    {mistake.id} {mistake.name}{at}: {mistake.description}; seen in {mistake.source}")
            if mistake.convention:
                lines.append(f"           if you mean it, state {mistake.convention}")
        if self.failures and not self.mistakes:
            lines.append("mistake    none that is known reproduces these outputs")
        if self.failures:
            lines += self._failures()
        lines += [f"note       {note}" for note in self.notes]
        wrap = textwrap.TextWrapper(110, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False)
        return "\n".join(part for line in lines for part in (wrap.wrap(line) or [""]))

    def _failures(self) -> list[str]:
        one = self.failures[0]
        pairs = {"r_w": one.r_w, "r_l": one.r_l} | ({"margin": one.margin} if one.margin else {})
        given = ", ".join(f"{name} = {_numbers(x)}" for name, x in pairs.items())
        lines = [f"smallest   {given} ({one.dtype})" if one.r_w else "smallest", f"           {one.message}"]
        return [*lines, *(f"broken     {law}: {LAWS[law]}" for law in self.broken)]

    def junit(self) -> str:
        """Return a JUnit XML document: one test case for each law."""
        broken = self.broken
        names = [law for law in LAWS if law in self.checks or law in broken]
        counts = {"tests": str(len(names)), "failures": str(len(broken)), "errors": "0"}
        suites = ElementTree.Element("testsuites", counts)
        suite = ElementTree.SubElement(suites, "testsuite", {"name": f"refrm check {self.name}", **counts})
        for law in names:
            case = ElementTree.SubElement(suite, "testcase", {"classname": self.name, "name": law})
            mine = [failure for failure in self.failures if failure.law == law]
            if mine:
                shown = ElementTree.SubElement(case, "failure", {"message": _printable(mine[0].message)})
                shown.text = _printable(f"{LAWS[law]}\n{self}")
        return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _numbers(x: tuple[float, ...]) -> str:
    shown = ", ".join(f"{y:.17g}" for y in x[:4])
    return f"[{shown}{', ...' if len(x) > 4 else ''}]"


def _printable(text: str) -> str:
    return "".join(x if x.isprintable() or x == "\n" else "?" for x in text)


def formula(convention: Any) -> str:
    """Return a convention's loss in one line."""
    form, c = convention.form, convention.coef * convention.form.factor
    argument = "d - margin" if convention.margin else "d"
    eps = convention.label_smoothing
    pair = f"-log sigma({argument})"
    pair = f"{1 - eps:g}*softplus(-({argument})) + {eps:g}*softplus({argument})" if eps else pair
    inner = {"squared-sum": "(r_w + r_l)^2", "sum-of-squares": "(r_w^2 + r_l^2)", "squared-difference": "(r_w - r_l)^2"}
    reduce = {"mean": "mean", "sum": "sum", "none": ""}[form.reduction]
    text = f"{reduce}({pair})" if reduce else pair
    if c and math.isfinite(c) and form.penalty != "none":
        whole = {"sum-to-zero": "(mean(r_w + r_l))^2", "batch-sum": "N*(mean of the 2N scores)^2"}.get(form.penalty)
        term = whole or f"{reduce}{inner[form.penalty]}"
        text += f" {'+' if c > 0 else '-'} {abs(c):g}*{term}"
    return text if reduce else f"{text}, for each pair"
