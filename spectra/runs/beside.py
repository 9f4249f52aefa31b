"""Norms and biases, beside matrices: what is no number in them, and what alone changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from spectra.checkpoint import Adapter, Checkpoint, TensorEntry
from spectra.checkpoint.adapter.biases import Shift, moved_biases
from spectra.checkpoint.source import at_once
from spectra.deferred import Tensor, torch
from spectra.errors import PairingError
from spectra.matrices import View, match_names
from spectra.matrices.part import Part
from spectra.matrices.role import Role
from spectra.policy.facts import is_buffer
from spectra.policy.rules.entries import BOUNDS
from spectra.text import counted, natural, non_finite, quote, shown
from spectra.words import VECTOR
from spectra.work.executor import Executor
from spectra.work.planning.plan import weights_of
from spectra.work.read import Read
from spectra.work.store import keep, recalled
from spectra.work.task import Change, Input, Replaced, Shifted, Task

NAMED = 3  # vectors of a model that hold NaN or Inf and are told one by one
VECTORS = "norm or bias", "norms and biases"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one vector; under it the store keeps the answer."""

    name: ClassVar[str] = "vector"
    keys: ClassVar[tuple[str, ...]] = ()

    about: str
    clips: bool = False  # a module clips at it: it may be infinite


@dataclass(frozen=True, slots=True)
class Vector:
    """A norm or bias, or one and what became of it."""

    source: Checkpoint
    entry: TensorEntry
    change: Change = None

    @property
    def values(self) -> Read:
        """What is read of it, but for a change."""
        return Read(self.source, self.entry)

    @property
    def task(self) -> Task:
        """What tells the store which vector it is, by content."""
        entry = self.entry
        role = Role(VECTOR)
        view = View(entry.name, role, entry, Part(), entry.numel, 1)
        one = Input("", self.source, view, self.change is not None, self.change)
        return Task(view.place(), (one,))

    def ask(self, executor: Executor, asked: Asked, answer: Callable[[], str]) -> str:
        """Return what was answered before, or is now."""
        task = self.task
        known = recalled(executor, [task], asked)
        if known is None:
            known = {asked.about: answer()}
            keep(executor, [task], asked, known)
        return str(known[asked.about])


def broken_vectors(
    models: Sequence[tuple[str, Checkpoint | Adapter]], executor: Executor
) -> tuple[str, list[str]]:
    """Say which one-dimensional tensors hold NaN or Inf, as `check` does.

    They are read for it, those that the store does not know.

    Args:
        models: Each with what it is called in a sentence; of adapters what they store whole and
            what they add to biases.
        executor: Its store is asked, and told the digests of what is read.

    Returns:
        A sentence for each model that holds some, and a note for each of the first of them.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    told, notes = [], []
    for what, model in models:
        weights = weights_of(model)
        entries = sorted(_vectors_of(model), key=lambda one: natural(one.name))
        look = partial(_broken, weights, executor)
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


def vector_bytes(model: Checkpoint | Adapter, executor: Executor) -> int:
    """Return the bytes that `broken_vectors` reads of a model."""
    found = [Vector(weights_of(model), entry) for entry in _vectors_of(model)]
    return sum(one.entry.nbytes for one in found
               if recalled(executor, [one.task], _whether_broken(one.entry)) is None)  # fmt: skip


def _vectors_of(model: Checkpoint | Adapter) -> Iterator[TensorEntry]:
    """Yield vectors of weights; buffers such as masks may hold Inf."""
    entries = model.entries if isinstance(model, Checkpoint) else model.saved
    own = [*entries.values()]
    if isinstance(model, Adapter):
        own += [way.entry for way in moved_biases(model).values() if isinstance(way, Shift)]
    for entry in own:
        if entry.is_weights and len(entry.shape) < 2 and not is_buffer(entry.name, entry.shape):
            yield entry


def _whether_broken(entry: TensorEntry) -> Asked:
    return Asked("broken", entry.name.endswith(BOUNDS))


def _broken(source: Checkpoint, executor: Executor, entry: TensorEntry) -> str:
    """Say what of a vector is no number; what a module clips at may be infinite."""
    one, asked = Vector(source, entry), _whether_broken(entry)

    def answer() -> str:
        values = _wide(one.values.values(executor.ledger)).flatten()
        nan, inf = values.isnan(), values.isinf() & (not asked.clips)
        if not bool((nan | inf).any()):
            return ""
        first = [int((nan | inf).to(torch.uint8).argmax())]
        return non_finite(int(nan.sum()), int(inf.sum()), first)

    return one.ask(executor, asked, answer)


def _wide(values: Tensor) -> Tensor:
    return values.double()  # which all operations know, and NaN stays NaN


def vectors_changed(base: Checkpoint, tuned: Checkpoint | Adapter, executor: Executor) -> str:
    """Say how many one-dimensional tensors differ; empty where none does.

    They are read for it, those that the store does not know.

    Args:
        base: The model before.
        tuned: The model after, or an adapter, of which what it stores whole counts, and what it
            adds to biases.
        executor: Its store is asked, and told the digests of what is read.

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
        one = Vector(base, before, Replaced(source, after, None, Part()))
        if one.ask(
            executor,
            Asked("changed"),
            partial(_replaced, one.values, Read(source, after), executor),
        ):
            changed.append(name)
    for name, other in shifted.items():
        own, by = base.entries[name], ways[other]
        if name in changed or own.shape != added[other].shape or not isinstance(by, Shift):
            continue
        one = Vector(base, own, Shifted(source, by.entry, by.scale, by.rank))
        if one.ask(executor, Asked("shifted"), partial(_shifted, Read(source, by.entry), executor)):
            changed.append(name)
    if not changed:
        return ""
    vectors = counted(len(changed), *VECTORS)
    more = ", such as" if len(changed) > 1 else ":"
    return f"{vectors} changed{more} {shown(changed[0])}; only matrices are measured."


def _replaced(before: Read, after: Read, executor: Executor) -> str:
    """Say whether a vector is another, beyond what storing rounds."""
    old, new = before.values(executor.ledger), after.values(executor.ledger)
    old, new = _wide(old.to(new.dtype)), _wide(new)
    same = torch.equal(old.nan_to_num(), new.nan_to_num()) and torch.equal(
        old.isfinite(), new.isfinite()
    )
    return "" if same else "yes"


def _shifted(added: Read, executor: Executor) -> str:
    """Say whether what is added to a bias is anything."""
    return "yes" if added.values(executor.ledger).any() else ""
