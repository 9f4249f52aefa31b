"""Small pieces of HTML; what comes from a file passes `text`."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from spectra.text import printable

MARKS = {"error": "✕", "warning": "▲", "note": "●", "passed": "✓", "known": "○", "not judged": "–"}


def text(value: object) -> str:
    """Return what a file says as text that can be nothing else."""
    return html.escape(printable(str(value)))


def badge(word: str, said: str = "") -> str:
    """Return a severity: a mark and a word, so that colour is not all that tells it."""
    mark, look = MARKS.get(word, "●"), text(word.replace(" ", "-"))
    return (
        f'<span class="badge {look}"><span aria-hidden="true">{mark}</span> '
        f"{text(said or word)}</span>"
    )


def command(line: str, ident: str) -> str:
    """Return a command with a button that copies it."""
    return (
        f'<div class="command"><code id="{ident}" tabindex="0" role="group" '
        f'aria-label="command">{text(line)}</code>'
        f'<button type="button" class="copy" data-copy="{ident}">Copy</button></div>'
    )


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a description list; values are HTML."""
    inner = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in items)
    return f"<dl>{inner}</dl>"


def setting(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write a setting as a reader would."""
    if value is None or (isinstance(value, str | list | tuple) and not value):
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{text(key)} {setting(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(setting(inner) for inner in value)
    return text(value)


def plain_table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a small table; cells are HTML, the first of each row its heading."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    body = "".join(f"<tr>{_line(row)}</tr>" for row in rows)
    return (
        f"<table><caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _line(row: Sequence[str]) -> str:
    rest = "".join(f"<td>{cell}</td>" for cell in row[1:])
    return f'<th scope="row">{row[0]}</th>{rest}'
