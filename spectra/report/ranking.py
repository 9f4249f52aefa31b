"""The rows of a result in the order of its record, with what is told and not stored."""

from typing import Any

from spectra.report.kind import Document, Kind, Order, RowDoc
from spectra.words import UNMEASURED


def ranked(document: Document, kind: Kind) -> tuple[list[dict[str, Any]], Order]:
    """Return the rows, those without numbers first, then the worst, and what they are ordered by.

    Equals stay as they were.
    """
    order = kind.order(document) if callable(kind.order) else kind.order
    rows = [enriched(row) for row in document["rows"]]
    return sorted(rows, key=lambda row: _key(row, order)), order


def enriched(row: RowDoc) -> dict[str, Any]:
    """Add to a row what tables show and files leave to the reader."""
    found = dict(row)
    found["shape"] = f"{row['rows']} × {row['cols']}"
    found["parameters"] = row["rows"] * row["cols"]
    details = [item for item in row.get("intruder_detail") or () if item["max_cos"] is not None]
    if details:
        worst = min(details, key=lambda item: item["max_cos"])
        found |= {
            "worst_cos": worst["max_cos"],
            "worst_at": worst["index"],
            "worst_energy": worst["energy"],
        }
    right = [item["max_cos"] for item in row.get("intruder_detail_right") or ()]
    if right:
        found["worst_cos_right"] = min(right)
    return found


def _key(row: RowDoc, order: Order) -> list[Any]:
    found: list[Any] = [row["status"] not in UNMEASURED]
    for key, highest in order:
        value = row.get(key)
        if value is None and row["status"] == "singular":
            value = float("inf")
        elif value is None and key == "kappa" and row["status"] == "outside":
            value = row.get("kappa_low")
        if isinstance(value, str):
            continue
        found += [value is None, -value if highest and value is not None else (value or 0)]
    return found
