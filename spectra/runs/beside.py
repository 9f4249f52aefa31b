"""What changed beside the matrices, where no matrix did: norms and biases."""

from collections.abc import Mapping

import torch

from spectra.checkpoint import Adapter, Checkpoint, TensorEntry
from spectra.checkpoint.adapter.biases import Shift, moved_biases
from spectra.checkpoint.fingerprints import Ledger
from spectra.errors import PairingError
from spectra.matrices import match_names
from spectra.text import counted, shown
from spectra.work.read import Read


def vectors_changed(
    base: Checkpoint, tuned: Checkpoint | Adapter, ledger: Ledger | None = None
) -> str:
    """Say how many one-dimensional tensors differ; empty where none does. They are read for it.

    Args:
        base: The model before.
        tuned: The model after, or an adapter, of which what it stores whole counts, and what it
            adds to biases.
        ledger: Is told the digests of what is read.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    theirs: Mapping[str, TensorEntry] = tuned.saved if isinstance(tuned, Adapter) else tuned.entries
    source = tuned.weights if isinstance(tuned, Adapter) else tuned
    ways = moved_biases(tuned) if isinstance(tuned, Adapter) else {}
    added = {name: way.entry for name, way in ways.items() if isinstance(way, Shift) and way.scale}
    try:
        found, _ = match_names(base.entries, theirs, "tensor")
        shifted, _ = match_names(base.entries, added, "bias")
    except PairingError:
        return ""
    pairs = {name: (base.entries[name], theirs[other]) for name, other in found.items()
             if base.entries[name].is_weights and len(base.entries[name].shape) == 1
             and base.entries[name].shape == theirs[other].shape}  # fmt: skip
    changed: list[str] = []
    for name, (before, after) in pairs.items():
        old, new = (
            Read(base, before).values(ledger), Read(source, after).values(ledger)
        )  # fmt: skip
        if not torch.equal(old.to(new.dtype), new):  # rounded by storing it otherwise is no change
            changed.append(name)
    for name, other in shifted.items():
        same = base.entries[name].shape == added[other].shape
        if name not in changed and same and Read(source, added[other]).values(ledger).any():
            changed.append(name)
    if not changed:
        return ""
    vectors = counted(len(changed), "norm or bias", "norms and biases")
    more = ", such as" if len(changed) > 1 else ":"
    return f"{vectors} changed{more} {shown(changed[0])}; only matrices are measured."
