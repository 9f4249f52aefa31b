"""Annotations of kernels, checked in each call: every one of them once, by what it needs.

jaxtyping binds arguments to names and keeps their axes for each call, whether an annotation names
axes or not, and checks what is given a second time with what comes back: a fifth of all that the
tests take. Where no axis is named, the type checker is asked alone.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping

Check = Callable[[Any], Any]
ORIGINAL = jaxtyping.jaxtyped


def named(annotation: object) -> bool:
    """Say whether an annotation names axes, or may: what is text is not read."""
    if isinstance(annotation, str):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    parts = annotation if isinstance(annotation, list) else get_args(annotation)
    return any(map(named, parts))


def once(check: Check) -> Check:
    """Check what comes back alone: what was given was checked before, with the same axes."""

    def applied(one: Any) -> Any:  # noqa: ANN401 - a function of any kind
        back = one.__annotations__.get("return", Any)
        if back is not Any:
            one.__annotations__ = {"return": back}
        return check(one)

    return applied


def jaxtyped(one: Any = None, *, typechecker: Check) -> Any:  # noqa: ANN401 - what it decorates
    """Decorate as jaxtyping does."""
    if one is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isfunction(one) and not any(map(named, one.__annotations__.values())):
        return typechecker(one)
    return ORIGINAL(one, typechecker=once(typechecker))
