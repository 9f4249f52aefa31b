"""What a comparison says in a sentence or two."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spectra.report.changes import sentence
from spectra.text import counted, listed, printable

Summary = Mapping[str, Any]
Noun = tuple[str, str]
NAMED = 3  # quantities that the sentence names
WORDS = frozenset({"role", "dtype", "codec", "shape"})
"""What has no error."""
HEADS = {
    "intruders": "Intruder dimensions", "changed": "Changed matrices", "parameters": "Parameters",
    "bytes": "Bytes", "selected": "Selected matrices",
}  # fmt: skip
"""Sums that the sentence begins with where they differ."""


def reading_of(summary: Summary, noun: Noun) -> str:
    """Return what moved, first of all verdicts and sums; of nothing also what is not known.

    Args:
        summary: Of the comparison.
        noun: What a row of both is of, one and several.
    """
    changed = [*_totals(summary), *_lost(summary, noun), *_only(summary, noun)]
    judged = len(set(summary.get("verdicts", {}).values())) > 1 or any(
        one["became"] != "not judged" for one in summary.get("findings", ())
    )
    told = [*_verdict(summary), *changed, _moved(summary, noun, beside=bool(changed) or judged)]
    return " ".join(text for text in told if text)


def _verdict(summary: Summary) -> Iterator[str]:
    """Yield what became of a check: its verdict, and which findings only one has."""
    verdicts = summary.get("verdicts")
    if not verdicts:
        return
    before, after = verdicts["before"], verdicts["after"]
    word = f"{before} in both" if before == after else f"{before} → {after}"
    counts = [
        (sum(one["became"] == became for one in summary["findings"]), became)
        for became in ("new", "gone", "accepted", "no longer accepted", "not judged")
    ]
    pieces = [f"{number:,} {became}" for number, became in counts if number]
    findings = f"findings: {', '.join(pieces)}" if pieces else "the same findings"
    yield f"{word}; {findings}."


def _totals(summary: Summary) -> Iterator[str]:
    for one in summary["totals"]:
        if one["key"] in HEADS and one["before"] != one["after"]:
            yield f"{HEADS[one['key']]}: {one['before']:,} → {one['after']:,}."


def _lost(summary: Summary, noun: Noun) -> Iterator[str]:
    """Yield which matrices have no numbers on one side alone."""
    for key, one, many in (
        ("lost", "lost its numbers", "lost their numbers"),
        ("restored", "has numbers again", "have numbers again"),
    ):
        names = summary[key]
        if names:
            verb = one if len(names) == 1 else many
            yield f"{counted(len(names), *noun)} {verb}: {_first(names)}."


def _first(names: Sequence[str]) -> str:
    return printable(names[0]) + (", ..." if len(names) > 1 else "")


def _moved(summary: Summary, noun: Noun, *, beside: bool) -> str:
    """Say in how many matrices something moved, what, and where most; beside those `_lost`.

    Args:
        summary: Of the comparison.
        noun: What a row is of.
        beside: Something else that changed is told before.
    """
    total = counted(summary["matrices"], *noun)
    told = {*summary["lost"], *summary["restored"]}
    moved = [one for one in summary["quantities"] if one["moved"] and one["matrix"] not in told]
    if not moved:
        nothing = "Nothing else" if beside else "Nothing"
        exact = {one["key"] for one in summary["quantities"]} <= WORDS
        what = "differs" if exact else "moved beyond its error"
        return f"{nothing} {what} in {total}{_open(summary)}{_one_sided(summary)}."
    names = [f"{_named(one['key'])} in {one['moved']:,}" for one in moved[:NAMED]]
    rest = len(moved) - len(names)
    names += [counted(rest, "more quantity", "more quantities")] if rest else []

    def size(one: Mapping[str, Any]) -> tuple[float, bool]:
        """Order the largest moves; of as large ones the commonest, numbers before words."""
        largest = one["largest"]
        return round(largest["extent"], 3), largest["beyond"] is not None

    most = max(moved, key=size)
    number = summary["moved"] - len(told)
    count = f"{number:,} of {total} moved beyond {'its' if number == 1 else 'their'} error"
    where = f"{sentence(most['largest'])} in {printable(most['matrix'])}"
    return f"{count}: {listed(names)}. Most: {where}."


def _named(key: str) -> str:
    return "singular values between" if key == "sigma_profile" else printable(key)


def _open(summary: Summary) -> str:
    """Say of how many numbers a bound does not tell."""
    unknown = sum(one["unknown"] for one in summary["quantities"])
    if not unknown:
        return ""
    return f"; of {counted(unknown, 'number')} a bound alone is known, which leaves it open"


def _one_sided(summary: Summary) -> str:
    """Say of how many quantities only one side has values."""
    odd = sum(bool(one["only_before"] or one["only_after"]) for one in summary["quantities"])
    if not odd:
        return ""
    has = "has" if odd == 1 else "have"
    return f"; {counted(odd, 'quantity', 'quantities')} {has} values on one side alone"


def _only(summary: Summary, noun: Noun) -> Iterator[str]:
    """Yield how many matrices only one of both has, and how many numbers."""
    for side in ("before", "after"):
        names: Sequence[str] = summary[f"only_{side}"]
        if names:
            verb = "is" if len(names) == 1 else "are"
            where = printable(Path(summary["sides"][side]["file"]).name)
            count = counted(len(names), *noun)
            yield f"{count} {verb} only in {where}: {_first(names)}."
