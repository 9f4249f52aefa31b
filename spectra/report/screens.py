"""What a user sees of a result: the answer first, then the rows that carry it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from spectra.report import cells
from spectra.report.document import IDENTITY
from spectra.report.explain import legend as legend_of
from spectra.report.kind import Document, Kind, Listing, RowDoc, kind_of
from spectra.report.onward import NOTHING, Typed, onward
from spectra.report.ranking import ranked
from spectra.report.sentences import closing, noted
from spectra.report.table import Column, Line, Screen
from spectra.text import printable

LIMIT = 20  # rows shown without -v on a terminal
SHOWN = (str, int, float)
VERDICTS: Mapping[object, Literal["good", "bad", "warn"]] = {0: "good", 1: "bad", 3: "warn"}
PLACE = {*IDENTITY, "model", "shape", "parameters"}


def screen_of(
    document: Document,
    *,
    seconds: float | None = None,
    full: bool = False,
    hints: bool = False,
    legend: bool = False,
    typed: Typed = NOTHING,
) -> Screen:
    """Lay a result out for reading.

    Args:
        document: Of any analysis.
        seconds: How long it took, told with the hints.
        full: Show every row, as a pipe or `-v` wants.
        hints: Say what to do next; documents leave that out, so that they are the same from run
            to run.
        legend: Say what the columns mean.
        typed: What was given that no document holds, for the next command.
    """
    kind = kind_of(document["command"])
    facts = [*(kind.facts or closing)(document, full), *noted(document)]
    listing = kind.table(document) if kind.table else _plain(document, kind)
    shown = listing.rows if full else listing.few(LIMIT)
    hidden = listing.rows[len(shown) :]
    meant = legend_of(listing.columns) if legend and shown else ()
    titles = [f"{column.title}: " for column in listing.columns
              if any(f"{column.title}: " in line for line in meant)]  # fmt: skip
    return Screen(
        reading=printable(str(document["summary"]["reading"])),
        under=kind.under(document),
        verdict=VERDICTS.get(document["summary"].get("exit_code"), "bad") if kind.judges else "",
        columns=listing.columns,
        lines=[
            Line([column.cell(row) for column in listing.columns], listing.mark(row))
            for row in shown
        ],
        rule_after=listing.rule_after,
        rule=listing.rule,
        more=f"... {len(hidden):,} more{listing.of_rest(hidden)} (-v shows all)" * bool(hidden),
        legend=meant,
        # What the legend tells is not told once more.
        facts=[one for one in facts if not one.startswith(tuple(titles))],
        hints=_hints(document, kind, seconds, full) if hints else (),
        onward=tuple(onward(document, kind, typed)) if hints else (),
    )


def _plain(document: Document, kind: Kind) -> Listing:
    """Return the table of a record that has no more than columns, or not even these."""
    rows, _ = ranked(document, kind)
    keys = dict.fromkeys(key for row in rows for key in row if key not in PLACE)
    told = [key for key in keys if any(isinstance(row.get(key), SHOWN) for row in rows)]
    own = kind.columns or [Column(key, cell=cells.of(key, cells.plain)) for key in told]
    columns = [cells.NAME, cells.ROLE, cells.SHAPE, *own]
    telling = [row for row in rows if not (kind.idle and kind.idle(row))]
    idle = len(rows) - len(telling)
    shown = telling[:LIMIT] if idle and telling else None
    return Listing(columns, rows, shown, of_rest=partial(_unchanged, idle))


def _unchanged(count: int, rest: Sequence[RowDoc]) -> str:
    if not count:
        return ""
    return ", unchanged" if len(rest) == count else f", {count:,} of them unchanged"


def _hints(document: Document, kind: Kind, seconds: float | None, full: bool) -> list[str]:
    took = [f"{seconds:.1f} s"] if seconds is not None and kind.reads else []
    return [*took, *kind.hints(document, full)]
