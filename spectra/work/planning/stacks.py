"""Which tensors of a base hold the bare parameters that an adapter's `target_parameters` mean.

PEFT speaks of parameters as transformers holds them in memory: the experts of a layer in
one stack. Files may hold the stack, or a tensor for each expert.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from spectra.checkpoint import LoraFactors, TensorEntry
from spectra.checkpoint.entry import Slab
from spectra.matrices import View

EXPERT = re.compile(r"(.+\.experts)\.([0-9]+)\.(w[123]|gate_proj|up_proj|down_proj)\.weight")
FUSED = {
    "gate_up_proj": (("w1", "w3"), ("gate_proj", "up_proj")),
    "down_proj": (("w2",), ("down_proj",)),
}
"""Stacks in memory, and what files hold of each expert, concatenated along the outputs."""

RENAMED = (".block_sparse_moe.", ".mlp.")  # Mixtral's files, and in memory

SWITCHED = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"} | {
    word: word for word in ("gate_proj", "up_proj", "down_proj")
}
"""What mlx-lm calls each stack of experts, `switch_mlp.gate_proj`."""

SWITCH = ".switch_mlp"
"""Mlx-lm's, whose experts are stored as they were published; where it has other names, they may
not be."""

LEAVES = {"mlp.gate": "gate", "mlp.up": "up", "mlp.down": "down"}
"""The matrices of an expert by their roles, which mlx-lm and GGUF stack each by itself."""

STORED_IN_OUT = ("gpt_oss", "openai_privacy_filter", "aria", "aria_text")
"""Families whose experts transformers marks `is_transposed`, which PEFT goes by."""

SWAPPING = (0, 19, 1)  # the version of PEFT that made stored [out, in] its rule
REVERSED = (0, 19, 0)  # the one that had it the other way round
MOST = 4  # parameters of one module; all ways to assign them are tried


@dataclass(frozen=True, slots=True)
class Stack:
    """A parameter as it is in memory, and the tensors of the base that make it up."""

    shape: tuple[int, ...]
    pieces: Mapping[str, tuple[int | None, Slab]]  # expert and rows of its matrix, by tensor
    inside: Mapping[str, tuple[int, Slab]] = field(default_factory=dict)
    """Expert and rows of its update by matrix, where those of the base are other ones."""


def stacks_of(entries: Mapping[str, TensorEntry], views: Iterable[View] = ()) -> dict[str, Stack]:
    """Return every parameter by its name in memory, where that is not its name in the file.

    Those of mlx-lm's are among them, by the names that its models have.

    Args:
        entries: Tensors of the base.
        views: Its matrices.
    """
    stacks = _cut_out(views)
    experts: dict[str, dict[str, dict[int, TensorEntry]]] = {}
    for name, entry in entries.items():
        alias = name.replace(*RENAMED)
        if alias != name:
            stacks[alias] = Stack(entry.shape, {name: (None, None)})
        inside = EXPERT.fullmatch(name)
        if inside and len(entry.shape) == 2 and len(inside[2]) < 6:
            leaves = experts.setdefault(inside[1].replace(*RENAMED), {})
            leaves.setdefault(inside[3], {})[int(inside[2])] = entry
    for prefix, leaves in experts.items():
        stacks |= {name: stack for name, stack in _named(prefix, leaves) if stack is not None}
    return stacks


def _named(
    prefix: str, leaves: Mapping[str, dict[int, TensorEntry]]
) -> Iterator[tuple[str, Stack | None]]:
    for parameter, ways in FUSED.items():
        for way in ways:
            yield f"{prefix}.{parameter}", _stack([leaves.get(leaf, {}) for leaf in way])
    for leaf, word in SWITCHED.items():
        one = _stack([leaves.get(leaf, {})])
        for name in _switched(prefix.removesuffix(".experts"), word):
            yield name, one


def _switched(block: str, word: str) -> Iterator[str]:
    """Yield what mlx-lm may call a stack of a layer's experts."""
    for start in dict.fromkeys((block, f"{block}.".replace(*RENAMED[::-1])[:-1])):
        yield f"{start}.switch_mlp.{word}.weight"
        yield f"{start}.experts.{word}.weight"


def _cut_out(views: Iterable[View]) -> dict[str, Stack]:
    """Return the stacks of one matrix of each expert that are parts of a tensor of the base."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    sizes: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for view in views:
        expert, leaf = view.part.expert, LEAVES.get(view.role.kind)
        if expert is None or leaf is None:
            continue
        block = view.entry.name.removesuffix(".weight").rpartition(".")[0]
        inner = f"{block.removesuffix('.experts')}.".replace(*RENAMED).removesuffix(".")
        key = inner, f"{leaf}_proj"
        found.setdefault(key, {})[view.name] = expert
        sizes.setdefault(key, set()).add((view.rows, view.cols))
    cut = {
        key: Stack((len(inside), *next(iter(sizes[key]))), {},
                   {name: (expert, None) for name, expert in inside.items()})
        for key, inside in found.items()
        if len(sizes[key]) == 1 and sorted(inside.values()) == [*range(len(inside))]
    }  # fmt: skip
    stacks = {name: stack for key, stack in cut.items() for name in _switched(*key)}
    for block, leaf in cut:
        if block.endswith(SWITCH) and leaf == "gate_proj":
            stacks |= _together(cut, block)
    return stacks


def _together(cut: Mapping[tuple[str, str], Stack], block: str) -> dict[str, Stack]:
    """Return the parameters in memory that stacks of mlx-lm are parts of."""
    gate, up, down = (cut.get((block, f"{word}_proj")) for word in ("gate", "up", "down"))
    if gate is None or up is None or down is None or gate.shape != up.shape:
        return {}
    count, rows, cols = gate.shape
    halves = ((gate, (0, rows)), (up, (rows, 2 * rows)))
    inside = {name: (expert, part) for stack, part in halves
              for name, (expert, _) in stack.inside.items()}  # fmt: skip
    experts = f"{block.removesuffix(SWITCH)}.experts"
    whole = Stack((count, 2 * rows, cols), {}, inside)
    return {f"{experts}.gate_up_proj": whole, f"{experts}.down_proj": down}


def _stack(leaves: list[dict[int, TensorEntry]]) -> Stack | None:
    count = len(leaves[0])
    shapes = {entry.shape for leaf in leaves for entry in leaf.values()}
    if not count or len(shapes) != 1 or any(set(leaf) != set(range(count)) for leaf in leaves):
        return None
    rows, cols = shapes.pop()
    pieces: dict[str, tuple[int | None, Slab]] = {}
    for place, leaf in enumerate(leaves):
        part = (place * rows, (place + 1) * rows) if len(leaves) > 1 else None
        pieces |= {entry.name: (expert, part) for expert, entry in leaf.items()}
    return Stack((count, rows * len(leaves), cols), pieces)


def assigned(
    wrappers: Mapping[str, LoraFactors], parameters: Mapping[str, Stack]
) -> dict[str, str] | str:
    """Tell which parameter of one module each of its factors is for, by their shapes.

    PEFT nests several parameters of a module in an order that the files do not tell.

    Args:
        wrappers: Factors of one module, by their names in the adapter.
        parameters: Those of the module's parameters that the base holds.

    Returns:
        The parameter's name by the factors' name; or why that is unknown.
    """
    if len(wrappers) > len(parameters):
        return "no counterpart in the base"
    if len(wrappers) != len(parameters) or len(wrappers) > MOST:
        return f"{len(wrappers)} pairs of factors for {len(parameters)} parameters of one module"
    ways = [
        way
        for way in permutations(parameters)
        if all(
            fits(factors, parameter, parameters[parameter].shape)
            for factors, parameter in zip(wrappers.values(), way, strict=True)
        )
    ]
    if len(ways) == 1:
        return dict(zip(wrappers, ways[0], strict=True))
    shapes = "; ".join(f"{name} {list(stack.shape)}" for name, stack in parameters.items())
    held = "fit several" if ways else "do not fit the"
    return f"its factors {held} parameters of the base: {shapes}"


def fits(factors: LoraFactors, parameter: str, shape: tuple[int, ...]) -> bool:
    """Say whether factors can be those of a parameter of this shape."""
    if parameter not in factors.choices or len(shape) not in (2, 3):
        return False
    count = factors.a.shape[0] // factors.choices[parameter][0]
    stacked = shape if len(shape) == 3 else (1, *shape)
    either = (factors.shape,) if count == 1 else (factors.shape, factors.shape[::-1])
    return count == stacked[0] and stacked[1:] in either


def stored_out_in(
    found: Iterable[tuple[LoraFactors, tuple[int, ...]]],
    config: Mapping[str, Any],
    version: tuple[int, ...],
) -> bool | None:
    """Say which way round PEFT took stacks of square matrices; None where it is unknown.

    Args:
        found: Each pair of factors and the shape of its parameter. Those that are not
            square tell, as PEFT takes all alike.
        config: The base's config.json.
        version: Of the PEFT that made the adapter.

    Returns:
        True where each matrix of a stack is `B @ A`, False where it is its transpose.
    """
    told = {
        factors.shape == shape[-2:]
        for factors, shape in found
        if len(shape) == 3 and shape[0] > 1 and shape[-1] != shape[-2]
    }
    if told:
        return told.pop() if len(told) == 1 else None
    if config.get("model_type") in STORED_IN_OUT:
        return None if version == REVERSED else False
    return True if version >= SWAPPING else None
