"""How a value is written in a cell of a table, and the columns that every table begins with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from spectra.numbers import kept, number
from spectra.report.table import Column
from spectra.text import printable
from spectra.words import UNMEASURED

Cell: TypeAlias = Callable[[Mapping[str, Any]], str]
"""What writes a row's value."""

NONE = "—"
MARK = "* "  # before a kappa that the stored dtype does not resolve


def of(key: str, write: Callable[[Any], str] = number) -> Cell:
    """Return what writes a row's value; a kappa that a singular matrix has none of says so.

    Args:
        key: Of the row.
        write: What returns the text of a value.
    """

    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(key)
        if value is None:
            return "singular" if key == "kappa" and row["status"] == "singular" else NONE
        return write(value)

    return cell


def is_unresolved(row: Mapping[str, Any]) -> bool:
    """Say whether a kappa measures what storing the matrix rounded off."""
    return row.get("kappa_resolved") is False and row["status"] == "ok"


def kappa(row: Mapping[str, Any]) -> str:
    """Write a kappa, with a mark where it measures rounding."""
    return MARK * is_unresolved(row) + of("kappa")(row)


def plain(value: object) -> str:
    """Return anything that a row may hold in few characters, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else printable(str(value))


def measured(write: Cell) -> Cell:
    """Write nothing of a matrix that has no numbers."""
    return lambda row: NONE if row["status"] in UNMEASURED else write(row)


def shape(row: Mapping[str, Any]) -> str:
    """Write rows x cols."""
    return f"{row['rows']} x {row['cols']}"


NAME = Column("matrix", "left", flexible=True, cell=of("matrix", printable))
ROLE = Column("role", "left", optional=True, cell=of("role", printable))
SHAPE = Column("shape", optional=True, cell=shape)
CODE = Column("matrix", "left", flexible=True, cell=of("matrix", str))  # of a card


def short(value: float | None) -> float | int | None:
    """Return a number in as many digits as a page shows; whole ones as they are."""
    if value is None or isinstance(value, int):
        return value
    rounded = kept(value)
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def highest(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, write: Callable[[float], str] = number
) -> list[tuple[str, str]]:
    """Return the highest value of a key as a figure, where there is one."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return [(name, write(max(values)))] if values else []


def conditioned(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return how many matrices are singular, if any, and the highest kappa of the others."""
    singular = sum(row["status"] == "singular" for row in rows)
    told = [("singular", number(singular))] if singular else []
    return [*told, *highest(rows, "kappa", "highest finite κ" if singular else "highest κ")]
