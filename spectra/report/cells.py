"""How a value is written in a cell of a table, and the columns that every table begins with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from spectra.report.table import Column
from spectra.text import printable

Cell: TypeAlias = Callable[[Mapping[str, Any]], str]
"""What writes a row's value."""

NONE = "—"
DIGITS = 6  # that a page needs; the file has them all


def word(key: str) -> Cell:
    """Write a text on one line."""
    return lambda row: printable(str(row[key]))


def number(key: str, digits: int = 4) -> Cell:
    """Write a number in few digits; a condition number that is none says why."""

    def write(row: Mapping[str, Any]) -> str:
        if key == "kappa" and row.get("status") == "singular":
            return "singular"
        return digited(row.get(key), digits)

    return write


def count(key: str) -> Cell:
    """Write a whole number."""
    return lambda row: NONE if row.get(key) is None else f"{int(row[key]):,}"


def percent(key: str) -> Cell:
    """Write a share."""
    return lambda row: NONE if row.get(key) is None else share(row[key])


def signed(key: str) -> Cell:
    """Write a slope."""
    return lambda row: NONE if row.get(key) is None else f"{row[key]:+.2f}"


def ratio(key: str) -> Cell:
    """Write a ratio near 1."""
    return lambda row: NONE if row[key] is None else f"{row[key]:.2f}"


def figure(key: str) -> Cell:
    """Write a number as text has it: in three digits, a whole one as it is."""

    def write(row: Mapping[str, Any]) -> str:
        value = row.get(key)
        if value is None:
            return "singular" if key == "kappa" and row["status"] == "singular" else NONE
        return f"{value:,}" if isinstance(value, int) else brief(value)

    return write


def anything(key: str) -> Cell:
    """Write whatever a row holds."""

    def write(row: Mapping[str, Any]) -> str:
        value = row.get(key)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return printable(value)
        return f"{value:,}" if isinstance(value, int) else digited(value)

    return write


def measured(write: Cell) -> Cell:
    """Write nothing of a matrix that has no numbers."""
    return lambda row: NONE if row["status"] == "non-finite" else write(row)


def shape(row: Mapping[str, Any]) -> str:
    """Write rows x cols."""
    return f"{row['rows']} x {row['cols']}"


NAME = Column("matrix", "left", flexible=True, cell=word("matrix"))
ROLE = Column("role", "left", optional=True, cell=word("role"))
SHAPE = Column("shape", optional=True, cell=measured(shape))
CODE = Column("matrix", "left", flexible=True, cell=lambda row: str(row["matrix"]))  # of a card


def digited(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits, nothing where there is none."""
    return NONE if value is None else f"{value:.{digits}g}"


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
