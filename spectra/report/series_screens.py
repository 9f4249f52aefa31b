"""What is shown of several models together: their scaling with width, their run over steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from spectra.report.table import Column, Line
from spectra.text import printable
from spectra.work import Result

Table = tuple[list[Column], list[Line]]

ROLE = Column("role", "left", flexible=True)
MOST = 6  # models that have a column of their own


def width_table(result: Result) -> Table:
    """Return one line a role: slope, interval, medians at each model, ratio to the proxy."""
    summary = result.summary
    members: Sequence[Mapping[str, Any]] = result.settings["members"]
    ordered = sorted(members, key=lambda member: (member["width"], member["model"]))
    shown = ordered if len(ordered) <= MOST else [ordered[0], *ordered[1 - MOST :]]
    names = [str(member["width"]) for member in shown]
    if len(set(names)) < len(names):
        names = [printable(str(member["model"])) for member in shown]
    columns = [
        ROLE, Column("slope"), Column("95 %", "left"), *(Column(name) for name in names),
        Column("ratio"), Column("", "left"), Column("normalised", optional=True),
    ]  # fmt: skip
    whole = summary["overall"]
    lines = [_role(role, shown) for role in (*summary["roles"], *([whole] if whole else []))]
    return columns, lines


def width_facts(result: Result) -> list[str]:
    """Return the advice, and what the marks mean."""
    facts = [printable(str(text)) for text in result.summary["advice"]]
    outside = [str(role["role"]) for role in result.summary["roles"] if not role["counted"]]
    if outside:
        facts.append(f"( ) not counted: the law is about hidden matrices, not {', '.join(outside)}")
    return facts


def trend_table(result: Result) -> Table:
    """Return one line a role: sigma_max, stable rank and kappa, first and last."""
    columns = [ROLE, Column("matrices")]
    for title in ("sigma max", "stable", "kappa"):
        columns += [Column(title), Column("last"), Column("change")]
    lines = []
    for role in result.summary["roles"]:
        cells = [str(role["role"]), f"{role['matrices']:,}"]
        for key in ("sigma_max", "stable_rank", "kappa"):
            known = [value for value in role[key] if value is not None]
            first, last = (known[0], known[-1]) if known else (None, None)
            change = f"{100 * (last / first - 1):+.0f} %" if first and last else "—"
            cells += [_number(first), _number(last), change]
        lines.append(Line(cells))
    return columns, lines


def _role(role: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> Line:
    """Write one role's slope, medians and ratio."""
    counted = role["counted"]
    name = str(role["role"]) if counted else f"({role['role']})"
    low, high = role["low"], role["high"]
    interval = "—" if low is None else f"[{low:+.2f}, {high:+.2f}]"
    medians = role.get("sigma") or {}
    ok = role["ok"]
    normalised = role.get("normalised_slope")
    return Line(
        [
            name,
            "—" if role["slope"] is None else f"{role['slope']:+.2f}",
            interval,
            *(_number(medians.get(member["model"])) for member in shown),
            "—" if role["ratio"] is None else f"{role['ratio']:.2f}",
            "" if ok is None or not counted else "ok" if ok else "x",
            "—" if normalised is None else f"{normalised:+.2f}",
        ],
        "bad" if ok is False and counted else "",
    )


def _number(value: float | None) -> str:
    """Write a number in few digits, nothing where there is none."""
    return "—" if value is None else f"{value:.3g}"
