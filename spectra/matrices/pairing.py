"""Which tuned tensor belongs to which base tensor."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from spectra.errors import PairingError
from spectra.text import endings, quote, some

T = TypeVar("T")


def match_names(
    base: Collection[str], tuned: Collection[str], subject: str
) -> tuple[dict[str, str], list[str]]:
    """Match names that differ by a prefix, such as `bert.` under a task head.

    Equal names belong together. Otherwise one name must end with the other, from a dot
    on; among base names that a tuned name ends with, the longest is meant.

    Args:
        base: Names in the base.
        tuned: Names in the tuned model or adapter.
        subject: What one tuned name is, for messages: `tensor of runs/tuned`.

    Returns:
        Tuned name by base name, and the tuned names that match nothing.

    Raises:
        PairingError: A name matches several others equally well.
    """
    names = set(base)
    found = {name: name for name in tuned if name in names}
    inside = _by_ending(base)
    claims: dict[str, list[str]] = {}
    unmatched: list[str] = []
    for name in tuned:
        if name in names:
            continue
        target = next((tail for tail in endings(name) if tail in names), None)
        if target is None:
            outer = inside.get(name, [])
            if len(outer) > 1:
                raise PairingError(
                    f"{subject} {quote(name)} matches several base tensors: {some(outer, 3)}. "
                    "Give the base it was trained on, or rename its tensors."
                )
            target = outer[0] if outer else None
        if target is None or target in found:  # in found: the exact name is there too
            unmatched.append(name)
        else:
            claims.setdefault(target, []).append(name)
    for target, claimants in claims.items():
        if len(claimants) > 1:
            raise PairingError(
                f"base tensor {quote(target)} matches more than one {subject}: "
                f"{some(claimants, 3)}. Which one is meant is unknown; rename or remove the others."
            )
        found[target] = claimants[0]
    return found, unmatched


def module_of(tensor: str) -> str:
    """Return the name of the module that holds a tensor: all before its last dot."""
    return tensor.rpartition(".")[0]


def by_ending(told: Iterable[tuple[str, T]]) -> "Named[T]":
    """Return what is told of names, found also by names that differ by a prefix.

    Args:
        told: Names of tensors or modules and what is told of each; of two of one name the first.
    """
    own: dict[str, T] = {}
    for name, item in told:
        own.setdefault(name, item)
    every: dict[str, T] = {}
    for name, item in own.items():
        for tail in (name, *endings(name)):
            every.setdefault(tail, item)
    return Named(own, every)


@dataclass(frozen=True, slots=True)
class Named(Generic[T]):
    """What is told of names, by these and by every ending of them."""

    told: Mapping[str, T]
    endings: Mapping[str, T]

    def of(self, name: str) -> T | None:
        """Return what is told of a name, or of one that ends with it or that it ends with."""
        if name in self.endings:
            return self.endings[name]
        return next((self.told[tail] for tail in endings(name) if tail in self.told), None)


def _by_ending(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for tail in endings(name):
            found.setdefault(tail, []).append(name)
    return found
