"""Two results of one command: what moved between them, by how much beyond its error."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from spectra import distribution
from spectra.analyzers import Row
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Place
from spectra.matrices.place import COLUMNS
from spectra.report.document import checked
from spectra.report.kind import Document, kind_of, kinds, noun_of, typed
from spectra.report.saved import intact, read_saved
from spectra.report.sentences import models_named
from spectra.runs.compare_pairs import pairs_between
from spectra.runs.compare_reading import reading_of
from spectra.runs.findings import findings_between, rules_not_in_both, verdict_word
from spectra.runs.intervals import is_stated
from spectra.runs.moves import (
    Move,
    Tally,
    compared_row,
    measured_keys,
    moves_of,
)
from spectra.runs.result import Result
from spectra.text import natural, shown
from spectra.words import HEADWISE, UNMEASURED
from spectra.work import Model
from spectra.work import Result as Data
from spectra.work.result import plain

Given: TypeAlias = str | Path | Mapping[str, Any] | Data
"""A file that a command wrote, its document, or a result."""

BEFORE, AFTER = "before", "after"
SELECTION = ("include", "exclude", "roles", "layers")
CHOOSING = ("select", "by", "per", "rank_by", "include_embeddings", *SELECTION)
FOLDED = (
    "ov_sigma_max", "ov_frobenius", "ov_stable_rank", "ov_effective_rank", "qk_sigma_max",
    "qk_frobenius", "qk_stable_rank", "qk_effective_rank", "qk_unturned", "logit_bound", "copying",
    "copying_tokens", "nearest", "nearest_cosine",
)  # fmt: skip
DCT = tuple(f"{of}dct_{key}" for of in ("", "delta_") for key in ("energy", "null", "ratio"))
MEANS: Mapping[str, Sequence[str]] = {
    "energy": ("energy_rank", "delta_energy_rank"),
    "k": ("intruders", "worst_cos", "subspace_overlap", "overlap_before", "overlap_after"),
    "epsilon": ("intruders",),
    "fold": FOLDED,
    "gamma": tuple(
        f"{key}_{when}" for key in ("r_top", "weighted_top") for when in ("before", "after")
    ),
    "dct_rank": DCT,
    "side": ("intruders", "worst_cos", "subspace_overlap", "null_cos"),
    **dict.fromkeys(CHOOSING, ("selected",)),
}
"""Settings with which a quantity is another one, so that it is not compared."""
UNTOLD = frozenset({"path", "alias", "lines"})
"""Settings that say where something lies."""
TOTALS: Mapping[str, Sequence[str]] = {
    "diff": ("changed", "intruders", "matrices_with_intruders"), "kappa": ("selected", "eligible"),
    "ls": ("parameters", "bytes"), "spectrum": ("parameters",), }  # fmt: skip
"""Sums that a command's summary holds and a reader asks for first."""

WITH_VECTORS = ("matrix or vector", "matrices and vectors")
OF_TOTAL = {"matrices_with_intruders": "intruders"}


class Side(NamedTuple):
    """One of both results."""

    name: str  # of its file
    document: Document
    rows: dict[str, dict[str, Any]]  # by matrix

    @property
    def models(self) -> str:
        """Short names of its models."""
        return models_named(self.document)


def compare(before: Given, after: Given) -> Result:
    """Return what moved between two results of one command, beyond its error.

    A number has moved where what it is proven or stated to lie between (docs/quantities.md) has
    nothing in common with what the other lies between. Words, flags and findings are compared as
    they are.

    Args:
        before: A file that a command wrote with `-o FILE.json`, its document, or a result.
        after: The other, of the same command, which has a row a matrix, or a head.

    Returns:
        A row a matrix; `.frame` has a line for each quantity that moved;
        `.summary["changed"]` says whether anything did.

    Raises:
        SavedError: A file cannot be read or holds no result.
        UsageError: The two are not of one command, or of one that compares models itself.
        NothingToAnalyseError: They have no matrix in common.
    """
    start = time.perf_counter()
    first, second = _side(before, BEFORE), _side(after, AFTER)
    _require_alike(first, second)
    with intact(Path(f"{first.name} or {second.name}")):
        tally, rows, found = Tally(), [], {}
        left_out = _left_out(first, second)
        known = [measured_keys(list(side.rows.values())) for side in (first, second)]
        keys = [key for key in known[0] if key in known[1] and key not in left_out]
        for name in _names(first, second):
            old, new = first.rows.get(name), second.rows.get(name)
            found[name] = moves_of(old, new, keys, tally) if old and new else []
            rows.append(_row(old, new, found[name]))
        summary = _summary(first, second, tally, found) | {
            "left_out": left_out,
            "not_measured": {
                BEFORE: [key for key in known[1] if key not in known[0]],
                AFTER: [key for key in known[0] if key not in known[1]],
            },
            "unstated": [key for key in keys if _is_unstated(key, first)],
        }
        summary["changed"] = _is_changed(summary)
        summary["reading"] = reading_of(summary, _noun(first, second))
    settings = {"command": first.document["command"]}
    names = distinct(first.name, second.name)
    models = [
        Model(side.name, side.name, part, labels={"model": name})
        for side, part, name in zip((first, second), (BEFORE, AFTER), names, strict=True)
    ]
    return Result(
        "compare", distribution.version(), settings, models, rows, [], summary,
        time.perf_counter() - start,
    )  # fmt: skip


def distinct(first: str, second: str) -> tuple[str, str]:
    """Return the ends of two paths, as short as they may be and still be told apart."""
    one, other = Path(first).parts, Path(second).parts
    for length in range(1, max(len(one), len(other), 1)):
        ends = "/".join(one[-length:]), "/".join(other[-length:])
        if ends[0] != ends[1]:
            return ends
    return first, second


def _side(given: Given, name: str) -> Side:
    """Read one of both; what is no file goes by the names of its models."""
    if isinstance(given, str | Path):
        document, name = read_saved(Path(given)).document, str(given)
    else:
        told = given.document() if isinstance(given, Data) else given
        document = checked(plain(told), name)  # lists where a live one has tuples
    return Side(name, document, {row["matrix"]: compared_row(row) for row in document["rows"]})


def _require_alike(first: Side, second: Side) -> None:
    """Refuse what cannot be compared.

    Raises:
        UsageError: The two are of different commands, or of one that has no row a matrix.
        NothingToAnalyseError: No matrix is in both.
    """
    known = sorted(
        {typed(one.command) for one in kinds() if not one.series and one.command != "compare"}
    )
    one, other = (side.document["command"] for side in (first, second))
    for side, command in ((first, one), (second, other)):
        if kind_of(command).series or command == "compare":
            raise UsageError(
                f"{shown(side.name)} is of {typed(command).partition(' --')[0]} and "
                f"{'two results' if command == 'compare' else 'several models'}, which it compares "
                f"itself. Expected two results of one of {', '.join(known)}."
            )
    if one != other:
        raise UsageError(
            f"{shown(first.name)} is of {typed(one)}, {shown(second.name)} of {typed(other)}. "
            f"Expected two results of one command: run `spectra {typed(one)}` on the second model, "
            "with -o FILE.json."
        )
    if not first.rows.keys() & second.rows.keys():
        names = " and ".join(
            f"{shown(side.name)} has {next(iter(side.rows), 'none')}" for side in (first, second)
        )
        raise NothingToAnalyseError(
            f"no matrix is in both: {names}. Expected results of one architecture, with the same "
            "names; `spectra diff` pairs models whose names differ."
        )


def _names(first: Side, second: Side) -> list[str]:
    return sorted({**first.rows, **second.rows}, key=natural)


def _row(before: dict[str, Any] | None, after: dict[str, Any] | None, moves: list[Move]) -> Row:
    """Return the row of one matrix: what moved most, and all that did."""
    row = after or before
    assert row is not None  # noqa: S101 - it is in one of both
    there = "both" if before and after else BEFORE if before else AFTER
    lost = after is not None and after["status"] in UNMEASURED
    most = moves[0] if moves else None
    values: dict[str, Any] = {
        "present": there, "moved": len(moves),
        "quantity": most.key if most else None, "before": most.before if most else None,
        "after": most.after if most else None, "was": most.was if most else None,
        "now": most.now if most else None, "change": most.change if most else None,
        "beyond": most.beyond if most else None, "extent": most.extent if most else None,
        "moves": [move.plain() for move in moves],
    }  # fmt: skip
    place = Place(**{key: row[key] for key in COLUMNS})
    return Row(
        place, after["status"] if lost and after else "ok", row["error"] if lost else None, values
    )


def _summary(
    first: Side, second: Side, tally: Tally, found: Mapping[str, Sequence[Move]]
) -> dict[str, Any]:
    common = [name for name in found if name in first.rows and name in second.rows]
    summary: dict[str, Any] = {
        "compared": first.document["command"],
        "skipped": 0,
        "matrices": len(common),
        "moved": sum(bool(moves) for moves in found.values()),
        "only_before": [name for name in found if name not in second.rows],
        "only_after": [name for name in found if name not in first.rows],
        "no_numbers": sum(
            all(side.rows[name]["status"] in UNMEASURED for side in (first, second))
            for name in common
        ),
        "lost": _turned(found, lost=True),
        "restored": _turned(found, lost=False),
        "quantities": list(_quantities(tally, found)),
        "settings": _settings(first, second),
        "totals": list(_totals(first, second)),
        "sides": {part: _told(side) for part, side in ((BEFORE, first), (AFTER, second))},
        **_bytes(first, second, common),
    }
    documents = first.document, second.document
    if all("composition" in one["summary"] for one in documents) and not _left_out(first, second):
        summary["pairs"] = pairs_between(*documents)
    if kind_of(first.document["command"]).judges:
        summary["verdicts"] = dict(zip((BEFORE, AFTER), map(verdict_word, documents), strict=True))
        summary["findings"] = findings_between(*documents)
        summary["rules_not_in_both"] = rules_not_in_both(*documents)
    return summary


def _turned(found: Mapping[str, Sequence[Move]], *, lost: bool) -> list[str]:
    """Return the matrices that have no numbers now, or have them again."""
    return [
        name
        for name, moves in found.items()
        if any(move.key == "status" and (move.now in UNMEASURED) is lost for move in moves)
    ]


def _quantities(tally: Tally, found: Mapping[str, Sequence[Move]]) -> Iterator[dict[str, Any]]:
    """Yield what became of each quantity, and where it moved most."""
    largest: dict[str, tuple[str, Move]] = {}
    for name, moves in found.items():
        for move in moves:
            if move.key not in largest or move.rank < largest[move.key][1].rank:
                largest[move.key] = name, move
    for key in (*tally.keys, *(["status"] if tally.moved["status"] else [])):
        most = largest.get(key)
        yield {
            "key": key, "compared": tally.compared[key], "moved": tally.moved[key],
            "unknown": tally.unknown[key], "only_before": tally.only_before[key],
            "only_after": tally.only_after[key], "matrix": most[0] if most else None,
            "largest": most[1].plain() if most else None,
        }  # fmt: skip


def _told(side: Side) -> dict[str, Any]:
    document = side.document
    return {
        "file": side.name, "spectra": document["spectra"], "models": list(document["models"]),
        "named": side.models, "reading": str(document["summary"]["reading"]),
    }  # fmt: skip


def _noun(first: Side, second: Side) -> tuple[str, str]:
    """Return what a row is of; where only one has heads, heads are what it has alone."""
    if first.document["command"] == "check":
        return WITH_VECTORS  # and a tensor that holds several matrices once for each
    nouns = [noun_of(side.document) for side in (first, second)]
    return max(nouns, key=lambda noun: noun == HEADWISE)


def _settings(first: Side, second: Side) -> list[dict[str, Any]]:
    """Return the settings that differ."""
    one, other = first.document["settings"], second.document["settings"]
    keys = dict.fromkeys([*one, *other])
    return [
        {"key": key, BEFORE: one.get(key), AFTER: other.get(key)}
        for key in keys
        if key not in UNTOLD and one.get(key) != other.get(key)
    ]


def _left_out(first: Side, second: Side) -> dict[str, str]:
    """Return the quantities that mean something else in each result, and the setting why."""
    differ = [one["key"] for one in _settings(first, second)]
    return {key: setting for setting in reversed(differ) for key in MEANS.get(setting, ())}


def _totals(first: Side, second: Side) -> Iterator[dict[str, Any]]:
    """Yield sums of both, but for those that mean something else in each."""
    left_out = _left_out(first, second)
    one, other = (side.document["summary"] for side in (first, second))
    for key in TOTALS.get(first.document["command"], ()):
        was, now = (_count(summary.get(key)) for summary in (one, other))
        if was is not None and now is not None and OF_TOTAL.get(key, key) not in left_out:
            yield {"key": key, BEFORE: was, AFTER: now}


def _count(value: object) -> int | None:
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bytes(first: Side, second: Side, common: Sequence[str]) -> dict[str, int | None]:
    """Return of how many matrices the stored values are others, as their digests tell."""
    pairs = [(first.rows[name].get("digest"), second.rows[name].get("digest")) for name in common]
    known = [(one, other) for one, other in pairs if one and other]
    return {"digests": len(known), "other_bytes": sum(one != other for one, other in known)}


def _is_unstated(key: str, side: Side) -> bool:
    """Say whether a quantity is a number of which no error is stated."""
    numbers = (isinstance(row.get(key), float) for row in side.rows.values())
    return not is_stated(key) and any(numbers)


def _is_changed(summary: Mapping[str, Any]) -> bool:
    """Say whether anything is known to be other than it was."""
    lists = ("only_before", "only_after")
    findings = any(one["became"] != "not judged" for one in summary.get("findings", ()))
    one_sided = any(one["only_before"] or one["only_after"] for one in summary["quantities"])
    totals = any(one[BEFORE] != one[AFTER] for one in summary["totals"])
    return bool(
        summary["moved"] or any(summary[key] for key in lists) or one_sided or totals or findings
        or summary.get("pairs", {}).get("moved")
        or len(set(summary.get("verdicts", {}).values())) > 1
    )  # fmt: skip
