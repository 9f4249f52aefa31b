"""Quantised weights: which stored tensors belong together, and how they become values."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from spectra.checkpoint.codecs import bitsandbytes, comfy, fp4, gptq, mlx, packed, scaled
from spectra.checkpoint.codecs.keys import strange_key
from spectra.checkpoint.codecs.parts import Family, Found, MisfitError, tails_of
from spectra.checkpoint.codecs.settings import Settings
from spectra.checkpoint.codecs.small import read_small
from spectra.checkpoint.codecs.transforms import CONFIG as TRANSFORMS
from spectra.checkpoint.codecs.transforms import without_transforms
from spectra.checkpoint.codecs.turned import as_held
from spectra.checkpoint.codecs.unread import unread
from spectra.checkpoint.entry import MLX, Skipped, TensorEntry

__all__ = ["ReadSmall", "decoded", "read_small"]

ReadSmall: TypeAlias = Callable[[Iterable[TensorEntry]], Mapping[str, bytes]]
"""Returns the bytes of small tensors by name; those that are not small are left out."""

PASSES: tuple[tuple[Family, ...], ...] = (
    (
        *comfy.FAMILIES,
        *packed.FAMILIES,
        *gptq.FAMILIES,
        *mlx.FAMILIES,
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
    claims = [(family, replace(found, early=early)) for family, found in claims]
    made, skipped = _made(claims, settings, entries.keys() - taken.keys())
    skipped += unread(entries, taken, settings, {item.tensor for item in skipped})
    refused = {item.tensor for item in skipped}
    whole: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        tensor = made.get(taken[name]) if name in taken else entry
        if tensor is not None and name not in refused:
            whole.setdefault(tensor.name, as_held(tensor, config))
    if settings.mlx or any(entry.note == MLX for entry in entries.values()):
        whole = {name: mlx.channels_first(entry) for name, entry in whole.items()}
    transforms = settings.values.get(TRANSFORMS)
    if transforms:
        whole, rotated = without_transforms(whole, transforms)
        skipped += rotated
    return whole, skipped


def _made(
    claims: Iterable[tuple[Family, Found]], settings: Settings, names: set[str]
) -> tuple[dict[str, TensorEntry], list[Skipped]]:
    """Return the weights by the part that holds them, and why others are left out."""
    made: dict[str, TensorEntry] = {}
    skipped: list[Skipped] = []
    strange = strange_key(settings.method, settings.values)
    for family, found in claims:
        main, reason = found.main.name, ""
        if found.name in names:
            reason = "the same weight is stored in another way too"
        elif strange:
            reason = f"a key of the {settings.label} settings is not understood: {strange}"
        else:
            try:
                made[main] = family.make(found)
                names.add(found.name)
            except MisfitError as misfit:
                reason = str(misfit)
        if reason:
            skipped.append(Skipped(main, reason))
    return made, skipped


def _claims(
    entries: Mapping[str, TensorEntry], settings: Settings
) -> tuple[list[tuple[Family, Found]], dict[str, str]]:
    """Return what looks like a quantised weight, and the main part of each part."""
    claims: list[tuple[Family, Found]] = []
    taken: dict[str, str] = {}
    tails = tails_of(entries)
    dtypes = {entry.dtype for entry in entries.values()}
    notes = {entry.note for entry in entries.values()}
    for every in PASSES:
        families = [family for family in every if family.may_be_in(tails, dtypes, notes)]
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
