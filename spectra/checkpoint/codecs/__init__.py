"""Quantised weights: which stored tensors belong together, and how they become values."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from spectra.checkpoint.codecs import bitsandbytes, fp4, gptq, packed, scaled
from spectra.checkpoint.codecs.parts import Family, Found, MisfitError, tails_of
from spectra.checkpoint.codecs.settings import Settings
from spectra.checkpoint.codecs.small import read_small
from spectra.checkpoint.codecs.turned import as_held
from spectra.checkpoint.codecs.unread import unread
from spectra.checkpoint.entry import Skipped, TensorEntry

__all__ = ["ReadSmall", "decoded", "read_small"]

ReadSmall: TypeAlias = Callable[[Iterable[TensorEntry]], Mapping[str, bytes]]
"""Returns the bytes of small tensors by name; those that are not small are left out."""

PASSES: tuple[tuple[Family, ...], ...] = (
    (
        *packed.FAMILIES,
        *gptq.FAMILIES,
        *fp4.FAMILIES,
        *bitsandbytes.FAMILIES,
        *scaled.FAMILIES,
    ),
    scaled.ALONE,
)
"""The second looks at what the first left."""


def decoded(
    entries: Mapping[str, TensorEntry], config: Mapping[str, Any], read: ReadSmall
) -> tuple[dict[str, TensorEntry], list[Skipped]]:
    """Put quantised weights together from their stored parts.

    Args:
        entries: Every stored tensor by name.
        config: The model's config.json; `quantization_config` is read. May be empty.
        read: Reads the few small parts that tell a shape.

    Returns:
        Tensors as a model has them, and what belongs to a scheme that is not read.
    """
    settings = Settings.of(config)
    claims, taken = _claims(entries, settings)
    wanted = [part for family, found in claims for part in family.early(found)]
    early = read(wanted) if wanted else {}
    made: dict[str, TensorEntry] = {}  # by the part with the weights
    skipped: list[Skipped] = []
    names = entries.keys() - taken.keys()
    for family, found in claims:
        if found.name in names:
            skipped.append(Skipped(found.main.name, "the same weight is stored in another way too"))
            continue
        try:
            weight = family.make(replace(found, early=early))
            made[found.main.name] = as_held(weight, config)
        except MisfitError as reason:
            skipped.append(Skipped(found.main.name, str(reason)))
        else:
            names.add(found.name)
    strangers = list(unread(entries, taken, settings))
    refused = {item.tensor for item in strangers}
    whole: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        tensor = made.get(taken[name]) if name in taken else entry
        if tensor is not None and name not in refused:
            whole.setdefault(tensor.name, tensor)
    return whole, [*skipped, *strangers]


def _claims(
    entries: Mapping[str, TensorEntry], settings: Settings
) -> tuple[list[tuple[Family, Found]], dict[str, str]]:
    """Return what looks like a quantised weight, and the main part of each part."""
    claims: list[tuple[Family, Found]] = []
    taken: dict[str, str] = {}
    tails = tails_of(entries)
    dtypes = {entry.dtype for entry in entries.values()}
    for every in PASSES:
        families = [family for family in every if family.may_be_in(tails, dtypes)]
        for entry in entries.values() if families else ():
            if entry.name in taken or entry.codec is not None:
                continue
            for family in families:
                found = family.find(entry, entries, settings)
                if found is not None:
                    claims.append((family, found))
                    taken[entry.name] = entry.name
                    for part in found.others.values():
                        taken.setdefault(part.name, entry.name)
                    break
    return claims, taken
