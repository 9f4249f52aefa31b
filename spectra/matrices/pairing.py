"""Which tuned tensor belongs to which base tensor."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spectra.errors import PairingError
from spectra.text import endings, quote, some


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


def by_module(names: Iterable[tuple[str, str]]) -> "Modules":
    """Return what is told of the modules of tensors, found by any tensor of the same module.

    Args:
        names: Of tensors, such as `layers.0.q_proj.qweight`, and what is told of each.
    """
    told: dict[str, str] = {}
    for name, text in names:
        told.setdefault(name.rpartition(".")[0], text)
    every: dict[str, str] = {}
    for module, text in told.items():
        for tail in (module, *endings(module)):
            every.setdefault(tail, text)
    return Modules(told, every)


@dataclass(frozen=True, slots=True)
class Modules:
    """What is told of modules, by their names and by every ending of these."""

    told: Mapping[str, str]
    endings: Mapping[str, str]

    def of(self, name: str) -> str | None:
        """Return what is told of a tensor's module; the names may differ by a prefix."""
        module = name.rpartition(".")[0]
        if module in self.endings:
            return self.endings[module]
        return next((self.told[tail] for tail in endings(module) if tail in self.told), None)


def _by_ending(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for tail in endings(name):
            found.setdefault(tail, []).append(name)
    return found
