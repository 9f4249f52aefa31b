"""One value per layer and role, or another key: what a heatmap shows."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from spectra.policy import Policy
from spectra.report.cells import short
from spectra.report.colours import ramp_of
from spectra.report.keys import key_of
from spectra.report.kind import Document, Metric, RowDoc, kind_of, noun_of
from spectra.report.ranking import enriched
from spectra.text import printable
from spectra.words import UNMEASURED, in_order


def heatmaps(document: Document, table: str, policy: Policy | None = None) -> dict[str, Any] | None:
    """Return every metric of a result by role and layer, one grid a model; None without rows.

    The median stands where several matrices share a cell, as experts do; of findings their sum.

    Args:
        document: A result.
        table: That of its matrices.
        policy: By which it is coloured; None: by the rules' defaults.
    """
    kind, rows = kind_of(document["command"]), [enriched(row) for row in document["rows"]]
    if kind.judges:
        _count_findings(document, rows)
    facets: dict[str | None, list[RowDoc]] = defaultdict(list)
    for row in rows:
        facets[row.get("model")].append(row)
    by = kind.grid
    roles = _lines(rows, by)
    layers: list[int | None] = sorted({row["layer"] for row in rows if row["layer"] is not None})
    layers += [None] if any(row["layer"] is None for row in rows) else []
    metrics = [
        metric for metric in kind.metrics if any(row.get(metric.key) is not None for row in rows)
    ]
    if not metrics or not rows:
        return None
    return {
        "kind": "heatmap",
        "table": table,
        "outside": any(row["status"] == "outside" for row in rows),
        "by": by,
        "many": noun_of(document)[1],
        "lines": roles,
        "roles": [printable(role) if by == "role" else f"{key_of(by).title} {role}"
                  for role in roles],
        "layers": layers,
        "metrics": [
            {"key": m.key, "title": key.title, "kind": key.kind, "scale": m.scale,
             "worst": m.worst, "ramp": _ramp(m), "meaning": key.meaning,
             "ends": list(m.ends) if m.shades else None}
            for m, key in ((metric, key_of(metric.key)) for metric in metrics)
        ],
        "facets": [
            {
                "name": None if name is None else printable(str(name)),
                "counts": _counted(_placed(found, by), roles, layers),
                "grids": [_grid(_placed(found, by), roles, layers, metric.key)
                          for metric in metrics],
                "shades": [_shades(_placed(found, by), roles, layers, metric, policy)
                           for metric in metrics],
            }
            for name, found in facets.items()
        ],
    }  # fmt: skip


def _ramp(metric: Metric) -> str:
    """Return the colours of a metric: of what has a sign, which tell it."""
    return "signed" if metric.scale == "signed" else ramp_of(metric.worst)


def _lines(rows: Sequence[RowDoc], by: str) -> list[Any]:
    """Return the lines of a grid: roles in their order, numbers in theirs."""
    if by == "role":
        return in_order(row["role"] for row in rows)
    return sorted({row[by] for row in rows if isinstance(row.get(by), int)})


def _placed(rows: Sequence[RowDoc], by: str) -> list[RowDoc]:
    """Return rows whose role is the line of the grid that they lie in."""
    return list(rows) if by == "role" else [{**row, "role": row.get(by)} for row in rows]


def _count_findings(document: Document, rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row its findings, and how many of them count against it."""
    counts: dict[str, int] = defaultdict(int)
    against: dict[str, int] = defaultdict(int)
    for finding in document["summary"]["findings"]:
        if finding.get("matrix") is not None and finding.get("state") != "gone":
            counts[finding["matrix"]] += 1
            known = finding.get("state") == "unchanged" or finding["severity"] == "note"
            against[finding["matrix"]] += not known
    for row in rows:
        names = {row["matrix"], row["tensor"]}
        row["findings"] = sum(counts[name] for name in names)
        row["against"] = sum(against[name] for name in names)


def _counted(
    rows: Sequence[RowDoc], roles: Sequence[str], layers: Sequence[int | None]
) -> list[int]:
    """Return how many matrices each cell stands for, role by role."""
    counts: dict[tuple[str, int | None], int] = defaultdict(int)
    for row in rows:
        counts[row["role"], row["layer"]] += 1
    return [counts[role, layer] for role in roles for layer in layers]


def _grid(
    rows: Sequence[RowDoc], roles: Sequence[str], layers: Sequence[int | None], key: str
) -> list[float | int | str | None]:
    """Return one number a cell; "inf" where it is singular, "nan" where one has no numbers."""
    cells: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    open_ends: set[tuple[str, int | None]] = set()
    broken: set[tuple[str, int | None]] = set()
    for row in rows:
        value = row.get(key)
        if value is None and key == "kappa" and row["status"] == "singular":
            value = float("inf")
        if value is not None:
            cells[row["role"], row["layer"]].append(value)
        elif row["status"] == "outside":  # somewhere above the cut: no median is known
            open_ends.add((row["role"], row["layer"]))
        elif row["status"] in UNMEASURED:
            broken.add((row["role"], row["layer"]))
    found: list[float | int | str | None] = []
    for role in roles:
        for layer in layers:
            # No NaN and no finding may hide behind the middle of many experts.
            if (role, layer) in broken:
                found.append("nan")
                continue
            values = None if (role, layer) in open_ends else cells.get((role, layer))
            middle = (sum if key == "findings" else median)(values) if values else None
            found.append("inf" if middle == float("inf") else short(middle))
    return found


def _shades(
    rows: Sequence[RowDoc],
    roles: Sequence[str],
    layers: Sequence[int | None],
    metric: Metric,
    policy: Policy | None,
) -> list[float | None] | None:
    """Return how bad each cell is, in the middle of its matrices, of findings the worst."""
    if metric.shades is None:
        return None
    cells: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for row, shade in zip(rows, metric.shades(rows, policy), strict=True):
        if shade is not None:
            cells[row["role"], row["layer"]].append(shade)
    middle = max if metric.key == "findings" else median
    return [
        short(round(middle(cells[role, layer]), 3)) if cells[role, layer] else None
        for role in roles
        for layer in layers
    ]
