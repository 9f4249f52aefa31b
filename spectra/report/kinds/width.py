"""What `spectra width` tells: how singular values scale with width, role by role."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spectra.numbers import number, signed
from spectra.report import cells
from spectra.report.kind import EACH, Document, Kind, Listing, Metric, Sheet, Worst
from spectra.report.sentences import closing
from spectra.report.shape import FLAG, NUMBER, TEXT, Items, Object
from spectra.report.table import Column
from spectra.text import printable

SLOPE = Object({
    "role": TEXT, "counted": FLAG, "sigma": Object(rest=NUMBER.nullable),
    **dict.fromkeys(("slope", "low", "high", "ratio"), NUMBER.nullable), "ok": FLAG.nullable,
    **dict.fromkeys(("expected", "normalised_slope"), NUMBER.sometimes),
    "reason": TEXT.sometimes,
})  # fmt: skip
"""How one role's largest singular values go with the width."""

MEMBER = Object({
    "model": TEXT, "width": NUMBER, "eta": NUMBER.nullable, "weight_decay": NUMBER.nullable,
    "proxy": FLAG,
})  # fmt: skip

MOST = 6  # models that have a column of their own
MOST_LAYERS = 48  # dots of one role and model
SHEET = (
    "role", "slope", "low", "high", "ratio", "ok", "expected", "normalised_slope", "counted",
    "reads",
)  # fmt: skip


def _named(role: Mapping[str, Any]) -> str:
    """Write a role, in brackets where the law is not about it."""
    name = printable(str(role["role"]))
    return name if role["counted"] else f"({name})"


def _interval(role: Mapping[str, Any]) -> str:
    low, high = role["low"], role["high"]
    return cells.NONE if low is None else f"[{signed(low)}, {signed(high)}]"


def _median(role: Mapping[str, Any], model: str) -> str:
    return cells.of(model)(role.get("sigma") or {})


def _matches(role: Mapping[str, Any], yes: str, no: str, unknown: str) -> str:
    known = role["ok"] is not None and role["counted"]
    return unknown if not known else yes if role["ok"] else no


CARD = (
    Column("role", "left", cell=cells.of("role", str)),
    Column("slope", cell=cells.of("slope", signed)),
    Column("ratio to the proxy", cell=cells.of("ratio")),
    Column("matches", cell=partial(_matches, yes="yes", no="no", unknown=cells.NONE)),
)  # fmt: skip


def _table(document: Document) -> Listing:
    """Return one line a role: slope, interval, medians at each model, ratio to the proxy."""
    members: Sequence[Mapping[str, Any]] = document["settings"]["members"]
    ordered = sorted(members, key=lambda member: (member["width"], member["model"]))
    shown = ordered if len(ordered) <= MOST else [ordered[0], *ordered[1 - MOST :]]
    names = [str(member["width"]) for member in shown]
    if len(set(names)) < len(names):
        names = [printable(str(member["model"])) for member in shown]
    columns = [
        Column("role", "left", flexible=True, cell=_named),
        Column("slope", cell=cells.of("slope", signed)),
        Column("95 %", "left", means="interval of that slope", cell=_interval),
        *(Column(name, means="median σ max of that width or model",
                 cell=partial(_median, model=member["model"]))
          for name, member in zip(names, shown, strict=True)),
        Column("ratio", cell=cells.of("ratio")),
        Column("", "left", cell=partial(_matches, yes="ok", no="x", unknown="")),
        Column("normalised", optional=True, cell=cells.of("normalised_slope", signed)),
    ]  # fmt: skip
    roles = _with_overall(document)
    return Listing(
        columns, roles, roles, lambda role: "bad" if role["ok"] is False and role["counted"] else ""
    )


def _with_overall(document: Document) -> list[Mapping[str, Any]]:
    summary = document["summary"]
    return [*summary["roles"], *([summary["overall"]] if summary.get("overall") else ())]


def _sheets(document: Document) -> list[Sheet]:
    roles = [{**role, "reads": role.get("reason")} for role in _with_overall(document)]
    return [Sheet("roles", "Roles", roles, SHEET, ("", False))]


def _figures(document: Document) -> list[tuple[str, str]]:
    slope = (document["summary"].get("overall") or {}).get("slope")
    return [] if slope is None else [("slope", signed(slope))]


def _facts(document: Document, full: bool) -> list[str]:
    summary = document["summary"]
    told = [printable(str(text)) for text in summary["advice"]]
    outside = [printable(str(role["role"])) for role in summary["roles"] if not role["counted"]]
    if outside:
        told.append(f"( ) not counted: the law is about hidden matrices, not {', '.join(outside)}")
    return [*told, *closing(document, full)]


def _card(document: Document, _: object) -> Listing:
    roles = [role for role in document["summary"]["roles"] if role["counted"]]
    return Listing(CARD, roles, roles)


def _chart(document: Document) -> dict[str, Any]:
    points: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in document["rows"]:
        if row.get("sigma_max"):
            points[row["role"], str(row.get("model"))].append(row["sigma_max"])
    models = [
        {"name": str(model.get("model")), "width": _number(model.get("width"))}
        for model in document["models"]
    ]
    models.sort(key=lambda model: (model["width"], model["name"]))
    names = [str(model["name"]) for model in models]
    roles = [
        {
            "role": printable(role["role"]), "counted": role["counted"], "ok": role["ok"],
            **{key: cells.short(role.get(key)) for key in ("slope", "low", "high", "expected")},
            "medians": [cells.short(role["sigma"].get(name)) for name in names],
            "layers": [list(map(cells.short, _spread(points[role["role"], n]))) for n in names],
        }
        for role in document["summary"]["roles"]
    ]  # fmt: skip
    told = [model | {"name": printable(name)} for model, name in zip(models, names, strict=True)]
    return {"kind": "width", "models": told, "roles": roles}


def _spread(values: Sequence[float]) -> list[float]:
    """Return at most so many values as a panel shows, evenly over their order."""
    ordered, steps = sorted(values), MOST_LAYERS - 1
    if len(ordered) <= MOST_LAYERS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / steps)] for i in range(MOST_LAYERS)]


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _worst(document: Document) -> Iterator[Worst]:
    """Yield roles that do not match the proxy."""
    roles = [
        role
        for role in document["summary"]["roles"]
        if role["counted"] and role["ok"] is False and role["ratio"]
    ]
    roles.sort(key=lambda role: -abs(math.log(abs(role["ratio"]))))
    for role in roles[:EACH]:
        text = f"σ max is {number(role['ratio'])} × the proxy's"
        yield Worst("warning", role["role"], text, opens=False)


def _words(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield widths and training of the models, in their order."""
    settings = document["settings"]
    for key, option in (("width", "--widths"), ("eta", "--eta"), ("weight_decay", "--lambda")):
        values = [member.get(key) for member in settings.get("members", ())]
        if values and all(isinstance(value, int | float) for value in values):
            texts = [repr(value) for value in values]
            yield option, texts[0] if len(set(texts)) == 1 else ",".join(texts)


def _before_last(document: Document) -> str:
    members = document["settings"].get("members", ())
    return "--against" if any(member.get("proxy") is True for member in members) else ""


KIND = Kind(
    "width",
    "Scaling with width",
    order=(("sigma_max", True),),
    table=_table, card=_card, facts=_facts, figures=_figures,
    advice=lambda document: document["summary"]["advice"],
    onward=lambda _: [[("--plot", "width.png")]],
    visible=("model", "width", "sigma_max"),
    metrics=(Metric("sigma_max", "log"),),
    charts=lambda document, _: [_chart(document)],
    sheets=_sheets,
    worst=_worst,
    drawer="spectra.report.plots.width:draw_width",
    series=True,
    options={"tolerance": 0.1},
    words=_words,
    before_last=_before_last,
    settings={"members": Items(MEMBER)},
    summary={
        "roles": Items(SLOPE.unpublished), "matching": Items().older,
        "advice": Items(TEXT.unpublished), "overall": SLOPE.sometimes.unpublished,
    },
)  # fmt: skip
