"""Which parameter of an implementation is the margin."""

import inspect
from collections.abc import Callable
from typing import Any


def takes_margin(f: Callable[..., Any]) -> bool:
    """Return whether f has a margin: by a parameter's name, or because its third has no default."""
    third = _positional(f)[2:3]
    return (bool(third) and (_is_margin(third[0]) or third[0].default is inspect._empty)) or bool(margin_keyword(f))


def callable_with(f: Callable[..., Any], margin: bool) -> bool:
    """Return whether f's signature allows a call with two scores, and a margin; whether it may, where there is none."""
    try:
        signature = inspect.signature(getattr(f, "forward", f))
    except (TypeError, ValueError):
        return True
    keyword = margin_keyword(f) if margin else ""
    try:
        signature.bind(*range(2 + (margin and not keyword)), **({keyword: 2} if keyword else {}))
    except TypeError:
        return False
    return True


def _parameters(f: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(getattr(f, "forward", f)).parameters.values())
    except (TypeError, ValueError):
        return []


def _positional(f: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in _parameters(f) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _is_margin(p: inspect.Parameter) -> bool:
    return p.name in ("margin", "margins", "m")


def margin_keyword(f: Callable[..., Any]) -> str:
    """Return the name by which a margin is passed that is not the third positional parameter; "" if there is none."""
    first = {p.name for p in _positional(f)[:3]}
    named = [p for p in _parameters(f) if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return next((p.name for p in named if p.name in ("margin", "margins") and p.name not in first), "")
