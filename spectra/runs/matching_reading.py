"""What is said of two models that were matched: the same, related, or strangers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spectra.analyzers import Row
from spectra.numbers import hundredths, number
from spectra.runs.beside import VECTORS
from spectra.runs.matching_vectors import Vectors
from spectra.text import counted, listed, shown
from spectra.words import UNMEASURED

SAME = 1e-5  # of 1, that a cosine lies below it by rounding to half precision at most
SCALED = (2.0 * SAME) ** 0.5  # that norms of such differ by at most, relative to them
ABOVE = 0.5  # of chance, by which matrices lie beyond it that have to do with each other
LEAST = 0.05  # and so much at least
FEW = 0.01  # share of units that moved, up to which they stand in one order


def relation_of(matched: Any, null: Any) -> str | None:  # noqa: ANN401 - as rows have them
    """Say what the matrices of a module are to each other.

    Args:
        matched: <W, W'> over both norms, of all of them, after the permutation.
        null: The same by chance; None where nothing could move, which chance makes 0.
    """
    if not isinstance(matched, float):
        return None
    if matched >= 1.0 - SAME:
        return "same"
    floor = null if isinstance(null, float) else 0.0
    return "related" if matched > floor + max(LEAST, ABOVE * floor) else "unrelated"


def reading_of(
    rows: Sequence[Row],
    *,
    whole: bool,
    given: bool,
    everything: bool,
    broken: int,
    factors: Mapping[str, float],
) -> dict[str, Any]:
    """Return what follows, in a sentence and in numbers.

    Args:
        rows: Of matrices.
        whole: Whether every matrix of either model is one of the other's.
        given: Whether the permutation was.
        everything: Whether all singular vectors were compared.
        broken: How many of them hold NaN or Inf.
        factors: By their names, of matrices that are the same but for their size, how many times
            as large the second model's is.
    """
    known = [row for row in rows if row.values["relation"] is not None]
    modules = {row.values["module"]: row for row in known if row.values["module"] is not None}
    alone = [row for row in known if row.values["module"] is None]
    counts = _counts(modules.values())
    of, found = counted(len(modules), "module"), counts
    if not modules:  # of what belongs to none as well
        of, found = counted(len(alone), "matrix", "matrices"), _counts(alone)
    moved = [row for row in modules.values() if (row.number("moved_share") or 0.0) > 0.0]
    far = [row for row in modules.values() if (row.number("moved_share") or 0.0) > FEW]
    verdict = _verdict(found, far)
    if factors and verdict.startswith("the same"):
        verdict += " and a factor" if "permutation" in verdict else " up to a factor"
    subject = "The two models are" if whole else "What both models hold is"
    text = [_sentence(verdict, found, of, len(far)).format(subject)]
    if verdict != "nothing" and len(known) < len(rows):
        text[0] = f"As far as it could be measured: {text[0][0].lower()}{text[0][1:]}"
    if factors:
        text.append(_multiples(factors))
    if verdict != "nothing" and not verdict.startswith("the same"):
        text.append(_measured(known, modules, everything=everything, given=given))
    other = [row for row in alone if row.values["relation"] != "same"]
    if verdict.startswith("the same") and other:
        text.append(
            f"{counted(len(other), 'matrix', 'matrices')} beside them "
            f"{'differs' if len(other) == 1 else 'differ'}, such as {other[0].matrix}."
        )
    text += [_without(rows, broken), _zeros(rows)]
    return {
        "reading": " ".join(filter(None, text)),
        "relation": IN_PART if verdict.startswith("the same") and not whole else verdict,
        "modules": len(modules),
        **{f"modules_{word}": count for word, count in counts.items()},
        "permuted": len(moved), "matrices": len(rows), "non_finite": broken,
    }  # fmt: skip


def with_vectors(summary: Mapping[str, Any], beside: Vectors) -> dict[str, Any]:
    """Return what follows where matrices are the same, norms and biases taken into account."""
    counts = {"both": beside.compared, "differ": len(beside.differ), "lone": len(beside.lone),
              "non_finite": len(beside.broken)}  # fmt: skip
    found = {**summary, "vectors": counts}
    if not any((beside.differ, beside.lone, beside.broken)):
        return found
    text = [re.sub(r"\b([Tt])he two models are", r"\1he matrices of the two models are",
                   str(summary["reading"]), count=1)]  # fmt: skip
    of = counted(beside.compared, *VECTORS)
    if beside.differ:
        verb = "differ, such as" if len(beside.differ) > 1 else "differs:"
        text.append(f"But {len(beside.differ):,} of {of} {verb} {shown(beside.differ[0])}.")
    if beside.broken:
        verb, such = ("hold", ", such as") if len(beside.broken) > 1 else ("holds", ":")
        text.append(
            f"{len(beside.broken):,} of {of} {verb} NaN or Inf in either model{such} "
            f"{shown(beside.broken[0])}."
        )
    if beside.lone:
        what, are = counted(len(beside.lone), *VECTORS), "are" if len(beside.lone) > 1 else "is"
        such = ", such as" if len(beside.lone) > 1 else ":"
        text.append(
            f"{what} {are} in one model alone, or of another length{such} {shown(beside.lone[0])}."
        )
    return {**found, "reading": " ".join(text), "relation": IN_PART}


def _multiples(factors: Mapping[str, float]) -> str:
    """Say which matrices are multiples of each other."""
    first = next(iter(factors))
    are = counted(len(factors), "matrix is a multiple", "matrices are multiples")
    such = ":" if len(factors) == 1 else ", such as"
    return f"{are} of the first model's{such} {first}, {number(factors[first])} times as large."


def _without(rows: Sequence[Row], broken: int) -> str:
    """Say how many hold NaN or Inf, and how many have no numbers as another of theirs does."""
    if not broken:
        return ""
    more = sum(row.status == "non-finite" for row in rows) - broken
    hold, have, their = ("holds", "has", "its") if broken == 1 else ("hold", "have", "their")
    if not more:
        return f"{broken:,} {hold} NaN or Inf and {have} no numbers."
    modules = "module" if broken == 1 else "modules"
    return (
        f"{broken:,} {hold} NaN or Inf, and {more:,} more of {their} {modules} could not be "
        "compared for it."
    )


def _zeros(rows: Sequence[Row]) -> str:
    """Say how many have no direction that could be compared."""
    count = sum(
        row.status not in UNMEASURED and row.values["weighted_after"] is None for row in rows
    )
    if not count:
        return ""
    be, have = ("is", "has") if count == 1 else ("are", "have")
    return f"{count:,} {be} of zeros alone in one model or both, and {have} no cosine."


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    """Count rows by what their module, or they alone, are to the other model's."""
    told = [row.values["relation"] for row in rows]
    return {word: told.count(word) for word in ("same", "related", "unrelated")}


def _verdict(found: Mapping[str, int], far: Sequence[Row]) -> str:
    total = sum(found.values())
    if not total:
        return "nothing"
    if found["unrelated"]:
        return "unrelated" if found["unrelated"] == total else "related in part"
    return ("related" if found["related"] else "the same") + " up to a permutation" * bool(far)


IN_PART = "the same in part"
SENTENCES = {
    "nothing": "No matrix could be compared.",
    "the same": "{} the same, and in the same order.",
    "the same up to a factor": "{} the same up to a factor, and in the same order.",
    "related": "{} related, and their units stand in the same order, as those of a fine-tune do.",
    "unrelated": "{} unrelated, as things stand in the residual stream: no order of "
    "units and heads brings them closer than chance does.",
}


def _sentence(verdict: str, counts: Mapping[str, int], of: str, far: int) -> str:
    if verdict in SENTENCES:
        return SENTENCES[verdict]
    if verdict == "related in part":
        words = [f"{counts[word]:,} {word}" for word in counts if counts[word]]
        return f"{{}} related in part: of {of} {listed(words)}."
    return f"{{}} {verdict}: units or heads stand in another order in {far:,} of {of}."


def _measured(
    rows: Sequence[Row], modules: Mapping[Any, Row], *, everything: bool, given: bool
) -> str:
    """Say how far matrices agree before and after, of all parameters together."""
    inside = [row for row in rows if row.values["module"] is not None] or list(rows)
    before, after = (_mean(inside, f"weighted_{when}") for when in ("before", "after"))
    how = "given" if given else "found"
    chance = [one for row in modules.values() if (one := row.number("weighted_null")) is not None]
    beside = f" (by chance up to {number(max(chance), 2)})" if chance else ""
    told = (
        f"Their matrices have a cosine of {hundredths(before)} as they are and "
        f"{hundredths(after)} in the order that was {how}{beside}."
    )
    if everything:
        one, other = (_mean(inside, f"r_{when}") for when in ("before", "after"))
        told += f" R of their singular vectors goes from {hundredths(one)} to {hundredths(other)}."
    return told


def _mean(rows: Sequence[Row], key: str) -> float:
    """Return a mean over matrices by their parameters."""
    known = [(row.place.numel, one) for row in rows if (one := row.number(key)) is not None]
    total = sum(size for size, _ in known)
    return sum(size * one for size, one in known) / total if total else 0.0
