"""The norms around a module of attention: which of them it has, and their gains among its parts."""

import itertools
import re
from collections.abc import Mapping

from spectra.checkpoint import TensorEntry
from spectra.matrices.attention_families import Norm, NormKind
from spectra.matrices.layers import LayerName
from spectra.matrices.part import Part
from spectra.matrices.role import Role
from spectra.matrices.view import View
from spectra.text import natural


def bare(norm: Norm, place: LayerName | None) -> bool:
    """Say whether a module may read the stream as it is: the first one, or another model's."""
    first = norm.of == "previous" and place is not None and place.numbers[-1] == 0
    return first or norm.of == "model"


def gain_of(
    norm: Norm, place: LayerName | None, entries: Mapping[str, TensorEntry]
) -> TensorEntry | None:
    """Return the gain of a norm by the place of what passes it; None: there is none."""
    layer = layer_of(place)
    names = [f"{layer}{one}{end}" for one in norm.names for end in (".weight", "")]
    if norm.of == "previous" and place is not None:
        before = f"{place.prefix}{place.numbers[-1] - 1}"
        names = [f"{before}.{one}.weight" for one in norm.names]
    anywhere = norm.names if norm.of == "model" else ()
    if norm.of == "previous" and place is not None and place.numbers[-1] == 0:
        names, anywhere = [], (norm.first,)
    for one in anywhere:
        own = "[0-9]+".join(map(re.escape, one.split("#")))
        pattern = re.compile(rf"(?:.*\.)?{own}\.weight")
        some = sorted(filter(pattern.fullmatch, entries), key=natural, reverse=True)
        names += sorted(some, key=lambda name: -_shared(name, layer))  # the layer's own stack
    return next((entries[name] for name in names if name in entries), None)


def _shared(name: str, other: str) -> int:
    """Return how many words two names begin with together."""
    both = zip(name.split("."), other.split("."), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))


def add_gain(
    role: str, norm: Norm, gain: TensorEntry | None, parts: dict[str, View],
    entries: Mapping[str, TensorEntry],
) -> NormKind:  # fmt: skip
    """Add a norm's gain and offset to the parts, and return what it is."""
    if gain is None:
        return "" if norm.names else norm.kind
    parts[f"{role}.gain"] = vector(gain)
    offset = entries.get(f"{gain.name.removesuffix('.weight')}.bias")
    if norm.kind == "layer" and offset is not None and offset.numel == gain.numel:
        parts[f"{role}.offset"] = vector(offset)
    whole = norm.kind == "rms1" and gain.shard.endswith(".gguf")  # llama.cpp adds the 1
    return "rms" if whole else norm.kind


def add_latent_gain(
    role: str, parts: dict[str, View], entries: Mapping[str, TensorEntry], size: int
) -> bool:
    """Add the gain behind a latent projection; or say that there is none of its size."""
    name = parts[role].entry.name.rpartition(".")[0]
    gain = entries.get(
        name.replace("_proj_with_mqa", "_proj").replace("_proj", "_layernorm") + ".weight"
    )
    if gain is None or gain.numel != size:
        return False
    parts[f"{role}.gain"] = vector(gain)
    return True


def add_each_gain(
    heads: Mapping[str, int], size: int, parts: dict[str, View],
    entries: Mapping[str, TensorEntry],
) -> bool:  # fmt: skip
    """Add the gains of queries and keys, of one head or of all."""
    for role, count in heads.items():
        module = parts[role].entry.name.rpartition(".")[0].rpartition(".")[0]
        gain = entries.get(f"{module}.{role}_norm.weight")
        if gain is None or gain.numel not in {size, count * size}:
            return False
        parts[f"{role}.gain"] = vector(gain)
    return True


def layer_of(place: LayerName | None) -> str:
    """Return what the names of a layer begin with; nothing outside of layers."""
    return f"{place.prefix}{place.numbers[-1]}." if place else ""


def vector(entry: TensorEntry) -> View:
    """Return a vector as a matrix of one column."""
    return View(entry.name, Role("other"), entry, Part(), entry.numel, 1)
