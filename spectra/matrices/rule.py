"""Rules of layout: from a model's settings and a tensor's shape to its parts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from spectra.matrices.part import LayoutError, Part, Rows

Shape = tuple[int, ...]
Config = Mapping[str, Any]  # config.json, or that of the model's part the tensor is in
Rule = Callable[[Config, Shape], list[Part]]  # none: the tensor is not meant
Count = Callable[[Config], int]
Shares = Callable[[Config], tuple[int, ...]]


def first_told(config: Config, *keys: str) -> tuple[str, Any]:
    """Return the first of these settings that is not null, and its value; dots reach inside."""
    for key in keys:
        value: Any = config
        for step in key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            return key, value
    return "", None


def first_count(config: Config, *keys: str) -> int | None:
    """Return the first of these settings that is told; None: none is, or no positive integer."""
    _, value = first_told(config, *keys)
    usable = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if usable else None


def count(*keys: str) -> Count:
    """Read the first of these settings that is told, which must be a positive integer."""

    def read(config: Config) -> int:
        found = first_count(config, *keys)
        if found is None:
            raise LayoutError(f"config.json has no usable {keys[0]}")
        return found

    return read


def whole(config: Config, shape: Shape) -> list[Part]:  # noqa: ARG001 - a Rule
    """Return one matrix, already rows = outputs."""
    return [Part()]


def cut(*pieces: Part, groups: Count | None = None, shares: Shares | None = None) -> Rule:
    """Cut the rows into pieces.

    Args:
        pieces: In stored order.
        groups: Number of equal blocks, each of which holds all pieces; one by default.
        shares: Rows of each piece in proportion to the others; equal by default.
    """

    def rule(config: Config, shape: Shape) -> list[Part]:
        blocks = groups(config) if groups else 1
        portions = shares(config) if shares else (1,) * len(pieces)
        size = divide(shape[0], blocks)
        unit = divide(size, sum(portions))
        edges = pairwise(accumulate((unit * portion for portion in portions), initial=0))
        return [
            replace(piece, rows=Rows(blocks, size, start, stop))
            for piece, (start, stop) in zip(pieces, edges, strict=True)
        ]

    return rule


def where(fits: Callable[[Config, Shape], bool], rule: Rule) -> Rule:
    """Apply a rule where settings or shape tell that the tensor is meant, or else leave it."""
    return lambda config, shape: rule(config, shape) if fits(config, shape) else []


def told(*keys: str) -> Callable[[Config, Shape], bool]:
    """Ask for settings that are no zero."""
    return lambda config, _shape: all(config.get(key) for key in keys)


def kernel(_config: Config, shape: Shape) -> bool:
    """Ask for a convolution's kernel."""
    return len(shape) > 2


def even_kernel(_config: Config, shape: Shape) -> bool:
    """Ask for a kernel of even size, as transposed convolutions beside others have."""
    return len(shape) > 2 and shape[-1] % 2 == 0


def square_thirds(_config: Config, shape: Shape) -> bool:
    """Ask for three square matrices."""
    return len(shape) == 2 and shape[0] == 3 * shape[1]


def grouped(groups: Count) -> Rule:
    """Cut a convolution into its groups, a matrix for each.

    A depthwise one is one matrix, a row for each channel.
    """

    def each(config: Config, shape: Shape) -> list[Part]:
        many = groups(config)
        size = divide(shape[0], many)
        if many == 1 or shape[1] == 1:
            return [Part()]
        return [Part(group=i, block=(i * size, (i + 1) * size)) for i in range(many)]

    return each


def backwards(groups: Count | None = None) -> Rule:
    """Turn a transposed convolution [in, out/groups, ...]: rows = outputs times the kernel."""

    def each(config: Config, shape: Shape) -> list[Part]:
        parts = grouped(groups)(config, shape) if groups else [Part()]
        depthwise = groups is not None and shape[1] == 1
        return parts if depthwise else [replace(part, transposed=True) for part in parts]

    return each


def striped(*pieces: Part) -> Rule:
    """Give the rows to the pieces in turn."""

    def rule(config: Config, shape: Shape) -> list[Part]:  # noqa: ARG001 - a Rule
        size = len(pieces)
        turns = divide(shape[0], size)
        return [replace(p, rows=Rows(turns, size, i, i + 1)) for i, p in enumerate(pieces)]

    return rule


def turned(rule: Rule) -> Rule:
    """Apply a rule to the transpose: stored [in, out], or [in, heads, size of a head]."""
    return lambda config, shape: [
        replace(part, transposed=True) for part in rule(config, (prod(shape[1:]), shape[0]))
    ]


def stacked(rule: Rule) -> Rule:
    """Apply a rule to each expert of [experts, ...]."""

    def each(config: Config, shape: Shape) -> list[Part]:
        if len(shape) != 3:
            raise LayoutError(f"expected 3 dimensions for fused experts, got {list(shape)}")
        parts = rule(config, shape[1:])
        return [replace(part, expert=i) for i in range(shape[0]) for part in parts]

    return each


def stacked_either_way(rule: Rule, axis: int) -> Rule:
    """Apply a rule to each expert, stored straight or turned from release to release.

    Args:
        rule: For one expert, rows = outputs.
        axis: Which axis of that matrix has the model's hidden size; the other must not.
    """

    def each(config: Config, shape: Shape) -> list[Part]:
        width = count("hidden_size")(config)
        if len(shape) != 3 or (shape[1] == width) == (shape[2] == width):
            raise LayoutError(f"hidden size {width} does not tell inputs from outputs in "
                              f"{list(shape)}")  # fmt: skip
        straight = shape[1 + axis] == width
        return stacked(rule if straight else turned(rule))(config, shape)

    return each


def in_blocks(rule: Rule, blocks: Count) -> Rule:
    """Apply a rule to each expert where their rows follow one another in a 2-D tensor."""

    def each(config: Config, shape: Shape) -> list[Part]:
        experts = blocks(config)
        size = divide(shape[0], experts)
        parts = rule(config, (size, *shape[1:]))
        return [
            replace(part, expert=i, block=(i * size, (i + 1) * size))
            for i in range(experts)
            for part in parts
        ]

    return each


def divide(total: int, parts: int) -> int:
    """Divide without remainder.

    Raises:
        LayoutError: There is one.
    """
    if parts < 1 or total % parts:
        raise LayoutError(f"{total} rows do not divide into {parts}")
    return total // parts
