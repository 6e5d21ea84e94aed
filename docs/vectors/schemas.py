"""The JSON Schemas of the files of test vectors: one for scores, one for models, one for trainings."""

STRING = {"type": "string", "minLength": 1}
NAME = "^[a-z0-9]+(-[a-z0-9]+)*$"


def _object(properties, optional=()):
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items, least=0):
    return {"type": "array", "items": items, "minItems": least}


HEX = {"type": "string", "pattern": r"^(nan|-?inf|-?0x[01]\.[0-9a-f]+p[+-][0-9]+)$"}
DECIMAL = {"type": "string", "pattern": r"^(nan|-?inf|-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?)$"}
FLOATS = {"hex": _list(HEX, 1), "decimal": _list(DECIMAL, 1)}
TOLERANCE = _object(
    {"kind": {"enum": ["ulp", "absolute"]}, "bound": _list({"type": "number", "minimum": 0}, 1), "reason": STRING}
)


def _array(shaped):
    return _object(
        {"shape": {"type": "array", "items": {"type": "integer", "minimum": 1}}, **FLOATS}, () if shaped else ("shape",)
    )


def _expected(*names, optional=()):
    expected = {
        name: _object({"shape": _list({"type": "integer"}), **FLOATS, "tolerance": TOLERANCE}, ("shape",))
        for name in names
    }
    return _object(expected, optional)


def _file(name, terms, inputs, expected, group):
    vector = _object(
        {
            "id": {"type": "string", "pattern": "^[a-z]+-[0-9]{3}$"},
            "comment": STRING,
            "flags": {"type": "array", "items": {"type": "string", "pattern": NAME}, "uniqueItems": True},
            "inputs": inputs,
            "expected": expected,
        }
    )
    convention = _object(
        {
            "penalty": {"enum": [None, "squared-sum", "sum-of-squares", "sum-to-zero"]},
            "coef": _object(FLOATS),
            "factor": {"enum": ["1", "1/2", "B/4"]},
            "label_smoothing": _object(FLOATS),
            "reduction": {"const": "mean"},
        }
    )
    note = _object({"id": {"type": "string", "pattern": "^[A-Z][0-9]+$"}, "description": STRING, "source": STRING})
    groups = _object(
        {
            "comment": STRING,
            "term": {"enum": terms},
            "convention": convention,
            **group,
            "dtype": {"enum": ["float64", "float32", "bfloat16", "float16"]},
            "theorems": _list({"type": "string", "pattern": "^T[0-9]+$"}),
            "conventions": _list(STRING),
            "requires": _list({"enum": ["subnormals", "infinities", "widened"]}),
            "tests": _list(vector, 1),
        }
    )
    groups["anyOf"] = [{"properties": {key: {"minItems": 1}}} for key in ("theorems", "conventions")]
    whole = _object(
        {
            "schema": {"const": f"{name}.schema.json"},
            "name": STRING,
            "version": {"const": "1"},
            "generator": STRING,
            "notes": {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": note},
            "reasons": {"type": "object", "additionalProperties": STRING},
            "tests": {"type": "integer", "minimum": 1},
            "groups": _list(groups, 1),
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"refrm test vectors v1: {name}",
    } | whole


def schemas():
    """Return {kind: schema}."""
    parts = ("pairwise", "pairwise_grad_w", "pairwise_grad_l", "penalty", "penalty_grad_w", "penalty_grad_l")
    vector, matrix, number = _array(False), _array(True), _object(FLOATS)
    model = _object(
        {
            "kind": {"enum": ["linear", "mlp"]},
            "n_features": {"type": "integer", "minimum": 1},
            "hidden": _list({"type": "integer", "minimum": 1}),
            "activation": {"enum": [None, "relu", "tanh", "gelu", "softplus"]},
            "bias": {"type": "boolean"},
        }
    )
    settings = ("lr", "momentum", "beta1", "beta2", "eps", "weight_decay")
    rule = _object(
        {"name": {"enum": ["sgd", "adam"]}, **dict.fromkeys(settings, number)}, ("momentum", "beta1", "beta2", "eps")
    )
    data = {"theta": vector, "chosen": matrix, "rejected": matrix, "margin": vector, "weight": vector}
    return {
        "scores": _file(
            "scores",
            ["bradley-terry", "squared-sum", "sum-of-squares", "sum-to-zero", "objective"],
            _object(dict.fromkeys(("r_w", "r_l", "margin", "weight"), vector), ("margin", "weight")),
            _expected("loss", *parts, "value", "grad_w", "grad_l", optional=("loss", *parts)),
            {},
        ),
        "models": _file(
            "models",
            ["linear", "mlp"],
            _object(data, ("margin", "weight")),
            _expected("r_w", "r_l", "value", "grad"),
            {"model": model},
        ),
        "training": _file(
            "training",
            ["training"],
            _object(data, ("margin", "weight")),
            _expected("value", "theta"),
            {"model": model, "rule": rule, "steps": {"type": "integer", "minimum": 1}},
        ),
    }
