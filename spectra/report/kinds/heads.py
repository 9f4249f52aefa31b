"""What `spectra heads` tells: heads of attention, those that copy most first."""

from collections.abc import Iterator, Sequence
from functools import partial

from spectra.analyzers.heads_reading import COPIES, dead_parts, naming
from spectra.numbers import hundredths, number, percent
from spectra.report import cells, tokens
from spectra.report.kind import EACH, Document, Kind, Listing, Metric, RowDoc, Sheet, Worst, highest
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, Items, Object, Words
from spectra.report.table import Column, Mark
from spectra.text import counted, printable
from spectra.words import UNMEASURED


def _nearest(row: RowDoc) -> str:
    if row.get("nearest") is None or row.get("nearest_cosine") is None:
        return cells.NONE
    return f"{row['nearest']} ({hundredths(row['nearest_cosine'])})"


COLUMNS = (
    cells.NAME,
    Column("kv", optional=True, key="kv_head", cell=cells.of("kv_head")),
    Column("OV max", key="ov_sigma_max", cell=cells.of("ov_sigma_max")),
    Column("OV rank", key="ov_effective_rank", cell=cells.of("ov_effective_rank")),
    Column("QK max", key="qk_sigma_max", cell=cells.of("qk_sigma_max")),
    Column("QK rank", key="qk_effective_rank", cell=cells.of("qk_effective_rank")),
    Column("logit up to", optional=True, key="logit_bound", cell=cells.of("logit_bound")),
    Column("copying", key="copying", cell=cells.of("copying", hundredths)),
    Column("nearest", optional=True, cell=_nearest),
    Column("dead", "left", optional=True, cell=cells.of("dead", printable)),
)  # fmt: skip
TOKENS = (
    cells.NAME,
    Column("copying", key="copying", optional=True, cell=cells.of("copying", hundredths)),
    Column("tokens", key="copying_tokens", cell=cells.of("copying_tokens", hundredths)),
    Column("what OV reads → writes", "left", wrapping=True, cell=tokens.through("ov"),
           means="the strongest component of OV, both ends; the first end goes with the first"),
)  # fmt: skip
CARD = (
    cells.CODE,
    Column("OV σ max", cell=cells.of("ov_sigma_max")),
    Column("QK σ max", cell=cells.of("qk_sigma_max")),
    Column("copying", cell=cells.of("copying", hundredths)),
)


def _ranked(document: Document) -> list[RowDoc]:
    """Return heads without numbers first, then dead ones and twins, then those that copy most."""
    return sorted(document["rows"], key=_rank)


def _rank(row: RowDoc) -> tuple[bool, bool, bool, float]:
    copies = row.get("copying")
    return (
        row["status"] not in UNMEASURED, not row.get("dead"), row.get("twin") is None,
        float("inf") if copies is None else -copies,
    )  # fmt: skip


def _mark(row: RowDoc) -> Mark:
    return "bad" if row["status"] in UNMEASURED or row.get("dead") else ""


def _component(pair: RowDoc) -> str:
    found = pair["components"]
    return f"{found[0]['index']} ({percent(found[0]['share'])})" if found else cells.NONE


PAIRS = (
    Column("by", "left", key="reads_by", cell=lambda pair: str(pair["kind"]).upper()),
    Column("score", key="composition_score", cell=cells.of("score", partial(number, digits=3))),
    Column("by chance", key="composition_null", cell=cells.of("null", partial(number, digits=3))),
    Column("component", key="component", cell=_component),
)  # fmt: skip
SIDE = Object({"kind": Words(("q", "k", "v")), "writer": TEXT, "reader": TEXT,
               **dict.fromkeys(("writer_layer", "reader_layer"), COUNT)})  # fmt: skip
COMPOSITION = Object({
    "pairs": COUNT, "exact": FLAG, "checked": COUNT, "complete": FLAG, "error": NUMBER,
    "strongest": Items(Object({
        **SIDE.keys, "writer_head": COUNT, "reader_head": COUNT,
        **dict.fromkeys(("score", "null", "over"), NUMBER),
        "components": Items(Object({"index": COUNT, "sigma": NUMBER, "score": NUMBER,
                                    "share": NUMBER})),
    })),
    "layers": Items(Object({**SIDE.keys, **dict.fromkeys(("highest", "mean", "null"), NUMBER)})),
})  # fmt: skip
"""Which heads read what earlier ones write."""


def _pairs(document: Document) -> Sequence[RowDoc]:
    found: Sequence[RowDoc] = (document["summary"].get("composition") or {}).get("strongest", ())
    return found


def _sides(document: Document) -> list[Column]:
    """Return the columns of both heads: layer and number, and their stack where there are more."""
    told = document["summary"]["composition"]["layers"]
    named = naming(one[side] for one in told for side in ("writer", "reader"))

    def head(pair: RowDoc, side: str) -> str:
        return printable(named(pair[side], pair[f"{side}_layer"], pair[f"{side}_head"]))

    return [Column(side, "left", cell=partial(head, side=side)) for side in ("writer", "reader")]


def _table(document: Document) -> Listing:
    pairs = _pairs(document)
    if pairs:
        return Listing([*_sides(document), *PAIRS], pairs, mark=lambda _: "")
    columns: Sequence[Column] = TOKENS if document["summary"].get("tokens") else COLUMNS
    for key, title in (("dead", "dead"), ("logit_bound", "logit up to"), ("kv_head", "kv")):
        lacks = all(row.get(key) in {None, row.get("head") if key == "kv_head" else None}
                    for row in document["rows"])  # fmt: skip
        if lacks:
            columns = [one for one in columns if one.title != title]
    return Listing(columns, _ranked(document), mark=_mark)


def _facts(document: Document, full: bool) -> list[str]:
    folded = sorted({str(row["folded"]) for row in document["rows"] if row.get("folded")})
    told = [f"norms in the numbers: {'; '.join(map(printable, folded))}"] if folded else []
    turning = [row for row in document["rows"] if row.get("turning")]
    if turning:
        told.append(
            "QK is that of equal positions; qk_unturned is what no rotation changes of its norm"
        )
    tied = document["summary"]["tied"]
    if tied:
        have = counted(tied, "head has", "heads have")
        told.append(f"tied: {have} singular values that coincide, whose vectors are not determined")
    told += tokens.facts(document["summary"])
    return [*_estimated(document), *told, *closing(document, full)]


def _estimated(document: Document) -> list[str]:
    """Say how the scores of pairs are known."""
    found = document["summary"].get("composition")
    if not found or not found["pairs"]:
        return []
    told = ["component: the singular direction of the writer that carries most, and its share"]
    if any(row.get("turning") for row in document["rows"]):
        told.append("Q and K as they are at equal positions")
    if not found["exact"]:
        sure = "" if found["complete"] else ", as many as there was room for"
        told.append(
            f"{found['pairs']:,} scores estimated to {percent(found['error'])}; the "
            f"{found['checked']:,} that may be strongest computed exactly{sure}"
        )
    return told


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    return [
        ("modules", number(summary["modules"])), ("dead", number(summary["dead"])),
        ("alike", number(summary["twins"])),
        *cells.highest(document["rows"], "logit_bound", "logit up to"),
    ]  # fmt: skip


def _sheets(document: Document) -> list[Sheet]:
    pairs = [
        {"writer": pair["writer"], "reader": pair["reader"], "reads_by": pair["kind"].upper(),
         "composition_score": pair["score"], "composition_null": pair["null"],
         "times_chance": pair["over"],
         "component": pair["components"][0]["index"] if pair["components"] else None,
         "component_share": pair["components"][0]["share"] if pair["components"] else None}
        for pair in _pairs(document)
    ]  # fmt: skip
    keys = ("writer", "reader", "reads_by", "composition_score", "composition_null",
            "times_chance", "component", "component_share")  # fmt: skip
    return [Sheet("pairs", "Pairs of heads", pairs, keys, ("composition_score", True))] \
        if pairs else []  # fmt: skip


def _worst(document: Document) -> Iterator[Worst]:
    """Yield dead heads and twins, and those that copy most."""
    rows = document["rows"]
    for row in [row for row in rows if row.get("dead")][:EACH]:
        verb = "are" if " and " in row["dead"] else "is"
        text = f"dead: {dead_parts(row['dead'])} {verb} 0, or a thousandth of the others'"
        yield Worst("warning", row["matrix"], text, about="head")
    for row in [row for row in rows if row.get("twin") is not None][:EACH]:
        same = "as" if row["nearest_cosine"] > 0.0 else "the opposite of"
        text = f"OV {same} head {row['twin']}: cosine {hundredths(row['nearest_cosine'])}"
        yield Worst("note", row["matrix"], text, about="head")
    live = [row for row in rows if not row.get("dead") and (row.get("copying") or 0.0) >= COPIES]
    for row in highest(live, "copying"):
        yield Worst("note", row["matrix"], f"copies: {hundredths(row['copying'])}", about="copying")


KIND = Kind(
    "heads",
    "Heads of attention",
    row=("head", "heads"), task=("module of attention", "modules of attention"),
    order=(("copying", True),),
    table=_table,
    card=lambda document, _: Listing(CARD, _ranked(document)),
    facts=_facts, figures=_figures, worst=_worst,
    visible=(
        "head", "kv_head", "ov_sigma_max", "ov_effective_rank", "qk_sigma_max",
        "qk_effective_rank", "logit_bound", "copying", "copying_tokens", "nearest",
        "nearest_cosine",
    ),
    grid="head",
    metrics=(
        Metric("copying", "signed"), Metric("copying_tokens", "signed"),
        Metric("ov_sigma_max", "log"),
        Metric("ov_effective_rank", "linear"), Metric("qk_sigma_max", "log"),
        Metric("qk_effective_rank", "linear"),
        Metric("logit_bound", "log"), Metric("nearest_cosine", "signed"),
    ),
    onward=lambda _: [[("--plot", "heads.png")]],
    drawer="spectra.report.plots.heads:draw_heads",
    options={"compose": False, "strongest": 20, "fold": True, "tokens": False},
    sheets=_sheets,
    summary={
        **dict.fromkeys(("heads", "modules", "dead", "twins", "tied", "unknown"), COUNT),
        "composition": COMPOSITION.sometimes, "tokens": tokens.ABOUT.sometimes,
    },
)  # fmt: skip
