"""Parameters that are no tensor of the file by themselves, or of no module that PEFT adapts.

In memory experts lie in stacks, whatever the file has, and PEFT gives each of a stack factors of
its own (`target_parameters`). A linear layer's weight may be some rows of a tensor of the file, or
made of several. Here each is told as matrices, and these as rows of stored tensors.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from spectra.architectures.renaming import Landing
from spectra.architectures.table import Layer
from spectra.checkpoint import TensorEntry
from spectra.checkpoint.adapter.views import sliced
from spectra.checkpoint.codecs.joined import joined
from spectra.lowrank.homes import ATTENTION, CONVOLUTIONS, LINEAR, Homes
from spectra.matrices import View
from spectra.matrices.part import Part
from spectra.matrices.role import Role, common_role
from spectra.work.planning.stacks import LEAVES, STORED_IN_OUT

EMBEDDING = "Embedding"
PARTLY = "only some of its matrices are selected, and an adapter holds it whole"
LOST = "no counterpart in the tuned model"
ALONE = "a stack of one expert stored [in, out], which PEFT takes the other way round"
TORN = "a parameter in memory of which the file does not hold every row"
BESIDE = "a bare parameter of a module that holds others, all of which PEFT would wrap"
OPEN = "no parameter of its own in memory, so that no module of PEFT's holds it"


def changed_shape(before: TensorEntry, after: TensorEntry) -> str:
    """Say how shapes differ."""
    return f"{list(before.shape)} in the base, {list(after.shape)} here"


def by_tensor(views: Iterable[View]) -> dict[str, list[View]]:
    """Return the matrices of each tensor."""
    found: dict[str, list[View]] = {}
    for view in views:
        found.setdefault(view.entry.name, []).append(view)
    return found


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a stored tensor."""

    entry: TensorEntry
    rows: tuple[int, int] | None = None  # None: all

    def of(self, entry: TensorEntry) -> TensorEntry:
        """Return the same rows of a tensor of the same shape."""
        return entry if self.rows in (None, (0, entry.shape[0])) else sliced(entry, self.rows)


def meant(view: View, word: str) -> bool:
    """Say whether a matrix is the gate, up or down that is meant; empty: any."""
    return not word or LEAVES.get(view.role.kind) == word


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of a parameter: pieces, each below the one before, and what of these it is."""

    pieces: tuple[Piece, ...]
    part: Part

    def of(self, name: str, entries: Sequence[TensorEntry]) -> TensorEntry:
        """Return it as one tensor.

        Args:
            name: Tells it from others that are joined.
            entries: One for each piece, of the same shape.
        """
        pieces = [one.of(entry) for one, entry in zip(self.pieces, entries, strict=True)]
        return joined(name, pieces)

    def views(self, held: Mapping[str, Sequence[View]]) -> list[View]:
        """Return what of the file it is made of.

        Args:
            held: The matrices of each tensor.
        """
        expert = self.part.expert
        return [view for piece in self.pieces for view in held[piece.entry.name]
                if expert is None or view.part.expert == expert]  # fmt: skip

    def role(self, held: Mapping[str, Sequence[View]], word: str = "") -> Role:
        """Return its role, or that of a part; of several it is what theirs have in common.

        Args:
            held: The matrices of each tensor.
            word: gate, up or down; empty: of all.
        """
        return common_role([view.role for view in self.views(held) if meant(view, word)])

    def unselected(
        self, held: Mapping[str, Sequence[View]], kept: Set[str], word: str = ""
    ) -> str | None:
        """Say why a selection leaves it out; empty where it does not, None: nothing of it is meant.

        Args:
            held: The matrices of each tensor.
            kept: Those that are selected.
            word: gate, up or down alone; empty: all.
        """
        own = [view.name in kept for view in self.views(held) if meant(view, word)]
        return None if not any(own) else "" if all(own) else PARTLY


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter in memory, matrix by matrix as PEFT gives them factors."""

    name: str
    shape: tuple[int, int]  # rows = outputs, columns = inputs of each matrix
    matrices: tuple[Matrix, ...]
    bare: bool  # PEFT wraps it by its name; else it is the weight of a linear layer
    stacked: bool  # in three dimensions

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.name.rpartition(".")[0]

    def row(self, expert: int) -> str:
        """Return what the row of a matrix is called."""
        return f"{self.name}[expert={expert}]" if self.stacked else self.name

    def layer(self, held: Mapping[str, Sequence[View]]) -> int:
        """Return the layer that it is in; -1: none."""
        found = self.matrices[0].role(held).layer
        return -1 if found is None else found

    @property
    def tensors(self) -> dict[str, None]:
        """The names of the stored tensors, in order."""
        return {piece.entry.name: None for one in self.matrices for piece in one.pieces}


@dataclass(slots=True)
class _Gathered:
    experts: dict[int, list[tuple[tuple[int, int], Piece]]] = field(default_factory=dict)
    whole: tuple[TensorEntry, Landing] | None = None
    lost: bool = False  # of a tensor it is not known where it comes to lie


def parameters_of(homes: Homes, held: Mapping[str, Sequence[View]]) -> dict[str, Parameter | str]:
    """Return every such parameter, or why PEFT cannot hold it, by its name in memory.

    Args:
        homes: Of the model; without a known family there are none.
        held: The matrices of each tensor.
    """
    if homes.note or not homes.memory.name:
        return {}
    gathered: dict[str, _Gathered] = {}
    for name, views in held.items():
        entry, landings = views[0].entry, homes.memory.landings.get(name, ())
        usual = homes.parameter(entry) and not isinstance(homes.of(entry), str)
        if usual or homes.saved(entry):
            continue
        for one in landings:
            found = gathered.setdefault(one.name, _Gathered())
            found.lost = not _gather(found, entry, one) or found.lost
    return {name: _made(homes, name, one, held) for name, one in gathered.items()}


def _gather(found: _Gathered, entry: TensorEntry, one: Landing) -> bool:
    """Note a tensor, or some rows of it; say whether it is known where they come to lie."""
    if one.turn is not None:
        return False
    if one.expert is not None:
        if one.block is None:
            return False
        found.experts.setdefault(one.expert, []).append((one.block, Piece(entry)))
        return True
    if one.rows is None or one.place is None:
        return False
    whole = one.rows == one.place == (0, entry.shape[0])
    if whole:
        found.whole = entry, one
    found.experts.setdefault(0, []).append((one.place, Piece(entry, one.rows)))
    return True


def _made(
    homes: Homes, name: str, found: _Gathered, held: Mapping[str, Sequence[View]]
) -> Parameter | str:
    module, _, leaf = name.rpartition(".")
    layer = homes.memory.layers.get(module, Layer("")).kind
    if found.whole is not None and leaf == "weight":
        layer = homes.layer(found.whole[0], module).kind
    odd = leaf == "weight" and layer in CONVOLUTIONS | {EMBEDDING}
    if found.lost or not module or odd or layer == ATTENTION or homes.in_attention(module):
        return OPEN
    if leaf != "weight" and homes.holds_weights(module):
        return BESIDE
    linear = layer if leaf == "weight" and layer in LINEAR else ""
    if found.whole is not None:
        entry, landing = found.whole
        return _of_one(homes, name, entry, landing, held[entry.name], linear=bool(linear))
    return _of_several(homes, name, found, linear)


def _of_several(homes: Homes, name: str, found: _Gathered, linear: str) -> Parameter | str:
    """Return a parameter that is made of several tensors, or is some rows of one."""
    known = homes.memory.shapes.get(name, ())
    stacked = len(known) == 3
    pieces = [sorted(own, key=lambda one: one[0]) for _, own in sorted(found.experts.items())]
    rows = known[-2] if len(known) > 1 else pieces[0][-1][0][1]
    count = known[0] if stacked else 1
    if set(found.experts) != set(range(count)) or not all(_cover(one, rows) for one in pieces):
        return TORN
    sizes = {piece.entry.shape[1:] for own in pieces for _, piece in own}
    if len(sizes) > 1 or any(len(size) != 1 for size in sizes):
        return OPEN
    turned = in_out(homes) if stacked else linear == "Conv1D"
    if turned and stacked and count == 1:
        return ALONE
    shape = rows, sizes.pop()[0]
    matrices = tuple(
        Matrix(tuple(piece for _, piece in own), Part(transposed=turned)) for own in pieces
    )
    return Parameter(name, shape[::-1] if turned else shape, matrices, not linear, stacked)


def _of_one(
    homes: Homes, name: str, entry: TensorEntry, landing: Landing, views: Sequence[View],
    *, linear: bool,
) -> Parameter | str:  # fmt: skip
    """Return a parameter that is one stored tensor."""
    shape = entry.shape
    stacked = len(shape) == 3 and views[0].part.expert is not None
    if not stacked and len(shape) != 2:
        return "a bare parameter, which is the weight of no module"
    turned = landing.swapped != (stacked and in_out(homes))
    if stacked and shape[0] == 1 and in_out(homes):
        return ALONE
    experts = range(shape[0]) if stacked else (None,)
    matrices = tuple(
        Matrix((Piece(entry),), Part(expert=one, transposed=turned)) for one in experts
    )
    size = (shape[-1], shape[-2]) if turned else (shape[-2], shape[-1])
    return Parameter(name, size, matrices, not linear, stacked)


def _cover(own: Sequence[tuple[tuple[int, int], Piece]], rows: int) -> bool:
    """Say whether pieces lie one below the other without a gap, and are all."""
    ends = [0, *(stop for (_, stop), _ in own)]
    return ends[:-1] == [start for (start, _), _ in own] and ends[-1] == rows


def in_out(homes: Homes) -> bool:
    """Say whether transformers marks a family's experts as stored [in, out], which PEFT asks."""
    return any(kind in STORED_IN_OUT for kind in _kinds(homes.base.config))


def _kinds(config: Mapping[str, object]) -> Iterator[object]:
    inner = config.get("text_config")
    yield config.get("model_type")
    yield inner.get("model_type") if isinstance(inner, dict) else None


def in_order(homes: Homes, names: Iterable[str]) -> list[str]:
    """Return parameters as their modules list them, which is how PEFT nests them.

    Where transformers is not there to tell, names are in the order of the file; in all of its
    families what leads back down comes last.
    """
    order = {name: number for number, name in enumerate(homes.memory.shapes)}
    return sorted(names, key=lambda name: (name.rpartition(".")[2].startswith("down"),
                                           order.get(name, 0)))  # fmt: skip
