"""An adapter that is read to be written again: what is cut, and what is carried over."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from spectra.checkpoint import Adapter, Checkpoint, LoraFactors, Skipped, TensorEntry
from spectra.checkpoint.adapter.factors import DROPPED, WRAPPERS
from spectra.checkpoint.adapter.views import scaled
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.finding import Turned, found_in
from spectra.lowrank.naming import Home, Name, Naming
from spectra.lowrank.output import NOT_WRITTEN
from spectra.lowrank.pieces import Carried
from spectra.lowrank.stacks import READ, Stack
from spectra.matrices import Place, View
from spectra.matrices.part import Part
from spectra.matrices.role import Role, roles_of
from spectra.text import counted, quote, shown
from spectra.work.task import Input
from spectra.writing.coat import Worn
from spectra.writing.coats import scales_told

WHOLE = "a whole tensor"
LENGTHS = "DoRA's lengths"
STACKS = "factors of a stack of experts"
KEPT = (
    "base_model_name_or_path", "revision", "task_type", "inference_mode", "modules_to_save",
    "trainable_token_indices", "fan_in_fan_out", "bias", "auto_mapping",
)  # fmt: skip
"""Settings of another method that are LoRA's too."""


@dataclass(frozen=True, slots=True)
class Source:
    """One adapter, its tensors told apart."""

    adapter: Adapter
    factors: Mapping[str, LoraFactors]  # by module
    naming: Naming
    names: Mapping[str, Home] = field(default_factory=dict)  # what modules are called in the file
    told: Mapping[str, float] = field(default_factory=dict)
    """The scale that is written beside the factors of each module, of an adapter that is copied."""
    turned: Mapping[str, Turned] = field(default_factory=dict)  # what the base's values are made to
    stacks: Mapping[str, Stack] = field(default_factory=dict)  # of experts, taken apart
    carried: Mapping[str, TensorEntry] = field(default_factory=dict)  # all others, as stored
    kept: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Rank and alpha of stacks that are carried over, by the names of their parameters."""
    skipped: tuple[Skipped, ...] = ()  # what is carried over, and as what
    given: Mapping[str, Any] = field(default_factory=dict)  # settings that it is made from
    notes: tuple[str, ...] = ()
    whole: frozenset[str] = frozenset()  # modules whose update is of full rank

    def lengths(self, module: str) -> bool:
        """Say whether DoRA gives each output of a module a length."""
        return module in self.factors and self.factors[module].magnitude is not None

    def axes(self, module: str) -> int:
        """Return how many axes a module's weight has."""
        if module in self.turned:
            return len(self.turned[module].entry.shape)
        return len(self.factors[module].a.shape)


def source_of(opened: Checkpoint | Adapter, naming: Naming) -> Source:
    """Return an adapter as it can be written again.

    Raises:
        UsageError: It is a model, or needs a base that is not given.
        AdapterError: Its modules cannot be named, or hold what is not written.
    """
    if isinstance(opened, Checkpoint):
        raise UsageError(
            f"{shown(opened.spec)} is a model, expected a LoRA adapter: a folder with "
            "adapter_config.json, or its file."
        )
    _refuse_unwritten(opened)
    _refuse_stacks(opened, naming)
    found = found_in(opened, naming)
    if not found.factors and not found.turned and not found.stacks:
        raise AdapterError(
            f"{shown(opened.spec)} holds no factors of linear layers or embeddings that could be "
            "cut."
        )
    shapes = {key: own.shape for key, own in found.factors.items()}
    for key, one in found.turned.items():
        flat = one.entry.shape[0], prod(one.entry.shape[1:])
        shapes[key] = flat[::-1] if one.turned else flat
    for key, stack in found.stacks.items():
        part = stack.part
        found.names[key] = Name(part.name, stack=part.leaf, layer=part.layer)
        shapes[key] = part.outputs, part.inputs[0]
    homes = naming.homes(found.names, shapes)
    stacks = {
        key: replace(stack, part=replace(
            stack.part, name=homes[key].name, rows=homes[key].rows, columns=homes[key].columns
        ))
        for key, stack in found.stacks.items()
    }  # fmt: skip
    homes = {key: home for key, home in homes.items() if key not in stacks}
    adapter = found.adapter
    own_names = adapter.coat == READ[0]
    cut = {part.name for own in found.factors.values()
           for entry in (own.a, own.b) for part in _parts(entry)}  # fmt: skip
    cut |= {name for stack in stacks.values() for name in stack.stored}
    cut |= {part.name for one in adapter.updates.values() for _, part in one.parts}
    carried = {
        name: entry for name, entry in adapter.weights.entries.items()
        if name not in cut and (own_names or not name.endswith(".alpha"))
    }  # fmt: skip
    dropped = tuple(Skipped(name, f"{NOT_WRITTEN}: {DROPPED}") for name in _dropped(adapter))
    for item in dropped:
        carried.pop(item.tensor, None)
    kept = {
        f"{own.module}.{leaf}": (rank, scale * rank)
        for own in adapter.factors.values() if not stacks
        for leaf, (rank, scale) in own.choices.items()
    }  # fmt: skip
    given = adapter.config
    if adapter.updates or adapter.coat not in READ:
        given = {key: adapter.config[key] for key in KEPT if key in adapter.config}
        given |= {"fan_in_fan_out": found.inputs_first or bool(given.get("fan_in_fan_out"))}
        if naming.base is not None:
            given = {"base_model_name_or_path": naming.base.spec, **given}
    if stacks:
        given = {**given, "target_parameters": None}
    source = Source(
        adapter, found.factors, naming, homes, {}, found.turned, stacks, carried, kept,
        (*_told(adapter, carried), *dropped), given, tuple(found.notes), frozenset(found.whole),
    )  # fmt: skip
    _refuse_unheld(source)
    return _without(source)


def carried_of(source: Source) -> dict[str, Carried]:
    """Return what is written beside factors, by its name in the file."""
    weights, coat = source.adapter.weights, source.naming.coat
    lengths = {own.magnitude.name for own in source.adapter.factors.values() if own.magnitude}
    same = coat.word == "peft" and source.adapter.coat in READ
    found = {
        name: Carried(weights, entry)
        for name, entry in source.carried.items() if same or name not in lengths
    }  # fmt: skip
    for key, own in source.factors.items():
        if own.magnitude is not None and not same:
            name, shape = coat.lengths(
                source.names[key].name, own.magnitude.numel, len(own.a.shape)
            )
            found[name] = Carried(weights, own.magnitude, shape)
    return found


def copied(source: Source) -> Source:
    """Return a source whose scales are told beside its factors, as far as its coat can."""
    keys = [*source.factors, *source.stacks]
    every: list[LoraFactors | Stack] = [*source.factors.values(), *source.stacks.values()]
    scales, ranks = [own.scale for own in every], [own.rank for own in every]
    told = dict(zip(keys, scales_told(source.naming.to, scales, ranks), strict=True))
    stacks = {key: replace(own, told=told[key]) for key, own in source.stacks.items()}
    return replace(source, told=told, stacks=stacks)


def _refuse_unwritten(opened: Adapter) -> None:
    """Refuse what has no place in an adapter that is written.

    Raises:
        AdapterError: There is some.
    """
    spec = shown(opened.spec)
    for own in opened.factors.values():
        wrapped = WRAPPERS.search(own.a.name) if own.kind != "parameter" else None
        if wrapped is not None:
            raise AdapterError(
                f"{spec}: {quote(own.a.name)} lies inside {quote(wrapped[0][1:])}, which is not "
                "written. Merge it into its base and give the merged model."
            )
    dropped = _dropped(opened)
    biased = next((name for name in opened.weights.entries
                   if name.endswith("lora_B.bias") and name not in dropped), None)  # fmt: skip
    if biased is not None:
        raise AdapterError(
            f"{spec} holds {quote(biased)}, a bias that is scaled with its factors (lora_bias), "
            "which is not written. Merge it into its base and give the merged model."
        )
    for item in opened.untold:
        raise AdapterError(
            f"{spec}: module {quote(item.tensor)} is not read: {item.reason}. Merge it into its "
            "base and give the merged model."
        )


def _dropped(opened: Adapter) -> list[str]:
    """Return the tensors that PEFT drops when it loads the adapter."""
    return [item.tensor for item in opened.beside if item.reason == DROPPED]


def _refuse_stacks(opened: Adapter, naming: Naming) -> None:
    """Refuse factors of stacks of experts where others have no layout for them.

    Raises:
        AdapterError: There are some.
    """
    stacks = [key for key, own in opened.factors.items() if own.kind == "parameter"]
    stacks += [key for key, own in opened.factors.items() if len(own.b.shape) == 3]
    if not stacks or naming.coat.stacks:
        return
    raise AdapterError(
        f"{shown(opened.spec)} holds {STACKS} in {counted(len(stacks), 'module')}, e.g. "
        f"{quote(stacks[0])}, and {naming.to} has no layout for them: its names are of layers one "
        "by one. Expected --to peft, mlx or gguf, or the merged model, which `spectra lowrank "
        "repair BASE ADAPTER` writes with --merged and --scale 1."
    )


def refuse_other_names(opened: Adapter) -> None:
    """Refuse an adapter that is no LoRA, or whose modules have other names than PEFT's.

    Raises:
        AdapterError: It is one.
    """
    spec = shown(opened.spec)
    if opened.updates:
        raise AdapterError(
            f"{spec} is an adapter of {opened.method}, expected a LoRA: `spectra lowrank convert "
            f"{spec} --base BASE --energy 0.9 -o LORA` makes one of it."
        )
    if opened.coat not in READ:
        raise AdapterError(
            f"{spec} names its modules as {opened.coat} does, expected PEFT's names: `spectra "
            f"lowrank convert {spec} --base BASE -o ADAPTER` gives them."
        )


def _refuse_unheld(source: Source) -> None:
    """Refuse what the coat has no place for.

    Raises:
        AdapterError: There is some.
    """
    coat, spec = source.naming.coat, shown(source.adapter.spec)
    for key, stack in source.stacks.items():
        if why := coat.refused(stack.part.worn(1)):
            raise AdapterError(f"{spec}: {quote(key)} cannot be written: {why}.")
    for key in source.names:
        rank = source.factors[key].rank if key in source.factors else 1
        kind = source.factors[key].kind if key in source.factors else "linear"
        worn = Worn(source.names[key].name, rank, "embedding" if kind == "embedding" else "linear",
                    axes=source.axes(key), lengths=source.lengths(key))  # fmt: skip
        if why := coat.refused(worn):
            merged = f"spectra lowrank repair BASE {spec} --scale 1 --merged -o MERGED"
            plain = (" A plain LoRA is what `spectra lowrank extract BASE MERGED -o LORA` makes "
                     f"of its merge: `{merged}`.") if worn.lengths else ""  # fmt: skip
            raise AdapterError(f"{spec}: module {quote(key)} cannot be written: {why}. "
                               f"Expected --to peft.{plain}")  # fmt: skip


def _without(source: Source) -> Source:
    """Return a source without what its coat has no place for, which is told."""
    peft = source.naming.to == "peft" and source.adapter.coat in READ
    beside = [item for item in source.skipped
              if LENGTHS not in item.reason and item.tensor in source.carried]  # fmt: skip
    if peft or not beside:
        return source
    lost = {item.tensor for item in beside}
    no_place = f"{NOT_WRITTEN}: {source.naming.to} has no place for"
    told = tuple(
        replace(item, reason=f"{no_place} {item.reason.rpartition(': ')[2]}")
        if item.tensor in lost else item
        for item in source.skipped
    )  # fmt: skip
    given = {key: value for key, value in source.given.items()
             if key not in ("modules_to_save", "trainable_token_indices")}  # fmt: skip
    carried = {name: one for name, one in source.carried.items() if name not in lost}
    return replace(source, carried=carried, skipped=told,
                   given={**given, "bias": "none"})  # fmt: skip


def _parts(entry: TensorEntry) -> tuple[TensorEntry, ...]:
    return tuple(entry.parts) if entry.codec is not None else (entry,)


def _told(adapter: Adapter, carried: Mapping[str, TensorEntry]) -> tuple[Skipped, ...]:
    stacks = {
        entry.name
        for own in adapter.factors.values() if own.kind == "parameter"
        for entry in (own.a, own.b)
    }  # fmt: skip
    lengths = {own.magnitude.name for own in adapter.factors.values() if own.magnitude}
    rows = {own.entry.name for own in adapter.rows.values()}
    told = []
    for name in carried:
        what = WHOLE
        if name in stacks:
            what = STACKS
        elif name in lengths:
            what = LENGTHS
        elif name in rows:
            what = "rows of an embedding"
        told.append(Skipped(name, f"carried over as it is: {what}"))
    return tuple(told)


def place_of(module: str, own: LoraFactors, role: Role) -> Place:
    """Return the row of a module's update."""
    return Place(
        f"{module}.weight", module, role.kind, role.layer, role.expert, *own.shape, own.a.dtype,
        file=own.a.shard,
    )  # fmt: skip


def roles(axes: Mapping[str, int]) -> dict[str, Role]:
    """Return the role of every module by its name.

    Args:
        axes: Of the weights of the modules.
    """
    found = roles_of({f"{name}.weight": count for name, count in axes.items()})
    return {name: found[f"{name}.weight"] for name in axes}


def inputs_of(
    source: Source, module: str, role: Role, weight: float = 1.0, number: str = ""
) -> tuple[Input, Input]:
    """Return the two factors of a module as a task has them, the scale in B but for what is told.

    Args:
        source: The adapter.
        module: One of its `factors`.
        role: The module's.
        weight: That of its update in a sum.
        number: What tells it from other adapters' in one task.
    """
    own, weights = source.factors[module], source.adapter.weights
    told = source.told.get(module)
    scale = own.scale * weight
    if told is not None:
        scale = 1.0 if told == scale else scale / told
    left = own.b if told is not None and scale == 1.0 else scaled(own.b, scale)
    return tuple(
        Input(side + number, weights, View(entry.name, role, entry, Part(), *_flat(entry)))
        for side, entry in (("A", own.a), ("B", left))
    )  # type: ignore[return-value]


def _flat(entry: TensorEntry) -> tuple[int, int]:
    return entry.shape[0], entry.numel // entry.shape[0]
