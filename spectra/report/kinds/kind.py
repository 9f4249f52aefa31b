"""The record of a command: everything that is told of its results, wherever it is told."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spectra.report.shape import Shape
from spectra.report.table import Column, Mark

Document: TypeAlias = Mapping[str, Any]
"""A result as plain data, as `Result.document()` gives it or a file holds it."""
RowDoc: TypeAlias = Mapping[str, Any]
"""One matrix in it: its identity, its status, and what was measured."""
Order: TypeAlias = Sequence[tuple[str, bool]]
"""Keys by which rows are ordered, each with whether its highest come first."""
Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Listing:
    """The table of a screen or a card."""

    columns: Sequence[Column]
    rows: Sequence[RowDoc]  # in the order in which they are read
    few: int | Sequence[RowDoc] = 20  # of them, shown where not all are: the first so many
    mark: Callable[[RowDoc], Mark] = lambda _: ""
    rule_after: int | None = None  # a labelled rule under this many rows
    rule: str = ""
    of_rest: Callable[[Sequence[RowDoc]], str] = lambda _: ""  # what those left out have in common

    @property
    def shown(self) -> Sequence[RowDoc]:
        """The few."""
        return self.rows[: self.few] if isinstance(self.few, int) else self.few


@dataclass(frozen=True, slots=True)
class Metric:
    """What a heatmap of layers and roles colours by."""

    key: str
    scale: Literal["log", "linear", "count"]
    worst: Literal["high", "low"] = "high"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of a page that is not of matrices."""

    name: str
    caption: str
    rows: Sequence[Mapping[str, Any]]
    keys: Mapping[str, str]  # of a column and, by it, of a row
    first: tuple[str, bool]  # the column that sorts it, and whether its highest come first
    filters: Sequence[str] = ()  # columns that it can be filtered by


@dataclass(frozen=True, slots=True)
class Worst:
    """One line of what a reader should look at first: how bad, which matrix, what of it."""

    mark: Severity
    matrix: str | None  # or another name, where `opens` is false
    text: str
    opens: bool = True
    section: str = ""  # of the page; the page fills it in


@dataclass(frozen=True, slots=True)
class Kind:
    """What a command is called and how its results are told.

    Terminal, Markdown, page, card, pictures and the command line are made from it and from a
    document. All but the name and the title may be left out: then columns are made from what
    rows hold, and there is no picture.
    """

    command: str
    title: str

    # The table of matrices, on a screen and in a card.
    columns: Sequence[Column] = ()  # beside name, role and shape
    order: Order | Callable[[Document], Order] = ()  # of a page, a card, and `columns`
    table: Callable[[Document], Listing] | None = None  # instead of `columns`, on a screen
    card: Callable[[Document, Sequence[RowDoc]], Listing | None] | None = None
    """Instead of `columns`, in a card; from the document and its rows in `order`."""

    # Sentences and numbers.
    under: Callable[[Document], str] = lambda _: ""  # a second line under the answer
    facts: Callable[[Document, bool], Sequence[str]] | None = None  # under a table, all or in short
    figures: Callable[[Document], Sequence[tuple[str, str]]] = lambda _: ()  # beside `matrices`
    advice: Callable[[Document], Sequence[str]] = lambda _: ()
    onward: Callable[[Document], Sequence[str]] | None = None  # options of a next command
    hints: Callable[[Document, bool], Sequence[str]] | None = None  # instead, in whole

    # The page and the picture.
    visible: Sequence[str] | None = None  # measured columns that are seen at once; None: all
    metrics: Sequence[Metric] = ()
    charts: Callable[[Document, str], Iterable[Mapping[str, Any]]] = lambda *_: ()
    """Beside the heatmap; from the document and the name of its table of matrices."""
    sheets: Callable[[Document], Sequence[Sheet]] = lambda _: ()
    worst: Callable[[Document], Iterable[Worst]] = lambda _: ()
    drawer: str | None = None  # "module:function", loaded only to draw
    series: bool = False  # of several models beside each other
    judges: bool = False  # its summary holds findings, and whether they pass

    # The command line that gave a result.
    lead: Sequence[str] = ()  # words after `spectra`; the command's name where there are none
    parts: Sequence[str] = ("model", "base", "tuned")  # models that are named on it
    options: Mapping[str, object] = field(default_factory=dict)
    """Settings that are options, with their defaults; one that is False is a switch."""
    words: Callable[[Document], Sequence[str]] = lambda _: ()  # other options
    before_last: Callable[[Document], str] = lambda _: ""  # the option that takes the last model

    # What a document holds, beside what every one does; keys that are not told of may follow.
    settings: Mapping[str, Shape] = field(default_factory=dict)
    summary: Mapping[str, Shape] = field(default_factory=dict)
