"""What a parameter is called in memory whose stored name is another, and which rows it gets.

When a model is loaded, transformers renames tensors, then fuses several into one parameter or
takes one apart. Here that is done to names alone.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Span = tuple[int, int]
"""Start and stop on a first axis."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How several tensors become one parameter, or one several."""

    targets: tuple[str, ...]  # what a name has in place of what was matched, one each
    operations: tuple[str, ...]  # in turn, such as `Chunk 0`
    sources: int  # patterns that it collects tensors by


@dataclass(frozen=True, slots=True)
class Move:
    """One renaming, or the names of one fusion."""

    pattern: re.Pattern[str]  # one group `g0`, `g1`, ... around each alternative
    targets: tuple[str, ...]
    operations: tuple[str, ...] = ()  # none: a renaming
    scope: str | None = None  # the module that it is for; None: the whole model
    base: str = ""  # what may stand before the scope

    def matched(self, name: str) -> tuple[str, int] | None:
        """Return the new name and which alternative it was, or None.

        Source:
            transformers 5.23, `core_model_loading.WeightTransform.rename_source_key`.
        """
        ahead = ""
        if self.scope is not None:
            scope = f"{self.scope}." if self.scope else ""
            base = f"{self.base}." if self.base else ""
            found = next((one for one in (base + scope, scope) if name.startswith(one)), None)
            if found is None:
                return None
            ahead = found
        rest = name.removeprefix(ahead)
        match = self.pattern.search(rest)
        if match is None:
            return None
        group = next(one for one, text in match.groupdict().items() if text is not None)
        new = self.targets[0]
        if r"\1" in new:
            new = new.replace(r"\1", match[self.pattern.groupindex[group] + 1])
        return ahead + rest.replace(match[0], new, 1), int(group[1:])

    @property
    def fusion(self) -> Fusion | None:
        """What is done to the tensors; None where they are renamed alone."""
        if not self.operations:
            return None
        return Fusion(self.targets, self.operations, len(self.pattern.groupindex))


class Renamer(Protocol):
    """A way from a stored name to the one in memory."""

    def renamed(self, name: str) -> tuple[str, Fusion | None, int]:
        """Return the first parameter that a tensor becomes, how, and as which source."""
        ...


@dataclass(frozen=True, slots=True)
class Landing:
    """Where one stored tensor, or some of its rows, come to lie."""

    name: str  # the parameter
    rows: Span | None  # of the tensor; None: not known, or all
    place: Span | None  # on the parameter's first axis; None: not known, anywhere on it
    expert: int | None = None  # of a stack that is made of tensors of one expert each
    turn: Span | None = None  # every how many rows are the parameter's: the first, and of how many
    block: Span | None = None  # of such a stack: rows of the expert's matrix
    swapped: bool = False  # its last two axes change places


Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Landed = tuple[dict[str, list[Landing]], dict[str, Shape]]
"""Landings by stored name, and the shapes of the parameters that they make up."""


def moved(moves: Iterable[Move], name: str) -> tuple[str, Fusion | None, int]:
    """Apply all renamings in turn, then the first fusion that matches."""
    fusions = []
    for move in moves:
        if move.operations:
            fusions.append(move)
            continue
        found = move.matched(name)
        name = found[0] if found else name
    for move in fusions:
        found = move.matched(name)
        if found:
            return found[0], move.fusion, found[1]
    return name, None, 0


def landings(shapes: Shapes, renamer: Renamer, known: Shapes | None = None) -> Landed:
    """Find where every tensor lands.

    Args:
        shapes: Of the stored tensors, by name.
        renamer: What the model's names are told by.
        known: Shapes of all parameters of the model, where it is known.

    Returns:
        Landings by stored name, and the shapes of the parameters that they make up.
    """
    found: dict[str, list[Landing]] = {}
    sizes: dict[str, Shape] = {}
    groups: dict[tuple[str, Fusion], dict[int, list[str]]] = {}
    for name in sorted(shapes, key=natural):
        new, fusion, source = renamer.renamed(name)
        if fusion is None:
            found[name] = [Landing(new, (0, _rows(shapes[name])), (0, _rows(shapes[name])))]
            sizes[new] = shapes[name]
        else:
            groups.setdefault((new, fusion), {}).setdefault(source, []).append(name)
    for (first, fusion), sources in groups.items():
        names = [first.replace(fusion.targets[0], one, 1) for one in fusion.targets]
        made = _fused(names, fusion, sources, shapes, known or {})
        for name, own in made[0].items():
            found.setdefault(name, []).extend(own)
        sizes |= made[1]
    return found, {name: (known or {}).get(name, shape) for name, shape in sizes.items()}


def _fused(
    names: Sequence[str],
    fusion: Fusion,
    sources: Mapping[int, Sequence[str]],
    shapes: Shapes,
    known: Shapes,
) -> Landed:
    order = [name for source in sorted(sources) for name in sources[source]]
    first = shapes[order[0]]
    kind, *more = fusion.operations
    kind = " ".join([kind, *(one for one in more if not one.startswith("PermuteForRope"))])
    permuted = any(one.startswith("PermuteForRope") for one in fusion.operations)
    if kind in {"MergeModulelist 0", "MergeModulelist 0 Concatenate 1"}:
        return _stacked(names[0], sources, shapes)
    if kind.startswith("ErnieFuseAndSplitTextVisionExperts"):
        return _halved(names, sources, shapes)
    if kind == "Concatenate 0" and fusion.sources > 1:
        return _one_below_the_other(names[0], order, shapes)
    if kind in {"Chunk 0", "Split 0"}:
        return _apart(names, order[0], first, known, equal=kind == "Chunk 0", whole=permuted)
    # The first axis stays what it is; or nothing is known of the rows.
    stays = kind in {"Transpose 1 2", "Interleave 1", "Interleave 1 Chunk 1", "Concatenate 1"}
    span = (0, _rows(first)) if stays else None
    turns = kind in {"Interleave 0 Chunk 0", "Interleave 1 Chunk 1"}
    swapped = kind == "Transpose 1 2"
    made = {
        name: [
            Landing(one, span, span, turn=(index, len(names)) if turns else None, swapped=swapped)
            for index, one in enumerate(names)
        ]
        for name in order
    }
    return made, dict.fromkeys(names, first)


def _stacked(name: str, sources: Mapping[int, Sequence[str]], shapes: Shapes) -> Landed:
    """One tensor of each expert, on a new first axis; gate and up side by side behind it."""
    made, start, first = {}, 0, shapes[next(iter(sources.values()))[0]]
    for source in sorted(sources):
        stop = start + _rows(shapes[sources[source][0]])
        for expert, tensor in enumerate(sources[source]):
            own = Landing(name, None, (expert, expert + 1), expert, block=(start, stop))
            made[tensor] = [own]
        start = stop
    count = max(len(tensors) for tensors in sources.values())
    return made, {name: (count, start, *first[1:])}


def _halved(names: Sequence[str], sources: Mapping[int, Sequence[str]], shapes: Shapes) -> Landed:
    """One tensor of each expert: the first half in one stack, the others in another."""
    made: dict[str, list[Landing]] = {}
    sizes: dict[str, Shape] = {}
    for side, name in enumerate(names):
        halves = {
            source: tensors[side * len(tensors) // 2 : (side + 1) * len(tensors) // 2]
            for source, tensors in sources.items()
        }
        own, shape = _stacked(name, halves, shapes)
        made |= own
        sizes |= shape
    return made, sizes


def _one_below_the_other(name: str, order: Sequence[str], shapes: Shapes) -> Landed:
    made, start = {}, 0
    for tensor in order:
        rows = _rows(shapes[tensor])
        made[tensor] = [Landing(name, (0, rows), (start, start + rows))]
        start += rows
    return made, {name: (start, *shapes[order[0]][1:])}


def _apart(
    names: Sequence[str], tensor: str, shape: Shape, known: Shapes, *, equal: bool, whole: bool
) -> Landed:
    """One tensor cut into several, from above; where rows change places, each is one whole."""
    total = _rows(shape)
    counts = [known[name][0] for name in names if name in known]
    if equal:
        counts = [total // len(names)] * len(names)
    if len(counts) != len(names):  # of unequal parts, which only the model tells
        return {tensor: [Landing(name, None, None) for name in names]}, dict.fromkeys(names, shape)
    made, start = [], 0
    for name, count in zip(names, counts, strict=True):
        made.append(Landing(name, (start, start + count), None if whole else (0, count)))
        start += count
    return {tensor: made}, {
        name: (count, *shape[1:]) for name, count in zip(names, counts, strict=True)
    }


def _rows(shape: Shape) -> int:
    """Return the length of the first axis; a single number has one."""
    return shape[0] if shape else 1


def natural(name: str) -> list[tuple[int, int | str]]:
    """Return transformers' order of keys: numbers between dots count as numbers."""
    return [(1, int(one)) if one.isdecimal() else (0, one) for one in name.split(".")]


def prefixed(name: str, prefix: str, holds: Container[str]) -> str:
    """Add or take away the prefix of the body of a model, as its class has it.

    Source:
        transformers 5.23, `core_model_loading.rename_source_key`.
    """
    if not prefix:
        return name
    if name.startswith(f"{prefix}.") and (short := name.removeprefix(f"{prefix}.")) in holds:
        return short
    longer = f"{prefix}.{name}"
    return longer if longer in holds else name
