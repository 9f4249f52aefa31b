"""How a value is written in a cell of a table, and the columns that every table begins with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from spectra.report.table import Column
from spectra.text import printable

Cell: TypeAlias = Callable[[Mapping[str, Any]], str]
"""What writes a row's value."""

NONE = "—"
COUNT, SLOPE = "{:,.0f}", "{:+.2f}"
DIGITS = 6  # that a page needs; the file has them all


def of(key: str, form: str | Callable[[Any], str] = "{:.4g}") -> Cell:
    """Return what writes a row's value; a kappa that a singular matrix has none of says so.

    Args:
        key: Of the row.
        form: A format, or what returns the text.
    """
    write = form.format if isinstance(form, str) else form

    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(key)
        if value is None:
            return "singular" if key == "kappa" and row["status"] == "singular" else NONE
        return write(value)

    return cell


def plain(value: object) -> str:
    """Return anything that a row may hold in few characters, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def measured(write: Cell) -> Cell:
    """Write nothing of a matrix that has no numbers."""
    return lambda row: NONE if row["status"] == "non-finite" else write(row)


def shape(row: Mapping[str, Any]) -> str:
    """Write rows x cols."""
    return f"{row['rows']} x {row['cols']}"


NAME = Column("matrix", "left", flexible=True, cell=of("matrix", printable))
ROLE = Column("role", "left", optional=True, cell=of("role", printable))
SHAPE = Column("shape", optional=True, cell=measured(shape))
CODE = Column("matrix", "left", flexible=True, cell=of("matrix", str))  # of a card


def share(value: float) -> str:
    """Return a share of 1 in percent."""
    return f"{100 * value:.1f} %"


def brief(value: float) -> str:
    """Return a number in three digits: 0.0123, 4.6, 81,800, 4.1e7."""
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 1e4:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.4g}" if size >= 1000 else f"{value:.3g}"


def large(total: int) -> str:
    """Return a number of parameters."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if total >= size:
            return f"{total / size:.3g} {unit}"
    return str(total)


def short(value: float | None) -> float | int | None:
    """Return a number in as many digits as a page shows; whole ones as they are."""
    if value is None or isinstance(value, int):
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def highest(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, write: Callable[[float], str] = brief
) -> list[tuple[str, str]]:
    """Return the highest value of a key as a figure, where there is one."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return [(name, write(max(values)))] if values else []
