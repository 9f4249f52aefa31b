"""JSON as strictly as the reference parser of safetensors takes it."""

import json
from math import isfinite
from typing import Any

from spectra.checkpoint.documents import MAX_VALUES, count_values
from spectra.errors import HeaderError
from spectra.text import json_trouble, quote

MAX_DEPTH = 127  # nested arrays and objects; the limit of the reference parser
U64 = 1 << 64
FLOAT_END = (1 << 1024) - (1 << 970)  # from here on integers round to infinity


def decoded(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON as strictly as the format's reference parser; refuse duplicates and bombs."""
    values = count_values(raw)
    if values > MAX_VALUES:
        raise HeaderError(
            f": the header holds {values:,} values, and at most {MAX_VALUES:,} are read"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise HeaderError(": the header is not UTF-8 text: not a safetensors file") from None
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer if b"-" in raw else None,  # minus zero is odd; plainly is quicker
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise HeaderError(f": the header nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            raise HeaderError(f": the header is not JSON: {json_trouble(error)}") from None
        raise HeaderError(f": the header holds {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; the library lets the last of two equal keys win, we refuse."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {quote(key)} twice")
        _encodable(key)
        if isinstance(value, str):
            _encodable(value)
        table[key] = value
    return table


def _encodable(text: str) -> None:
    """Refuse lone surrogates, which JSON escapes can spell and UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{quote(text)}, which is not Unicode text") from None


def check_extra(value: Any, subject: str, depth: int = 2) -> None:  # noqa: ANN401 - any JSON
    """Refuse, in fields nobody reads, what the reference parser would not parse."""
    if isinstance(value, str):
        try:
            _encodable(value)
        except ValueError as error:
            raise HeaderError(f"{subject} holds {error}") from None
    elif isinstance(value, int) and value >= FLOAT_END:
        raise HeaderError(
            f"{subject} holds a number of {len(str(value)):,} digits, which is out of range"
        )
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise HeaderError(f"{subject} nests deeper than {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            check_extra(inner, subject, depth + 1)


def _integer(text: str) -> int | float:
    """Return the integer; minus zero and what leaves 64 bits are no integers there."""
    if text == "-0" or len(text) > len(str(U64)):
        return _finite(text)
    value = int(text)
    return value if -U64 // 2 <= value < U64 else float(value)


def _finite(text: str) -> float:
    """Return the float; NaN, Infinity and overflow are refused."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {quote(text)[1:-1]}, which is out of range")
    return value


def kind_of(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return what JSON calls a value."""
    names = {list: "list", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")
