"""What `spectra diff` tells: what fine-tuning changed, and its intruder dimensions."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spectra.numbers import hundredths, number, percent, ranged
from spectra.report import cells, shades, tokens
from spectra.report.kind import (
    Document,
    Kind,
    Listing,
    Metric,
    RowDoc,
    Sheet,
    Step,
    Worst,
    broken,
    highest,
)
from spectra.report.ranking import enriched
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, INDEX, NUMBER, TEXT, Items, Object
from spectra.report.table import Column
from spectra.text import counted, listed, printable
from spectra.words import HEADWISE, MATRIX

SIDE = Object({"matrices": COUNT, "unpaired": COUNT})
MODULES = Object({"modules": COUNT, "unpaired": COUNT})
PART = Object({"share": NUMBER.nullable, "null": NUMBER.nullable, "matrices": COUNT})
FRAMES = Object({
    "parts": Object(rest=PART), "outside": NUMBER.nullable, "alone": COUNT, "undetermined": COUNT,
})  # fmt: skip
HEAD = Object({
    "module": TEXT, "layer": INDEX.nullable, "head": COUNT, "kv_head": COUNT, "delta_norm": NUMBER,
    **dict.fromkeys(("q", "k", "v", "o", "change", "change_v", "change_o"), NUMBER.nullable),
    "frame_diagonal": NUMBER.sometimes,
})  # fmt: skip
EDIT = Object({
    "flow": TEXT, "width": COUNT, "matrices": COUNT, "changed": COUNT, "ablated": COUNT,
    "kind": TEXT, "share": NUMBER, "share_low": NUMBER, "share_high": NUMBER,
    "null_low": NUMBER, "null_high": NUMBER, "error": NUMBER.nullable, "layers": Items(Object({
        "layer": INDEX.nullable, "changed": COUNT, "ablated": COUNT, "strength": NUMBER,
        "scale": NUMBER.nullable,
    })), "untouched_layers": TEXT, "untouched_experts": COUNT,
})  # fmt: skip
LIMIT = 20  # matrices with intruders shown without -v
PLOT = ("--plot", "intruders.png")
AT_LEAST = 3  # matrices shown where none has any


def _looked(document: Document) -> bool:
    """Say whether intruders were looked for."""
    return bool(document["settings"].get("intruders"))


def _details(row: RowDoc) -> Sequence[Mapping[str, Any]]:
    return row.get("intruder_detail") or ()


def _count(row: RowDoc) -> int:
    """Return how many intruders a row has, of both sides where both were judged."""
    return (row.get("intruders") or 0) + (row.get("intruders_right") or 0)


def _lowest(row: RowDoc) -> Mapping[str, Any]:
    """Return the verdict with the lowest cosine; empty where there is none."""
    return min(_details(row), key=lambda detail: detail["max_cos"], default={})


def _of_lowest(key: str, write: Callable[[Any], str] = number) -> cells.Cell:
    cell = cells.of(key, write)
    return cells.measured(lambda row: cell(_lowest(row)) if _details(row) else cells.NONE)


def _rank(row: RowDoc) -> str:
    """Write a rank; where it is a lower bound, what is known."""
    write = cells.of("delta_rank")
    return f">= {write(row)}" if row.get("delta_rank_status") == "at least" else write(row)


CHANGES = (
    cells.NAME, cells.ROLE, cells.SHAPE,
    Column("delta", cell=cells.of("delta_relative", percent)),
    Column("rank", cell=_rank),
    Column("stable", optional=True, cell=cells.of("delta_stable_rank")),
    Column("sigma max", optional=True, cell=cells.of("delta_sigma_max")),
)  # fmt: skip
INTRUDERS = (
    cells.NAME, cells.ROLE,
    Column("delta", optional=True, cell=cells.of("delta_relative", percent)),
    Column("rank", optional=True, cell=_rank),
    Column("intruders", cell=cells.of("intruders")),
    Column("|cos|", cell=_of_lowest("max_cos")),
    Column("at", cell=_of_lowest("index")),
    Column("energy", optional=True, key="worst_energy", cell=_of_lowest("energy", percent)),
    Column("proof", "left", optional=True, key="decided_by",
           cell=_of_lowest("decided_by", printable)),
)  # fmt: skip
FRAME = tuple(
    Column(title, key=key, optional=key != "frame_diagonal", cell=cells.of(key, percent))
    for title, key in (
        ("diagonal", "frame_diagonal"), ("top", "frame_top"), ("tail", "frame_tail"),
        ("by chance", "frame_diagonal_null"),
    )
)  # fmt: skip
WAVES = tuple(
    Column(title, key=key, cell=cells.of(key, percent))
    for title, key in (
        ("cosines", "delta_dct_energy"), ("by chance", "delta_dct_null"),
        ("of best", "delta_dct_ratio"),
    )
)  # fmt: skip
TOKENS = (
    *INTRUDERS[:2], *INTRUDERS[4:7],
    Column("intruder in tokens, and its best match", "left", wrapping=True,
           cell=tokens.matched, means="both ends of the first intruder, and of the base's"),
)  # fmt: skip
CARD = (
    cells.CODE, Column("change", cell=cells.of("delta_relative", percent)),
    Column("rank", cell=_rank),
    Column("intruders", cell=cells.of("intruders")),
    Column("lowest cosine", cell=cells.of("worst_cos")),
)  # fmt: skip


RIGHT = (
    Column("inputs", key="intruders_right", cell=cells.of("intruders_right")),
    Column("|cos| in", key="worst_cos_right", cell=cells.measured(lambda row: cells.of(
        "worst_cos_right")(enriched(row)))),
)  # fmt: skip
HEADS = (
    Column("module", "left", flexible=True, key="head_module", cell=cells.of("module", printable)),
    Column("layer", cell=cells.of("layer")), Column("head", cell=cells.of("head")),
    Column("kv", key="kv_head", cell=cells.of("kv_head")),
    Column("change", key="head_change", cell=cells.of("change")),
    *(Column(part, key=f"head_{part}", cell=cells.of(part, percent)) for part in "qkvo"),
)  # fmt: skip


def _heads(document: Document) -> Listing:
    """Return the heads of attention, those first of which most changed."""
    framed = document["settings"].get("frame")
    diagonal = Column("diagonal", key="frame_diagonal", cell=cells.of("frame_diagonal", percent))
    columns = (*HEADS, diagonal) if framed else HEADS
    heads = document["summary"]["heads"]
    return Listing(columns, heads, heads[:LIMIT], mark=lambda _: "")


def _table(document: Document) -> Listing:
    """Return the largest changes first; of intruders those who hold most, lowest cosines first."""
    if document["summary"].get("heads") and not _looked(document):
        return _heads(document)
    changed = [row for row in document["rows"] if row.get("delta_norm") != 0.0]
    if not _looked(document):
        changed.sort(key=lambda row: -(row.get("delta_relative") or 0.0))
        settings = document["settings"]
        columns = (*CHANGES[:5], *FRAME) if settings.get("frame") else CHANGES
        if settings.get("dct_rank"):
            columns = (*columns[:5], *WAVES, *columns[5:])
        return Listing(columns, changed)
    changed.sort(key=lambda row: (-_count(row), _lowest(row).get("max_cos", 2.0)))
    holders = [row for row in changed if _count(row) or row["status"] != "ok"]
    columns = (*INTRUDERS[:6], *FRAME[:1]) if document["settings"].get("frame") else INTRUDERS
    if document["settings"].get("side") == "both":
        columns = (*columns[:7], *RIGHT, *columns[7:])
    if document["summary"].get("tokens"):
        columns = TOKENS
    return Listing(
        columns,
        changed,
        holders[:LIMIT] or changed[:AT_LEAST],
        mark=lambda row: "bad" if _count(row) else broken(row),
        of_rest=_of_rest,
    )


def _of_rest(hidden: Sequence[RowDoc]) -> str:
    return "" if any(map(_count, hidden)) else ", none with intruders"


def _facts(document: Document, full: bool) -> list[str]:
    asked = document["rows"] if _looked(document) else ()
    kinds = Counter(
        detail["decided_by"]
        for row in asked
        for detail in (*_details(row), *(row.get("intruder_detail_right") or ()))
    )
    how = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
    proven = "Not all" if any(row.get("certified") is False for row in asked) else "All"
    told = [f"{proven} {kinds.total():,} verdicts proven ({how})."] if kinds else []
    told += [*_trainable(document), *(_common(document) if full else ())]
    same = [row for row in document["rows"] if row.get("delta_norm") == 0.0]
    told += [f"{_counted(same)} unchanged"] if same else []
    return [*tokens.facts(document["summary"]), *closing(document, full, told)]


def _counted(rows: Sequence[RowDoc]) -> str:
    """Count rows, those of heads apart."""
    heads = sum(row.get("head") is not None for row in rows)
    if not heads:
        return f"{len(rows):,}"
    whole = [counted(len(rows) - heads, *MATRIX)] if len(rows) > heads else []
    return listed([*whole, counted(heads, "head")])


def _trainable(document: Document) -> list[str]:
    """Say how much of the change those could train who train singular values."""
    parts = (document["summary"].get("frame") or {}).get("parts", {})
    told = [
        f"{name} {percent(parts[part]['share'])} ({percent(parts[part]['null'])})"
        for name, part in (("CLIP-SVD", "diagonal"), ("SVFit", "svfit"), ("SALT", "salt"))
        if parts.get(part, {}).get("share") is not None
    ]
    return [f"Could train of it (of a random change): {', '.join(told)}."] if told else []


STREAM = {"writes": "writes to", "reads": "reads from"}


def _common(document: Document) -> list[str]:
    """Say what one direction of the residual stream holds of the change, beside chance."""
    return [
        f"One direction holds {percent(edit['share'])} of the change of what "
        f"{STREAM[edit['flow']]} the residual stream ("
        f"{ranged(edit['null_low'], edit['null_high'], percent)} by chance)."
        for edit in document["summary"].get("directions") or ()
        if not edit["kind"]
    ]


def _sheets(document: Document) -> Sequence[Sheet]:
    """Return how strong directions that were recognised are, layer by layer, and heads."""
    rows = [
        {"flow": edit["flow"], **layer}
        for edit in document["summary"].get("directions") or ()
        if edit["kind"]
        for layer in edit["layers"]
    ]
    keys = ("flow", "layer", "changed", "ablated", "strength", "scale")
    caption = "One direction of the residual stream, by layer"
    found = [Sheet("directions", caption, rows, keys, ("layer", False))] if rows else []
    heads = [
        {"head_module": head["module"], "head_change": head["change"],
         **{f"head_{part}": head[part] for part in "qkvo"},
         **{key: head.get(key) for key in ("layer", "head", "kv_head", "frame_diagonal")}}
        for head in document["summary"].get("heads") or ()
    ]  # fmt: skip
    if heads:
        shown = ("head_module", "layer", "head", "kv_head", "head_change",
                *(f"head_{part}" for part in "qkvo"), "frame_diagonal")  # fmt: skip
        found.append(Sheet("heads", "Heads of attention", heads, shown, ("head_change", True)))
    return found


def _card(document: Document, ranked: Sequence[RowDoc]) -> Listing:
    key = "intruders" if _looked(document) else "delta_norm"
    return Listing(CARD, [row for row in ranked if row.get(key)])


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    found = [("changed", f"{summary['changed']:,}")]
    if document["settings"].get("per_head"):  # beside the number of rows, of matrices and heads
        found = [("changed matrices", f"{summary['changed']:,}")]
    if summary.get("intruders_right") is not None:
        found.append(("intruders, inputs", f"{summary['intruders_right']:,}"))
    if summary.get("intruders") is not None:
        return [*found, ("intruders", f"{summary['intruders']:,}")]
    return found + cells.highest(document["rows"], "delta_relative", "largest change", percent)


def _charts(document: Document, table: str) -> list[dict[str, Any]]:
    """Return what marks an intruder, and what chance would score."""
    settings = document["settings"]
    if not _looked(document) or not any(map(_details, document["rows"])):
        return []
    nulls = [
        row["null_cos"]
        for row in document["rows"]
        if row.get("null_cos") is not None and row.get("delta_norm")
    ]
    epsilon = settings.get("epsilon")
    return [{
        "kind": "intruders",
        "table": table,
        "epsilon": 0.5 if epsilon is None else cells.short(epsilon),
        "side": "right" if settings.get("side") == "right" else "left",
        "chance": ranged(min(nulls), max(nulls), hundredths) if nulls else None,
    }]  # fmt: skip


def _worst(document: Document) -> Iterator[Worst]:
    """Yield matrices with intruders; of a change without, where it is largest."""
    rows = [enriched(row) for row in document["rows"]]
    holders = [row for row in rows if _count(row)]
    for row in sorted(holders, key=lambda row: (-_count(row), row.get("worst_cos", 2.0))):
        what = counted(_count(row), "intruder dimension")
        if row.get("intruders_right"):
            what += f" ({row['intruders_right']} by inputs)"
        if "worst_cos" in row:
            what += f", lowest |cos| {number(row['worst_cos'])}"
        yield Worst("warning", row["matrix"], what, about="intruders")
    for row in rows:
        if row.get("delta_note"):
            yield Worst("warning", row["matrix"], row["delta_note"], about="delta_relative")
    for moved in [] if holders else highest(rows, "delta_relative"):
        text = f"changed by {percent(moved['delta_relative'])} of its norm"
        yield Worst("note", moved["matrix"], text, about="delta_relative")


def _onward(document: Document) -> Sequence[Step]:
    """Say what to look at next; of two that are equal there is nothing to see."""
    return [[("--intruders",)], [PLOT]] if document["summary"]["changed"] else []


def _after(document: Document) -> Iterator[Sequence[str]]:
    """Yield the check of what was trained against what it was trained from."""
    specs = {model["part"]: str(model["spec"]) for model in document["models"]}
    if {"base", "tuned"} <= specs.keys():
        tuned = ["--", specs["tuned"]] if specs["tuned"].startswith("-") else [specs["tuned"]]
        yield ["check", "--base", specs["base"], *tuned]


KIND = Kind(
    "diff",
    "What fine-tuning changed",
    rows=lambda document: HEADWISE if document["settings"].get("per_head") else MATRIX,
    order=(("intruders", True), ("worst_cos", False), ("delta_relative", True)),
    table=_table, card=_card, facts=_facts, figures=_figures,
    onward=_onward, after=_after,
    visible=(
        "delta_relative", "delta_rank", "intruders", "worst_cos", "worst_at", "worst_energy",
        "intruders_right", "worst_cos_right", "frame_diagonal", "delta_dct_energy",
        "delta_dct_ratio",
    ),
    metrics=(
        Metric("intruders", "count", "high", shades.intruders, shades.OF_INTRUDERS),
        Metric("worst_cos", "linear", "low", shades.foreignness, shades.OF_COSINE),
        Metric("delta_relative", "linear"), Metric("delta_rank", "count"),
    ),
    charts=_charts, sheets=_sheets, worst=_worst,
    drawer="spectra.report.plots.diff:draw_diff",
    options={
        "intruders": False, "exact": False, "k": 10, "epsilon": 0.5, "side": "left",
        "full_spectrum": False, "frame": None, "dct_rank": None, "per_head": False,
        "tokens": False,
    },
    settings={
        "intruders": FLAG, "epsilon": NUMBER.sometimes, "side": TEXT.sometimes,
        "k": COUNT.sometimes, "frame": TEXT.sometimes, "per_head": FLAG.sometimes,
        "dct_rank": COUNT.sometimes, "method": TEXT.sometimes,
    },
    summary={
        "matrices": COUNT.older, "changed": COUNT, "non_finite": COUNT.older,
        "unpaired": Object({"base": SIDE, "tuned": SIDE, "adapter": MODULES.sometimes}).older,
        "intruders": COUNT.sometimes.unpublished, "certified": FLAG.sometimes.unpublished,
        "intruders_right": COUNT.sometimes.unpublished,
        "frame": FRAMES.sometimes, "directions": Items(EDIT).sometimes,
        "heads": Items(HEAD).sometimes, "tokens": tokens.ABOUT.sometimes,
    },
)  # fmt: skip
