"""Layers: which numbers of a name count them, and the order of nested ones.

A stack is the layers whose names are the same but for their numbers. Where stages hold blocks,
as in Swin's `layers.0.blocks.5` or a U-Net's `down_blocks.1.attentions.0.transformer_blocks.2`,
the blocks of all stages are one stack, numbered through in the order of their numbers from the
outermost in: with 2 stages of 3 blocks, `stages.0.blocks.2` is layer 2, `stages.1.blocks.0` layer
3. What lies in a stage beside its blocks, such as Swin's `layers.0.downsample`, is a stack of its
own, numbered by the stage. Encoder, decoder and towers are stacks of their own, as their names
differ. A name with a single number has that number, whatever else the checkpoint holds.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from spectra.text import numberless

EXPERT = re.compile(r"(?:^|\.)experts\.(?:[a-z_]+\.)?(?:expert_)?([0-9]{1,9})(?=\.|$)")

_LIST = re.compile(r"(?:layers?|blocks?|h)")
"""What makes a number at the very end a layer; it mostly counts the steps of a list."""
_NESTED = re.compile(r"(?:\w+_)?(?:layers|blocks|stages)|resnets|attentions|h")
_WITHIN = re.compile(r"(?:\w+_)?(?:layer|block)")
"""A layer inside a stage; right below a number it is a step of that layer, as in T5."""
_MODULE = re.compile(r"\w*(?:mlps?|ffn|feed_forward|attn|[Aa]ttention)|\w+_heads?")
"""Modules of a layer, whose own lists are no layers."""


@dataclass(frozen=True, slots=True)
class LayerName:
    """Where a tensor stands among the layers of its model."""

    prefix: str  # up to its innermost layer's number: `encoder.layer.`
    numbers: tuple[int, ...]  # of its layers, from the outermost in
    rest: str  # its name inside the innermost layer
    stack: str  # the prefix without the numbers

    @property
    def word(self) -> str:
        """What the innermost layers are called."""
        return self.prefix.rstrip(".").rpartition(".")[2]


def place_in(name: str) -> LayerName | None:
    """Take a tensor's name apart at its layers; None where it is in none.

    Experts are none; a number of ten digits or more counts nothing.
    """
    counted = _counted(numberless(name))
    if not counted:
        return None
    words = name.split(".")
    inner = counted[-1]
    prefix = "".join(f"{word}." for word in words[:inner])
    numbers = tuple([int(words[index]) for index in counted])
    if len(counted) == 1:
        return LayerName(prefix, numbers, ".".join(words[inner + 1 :]), prefix[:-1])
    stack = ".".join("#" if index in counted else word for index, word in enumerate(words[:inner]))
    return LayerName(prefix, numbers, ".".join(words[inner + 1 :]), stack)


@lru_cache(maxsize=4096)
def _counted(name: str) -> tuple[int, ...]:
    """Return which words of a name are the numbers of its layers; all are 0 here."""
    words = name.split(".")
    expert = EXPERT.search(name)
    last = len(words) - (words[-1] == "weight")
    stop = last if expert is None else name[: expert.start()].count(".") + 1
    counted: list[int] = []
    for index in range(stop):
        if words[index] == "0" and _counts(words, index, last, counted):
            counted.append(index)
    return tuple(counted)


def _counts(words: list[str], index: int, last: int, counted: list[int]) -> bool:
    """Say whether a number of a name counts layers, after those that were found before it."""
    word = words[index - 1] if index else ""
    if index == last - 1 and not (_LIST.fullmatch(word) and not counted):
        return False
    if not counted:
        return True
    between = words[counted[-1] + 1 : index]
    own = words[counted[-1] - 1] if counted[-1] else ""
    if any(_MODULE.fullmatch(one) for one in (own, *between)):
        return False
    if not between:
        return len(counted) == 1  # `blocks.0.1`: a list of lists
    return bool(_NESTED.fullmatch(word) or (len(between) > 1 and _WITHIN.fullmatch(word)))


def expert_in(name: str) -> int | None:
    """Return the expert that a tensor's name tells."""
    found = EXPERT.search(name) if "experts." in name else None
    return int(found[1]) if found else None


def of_any_expert(name: str) -> str:
    """Return a tensor's name with `*` for its expert: one for all experts of a layer."""
    found = EXPERT.search(name)
    return f"{name[: found.start(1)]}*{name[found.end(1) :]}" if found else name


def layers_of(names: Iterable[str]) -> Mapping[str, int | None]:
    """Return the layer of each tensor of a model.

    Args:
        names: All of them: where layers are nested, how many there are in a stage tells the
            numbers of those in the next.
    """
    places = {name: place_in(name) for name in names}
    stacks: dict[str, set[tuple[int, ...]]] = {}
    for place in places.values():
        if place is not None and len(place.numbers) > 1:
            stacks.setdefault(place.stack, set()).add(place.numbers)
    first = {stack: _starts(numbers) for stack, numbers in stacks.items()}
    return {
        name: None if place is None else place.numbers[-1]
        + (first[place.stack][place.numbers[:-1]] if len(place.numbers) > 1 else 0)
        for name, place in places.items()
    }  # fmt: skip


def _starts(numbers: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Return the number of the first layer of each stage; one left out still counts."""
    sizes: dict[tuple[int, ...], int] = {}
    for path in numbers:
        sizes[path[:-1]] = max(sizes.get(path[:-1], 0), path[-1] + 1)
    starts: dict[tuple[int, ...], int] = {}
    total = 0
    for stage in sorted(sizes):
        starts[stage] = total
        total += sizes[stage]
    return starts
