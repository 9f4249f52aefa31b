"""On which line of a TOML file a table or key stands: `tomllib` does not tell."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Keys from the top; of an array of tables, the index from 0."""

_TOKEN = re.compile(
    r'''
    (?P<long>"{3}(?:\\.|[^\\])*?"{3}"{0,2} | \'{3}.*?\'{3}\'{0,2})
    | (?P<text>"(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<comment>\#[^\n]*)
    | (?P<bare>[A-Za-z0-9_+:-]+)
    | (?P<newline>\n)
    | (?P<space>[ \t\r]+)
    | (?P<mark>.)
    ''',
    re.VERBOSE | re.DOTALL,
)  # fmt: skip


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table's header and every key before a `=`.

    Keys inside of inline tables have none of their own.

    Args:
        text: A document that `tomllib` has read.
    """
    reader = _Reader()
    for token, line in _tokens(text):
        reader.take(token, line)
    return reader.found


def nearest(lines: Mapping[Path, int], path: Path) -> int | None:
    """Return the line of a place, or of the closest table around it."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


@dataclass(frozen=True, slots=True)
class _Token:
    """A word of the document."""

    kind: str
    text: str


def _tokens(text: str) -> Iterator[tuple[_Token, int]]:
    """Yield words with their lines; space and comments apart."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind not in {"comment", "space"}:
            yield _Token(kind, match.group()), line
        line += match.group().count("\n")


@dataclass(slots=True)
class _Reader:
    """Follows a document word by word."""

    found: dict[Path, int] = field(default_factory=dict)
    table: Path = ()  # the one that keys belong to
    sizes: dict[Path, int] = field(default_factory=dict)  # of arrays of tables
    keys: list[str] = field(default_factory=list)  # of the header or key at hand
    brackets: int = 0  # open ones: of a header two at most
    state: str = "start"  # or in a header, in a value, in the rest of a line

    def take(self, token: _Token, line: int) -> None:
        """Take the next word."""
        if self.state == "value":
            self._value(token)
        elif self.state == "header":
            self._header(token, line)
        elif token.kind == "newline":
            self._begin("start")
        elif self.state == "start":
            self._key(token, line)

    def _key(self, token: _Token, line: int) -> None:
        """Take a key up to its `=`, or the first bracket of a header."""
        if token.kind in {"bare", "text"}:
            self.keys.append(_plain(token))
        elif token.text == "[":
            self.state, self.brackets = "header", 1
        elif token.text == "=":
            for end in range(1, len(self.keys) + 1):
                self.found.setdefault((*self.table, *self.keys[:end]), line)
            self._begin("value")

    def _begin(self, state: str) -> None:
        """Go on to something else."""
        self.state, self.keys, self.brackets = state, [], 0

    def _value(self, token: _Token) -> None:
        """Skip a value: it ends with its line, unless brackets are open."""
        if token.kind == "mark" and token.text in "[{":
            self.brackets += 1
        elif token.kind == "mark" and token.text in "]}":
            self.brackets -= 1
        elif token.kind == "newline" and self.brackets == 0:
            self._begin("start")

    def _header(self, token: _Token, line: int) -> None:
        """Take `[a.b]` or `[[a.b]]` to its end."""
        if token.kind in {"bare", "text"}:
            self.keys.append(_plain(token))
        elif token.text == "[":
            self.brackets += 1
        elif token.text == "]":
            self._enter(line, array=self.brackets == 2)
            self._begin("rest")  # of the line: the second bracket of `]]` begins nothing

    def _enter(self, line: int, *, array: bool) -> None:
        """Make a table the one that keys belong to."""
        path: Path = ()
        for number, key in enumerate(self.keys, 1):
            path = (*path, key)
            if array and number == len(self.keys):
                self.sizes[path] = self.sizes.get(path, 0) + 1
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
            self.found.setdefault(path, line)
        self.table = path


def _plain(token: _Token) -> str:
    """Return a key without quotes and escapes."""
    if token.kind == "bare":
        return token.text
    return str(tomllib.loads(f"key = {token.text}")["key"])
