"""What several changes of one base have in common, of a matrix and of the model, in sentences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from spectra.analyzers.row import Row, Value
from spectra.deferred import Tensor, torch
from spectra.numbers import estimate, number, percent, ranged
from spectra.text import listed, printable

TIMES = 8.0  # chance: what lies within is no likeness
SAME = 1e-6  # of the norms: two changes that differ by no more are one, to rounding
PARALLEL = 1e-9  # likewise, of 1 less the cosine
MOST = 6  # pairs that a sentence names

Likeness = Literal[
    "none", "same", "parallel", "opposite", "alike", "against", "base", "unknown", "chance"
]
"""Of two changes: none is there; equal; of one direction or its opposite; more alike or opposed
than chance has it; by what they take of the base alone; by no more than how they are stored may
make them; no more than chance."""


def related(
    gram: Tensor, spread: Tensor, rounding: Tensor, along: Tensor
) -> dict[tuple[int, int], dict[str, Value]]:
    """Return the cosine of every pair of changes, and what would make one of nothing.

    Args:
        gram: Inner products.
        spread: Sums of (a_ij b_ij)^2, whose root is what an inner product of independent signs is.
        rounding: Squared norms of what rounding the base as each is stored would change. It is
            alike in all: W0 + D is rounded much as W0 is.
        along: Inner products with the base over its norm: weight decay shrinks it in all alike,
            and what was trained from another base lacks it.

    Returns:
        By place of either: `task_cosine`, and what of it may be of nothing: `cosine_chance`,
        `cosine_base`, and `cosine_rounding` where it is any.
    """
    return {
        (i, j): _related(
            float(gram[i, j]), math.sqrt(float(gram[i, i]) * float(gram[j, j])),
            float(spread[i, j]), math.sqrt(float(rounding[i]) * float(rounding[j])),
            float(along[i] * along[j]),
        )
        for i, j in itertools.combinations(range(len(gram)), 2)
    }  # fmt: skip


def _related(
    product: float, size: float, spread: float, rounding: float, along: float
) -> dict[str, Value]:
    return {
        "task_cosine": _cosine(product, size),
        "cosine_chance": math.sqrt(spread) / size if size else None,
        "cosine_base": _cosine(along, size),
        "cosine_rounding": min(rounding / size, 1.0) if size and rounding else None,
    }


def _cosine(product: float, size: float) -> float | None:
    return max(-1.0, min(product / size, 1.0)) if size else None


@dataclass(frozen=True, slots=True)
class Whole:
    """All matrices of all changes together."""

    names: Sequence[str]
    pairs: Sequence[Mapping[str, Any]]  # as of a row, by number, and how alike they are
    norms: Sequence[float]  # of each change
    energy_ratio: float | None
    signs: Mapping[str, float | None]
    losses: Sequence[float | None] | None  # of each, at the merged rank
    loss: float | None  # of the sum
    alone: Sequence[int]  # matrices that no other changes, of each

    def plain(self, told: Sequence[Mapping[str, Any]]) -> dict[str, object]:
        """Return it as a summary holds it.

        Args:
            told: What is concluded of each change for itself.
        """
        keys = ("matrices", "changed", *INTRUDERS, "reading")
        updates = [
            {"model": name, "delta_norm": norm, "changed_alone": alone}
            | {key: own[key] for key in keys if key in own}
            for name, norm, alone, own in zip(self.names, self.norms, self.alone, told, strict=True)
        ]
        if self.losses is not None:
            updates = [
                {**one, "merged_loss": loss} for one, loss in zip(updates, self.losses, strict=True)
            ]
        return {
            "updates": updates,
            "pairs": [self._named(one) for one in self.pairs],
            "energy_ratio": self.energy_ratio,
            **self.signs,
            **({} if self.loss is None else {"merged_loss": self.loss}),
        }

    def _named(self, pair: Mapping[str, Any]) -> dict[str, Any]:
        return {**pair, "a": self.names[pair["a"]], "b": self.names[pair["b"]]}

    def row(self, row: Row) -> Row:
        """Return a row with models by name, and of its pairs the one whose cosine says most."""
        values: dict[str, Any] = dict(row.values)
        if "lost" in row.arrays:
            norms = row.arrays["gram"].diagonal()
            shares = (row.arrays["lost"][: len(norms)] / norms).sqrt().tolist()
            numbers = row.arrays["numbers"].tolist()
            lost = {self.names[k]: share for k, share in zip(numbers, shares, strict=True)}
            values["updates"] = [
                {**one, "merged_loss": lost.get(one["model"])} for one in values["updates"]
            ]
        if pairs := values["pairs"]:
            values["pairs"] = [self._named(one) for one in pairs]
            most = max(values["pairs"], key=lambda one: abs(one["task_cosine"] or 0.0))
            values |= {key: most[key] for key in OF_PAIR}
            values["alike"] = f"{most['a']}, {most['b']}"
        return replace(row, values=values)


class Sums:
    """What adds up over matrices."""

    def __init__(self, count: int) -> None:
        """Begin with nothing."""
        square = (count, count)
        self.grams = {key: torch.zeros(square, dtype=torch.float64) for key in SUMMED}
        self.sizes = torch.zeros(square, dtype=torch.float64)
        self.coded = torch.zeros(square, dtype=torch.bool)
        self.rounding = torch.zeros(square, dtype=torch.float64)
        self.along = torch.zeros(square, dtype=torch.float64)
        self.signs = torch.zeros(5, dtype=torch.float64)
        self.lost = torch.zeros(count, dtype=torch.float64)
        self.missed = torch.zeros(2, dtype=torch.float64)
        self.alone = [0] * count

    def add(self, row: Row) -> None:
        """Add a matrix; of one that a model lacks, its pairs count nothing."""
        own = row.arrays["numbers"].long()
        inside = own[:, None], own[None, :]
        for key, total in self.grams.items():
            total[inside] += row.arrays[key]
        held: Any = row.values["updates"]
        has = torch.zeros(len(self.alone), dtype=torch.float64)
        has[[int(one["model"]) for one in held]] = 1.0
        norms, rounding = torch.zeros_like(has), torch.zeros_like(has)
        norms[own], rounding[own] = row.arrays["gram"].diagonal(), row.arrays["rounding"]
        self.sizes += norms[:, None] * has
        self.rounding += (rounding[:, None] * rounding).sqrt()
        along = torch.zeros_like(has)
        along[own] = row.arrays["along"]
        self.along += along[:, None] * along
        marks = torch.zeros_like(has, dtype=torch.bool)
        marks[own] = row.arrays["coded"]
        self.coded |= marks[:, None] | marks
        self.signs += row.arrays["signs"]
        if len(own) == 1:
            self.alone[int(own)] += 1
        if "lost" in row.arrays:
            self.lost[own] += row.arrays["lost"][:-2]
            self.missed += row.arrays["lost"][-2:]

    def pair(self, i: int, j: int) -> dict[str, Any]:
        """Return what all matrices of two changes have in common."""
        product, spread, rounding, along = (
            float(of[i, j])
            for of in (self.grams["gram"], self.grams["spread"], self.rounding, self.along)
        )
        size = math.sqrt(float(self.sizes[i, j]) * float(self.sizes[j, i]))
        found = _related(product, size, spread, rounding, along)
        return {"a": i, "b": j, **found, "likeness": self._likeness(i, j, found)}

    def _likeness(self, i: int, j: int, found: Mapping[str, Any]) -> Likeness:
        cosine = found["task_cosine"]
        if cosine is None:
            return "none"
        sizes = float(self.sizes[i, j]), float(self.sizes[j, i])
        if sum(sizes) - 2.0 * float(self.grams["gram"][i, j]) <= SAME**2 * max(sizes):
            return "same"
        chance, coded = TIMES * found["cosine_chance"], bool(self.coded[i, j])
        ways: Sequence[tuple[bool, Likeness]] = (
            (abs(cosine) <= chance and not coded, "chance"),
            (coded or abs(cosine) <= (found["cosine_rounding"] or 0.0) + chance, "unknown"),
            (1.0 - abs(cosine) <= PARALLEL, "parallel" if cosine > 0.0 else "opposite"),
            (abs(cosine - found["cosine_base"]) <= chance, "base"),
        )
        return next((way for holds, way in ways if holds), "alike" if cosine > 0.0 else "against")


def whole_of(rows: Sequence[Row], names: Sequence[str]) -> Whole:
    """Add up rows with the arrays that `Together` gives them."""
    sums = Sums(len(names))
    known = [row for row in rows if "gram" in row.arrays]
    for row in known:
        sums.add(row)
    gram = sums.grams["gram"]
    energy = float(gram.diagonal().sum())
    shared, conflicts, expected, weight, against = sums.signs.tolist()
    merged = any("lost" in row.arrays for row in known)
    missed, total = sums.missed.tolist()
    return Whole(
        names,
        [sums.pair(i, j) for i, j in itertools.combinations(range(len(names)), 2)],
        gram.diagonal().sqrt().tolist(),
        max(float(gram.sum()), 0.0) / energy if energy else None,
        {
            "sign_conflict": conflicts / shared if shared else None,
            "sign_conflict_chance": expected / shared if shared else None,
            "sign_conflict_weight": against / weight if shared else None,
        },
        [math.sqrt(lost / norm) if norm else None
         for lost, norm in zip(sums.lost.tolist(), gram.diagonal().tolist(), strict=True)]
        if merged else None,
        (math.sqrt(missed / total) if total else 0.0) if merged else None,
        sums.alone,
    )  # fmt: skip


def reading_of(whole: Whole, told: Sequence[Mapping[str, Any]], rank: int | None) -> str:
    """Say how the changes lie to each other.

    Args:
        whole: All of them.
        told: What is concluded of each for itself.
        rank: That the sum is cut to.
    """
    if not any(own.get("matrices") for own in told):
        return "No pair could be measured."
    names = [printable(name) for name in whole.names]
    still = [name for name, norm in zip(names, whole.norms, strict=True) if not norm]
    parts = [f"Nothing changed in {listed(still)}."] if still else []
    parts += [_two(whole, names)] if len(names) == 2 else _many(whole, names)
    if sum(norm > 0.0 for norm in whole.norms) > 1:
        parts += _summed(whole, names, rank)
        lone = [f"{count:,} by {name}" for name, count in zip(names, whole.alone, strict=True)
                if count]  # fmt: skip
        if lone:
            parts.append(f"Matrices that one alone changes: {listed(lone)}.")
    if any("intruders" in own for own in told):
        found = [f"{number(own['intruders'])} in {name}" for name, own in
                 zip(names, told, strict=True)]  # fmt: skip
        parts.append(f"Intruder dimensions: {listed(found)}.")
    return " ".join(part for part in parts if part)


def _two(whole: Whole, names: Sequence[str]) -> str:
    (pair,) = whole.pairs
    first, second = names
    if pair["likeness"] == "none":
        return ""
    if pair["likeness"] == "same":
        return f"{first} and {second} are the same change."
    if pair["likeness"] in ("parallel", "opposite"):
        ratio = number(whole.norms[1] / whole.norms[0])
        way = "one direction" if pair["likeness"] == "parallel" else "opposite directions"
        return f"{first} and {second} change the model in {way}, the second {ratio} times as far."
    return f"{first} and {second}{WAYS[pair['likeness']]}: {_cosines([pair])}."


def _many(whole: Whole, names: Sequence[str]) -> list[str]:
    """Say it of the pairs of more than two, those of one kind together."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for pair in whole.pairs:
        kinds.setdefault(pair["likeness"], []).append(pair)
    kinds.pop("none", None)
    told = []
    for kind in (kind for kind in ORDER if kind in kinds):
        some = kinds[kind]
        which = [f"{names[one['a']]} and {names[one['b']]}" for one in some[:MOST]]
        more = f" and {len(some) - MOST:,} pairs more" if len(some) > MOST else ""
        told.append(f"{'; '.join(which)}{more}{SAID[kind]}: {_cosines(some)}.")
    return told


def _cosines(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Write cosines, what chance would make of them, and what of them is none of training's."""
    values = sorted(one["task_cosine"] for one in pairs)
    chances = [one["cosine_chance"] for one in pairs]
    text = f"task cosine {ranged(values[0], values[-1], _few)}"
    text += f", of unrelated changes about {estimate(max(chances))}"
    shared = max((abs(one["cosine_base"]) for one in pairs), default=0.0)
    if shared > max(chances) * TIMES:
        text += f", along the base itself {_few(shared)}"
    rounding = [one["cosine_rounding"] for one in pairs if one["cosine_rounding"]]
    if rounding:
        text += f", of rounding the base as they are stored up to {estimate(max(rounding))}"
    if any(one["likeness"] == "unknown" for one in pairs):
        text += "; how alike training made them is not known"
    return text


def _summed(whole: Whole, names: Sequence[str], rank: int | None) -> list[str]:
    """Say what becomes of them when they are added up."""
    signs, told = whole.signs, []
    if (share := signs["sign_conflict"]) is not None:
        told.append(
            f"Of the entries that several change, signs disagree in {percent(share)} (by chance "
            f"{percent(signs['sign_conflict_chance'] or 0.0)}), which is "
            f"{percent(signs['sign_conflict_weight'] or 0.0)} of the weight."
        )
    if whole.energy_ratio is not None:
        told.append(
            f"The sum has {number(whole.energy_ratio)} times the energy of its parts (1: none "
            "shared)."
        )
    if whole.loss is not None and whole.losses is not None:
        each = [f"{name} {percent(loss)}" for name, loss in
                zip(names, whole.losses, strict=True) if loss is not None]  # fmt: skip
        told.append(f"Cut to rank {rank:,} the sum loses {percent(whole.loss)} of its norm: "
                    f"{listed(each)}.")  # fmt: skip
    return told


def _few(value: float) -> str:
    return number(value)


INTRUDERS = ("intruders", "matrices_with_intruders", "certified")
SUMMED = ("gram", "spread")
OF_PAIR = (
    "task_cosine", "cosine_chance", "overlap_left", "overlap_left_chance", "overlap_right",
    "overlap_right_chance", "overlap_status",
)  # fmt: skip
ORDER: Sequence[Likeness] = (
    "same", "parallel", "opposite", "alike", "against", "base", "unknown", "chance",
)  # fmt: skip
WAYS: Mapping[Likeness, str] = {
    "alike": " change the model partly alike",
    "against": " change the model partly against each other",
    "base": " are alike by how much of the base they keep alone",
    "chance": " are no more alike than unrelated changes",
    "unknown": "",
}
"""Said of two."""
SAID: Mapping[Likeness, str] = {
    **WAYS, "same": " are the same change", "parallel": " change the model in one direction",
    "opposite": " change the model in opposite directions",
}  # fmt: skip
