"""The linear layers of a model that training is prepared for, and why others are left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from spectra.checkpoint import Checkpoint, Skipped
from spectra.checkpoint.codecs.composed import made_of
from spectra.errors import NothingToAnalyseError
from spectra.lowrank.homes import Home, Homes, homes_of
from spectra.lowrank.parameters import by_tensor
from spectra.matrices import Selection, View, views_of
from spectra.matrices.part import Part
from spectra.matrices.role import common_role
from spectra.text import shown
from spectra.words import VOCABULARY

NAMED = (*VOCABULARY, "router", "conv")
"""Roles that are taken only where they are named."""

UNNAMED = "taken only where --role or --include names it"


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer, its weight as one matrix whatever lies fused in it."""

    home: Home
    view: View  # outputs x inputs

    @property
    def turned(self) -> bool:
        """Whether it is stored [in, out]."""
        return self.view.part.transposed


@dataclass(frozen=True, slots=True)
class Taken:
    """What of a model is taken."""

    layers: Sequence[Linear]  # one at least
    homes: Homes
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What the user must know of the names."""
        return [self.homes.note] if self.homes.note else []


def linear_layers(
    base: Checkpoint,
    selection: Selection,
    unfit: Callable[[Linear], str] = lambda _: "",
) -> Taken:
    """Return the linear layers of blocks, as PEFT's `all-linear` has them, or those that are named.

    Args:
        base: The model.
        selection: Roles and globs that name others take those.
        unfit: Says why one of them is left out; empty where it is not.

    Raises:
        NothingToAnalyseError: None is left.
    """
    views, others = views_of(base)
    kept = {view.name for view in selection.apply(views)}
    homes = homes_of(base)
    layers: list[Linear] = []
    skipped: list[Skipped] = []
    for name, inside in by_tensor(views).items():
        if not any(view.name in kept for view in inside):
            continue
        found = _layer(homes, inside, kept, selection)
        reason = found if isinstance(found, str) else unfit(found)
        if isinstance(found, Linear) and not reason:
            layers.append(found)
        else:
            skipped.append(Skipped(name, reason))
    if not layers:
        lost = next(
            (one for one in skipped if UNNAMED not in one.reason), next(iter(skipped), None)
        )
        told = f" {lost.tensor}: {lost.reason}." if lost else ""
        raise NothingToAnalyseError(
            f"no linear layer of {shown(base.spec)} is left to prepare.{told} "
            f"`spectra ls {shown(base.spec)}` shows all."
        )
    return Taken(layers, homes, skipped + (others if selection == Selection() else []))


def _layer(
    homes: Homes, inside: Sequence[View], kept: set[str], selection: Selection
) -> Linear | str:
    """Return the linear layer whose weight a tensor is, or why it is left out."""
    first, entry = inside[0], inside[0].entry
    if not all(view.name in kept for view in inside):
        return "only some of its matrices are selected, and it is taken whole"
    if reason := _outside(first, selection):
        return reason
    if made_of(entry):
        return "stored as factors, and the model has no layer of its name to train"
    home = homes.of(entry)
    if isinstance(home, str):
        return f"not taken: {home}"
    if home.kind != "linear" or len(entry.shape) != 2:
        return "no linear layer"
    turned = any(view.part.transposed for view in inside)
    rows, cols = entry.shape[::-1] if turned else entry.shape
    role = common_role([view.role for view in inside])
    view = View(entry.name, role, entry, Part(transposed=turned), rows, cols)
    return Linear(home, view)


def _outside(view: View, selection: Selection) -> str:
    """Say why a matrix is taken only where it is named; empty where it is taken."""
    if selection.roles or selection.include:
        return ""
    if view.role.kind in NAMED:
        return f"{view.role.kind}: {UNNAMED}"
    if view.role.layer is None:
        return f"in no block: {UNNAMED}"
    return ""
