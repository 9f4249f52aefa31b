"""Where an adapter holds what changed in each tensor of a base: which modules PEFT can adapt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spectra.architectures.renaming import Landing
from spectra.architectures.table import USUAL, Layer, table
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.errors import UsageError
from spectra.exports.lora import SCANNED, SCANNING, TAKEN_OVER
from spectra.exports.memory import Memory, memory_of
from spectra.matrices.role import kind_of
from spectra.matrices.rule import first_count
from spectra.words import VOCABULARY

LINEAR = USUAL - {"Embedding"} | {"Linear", "Conv1D"}
CONVOLUTIONS = frozenset({"Conv1d", "Conv2d", "Conv3d", "Conv"})
ATTENTION = "MultiheadAttention"
HEADED = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")
"""Endings of classes that have an output head."""

POSITIONS = "embed_positions"
"""A table that is looked up by what its layer computes of its input, as PEFT's layer does not."""

ASKED = {"whisper": ("conv1", "conv2", POSITIONS)}
"""Layers whose stride the model reads, which PEFT's layer around them does not tell."""

Kind = Literal["linear", "embedding"]


@dataclass(frozen=True, slots=True)
class Home:
    """The module whose weight a tensor is in memory."""

    module: str
    kind: Kind = "linear"


@dataclass(frozen=True, slots=True)
class Homes:
    """The modules of a base as it is loaded."""

    base: Checkpoint
    memory: Memory
    note: str = ""  # where names are the file's own
    tied: bool = False  # the output head is the embedding, under a name that is not known
    copies: Mapping[str, str] = field(default_factory=dict)
    """The tensor that counts of several that hold one parameter, by that; empty: each a part."""

    def of(self, entry: TensorEntry) -> Home | str:
        """Return the module whose factors hold what changed in a matrix, or why none does."""
        name = self.parameter(entry)
        if not name:
            return "no parameter of its own in memory, so that no module of PEFT's holds it"
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or not module:
            return "a bare parameter, which is the weight of no module"
        if self.in_attention(module):
            return "a part of a torch.nn.MultiheadAttention, which PEFT takes whole"
        if self._taken_past(module):
            return f"a weight of {self.memory.family} that its model does not reach by PEFT's layer"
        return self._held(entry, name, module)

    def in_attention(self, module: str) -> bool:
        """Say whether a module is, or is in, one of torch's own for attention."""
        above = module.rpartition(".")[0]
        return ATTENTION in {self.memory.layers.get(one, Layer("")).kind for one in (module, above)}

    def _held(self, entry: TensorEntry, name: str, module: str) -> Home | str:
        layer = self.layer(entry, module)
        if layer.kind == "Embedding":
            others = self.memory.tied.get(name, ())
            if others or self._heads(entry):
                what = others[0].rpartition(".")[0] if others else "the output head"
                return f"tied to {what}, which no adapter of the embedding follows"
            return Home(module, "embedding")
        convolution = layer.kind in CONVOLUTIONS and layer.groups == 1
        if convolution or (layer.kind in LINEAR and len(entry.shape) == 2):
            return Home(module)
        what = f"{layer.kind} in {layer.groups} groups" if layer.groups > 1 else layer.kind
        return f"the weight of a {what or 'module of no known kind'}, which PEFT does not adapt"

    def saved(self, entry: TensorEntry) -> tuple[str, ...]:
        """Return the parameters that PEFT saves whole for a weight that it has no factors of.

        These are a tied embedding by all its names, as PEFT merges factors into it once for each,
        a grouped convolution, as it does not merge factors into that at all, and what it refuses.
        """
        name = self.parameter(entry)
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or not module:
            return ()
        layer = self.layer(entry, module)
        if self._taken_past(module) or (layer.kind in CONVOLUTIONS and layer.groups > 1):
            return (name,)
        if layer.kind == "Embedding" and (others := self.memory.tied.get(name, ())):
            return (name, *others)
        return ()

    def by_name(self, module: str) -> bool:
        """Say whether a layer is to be named as a parameter: PEFT would take it for experts."""
        experts = self.memory.family in table().expert_types
        return experts and module.rpartition(".")[2] in TAKEN_OVER

    def _taken_past(self, module: str) -> bool:
        family, last = self.memory.family, module.rpartition(".")[2]
        return (family in SCANNING and last in SCANNED) or last in ASKED.get(family, (POSITIONS,))

    def _heads(self, entry: TensorEntry) -> bool:
        """Say whether an embedding is the output head too, which has as many rows."""
        inner = self.base.config.get("text_config")
        told = {**self.base.config, **(inner if isinstance(inner, dict) else {})}
        rows = first_count(told, "vocab_size") or entry.shape[0]
        return self.tied and entry.shape[0] == rows and kind_of(entry.name) == VOCABULARY[0]

    def parameter(self, entry: TensorEntry) -> str:
        """Return what a tensor is called in memory; empty where it is no parameter of its own."""
        landings = self.memory.landings.get(entry.name, ())
        if len(landings) != 1 or landings[0].expert is not None or landings[0].turn is not None:
            return ""
        name = landings[0].name
        known = self.memory.shapes.get(name, entry.shape)
        alike = len(known) == len(entry.shape)  # sizes are those of a config, which may lack them
        return name if alike and self.copies.get(name, entry.name) == entry.name else ""

    def is_matrix(self, module: str) -> bool:
        """Say whether a module's weight is a matrix, as that of a norm is not."""
        return len(self.memory.shapes.get(f"{module}.weight", ())) > 1

    def holds_weights(self, module: str) -> bool:
        """Say whether a module has others in it that have parameters."""
        return any(
            name.startswith(f"{module}.") and "." in name[len(module) + 1 :]
            for name in self.memory.shapes
        )

    def layer(self, entry: TensorEntry, module: str) -> Layer:
        """Return what holds a parameter; of names alone what they and the shape speak for."""
        own = self.memory.layers.get(module, Layer(""))
        role = kind_of(entry.name, len(entry.shape))
        usual = own.kind == "Linear" and not self.memory.exact  # of the table: any that is usual
        if role == "embed" and (usual or not own.kind):
            return Layer("Embedding")
        if own.kind or role == "router":
            return own
        if role == "conv" or len(entry.shape) > 3:
            by_channel = len(entry.shape) > 2 and entry.shape[1] == 1
            return Layer("Conv", entry.shape[0] if by_channel else 1)
        return Layer("Linear") if len(entry.shape) == 2 else own


def homes_of(base: Checkpoint) -> Homes:
    """Find the modules of a base; of a family that is not known, names are the file's own."""
    try:
        memory = memory_of(base)
    except UsageError as error:
        named = Checkpoint(base.spec, base.resolved, base.entries, {})
        memory = memory_of(named)
        return Homes(base, memory, str(error).partition(". ")[0])
    return Homes(base, memory, memory.note, _tied(base, memory), _copies(base, memory))


def _tied(base: Checkpoint, memory: Memory) -> bool:
    """Say whether the embedding is the head too: a class that has one, and none is stored."""
    landed = {one.name for own in memory.landings.values() for one in own}
    heads = [module for module in memory.layers if kind_of(f"{module}.weight") == "lm_head"]
    if heads:
        return any(f"{module}.weight" not in landed for module in heads)
    if memory.exact:  # the model has told all ties
        return False
    named = base.config.get("architectures")
    return isinstance(named, list) and str(next(iter(named), "")).endswith(HEADED)


def _copies(base: Checkpoint, memory: Memory) -> dict[str, str]:
    """Return which tensor counts of those that hold one parameter; none of those that share it."""
    found: dict[str, list[tuple[str, Landing]]] = {}
    for name, own in memory.landings.items():
        for one in own:
            found.setdefault(one.name, []).append((name, one))
    copies = {}
    for parameter, several in found.items():
        if len(several) > 1:
            alike = len({base.entries[name].shape for name, _ in several}) == 1
            whole = all(one.rows is not None and one.rows == one.place for _, one in several)
            first = next((name for name, _ in several if name == parameter), several[0][0])
            copies[parameter] = first if alike and whole else ""
    return copies
