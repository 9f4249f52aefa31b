"""Names from files as text that YAML and Python read back unchanged."""

import json
from collections.abc import Iterable, Sequence


def comments(sentences: Iterable[str]) -> str:
    """Return sentences as lines of comment; those that are empty say nothing."""
    return "".join(f"# {ascii_only(sentence)}\n" for sentence in sentences if sentence)


def quoted(name: str) -> str:
    """Return a name in double quotes as YAML reads it: ASCII, on one line."""
    return '"' + "".join(map(_escaped, name)) + '"'


def _escaped(one: str) -> str:
    """Escape one character where YAML would read it as anything else, or not at all."""
    if one in {'"', "\\"}:
        return "\\" + one
    return one if " " <= one <= "~" else f"\\U{ord(one):08x}"  # JSON's pairs mean two in YAML


def python_list(names: Sequence[str], indent: int = 0) -> str:
    """Return a list of names as Python, one a line."""
    if not names:
        return "[]"
    margin = " " * indent
    lines = "".join(f"{margin}    {python_string(name)},\n" for name in names)
    return f"[\n{lines}{margin}]"


def python_string(name: str) -> str:
    """Return a name as Python source, ASCII."""
    return json.dumps(name) if name.isascii() and name.isprintable() else ascii(name)


def ascii_only(text: str) -> str:
    """Return text with what is not ASCII, or would end the line, escaped."""
    return "".join(
        one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in text
    )
