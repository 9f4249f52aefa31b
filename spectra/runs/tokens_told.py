"""How a direction in tokens is told: as data, in a cell, and in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.analyzers import Row
from spectra.analyzers.heads_reading import COPIES, NAMED, naming
from spectra.numbers import hundredths, number
from spectra.report.tokens import both_ends


@dataclass(frozen=True, slots=True)
class Told:
    """What a direction is."""

    of: str  # component, intruder, match, ov, qk
    index: int  # of its singular value, from 0
    sigma: float | None
    does: str  # reads, writes; of QK query, key
    tied: bool  # its singular value coincides with another: any direction of a plane would do
    folded: str  # norm beside its own matrix
    pair: int | None = None  # of an intruder its match's index, and the other way; -1: not known

    def plain(
        self, highest: Sequence[Mapping[str, Any]], lowest: Sequence[Mapping[str, Any]],
        through: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Return it as a document has it."""
        more: dict[str, Any] = {} if self.pair is None else {
            "match" if self.of == "intruder" else "intruder": None if self.pair < 0 else self.pair
        }  # fmt: skip
        return {
            "of": self.of, "index": self.index, "sigma": self.sigma, "does": self.does,
            "tied": self.tied, "folded": self.folded, "through": through, **more,
            "highest": list(highest), "lowest": list(lowest),
        }  # fmt: skip


def sentence(command: str, rows: Sequence[Row]) -> str:
    """Say which heads copy by tokens, or what the largest intruder writes or reads."""
    return _copying(rows) if command == "heads" else _largest(rows) if command == "diff" else ""


def _copying(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row.values["copying_tokens"] is not None]
    if not known:
        return ""
    score = {row.matrix: row.number("copying_tokens") or 0.0 for row in known}
    copies = sorted((row for row in known if score[row.matrix] >= COPIES),
                    key=lambda row: -score[row.matrix])  # fmt: skip
    away = sum(one <= -COPIES for one in score.values())
    more = f", and {away:,} {'takes' if away == 1 else 'take'} away what is read" if away else ""
    if not copies:
        return f"By their tokens none copies (score of {number(COPIES)} or more){more}."
    named = naming({row.place.tensor for row in rows})
    some = ", ".join(
        f"{named(row.place.tensor, row.place.layer, int(row.number('head') or 0))} "
        f"({hundredths(score[row.matrix])})"
        for row in copies[:NAMED]
    )
    verb = "copies" if len(copies) == 1 else "copy"
    lead = ", most of all" if len(copies) > NAMED else ":"
    return f"By their tokens {len(copies):,} {verb}{lead} {some}{more}."


def _largest(rows: Sequence[Row]) -> str:
    """Say what the intruder with the largest share of its matrix is, beside its best match."""
    best: tuple[float, Row, Mapping[str, Any]] | None = None
    for row in rows:
        energy = {one["index"]: one["energy"] or 0.0
                  for key in ("intruder_detail", "intruder_detail_right")
                  for one in _list(row.values.get(key))}  # fmt: skip
        for one in _list(row.values["tokens"]):
            share = energy.get(one["index"], 0.0)
            if one["of"] == "intruder" and (best is None or share > best[0]):
                best = (share, row, one)
    if best is None:
        return ""
    _, row, own = best
    match = next((one for one in _list(row.values["tokens"])
                  if one["of"] == "match" and one["intruder"] == own["index"]), None)  # fmt: skip
    where = f"layer {row.place.layer} {row.place.role}"
    lead = f"The intruder with the largest share of its matrix, in {where}, {own['does']}"
    told = f"{lead} {both_ends(own)}"
    if match is None:
        return f"{told}."
    past = {"reads": "read", "writes": "wrote"}[str(match["does"])]
    return f"{told}; its best match in the base {past} {both_ends(match)}."


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - a value of a row
    return list(value or ())
