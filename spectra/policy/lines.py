"""On which line of a TOML file a table or key stands: `tomllib` does not tell."""

import re
import tomllib
from collections.abc import Mapping
from typing import TypeAlias

Keys: TypeAlias = tuple[str | int, ...]
"""From the top; of an array of tables, the index from 0."""

_TEXT = r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_LONG = r"""(?:"{3}(?:\\.|[^\\])*?"{3}"{0,2}|'{3}.*?'{3}'{0,2})"""
_KEY = rf"(?:[A-Za-z0-9_-]+|{_TEXT})"
_KEYS = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_START = re.compile(rf"[ \t]*(?:(\[\[?)[ \t]*({_KEYS})[ \t]*\]\]?|({_KEYS})[ \t]*=)", re.DOTALL)
_TOKEN = re.compile(rf"""{_LONG}|{_TEXT}|\#[^\n]*|[^"'\#\n\[\]{{}}]+|.""", re.DOTALL)


def lines_of(text: str) -> dict[Keys, int]:
    """Return the line, from 1, of every table's header and every key before a `=`.

    Keys inside of inline tables have none of their own.

    Args:
        text: A document that `tomllib` has read.
    """
    found: dict[Keys, int] = {}
    table: Keys = ()  # the one that keys belong to
    sizes: dict[Keys, int] = {}  # of arrays of tables
    place, line = 0, 1
    while place < len(text):
        start = _START.match(text, place)
        if start is not None:
            brackets, header, key = start.groups()
            path = () if header else table
            keys = [_plain(word) for word in re.findall(_KEY, header or key)]
            for number, word in enumerate(keys, 1):
                path = (*path, word)
                if brackets == "[[" and number == len(keys):
                    sizes[path] = sizes.get(path, 0) + 1
                if path in sizes:
                    path = (*path, sizes[path] - 1)
                found.setdefault(path, line)
            table = path if header else table
        end = _end(text, start.end() if start else place)
        line += text.count("\n", place, end)
        place = end
    return found


def nearest(lines: Mapping[Keys, int], path: Keys) -> int | None:
    """Return the line of a place, or of the closest table around it."""
    parts = (path[:end] for end in range(len(path), 0, -1))
    return next((lines[part] for part in parts if part in lines), None)


def _end(text: str, start: int) -> int:
    """Skip what follows a header or `=`: it ends with its line, unless brackets are open."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        word = token.group()
        depth += (word in {"[", "{"}) - (word in {"]", "}"})
        if word == "\n" and depth == 0:
            return token.end()
    return len(text)


def _plain(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
