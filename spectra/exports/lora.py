"""How PEFT finds what to put a LoRA on: modules by name, and bare parameters by name."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from spectra.architectures.table import USUAL, Layer, table
from spectra.errors import UsageError
from spectra.exports.export import Job
from spectra.exports.memory import Memory
from spectra.exports.parameters import Target
from spectra.text import quote

TAKEN_OVER = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Last words of modules that PEFT, in models with experts, takes to mean the experts of
all layers, since older versions of transformers had the experts so."""

WRAPPED = USUAL | {"Conv", "Conv1d", "Conv2d", "Conv3d"}
"""Layers that PEFT knows by their class."""

SCANNING = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
SCANNED = frozenset({"out_proj", "conv1d"})
"""What PEFT refuses in these families: a fused kernel takes the weight past the layer."""

NO_LAYER = Layer("")
_ELSE = "leave it out with --exclude, or use --export python."


@dataclass(frozen=True, slots=True)
class Lora:
    """What a LoRA goes on: full names."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def lora_of(job: Job) -> Lora:
    """Tell modules from bare parameters.

    Raises:
        UsageError: PEFT has no LoRA for a parameter of such a shape or place.
    """
    experts = job.memory.family in table().expert_types or any(
        parameter.experts for parameter in job.parameters.values()
    )
    if not job.memory.embeds:
        raise UsageError(
            f"PEFT takes no model of the family {job.memory.family}: it asks for the embedding "
            "that weights are tied to, and the model does not tell it. Use --export python."
        )
    modules, parameters = [], []
    for target in job.targets:
        why = _refused(target, job.memory)
        if why:
            raise UsageError(f"PEFT has no LoRA for {quote(target.name)}{why}: {_ELSE}")
        if _is_module(target, job.memory, experts=experts):
            modules.append(target.name.removesuffix(".weight"))
        else:
            parameters.append(target.name)
    return Lora(tuple(modules), tuple(parameters))


def _refused(target: Target, memory: Memory) -> str:
    """Return why PEFT refuses a parameter, or would wrap it without effect; empty: it does not."""
    module, shape = target.name.rpartition(".")[0], target.parameter.shape
    above, _, last = module.rpartition(".")
    if memory.family in SCANNING and last in SCANNED:
        return f", `{last}` of {memory.family}, whose fast path goes past it"
    if "MultiheadAttention" in {memory.layers.get(one, NO_LAYER).kind for one in (module, above)}:
        return ", a part of a torch.nn.MultiheadAttention, which it takes whole"
    layer = _layer(target, memory)
    if layer.kind.startswith("Conv") and layer.kind != "Conv1D":
        return _refused_convolution(target.name, layer)
    return "" if module and len(shape) in (2, 3) else f" of shape {list(shape)}"


def _refused_convolution(name: str, layer: Layer) -> str:
    """Return why PEFT refuses a convolution, or the usual rank; empty: it does not."""
    if layer.kind.startswith("ConvTranspose"):
        return ", a transposed convolution"
    if not name.endswith(".weight"):
        return ", a convolution whose weight is made of several parameters"
    if layer.groups > 1:
        return f", a convolution in {layer.groups:,} groups, which take a rank that they divide"
    return ""


def _is_module(target: Target, memory: Memory, *, experts: bool) -> bool:
    module, _, leaf = target.name.rpartition(".")
    if leaf != "weight" or (experts and module.rpartition(".")[2] in TAKEN_OVER):
        return False
    return _layer(target, memory).kind in WRAPPED


def _layer(target: Target, memory: Memory) -> Layer:
    """Return what holds a parameter; of names alone what they and the shape speak for."""
    module, _, leaf = target.name.rpartition(".")
    own = memory.layers.get(module, NO_LAYER)
    if own.kind:
        return own
    kind, shape = target.selected[0].role.kind, target.parameter.shape
    if leaf != "weight" or kind == "router" or not module:
        return own
    if kind == "conv" or len(shape) > 3:
        # One input channel of each output's own: a convolution by channel.
        return Layer("Conv", shape[0] if len(shape) > 2 and shape[1] == 1 else 1)
    return Layer("Linear") if len(shape) == 2 else own


def hit_by_list(targets: Collection[str], names: Iterable[str]) -> list[str]:
    """Return the names that equal one of a list, or end with one after a dot."""
    known = set(targets)
    return [name for name in names if any(end in known for end in _ends(name))]


def hit_by_pattern(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that one regular expression fits from end to end."""
    fits = re.compile(pattern)
    return [name for name in names if fits.fullmatch(name)]


def as_pattern(names: Sequence[str]) -> str:
    """Return one regular expression that fits these names alone."""
    return "|".join(map(re.escape, names))


def _ends(name: str) -> Iterable[str]:
    """Yield a name, and what follows each of its dots."""
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name
