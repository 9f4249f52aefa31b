"""What `spectra diff --trend` tells: a run's change, intruders and triplets, step by step."""

from collections.abc import Iterator
from typing import Any

from spectra.numbers import number, percent
from spectra.report import cells, shades
from spectra.report.kind import Document, Kind, Listing, Metric, Sheet, Worst
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, INDEX, NUMBER, TEXT, TEXTS, Items, Object
from spectra.report.table import Column
from spectra.text import printable

FOLLOWED = {
    "delta_relative": "change / base", "intruders": "intruders", "sorsa_delta_sigma": "Δσ, mean",
    "sorsa_delta_d": "ΔD by index", "matched_delta_d": "ΔD matched",
}  # fmt: skip
"""What is followed, and its name on a page."""

NUMBERS = dict.fromkeys((*FOLLOWED, "noise_delta_d", "noise_matched_d"), NUMBER.sometimes)
CHECKPOINT = Object({"model": TEXT, "step": INDEX.sometimes, "reading": TEXT, **NUMBERS})
"""One checkpoint, all matrices together."""

LINE = Object({
    "role": TEXT, "matrices": COUNT, **dict.fromkeys(NUMBERS, Items(NUMBER.nullable)),
})  # fmt: skip
"""How one role's numbers go over the checkpoints; of the role `all` those of all."""

COLUMNS = (
    Column("checkpoint", "left", flexible=True, key="model", cell=cells.of("model", printable)),
    Column("step", cell=cells.of("step")),
    Column("change", key="delta_relative", cell=cells.of("delta_relative", percent)),
    Column("intruders", cell=cells.of("intruders")),
    Column("sigma", optional=True, key="sorsa_delta_sigma", cell=cells.of("sorsa_delta_sigma")),
    Column("by index", key="sorsa_delta_d", cell=cells.of("sorsa_delta_d")),
    Column("matched", key="matched_delta_d", cell=cells.of("matched_delta_d")),
    Column("index noise", optional=True, key="noise_delta_d", cell=cells.of("noise_delta_d")),
    Column("matched noise", optional=True, key="noise_matched_d", cell=cells.of("noise_matched_d")),
)  # fmt: skip


def _table(document: Document) -> Listing:
    """Return a line a checkpoint."""
    told = document["summary"]["checkpoints"]
    keys = {column.key or column.title for column in COLUMNS}
    known = {key for key in keys if any(one.get(key) is not None for one in told)}
    columns = [one for one in COLUMNS if (one.key or one.title) in known]
    return Listing(columns, told, told, lambda one: "bad" if one.get("intruders") else "")


def _facts(document: Document, full: bool) -> list[str]:
    last = document["summary"]["checkpoints"][-1]
    return [f"the last one: {printable(str(last['reading']))}", *closing(document, full)]


def _chart(document: Document) -> dict[str, Any]:
    summary = document["summary"]
    steps = summary["steps"]
    return {
        "kind": "trend",
        "title": "Over the checkpoints, each role and all together",
        "steps": [cells.short(step) for step in steps],
        "metrics": [{"key": key, "title": title} for key, title in FOLLOWED.items()
                    if any(one.get(key) for one in summary["checkpoints"])],
        "roles": [
            {"role": printable(role["role"])}
            | {key: [cells.short(value) for value in role[key]][: len(steps)] for key in FOLLOWED}
            for role in summary["roles"]
        ],
    }  # fmt: skip


def _sheets(document: Document) -> list[Sheet]:
    return [Sheet("checkpoints", "Checkpoints, all matrices together",
                  document["summary"]["checkpoints"],
                  ("model", "step", *NUMBERS), ("step", False))]  # fmt: skip


def _worst(document: Document) -> Iterator[Worst]:
    """Yield where intruders came."""
    before = 0
    for one in document["summary"]["checkpoints"]:
        count = one.get("intruders") or 0
        if count > before:
            text = f"{number(count)} intruder dimensions, {number(before)} before"
            yield Worst("note", printable(str(one["model"])), text, opens=False)
        before = count


def _words(document: Document) -> Iterator[tuple[str, ...]]:
    if document["settings"].get("sorsa") is False:
        yield ("--no-sorsa",)


KIND = Kind(
    "diff_trend",
    "Fine-tuning over the run",
    order=(("intruders", True), ("delta_relative", True)),
    table=_table,
    card=lambda document, _: _table(document),
    facts=_facts,
    figures=lambda document: [("checkpoints", f"{len(document['summary']['checkpoints']):,}")],
    onward=lambda _: [[("--plot", "trend.png")]],
    visible=(
        "model", "step", "delta_relative", "delta_rank", "intruders", "sorsa_delta_d",
        "matched_delta_d",
    ),
    metrics=(
        Metric("intruders", "count", "high", shades.intruders, shades.OF_INTRUDERS),
        Metric("delta_relative", "linear"), Metric("matched_delta_d", "linear"),
        Metric("sorsa_delta_d", "linear"),
    ),
    charts=lambda document, _: [_chart(document)],
    sheets=_sheets, worst=_worst, words=_words,
    drawer="spectra.report.plots.course:draw_course",
    series=True,
    lead=("diff", "--trend"),
    options={
        "exact": False, "k": 10, "epsilon": 0.5, "side": "left", "full_spectrum": False,
        "frame": None, "dct_rank": None,
    },
    settings={"sorsa": FLAG.sometimes, "k": COUNT.sometimes, "methods": TEXTS.sometimes},
    summary={
        "steps": Items(NUMBER.unpublished), "by_step": FLAG,
        "checkpoints": Items(CHECKPOINT.unpublished, least=1),
        "roles": Items(LINE.unpublished), "matrices": COUNT, "non_finite": COUNT,
    },
)  # fmt: skip
