"""Norms and biases, beside matrices: what is no number in them, and what alone changed."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from spectra.checkpoint import Adapter, Checkpoint, TensorEntry
from spectra.checkpoint.adapter.biases import Shift, moved_biases
from spectra.checkpoint.fingerprints import Ledger
from spectra.checkpoint.source import at_once
from spectra.errors import PairingError
from spectra.matrices import match_names
from spectra.policy.facts import is_buffer
from spectra.policy.rules.entries import BOUNDS
from spectra.text import counted, natural, non_finite, quote, shown
from spectra.work.planning.plan import weights_of
from spectra.work.read import Read

NAMED = 3  # vectors of a model that hold NaN or Inf and are told one by one
VECTORS = "norm or bias", "norms and biases"


def broken_vectors(
    models: Sequence[tuple[str, Checkpoint | Adapter]], ledger: Ledger | None = None
) -> tuple[str, list[str]]:
    """Say which one-dimensional tensors hold NaN or Inf, as `check` does; they are read for it.

    Args:
        models: Each with what it is called in a sentence; of adapters what they store whole and
            what they add to biases.
        ledger: Is told the digests of what is read.

    Returns:
        A sentence for each model that holds some, and a note for each of the first of them.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    told, notes = [], []
    for what, model in models:
        weights = weights_of(model)
        entries = sorted(_vectors_of(model), key=lambda one: natural(one.name))
        look = partial(_broken, weights, ledger)
        concurrency = weights.folder.concurrency if weights.folder else 1
        texts = at_once(look, entries, concurrency)
        found = {entry.name: text for entry, text in zip(entries, texts, strict=True) if text}
        if not found:
            continue
        first, many = next(iter(found)), len(found) > 1
        told.append(f"{counted(len(found), *VECTORS)} of {what} {'hold' if many else 'holds'} NaN "
                    f"or Inf{', such as' if many else ':'} {shown(first)}.")  # fmt: skip
        notes += [f"{shown(model.spec)}: {quote(name)} holds {text}"
                  for name, text in [*found.items()][:NAMED]]  # fmt: skip
        if (more := len(found) - NAMED) > 0:
            notes.append(f"{shown(model.spec)}: {more:,} more hold NaN or Inf; `spectra check "
                         f"{shown(model.spec)}` names all")  # fmt: skip
    return " ".join(told), notes


def vector_bytes(model: Checkpoint | Adapter) -> int:
    """Return the bytes that `broken_vectors` reads of a model."""
    return sum(entry.nbytes for entry in _vectors_of(model))


def _vectors_of(model: Checkpoint | Adapter) -> Iterator[TensorEntry]:
    """Yield vectors of weights; buffers such as masks may hold Inf."""
    entries = model.entries if isinstance(model, Checkpoint) else model.saved
    own = [*entries.values()]
    if isinstance(model, Adapter):
        own += [way.entry for way in moved_biases(model).values() if isinstance(way, Shift)]
    for entry in own:
        if entry.is_weights and len(entry.shape) < 2 and not is_buffer(entry.name, entry.shape):
            yield entry


def _broken(source: Checkpoint, ledger: Ledger | None, entry: TensorEntry) -> str:
    """Say what of a vector is no number; what a module clips at may be infinite."""
    values = _wide(Read(source, entry).values(ledger)).flatten()
    nan, inf = values.isnan(), values.isinf() & (not entry.name.endswith(BOUNDS))
    if not bool((nan | inf).any()):
        return ""
    first = [int((nan | inf).to(torch.uint8).argmax())]
    return non_finite(int(nan.sum()), int(inf.sum()), first)


def _wide(values: Tensor) -> Tensor:
    return values.double()  # which all operations know, and NaN stays NaN


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
        old, new = _wide(old.to(new.dtype)), _wide(new)  # rounded by storing is no change
        if not torch.equal(old.nan_to_num(), new.nan_to_num()) or not torch.equal(
            old.isfinite(), new.isfinite()
        ):
            changed.append(name)
    for name, other in shifted.items():
        same = base.entries[name].shape == added[other].shape
        if name not in changed and same and Read(source, added[other]).values(ledger).any():
            changed.append(name)
    if not changed:
        return ""
    vectors = counted(len(changed), *VECTORS)
    more = ", such as" if len(changed) > 1 else ":"
    return f"{vectors} changed{more} {shown(changed[0])}; only matrices are measured."
