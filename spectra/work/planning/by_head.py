"""Pairs of attention, head by head."""

from collections.abc import Iterable
from dataclasses import replace

from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.matrices import View
from spectra.matrices.per_head import ATTENTION, by_head
from spectra.text import counted, quote, shown
from spectra.work.task import Change, Replaced, Rewritten


def split_by_head(
    base: Checkpoint, pairs: Iterable[tuple[View, Change]]
) -> tuple[list[tuple[View, Change]], tuple[str, ...]]:
    """Return pairs with those of attention split by head, and a note on those that are not.

    Args:
        base: The model that the views are of.
        pairs: Matrices and what became of them; all others stay as they are.

    Raises:
        UsageError: None can be split.
    """
    found: list[tuple[View, Change]] = []
    whole: list[tuple[View, str]] = []
    some = False
    for view, change in pairs:
        heads = by_head(view, base.config) if view.role.kind in ATTENTION else "no attention"
        if not isinstance(heads, str) and not isinstance(change, Rewritten):
            some = True
            found += [(head, _cut(change, head)) for head in heads]
            continue
        found.append((view, change))
        if view.role.kind in ATTENTION:
            whole.append((view, str(heads)))
    if some and not whole:
        return found, ()
    if not whole:
        raise UsageError(
            f"--per-head: nothing that is compared of {shown(base.spec)} is attention. "
            "Leave it out."
        )
    first, why = whole[0]
    told = f"{quote(first.name)}: {why}"
    if not some:
        raise UsageError(
            f"--per-head: no matrix of {shown(base.spec)} can be split by head: {told}. "
            "Leave it out."
        )
    left = counted(len(whole), "matrix of attention is", "matrices of attention are")
    return found, (f"--per-head: {left} not split, such as {told}.",)


def _cut(change: Change, head: View) -> Change:
    """Return what becomes of one head; where it is stored anew, it may lie otherwise there."""
    if not isinstance(change, Replaced):
        return change
    return replace(change, part=replace(change.part, head=head.part.head))
