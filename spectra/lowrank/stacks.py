"""Factors of experts in an adapter that is written again, matrix by matrix, whatever holds them.

PEFT has them by the parameters of the base in memory, mlx-lm and GGUF gate, up and down each by
itself, and files of the base one expert alone, or all. So what an adapter changes is found in the
base's own matrices, as `diff` does, and put together again as the file that is written has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.adapter.views import scaled
from spectra.deferred import Tensor
from spectra.errors import AdapterError
from spectra.lowrank.experts import Share, router, row_of, rows_of, shares_of
from spectra.lowrank.homes import homes_of
from spectra.lowrank.naming import Naming
from spectra.lowrank.output import Part
from spectra.lowrank.parameters import Matrix, Parameter, by_tensor, in_order, parameters_of
from spectra.matrices import Place, View, views_of
from spectra.matrices.part import Part as Inside
from spectra.matrices.part import Rows
from spectra.matrices.role import Role
from spectra.text import quote, shown
from spectra.work.planning.adapted import adapter_changes
from spectra.work.planning.placing import NO_BASE
from spectra.work.planning.stacks import LEAVES
from spectra.work.task import Input, Task, Updated

READ = ("PEFT", "PEFT without adapter_config.json")
"""Whose whole tensors have the names that PEFT gives them."""

PARTED = "gate and up of its experts cannot be told apart in the base"
NOWHERE = "which of the experts in memory it is, is not known"
LENGTHS = "DoRA's lengths of an expert, which its stack has no place for"


@dataclass(frozen=True, slots=True)
class Factor(Inside):
    """One expert's factor in a stored stack of them, and where its rows go."""

    columns: tuple[int, int] | None = None
    """As stored, those that are one's of several by turns: the first, and of how many."""
    placed: Rows | None = None  # of a larger matrix, the rows that these become; 0 elsewhere

    def within(self, slab: Tensor) -> Tensor:
        """Return this part of its slab of the stored tensor."""
        if self.columns is not None:
            slab = slab.flatten(1)[:, self.columns[0] :: self.columns[1]]
        matrix = Inside.within(self, slab)
        if self.placed is None:
            return matrix
        full = matrix.new_zeros(self.placed.groups * self.placed.size, matrix.shape[1])
        self.placed.put(full, matrix)
        return full


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of one matrix, or of some of its rows."""

    a: View  # rank x inputs
    b: View  # outputs x rank
    scale: float

    def inputs(
        self, source: Checkpoint, told: float | None, weight: float, number: str
    ) -> tuple[Input, Input]:
        """Return both as a task has them, the scale in B but for what is told."""
        scale = self.scale * weight / (1.0 if told is None else told)
        entry = self.b.entry
        if scale != 1.0:
            entry = scaled(entry, scale)
        left = replace(self.b, name=entry.name, entry=entry)
        return Input(f"A{number}", source, self.a), Input(f"B{number}", source, left)


@dataclass(frozen=True, slots=True)
class Row:
    """One matrix of a stack, or a bare matrix that is none."""

    name: str
    role: Role
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """What is one pair of factors in the file that is written."""

    part: Part
    rows: tuple[Row, ...]
    told: float | None = None  # the scale that is written beside them, where they are copied

    @property
    def rank(self) -> int:
        """The most that one of its matrices has."""
        return max(
            sum({(pair.a.entry.name, pair.a.part): pair.a.rows for pair in row.pairs}.values())
            for row in self.rows
        )

    @property
    def scale(self) -> float:
        """That of all its factors; 1 where they have several."""
        scales = {pair.scale for row in self.rows for pair in row.pairs}
        return scales.pop() if len(scales) == 1 else 1.0

    @property
    def dtypes(self) -> set[str]:
        """What its factors are stored as."""
        return {view.entry.dtype for row in self.rows for pair in row.pairs
                for view in (pair.a, pair.b)}  # fmt: skip

    @property
    def stored(self) -> set[str]:
        """The tensors of its factors."""
        return {part.name for row in self.rows for pair in row.pairs
                for view in (pair.a, pair.b) for part in view.entry.parts}  # fmt: skip

    def inputs(
        self, row: Row, source: Checkpoint, weight: float = 1.0, number: str = ""
    ) -> list[Input]:
        """Return what the task of a row reads of one adapter."""
        alone = len(row.pairs) == 1
        return [
            one for index, pair in enumerate(row.pairs)
            for one in pair.inputs(source, self.told, weight,
                                   number if alone else f"{number}.{index}")
        ]  # fmt: skip

    def tasks(self, key: str, source: Checkpoint, dtype: str) -> list[Task]:
        """Return a task for each matrix."""
        return [Task(self.place(key, row, dtype), tuple(self.inputs(row, source)))
                for row in self.rows]  # fmt: skip

    def place(self, key: str, row: Row, dtype: str) -> Place:
        """Return the row of a matrix."""
        role, part = row.role, self.part
        return Place(key if part.members else row.name, row.name, role.kind, role.layer,
                     role.expert, part.outputs, prod(part.inputs), dtype,
                     file=row.pairs[0].a.entry.shard)  # fmt: skip


@dataclass(slots=True)
class _Gathering:
    adapter: Adapter
    base: Checkpoint
    naming: Naming
    held: Mapping[str, Sequence[View]] = field(default_factory=dict)
    updates: dict[str, Updated] = field(default_factory=dict)  # by the name of a matrix
    used: set[str] = field(default_factory=set)  # matrices that have found their place


def stacks_of(adapter: Adapter, base: Checkpoint, naming: Naming) -> dict[str, Stack]:
    """Return what of an adapter is no module of the base in memory, as it is written.

    Args:
        adapter: With the names of its base.
        base: The model it was trained on.
        naming: How it is written. In a file of gate, up and down by themselves experts that are
            modules are stacked too; for PEFT others' modules may be bare parameters.

    Raises:
        AdapterError: Some of it has no place in the base, or in the file.
    """
    each = naming.coat.stacks == "each"
    foreign = naming.coat.stacks == "memory" and adapter.coat not in READ
    views = [view for view in views_of(base)[0] if not view.part.alone]
    some = any(own.kind == "parameter" for own in adapter.factors.values())
    routed = (each or foreign) and any(view.role.expert is not None for view in views)
    if not some and not routed:
        return {}
    found = _Gathering(adapter, base, naming, by_tensor(views))
    turned = {view.entry.name for view in views if view.part.transposed}
    changes = adapter_changes(base, views, adapter, turned=turned)
    homes = homes_of(base)
    made = parameters_of(homes, found.held)
    bare = {name for one in made.values() if isinstance(one, Parameter) and one.bare
            for name in one.tensors if foreign}  # fmt: skip
    for view, change in changes.pairs:
        if isinstance(change, Updated) and (
            change.factors.kind == "parameter" or (each and view.role.expert is not None)
            or view.entry.name in bare
        ):  # fmt: skip
            found.updates[view.name] = change
    placed = {change.factors.a.name for change in found.updates.values()}
    for key, own in adapter.factors.items():
        if own.kind == "parameter" and own.a.name not in placed:
            why = next((one.reason for one in changes.skipped if one.tensor == key), NO_BASE)
            raise AdapterError(
                f"{shown(adapter.spec)}: module {quote(key)} cannot be found in "
                f"{shown(base.spec)}: {why}. Give the base it was trained on."
            )
    if not found.updates:
        return {}
    stacks: dict[str, Stack] = {}
    for name in in_order(homes, made):
        one = made[name]
        if isinstance(one, Parameter):
            stacks |= {key: stack for key, stack in _stacks(found, one) if stack.rows}
    if lost := [name for name in found.updates if name not in found.used]:
        why = homes.note or NOWHERE
        raise AdapterError(
            f"{shown(adapter.spec)} changes {quote(lost[0])} of {shown(base.spec)}: {why}. "
            "Expected --base as transformers saves that model, whose headers are enough, or the "
            "merged model, which `spectra lowrank repair BASE ADAPTER` writes with --merged and "
            "--scale 1."
        )
    return stacks


def _stacks(found: _Gathering, one: Parameter) -> Iterator[tuple[str, Stack]]:
    """Yield what a parameter becomes in the file."""
    if found.naming.coat.stacks != "each":
        yield _stack(found, one, Share())
    elif one.stacked:
        shares = shares_of(one, found.held)
        for word, rows in shares.items():
            yield _stack(found, one, Share(word, rows))
    else:
        name = next(iter(one.tensors))
        module = name.removesuffix(".weight")
        if found.naming.to == "mlx":
            module = router(found.base, module)
        if module and len(one.tensors) == 1 and name.endswith(".weight"):
            yield _stack(found, one, Share(module=module))


def _stack(found: _Gathering, one: Parameter, share: Share) -> tuple[str, Stack]:
    rows: list[Row] = []
    members: list[str] = []
    for expert, matrix in enumerate(one.matrices):
        pairs = _pairs(found, one, matrix, share)
        name = row_of(one, expert, share.word, share.rows) if pairs else ""
        members.append(name)
        if pairs:
            role = matrix.role(found.held, share.word)
            rows.append(Row(name, replace(role, expert=expert if one.stacked else None), pairs))
    in_memory = found.naming.coat.stacks == "memory"
    part = Part(
        share.module or one.module, (one.shape[1],), share.count(one.shape[0]),
        parameter=one.name if in_memory else "", members=tuple(members) if one.stacked else (),
        leaf=share.word, layer=one.layer(found.held),
    )  # fmt: skip
    return share.key(one), Stack(part, tuple(rows))


def _pairs(
    found: _Gathering, one: Parameter, matrix: Matrix, share: Share
) -> tuple[Pair, ...]:  # fmt: skip
    """Return the factors of one matrix of a parameter, or of its part that is held by itself."""
    views = [view for view in matrix.views(found.held) if view.name in found.updates]
    if share.word:
        views = [view for view in views if LEAVES.get(view.role.kind) == share.word]
    found.used |= {view.name for view in views}
    pairs: dict[tuple[str, Inside, str, Inside], Pair] = {}  # gate and up may share theirs
    for view in views:
        change = found.updates[view.name]
        if change.dense:
            raise AdapterError(
                f"{shown(found.adapter.spec)} holds {LENGTHS}: {quote(view.name)}. Expected the "
                "merged model, which `spectra lowrank repair BASE ADAPTER` writes with --merged "
                "and --scale 1."
            )
        rows, placed = _rows(view, change), None
        if not share.word and one.stacked:
            if change.factors.shape in (one.shape, one.shape[::-1]) and not change.inside:
                rows = None  # gate and up together, as they are stored
            else:
                words = rows_of(matrix, one.shape[0], found.held)
                placed = words.get(LEAVES.get(view.role.kind, ""))
                if len(words) > 1 and placed is None:
                    raise AdapterError(
                        f"{shown(found.adapter.spec)}: {quote(view.name)}: {PARTED}."
                    )
        pair = _pair(view, change, rows, placed)
        pairs[pair.a.name, pair.a.part, pair.b.name, pair.b.part] = pair
    return tuple(pairs.values())


def _rows(view: View, change: Updated) -> Rows | None:
    """Return which rows of what factors make, outputs x inputs, are a matrix's."""
    if change.inside or view.part.rows is not None:
        return None if change.inside else view.part.rows
    if change.rows is None:
        return None
    return Rows(1, change.factors.shape[0], *change.rows)


def _pair(view: View, change: Updated, rows: Rows | None, placed: Rows | None) -> Pair:
    factors = change.factors
    a, b = factors.a, factors.b
    rank, count = factors.rank, 1
    block = columns = None
    if change.ranks is not None:
        block, columns = change.ranks, (change.expert or 0, factors.count)
        count = factors.count
    flipped = not change.inside and change.turned != view.part.transposed
    inner = b.shape[1] // count if b.shape else rank
    first = Factor(block=block, transposed=flipped)
    second = Factor(columns=columns, transposed=flipped)
    right, left = ((b, second), (a, first)) if flipped else ((a, first), (b, second))
    size = factors.shape[::-1] if flipped else factors.shape
    height = size[0] if rows is None else rows.count
    height = height if placed is None else placed.groups * placed.size
    outer = replace(left[1], rows=rows, placed=placed)
    return Pair(
        View(right[0].name, view.role, right[0], right[1], inner, size[1]),
        View(left[0].name, view.role, left[0], outer, height, inner),
        factors.scale,
    )
