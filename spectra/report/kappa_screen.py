"""The table of condition numbers: lowest first, and where the selection cuts."""

from collections.abc import Sequence

from spectra.analyzers import Row
from spectra.analyzers.choice import WORDS, rank_key, span
from spectra.report.table import Column, Line, Screen
from spectra.text import printable
from spectra.words import ROLES, RankBy
from spectra.work import Result

LIMIT = 20  # rows shown without -v where nothing is selected
AFTER_CUT = 3  # rows shown below a selection's cut
AFTER_EACH = 1  # and below each role's own
MARK = "* "  # before a kappa that the stored dtype does not resolve


def kappa_table(result: Result, *, full: bool) -> tuple[Screen, int]:
    """Return the table with its rule and facts, and how many rows it leaves out."""
    by_role = selects_by_role(result)
    ranked = by_roles(result) if by_role else ranking(result)
    shown = ranked if full else around_each_cut(ranked) if by_role else _around_cut(ranked)
    columns = [
        Column("kappa"), Column("excess"), Column("matrix", "left", flexible=True),
        Column("role", "left", optional=True), Column("shape", optional=True),
        Column("parameters", optional=True), *([Column("selected", "left")] if by_role else []),
    ]  # fmt: skip
    cut, selected = result.summary["cut"], len(result.summary["selected"])
    ruled = bool(selected) and not by_role
    screen = Screen(
        reading="",
        columns=columns,
        lines=[_line(row, marked=by_role) for row in shown],
        rule_after=selected if ruled else None,
        rule=(f"cut at {cut:.4g}" if cut is not None else "cut") if ruled else "",
        facts=unresolved_told(ranked),
    )
    return screen, len(ranked) - len(shown)


def selects_by_role(result: Result) -> bool:
    """Say whether each role has a cut of its own."""
    return result.settings["per"] == "role" and bool(result.summary["selected"])


def options_again(result: Result) -> str:
    """Return the options that a next command repeats, and a share to select."""
    settings = result.settings
    words = [
        f"--{option} {settings[option.replace('-', '_')]}"
        for option, known in WORDS.items()
        if settings[option.replace("-", "_")] != known[0]
    ]
    words += ["--include-embeddings"] if settings["include_embeddings"] else []
    return " ".join([*words, f"--select {settings['select'] or '10%'}"])


def ranking(result: Result) -> list[Row]:
    """Return the rows as they were ranked, those without numbers last."""
    rank_by: RankBy = result.settings["rank_by"]
    return sorted(result.rows, key=lambda row: (row.status == "non-finite", rank_key(row, rank_by)))


def by_roles(result: Result) -> list[Row]:
    """Return the ranked rows role by role."""
    return sorted(ranking(result), key=lambda row: ROLES.index(row.view.role.kind))


def _around_cut(ranked: Sequence[Row]) -> list[Row]:
    """Return what is selected, and a few after it."""
    selected = sum(is_selected(row) for row in ranked)
    return list(ranked[: selected + AFTER_CUT if selected else LIMIT])


def around_each_cut(ranked: Sequence[Row]) -> list[Row]:
    """Return what is selected in each role, and the next of it."""
    shown: list[Row] = []
    left: dict[str, int] = {}
    for row in ranked:
        kind = row.view.role.kind
        if not is_selected(row):
            left[kind] = left.get(kind, 0) + 1
        if is_selected(row) or left[kind] <= AFTER_EACH:
            shown.append(row)
    return shown


def _line(row: Row, *, marked: bool) -> Line:
    """Write one matrix."""
    view = row.view
    if row.status == "non-finite":
        kappa = excess = "—"
    elif row.status == "outside":
        kappa, excess = (f"> {span(row, key).low:.4g}" for key in ("kappa", "kappa_excess"))
    elif row.status == "singular":
        kappa, excess = "singular", "—"
    else:
        kappa, excess = f"{row.number('kappa'):.4g}", f"{row.number('kappa_excess'):.3g}"
    mark = MARK if is_unresolved(row) else ""
    cells = [
        mark + kappa, excess, printable(row.matrix), view.role.kind,
        f"{view.rows} x {view.cols}", f"{view.rows * view.cols:,}",
        *(["yes" if is_selected(row) else ""] if marked else []),
    ]  # fmt: skip
    return Line(cells, "bad" if row.status == "non-finite" else "good" if is_selected(row) else "")


def unresolved_told(rows: Sequence[Row]) -> list[str]:
    """Say what the mark before a kappa means, where there is one."""
    found = [row for row in rows if is_unresolved(row)]
    if not found:
        return []
    dtypes = " and ".join(sorted({printable(row.view.entry.dtype) for row in found}))
    what = "1 kappa measures" if len(found) == 1 else f"{len(found):,} kappas measure"
    return [f"{MARK}{what} the rounding of {dtypes}, not the model: sigma_min lies below it."]


def is_unresolved(row: Row) -> bool:
    """Say whether a kappa measures what storing the matrix rounded off."""
    return row.values.get("kappa_resolved") is False and row.status == "ok"


def is_selected(row: Row) -> bool:
    """Say whether the selection took it."""
    return row.values.get("selected") is True
