"""What `spectra match` tells: matrices of two models, those first that agree least."""

from collections.abc import Sequence

from spectra.numbers import hundredths, number, percent
from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, Metric, RowDoc
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, Object, Words
from spectra.report.table import Column, Mark
from spectra.text import counted, printable
from spectra.words import UNMEASURED

SIDE = Object({"matrices": COUNT, "unpaired": COUNT})
VERDICTS = (
    "nothing", "the same", "the same in part", "the same up to a permutation",
    "the same up to a factor", "the same up to a permutation and a factor", "related",
    "related up to a permutation", "related in part", "unrelated",
)  # fmt: skip
COLUMNS = (
    cells.NAME, cells.ROLE,
    Column("moved", optional=True, key="moved_share", cell=cells.of("moved_share", percent)),
    Column("cosine", optional=True, key="weighted_before",
           cell=cells.of("weighted_before", hundredths)),
    Column("after", key="weighted_after", cell=cells.of("weighted_after", hundredths)),
    Column("by chance", optional=True, key="weighted_null",
           cell=cells.of("weighted_null", hundredths)),
    Column("R", optional=True, key="r_before", cell=cells.of("r_before", hundredths)),
    Column("R after", key="r_after", cell=cells.of("r_after", hundredths)),
    Column("overlap", optional=True, key="overlap_after",
           cell=cells.of("overlap_after", hundredths)),
    Column("is", "left", key="relation", cell=cells.of("relation", printable)),
)  # fmt: skip
OF_ALL = ("r_before", "r_after")


def _columns(document: Document) -> Sequence[Column]:
    if document["settings"].get("all_directions"):
        return COLUMNS
    return [one for one in COLUMNS if one.key not in OF_ALL]


def _table(document: Document) -> Listing:
    rows = sorted(document["rows"], key=_rank)
    return Listing(_columns(document), rows, mark=_mark)


def _rank(row: RowDoc) -> tuple[bool, float]:
    after = row.get("weighted_after")
    return row["status"] not in UNMEASURED, -1.0 if after is None else after


def _mark(row: RowDoc) -> Mark:
    return "bad" if row["status"] in UNMEASURED else ""


MEANT = (
    "cosine: of the two matrices; after: with units and heads in the order that brings them closest"
)
OF_R = ", as is R, of singular vectors alone"


def _facts(document: Document, full: bool) -> list[str]:
    everything = document["settings"].get("all_directions")
    facts = [MEANT + OF_R * bool(everything)]
    close = sum(row.get("weighted_after") is not None and row.get("overlap_after") is None
                for row in document["rows"])  # fmt: skip
    if close and not everything:
        facts.append(
            f"no overlap is told of {counted(close, 'matrix', 'matrices')}, whose leading singular "
            "values lie too close: --all-directions tells it"
        )
    return [*facts, *closing(document, full)]


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    return [
        ("modules", number(summary["modules"])), ("same", number(summary["modules_same"])),
        ("related", number(summary["modules_related"])), ("moved", number(summary["permuted"])),
    ]  # fmt: skip


KIND = Kind(
    "match",
    "Two models up to a permutation",
    task=("module", "modules"),
    order=(("weighted_after", False),),
    table=_table, facts=_facts, figures=_figures,
    onward=lambda _: [[("--plot", "match.png")]],
    drawer="spectra.report.plots.match:draw_match",
    card=lambda _, ranked: Listing((cells.CODE, *COLUMNS[3:8]), ranked),
    visible=("relation", "moved_share", "weighted_before", "weighted_after", "weighted_null",
             "r_before", "r_after", "overlap_before", "overlap_after"),
    metrics=(Metric("weighted_after", "linear"), Metric("r_after", "linear"),
             Metric("moved_share", "linear")),
    options={"permutation": None, "gamma": 0.3, "k": 10, "all_directions": False, "seed": 0},
    settings={"permutation": TEXT.sometimes, "gamma": NUMBER, "k": COUNT, "all_directions": FLAG,
              "seed": COUNT},
    summary={
        "relation": Words(VERDICTS), "modules": COUNT, "modules_same": COUNT,
        "modules_related": COUNT, "modules_unrelated": COUNT, "permuted": COUNT,
        "matrices": COUNT, "non_finite": COUNT.sometimes,
        "vectors": Object({"both": COUNT, "differ": COUNT, "lone": COUNT,
                           "non_finite": COUNT}).sometimes,
        "unpaired": Object({"base": SIDE, "tuned": SIDE}).sometimes,
    },
)  # fmt: skip
