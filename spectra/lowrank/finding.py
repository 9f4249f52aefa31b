"""What an adapter changes in the words of its base: modules, factors, and weights made anew."""

from dataclasses import dataclass, field, replace

from spectra.checkpoint import Adapter, Checkpoint, LoraFactors, Skipped, TensorEntry
from spectra.checkpoint.adapter.adapter import Changed
from spectra.checkpoint.adapter.ggml import named_for
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.adapter.views import sliced
from spectra.checkpoint.entry import Slab
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.homes import Homes, homes_of
from spectra.lowrank.naming import Name, Naming, name_of
from spectra.lowrank.stacks import READ, Stack, stacks_of
from spectra.matrices import views_of
from spectra.matrices.layers import expert_in
from spectra.matrices.role import kind_of
from spectra.text import counted, quote, shown
from spectra.words import VOCABULARY
from spectra.work.planning.adapted import placed_changes
from spectra.work.planning.placing import ELSEWHERE, place_modules

MOST = 3  # notes on biases
FORMS = ("kohya", "diffusers")
"""Whose names of modules are the base's own: those of its class in memory may have more before."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A weight of the base that another method makes anew."""

    update: Update
    entry: TensorEntry  # of the base
    turned: bool  # which stores it [in, out]


@dataclass(slots=True)
class Found:
    """What an adapter changes, by module."""

    adapter: Adapter  # a GGUF's with the names of its base
    naming: Naming
    factors: dict[str, LoraFactors] = field(default_factory=dict)
    turned: dict[str, Turned] = field(default_factory=dict)
    names: dict[str, Name] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)  # of experts, as they are written
    whole: set[str] = field(default_factory=set)  # those of full rank
    notes: list[str] = field(default_factory=list)
    inputs_first: bool = False  # the base stores linear layers [in, out]

    def add(self, key: str, own: Changed, name: Name) -> bool:
        """Note a module, unless another part of a pipeline is asked for."""
        if self.naming.part and name.part and name.part != self.naming.part:
            return False
        self.names[key] = name
        if isinstance(own, Update) and own.form != "turns":
            own = (own if own.known else own.of(*own.shape, (0, 0))).factors()
        if isinstance(own, LoraFactors):
            update = self.adapter.updates.get(own.module)
            self.whole |= {key} if update is not None and not update.rank else set()
            self.factors[key] = own
        return True

    def place(self, key: str, own: Changed, rows: Slab, name: Name, entry: TensorEntry) -> None:
        """Note what changes one tensor of the base.

        Raises:
            AdapterError: It is of another size.
        """
        if isinstance(own, Update):
            if not own.known:
                raise AdapterError(
                    f"{shown(self.adapter.spec)}: module {quote(key)} does not fit "
                    f"{quote(entry.name)}, which is {list(entry.shape)}. Give the base it was "
                    "trained on."
                )
            if self.add(key, own, name):
                self.turned[key] = Turned(own, entry, self.inputs_first)
            return
        if len(entry.shape) > 2 and len(own.a.shape) == 2:
            inputs = entry.shape[1:]
            ones = (1,) * (len(inputs) - 1)
            a = _shaped(own.a, (own.rank, *inputs))
            own = replace(own, a=a, b=_shaped(own.b, (own.b.shape[0], own.rank, *ones)))
        if rows is not None:
            length = own.magnitude and sliced(own.magnitude, rows)
            own = replace(own, b=sliced(own.b, rows), magnitude=length)
        self.add(key, own, name)


def found_in(opened: Adapter, naming: Naming) -> Found:
    """Return what an adapter changes, under the names that its base has where they are asked for.

    Raises:
        UsageError: It needs a base.
        AdapterError: Something of it is not in the base.
    """
    opened = _translated(opened, naming)
    found = Found(opened, naming)
    flat = opened.naming == "flat" and naming.to != "kohya"
    unknown = [own for own in opened.updates.values() if own.form == "turns" or 0 in own.shape]
    base = naming.base
    here = opened.coat in READ and naming.coat.stacks == "memory"
    each = naming.coat.stacks == "each"
    if not here and any(own.kind == "parameter" or (each and expert_in(key) is not None)
                        for key, own in opened.factors.items()):  # fmt: skip
        base = _needed(opened, naming, "stacks of experts, whose names are known")
    if base is not None and not opened.updates:
        found.stacks = stacks_of(opened, base, naming)
    taken = {name for stack in found.stacks.values() for name in stack.stored}
    if flat:
        base = _needed(opened, naming, "underscores for dots in its names, which are known")
    if unknown:
        base = _needed(opened, naming, f"updates of {opened.method}, which are known")
    flat = flat or (base is not None and naming.to in FORMS)
    if base is not None and (flat or opened.updates):
        _in_base(found, base, renamed=flat)
    else:
        for key, own in opened.modules.items():
            stacked = isinstance(own, LoraFactors) and own.a.name in taken
            if own.kind != "parameter" and not stacked:
                found.add(key, own, name_of(key, opened.naming))
        if naming.base is not None:
            _place(found, naming.base)
    return found


def _translated(opened: Adapter, naming: Naming) -> Adapter:
    """Return an adapter with the names of its base where it has GGUF's.

    Raises:
        UsageError: There is no base.
        AdapterError: Of some module the way back is not known.
    """
    if opened.naming != "gguf":
        return opened
    base = _needed(opened, naming, "names of GGUF's, which are known")
    opened, lost = named_for(opened, base)
    if lost:
        raise AdapterError(
            f"{shown(opened.spec)}: {quote(lost[0].tensor)} is not read: {lost[0].reason}. "
            "Give the adapter that the file was made of."
        )
    return opened


def _place(found: Found, base: Checkpoint) -> None:
    """Hold factors against the matrices of the base that they change, as far as names tell these.

    What GGUF and mlx-lm tell of a module is its family's name, which in memory may have more before
    it: the base's class says what.

    Raises:
        AdapterError: One is of another size.
    """
    opened, stored = found.adapter, _turned(base)
    placed = place_modules(base, opened).tensors
    found.inputs_first = not stored.isdisjoint(placed)
    homes = None if opened.coat in READ or opened.naming != "dotted" else homes_of(base)
    for tensor, (key, rows) in placed.items():
        if homes is not None and key in found.names:
            found.names[key] = Name(_in_memory(homes, base.entries[tensor]) or key)
        own, there = opened.modules[key], base.entries[tensor].shape
        turned = tensor in stored and own.kind == "linear"
        here = own.shape[::-1] if turned else own.shape
        resized = kind_of(tensor, len(there)) in VOCABULARY
        if rows is None and len(there) == 2 and here != there and not resized:
            one, other = (" x ".join(f"{size:,}" for size in shape) for shape in (here, there))
            raise AdapterError(
                f"{shown(opened.spec)}: the update of {quote(key)} is {one}, and {quote(tensor)} "
                f"of {shown(base.spec)} is {other}. Give the base it was trained on."
            )


def _in_memory(homes: Homes, entry: TensorEntry) -> str:
    """Return the module whose weight a tensor is in memory; empty where it is none's alone."""
    return homes.parameter(entry).removesuffix(".weight")


def _turned(base: Checkpoint) -> set[str]:
    """Return the tensors that are stored [in, out]."""
    return {view.entry.name for view in views_of(base)[0] if view.part.transposed}


def _in_base(found: Found, base: Checkpoint, *, renamed: bool) -> None:
    """Note every tensor of the base that changes, under the adapter's names or the base's."""
    opened = found.adapter
    stored = _turned(base)
    placed = place_modules(base, opened)
    changes = placed_changes(base, opened, placed, stored)
    _tell_lost(found, placed.lost, base)
    biases = []
    homes = homes_of(base) if renamed and found.naming.to not in FORMS else None
    for tensor, (own, rows) in changes.items():
        key = placed.tensors[tensor][0]
        name = name_of(key, opened.naming)
        if renamed:
            own_name = "" if homes is None else _in_memory(homes, base.entries[tensor])
            name = Name(own_name or tensor.removesuffix(".weight"), name.part)
        found.inputs_first = tensor in stored and own.kind == "linear"
        found.place(name.module if renamed else key, own, rows, name, base.entries[tensor])
        bias = f"{tensor.removesuffix('weight')}bias"
        if key in opened.updates and opened.updates[key].bias and bias in base.entries:
            biases.append(bias)
    found.inputs_first = bool(stored & changes.keys())
    found.notes += [
        f"{bias} changes too, which no LoRA holds: not written" for bias in biases[:MOST]
    ]
    if len(biases) > MOST:
        found.notes.append(f"{counted(len(biases) - MOST, 'other bias', 'other biases')} likewise")


def _shaped(entry: TensorEntry, shape: tuple[int, ...]) -> TensorEntry:
    """Return a factor that a method makes in the shape that a convolution's has."""
    codec = entry.codec
    return replace(entry, shape=shape, codec=codec and replace(codec, shape=shape))  # type: ignore[type-var]


def _needed(opened: Adapter, naming: Naming, what: str) -> Checkpoint:
    if naming.base is None:
        raise UsageError(
            f"{shown(opened.spec)} has {what} with the base alone. Expected --base and the model "
            "that it was trained on."
        )
    return naming.base


def _tell_lost(found: Found, lost: list[Skipped], base: Checkpoint) -> None:
    """Refuse modules that the base lacks, but for those of another part of a pipeline.

    Raises:
        AdapterError: There are some.
    """
    other = [item for item in lost if item.reason.startswith(ELSEWHERE)]
    rest = [item for item in lost if item not in other]
    if rest:
        raise AdapterError(
            f"{counted(len(rest), 'module')} of {shown(found.adapter.spec)} cannot be found in "
            f"{shown(base.spec)}, e.g. {quote(rest[0].tensor)}: {rest[0].reason}. Give the base it "
            "was trained on."
        )
    if other:
        found.notes.append(
            f"{counted(len(other), 'module')} of other parts of the pipeline are not written: "
            "convert them with their own --base"
        )
