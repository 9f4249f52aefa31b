"""The record of a command: everything that is told of its results, wherever it is told."""

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from spectra.errors import SpectraError, UsageError
from spectra.report.colours import Worst as Worse
from spectra.report.shape import Shape
from spectra.report.table import Column, Mark
from spectra.words import MATRIX, UNMEASURED, Severity

if TYPE_CHECKING:
    from spectra.policy import Policy

Document: TypeAlias = Mapping[str, Any]
"""A result as plain data, as `Result.document()` gives it or a file holds it."""
RowDoc: TypeAlias = Mapping[str, Any]
"""One matrix in it: its identity, its status, and what was measured."""
Step: TypeAlias = Sequence[tuple[str, ...]]
"""Options of a next command, each with its value, and with the file that it is written to."""
Order: TypeAlias = Sequence[tuple[str, bool]]
"""Keys by which rows are ordered, each with whether its highest come first."""

FOLDER, GROUP = "spectra.report.kinds", "spectra.kinds"
"""Where records lie: a module a command, and entry points of other packages."""

EACH = 3  # lines of one result, of what is merely highest


def broken(row: Any) -> Mark:  # noqa: ANN401 - a line may be of anything
    """Mark a matrix that has no numbers."""
    return "bad" if row["status"] in UNMEASURED else ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The table of a screen or a card, of matrices or whatever its columns can write."""

    columns: Sequence[Column]
    rows: Sequence[Any]  # in the order in which they are read
    shown: Sequence[Any] | None = None  # where not all are; None: the first of them
    mark: Callable[[Any], Mark] = broken
    rule_after: int | None = None  # a labelled rule under this many rows
    rule: str = ""
    of_rest: Callable[[Sequence[Any]], str] = lambda _: ""  # what those left out have in common

    def few(self, most: int) -> Sequence[Any]:
        """Return what is shown where not all are."""
        return self.rows[:most] if self.shown is None else self.shown


@dataclass(frozen=True, slots=True)
class Metric:
    """What a heatmap of layers and roles colours by."""

    key: str
    scale: Literal["log", "linear", "count", "signed"]
    worst: Worse | None = None  # the end that is bad; None: it is an amount, neither good nor bad
    shades: "Callable[[Sequence[RowDoc], Policy | None], Sequence[float | None]] | None" = None
    """How bad each row is, from 0 to 1, by a policy; without, the worst there is counts as bad."""
    ends: tuple[str, str] = ("", "")  # what the best and the worst shade are called


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of a page that is not of matrices."""

    name: str
    caption: str
    rows: Sequence[RowDoc]
    keys: Sequence[str]  # its columns, those that no row has left out
    first: tuple[str, bool]  # the column that sorts it, and whether its highest come first
    filters: Sequence[str] = ()  # columns that it can be filtered by
    beside: Sequence[str] = ()  # columns of its CSV that are not shown


@dataclass(frozen=True, slots=True)
class Worst:
    """One line of what a reader should look at first: how bad, which matrix, what of it."""

    mark: Severity
    matrix: str | None  # or another name, where `opens` is false
    text: str
    opens: bool = True
    about: str = ""  # the fact: of one matrix it is told once, by whoever tells it first
    known: bool = False  # the baseline has it too
    vector: bool = False  # the matrix is none
    covers: tuple[str, ...] = ()  # facts that follow from this one: beside it they are not told
    noun: tuple[str, str] = MATRIX  # what `matrix` is, one and several; the page fills it in
    section: str = ""  # of the page; the page fills it in


def singular(document: Document) -> list[Worst]:
    """Return the matrices without a smallest singular value."""
    found = [row for row in document["rows"] if row["status"] == "singular"]
    text = "singular: its smallest σ is 0"
    return [Worst("warning", row["matrix"], text, about="kappa") for row in found]


def highest(rows: Sequence[RowDoc], key: str) -> list[RowDoc]:
    """Return a few matrices with the highest numbers."""
    return sorted((row for row in rows if row.get(key)), key=lambda row: -row[key])[:EACH]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a command is called and how its results are told.

    Terminal, Markdown, page, card, pictures and the command line are made from it and from a
    document. All but the name and the title may be left out: then columns are made from what
    rows hold, and there is no picture.
    """

    command: str
    title: str
    row: tuple[str, str] = MATRIX  # what a row is of, one and several
    rows: Callable[[Document], tuple[str, str]] | None = None  # likewise, where settings tell it
    task: tuple[str, str] | None = None  # what is measured at once, where it is not a row

    # The table of matrices, on a screen and in a card.
    columns: Sequence[Column] = ()  # beside name, role and shape
    order: Order | Callable[[Document], Order] = (("matrix", False),)  # of a page and a card
    table: Callable[[Document], Listing] | None = None  # instead of `columns`, on a screen
    idle: Callable[[RowDoc], bool] | None = None
    """Rows of which nothing is to be told: a screen shows them with all others alone."""
    card: Callable[[Document, Sequence[RowDoc]], Listing | None] | None = None
    """Instead of `columns`, in a card; from the document and its rows in `order`."""

    # Sentences and numbers.
    under: Callable[[Document], str] = lambda _: ""  # a second line under the answer
    facts: Callable[[Document, bool], list[str]] | None = None  # under a table, in full or short
    figures: Callable[[Document], Sequence[tuple[str, str]]] = lambda _: ()  # beside how many rows
    advice: Callable[[Document], Sequence[str]] = lambda _: ()
    onward: Callable[[Document], Sequence[Step]] = lambda _: ()
    """What the same command does next: the first step of which an option was not given yet."""
    after: Callable[[Document], Iterable[Sequence[str]]] = lambda _: ()
    """Other commands that come next, as words after `spectra`."""
    hints: Callable[[Document, bool], Sequence[str]] = lambda *_: ()  # what else to do next
    reads: bool = True  # weights, for a time worth telling
    writes: bool = False  # weights, which the same command would find there
    lines: Callable[[Document], Sequence[RowDoc]] = lambda document: document["rows"]
    """What flat files hold, a line each: CSV, JSON lines, Parquet and `.frame`."""
    every: Callable[[Document], Sequence[RowDoc]] | None = None  # their lines with -v, if others
    line_keys: Sequence[str] = ()  # their columns, where there may be no line to tell them

    # The page and the picture.
    visible: Sequence[str] | None = None  # measured columns that are seen at once; None: all
    metrics: Sequence[Metric] = ()
    grid: str = "role"  # the key of the lines of a heatmap, beside its layers
    charts: Callable[[Document, str], Sequence[Mapping[str, Any]]] = lambda *_: ()
    """Beside the heatmap; from the document and the page's name of the table of its matrices."""
    sheets: Callable[[Document], Sequence[Sheet]] = lambda _: ()
    worst: Callable[[Document], Iterable[Worst]] = lambda _: ()
    drawer: str | None = None  # "module:function", loaded only to draw
    series: bool = False  # of several models beside each other
    settles: Callable[[Document], Set[str]] = lambda _: frozenset()
    """Facts, as `Worst.about` names them, that it judged: what it did not find is allowed."""
    judges: bool = False  # its summary holds findings, and whether they pass

    # The command line that gave a result.
    lead: Sequence[str] | Callable[[Document], Sequence[str]] = ()
    """Words after `spectra`; the command's name where there are none."""
    parts: Sequence[str] = ("model", "base", "tuned")  # models that are named on it
    words: Callable[[Document], Iterable[tuple[str, ...]]] = lambda _: ()
    """Options that are no settings, or are written otherwise."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Settings that are options, with their defaults; True and False are switches."""
    before_last: Callable[[Document], str] = lambda _: ""  # the option that takes the last model

    # What a document holds, beside what every one does; keys that are not told of may follow.
    settings: Mapping[str, Shape] = field(default_factory=dict)
    summary: Mapping[str, Shape] = field(default_factory=dict)


def noun_of(document: Document) -> tuple[str, str]:
    """Return what a row of a result is of, one and several."""
    kind = kind_of(document["command"])
    return kind.rows(document) if kind.rows else kind.row


def typed(command: str) -> str:
    """Return the words after `spectra` that a command is typed as."""
    lead = kind_of(command).lead
    return command.replace("_", " ") if callable(lead) or not lead else " ".join(lead)


@cache
def kind_of(command: str) -> Kind:
    """Return the record of a command; of one that is not known here, a plain one.

    Raises:
        SpectraError: The package that brings the command is broken.
    """
    found = _own(command)
    for entry in () if found else entry_points(group=GROUP, name=command):
        found = _loaded(entry)
    return found or Kind(command, command)


def kinds() -> Iterator[Kind]:
    """Yield the record of every command, those of other packages last."""
    own = [
        found
        for module in pkgutil.iter_modules(import_module(FOLDER).__path__)
        if (found := _own(module.name))
    ]
    yield from own
    known = {kind.command for kind in own}
    for entry in entry_points(group=GROUP):
        if entry.name not in known:
            yield kind_of(entry.name)


def called(command: str) -> str:
    """Return what a command is typed as, without its options."""
    return typed(command).partition(" --")[0]


def drawer_named(command: str) -> str:
    """Return the name of what draws a command's results.

    Raises:
        UsageError: There is no picture of them.
    """
    found = kind_of(command).drawer
    if found is None:
        known = sorted({called(one.command) for one in kinds() if one.drawer})
        raise UsageError(
            f"{called(command)} has no picture. Expected a result of {', '.join(known)}."
        )
    return found


def _own(command: str) -> Kind | None:
    """Return the record in this folder; a command may be any word that a file claims."""
    name = f"{FOLDER}.{command}"
    if not command.isidentifier() or find_spec(name) is None:
        return None
    found = getattr(import_module(name), "KIND", None)
    return found if isinstance(found, Kind) else None


def _loaded(entry: EntryPoint) -> Kind:
    """Return the record that another package brings."""
    try:
        found = entry.load()
    except Exception as error:
        raise SpectraError(
            f"The command {entry.name!r} of another package cannot be told of: {entry.value} "
            f"fails to load ({type(error).__name__}: {error}). Update or remove that package."
        ) from error
    if not isinstance(found, Kind):
        raise SpectraError(
            f"The command {entry.name!r} of another package cannot be told of: {entry.value} is "
            f"of type {type(found).__name__}, expected a spectra.report.kinds.Kind."
        )
    return found
