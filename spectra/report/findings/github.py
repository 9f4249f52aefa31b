"""Annotations of GitHub Actions: one workflow command a line.

Source:
    GitHub Docs, "Workflow commands for GitHub Actions"; escapes as in toolkit's command.ts.
"""

from collections import Counter
from collections.abc import Iterator

from spectra.policy.finding import Finding
from spectra.report.findings.found import Verdict, policy_line
from spectra.report.findings.place import path_of
from spectra.text import counted

SHOWN = 10  # annotations of each kind that GitHub shows for a step
KINDS = ("error", "warning", "notice")
LONGEST = 4096  # characters of a message


def to_github(verdict: Verdict) -> str:
    """Return the verdict and the annotations that GitHub shows, the worst of each kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for one in verdict.present:
        found[_kind(one)].append(_annotation(one, verdict))
    hidden = Counter({kind: max(len(found[kind]) - SHOWN, 0) for kind in ("error", "warning")})
    room = SHOWN - (1 if hidden.total() or len(found["notice"]) > SHOWN else 0)
    hidden["notice"] = max(len(found["notice"]) - room, 0)
    lines = [_plain(verdict.reading), _plain(policy_line(verdict))]
    for kind in KINDS:
        lines += found[kind][: len(found[kind]) - hidden[kind]]
    lines += _rest(hidden)
    if not verdict.passed and not found["error"]:
        lines.append(f"::error title={_property('spectra check')}::{_data(verdict.reading)}")
    return "\n".join(lines) + "\n"


def _kind(one: Finding) -> str:
    """Return the command of a finding: what the baseline has too is but noted."""
    if one.state == "unchanged" or one.level == "note":
        return "notice"
    return one.level


def _annotation(one: Finding, verdict: Verdict) -> str:
    path, line = path_of(one, verdict)
    known = " (unchanged since the baseline)" if one.state == "unchanged" else ""
    title = f"spectra ({one.rule}) {one.name}"
    properties = f"title={_property(title)},file={_property(path)},line={line}"
    return f"::{_kind(one)} {properties}::{_data(one.told + known)}"


def _rest(hidden: Counter[str]) -> Iterator[str]:
    counts = [counted(hidden[kind], kind) for kind in KINDS if hidden[kind]]
    if counts:
        title = _property("spectra check")
        told_them = f"{hidden.total():,} more findings ({', '.join(counts)})"
        yield f"::notice title={title}::{_data(told_them)}. The JSON of the check has all."


def _data(text: str) -> str:
    """Escape what follows the second `::`."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return short.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _plain(text: str) -> str:
    """Return a line that is no command: not `::`, nor the older `##[` anywhere in it."""
    return text.replace("##[", "## [").replace("::", ": :")
