"""What `spectra shared` tells: groups of layers, those first that gain most by one basis."""

from collections.abc import Sequence
from functools import partial

from spectra.numbers import number, percent
from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, Metric, RowDoc
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, NUMBER, TEXT, Items, Object
from spectra.report.table import Column, Mark
from spectra.words import UNMEASURED

COLUMNS = (
    cells.NAME, cells.ROLE,
    Column("rank each", optional=True, key="single_rank", cell=cells.of("single_rank")),
    Column("each", key="single_energy", cell=cells.of("single_energy", percent)),
    Column("rank", optional=True, key="shared_rank", cell=cells.of("shared_rank")),
    Column("together", key="shared_energy", cell=cells.of("shared_energy", percent)),
    Column("by chance", optional=True, key="shared_null", cell=cells.of("shared_null", percent)),
    Column("sharing", key="sharing", cell=cells.of("sharing", percent)),
)  # fmt: skip


MEANT = (
    "each: of the energy, one basis a layer; together: one for all, of the rank that as many "
    "parameters allow; sharing: 0 by chance, 100 % one subspace for all"
)


def _ranked(document: Document) -> list[RowDoc]:
    return sorted(document["rows"], key=_rank)


def _rank(row: RowDoc) -> tuple[bool, str, float]:
    gain = row.get("shared_gain")
    return row["status"] not in UNMEASURED, str(row["role"]), -gain if gain is not None else 0.0


def _table(document: Document) -> Listing:
    chosen = {one["matrix"] for one in document["summary"]["proposal"]}
    return Listing(COLUMNS, _ranked(document), mark=partial(_mark, chosen))


def _mark(chosen: set[str], row: RowDoc) -> Mark:
    return "bad" if row["status"] in UNMEASURED else "good" if row["matrix"] in chosen else ""


def _facts(document: Document, full: bool) -> list[str]:
    return [MEANT, *closing(document, full)]


def _figures(document: Document) -> Sequence[tuple[str, str]]:
    summary = document["summary"]
    return [("proposed", number(len(summary["proposal"])))]


KIND = Kind(
    "shared",
    "Shared input subspaces",
    row=("group", "groups"),
    order=(("shared_gain", True),),
    table=_table, facts=_facts, figures=_figures,
    onward=lambda _: [[("--plot", "shared.png")]],
    drawer="spectra.report.plots.shared:draw_shared",
    card=lambda _, ranked: Listing((cells.CODE, *COLUMNS[3:]), ranked),
    visible=("single_energy", "shared_energy", "shared_gain", "shared_null", "sharing"),
    metrics=(Metric("sharing", "linear"), Metric("shared_energy", "linear")),
    parts=("model",),
    options={"group": "4", "rank": None, "seed": 0},
    settings={"group": TEXT, "rank": COUNT.sometimes, "seed": COUNT.sometimes},
    summary={
        "groups": COUNT, "non_finite": COUNT,
        "proposal": Items(Object({
            "matrix": TEXT, "role": TEXT, "layers": Items(COUNT), "shared_rank": COUNT,
            "shared_gain": NUMBER,
        })),
    },
)  # fmt: skip
