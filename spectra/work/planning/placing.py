"""Which tensors of a base the modules of an adapter are, whatever separates their names."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod

from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.adapter.adapter import Changed
from spectra.checkpoint.adapter.bare import PARTS
from spectra.checkpoint.adapter.mlx import MLX, mlx_name
from spectra.checkpoint.adapter.originals import diffusers_module, originals_of
from spectra.checkpoint.entry import Slab
from spectra.errors import PairingError
from spectra.matrices import match_names
from spectra.text import endings, quote, shown
from spectra.work.planning.renamed import renamed_of
from spectra.work.planning.stacks import RENAMED

NO_BASE = "no counterpart in the base"
ELSEWHERE = "a module of "  # another part of the pipeline than the base
FUSED_INPUT = ".in_proj_weight"  # of torch.nn.MultiheadAttention
WEIGHT = ".weight"
FLAT = re.compile(
    r"(?:lora|lycoris)_(?:(?P<part>prior_unet|prior_te|unet|te[1-9]?|transformer|prior)_)?(?P<rest>.+)",
    re.DOTALL,
)
HOMES = {
    "te": ("cond_stage_model.", "clip_l."),
    "te1": ("embedders.0.", "cond_stage_model.", "clip_l."),
    "te2": ("embedders.1.", "clip_g."),
    "te3": ("t5xxl.",),
}
"""Where single files of a whole pipeline hold its text encoders."""

ROUTER = ".mlp.gate.weight"
"""Of Mixtral in memory, whose files have another name for its module."""

TEXT = "text_model_"
"""What text encoders may lack in front of their names when they are saved alone."""


@dataclass(slots=True)
class Placed:
    """The modules of the adapter that tensors of the base are, and those that none is."""

    tensors: dict[str, tuple[str, Slab]] = field(default_factory=dict)
    """By tensor: the module, and which rows of its update where several tensors share it."""
    lost: list[Skipped] = field(default_factory=list)


def place_modules(base: Checkpoint, tuned: Adapter) -> Placed:
    """Find the tensors of the base that an adapter's factors update.

    Args:
        base: The model it was trained on, or a part of that.
        tuned: The adapter; its bare parameters are left out.

    Raises:
        PairingError: A name matches several others equally well.
    """
    factors = {key: own for key, own in tuned.modules.items() if own.kind != "parameter"}
    if tuned.naming == "flat":
        return _flat(base, factors)
    if tuned.naming == "parts":
        return _by_part(base, factors, f"module of {shown(tuned.spec)}")
    subject = f"module of {shown(tuned.spec)}"
    renamed = renamed_of(base)
    if tuned.coat == MLX:
        family = base.config.get("model_type")
        renamed |= {mlx_name(family, name): name for name in base.entries}
    return _dotted(base.entries, {key: key for key in factors}, subject, renamed)


def _dotted(
    entries: Mapping[str, TensorEntry],
    modules: Mapping[str, str],
    subject: str,
    renamed: Mapping[str, str] = {},
) -> Placed:
    """Place modules by their names, whose beginnings may differ."""
    placed = Placed()
    there = {f"{key}{WEIGHT}": key for key in modules if f"{key}{WEIGHT}" in renamed}
    placed.tensors |= {renamed[name]: (modules[key], None) for name, key in there.items()}
    modules = {key: own for key, own in modules.items() if f"{key}{WEIGHT}" not in there}
    aliases = _aliases(entries)
    known = [*entries, *(alias for alias in aliases if alias not in entries)]
    names = {key if key in entries else f"{key}{WEIGHT}": key for key in modules}
    matches, left = match_names(known, list(names), subject)
    for name, other in matches.items():
        placed.tensors[aliases.get(name, name)] = modules[names[other]], None
    inputs = {f"{names[name]}{FUSED_INPUT}": names[name] for name in left}
    matches, left = match_names(entries, list(inputs), subject)
    for name, other in matches.items():
        placed.tensors[name] = modules[inputs[other]], None
    placed.lost += [Skipped(modules[inputs[name]], NO_BASE) for name in left]
    return placed


def _aliases(names: Collection[str]) -> dict[str, str]:
    """Return tensors of a UNet by the names that diffusers gives them, and Mixtral's routers."""
    found: dict[str, str] = {}
    for name in names:
        if name.endswith(ROUTER):
            found[name.replace(*RENAMED[::-1])] = name
        if name.endswith(WEIGHT) and ("_block" in name or "_emb" in name or "out." in name):
            inner = name.removesuffix(WEIGHT).partition("diffusion_model.")
            alias = diffusers_module(inner[2] or inner[0])
            if alias:
                found[f"{alias}{WEIGHT}"] = name
    return found


def _by_part(base: Checkpoint, factors: Mapping[str, Changed], subject: str) -> Placed:
    """Place the modules of each part of a pipeline; a base may be one part or all."""
    groups: dict[str, dict[str, str]] = {}
    for key in factors:
        found = PARTS.match(key)
        part = found["part"] if found else ""
        groups.setdefault(part, {})[key[found.end() :] if found else key] = key
    tried = [(part, _dotted(base.entries, modules, subject)) for part, modules in groups.items()]
    named = base.spec.rstrip("/").rpartition("/")[2]
    scores: dict[str, tuple[int, bool]] = {}
    for part, one in tried:
        sized = (_fits(factors[key], base.entries[name]) for name, (key, _) in one.tensors.items())
        scores[part] = sum(sized), part == named
    tried.sort(key=lambda own: scores[own[0]], reverse=True)
    placed, owner = Placed(), dict[str, str]()
    for part, one in tried:
        rival = next((owner[name] for name in one.tensors if name in owner), None)
        if rival is not None and scores[rival] == scores[part]:
            raise PairingError(
                f"{shown(base.spec)} fits both {rival} and {part} of the adapter: which of them it "
                f"is is unknown. Give it in a folder of that name."
            )
        if rival is None:
            placed.tensors |= one.tensors
            owner |= dict.fromkeys(one.tensors, part)
        strange = not one.tensors or rival is not None
        reason = f"{ELSEWHERE}{part}, which the base does not hold" if strange and part else NO_BASE
        keys = list(groups[part].values()) if rival else [item.tensor for item in one.lost]
        placed.lost += [Skipped(key, reason) for key in keys]
    return placed


def _fits(factors: Changed, entry: TensorEntry) -> bool:
    flat = (entry.shape[0], prod(entry.shape[1:])) if entry.shape else ()
    return flat in (factors.shape, factors.shape[::-1])


def _flat(base: Checkpoint, factors: Mapping[str, Changed]) -> Placed:
    """Place modules whose names have underscores for dots, by what the base's names become so."""
    index = _flattened(base.entries)
    claims: dict[str, list[tuple[str, Slab]]] = {}
    reasons: dict[str, str] = {}
    for key, own in factors.items():
        part, rest = _split(key)
        ways = index.get(rest) or index.get(rest.removeprefix(TEXT), {})
        fitting = _fitting(ways, part, own, base.entries)
        if len(fitting) > 1:
            several = ", ".join(quote(way[0][0]) for way in fitting[:3])
            reasons[key] = f"its name may stand for several tensors of the base: {several}"
        for name, rows in fitting[0] if len(fitting) == 1 else ():
            claims.setdefault(name, []).append((key, rows))
    placed = Placed()
    for name, rivals in claims.items():
        entry = base.entries[name]
        sized = [(key, rows) for key, rows in rivals if rows or _fits(factors[key], entry)]
        chosen = rivals if len(rivals) == 1 else sized
        if len(chosen) == 1:
            placed.tensors[name] = chosen[0]
        for key, _ in chosen if len(chosen) > 1 else ():
            reasons[key] = f"{len(chosen)} modules of the adapter may be {quote(name)}"
    used = {key for key, _ in placed.tensors.values()}
    held = {_split(key)[0] for key in used}
    for key in factors:
        if key not in used:
            part = _split(key)[0]
            strange = part and part not in held and not _has_home(base.entries, part)
            reason = f"{ELSEWHERE}{part}, which the base does not hold" if strange else NO_BASE
            placed.lost.append(Skipped(key, reasons.get(key, reason)))
    return placed


def _has_home(names: Collection[str], part: str) -> bool:
    """Say whether a single file of a pipeline holds a part, under whatever names."""
    return any(home in name for home in HOMES.get(part, ()) for name in names)


def _split(key: str) -> tuple[str, str]:
    found = FLAT.fullmatch(key)
    return (found["part"] or "", found["rest"]) if found else ("", key)


Way = tuple[tuple[str, Slab], ...]  # tensors of the base, and their rows of the update


def _flattened(entries: Mapping[str, TensorEntry]) -> dict[str, dict[Way, int]]:
    """Return the tensors that a flattened name may mean, with how much of theirs it lacks."""
    index: dict[str, dict[Way, int]] = {}
    for name, entry in entries.items():
        if len(entry.shape) < 2:
            continue
        module = name.removesuffix(WEIGHT)
        for stripped, tail in enumerate(endings(module)):
            index.setdefault(tail.replace(".", "_"), {})[((name, None),)] = stripped
        for original, siblings in originals_of(module):
            way = _shared(entries, siblings)
            if way:
                index.setdefault(original.replace(".", "_"), {})[way] = 0
    aliases = _aliases(entries)
    for alias, name in aliases.items():
        flat = alias.removesuffix(WEIGHT).replace(".", "_")
        index.setdefault(flat, {})[((name, None),)] = 0
    return index


def _shared(entries: Mapping[str, TensorEntry], modules: Collection[str]) -> Way:
    """Return which rows of one update each of several tensors has; nothing where one is missing."""
    first, way = 0, []
    for module in modules:
        entry = entries.get(f"{module}{WEIGHT}")
        if entry is None or (len(modules) > 1 and len(entry.shape) != 2):
            return ()
        way.append((entry.name, (first, first + entry.shape[0]) if len(modules) > 1 else None))
        first += entry.shape[0]
    return tuple(way)


def _fitting(
    ways: Mapping[Way, int], part: str, own: Changed, entries: Mapping[str, TensorEntry]
) -> list[Way]:
    """Return the ways to take a name that are left: in the part's place, of its size, least cut."""
    homes = HOMES.get(part, ())
    found = list(ways)
    found = [way for way in found if any(home in way[0][0] for home in homes)] or found
    found = [way for way in found if _whole(own, way, entries)] or found
    least = min((ways[way] for way in found), default=0)
    return [way for way in found if ways[way] == least]


def _whole(own: Changed, way: Way, entries: Mapping[str, TensorEntry]) -> bool:
    if len(way) == 1:
        return _fits(own, entries[way[0][0]])
    rows = way[-1][1]
    return rows is not None and own.shape == (rows[1], entries[way[0][0]].shape[1])
