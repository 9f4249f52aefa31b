"""Experts that were never trained: zero, of one value throughout, or equal to their siblings."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, sqrt

from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.places import is_zero, place
from spectra.text import counted, shown

NAMED = 8  # experts that a message names
CLOSE = 1e-5  # of sigma_max of a matrix of one value


@dataclass(frozen=True, slots=True)
class Idle:
    """Experts of one layer that are alike in what is wrong with them."""

    where: str  # the layer
    total: int  # experts of it
    numbers: tuple[int, ...]
    what: str
    members: tuple[Subject, ...]  # their matrices


def idle(facts: Facts) -> list[Idle]:
    """Return experts that hold nothing that training leaves, in all of their matrices."""
    layers: dict[str, dict[int, list[Subject]]] = {}
    for subject in facts.matrices():
        if subject.expert is not None:
            at = place(subject.tensor)
            where = f"{at[0]}{at[1]}" if at else ""
            layers.setdefault(where, {}).setdefault(subject.expert, []).append(subject)
    return [found for where, experts in layers.items() if len(experts) > 1
            for found in _of_layer(where, experts)]  # fmt: skip


def _of_layer(where: str, experts: dict[int, list[Subject]]) -> Iterator[Idle]:
    kinds: dict[str, list[int]] = {}
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, members in experts.items():
        if all(is_zero(one) for one in members):
            kinds.setdefault("hold nothing but zeros", []).append(number)
        elif all(_is_constant(one) for one in members):
            kinds.setdefault("hold one value throughout", []).append(number)
        else:
            digests = tuple(one.values.get("digest") for one in members)
            if None not in digests:
                alike.setdefault(digests, []).append(number)
    same = [number for numbers in alike.values() if len(numbers) > 1 for number in numbers]
    if same:
        kinds["equal one another bit for bit"] = sorted(same)
    for what, numbers in kinds.items():
        every = tuple(one for number in numbers for one in experts[number])
        yield Idle(where, len(experts), tuple(sorted(numbers)), what, every)


def idle_names(facts: Facts) -> frozenset[str]:
    """Return the matrices of all such experts."""
    return frozenset(one.name for found in idle(facts) for one in found.members)


def untrained(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield layers some experts of which were never trained."""
    for found in idle(facts):
        kept = [one for one in found.members if settings_of(one.name) is not None]
        if kept:
            named = ", ".join(map(str, found.numbers[:NAMED]))
            more = len(found.numbers) - NAMED
            named += f" and {more:,} more" if more > 0 else ""
            layer = f" of {shown(found.where)}" if found.where else ""
            few = "all" if len(found.numbers) == found.total else f"{len(found.numbers):,} of"
            yield Breach(
                f"{few} {counted(found.total, 'expert')}{layer} {found.what}: {named}",
                kept[0].name,
                len(found.numbers),
                0.0,
            )


def _is_constant(subject: Subject) -> bool:
    """Say whether all entries have one magnitude, and all rows one direction.

    sigma_max is at most the Frobenius norm, and this at most sqrt(m n) times the largest entry.
    """
    largest, sigma = subject.number("largest"), subject.number("sigma_max")
    if not largest or sigma is None:
        return False
    return isclose(sigma, largest * sqrt(subject.rows * subject.cols), rel_tol=CLOSE)
