"""Norms and biases of two models whose matrices are the same, in the order of their units."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from spectra.analyzers import Row
from spectra.analyzers.match import OUTER, order_of
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.checkpoint.source import at_once
from spectra.deferred import Tensor, torch
from spectra.matrices import Selection, match_names
from spectra.matrices.layers import layers_of
from spectra.matrices.part import Part
from spectra.policy.facts import is_buffer
from spectra.policy.rules.entries import BOUNDS
from spectra.runs.beside import Asked, Vector
from spectra.text import natural
from spectra.work.executor import Executor
from spectra.work.read import Read
from spectra.work.task import Input, Replaced, Task

Orders = Sequence[Tensor]
Homes = Mapping[str, Orders]  # by what the names of vectors begin with

FAR, NONE = "yes", "no number"  # answers: whether two differ


@dataclass(frozen=True, slots=True)
class Vectors:
    """How norms and biases of two models compare."""

    compared: int = 0
    differ: Sequence[str] = field(default_factory=tuple)  # names in the first model
    lone: Sequence[str] = field(default_factory=tuple)  # of one model alone, or of another length
    broken: Sequence[str] = field(default_factory=tuple)  # that hold NaN or Inf in either


def compared_vectors(
    models: tuple[Checkpoint, Checkpoint], selection: Selection, homes: Homes,
    far: float, executor: Executor,
) -> Vectors:  # fmt: skip
    """Compare norms, biases and other vectors, those that the store does not know.

    Args:
        models: The one that stays as it is, and the one whose units move.
        selection: Filters on names and layers.
        homes: What orders the vectors of modules may have.
        far: The distance of two vectors, relative to the first, from which on they differ.
        executor: Its store is asked, and told the digests of what is read.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    first, second = models
    mine, theirs = (_vectors(model, selection) for model in models)
    found, _ = match_names(first.entries, second.entries, "tensor")  # as the matrices are
    pairs = {name: twin for name, twin in found.items() if name in mine and twin in theirs
             and mine[name].shape == theirs[twin].shape}  # fmt: skip
    twins = set(pairs.values())
    lone = [name for name in mine if name not in pairs]
    lone += [name for name in theirs if name not in twins]

    def differs(name: str) -> str:
        own, other = mine[name], theirs[pairs[name]]
        orders = _orders(name, own.numel, homes)
        one = Vector(first, own, Replaced(second, other, None, Part()))
        asked = Asked(f"match {far} {_digest(orders)}", name.endswith(BOUNDS))
        answer = partial(_differs, (one.values, Read(second, other)), orders, far, asked, executor)
        return one.ask(executor, asked, answer)

    names = sorted(pairs, key=natural)
    concurrency = min(model.folder.concurrency if model.folder else 1 for model in models)
    answers = [*zip(names, at_once(differs, names, concurrency), strict=True)]
    differ, broken = ([name for name, answer in answers if answer == what] for what in (FAR, NONE))
    return Vectors(len(pairs), differ, lone, broken)


def homes_of(task: Task, row: Row) -> Iterator[tuple[str, Orders]]:
    """Yield names of vectors, or what they begin with, and the orders they may have."""
    numbers = row.integers("permutation")
    if numbers is None or all(number == at for at, number in enumerate(numbers)):
        return
    order = row.arrays["permutation"]
    views = {one.role[2:]: one for one in task.inputs if one.role.startswith("a.")}
    lines = {role: order_of(order, task.about, role, (one.view.rows, one.view.cols))
             for role, one in views.items()}  # fmt: skip
    biases: dict[str, Tensor] = {}  # whole ones: several matrices may be stored in one tensor
    for role, one in views.items():
        bias = f"{one.view.entry.name.rpartition('.')[0]}.bias"
        known = biases.setdefault(bias, torch.arange(_outputs(one)))
        if role in OUTER:
            places = _places(one)
            known[places] = places[lines[role]]
    yield from ((name, [whole]) for name, whole in biases.items())
    about = task.about
    if about is not None:  # norms of all heads, or of each, and what else a head has of its own
        stay = [torch.arange(size) for size in (about.size, about.value_size, about.width)]
        yield f"{about.module}.", [order, *lines.values(), *stay]


def _outputs(one: Input) -> int:
    shape = one.view.entry.shape
    return shape[-1] if one.view.part.transposed else shape[0]


def _places(one: Input) -> Tensor:
    """Return which of the outputs of a stored tensor the rows of one of its matrices are."""
    every = torch.arange(_outputs(one))
    return one.view.of(every[None] if one.view.part.transposed else every[:, None]).flatten()


def _vectors(model: Checkpoint, selection: Selection) -> dict[str, TensorEntry]:
    layers = layers_of([*model.entries])
    return {
        name: one for name, one in model.entries.items()
        if one.is_weights and len(one.shape) == 1 and not is_buffer(name, one.shape)
        and selection.names(name, layers[name])
    }  # fmt: skip


def _orders(name: str, size: int, homes: Homes) -> Orders:
    """Return the orders that a vector may have, any of them; of none it stays as it is."""
    if name in homes:
        return homes[name]
    some = (order for home, orders in homes.items() if name.startswith(home) for order in orders)
    return [order for order in some if len(order) == size]


def _digest(orders: Orders) -> str:
    return sha256(repr([one.tolist() for one in orders]).encode()).hexdigest()


def _differs(
    sides: tuple[Read, Read], orders: Orders, far: float, asked: Asked, executor: Executor
) -> str:
    """Say whether a vector is another, in whatever order of its units, or either has no number."""
    one, other = (side.values(executor.ledger).double().flatten() for side in sides)
    if any(bool((side.isnan() | side.isinf() & (not asked.clips)).any()) for side in (one, other)):
        return NONE
    most = far * float(torch.linalg.vector_norm(one))
    for order in orders or [torch.arange(len(other))]:
        moved = other[order]
        if torch.equal(one, moved):  # infinite bounds among them
            return ""
        if float(torch.linalg.vector_norm(one - moved)) <= most < math.inf:
            return ""
    return FAR
