"""Named 2-D views of a checkpoint's tensors, known from headers alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.entry import FLOATING
from spectra.matrices.layout import LayoutError, Part, parts_of
from spectra.matrices.role import Role, role_of


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
    for entry in checkpoint.entries.values():
        reason = _no_matrix(entry)
        if reason:
            skipped.append(Skipped(entry.name, reason))
            continue
        try:
            parts = parts_of(entry.name, entry.shape, checkpoint.config)
        except LayoutError as error:
            skipped.append(Skipped(entry.name, str(error)))
            continue
        views += [_view(entry, part) for part in parts]
    views.sort(key=lambda view: natural(view.name))
    skipped.sort(key=lambda item: natural(item.tensor))
    return views, skipped


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which numbers inside a name count as numbers."""
    pieces: Iterable[str] = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _view(entry: TensorEntry, part: Part) -> View:
    """Name one part of one tensor."""
    told = role_of(entry.name, len(entry.shape))
    rows, cols = part.shape(entry.shape)
    expert = told.expert if part.expert is None else part.expert
    role = Role(part.kind or told.kind, told.layer, expert)
    return View(entry.name + part.suffix, role, entry, part, rows, cols)


def _no_matrix(entry: TensorEntry) -> str:
    """Return why a tensor holds no matrix of weights; empty where it may."""
    if entry.dtype not in FLOATING:
        if entry.dtype.startswith("F"):
            return f"{entry.dtype} weights, whose scales are not read yet"
        return f"not floating point ({entry.dtype})"
    if len(entry.shape) == 0:
        return "a single number"
    if len(entry.shape) == 1:
        return "one-dimensional"
    if entry.numel == 0:
        return "empty"
    return ""
