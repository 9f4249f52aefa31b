"""Which columns each result has, and its rows as columns, worst first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.report.html.encode import Names, profiles, short, words
from spectra.report.keys import Key, key_of

Row = Mapping[str, Any]

MOST_ROWS = 8000  # of matrices on one page; the files have them all
MOST_LISTED = 2000  # of anything else in one table
POINTS = 32  # of a profile, where there is no room for all 65
VERDICTS = 4  # of the rows that there is room for, one in so many has its vectors told

VISIBLE: Mapping[str, tuple[str, ...]] = {
    "ls": ("parameters", "dtype", "codec"),
    "spectrum": ("sigma_max", "sigma_min", "kappa", "stable_rank", "alpha", "spikes"),
    "diff": (
        "delta_relative", "delta_rank", "intruders", "worst_cos", "worst_at", "worst_energy",
    ),
    "kappa": ("kappa", "kappa_excess", "selected", "parameters", "decided_by"),
    "width": ("model", "width", "sigma_max"),
    "trend": ("model", "step", "sigma_max", "stable_rank", "kappa"),
    "check": (
        "sigma_max", "kappa", "stable_rank", "alpha", "delta_relative", "intruders", "worst_cos",
    ),
}  # fmt: skip
"""Measured columns that a table shows; the others are told when a matrix is opened."""

ORDER: Mapping[str, tuple[tuple[str, bool], ...]] = {
    "ls": (("parameters", True),),
    "spectrum": (("kappa", True),),
    "diff": (("intruders", True), ("worst_cos", False), ("delta_relative", True)),
    "width": (("sigma_max", True),),
    "trend": (("kappa", True),),
    "check": (("intruders", True), ("kappa", True)),
}
"""What comes first, by key and whether its highest do."""

PLACE = ("matrix", "role", "layer", "expert", "shape")
UNSHOWN = frozenset({"tensor", "rows", "cols", "intruder_detail", "sigma_profile", "digest"})


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

    def plain(self, names: Names) -> dict[str, Any]:
        """Return it as JSON data."""
        found: dict[str, Any] = {
            "id": self.ident,
            "caption": self.caption,
            "first": list(self.first),
            "filters": list(self.filters),
            "rows": len(self.columns[0].values) if self.columns else 0,
            "left": self.left_out,
            "columns": [_plain(column, names) for column in self.columns],
        }
        if any(self.verdicts):
            found["verdicts"] = list(self.verdicts)
        if any(self.profile):
            found["profile"] = profiles(self.profile, POINTS * self.most)
        return found


def matrices(document: Mapping[str, Any], ident: str, most: int) -> Table:
    """Return the table of a result's matrices, worst first; of a selection, its lowest.

    Args:
        document: A result.
        ident: Its place on the page.
        most: Rows that there is room for.
    """
    command = document["command"]
    rows = [enriched(row) for row in document["rows"]]
    order = order_of(document)
    rows.sort(key=lambda row: sort_key(row, order))
    kept = rows[:most]
    shown = (*PLACE, *VISIBLE.get(command, ()))
    known = list(dict.fromkeys(key for row in kept for key in row if _is_told(key, row[key])))
    if command not in VISIBLE:
        shown = (*PLACE, *(key for key in known if key not in ("dtype", "codec", "error")))
    present = [key for key in known if any(row.get(key) is not None for row in kept)]
    ordered = [key for key in shown if key in present]
    ordered += [key for key in present if key not in ordered]
    odd = any(row["status"] != "ok" for row in kept)
    columns = []
    for key in ordered:
        values = [row.get(key) for row in kept]
        example = next((value for value in values if value is not None), None)
        visible = key in shown or (key == "status" and odd)
        columns.append(Column(key, key_of(key, example), values, visible))
    filters = [key for key in ("model", "role", "status", "selected", "dtype")
               if key in ordered and len({str(row.get(key)) for row in kept}) > 1]  # fmt: skip
    return Table(
        f"{ident}-matrices",
        "Matrices",
        columns,
        next((one for one in order if one[0] in ordered), ("", False)),
        filters,
        len(rows) - len(kept),
        most,
        [
            _verdicts(row) if place < most // VERDICTS else None for place, row in enumerate(kept)
        ],
        [row.get("sigma_profile") for row in kept],
    )  # fmt: skip


def table_of(
    ident: str,
    caption: str,
    rows: Sequence[Row],
    keys: Mapping[str, str],
    first: tuple[str, bool],
    filters: Sequence[str] = (),
) -> Table:
    """Return a table of other things than matrices.

    Args:
        ident: Its place on the page.
        caption: What it lists.
        rows: Objects.
        keys: Of a column and, by it, of an object.
        first: The column that sorts it, and whether its highest come first.
        filters: Columns that it can be filtered by.
    """
    columns = []
    for key, source in keys.items():
        values = [row.get(source) for row in rows[:MOST_LISTED]]
        example = next((value for value in values if value is not None), None)
        if example is not None:
            columns.append(Column(key, key_of(key, example), values))
    present = {column.key for column in columns}
    return Table(
        ident, caption, columns, first, [key for key in filters if key in present],
        max(len(rows) - MOST_LISTED, 0),
    )  # fmt: skip


def enriched(row: Row) -> dict[str, Any]:
    """Add to a row what tables show and files leave to the reader."""
    found = dict(row)
    found["shape"] = f"{row['rows']} × {row['cols']}"
    found["parameters"] = row["rows"] * row["cols"]
    details = [item for item in row.get("intruder_detail") or () if item["max_cos"] is not None]
    if details:
        worst = min(details, key=lambda item: item["max_cos"])
        found |= {
            "worst_cos": worst["max_cos"],
            "worst_at": worst["index"],
            "worst_energy": worst["energy"],
        }
    return found


def order_of(document: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """Return what a result's rows are ordered by."""
    command, settings = document["command"], document["settings"]
    if command == "kappa":
        return ((str(settings.get("rank_by", "kappa")), False),)
    return ORDER.get(command, (("matrix", False),))


def sort_key(row: Row, order: Sequence[tuple[str, bool]]) -> list[Any]:
    """Return a key that puts rows without numbers first, then the worst, equals as they were."""
    found: list[Any] = [row["status"] != "non-finite"]
    for key, highest in order:
        value = row.get(key)
        if value is None and row["status"] == "singular":
            value = float("inf")
        elif value is None and key == "kappa" and row["status"] == "outside":
            value = row.get("kappa_low")
        if isinstance(value, str):
            continue
        found += [value is None, -value if highest and value is not None else (value or 0)]
    return found


def _verdicts(row: Row) -> list[int] | None:
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
    """Return a column as JSON data."""
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
    """Say whether a value is a number."""
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
