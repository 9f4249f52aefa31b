"""Which pairs of heads two results tell of, and where their score moved."""

from collections.abc import Mapping
from typing import Any

from spectra.runs.intervals import UNSTATED


def pairs_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what became of the strongest pairs of two documents of `heads --compose`.

    A pair that one result does not tell may have had nearly its score: only of those that both tell
    is anything known to have moved.
    """
    held = [
        {(one["writer"], one["reader"], one["kind"]): float(one["score"])
         for one in told["summary"]["composition"]["strongest"]}
        for told in (before, after)
    ]  # fmt: skip
    first, second = held
    moves = [
        {"writer": pair[0], "reader": pair[1], "kind": pair[2], "before": score,
         "after": second[pair]}
        for pair, score in first.items()
        if pair in second and abs(second[pair] - score) > UNSTATED * max(score, second[pair])
    ]  # fmt: skip
    moves.sort(key=lambda one: -abs(one["after"] - one["before"]))
    return {
        "both": len(first.keys() & second.keys()), "moved": moves,
        "only_before": len(first.keys() - second.keys()),
        "only_after": len(second.keys() - first.keys()),
    }  # fmt: skip
