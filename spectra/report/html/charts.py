"""What each picture but the heatmap is drawn from."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from spectra.report.html.encode import short
from spectra.report.html.tables import Table
from spectra.text import printable
from spectra.words import ROLES

MOST_LAYERS = 48  # dots of one role and model


def charts_of(document: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    """Return the pictures that a result has beside its heatmap."""
    command = document["command"]
    if command == "diff" and document["settings"].get("intruders"):
        return [_intruders(document, table)] if any(table.verdicts) else []
    if command == "kappa":
        return [_cut(document, table)]
    if command == "width":
        return [_width(document)]
    if command == "trend":
        return [_trend(document)]
    if command == "ls":
        return [_parameters(document)]
    return []


def _intruders(document: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return what marks an intruder, and what chance would score."""
    nulls = [
        row["null_cos"]
        for row in document["rows"]
        if row.get("null_cos") is not None and row.get("delta_norm")
    ]
    settings = document["settings"]
    return {
        "kind": "intruders",
        "table": table.ident,
        "epsilon": short(_number(settings.get("epsilon"), 0.5)),
        "side": "right" if settings.get("side") == "right" else "left",
        "chance": short(median(nulls)) if nulls else None,
    }


def _cut(document: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return what was ranked by, and the highest value selected."""
    key = document["settings"].get("rank_by", "kappa")
    return {
        "kind": "cut",
        "table": table.ident,
        "key": "kappa_excess" if key == "kappa_excess" else "kappa",
        "cut": short(document["summary"]["cut"]),
        "selected": len(document["summary"]["selected"]),
        "outside": sum(row["status"] == "outside" for row in document["rows"]),
        "parameters": document["settings"].get("by") == "params",
    }


def _width(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return each role's layers and medians against width."""
    points: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in document["rows"]:
        value = row.get("sigma_max")
        if value:
            points[row["role"], str(row.get("model"))].append(value)
    models = [
        {"name": str(model.get("model")), "width": _number(model.get("width"), 0.0)}
        for model in document["models"]
    ]
    models.sort(key=lambda model: (model["width"], model["name"]))
    roles = []
    for role in document["summary"]["roles"]:
        medians = role["sigma"]
        roles.append(
            {
                "role": printable(role["role"]),
                "counted": role["counted"],
                "ok": role["ok"],
                "slope": short(role["slope"]),
                "low": short(role["low"]),
                "high": short(role["high"]),
                "expected": short(role.get("expected")),
                "medians": [short(medians.get(model["name"])) for model in models],
                "layers": [
                    [short(v) for v in _spread(points[role["role"], str(model["name"])])]
                    for model in models
                ],
            }
        )
    return {
        "kind": "width",
        "models": [
            {"name": printable(str(model["name"])), "width": model["width"]} for model in models
        ],
        "roles": roles,
    }


def _trend(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return each role's medians over the steps."""
    keys = (("sigma_max", "σ max"), ("stable_rank", "stable rank"), ("kappa", "κ"))
    steps = document["summary"]["steps"]
    return {
        "kind": "trend",
        "steps": [short(step) for step in steps],
        "metrics": [{"key": key, "title": title} for key, title in keys],
        "roles": [
            {"role": printable(role["role"])}
            | {key: [short(value) for value in role[key]][: len(steps)] for key, _ in keys}
            for role in document["summary"]["roles"]
        ],
    }


def _parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many parameters each role has."""
    counts: Counter[str] = Counter()
    for row in document["rows"]:
        counts[row["role"]] += row["rows"] * row["cols"]
    order = {role: place for place, role in enumerate(ROLES)}
    ranked = sorted(counts.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return {
        "kind": "bars",
        "title": "Parameters by role",
        "items": [[printable(role), count] for role, count in ranked],
    }


def _spread(values: Sequence[float]) -> list[float]:
    """Return at most so many values as a panel shows, evenly over their order."""
    ordered = sorted(values)
    if len(ordered) <= MOST_LAYERS:
        return ordered
    return [
        ordered[round(i * (len(ordered) - 1) / (MOST_LAYERS - 1))] for i in range(MOST_LAYERS)
    ]  # fmt: skip


def _number(value: object, default: float) -> float:
    """Return a number, or what stands for it where it is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
