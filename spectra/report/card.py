"""A section for a model card: what the weights say, ready to paste into a README."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spectra.report.command_line import command_line
from spectra.report.html.facts import TITLES, facts, models_named
from spectra.report.html.markup import brief
from spectra.report.html.tables import enriched, order_of, sort_key
from spectra.text import printable

Document = Mapping[str, Any]
Row = Mapping[str, Any]

MOST = 5  # rows of each table
MEANT = re.compile(
    r"[<>*`\[\]|~\\$]|(?<![^\W_])_|_(?![^\W_])|\A[#+-](?=[\s#])|\A=(?==*\Z)|(?<=:)/|(?<=www)\."
)
"""What Markdown gives a meaning, so that it stands after a backslash."""
NUMBERED = re.compile(r"\A([0-9]{1,9})([.)])(?=\s|\Z)")
"""What would begin a list."""


def card(documents: Sequence[Document]) -> str:
    """Return a Markdown section of one or more results, the same for the same results.

    Args:
        documents: Checked results, as `Result.document()` gives them or as they were saved.
    """
    several = len(documents) > 1
    blocks = ["## What the weights say", ""]
    for document in documents:
        blocks += _result(document, heading=several)
    versions = ", ".join(dict.fromkeys(str(document["spectra"]) for document in documents))
    commands = [command_line(document) for document in documents]
    told = "Measured from the weights alone"
    blocks += [f"{told} by spectra {text(versions)}:", "", *_fenced(commands)]
    return "\n".join(blocks) + "\n"


def text(value: object) -> str:
    """Return what a file says as text that Markdown gives no other meaning."""
    plain = printable(" ".join(str(value).split()))
    marked = MEANT.sub(lambda found: "\\" + found[0], plain.replace("&", "&amp;"))
    return NUMBERED.sub(r"\1\\\2", marked)


def code(value: object) -> str:
    """Return a name as code; in a table a bar would end its cell."""
    plain = printable(" ".join(str(value).split())) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    gap = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{gap}{plain}{gap}{fence}".replace("|", "\\|")


def _result(document: Document, *, heading: bool) -> list[str]:
    """Return one result: its sentence, its figures, its worst rows."""
    command = document["command"]
    lines = []
    if heading:
        lines += [f"### {TITLES.get(command, text(command))}", ""]
    names = code(models_named(document))
    word, gap, rest = str(document["summary"]["reading"]).partition("  ")
    reading = f"**{text(word)}** {text(rest)}" if gap else text(word)
    lines += [f"{names}: {reading}", ""]
    lines += [text(line) for line in _advice(document)]
    lines += [""] if _advice(document) else []
    figures = " · ".join(f"{text(name)} **{text(value)}**" for name, value in facts(document))
    return [*lines, figures, "", *_worst(document)]


def _worst(document: Document) -> list[str]:
    """Return the table of what matters most in a result."""
    command, summary = document["command"], document["summary"]
    if command == "check":
        found = [item for item in summary["findings"] if item.get("state") != "gone"]
        order = ("error", "warning", "note")
        found.sort(key=lambda item: order.index(item["severity"]))
        rows = [
            [text(item["severity"]), text(f"{item['rule']} {item['name']}"),
             code(item.get("matrix") or item.get("tensor") or "the model"), text(item["message"])]
            for item in found[:MOST]
        ]  # fmt: skip
        return _table(["severity", "rule", "matrix", "finding"], rows, len(found) - len(rows))
    if command in ("width", "trend"):
        return _roles(document)
    columns = COLUMNS.get(command)
    if columns is None:
        return []
    ranked = sorted(
        (enriched(row) for row in document["rows"]),
        key=lambda row: sort_key(row, order_of(document)),
    )
    wanted = _wanted(document, ranked)
    rows = [
        [code(row["matrix"]), *(write(row) for _, write in columns)] for row in wanted[:MOST]
    ]  # fmt: skip
    return _table(["matrix", *(name for name, _ in columns)], rows, len(wanted) - len(rows))


def _wanted(document: Document, ranked: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that carry the answer: intruders, the selection, or all."""
    if document["command"] == "diff" and document["settings"].get("intruders"):
        return [row for row in ranked if row.get("intruders")]
    if document["command"] == "diff":
        return [row for row in ranked if row.get("delta_norm")]
    if document["command"] == "kappa" and document["summary"]["selected"]:
        return [row for row in ranked if row.get("selected")]
    return ranked


def _roles(document: Document) -> list[str]:
    """Return a line a role: slopes of a family, or both ends of a run."""
    roles = document["summary"]["roles"]
    if document["command"] == "width":
        rows = [
            [text(role["role"]), _signed(role["slope"]),
             "—" if role["ratio"] is None else f"{role['ratio']:.2f}",
             "—" if role["ok"] is None else "yes" if role["ok"] else "no"]
            for role in roles if role["counted"]
        ]  # fmt: skip
        return _table(["role", "slope", "ratio to the proxy", "matches"], rows, 0)
    rows = []
    for role in roles:
        ends = []
        for key in ("sigma_max", "stable_rank", "kappa"):
            known = [value for value in role[key] if value is not None]
            ends.append(f"{brief(known[0])} → {brief(known[-1])}" if known else "—")
        rows.append([text(role["role"]), *ends])
    return _table(["role", "σ max", "stable rank", "κ"], rows, 0)


def _number(key: str) -> Callable[[Row], str]:
    """Return what writes a number of a row."""

    def write(row: Row) -> str:
        value = row.get(key)
        if value is None:
            return "singular" if key == "kappa" and row["status"] == "singular" else "—"
        return f"{value:,}" if isinstance(value, int) else brief(value)

    return write


def _percent(row: Row) -> str:
    """Write the relative change."""
    value = row.get("delta_relative")
    return "—" if value is None else f"{100 * value:.1f} %"


COLUMNS: Mapping[str, Sequence[tuple[str, Callable[[Row], str]]]] = {
    "spectrum": (
        ("κ", _number("kappa")), ("σ max", _number("sigma_max")),
        ("stable rank", _number("stable_rank")), ("α", _number("alpha")),
    ),
    "diff": (
        ("change", _percent), ("rank", _number("delta_rank")),
        ("intruders", _number("intruders")), ("lowest cosine", _number("worst_cos")),
    ),
    "kappa": (("κ", _number("kappa")), ("κ excess", _number("kappa_excess"))),
}  # fmt: skip
"""Figures of a result's worst rows."""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], rest: int) -> list[str]:
    """Return a table, without columns that say nothing, and how much it leaves out."""
    if not rows:
        return []
    kept = [i for i in range(len(heads)) if any(row[i] != "—" for row in rows)]
    lines = [
        "| " + " | ".join(heads[i] for i in kept) + " |",
        "| " + " | ".join("---" for _ in kept) + " |",
        *("| " + " | ".join(row[i] for i in kept) + " |" for row in rows),
        "",
    ]
    return [*lines, f"{rest:,} more.", ""] if rest > 0 else lines


def _advice(document: Document) -> Sequence[str]:
    """Return what to do, where a result says it."""
    return document["summary"]["advice"] if document["command"] == "width" else ()


def _signed(value: float | None) -> str:
    """Write a slope."""
    return "—" if value is None else f"{value:+.2f}"


def _fenced(lines: Sequence[str]) -> list[str]:
    """Return commands as a block of code that none of them ends."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [f"{fence}sh", *lines, fence]
