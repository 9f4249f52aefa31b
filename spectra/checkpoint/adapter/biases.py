"""Biases that an adapter moves beside the weights of its modules."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import NESTED, OF_FACTOR, WRAPPERS, bare_names
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.entry import TensorEntry

OF_WEIGHT = "glora_bias"
"""The method whose new biases hang on the weights of their layers too."""

ATTENTION_OUTPUT = f"{NESTED}.out_proj"


@dataclass(frozen=True, slots=True)
class Shift:
    """A stored vector that is added to a bias, scaled as the factors beside it are."""

    entry: TensorEntry
    rank: int
    scale: float


def moved_biases(adapter: Adapter) -> Mapping[str, Shift | Update]:
    """Return what an adapter does to biases that it does not store whole, by their names.

    Such are those of modules whose lora_B has a bias (`lora_bias`), and of methods that act on
    what a layer puts out: a column of a weight, they turn as they turn that. A bias of lora_B that
    the settings do not ask for is none: PEFT drops it.

    Source:
        `merge` of PEFT 0.21, layer by layer. Of torch's MultiheadAttention it adds the update of
        the output's weight twice, and its bias once.
    """
    found: dict[str, Shift | Update] = {}
    for own in adapter.updates.values():
        if own.bias:
            method = OF_WEIGHT if own.method == "glora" else own.method
            found[f"{own.module}.bias"] = replace(own, method=method)
    dropped = adapter.coat == "PEFT" and not adapter.config.get("lora_bias")
    beside = [] if dropped else [item.tensor for item in adapter.beside]
    for stored, name in bare_names(beside).items():
        match = OF_FACTOR.fullmatch(name)
        if match is None:
            continue
        module = WRAPPERS.sub("", f"{match['module']}.")[:-1]
        factors = adapter.factors.get(module)
        if factors is not None:
            twice = match["module"].endswith(ATTENTION_OUTPUT)
            scale = factors.scale / 2 if twice else factors.scale
            entry = adapter.weights.entries[stored]
            found[f"{module}.bias"] = Shift(entry, factors.rank, scale)
    return found
