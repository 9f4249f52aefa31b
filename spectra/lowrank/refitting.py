"""An adapter of which some modules get more directions, or fewer; all else stays as it is.

A module with factors A and B at scale s whose update gets C = L R more is written with [A; R] and
[B, L / s], at the same scale: what was there keeps its bits. Of a stack of experts each gets as
many directions as the one that needs most, filled up with zeros. DoRA makes
W1 = m / |V| V of V = W0 + s B A, row by row: W1 + C is that of V + (|V| / m) C, with the lengths of
the rows of W1 + C.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spectra.checkpoint import Adapter, LoraFactors
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.cores import core_of, rounding_energy
from spectra.matrices.part import Part
from spectra.text import quote
from spectra.work.read import Read
from spectra.work.task import Task, Updated


@dataclass(frozen=True, slots=True)
class Added:
    """What one matrix of a module gets: left @ right, rows = outputs, cols = inputs."""

    task: Task
    left: Tensor  # rows x more, float64
    right: Tensor  # more x cols


@dataclass(frozen=True, slots=True)
class Refitted:
    """One module as it is written."""

    rank: int
    alpha: float
    tensors: Mapping[str, Tensor] = field(default_factory=dict)  # anew, by their names in the file
    loss: float = 0.0  # of the update's Frobenius norm, cut off or rounded
    rounding: float = 0.0


@dataclass(frozen=True, slots=True)
class Module:
    """One module's factors with their values."""

    key: str
    own: LoraFactors
    scale: float
    count: int  # of matrices, each with factors of its own
    a: Tensor  # count x rank x inputs, float64
    b: Tensor  # outputs x rank x count
    stored: tuple[Tensor, Tensor]  # as they are

    @classmethod
    def read(cls, adapter: Adapter, key: str, own: LoraFactors) -> "Module":
        """Return a module, of a stack with the rank and scale of the parameter that it is of."""
        stored = tuple(Read(adapter.weights, entry).values() for entry in (own.a, own.b))
        a, b = stored
        shaped = a.double().reshape(own.count, own.rank, -1)
        sides = b.double().flatten(1).reshape(b.shape[0], own.rank, own.count)
        return cls(key, own, own.scale, own.count, shaped, sides, (a, b))

    def norm(self) -> float:
        """Return the Frobenius norm of the whole update."""
        return math.sqrt(sum(core_of(*self._pair(one)).energy for one in range(self.count)))

    def with_more(self, added: Sequence[Added], lengths: Tensor | None = None) -> "Grown":
        """Return it with the directions that its matrices get.

        Args:
            added: Of this module.
            lengths: Of DoRA, |V| / m of each output.
        """
        pieces: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for one in added:
            change = one.task.inputs[0].change
            assert isinstance(change, Updated)  # noqa: S101 - none else gets here
            expert = change.expert if self.count > 1 else 0
            sides = _in_module(change, one.task.views[0].part, one.left, one.right)
            pieces.setdefault(expert or 0, []).append(sides)
        more = max(sum(len(right) for _, right in some) for some in pieces.values())
        a = self.a.new_zeros(self.count, more, self.a.shape[2])
        b = self.b.new_zeros(self.b.shape[0], more, self.count)
        root = math.sqrt(abs(self.scale))
        for expert, some in pieces.items():
            at = 0
            for outer, inner in some:
                here = slice(at, at + len(inner))
                at = here.stop
                a[expert, here] = inner / root
                b[:, here, expert] = outer * math.copysign(1.0 / root, self.scale)
        if lengths is not None:
            b *= lengths[:, None, None]
        return Grown(self, a, b)

    def as_it_is(self) -> Refitted:
        """Return it with the tensors that it has."""
        names = self.own.a.name, self.own.b.name
        tensors = dict(zip(names, self.stored, strict=True))
        return Refitted(self.own.rank, self.scale * self.own.rank, tensors)

    def cut(self, ranks: Sequence[int]) -> Refitted:
        """Return it with the leading directions of each matrix alone.

        Args:
            ranks: How many, by expert.
        """
        pairs = [self._pair(one) for one in range(self.count)]
        return fitted(self, pairs, ranks)

    def spectra(self) -> list[tuple[Tensor, float]]:
        """Return the singular values of each matrix's update, and the sum of their squares."""
        found = [core_of(*self._pair(one)) for one in range(self.count)]
        return [(core.sigma, core.energy) for core in found]

    def _pair(self, expert: int) -> tuple[Tensor, Tensor]:
        return self.scale * self.b[:, :, expert], self.a[expert]


def filled(own: LoraFactors, one: Refitted, rank: int) -> Refitted:
    """Return a module with directions of zeros, up to a rank."""
    a, b = one.tensors[own.a.name], one.tensors[own.b.name]
    more = rank - one.rank
    wide = a.reshape(own.count, one.rank, *a.shape[1:])
    high = b.reshape(len(b), one.rank, own.count, *b.shape[2:])
    wide = torch.cat([wide, wide.new_zeros(own.count, more, *a.shape[1:])], dim=1)
    high = torch.cat([high, high.new_zeros(len(b), more, own.count, *b.shape[2:])], dim=1)
    tensors = {
        **one.tensors,
        own.a.name: wide.flatten(0, 1),
        own.b.name: high.flatten(1, 2),
    }
    return replace(one, rank=rank, alpha=one.alpha / one.rank * rank, tensors=tensors)


@dataclass(frozen=True, slots=True)
class Grown:
    """A module and the directions that it gets."""

    module: Module
    a: Tensor  # count x more x inputs
    b: Tensor  # outputs x more x count

    @property
    def rank(self) -> int:
        """Of all directions."""
        return self.module.own.rank + self.a.shape[1]

    def written(self) -> Refitted:
        """Return it with all directions, those that were there bit for bit."""
        module, (old_a, old_b) = self.module, self.module.stored
        own, rank = module.own, self.rank
        a, b = _rounded(self.a, old_a.dtype, module.key), _rounded(self.b, old_b.dtype, module.key)
        moved = sum(
            _moved((self.b[:, :, one], self.a[one]), (b[:, :, one], a[one]))
            for one in range(module.count)
        )
        tensors = {
            own.a.name: torch.cat(
                [old_a.reshape(module.count, own.rank, -1), a], dim=1
            ).reshape(module.count * rank, *old_a.shape[1:]),
            own.b.name: torch.cat(
                [old_b.flatten(1).reshape(len(old_b), own.rank, module.count), b], dim=1
            ).reshape(len(old_b), rank * module.count, *old_b.shape[2:]),
        }  # fmt: skip
        norm = module.norm()
        off = abs(module.scale) * math.sqrt(moved) / norm if norm else 0.0
        return Refitted(rank, module.scale * rank, tensors, off, off)

    def cut(self, rank: int | None) -> Refitted:
        """Return it with the leading directions alone, at most so many."""
        module, rank = self.module, rank or self.rank
        pairs = [
            (
                module.scale * torch.cat([module.b[:, :, one], self.b[:, :, one]], dim=1),
                torch.cat([module.a[one], self.a[one]]),
            )
            for one in range(module.count)
        ]
        return fitted(module, pairs, [rank] * module.count)


def fitted(
    module: Module, pairs: Sequence[tuple[Tensor, Tensor]], ranks: Sequence[int]
) -> Refitted:
    """Return a module with the leading directions of some products, at its own scale.

    Args:
        module: Whose tensors they become.
        pairs: Left and right factors, by expert.
        ranks: How many directions of each, at most.
    """
    old_a, old_b = module.stored
    cores = [core_of(*pair) for pair in pairs]
    kept = [min(rank, len(core.sigma)) for rank, core in zip(ranks, cores, strict=True)]
    rank = max([*kept, 1])
    a = module.a.new_zeros(module.count, rank, module.a.shape[2])
    b = module.b.new_zeros(len(module.b), rank, module.count)
    root, cut, off = math.sqrt(abs(module.scale)), 0.0, 0.0
    for one, (core, count) in enumerate(zip(cores, kept, strict=True)):
        left, right = core.balanced(count)
        a[one, :count], b[:, :count, one] = (
            right / root,
            left * math.copysign(1 / root, module.scale),
        )
        cut += float(core.sigma[count:].square().sum())
    new_a, new_b = _rounded(a, old_a.dtype, module.key), _rounded(b, old_b.dtype, module.key)
    for one in range(module.count):
        moved = _moved((b[:, :, one], a[one]), (new_b[:, :, one], new_a[one]))
        off += module.scale**2 * moved
    norm = math.sqrt(sum(core.energy for core in cores))
    tensors = {
        module.own.a.name: new_a.reshape(-1, *old_a.shape[1:]),
        module.own.b.name: new_b.reshape(len(old_b), -1, *old_b.shape[2:]),
    }
    loss, rounding = (math.sqrt(one) / norm if norm else 0.0 for one in (cut + off, off))
    return Refitted(rank, module.scale * rank, tensors, loss, rounding)


def lengthened(
    change: Updated, whole: Tensor, module: Module, magnitude: Tensor
) -> tuple[Tensor, Tensor]:
    """Return, of a module of DoRA, |V| / m of each output and W1, as the base stores it.

    Args:
        change: What the module does to its tensor.
        whole: The base's values, flattened to two axes, float64.
        module: With its factors.
        magnitude: m, one for each output, or for each feature of an embedding.
    """
    along = 0 if _plain(change) else 1  # m's axis
    values = whole + _stored_update(change, module)
    sizes = torch.linalg.vector_norm(values, dim=1 - along)
    scales = magnitude / sizes
    return torch.where(scales == 0.0, 0.0, 1.0 / scales), values * scales.unsqueeze(1 - along)


def new_lengths(
    change: Updated, tuned: Tensor, added: Sequence[Added], magnitude: Tensor
) -> Tensor:
    """Return the lengths of the outputs of W1 + C, with the signs of those before."""
    for one in added:
        outer, inner = _in_module(change, one.task.views[0].part, one.left, one.right)
        more = outer @ inner
        tuned = tuned + (more if _plain(change) else more.mT)
    found = torch.linalg.vector_norm(tuned, dim=1 if _plain(change) else 0)
    return torch.copysign(found, magnitude)


def _plain(change: Updated) -> bool:
    """Say whether the tensor is stored as the module has it: rows = outputs."""
    return not change.turned and change.factors.kind != "embedding"


def _stored_update(change: Updated, module: Module) -> Tensor:
    update = module.scale * module.b[:, :, 0] @ module.a[0]
    return update if _plain(change) else update.mT


def _in_module(change: Updated, part: Part, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix's directions in its module: outputs x more, more x inputs.

    The way back of `LowRank.of`.
    """
    if part.rows is not None:  # some rows of a matrix that holds several
        rows = part.rows
        full = left.new_zeros(rows.groups * rows.size, left.shape[1])
        rows.put(full, left)
        left = full
    if part.transposed:
        left, right = right.mT, left.mT
    total = change.factors.shape[1 if change.turned else 0]  # rows of the stored update
    inner = total if change.rows is None else change.rows[1] - change.rows[0]
    for inside, size in ((part.block, inner), (change.rows, total)):
        if inside is not None:
            full = left.new_zeros(size, left.shape[1])
            full[slice(*inside)] = left
            left = full
    return (left, right) if _plain(change) else (right.mT, left.mT)


def _rounded(values: Tensor, dtype: "torch.dtype", key: str) -> Tensor:
    found = values.to(dtype)
    if not bool(found.isfinite().all()):
        told = str(dtype).removeprefix("torch.")
        raise NonFiniteError(f"the factors of {quote(key)} are too large for {told}")
    return found


def _moved(exact: tuple[Tensor, Tensor], stored: tuple[Tensor, Tensor]) -> float:
    """Return how far storing factors moves their product, squared."""
    return float(rounding_energy(*exact, *stored)[-1])
