"""A model in memory, as transformers loads a checkpoint, and where each tensor lands."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from spectra.architectures.renaming import Landing, landings
from spectra.architectures.table import Layer, UnknownFamilyError, table
from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.exports.installed import installed
from spectra.text import quote
from spectra.work.planning.stacks import EXPERT

NO_FAMILY = (
    "No config.json names a model_type, so the names are the file's own: nothing is known of what "
    "renames them on loading."
)
INPUTS = ("in_proj_weight", "q_proj_weight")
"""Of torch.nn.MultiheadAttention: bare parameters, fused or, where sizes differ, three."""
_INSTEAD = "Use --export names, or install the transformers that the model is trained with."


@dataclass(frozen=True, slots=True)
class Memory:
    """What a checkpoint's tensors become."""

    landings: Mapping[str, tuple[Landing, ...]]  # by tensor; none: it is not loaded
    shapes: Mapping[str, tuple[int, ...]]  # of the model's parameters, as far as known
    layers: Mapping[str, Layer] = field(default_factory=dict)  # of all modules
    family: str = ""  # model_type
    name: str = ""  # what it is loaded as, and by what; empty: nothing is known
    embeds: bool = True  # the model tells its embedding, where PEFT asks for it
    note: str = ""  # what the user must know of the names
    exact: bool = False  # layers are those of the model, and not usual ones where nothing is known
    tied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names of parameters that have several, as far as known."""


def memory_of(checkpoint: Checkpoint) -> Memory:
    """Find the parameters of a checkpoint's model: by the installed transformers, or the table.

    Raises:
        UsageError: Neither knows the family, so whether it renames tensors is unknown.
    """
    stored = {name: entry.shape for name, entry in checkpoint.entries.items()}
    config, family = dict(checkpoint.config), checkpoint.config.get("model_type")
    if family is None:
        return _as_stored(stored)
    gguf = any(entry.shard.endswith(".gguf") for entry in checkpoint.entries.values())
    if gguf:
        config["model_type"] = family = _of_gguf(str(family))
    known = table()
    if not config.get("architectures") and (kind := known.likely(config, stored)):
        config["architectures"] = [kind]
    model = None if gguf else installed(config, len(stored))
    if model is not None:
        found, _ = landings(stored, model, model.parameters)
        return Memory(
            {
                name: tuple(replace(one, name=model.first[one.name]) for one in own)
                for name, own in found.items()
                if all(one.name in model.first for one in own)
            },
            {name: model.parameters[name] for name in dict.fromkeys(model.first.values())},
            model.layers,
            family,
            f"transformers {model.version} as {model.name}",
            embeds=model.embeds,
            exact=True,
            tied=_tied(model.first),
        )
    try:
        renamer = known.renamer(config)
    except UnknownFamilyError as unknown:
        raise UsageError(
            f"{unknown} is not known to transformers {known.version}, so whether it renames "
            f"tensors on loading is unknown. {_INSTEAD}"
        ) from None
    found, shapes = landings(stored, renamer)
    shapes = {name: shape for name, shape in shapes.items() if name in renamer.tops}
    return Memory(
        {
            name: tuple(own)
            for name, own in found.items()
            if all(one.name in renamer.tops for one in own)
        },
        shapes,
        {module: renamer.layer(module) for module in modules_of(shapes)},
        str(family),
        f"transformers {known.version} as {config['architectures'][0]}",
    )


def _tied(first: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the other names of parameters by the first of each."""
    found: dict[str, tuple[str, ...]] = {}
    for name, own in first.items():
        if name != own:
            found[own] = (*found.get(own, ()), name)
    return found


def _as_stored(stored: Mapping[str, tuple[int, ...]]) -> Memory:
    fused = next((name for name in stored if EXPERT.fullmatch(name)), None)
    if fused is not None:
        raise UsageError(
            f"no config.json names a model_type, and what {quote(fused)} becomes in memory hangs "
            "on it: transformers 5 holds the experts of a layer in one tensor. Put the config.json "
            "beside the weights, or use --export names."
        )
    found = {
        name: (Landing(name, (0, shape[0] if shape else 1), (0, shape[0] if shape else 1)),)
        for name, shape in stored.items()
    }
    layers = {module: Layer("") for module in modules_of(stored)}
    return Memory(found, stored, layers | _attention(stored), note=NO_FAMILY)


def _attention(stored: Collection[str]) -> dict[str, Layer]:
    """Return what names tell to be torch's own attention, which goes past its output's layer."""
    found = {}
    for name in stored:
        module, _, leaf = name.rpartition(".")
        output = f"{module}.out_proj.weight".removeprefix(".")
        if leaf in INPUTS and output in stored:
            found[module] = Layer("MultiheadAttention")
    return found


def _of_gguf(word: str) -> str:
    """Return the family that GGUF's word for an architecture is spelt without `_` and `-` for."""
    plain = re.sub("[^a-z0-9]", "", word.lower())
    families = table().families
    spelt = (name for name in families if re.sub("[^a-z0-9]", "", name.lower()) == plain)
    return word if word in families else next(spelt, word)


def modules_of(parameters: Iterable[str]) -> list[str]:
    """Return every module that parameters' names tell of, also those that hold others."""
    found: dict[str, None] = {}
    for name in parameters:
        module = name.rpartition(".")[0]
        while module and module not in found:
            found[module] = None
            module = module.rpartition(".")[0]
    return list(found)
