"""How many matrices rows tell of, where some of them tell of one head of a matrix."""

from collections.abc import Hashable, Sequence

from spectra.analyzers.row import Row
from spectra.text import counted
from spectra.words import MATRIX

CHANGED = ("changed matrix", "changed matrices")


def is_head(row: Row) -> bool:
    """Say whether a row is of one head, and not of all of its matrix."""
    return row.values.get("head") is not None


def whole_of(row: Row) -> Hashable:
    """Return what rows of heads of one matrix have in common, and no other row."""
    place = row.place
    return (place.tensor, place.expert, place.part) if is_head(row) else place.matrix


def matrices_of(rows: Sequence[Row]) -> int:
    """Count matrices, each once however many heads it has."""
    heads = [row for row in rows if is_head(row)]
    return len(rows) - len(heads) + len(set(map(whole_of, heads)))


def smallest_of(rows: Sequence[Row]) -> tuple[int, str]:
    """Return the shortest side of any, at least one, and whether a matrix or a head has it."""
    row = min(rows, key=lambda row: min(row.place.rows, row.place.cols))
    return min(row.place.rows, row.place.cols), "head" if is_head(row) else MATRIX[0]


def tallied(rows: Sequence[Row], noun: tuple[str, str] = MATRIX) -> str:
    """Write `3 matrices`, or `3 matrices (2 of them in 5 heads)`."""
    heads = _heads(rows)
    return counted(matrices_of(rows), *noun) + f" ({heads})" * bool(heads)


def share_of(rows: Sequence[Row], every: Sequence[Row], noun: tuple[str, str] = MATRIX) -> str:
    """Write `3 of 40 matrices`, or `3 of 40 matrices, 2 of them in 5 of 288 heads`."""
    told = f"{matrices_of(rows):,} of {counted(matrices_of(every), *noun)}"
    heads = _heads(rows, sum(map(is_head, every)))
    return f"{told}, {heads}" if heads else told


def _heads(rows: Sequence[Row], of: int = 0) -> str:
    heads = [row for row in rows if is_head(row)]
    if not heads:
        return ""
    split, count = matrices_of(heads), f"{len(heads):,} of " * (of > len(heads))
    some = f"{split:,} of them " * (split < matrices_of(rows))
    return f"{some}in {count}{counted(of or len(heads), 'head')}"
