"""Named 2-D views of a checkpoint's tensors, known from headers alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.codecs.composed import Product
from spectra.checkpoint.codecs.unread import MARKS
from spectra.deferred import Tensor
from spectra.matrices.layout import LayoutError, Part, parts_of
from spectra.matrices.place import Place
from spectra.matrices.role import Role, roles_of
from spectra.matrices.unread import held_by, no_weights, scales_of
from spectra.text import natural, numberless


@dataclass(frozen=True, slots=True)
class View:
    """One matrix of a model before its values are read."""

    name: str  # unique: the tensor's name and the part, e.g. `h.0.attn.c_attn.weight[q]`
    role: Role
    entry: TensorEntry
    part: Part
    rows: int  # outputs
    cols: int  # inputs

    def of(self, tensor: Tensor) -> Tensor:
        """Return this matrix's values as stored: rows = outputs, cols = inputs."""
        return self.part.of(tensor)

    def place(self, labels: Mapping[str, str | int] | None = None) -> Place:
        """Return which matrix this is, as plain data.

        Args:
            labels: Which model of several it is from.
        """
        role, entry = self.role, self.entry
        codec = entry.codec.name if entry.codec else None
        return Place(
            entry.name, self.name, role.kind, role.layer, role.expert, self.rows, self.cols,
            entry.dtype, codec, entry.shard, self.part.label, labels or {},
        )  # fmt: skip


def inner_of(entry: TensorEntry) -> int | None:
    """Return the inner side of the factors that a tensor is stored as; None where it is not."""
    return entry.codec.rank if isinstance(entry.codec, Product) else None


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix with its values."""

    view: View
    values: Tensor  # rows x cols, in the stored dtype: kernels widen what they need


def views_of(checkpoint: Checkpoint) -> tuple[list[View], list[Skipped]]:
    """Return every matrix of a checkpoint and, with its reason, everything that is none.

    Views come in natural order of their names: layer 2 before layer 10, whatever the
    order of the shards.
    """
    views: list[View] = []
    skipped = list(checkpoint.skipped)
    known: dict[tuple[str, tuple[int, ...]], list[Part] | str] = {}  # layers repeat
    roles = roles_of({name: len(entry.shape) for name, entry in checkpoint.entries.items()})
    scales = scales_of(checkpoint.entries.values())
    varied = _varied(checkpoint.config)
    for entry in checkpoint.entries.values():
        reason = no_weights(entry) or scales.get(entry.name, "")
        if reason:
            skipped.append(Skipped(entry.name, reason))
            continue
        key = (entry.name if varied else numberless(entry.name), entry.shape)
        found = known.get(key)
        if found is None:
            found = known[key] = _parts(entry, checkpoint.config)
        if isinstance(found, str):
            skipped.append(Skipped(entry.name, found))
        else:
            views += [_view(entry, part, roles[entry.name]) for part in found]
    views.sort(key=lambda view: natural(view.name))
    skipped.sort(key=lambda item: natural(item.tensor))
    return views, skipped


def unread_share(checkpoint: Checkpoint, skipped: Iterable[Skipped]) -> float:
    """Return which share of a checkpoint's parameters lies in tensors that hold no matrix.

    Parameters are the numbers of tensors of weights with two dimensions or more; a vector
    in more dimensions than it needs is none of them, and of what is skipped for its scheme
    the number is not known.

    Args:
        checkpoint: The whole of it.
        skipped: What of it is no matrix, as `views_of` tells.
    """
    names = {item.tensor for item in skipped}
    sizes = {entry.name: entry.numel for entry in checkpoint.entries.values()
             if entry.is_weights and sum(size > 1 for size in entry.shape) > 1}  # fmt: skip
    total = sum(sizes.values())
    return sum(sizes[name] for name in names & sizes.keys()) / total if total else 0.0


WEIGHTS = ("weight", "packed", "blocks", *MARKS)
"""Endings of the names of a module's own weight, as against its scales."""


def unread_weights(checkpoint: Checkpoint) -> list[Skipped]:
    """Return the weights that were left out on opening, one for each module.

    What by its name is no matrix, such as the weight of a normalisation, is not among them.
    """
    found: dict[str, Skipped] = {}
    for item in checkpoint.skipped:
        is_weight = item.tensor.endswith(WEIGHTS) and not held_by(item.tensor)
        if is_weight and not item.reason.startswith("not floating"):
            found.setdefault(item.tensor.rpartition(".")[0], item)
    return list(found.values())


def _varied(config: Mapping[str, Any]) -> bool:
    """Say whether layers have settings of their own, so that one does not tell of another."""
    parts = (config, *config.values())
    return any(isinstance(part, dict) and "per_layer_config" in part for part in parts)


def _parts(entry: TensorEntry, config: Mapping[str, Any]) -> list[Part] | str:
    try:
        return parts_of(entry.name, entry.shape, config)
    except LayoutError as error:
        return str(error)


def _view(entry: TensorEntry, part: Part, told: Role) -> View:
    rows, cols = part.shape(entry.shape)
    role = told
    if part.kind is not None or part.expert is not None:
        expert = told.expert if part.expert is None else part.expert
        role = Role(part.kind or told.kind, told.layer, expert)
    return View(entry.name + part.suffix, role, entry, part, rows, cols)
