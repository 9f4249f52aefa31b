"""What `spectra spectrum --trend` tells: a run's spectra, checkpoint by checkpoint."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spectra.numbers import grown, number
from spectra.report import cells, shades
from spectra.report.kind import EACH, Document, Kind, Listing, Metric, Worst
from spectra.report.shape import COUNT, NUMBER, TEXT, Items, Object
from spectra.report.table import Column
from spectra.text import printable

RUN = Object({
    "role": TEXT, "matrices": COUNT,
    **dict.fromkeys(("sigma_max", "stable_rank", "kappa"), Items(NUMBER.nullable)),
})  # fmt: skip
"""How one role's numbers go over the steps of a run."""

FOLLOWED = {
    "sigma_max": ("sigma max", "σ max"), "stable_rank": ("stable", "stable rank"),
    "kappa": ("kappa", "κ"),
}  # fmt: skip
"""What is followed, and its name on a screen and on a page."""


def _ends(key: str, write: Callable[[float, float], str]) -> cells.Cell:
    """Write something of a role's first and last value."""

    def cell(role: Mapping[str, Any]) -> str:
        known = [value for value in role[key] if value is not None]
        return write(known[0], known[-1]) if known else cells.NONE

    return cell


def _change(first: float, last: float) -> str:
    return grown(last / first) if first and last else cells.NONE


COLUMNS = [
    Column("role", "left", flexible=True, cell=cells.of("role", printable)),
    Column("matrices", cell=cells.of("matrices")),
]
CARD = [Column("role", "left", cell=cells.of("role", str))]
for key, (title, name) in FOLLOWED.items():
    COLUMNS += [
        Column(title, cell=_ends(key, lambda first, _: number(first))),
        Column(
            "last", means="the same at the last step", cell=_ends(key, lambda _, last: number(last))
        ),
        Column("change", means="from the first step to the last", cell=_ends(key, _change)),
    ]
    CARD.append(
        Column(name, cell=_ends(key, lambda first, last: f"{number(first)} → {number(last)}"))
    )


def _chart(document: Document) -> dict[str, Any]:
    steps = document["summary"]["steps"]
    return {
        "kind": "trend",
        "steps": [cells.short(step) for step in steps],
        "metrics": [{"key": key, "title": title} for key, (_, title) in FOLLOWED.items()],
        "roles": [
            {"role": printable(role["role"])}
            | {key: [cells.short(value) for value in role[key]][: len(steps)] for key in FOLLOWED}
            for role in document["summary"]["roles"]
        ],
    }


def _worst(document: Document) -> Iterator[Worst]:
    """Yield the roles whose condition number grew most."""
    found = []
    for role in document["summary"]["roles"]:
        known = [value for value in role["kappa"] if value]
        if len(known) > 1 and known[-1] > known[0]:
            found.append((known[-1] / known[0], role["role"]))
    for times, role in sorted(found, reverse=True)[:EACH]:
        yield Worst("note", role, f"κ grew {number(times)}-fold over the run", opens=False)


def _of_roles(columns: list[Column], document: Document) -> Listing:
    roles = document["summary"]["roles"]
    return Listing(columns, roles, roles, lambda _: "")


KIND = Kind(
    "trend",
    "Spectra over the run",
    order=(("kappa", True),),
    table=lambda document: _of_roles(COLUMNS, document),
    card=lambda document, _: _of_roles(CARD, document),
    figures=lambda document: [("checkpoints", f"{len(document['summary']['steps']):,}")],
    onward=lambda _: [[("--plot", "trend.png")]],
    visible=("model", "step", "sigma_max", "stable_rank", "kappa"),
    metrics=(
        Metric("sigma_max", "log"), Metric("stable_rank", "log"),
        Metric("kappa", "log", "high", shades.conditioning, shades.OF_KAPPA),
    ),
    charts=lambda document, _: [_chart(document)],
    worst=_worst,
    drawer="spectra.report.plots.trend:draw_trend",
    series=True,
    lead=("spectrum", "--trend"),
    summary={
        "steps": Items(NUMBER.unpublished), "roles": Items(RUN.unpublished),
        "matrices": COUNT.older,
    },
)  # fmt: skip
