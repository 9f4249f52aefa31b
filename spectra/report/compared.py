"""What stands under a comparison: findings, pairs, quantities, and what differs beside numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.numbers import number
from spectra.report import cells
from spectra.report.sentences import SAMPLED_ALIKE
from spectra.text import counted, printable

LIMIT = 20  # findings shown without -v
PAIRS = 2  # of heads, named
FEW = 6  # quantities named
SIDES = ("before", "after")
IDENTITY = ("role", "dtype", "codec", "shape")


def findings(summary: Mapping[str, Any], full: bool) -> Iterator[str]:
    """Yield findings that one of two checks has alone, and the rules that only one judged by."""
    found = summary.get("findings", ())
    for one in found if full else found[:LIMIT]:
        yield (
            f"{one['became']}: {one['rule']} {one['severity']}, {printable(one['where'])}: "
            f"{printable(one['message'])}"
        )
    if not full and len(found) > LIMIT:
        yield f"... {len(found) - LIMIT:,} more findings (-v shows all)"
    for side, codes in (summary.get("rules_not_in_both") or {}).items():
        if codes:
            yield f"judged only {side}: {', '.join(map(printable, codes))}"


def pairs(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what became of the strongest pairs of heads."""
    found = summary.get("pairs")
    if not found:
        return
    told = counted(found["both"], "pair")
    moves = [
        f"{printable(one['reader'])} reads {printable(one['writer'])} by {one['kind'].upper()}: "
        f"{number(one['before'])} → {number(one['after'])}"
        for one in found["moved"][:PAIRS]
    ]
    most = f", most {'; '.join(moves)}" if moves else ""
    yield f"of the strongest pairs of heads both tell {told}; moved: {len(found['moved']):,}{most}"
    for side in SIDES:
        if found[f"only_{side}"]:
            count = counted(found[f"only_{side}"], "pair is", "pairs are")
            yield f"{count} among the strongest only {side}"


def by_quantity(summary: Mapping[str, Any], full: bool) -> Iterator[str]:
    """Yield what moved, in how many matrices, and what nowhere did."""
    moved = [one for one in summary["quantities"] if one["moved"] and one["compared"]]
    shown = moved if full else moved[:FEW]
    told = [f"{printable(one['key'])} {one['moved']:,} of {one['compared']:,}" for one in shown]
    if len(moved) > len(shown):
        told.append(f"{len(moved) - len(shown):,} more")
    if told:
        yield f"moved: {', '.join(told)}"
    still = [
        printable(one["key"])
        for one in summary["quantities"]
        if one["compared"] and not one["moved"] and one["key"] not in IDENTITY
    ]
    if still and moved:
        yield f"within the error everywhere: {', '.join(still)}"


def left_open(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a bound leaves open, and what has a number on one side alone."""
    told = [
        f"{printable(one['key'])} of {one['unknown']:,}"
        for one in summary["quantities"]
        if one["unknown"]
    ]
    if told:
        exact = " (--exact measures it)" if summary["compared"] == "kappa" else ""
        yield f"a bound leaves open whether it moved: {', '.join(told)}{exact}"
    for side, other in (SIDES, SIDES[::-1]):
        found = [one for one in summary["quantities"] if one[f"only_{side}"]]
        if found:
            names = ", ".join(
                f"{printable(one['key'])} of {one[f'only_{side}']:,}" for one in found
            )
            yield f"a value {side} and none {other}: {names}"


def missing(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what has no numbers, or numbers on one side alone."""
    if summary["no_numbers"]:
        yield f"no numbers on either side: {counted(summary['no_numbers'], 'matrix', 'matrices')}"
    for side, other in (SIDES, SIDES[::-1]):
        lacking = summary["not_measured"][other]
        if lacking:
            yield f"measured only {side}: {', '.join(map(printable, lacking))}"


def circumstances(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs beside the numbers: settings, versions, bases, stored values."""
    for one in summary["settings"]:
        keys = [key for key, setting in summary["left_out"].items() if setting == one["key"]]
        so = f"; not compared: {', '.join(map(printable, keys))}" if keys else ""
        values = f"{_value(one['before'])} → {_value(one['after'])}"
        yield f"settings differ: {printable(one['key'])} {values}{so}"
    sides = [summary["sides"][side] for side in SIDES]
    versions = [side["spectra"] for side in sides]
    if versions[0] != versions[1]:
        yield f"versions of spectra differ: {' → '.join(map(printable, versions))}"
    bases = [[one for one in side["models"] if one.get("part") == "base"] for side in sides]
    specs, known = ([[str(one.get(key) or "") for one in side] for side in bases]
                    for key in ("spec", "digest"))  # fmt: skip
    same = known[0] == known[1] and all(known[0])
    if specs[0] != specs[1] and all(bases) and not same:
        yield f"the bases differ: {' → '.join(printable(', '.join(base)) for base in specs)}"
    digests = [[str(one.get("digest") or "") for one in side["models"]] for side in sides]
    if all(map(all, digests)) and not summary["digests"]:
        yield _same_weights(*digests)
    if summary["unstated"]:
        names = ", ".join(map(printable, summary["unstated"]))
        yield f"no error is stated of {names}: a millionth is taken for it"
    if summary["digests"]:
        of = counted(summary["digests"], "matrix or vector", "matrices and vectors")
        what = f"{summary['other_bytes']:,} of {of}"
        yield f"stored values differ in {what}"


def _same_weights(before: Sequence[str], after: Sequence[str]) -> str:
    """Say what digests tell of the weights; a sample of the bytes does not tell of the others."""
    forms = [[digest.partition(":")[0] for digest in side] for side in (before, after)]
    if forms[0] != forms[1]:
        return "whether the weights are the same is not known: their digests are of two kinds"
    if before != after:
        return "other weights, by their digests"
    if "sample" in forms[0]:
        return SAMPLED_ALIKE
    return "the same weights, by their digests"


def _value(value: object) -> str:
    if isinstance(value, list):
        return printable(", ".join(map(str, value))) or "none"
    return "none" if value in (None, "") else cells.plain(value)
