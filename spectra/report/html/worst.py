"""What a reader should look at first, over all results of a page."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from spectra.report.html.markup import brief
from spectra.report.html.tables import enriched
from spectra.text import printable

Mark = Literal["error", "warning", "note"]

MOST = 12  # lines of the page's list
EACH = 3  # of one result, of what is merely highest
RANKS: Mapping[Mark, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Worst:
    """One line: how bad, which matrix, what of it."""

    mark: Mark
    matrix: str | None  # or another name, where `opens` is false
    text: str
    section: str
    opens: bool = True


def worst_of(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Worst]:
    """Return the worst lines, errors first; results in the order given.

    Args:
        documents: The section and the document of each result.
    """
    finders: Mapping[str, Callable[[str, Mapping[str, Any]], Iterator[Worst]]] = {
        "check": _check,
        "diff": _diff,
        "spectrum": _spectrum,
        "kappa": _kappa,
        "width": _width,
        "trend": _trend,
    }
    found: list[Worst] = []
    for section, document in documents:
        lines = [*_broken(section, document)]
        finder = finders.get(document["command"])
        if finder is not None:
            lines += finder(section, document)
        found += lines
    unique = {(line.matrix, line.text): line for line in reversed(found)}
    ordered = [line for line in found if unique.get((line.matrix, line.text)) is line]
    return sorted(ordered, key=lambda line: RANKS[line.mark])


def _broken(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield matrices that hold NaN or Inf, but for those that a finding tells of."""
    findings = document["summary"]["findings"] if document["command"] == "check" else ()
    told = {item.get("matrix") for item in findings}
    for row in document["rows"]:
        if row["status"] == "non-finite" and row["matrix"] not in told:
            text = f"no numbers: {printable(row['error'] or 'it holds NaN or Inf')}"
            yield Worst("error", row["matrix"], text, section)


def _check(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield findings, those that the baseline does not have first."""
    findings = [item for item in document["summary"]["findings"] if item.get("state") != "gone"]
    findings.sort(key=lambda item: (RANKS[item["severity"]], item.get("state") != "new"))
    for item in findings:
        if item["severity"] == "note":
            continue
        state = f" ({item['state']})" if item.get("state") else ""
        text = f"{item['rule']} {item['name']}: {item['message']}{state}"
        name = item.get("matrix") or item.get("tensor")
        yield Worst(
            item["severity"], name, printable(text), section, item.get("matrix") is not None
        )


def _diff(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield matrices with intruders; of a change without, where it is largest."""
    rows = [enriched(row) for row in document["rows"]]
    holders = [row for row in rows if row.get("intruders")]
    holders.sort(key=lambda row: (-row["intruders"], row.get("worst_cos", 2.0)))
    for row in holders:
        count = row["intruders"]
        what = f"{count:,} intruder dimension{'s' * (count != 1)}"
        if "worst_cos" in row:
            what += f", lowest |cos| {row['worst_cos']:.3f}"
        yield Worst("warning", row["matrix"], what, section)
    if not holders:
        moved = [row for row in rows if row.get("delta_relative")]
        moved.sort(key=lambda row: -row["delta_relative"])
        for row in moved[:EACH]:
            text = f"changed by {100 * row['delta_relative']:.1f} % of its norm"
            yield Worst("note", row["matrix"], text, section)


def _spectrum(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield singular matrices, and the highest condition numbers against their role's."""
    rows = document["rows"]
    for row in [row for row in rows if row["status"] == "singular"][:EACH]:
        yield Worst("warning", row["matrix"], "singular: its smallest σ is 0", section)
    known = [row for row in rows if row.get("kappa") is not None]
    for row in sorted(known, key=lambda row: -row["kappa"])[:EACH]:
        alike = [other["kappa"] for other in known if other["role"] == row["role"]]
        text = f"κ {brief(row['kappa'])}"
        middle = median(alike)
        if len(alike) > 2 and middle > 0:
            text += f", {brief(row['kappa'] / middle)} × the median of {printable(row['role'])}"
        yield Worst("note", row["matrix"], text, section)


def _kappa(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield singular matrices, and what lies farthest above noise of its shape."""
    rows = document["rows"]
    for row in [row for row in rows if row["status"] == "singular"][:EACH]:
        yield Worst("warning", row["matrix"], "singular: its smallest σ is 0", section)
    if any(row["status"] == "outside" for row in rows):
        return  # the highest were not measured to the end
    known = [row for row in rows if row.get("kappa_excess") is not None]
    for row in sorted(known, key=lambda row: -row["kappa_excess"])[:EACH]:
        text = f"κ is {brief(row['kappa_excess'])} × what noise of its shape has"
        if row.get("kappa_resolved") is False:
            text += ", and measures the rounding of its dtype"
        yield Worst("note", row["matrix"], text, section)


def _width(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield roles that do not match the proxy."""
    roles = [
        role
        for role in document["summary"]["roles"]
        if role["counted"] and role["ok"] is False and role["ratio"]
    ]
    roles.sort(key=lambda role: -abs(math.log(abs(role["ratio"]))))
    for role in roles[:EACH]:
        text = f"σ max is {brief(role['ratio'])} × the proxy's"
        yield Worst("warning", role["role"], text, section, opens=False)


def _trend(section: str, document: Mapping[str, Any]) -> Iterator[Worst]:
    """Yield the roles whose condition number grew most."""
    found = []
    for role in document["summary"]["roles"]:
        known = [value for value in role["kappa"] if value]
        if len(known) > 1 and known[-1] > known[0]:
            found.append((known[-1] / known[0], role["role"]))
    for grown, role in sorted(found, reverse=True)[:EACH]:
        text = f"κ grew {brief(grown)}-fold over the run"
        yield Worst("note", role, text, section, opens=False)
