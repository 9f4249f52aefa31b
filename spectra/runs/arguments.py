"""What a function of Python is given: refused in one line where it is of no type that it takes."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.policy import Policy
from spectra.runs.opening import Device, Globs, Layers, Spec
from spectra.text import guess, quote
from spectra.words import (
    Chosen,
    Engine,
    FailOn,
    Filter,
    InitForm,
    InitMethod,
    MaskForm,
    Preset,
    Stored,
)

P = ParamSpec("P")
T = TypeVar("T")


def _whole(value: object) -> int | None:
    return None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)


def _real(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _spec(value: object) -> object:
    return value if isinstance(value, str | Path | Checkpoint | Adapter) else None


def _device(value: object) -> str | None:
    return value if isinstance(value, str) else _of_torch(value)


def _of_torch(value: object) -> str | None:
    return str(value) if type(value).__module__ == "torch" and hasattr(value, "index") else None


def _several(each: Callable[[Any], object]) -> Callable[[object], object]:
    """Return what takes a list of values, and no text: that would be read letter by letter."""

    def take(value: object) -> object:
        if isinstance(value, str) or not isinstance(value, Iterable):
            return None
        found = [each(one) for one in value]
        return None if any(one is None for one in found) else found

    return take


def _one_or_more(each: Callable[[Any], object]) -> Callable[[object], object]:
    several = _several(each)

    def take(value: object) -> object:
        one = each(value)
        return several(value) if one is None else one

    return take


def _of(*types: type) -> Callable[[object], object]:
    return lambda value: value if isinstance(value, types) else None


def _among(words: Sequence[str]) -> Callable[[object], object]:
    return lambda value: value if value in words else None


WORDS: Mapping[Any, tuple[str, ...]] = {
    Preset | None: get_args(Preset),
    FailOn | None: get_args(FailOn), Engine: get_args(Engine), InitMethod: get_args(InitMethod),
    Chosen | None: get_args(Chosen), InitForm | None: get_args(InitForm),
    Filter: get_args(Filter), MaskForm: get_args(MaskForm), Stored: get_args(Stored),
    Stored | None: get_args(Stored),
}  # fmt: skip
"""Annotations of which all values are known."""

TAKEN: Mapping[Any, tuple[str, Callable[[object], object]]] = {
    int: ("a whole number", _whole),
    float: ("a number", _real),
    bool: ("True or False", _of(bool)),
    str: ("a text", _of(str)),
    Spec: ("a path, a repository of the Hub, or what spectra.open returned", _spec),
    Spec | Sequence[Spec]: ("a model, or a list of models", _one_or_more(_spec)),
    Sequence[Spec]: ("a list of models", _several(_spec)),
    Globs: ("a text or a list of texts", _one_or_more(_of(str))),
    Layers: ("numbers from 0, or a text like '0-5,11'", _one_or_more(lambda value: (
        value if isinstance(value, str) else _whole(value)))),
    float | Sequence[float]: ("a number, or one a model", _one_or_more(_real)),
    Sequence[int]: ("a list of whole numbers", _several(_whole)),
    str | Sequence[str]: ("a text or a list of texts", _one_or_more(_of(str))),
    str | Sequence[str] | None: ("a text or a list of texts", _one_or_more(_of(str))),
    str | Path: ("a path", _of(str, Path)),
    str | float | None: ("a share like 0.99 or '99%'", _of(str, int, float)),
    str | Path | Policy | None: ("a path or a spectra.policy.Policy", _of(str, Path, Policy)),
    Selection | None: ("a spectra.Selection", _of(Selection)),
    Device: ("'auto', 'cpu', 'cuda', 'cuda:N' or a torch.device", _device),
    int | Sequence[int]: ("a whole number, or a list of them", _one_or_more(_whole)),
    **{kind: (f"one of {', '.join(words)}", _among(words)) for kind, words in WORDS.items()},
}  # fmt: skip
"""By the annotation of a parameter: what it takes, in words, and what returns it, or None."""
MAYBE = {
    int | None: int, float | None: float, bool | None: bool, str | None: str, Spec | None: Spec,
    str | Path | None: str | Path,
}  # fmt: skip
"""Annotations that None goes with."""


def typed(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that refuses arguments of other types than its annotations name."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = _bound(signature, function.__name__, args, kwargs)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(_taken(name, one, parameter) for one in value)
            else:
                bound.arguments[name] = _taken(name, value, parameter)
        return function(*bound.args, **bound.kwargs)

    return call


def _bound(
    signature: inspect.Signature, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Return arguments by name.

    Raises:
        TypeError: There are too many, too few, or one of a name that is none: as Python says it,
            which the function would say itself.
    """
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        odd = next((one for one in kwargs if one not in signature.parameters), "")
        near = guess(odd, signature.parameters) if odd else ""
        raise TypeError(f"{name}() {error}" + (near and f".{near}")) from None


def _taken(name: str, value: object, parameter: inspect.Parameter) -> object:
    """Return an argument as the function takes it.

    Raises:
        UsageError: It is of another type.
    """
    kind = parameter.annotation
    known = TAKEN.get(MAYBE.get(kind, kind))
    if known is None or (value is None and (kind in MAYBE or type(None) in get_args(kind))):
        return value
    if value is not None and (taken := known[1](value)) is not None:
        return taken
    what = quote(value) if isinstance(value, str) else repr(value)[:80]
    words = WORDS.get(kind)
    told = "not known" if words else f"of type {type(value).__name__}"
    near = guess(value.lower(), words) if words and isinstance(value, str) else ""
    raise UsageError(f"{name}={what} is {told}.{near} Expected {known[0]}.")
