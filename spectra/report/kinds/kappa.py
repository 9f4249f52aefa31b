"""What `spectra kappa` tells: condition numbers lowest first, and where a selection cuts."""

from collections.abc import Sequence
from typing import get_args

from spectra.kernels.gaussian import kappa_null
from spectra.report.kinds.kind import Document, Kind, Metric, RowDoc
from spectra.report.shape import (
    COUNT,
    FLAG,
    NUMBER,
    TEXTS,
    Words,
    nullable,
    older,
    unpublished,
)  # fmt: skip
from spectra.text import printable
from spectra.words import ROLES, By, Per, RankBy

AFTER_EACH = 1  # rows shown below each role's cut
MARK = "* "  # before a kappa that the stored dtype does not resolve


def selects_by_role(document: Document) -> bool:
    """Say whether each role has a cut of its own."""
    return document["settings"]["per"] == "role" and bool(document["summary"]["selected"])


def known_to_exceed(row: RowDoc, rank_by: str) -> float:
    """Return what kappa, or its excess, is proven to lie above; infinity where singular."""
    scale = kappa_null(row["rows"], row["cols"]) if rank_by == "kappa_excess" else 1.0
    low = row.get("kappa_low")
    return float("inf") if low is None else low / scale


def ranking(document: Document) -> list[RowDoc]:
    """Return the rows as they were ranked, those without numbers last."""
    rank_by = document["settings"]["rank_by"]

    def key(row: RowDoc) -> tuple[bool, float, str]:
        found = row.get(rank_by)
        known = known_to_exceed(row, rank_by) if found is None else found
        return row["status"] == "non-finite", known, row["matrix"]

    return sorted(document["rows"], key=key)


def by_roles(document: Document) -> list[RowDoc]:
    """Return the ranked rows role by role."""
    return sorted(ranking(document), key=lambda row: ROLES.index(row["role"]))


def around_each_cut(ranked: Sequence[RowDoc]) -> list[RowDoc]:
    """Return what is selected in each role, and the next of it."""
    shown: list[RowDoc] = []
    left: dict[str, int] = {}
    for row in ranked:
        if not is_selected(row):
            left[row["role"]] = left.get(row["role"], 0) + 1
        if is_selected(row) or left[row["role"]] <= AFTER_EACH:
            shown.append(row)
    return shown


def unresolved_told(rows: Sequence[RowDoc]) -> list[str]:
    """Say what the mark before a kappa means, where there is one."""
    found = [row for row in rows if is_unresolved(row)]
    if not found:
        return []
    dtypes = " and ".join(sorted({printable(row["dtype"]) for row in found}))
    what = "1 kappa measures" if len(found) == 1 else f"{len(found):,} kappas measure"
    return [f"{MARK}{what} the rounding of {dtypes}, not the model: sigma_min lies below it."]


def is_unresolved(row: RowDoc) -> bool:
    """Say whether a kappa measures what storing the matrix rounded off."""
    return row.get("kappa_resolved") is False and row["status"] == "ok"


def is_selected(row: RowDoc) -> bool:
    """Say whether the selection took it."""
    return row.get("selected") is True


KIND = Kind(
    "kappa",
    "Condition numbers",
    order=lambda document: ((str(document["settings"].get("rank_by", "kappa")), False),),
    visible=("kappa", "kappa_excess", "selected", "parameters", "decided_by"),
    metrics=(Metric("kappa", "log"), Metric("kappa_excess", "log")),
    drawer="spectra.report.kappa_plots:draw_kappa",
    options={
        "include_embeddings": False, "exact": False, "select": None, "rank_by": "kappa",
        "by": "matrices", "per": "global",
    },
    settings={
        "rank_by": Words(get_args(RankBy)), "per": Words(get_args(Per)),
        "by": Words(get_args(By)), "include_embeddings": FLAG,
    },
    summary={
        "eligible": COUNT, "selected": TEXTS, "parameters_selected": older(COUNT),
        "outside": older(COUNT), "non_finite": older(COUNT), "cut": unpublished(nullable(NUMBER)),
    },
)  # fmt: skip
