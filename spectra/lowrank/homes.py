"""Where an adapter holds what changed in each tensor of a base: which modules PEFT can adapt."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from spectra.architectures.table import USUAL, Layer
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.errors import UsageError
from spectra.exports.memory import Memory, memory_of
from spectra.matrices.role import kind_of
from spectra.words import VOCABULARY

LINEAR = USUAL - {"Embedding"} | {"Linear", "Conv1D"}
CONVOLUTIONS = frozenset({"Conv1d", "Conv2d", "Conv3d", "Conv"})
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
    tied: bool = False  # the output head is the embedding
    shared: frozenset[str] = frozenset()  # parameters that several tensors make up

    def of(self, entry: TensorEntry) -> Home | str:
        """Return the module whose factors hold what changed in a matrix, or why none does."""
        name = self.parameter(entry)
        if not name:
            return "no parameter of its own in memory, so that no module of PEFT's holds it"
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or not module:
            return "a bare parameter, which is the weight of no module"
        above = module.rpartition(".")[0]
        kinds = {self.memory.layers.get(one, Layer("")).kind for one in (module, above)}
        if "MultiheadAttention" in kinds:
            return "a part of a torch.nn.MultiheadAttention, which PEFT takes whole"
        return self._held(entry, module)

    def _held(self, entry: TensorEntry, module: str) -> Home | str:
        layer = self._layer(entry, module)
        if layer.kind == "Embedding":
            if self._heads(entry):
                return "tied to the output head, which no adapter of the embedding follows"
            return Home(module, "embedding")
        convolution = layer.kind in CONVOLUTIONS and layer.groups == 1
        if convolution or (layer.kind in LINEAR and len(entry.shape) == 2):
            return Home(module)
        what = f"{layer.kind} in {layer.groups} groups" if layer.groups > 1 else layer.kind
        return f"the weight of a {what or 'module of no known kind'}, which PEFT does not adapt"

    def _heads(self, entry: TensorEntry) -> bool:
        """Say whether an embedding is the output head too, which has as many rows."""
        inner = self.base.config.get("text_config")
        told = {**self.base.config, **(inner if isinstance(inner, dict) else {})}
        rows = told.get("vocab_size", entry.shape[0])
        return self.tied and entry.shape[0] == rows and kind_of(entry.name) == VOCABULARY[0]

    def parameter(self, entry: TensorEntry) -> str:
        """Return what a tensor is called in memory; empty where it is no parameter of its own."""
        landings = self.memory.landings.get(entry.name, ())
        if len(landings) != 1 or landings[0].expert is not None or landings[0].turn is not None:
            return ""
        name = landings[0].name
        known = self.memory.shapes.get(name, entry.shape)
        alike = len(known) == len(entry.shape)  # sizes are those of a config, which may lack them
        return name if alike and name not in self.shared else ""

    def is_matrix(self, module: str) -> bool:
        """Say whether a module's weight is a matrix, as that of a norm is not."""
        return len(self.memory.shapes.get(f"{module}.weight", ())) > 1

    def _layer(self, entry: TensorEntry, module: str) -> Layer:
        """Return what holds a parameter; of names alone what they and the shape speak for."""
        own = self.memory.layers.get(module, Layer(""))
        role = kind_of(entry.name, len(entry.shape))
        if own.kind or role == "router":
            return own
        if role == "embed":
            return Layer("Embedding")
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
    landed = Counter(one.name for own in memory.landings.values() for one in own)
    heads = [module for module in memory.layers if kind_of(f"{module}.weight") == "lm_head"]
    tied = any(f"{module}.weight" not in landed for module in heads)
    shared = frozenset(name for name, count in landed.items() if count > 1)
    return Homes(base, memory, memory.note, tied, shared)
