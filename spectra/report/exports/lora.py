"""How PEFT finds what to put a LoRA on: modules by name, and bare parameters by name."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from spectra.checkpoint.quote import quote
from spectra.errors import UsageError
from spectra.report.exports.export import Job
from spectra.report.exports.parameters import Target

TAKEN_OVER = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Last words of modules that PEFT, in models with experts, takes to mean the experts of
all layers, since older versions of transformers had the experts so."""


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
    experts = any(parameter.experts for parameter in job.parameters.values())
    modules, parameters = [], []
    for target in job.targets:
        if _is_module(target, experts=experts):
            modules.append(target.name.removesuffix(".weight"))
            continue
        if "." not in target.name or len(target.parameter.shape) not in (2, 3):
            raise UsageError(
                f"PEFT has no LoRA for {quote(target.name)} of shape "
                f"{list(target.parameter.shape)}: leave it out with --exclude, or use --export "
                "python."
            )
        parameters.append(target.name)
    return Lora(tuple(modules), tuple(parameters))


def _is_module(target: Target, *, experts: bool) -> bool:
    """Say whether the parameter is the weight of a layer that PEFT wraps by its name."""
    module, _, leaf = target.name.rpartition(".")
    kind = target.selected[0].role.kind
    if leaf != "weight" or kind == "router" or not module:
        return False  # a router is no linear layer in transformers 5, but a bare parameter
    if experts and module.rpartition(".")[2] in TAKEN_OVER:
        return False
    return kind == "conv" or len(target.parameter.shape) == 2


def modules_of(parameters: Iterable[str]) -> list[str]:
    """Return every module that parameters' names tell of, also those that hold others."""
    found: dict[str, None] = {}
    for name in parameters:
        module = name.rpartition(".")[0]
        while module and module not in found:
            found[module] = None
            module = module.rpartition(".")[0]
    return list(found)


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
