"""Markdown: a comment for a pull request, and the page of a workflow's step."""

import re
from collections.abc import Iterable, Sequence

from spectra.policy.finding import Finding
from spectra.report.findings.found import Verdict, counted_rules, policy_line, reasons
from spectra.text import counted

COMMENT = 60_000  # characters; a comment on GitHub has at most 65,536
FOLDED = 8_000  # characters of each list that is folded away in it
TOTALS = 100_000  # characters of a page's table of rules; a page has at most 1 MiB
WORST = 20  # findings that a page shows
ANSWER = 2_000  # characters of the sentence on top
CELL = 300  # characters of a name or message
MEANT = re.compile(r"[&<>\"'`*_\[\]|~\\:$!]|\A[^\w\s]")
"""What Markdown gives a meaning inside a line, or at its beginning."""
REFERS = re.compile(r"([@#])")
"""What makes a mention or a reference, as an entity too; not in code."""


def to_comment(verdict: Verdict) -> str:
    """Return the verdict, every finding that a comment has room for, and the details.

    The first line, which nobody sees, lets a script find its own comment again.
    """
    head = [f"<!-- spectra check: {_hidden(verdict.alias)} -->", *_heading(verdict)]
    foot = [*_accepted(verdict), *_gone(verdict), *_unjudged(verdict), *_origin(verdict)]
    room = COMMENT - sum(len(line) + 1 for line in (*head, *foot))
    rows = _fitting((_row(one, verdict) for one in verdict.present), room)
    return "\n".join([*head, *_table(verdict, rows), *foot]).rstrip() + "\n"


def to_page(verdict: Verdict) -> str:
    """Return the verdict, the worst findings and the totals of every rule."""
    rows = [_row(one, verdict) for one in verdict.present[:WORST]]
    totals = [
        f"| {_text(rule.code)} {_text(rule.name)} | {_text(rule.severity)} | "
        f"{_count(verdict, rule.code) if rule.judged else 'not judged'} |"
        for rule in counted_rules(verdict)
    ]
    head = ["| rule | severity | findings |", "| --- | --- | ---: |"]
    lines = [*_heading(verdict), *_table(verdict, rows)]
    lines += _details("All rules", [*head, *_fitting(totals, TOTALS)])
    lines += [*_unjudged(verdict), *_origin(verdict)]
    return "\n".join(lines).rstrip() + "\n"


def _heading(verdict: Verdict) -> list[str]:
    word, gap, rest = verdict.reading.partition("  ")
    policy = _text(policy_line(verdict).removeprefix("policy: "))
    told = f"**{_text(word)}**  {_text(rest, ANSWER)}" if gap else _text(word, ANSWER)
    return [
        f"### spectra check: {_code(verdict.alias)}",
        "",
        told,
        "",
        f"policy: {policy}",
        "",
    ]


def _table(verdict: Verdict, rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    more = " state |" if verdict.compared else ""
    lines = [
        f"| | rule | matrix | finding |{more}",
        f"| --- | --- | --- | --- |{' --- |' if more else ''}",
        *rows,
        "",
    ]
    rest = len(verdict.present) - len(rows)
    if rest > 0:
        lines += [f"{rest:,} more, none worse; the JSON of the check has all.", ""]
    return lines


def _row(one: Finding, verdict: Verdict) -> str:
    cells = [
        _text(one.severity), f"{_text(one.rule)} {_text(one.name)}", _code(one.where),
        _text(one.what), *([_text(one.state or "")] if verdict.compared else []),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _accepted(verdict: Verdict) -> list[str]:
    lines = [
        f"{_item(one)} — accepted: {_text(one.reason or 'no reason given')}"
        f"{f' (until {_text(one.until)})' if one.until else ''}"
        for one in verdict.ignored
    ]
    return _folded(f"{len(lines):,} accepted by the policy", lines)


def _gone(verdict: Verdict) -> list[str]:
    lines = [_item(one) for one in verdict.gone]
    return _folded(f"{len(lines):,} fixed since the baseline", lines)


def _unjudged(verdict: Verdict) -> list[str]:
    lines = [
        f"- {', '.join(_text(rule.title) for rule in rules)}: {_text(why)}"
        for why, rules in reasons(verdict).items()
    ]
    return _folded(f"{counted(len(verdict.unjudged), 'rule')} not judged", lines)


def _origin(verdict: Verdict) -> list[str]:
    return [f"{_code(verdict.spec)} by spectra {_text(verdict.version)}."]


def _item(one: Finding) -> str:
    return f"- {_text(one.rule)} {_code(one.where)}: {_text(one.what)}"


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    """Fold a list away under a title, as much of it as there is room for."""
    kept = _fitting(lines, FOLDED)
    rest = len(lines) - len(kept)
    return _details(title, [*kept, *([f"- {rest:,} more"] if rest else [])])


def _details(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _fitting(lines: Iterable[str], room: int) -> list[str]:
    """Return as many of the first lines as have room."""
    kept = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def _count(verdict: Verdict, code: str) -> str:
    return f"{sum(one.rule == code for one in verdict.present):,}"


def _code(text: str) -> str:
    """Return a name as code: nothing in it is markup, a link or a mention."""
    return f"<code>{_escaped(_short(text, CELL))}</code>"


def _text(text: str, limit: int = CELL) -> str:
    """Return words in which nothing is markup, a link or a mention."""
    pieces = REFERS.split(_short(text, limit))
    return "".join(
        f"<span>{piece}</span>" if i % 2 else _escaped(piece) for i, piece in enumerate(pieces)
    )


def _escaped(text: str) -> str:
    """Write as entities what Markdown gives a meaning, and what makes a bare link."""
    plain = MEANT.sub(lambda found: f"&#{ord(found[0])};", text)
    return re.sub(r"(www)\.", r"\1&#46;", plain, flags=re.IGNORECASE)


def _short(text: str, limit: int) -> str:
    """Cut a long text in its middle: names differ at their ends."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _hidden(text: str) -> str:
    """Return text that ends no comment of HTML."""
    return re.sub(r"[-<>]+", "-", text)
