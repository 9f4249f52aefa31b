"""Which columns each result has, and its rows as columns, worst first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.report.cells import short
from spectra.report.html.encode import Names, profiles, words
from spectra.report.keys import Key, key_of
from spectra.report.kind import Document, RowDoc, Sheet, kind_of, noun_of
from spectra.report.ranking import ranked
from spectra.report.tokens import block
from spectra.words import VECTOR

MOST_ROWS = 8000  # of matrices on one page; the files have them all
MOST_LISTED = 2000  # of anything else in one table
POINTS = 32  # of a profile, where there is no room for all 65
VERDICTS = 4  # of the rows that there is room for, one in so many has vectors and tokens told

PLACE = ("matrix", "role", "layer", "expert", "shape")
FILTERS = ("model", "role", "status", "selected", "dtype")
UNSHOWN = frozenset({"tensor", "rows", "cols", "intruder_detail", "sigma_profile", "digest",
                     "tokens_status"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One key of a table and its values."""

    key: str
    about: Key
    values: Sequence[Any]
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, in the order in which rows are read."""

    ident: str
    caption: str
    columns: Sequence[Column]
    first: tuple[str, bool]  # the column it is sorted by, and whether the highest come first
    filters: Sequence[str] = ()
    left_out: int = 0
    most: int = MOST_ROWS
    verdicts: Sequence[Any] = field(default_factory=tuple)
    profile: Sequence[Sequence[float] | None] = field(default_factory=tuple)
    tokens: Sequence[Sequence[Sequence[str]]] = field(default_factory=tuple)

    def plain(self, names: Names) -> dict[str, Any]:
        """Return it as JSON data."""
        found: dict[str, Any] = {
            "id": self.ident,
            "caption": self.caption,
            "first": list(self.first),
            "filters": list(self.filters),
            "rows": len(self.columns[0].values) if self.columns else 0,
            "left": self.left_out,
            "accepted": self.ident.endswith("-ignored"),
            "columns": [_plain(column, names) for column in self.columns],
        }
        if any(self.verdicts):
            found["verdicts"] = list(self.verdicts)
        if any(self.tokens):
            found["tokens"] = list(self.tokens)
        if any(self.profile):
            found["profile"] = profiles(self.profile, POINTS * self.most)
        return found


def matrices(document: Document, ident: str, most: int) -> Table:
    """Return the table of a result's matrices, worst first; of a selection, its lowest.

    Args:
        document: A result.
        ident: Its place on the page.
        most: Rows that there is room for.
    """
    kind = kind_of(document["command"])
    rows, order = ranked(document, kind)
    kept = rows[:most]
    known = dict.fromkeys(key for row in kept for key in row if _is_told(key, row[key]))
    unasked = [key for key in known if key not in ("dtype", "codec", "error")]
    # What a matrix has no numbers for stands beside its name, where no window cuts it off.
    odd = ["status"] if any(row["status"] != "ok" for row in kept) else []
    shown = [PLACE[0], *odd, *PLACE[1:], *(unasked if kind.visible is None else kind.visible)]
    told = [key for key in dict.fromkeys([*shown, *known]) if key in known]
    columns = _columns(kept, told, shown)
    present = {column.key: len(set(map(str, column.values))) for column in columns}
    return Table(
        f"{ident}-matrices",
        _title(document, rows, noun_of(document)[1]),
        columns,
        next((one for one in order if one[0] in present), ("", False)),
        [key for key in FILTERS if present.get(key, 0) > 1],
        len(rows) - len(kept),
        most,
        [_verdicts(row) for row in kept[: most // VERDICTS]]
        + [None] * len(kept[most // VERDICTS :]),
        [row.get("sigma_profile") for row in kept],
        [block(row) for row in kept[: most // VERDICTS]],
    )


def _title(document: Document, rows: Sequence[Mapping[str, Any]], own: str) -> str:
    """Say what rows are of; a check of an adapter has more than the tensors that it counts."""
    title = "Tensors" if any(row.get("role") == VECTOR for row in rows) else own.capitalize()
    counted = document["summary"].get("coverage", {}).get("tensors", len(rows))
    adapter = "adapter" in document["summary"].get("unpaired", {})
    return f"{title}, and matrices of the base" if adapter and len(rows) > counted else title


def table_of(sheet: Sheet, ident: str) -> Table:
    """Return a table of other things than matrices.

    Args:
        sheet: What it lists.
        ident: Its result's place on the page.
    """
    columns = _columns(sheet.rows[:MOST_LISTED], [*sheet.keys, *sheet.beside], sheet.keys)
    present = {column.key for column in columns}
    return Table(
        f"{ident}-{sheet.name}", sheet.caption, columns, sheet.first,
        [key for key in sheet.filters if key in present],
        max(len(sheet.rows) - MOST_LISTED, 0),
    )  # fmt: skip


def _columns(rows: Sequence[RowDoc], keys: Sequence[str], shown: Sequence[str]) -> list[Column]:
    """Return the columns that any row has a value for."""
    found = []
    for key in keys:
        values = [row.get(key) for row in rows]
        example = next((value for value in values if value is not None), None)
        if example is not None:
            found.append(Column(key, key_of(key, example), values, key in shown))
    return found


def _verdicts(row: RowDoc) -> list[int] | None:
    """Return a row's vectors: index, |cos| and its error in 1e-4, best match, marks."""
    flat: list[int] = []
    for item in row.get("intruder_detail") or ():
        cosine, error = item["max_cos"], item.get("max_cos_error")
        match = item.get("best_match")
        marks = 1 * bool(item["intruder"]) + 2 * bool(item.get("tied"))
        flat += [
            item["index"],
            -1 if cosine is None else round(1e4 * cosine),
            round(1e4 * (error or 0.0)),
            -1 if match is None else match,
            marks,
        ]
    return flat or None


def _plain(column: Column, names: Names) -> dict[str, Any]:
    about = column.about
    found: dict[str, Any] = {
        "key": column.key, "title": about.title, "kind": about.kind, "shown": column.shown,
    }  # fmt: skip
    values = column.values
    if about.kind == "name":
        found["data"] = [-1 if value is None else names.place(str(value)) for value in values]
    elif about.kind in ("word", "shape", "severity", "text"):
        found |= words(values)
    elif about.kind == "flag":
        found["data"] = [None if value is None else int(bool(value)) for value in values]
    else:
        found["data"] = [short(value) if _is_number(value) else None for value in values]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_told(key: str, value: object) -> bool:
    """Say whether a key becomes a column: not what has a place of its own, nor lists."""
    return key not in UNSHOWN and not isinstance(value, list | tuple | dict)


def rooms(counts: Sequence[int], total: int = MOST_ROWS) -> list[int]:
    """Share a page's rows among results: what small ones leave goes to the large."""
    found = [0] * len(counts)
    left = total
    for place, index in enumerate(sorted(range(len(counts)), key=lambda index: counts[index])):
        found[index] = left // (len(counts) - place)
        left -= min(counts[index], found[index])
    return found
