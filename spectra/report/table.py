"""A table as data, and its plain renderings; the terminal adds colour alone."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Align = Literal["left", "right"]
Mark = Literal["", "bad", "good", "dim"]
Style = Literal[Mark, "bold"]
GAP = "  "
READABLE = 26  # characters of a name, under which optional columns give way
WHOLE = 40  # characters of a name, likewise, where a column beside it can yield
NARROWEST = 12  # characters that a shortened name keeps at least
TELLING = 20  # characters that a yielding cell keeps


@dataclass(frozen=True, slots=True)
class Column:
    """One column; where a terminal is narrow, the flexible one is shortened."""

    title: str
    align: Align = "right"
    flexible: bool = False
    optional: bool = False  # left out where the flexible one would become unreadable
    yielding: bool = False  # text that is cut at its end before any name is shortened
    cell: Callable[[Any], str] = lambda _: ""  # what writes a row's text in it


@dataclass(frozen=True, slots=True)
class Line:
    """One row of cells; `mark` says what colour may repeat."""

    cells: Sequence[str]
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """What a user sees: the answer, the rows that carry it, what was left out, what next."""

    reading: str
    columns: Sequence[Column] = ()
    lines: Sequence[Line] = ()
    rule_after: int | None = None  # a labelled rule under this many lines
    rule: str = ""
    more: str = ""  # "... 33 more, none with intruders (-v shows all)"
    facts: Sequence[str] = field(default_factory=tuple)
    hints: Sequence[str] = field(default_factory=tuple)
    under: str = ""  # what the answer goes by: a second line


def shorten(text: str, width: int) -> str:
    """Fit a name: without `.weight` if that suffices, else its end, which tells more."""
    if len(text) > width:
        text = text.removesuffix(".weight")
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def widths(screen: Screen) -> list[int]:
    """Return the width that each column's longest cell takes."""
    cells = [[column.title for column in screen.columns], *(line.cells for line in screen.lines)]
    return [max(len(row[i]) for row in cells) for i in range(len(screen.columns))]


def fit(screen: Screen, limit: int | None) -> tuple[Screen, list[int]]:
    """Leave out optional columns, the last first, until names are readable in `limit`.

    Returns:
        The screen, and its columns' widths with the flexible one shortened.
    """
    wide = widths(screen)
    names = [i for i, column in enumerate(screen.columns) if column.flexible]
    if not names or limit is None:
        return screen, wide
    excess = len(GAP) * len(wide) + sum(wide) - limit
    yielding = [i for i, column in enumerate(screen.columns) if column.yielding]
    for i in yielding:
        cut = max(min(excess, wide[i] - TELLING), 0)
        wide[i] -= cut
        excess -= cut
    optional = [i for i, column in enumerate(screen.columns) if column.optional]
    readable = WHOLE if yielding else READABLE
    if optional and wide[names[0]] - excess < min(readable, wide[names[0]]):
        kept = [i for i in range(len(wide)) if i != optional[-1]]
        columns = [screen.columns[i] for i in kept]
        lines = [replace(line, cells=[line.cells[i] for i in kept]) for line in screen.lines]
        return fit(replace(screen, columns=columns, lines=lines), limit)
    wide[names[0]] -= max(min(excess, wide[names[0]] - NARROWEST), 0)
    return screen, wide


def wrap(text: str, limit: int | None) -> list[str]:
    """Return sentences indented, wrapped where the terminal ends."""
    if limit is None:
        return [GAP + text]
    return textwrap.wrap(
        text, limit, initial_indent=GAP, subsequent_indent=GAP, break_on_hyphens=False
    )


def lay_out(screen: Screen, limit: int | None = None) -> list[tuple[str, Style]]:
    """Return a screen's lines, none wider than `limit`, each with what colour may repeat of it."""
    painted: list[tuple[str, Style]] = [("", "")]
    painted += [(line, "bold") for line in wrap(screen.reading, limit)]
    painted += [(line, "dim") for line in wrap(screen.under, limit) if screen.under]
    if screen.lines:
        screen, wide = fit(screen, limit)
        titles = _join([column.title for column in screen.columns], screen, wide)
        body = [(_join(line.cells, screen, wide)[:limit], line.mark) for line in screen.lines]
        if screen.rule and screen.rule_after:
            total = sum(wide) + len(GAP) * (len(wide) - 1)
            rule = GAP + f" {screen.rule} ".center(total, "─")
            body.insert(screen.rule_after, (rule[:limit], "dim"))
        painted += [("", ""), (titles[:limit], "dim"), *body]
    if screen.more:
        painted.append((GAP + screen.more, "dim"))
    for block in (screen.facts, screen.hints):
        painted += [("", "")] if block else []
        painted += [(line, "dim") for text in block for line in wrap(text, limit)]
    return painted


def render_text(screen: Screen, limit: int | None = None) -> str:
    """Return the screen as plain text."""
    return "".join(line.rstrip() + "\n" for line, _ in lay_out(screen, limit))


def render_markdown(screen: Screen) -> str:
    """Return the screen as a Markdown table under its sentence."""
    lines = [screen.reading, *(["", screen.under] if screen.under else ()), ""]
    if screen.lines:
        titles = [column.title for column in screen.columns]
        aligned = ["---" if column.align == "left" else "---:" for column in screen.columns]
        rows = [titles, aligned, *(line.cells for line in screen.lines)]
        lines += [*map(_markdown_row, rows), ""]
    lines += [text + "  " for text in screen.facts]
    return "\n".join(lines).rstrip() + "\n"


def _join(cells: Sequence[str], screen: Screen, wide: Sequence[int]) -> str:
    words = []
    for cell, column, width in zip(cells, screen.columns, wide, strict=True):
        text = cell
        if len(cell) > width:  # a name keeps its end, a text its beginning
            text = cell[: width - 1] + "…" if column.yielding else shorten(cell, width)
        words.append(text.ljust(width) if column.align == "left" else text.rjust(width))
    return (GAP + GAP.join(words)).rstrip()


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
