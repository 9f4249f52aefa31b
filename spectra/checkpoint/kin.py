"""Which stored tensors are lost together: parts of one weight, factors of one module."""

from collections.abc import Mapping

from spectra.checkpoint.codecs import PASSES

FACTOR = ".lora_"


def parts_beside(name: str, known: Mapping[str, str | None]) -> tuple[set[str], list[str]]:
    """Return the stored parts of the quantised weight that a tensor is part of, and its name.

    A codec takes a part that is not there for one that its weight does without.
    """
    parts: set[str] = set()
    told: list[str] = []
    for family in (family for every in PASSES for family in every):
        for ending in (family.main, *family.others):
            stem = name[: len(name) - len(ending)]
            main = stem + family.main
            if not name.endswith(ending) or main not in known:
                continue
            if family.dtypes and known[main] not in {None, *family.dtypes}:
                continue
            held = {main, *(stem + end for end in family.others)} & known.keys()
            if len(held) > 1:
                parts |= held
                told.append(stem + family.weight)
    return parts, list(dict.fromkeys(told))


def factors_beside(name: str, known: Mapping[str, str | None]) -> tuple[set[str], list[str]]:
    """Return the tensors of an adapter that belong to the same module, in order."""
    module, factor, _ = name.partition(FACTOR)
    held = [other for other in known if factor and other.partition(FACTOR)[0] == module]
    return set(held), held
