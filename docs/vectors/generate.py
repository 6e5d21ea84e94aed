"""Write refrm/oracle/data/v1: the test vectors, their schemas and their digests. Needs python-flint.

Run ``python docs/vectors/generate.py`` to write, with ``--check`` to compare only. Every expected value is the float64
that all numbers of a proven enclosure round to. Within v1 nothing that is written may change; what is new is appended
under new names.
"""

import hashlib
import json
import math
import re
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cases
import formulas
from balls import prove, spacing, to_dtype, tolerance
from flint import arb
from mistakes import NOTES, REASONS
from schemas import schemas

VERSION = "1"
DATA = Path(__file__).parents[2] / "refrm" / "oracle" / "data" / f"v{VERSION}"


def number(x):
    """Return a float as its decimal, the shortest that reads back as it."""
    return repr(float(x))


def array(values, shape=None):
    """Return floats as they stand in a file: hex, and decimal beside it; with a shape where they are no vector."""
    found = {"shape": shape} if shape else {}
    hexes = [float(x).hex() if math.isfinite(x) else number(x) for x in values]
    return found | {"hex": hexes, "decimal": [number(x) for x in values]}


def _upwards(x, digits):
    """Return the fraction x >= 0 rounded up to so many decimal digits, as a float no smaller."""
    if x == 0:
        return 0.0
    exponent = math.floor(math.log10(x)) if x > Fraction(1, 10**300) else -310
    step = Fraction(10) ** (exponent - digits + 1)
    found = float(math.ceil(x / step) * step)
    return found if Fraction(found) >= x else math.nextafter(found, math.inf)


def bounds(expected, errors, dtype, reason):
    """Return the tolerance of one quantity: in ulp of the dtype, or absolute where an ulp says nothing."""
    ulps = [
        Fraction(0) if e is None else e / spacing(Fraction(x), dtype) for x, e in zip(expected, errors, strict=True)
    ]
    absolute = any(u > 2**20 for u in ulps)
    values = [e or Fraction(0) for e in errors] if absolute else ulps
    kind = "absolute" if absolute else "ulp"
    return {"kind": kind, "bound": [_upwards(x, 3) for x in values], "reason": reason}


def balls(values):
    """Return floats as balls without radius."""
    return [arb.nan() if math.isnan(x) else arb(x) for x in values]


def problem(group, inputs):
    """Return what `formulas` needs: the case's numbers as balls."""
    c = SimpleNamespace(eps=arb(group.smoothing), coef=arb(group.coef), penalty=group.penalty, factor=group.factor)
    c.pairwise = group.term not in formulas.PENALTIES
    for name in ("margin", "weight"):
        setattr(c, name, balls(inputs[name]) if name in inputs else None)
    if group.model:
        c.model = formulas.Model(**{key: value for key, value in group.model.items() if key != "kind"})
        n = group.model["n_features"]
        for name in ("chosen", "rejected"):
            x = balls(inputs[name])
            setattr(c, name, [x[i : i + n] for i in range(0, len(x), n)])
    if group.rule:
        c.rule = {key: value if key == "name" else arb(value) for key, value in group.rule.items()}
        c.theta, c.steps = balls(inputs["theta"]), group.steps
    return c


def formula(group, inputs):
    """Return the function of an arithmetic that computes the case."""
    c = problem(group, inputs)
    if group.rule:
        return lambda a: formulas.training(a, c)
    if group.model:
        theta = balls(inputs["theta"])
        return lambda a: formulas.model(a, c, theta)
    r_w, r_l = balls(inputs["r_w"]), balls(inputs["r_l"])
    return lambda a: formulas.scores(a, c, r_w, r_l)


def _shape(group, name, size):
    """Return the shape of a matrix, None for a vector."""
    if name in ("chosen", "rejected"):
        return [size // group.model["n_features"], group.model["n_features"]]
    return [group.steps, size // group.steps] if group.rule and name == "theta" else None


def test(group, case, name):
    """Return one test of a file."""
    comment, flags, given = case
    inputs = {key: [to_dtype(float(x), group.dtype) for x in values] for key, values in given.items()}
    f = formula(group, inputs)
    expected = prove(f)
    finite = all(math.isfinite(x) for values in inputs.values() for x in values)
    assert not finite or not any(math.isnan(x) for values in expected.values() for x in values), name
    errors = tolerance(f, expected, group.dtype, "widened" in group.requires)
    return {
        "id": name,
        "comment": comment,
        "flags": sorted({*group.flags.split(), *flags.split()}),
        "inputs": {key: array(x, _shape(group, key, len(x)) if key != "theta" else None) for key, x in inputs.items()},
        "expected": {
            key: array(x, _shape(group, key, len(x))) | {"tolerance": bounds(x, errors[key], group.dtype, group.reason)}
            for key, x in expected.items()
        },
    }


def document(name, prefix, schema, groups):
    """Return one file of vectors."""
    count, out = 0, []
    for group in groups:
        tests = []
        for case in group.cases:
            count += 1
            tests.append(test(group, case, f"{prefix}-{count:03d}"))
        convention = {
            "penalty": group.penalty,
            "coef": array([group.coef]),
            "factor": group.factor,
            "label_smoothing": array([group.smoothing]),
            "reduction": "mean",
        }
        of_model = {"model": group.model} if group.model else {}
        if group.rule:
            rule = {key: value if key == "name" else array([value]) for key, value in group.rule.items()}
            of_model |= {"rule": rule, "steps": group.steps}
        out.append(
            {
                "comment": group.comment,
                "term": group.term,
                "convention": convention,
                **of_model,
                "dtype": group.dtype,
                "theorems": list(group.theorems),
                "conventions": list(group.conventions),
                "requires": list(group.requires),
                "tests": tests,
            }
        )
    used = {flag for group in out for case in group["tests"] for flag in case["flags"]}
    reasons = {case.reason for case in groups}
    return {
        "schema": schema,
        "name": name,
        "version": VERSION,
        "generator": f"docs/vectors/generate.py {VERSION}",
        "notes": {
            flag: dict(zip(("id", "description", "source"), note, strict=True))
            for flag, note in NOTES.items()
            if flag in used
        },
        "reasons": {key: reason for key, reason in REASONS.items() if key in reasons},
        "tests": count,
        "groups": out,
    }


def text(document):
    """Return JSON, indented, each list of scalars on one line."""
    found = json.dumps(document, indent=1)
    flat = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", found)
    return flat + "\n"


def build():
    """Return {file name: text} of all that is published."""
    files = {f"{name}.schema.json": text(schema) for name, schema in schemas().items()}
    for name, prefix, schema, groups in cases.FILES:
        files[f"{name}.json"] = text(document(name, prefix, f"{schema}.schema.json", groups()))
    digests = [f"{hashlib.sha256(files[name].encode()).hexdigest()}  {name}\n" for name in sorted(files)]
    return files | {"SHA256SUMS": "".join(digests)}


def main():
    """Write or check; return the exit code."""
    files = build()
    if "--check" not in sys.argv[1:]:
        DATA.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (DATA / name).write_bytes(content.encode())
        return 0
    there = {path.name: path.read_bytes() for path in DATA.iterdir()}
    differ = [name for name in sorted({*files, *there}) if files.get(name, "").encode() != there.get(name)]
    for name in differ:
        print(f"{name} differs from what the generator writes")
    print(f"{len(files) - len(set(differ) & set(files))} of {len(files)} files reproduced byte for byte")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
