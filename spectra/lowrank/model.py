"""The checkpoint that is written: a copy with some matrices anew, and where they came from."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spectra.analyzers.repaired import merged_values
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.entry import torch_dtype
from spectra.checkpoint.source import Source
from spectra.errors import AdapterError, NonFiniteError, OutputError
from spectra.lowrank.pieces import Carried, require_finite
from spectra.lowrank.provenance import told_of
from spectra.lowrank.rewriting import Home, Rewriting, beside, copy, require_rewritable
from spectra.lowrank.writing import Run
from spectra.matrices import Pair, match_names
from spectra.matrices.part import Part
from spectra.runs.result import Result
from spectra.text import quote, shown
from spectra.work.load import Loader
from spectra.work.task import Task
from spectra.writing.destination import Destination

PROVENANCE = "spectra_provenance.json"
"""Beside the weights, whose own headers stay as they were."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A tensor that is written as it is stored elsewhere."""

    source: Checkpoint
    entry: TensorEntry


@dataclass(frozen=True, slots=True)
class Model:
    """Where a checkpoint goes, and all that is known of it before anything is measured."""

    path: Path
    rewriting: Rewriting
    others: Mapping[str, Source]  # beside its weights, by their places
    left_out: tuple[Skipped, ...]  # of what lies beside them
    vectors: Mapping[str, Whole] = field(default_factory=dict)
    """By their names in the checkpoint, what an adapter stores whole beside its matrices."""
    force: bool = False
    read: Sequence[Checkpoint] = ()  # what it is made of besides, which is not written over
    rest: Sequence[Task] = ()  # what else an adapter changes, which gets its update as it is

    @classmethod
    def of(
        cls, path: Path, model: Checkpoint, homes: Mapping[str, Home],
        vectors: Mapping[str, Whole] = MappingProxyType({}), *, force: bool,
        read: Sequence[Checkpoint] = (),
    ) -> "Model":  # fmt: skip
        """Return what is written of a checkpoint.

        Args:
            path: The folder.
            model: That of which most stays.
            homes: Where the matrices lie that may be written anew.
            vectors: What else is written anew.
            force: Replace what is there.
            read: What it is made of besides.

        Raises:
            UsageError: It is of a format that is not written.
        """
        require_rewritable(model)
        others, left_out = beside(model)
        others.pop(PROVENANCE, None)
        return cls(path, Rewriting(model, homes), others, tuple(left_out), vectors, force, read)

    @property
    def place(self) -> Destination:
        """Where it goes."""
        return self.with_own(())

    def with_own(self, more: Collection[str]) -> Destination:
        """Return where it goes, in a folder that other files are written into besides."""
        own = {*self.rewriting.model.files, *self.others, PROVENANCE, *more}
        return Destination(self.path, own, self.force, instead="Choose another place.")

    def require(self, more: Collection[str] = (), nbytes: int = 0) -> None:
        """Refuse, before any work, a place where it could not be written.

        Args:
            more: Places of files that are written into its folder besides.
            nbytes: What these take.

        Raises:
            OutputError: It cannot.
        """
        model = self.rewriting.model
        for one in (model, *self.read):
            found = Path(one.resolved)
            folder = found if found.is_dir() else found.parent
            if found.exists() and self.path.resolve() == folder.resolve():
                over = "a model is not written over itself"
                over = over if one is model else "what is read is not written over"
                raise OutputError(
                    f"{shown(self.path)} is where {shown(one.spec)} is read from, and {over}. "
                    "Choose another place."
                )
        every = (*model.files.values(), *self.others.values())
        self.with_own(more).require(nbytes + sum(one.size for one in every))

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure and write; return what was found, and what is told of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """

        def fill(folder: Path) -> tuple[Result, int]:
            sink = self.rewriting.into(folder)
            result = run.into(sink)
            return result, self.finish(sink, result)

        result, nbytes = self.place.write(fill)
        return result, {"nbytes_written": nbytes}

    def finish(self, sink: Rewriting, result: Result) -> int:
        """Complete the folder, and return the bytes of the weights.

        Raises:
            OutputError: The system refuses, or a file that is read ended early.
        """
        for name, one in self.vectors.items():
            entry = sink.model.entries[name]
            require_finite(Carried(one.source, one.entry))
            values = one.source.read(one.entry).to(torch_dtype(entry.dtype))
            sink.put(entry, Part(), values)
            sink.rewritten.add(name)
        loader = Loader(self.rest)
        for task in self.rest:
            pair = loader.load(task).subject("cpu")
            assert isinstance(pair, Pair)  # noqa: S101 - as it was planned
            try:
                sink.take(task, {"values": merged_values(pair)})
            except NonFiniteError as error:
                raise NonFiniteError(f"{task.place.matrix} cannot be written: {error}") from None
        written = sink.finish()
        copy(self.others, sink.folder)
        told = {**told_of(result), "rewritten": sorted(sink.rewritten)}
        text = json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n"
        (sink.folder / PROVENANCE).write_text(text, encoding="utf-8")
        return written


def whole_vectors(base: Checkpoint, adapter: Adapter) -> dict[str, Whole]:
    """Return what an adapter stores whole of tensors that are no matrices, such as norms.

    Raises:
        AdapterError: It changes something else too, or a tensor of another shape.
    """
    spec = shown(adapter.spec)
    biased = next((name for name in adapter.weights.entries if name.endswith("lora_B.bias")), None)
    if biased is not None:
        raise AdapterError(
            f"{spec} holds {quote(biased)}, a bias that is scaled with its factors (lora_bias), "
            "which is not written into a base. Leave out --merged."
        )
    found, _ = match_names(base.entries, adapter.saved, f"tensor of {spec}")
    vectors = {}
    for name, other in found.items():
        before, after = base.entries[name], adapter.saved[other]
        if before.shape != after.shape:
            there, here = list(before.shape), list(after.shape)
            raise AdapterError(
                f"{spec} holds {quote(name)} of shape {here}, and it is {there} in "
                f"{shown(base.spec)}: a checkpoint keeps its shapes. Leave out --merged."
            )
        if len(before.shape) < 2:
            vectors[name] = Whole(adapter.weights, after)
    return vectors
