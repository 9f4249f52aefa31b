"""A table as data, and its plain renderings; the terminal adds colour alone."""

import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from unicodedata import east_asian_width

from spectra.report.names import fitted

Align = Literal["left", "right"]
Mark = Literal["", "bad", "good", "dim"]
Style = Literal[Mark, "bold", "bold bad", "bold good", "bold warn"]
"""Of a whole line; of one in two words the second is that of its first word."""
GAP = "  "
READABLE = 26  # characters of a name, under which columns give way
NARROWEST = 12  # characters that a shortened name keeps at least
TELLING = 24  # characters of a text, under which columns give way
AMPLE = 56  # characters of a text, beyond which a name is not shortened for it
BESIDE = 16  # characters of a text, under which it stands below its row


@dataclass(frozen=True, slots=True)
class Column:
    """One column; where a terminal is narrow, the flexible one is shortened."""

    title: str
    align: Align = "right"
    flexible: bool = False
    optional: bool = False  # left out where the flexible one would become unreadable
    wrapping: bool = False  # text that is never cut: it goes on in the next line
    key: str | None = None  # that it shows, where the title does not tell
    means: str = ""  # in a legend, where no key tells
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
    onward: Sequence[str] = ()  # command lines of what comes next
    under: str = ""  # what the answer goes by: a second line, after the first sentence
    verdict: Literal["", "bad", "good", "warn"] = ""  # what colour may repeat of its first word
    legend: Sequence[str] = field(default_factory=tuple)  # what the columns mean


def widths(screen: Screen) -> list[int]:
    """Return the width that each column's longest cell takes."""
    cells = [[column.title for column in screen.columns], *(line.cells for line in screen.lines)]
    return [max(len(row[i]) for row in cells) for i in range(len(screen.columns))]


def fit(screen: Screen, limit: int | None) -> tuple[Screen, list[int], list[str]]:
    """Leave out columns, and `.weight` from all names where it does not fit all of them.

    It stays where only it tells two of them apart.

    Returns:
        As `_fit`.
    """
    fitted, wide, _ = found = _fit(screen, limit)
    needed = widths(fitted)
    if all(wide[i] >= needed[i] for i, one in enumerate(fitted.columns) if one.flexible):
        return found
    lines = [
        replace(line, cells=[
            cell.removesuffix(".weight") if column.flexible else cell
            for column, cell in zip(screen.columns, line.cells, strict=True)
        ])
        for line in screen.lines
    ]  # fmt: skip
    if any(
        len({line.cells[i] for line in lines}) < len({line.cells[i] for line in screen.lines})
        for i, one in enumerate(screen.columns) if one.flexible
    ):  # fmt: skip
        return found
    return _fit(replace(screen, lines=lines), limit)


def _fit(screen: Screen, limit: int | None) -> tuple[Screen, list[int], list[str]]:
    """Leave out columns, optional ones and the last first, until names and texts are readable.

    Returns:
        The screen, its columns' widths with the flexible and the wrapping one narrowed, and the
        titles of what was left out.
    """
    left_out: list[str] = []
    while True:
        wide = widths(screen)
        if limit is None or _narrow(screen.columns, wide, limit) or len(wide) == 1:
            return screen, wide, left_out[::-1]
        last = _last(screen.columns)
        if last is None:  # nothing but names and a text is left
            below = _stacked(screen.columns, widths(screen), limit)
            return screen, below or wide, left_out[::-1]
        left_out.append(screen.columns[last].title)
        kept = [i for i in range(len(wide)) if i != last]
        columns = [screen.columns[i] for i in kept]
        lines = [replace(line, cells=[line.cells[i] for i in kept]) for line in screen.lines]
        screen = replace(screen, columns=columns, lines=lines)


def _narrow(columns: Sequence[Column], wide: list[int], limit: int) -> bool:
    """Narrow a name and a text until all fit; say whether both are still readable."""
    names = next((i for i, column in enumerate(columns) if column.flexible), None)
    text = next((i for i, column in enumerate(columns) if column.wrapping), None)
    room = limit - len(GAP) * len(wide) - sum(
        width for i, width in enumerate(wide) if i not in (names, text)
    )  # fmt: skip
    name = wide[names] if names is not None else 0
    told = wide[text] if text is not None else 0
    least = min(told, TELLING)
    if names is not None:
        readable = min(name, READABLE)
        name = min(name, max(room - min(told, AMPLE), readable))
        wide[names] = max(min(name, room - least), min(name, NARROWEST))
    if text is not None:
        wide[text] = max(min(told, room - (wide[names] if names is not None else 0)), 1)
    fixed = names is None and text is None
    return room >= 0 if fixed else room >= least + min(name, READABLE)


def _stacked(columns: Sequence[Column], wide: list[int], limit: int) -> list[int] | None:
    """Return widths with a text below its row, so that names have its room; None without both."""
    names = next((i for i, column in enumerate(columns) if column.flexible), None)
    text = next((i for i, column in enumerate(columns) if column.wrapping), None)
    if names is None or text is None:
        return None
    others = sum(width for i, width in enumerate(wide) if i not in (names, text))
    room = limit - len(GAP) * (len(wide) - 1) - others
    return [
        max(min(width, room), 1) if i == names else 0 if i == text else width
        for i, width in enumerate(wide)
    ]


def _last(columns: Sequence[Column]) -> int | None:
    """Return the column that gives way next: an optional one, else the last but the first."""
    spare = [
        i for i, column in enumerate(columns)
        if i and column.title and not (column.flexible or column.wrapping)
    ]  # fmt: skip
    optional = [i for i, column in enumerate(columns) if column.optional]
    return next(reversed(optional or spare), None)


def wrap(text: str, limit: int | None) -> list[str]:
    """Return sentences indented, wrapped where the terminal ends."""
    if limit is None:
        return [GAP + text]
    held = _widened(re.sub(r"(?<=\d) %", "\0%", text))  # a number keeps its unit
    lines = textwrap.wrap(
        held, limit, initial_indent=GAP, subsequent_indent=GAP, break_on_hyphens=False
    )
    return [line.replace("\0", " ").replace(FILL, "") for line in lines]


FILL = "\1"  # behind what takes two columns of a terminal, until lines are laid out


def _widened(text: str) -> str:
    """Return a text that is as long as it is wide in a terminal."""
    if text.isascii():
        return text
    return "".join(one + FILL if east_asian_width(one) in "WF" else one for one in text)


def lay_out(screen: Screen, limit: int | None = None) -> list[tuple[str, Style]]:
    """Return a screen's lines, none wider than `limit`, each with what colour may repeat of it."""
    head, gap, rest = screen.reading.partition(". ") if screen.under else (screen.reading, "", "")
    painted: list[tuple[str, Style]] = [("", "")]
    painted += [(line, "bold") for line in wrap(head + gap.rstrip(), limit)]
    if screen.verdict:
        painted[1] = (painted[1][0], _first_word(screen.verdict))
    painted += [(line, "dim") for line in wrap(screen.under, limit) if screen.under]
    painted += [(line, "") for line in wrap(rest, limit) if rest]
    if screen.lines:
        painted += [("", ""), *_table(screen, limit)]
    if screen.more:
        painted += [(line, "dim") for line in wrap(screen.more, limit)]
    for block in (screen.legend, screen.facts, screen.hints):
        painted += [("", "")] if block else []
        painted += [(line, "dim") for text in block for line in wrap(text, limit)]
    painted += [("", "")] if screen.onward and not screen.hints else []
    for number, command in enumerate(screen.onward):
        lead = GAP + ("      " if number else "Next: ")
        painted += [(line, "dim") for line in wrap_command(command, lead, limit)]
    return painted


def wrap_command(command: str, lead: str, limit: int | None) -> list[str]:
    """Return a command line on as many lines as it takes, which a shell reads as one."""
    first, *words = _WORD.findall(command)
    lines = [lead + first]
    for word in words:
        if limit is not None and len(lines[-1]) + len(word) + len("  \\") > limit:
            lines[-1] += " \\"
            lines.append(" " * (len(lead) + 2) + word)
        else:
            lines[-1] += f" {word}"
    return lines


_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s'"])+""")
"""A word of a command line, with what is quoted in it."""


def _first_word(verdict: Literal["bad", "good", "warn"]) -> Style:
    styles: Mapping[str, Style] = {"bad": "bold bad", "good": "bold good", "warn": "bold warn"}
    return styles[verdict]


def _table(screen: Screen, limit: int | None) -> list[tuple[str, Style]]:
    """Return the titles, the rows, and which columns there was no room for."""
    lines = [replace(line, cells=[*map(_widened, line.cells)]) for line in screen.lines]
    screen, wide, left_out = fit(replace(screen, lines=lines), limit)
    body: list[tuple[str, Style]] = []
    names = {
        i: fitted((line.cells[i] for line in screen.lines), width)
        for i, (column, width) in enumerate(zip(screen.columns, wide, strict=True))
        if column.flexible
    }
    for place, line in enumerate(screen.lines):
        if screen.rule and place and place == screen.rule_after:
            total = sum(wide) + len(GAP) * (len(wide) - 1)
            body.append(((GAP + f" {screen.rule} ".center(total, "─"))[:limit], "dim"))
        body += [
            (text[:limit], line.mark) for text in _lines(line.cells, screen, wide, names, limit)
        ]
    told = f"no room for: {', '.join(left_out)}" if left_out else ""
    body = [(text.replace(FILL, ""), style) for text, style in body]
    return [
        *((text[:limit], "dim") for text in _titles(screen, wide)), *body,
        *((text, "dim") for text in wrap(told, limit) if told),
    ]  # fmt: skip


def _titles(screen: Screen, wide: Sequence[int]) -> Iterator[str]:
    """Yield the titles, that of a text on as many lines as it takes; none of one below its row."""
    titles = [
        textwrap.wrap(column.title, max(width, len(max(column.title.split(), key=len, default=""))))
        if column.wrapping and width >= BESIDE else [column.title if width else ""]
        for column, width in zip(screen.columns, wide, strict=True)
    ]  # fmt: skip
    for row in itertools.zip_longest(*titles, fillvalue=""):
        yield _join(row, screen, wide)


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
    lines += [re.sub(r"^\* ", r"\\* ", text) + "  " for text in screen.facts]  # a mark, and no list
    return "\n".join(lines).rstrip() + "\n"


def _lines(
    cells: Sequence[str],
    screen: Screen,
    wide: Sequence[int],
    names: Mapping[int, Mapping[str, Sequence[str]]],
    limit: int | None,
) -> Iterator[str]:
    """Yield a row, its texts on as many lines as they take; below the row where it is narrow."""
    pieces: list[Sequence[str]] = []
    below: list[str] = []
    for i, (cell, column, width) in enumerate(zip(cells, screen.columns, wide, strict=True)):
        if i in names:
            pieces.append(names[i][cell])
        elif not column.wrapping or len(cell) <= width:
            pieces.append([cell])
        elif width < BESIDE:
            pieces.append([])
            below = wrap(cell, limit and limit - len(GAP))
        else:
            pieces.append(textwrap.wrap(cell, width, break_on_hyphens=False) or [""])
    for row in itertools.zip_longest(*pieces, fillvalue=""):
        yield _join(row, screen, wide)
    yield from (GAP + text for text in below)


def _join(cells: Sequence[str], screen: Screen, wide: Sequence[int]) -> str:
    words = [
        cell.ljust(width) if column.align == "left" else cell.rjust(width)
        for cell, column, width in zip(cells, screen.columns, wide, strict=True)
    ]
    return (GAP + GAP.join(words)).rstrip()


MEANT = re.compile(r"[|<*`~]|\[(?=[^\]]*\]\()|&(?=#?\w+;)|\\(?=[!-/:-@\[-`{-~])|(?<!\w)_|_(?!\w)")
"""What Markdown gives another meaning; names keep their brackets and underscores as they are."""


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(MEANT.sub(r"\\\g<0>", cell) for cell in cells) + " |"
