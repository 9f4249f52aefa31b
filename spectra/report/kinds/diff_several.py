"""What `spectra diff` tells of several fine-tunes of one base: how their changes lie together."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spectra.numbers import number, percent
from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, Metric, RowDoc, Sheet, Worst
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, TEXTS, Items, Object
from spectra.report.table import Column
from spectra.text import printable

UPDATE = Object({
    "model": TEXT, "delta_norm": NUMBER, "matrices": COUNT.sometimes, "changed": COUNT.sometimes,
    "changed_alone": COUNT, "reading": TEXT.sometimes, "merged_loss": NUMBER.sometimes,
    "intruders": COUNT.sometimes,
})  # fmt: skip
"""One model's change."""

PAIR = Object({
    "a": TEXT, "b": TEXT, "task_cosine": NUMBER.nullable, "cosine_chance": NUMBER.nullable,
    "cosine_base": NUMBER.sometimes, "cosine_rounding": NUMBER.sometimes, "likeness": TEXT,
})  # fmt: skip
"""What two models' changes have in common."""

WHOLE = "all matrices"
MOST = 3  # pairs that have a column of their own
LINES = 20  # pairs told under a table without -v
TOGETHER = ("sign_conflict", "sign_conflict_chance", "sign_conflict_weight", "energy_ratio",
            "merged_loss")  # fmt: skip
OF_PAIR = (
    "task_cosine", "cosine_chance", "cosine_base", "cosine_rounding", "overlap_left",
    "overlap_left_chance", "overlap_right", "overlap_right_chance", "overlap_status",
)  # fmt: skip
OF_UPDATE = ("delta_norm", "delta_relative", "delta_rank", "intruders", "merged_loss")


def _names(document: Document) -> list[str]:
    return [str(one["model"]) for one in document["summary"]["updates"]]


def _numbered(document: Document, pair: Mapping[str, Any]) -> str:
    """Name two models by their places, from 1."""
    names = _names(document)
    return "·".join(str(1 + names.index(pair[key])) for key in ("a", "b") if pair[key] in names)


def _of(pairs: Sequence[Mapping[str, Any]], a: str, b: str) -> Mapping[str, Any]:
    return next((one for one in pairs if (one["a"], one["b"]) == (a, b)), {})


def _whole(document: Document) -> dict[str, Any]:
    """Return the line of all matrices together."""
    summary = document["summary"]
    pairs = summary["pairs"]
    most = max(pairs, key=lambda one: abs(one["task_cosine"] or 0.0))
    return {
        "matrix": WHOLE, "role": "", "status": "ok", **{key: summary.get(key) for key in TOGETHER},
        **{key: most.get(key) for key in OF_PAIR}, "pairs": pairs, "updates": summary["updates"],
    }  # fmt: skip


def _cosine_of(row: RowDoc, a: str, b: str) -> str:
    return cells.of("task_cosine", _few)(_of(row.get("pairs") or (), a, b))


def _few(value: float) -> str:
    return number(value, 3)


def _loss_of(row: RowDoc, name: str) -> str:
    told = row.get("updates") or ()
    return cells.of("merged_loss", percent)(next((one for one in told if one["model"] == name), {}))


def _size_of(row: RowDoc, name: str) -> str:
    told = row.get("updates") or ()
    return cells.of("delta_relative", percent)(
        next((one for one in told if one["model"] == name), {})
    )


def _columns(document: Document) -> list[Column]:
    names = _names(document)
    pairs = list(itertools.combinations(names, 2))
    found = [cells.NAME, cells.ROLE]
    if len(pairs) <= MOST:
        for (i, a), (j, b) in itertools.combinations(enumerate(names, 1), 2):
            title = "cosine" if len(pairs) == 1 else f"cos {i}·{j}"
            found.append(Column(title, key="task_cosine", cell=partial(_cosine_of, a=a, b=b)))
    else:
        found += [
            Column("cosine", key="task_cosine", cell=cells.of("task_cosine", _few)),
            Column("of", "left", key="alike", cell=lambda row: _which(document, row)),
        ]  # fmt: skip
    found += [
        Column("chance", optional=True, key="cosine_chance", cell=cells.of("cosine_chance", _few)),
        Column("out", optional=True, key="overlap_left", cell=cells.of("overlap_left", _few)),
        Column("in", optional=True, key="overlap_right", cell=cells.of("overlap_right", _few)),
        Column("signs", key="sign_conflict", cell=cells.of("sign_conflict", percent)),
        Column("weight", optional=True, key="sign_conflict_weight",
               cell=cells.of("sign_conflict_weight", percent)),
        Column("energy", key="energy_ratio", cell=cells.of("energy_ratio", _few)),
    ]  # fmt: skip
    if document["settings"].get("merged_rank"):
        found.append(Column("loss", key="merged_loss", cell=cells.of("merged_loss", percent)))
        found += [
            Column(f"loss {place}", optional=True, key="merged_loss",
                   cell=partial(_loss_of, name=name))
            for place, name in enumerate(names, 1)
        ]  # fmt: skip
    found += [
        Column(f"delta {place}", optional=True, key="delta_relative",
               cell=partial(_size_of, name=name))
        for place, name in enumerate(names[:MOST], 1)
    ]  # fmt: skip
    return found


def _which(document: Document, row: RowDoc) -> str:
    pairs = row.get("pairs") or ()
    if not pairs:
        return cells.NONE
    return _numbered(document, max(pairs, key=lambda one: abs(one["task_cosine"] or 0.0)))


def _table(document: Document) -> Listing:
    """Return all matrices together, then each, those that are most alike or opposed first."""
    changed = [row for row in document["rows"] if row.get("changed_by") != 0]
    changed.sort(key=lambda row: -abs(row.get("task_cosine") or 0.0))
    return Listing(_columns(document), [_whole(document), *changed])


def _facts(document: Document, full: bool) -> list[str]:
    told = [
        f"{place} = {printable(str(one['model']))}: {printable(str(one.get('reading', '')))}"
        for place, one in enumerate(document["summary"]["updates"], 1)
    ]
    pairs = document["summary"]["pairs"]
    if len(pairs) > MOST:
        shown = sorted(pairs, key=lambda one: -abs(one["task_cosine"] or 0.0))
        shown = shown if full else shown[:LINES]
        each = [f"{_numbered(document, one)} {cells.of('task_cosine', _few)(one)}" for one in shown]
        more = f" ... {len(pairs) - len(shown):,} more" * (len(pairs) > len(shown))
        told.append(f"task cosines: {'   '.join(each)}{more}")
    return [*told, *closing(document, full)]


def _lines(document: Document) -> list[dict[str, Any]]:
    """Return a line a matrix and pair; of one that fewer change a line without a pair."""
    found = []
    for row in document["rows"]:
        own = {key: value for key, value in row.items()
               if key not in ("pairs", "updates", "alike", *OF_PAIR)}  # fmt: skip
        updates = {one["model"]: one for one in row.get("updates") or ()}
        for pair in row.get("pairs") or [{}]:
            line = {**own, "a": pair.get("a"), "b": pair.get("b")}
            line |= {key: pair.get(key) for key in OF_PAIR}
            for side in ("a", "b"):
                told = updates.get(pair.get(side), {})
                line |= {f"{key}_{side}": told.get(key) for key in OF_UPDATE}
            found.append(line)
    return found


def _sheets(document: Document) -> list[Sheet]:
    return [
        Sheet("pairs", "Pairs, all matrices together", document["summary"]["pairs"],
              ("a", "b", "task_cosine", "cosine_chance", "cosine_base", "cosine_rounding"),
              ("task_cosine", True)),
        Sheet("updates", "Changes, each for itself", document["summary"]["updates"],
              ("model", "delta_norm", "changed", "intruders", "merged_loss"), ("delta_norm", True)),
    ]  # fmt: skip


def _worst(document: Document) -> Iterator[Worst]:
    """Yield pairs that work against each other, as far as chance does not explain it."""
    for pair in document["summary"]["pairs"]:
        if pair["likeness"] in ("against", "opposite"):
            text = f"and {printable(str(pair['b']))}: task cosine {_few(pair['task_cosine'])}"
            yield Worst("note", printable(str(pair["a"])), text, opens=False)


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    known = [one["task_cosine"] for one in summary["pairs"] if one["task_cosine"] is not None]
    found = [("models", f"{len(summary['updates']):,}")]
    return found + ([("largest task cosine", _few(max(known, key=abs)))] if known else [])


KIND = Kind(
    "diff_several",
    "How fine-tunes lie together",
    order=(("task_cosine", True),),
    table=_table,
    card=lambda document, _: Listing(_columns(document), [_whole(document)]),
    facts=_facts, figures=_figures,
    onward=lambda document: [
        [("--merged-rank", "8")] if not document["settings"].get("merged_rank") else
        [("--plot", "together.png")],
        [("--plot", "together.png")],
    ],
    visible=(
        "task_cosine", "alike", "overlap_left", "overlap_right", "sign_conflict", "energy_ratio",
        "merged_loss",
    ),
    metrics=(
        Metric("task_cosine", "linear"), Metric("sign_conflict", "linear"),
        Metric("energy_ratio", "linear"), Metric("merged_loss", "linear"),
    ),
    sheets=_sheets, worst=_worst, lines=_lines,
    drawer="spectra.report.plots.together:draw_together",
    series=True,
    lead=("diff",),
    options={
        "intruders": False, "exact": False, "k": 10, "epsilon": 0.5, "side": "left",
        "full_spectrum": False, "merged_rank": None, "frame": None,
        "dct_rank": None,
    },
    settings={"intruders": FLAG.sometimes, "k": COUNT.sometimes, "merged_rank": COUNT.sometimes,
              "methods": TEXTS.sometimes},
    summary={
        "matrices": COUNT, "changed": COUNT, "non_finite": COUNT,
        "updates": Items(UPDATE.unpublished, least=1), "pairs": Items(PAIR.unpublished, least=1),
        "energy_ratio": NUMBER.nullable, "sign_conflict": NUMBER.nullable,
        "sign_conflict_chance": NUMBER.nullable, "sign_conflict_weight": NUMBER.nullable,
        "merged_loss": NUMBER.sometimes,
    },
)  # fmt: skip
