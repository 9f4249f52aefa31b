"""A checkpoint of which some matrices are written anew: all else stays as it is, byte for byte.

Headers tell where every tensor lies, and a matrix that is rewritten keeps its dtype and shape. So
files are made as large as they were, matrices are put in their places as they come, and what lies
between is copied at the end: each byte is written once, and a matrix is all that memory holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.documents import read_weight_map
from spectra.checkpoint.entry import torch_dtype
from spectra.checkpoint.formats import format_named, is_state, refused_name
from spectra.checkpoint.modules import module_paths
from spectra.checkpoint.source import Folder, Source
from spectra.deferred import Tensor, torch
from spectra.errors import OutputError, UsageError
from spectra.matrices.part import Part
from spectra.text import quote, shown
from spectra.work.task import Task
from spectra.writing.spool import raw

CHUNK = 8 << 20  # bytes in memory at a time of what is copied
SAFETENSORS = (".safetensors", ".sft")
OTHERS = "other weights"


@dataclass(frozen=True, slots=True)
class Home:
    """Where a matrix lies in a checkpoint."""

    entry: TensorEntry
    part: Part


@dataclass(slots=True)
class Rewriting:
    """A `Sink` that puts matrices into a copy of a checkpoint, which `finish` completes."""

    model: Checkpoint
    homes: Mapping[str, Home]  # by matrix
    folder: Path = Path()
    done: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by file: start, stop
    rewritten: set[str] = field(default_factory=set)  # matrices

    def into(self, folder: Path) -> "Rewriting":
        """Return it with a folder that is there to be filled."""
        return Rewriting(self.model, self.homes, folder)

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
        """Put a task's values in their place.

        Raises:
            OutputError: The disk is full, or the system refuses.
        """
        home = self.homes[task.place.matrix]
        self.rewritten.add(task.place.matrix)
        self.put(home.entry, home.part, tensors["values"])

    def put(self, entry: TensorEntry, part: Part, values: Tensor) -> None:
        """Put the values of a matrix in the place of those that are stored."""
        start, stop = entry.stretch(part.slab)
        if part.rows is None and not part.transposed:
            self._write(entry.shard, start, raw(values))
            return

        # What lies between its entries is of other matrices, perhaps rewritten before.
        held = bytearray(stop - start)
        if (start, stop) in self.done.get(entry.shard, ()):
            with self._path(entry.shard).open("rb") as file:
                file.seek(start)
                file.readinto(held)
        else:
            _fill(self.model.files[entry.shard], start, memoryview(held))
        stored = torch.frombuffer(held, dtype=torch_dtype(entry.dtype))
        axis = entry.shape[0] if part.slab is None else part.slab[1] - part.slab[0]
        part.put(stored.reshape(axis, *entry.shape[1:]), values)
        self._write(entry.shard, start, held)

    def finish(self) -> int:
        """Copy all that was not put anew, and return the bytes of all files."""
        for name, source in self.model.files.items():
            with self._opened(name) as file:
                for start, stop in self._gaps(name, source.size):
                    file.seek(start)
                    for piece in pieces(source, start, stop):
                        file.write(piece)
        return sum(source.size for source in self.model.files.values())

    def _gaps(self, name: str, size: int) -> Iterator[tuple[int, int]]:
        """Yield what was not put anew, in order."""
        at = 0
        for start, stop in sorted(set(self.done.get(name, ()))):
            if start > at:
                yield at, start
            at = max(at, stop)
        if at < size:
            yield at, size

    def _write(self, name: str, start: int, held: "bytearray | memoryview") -> None:
        with self._opened(name) as file:
            file.seek(start)
            file.write(held)
        self.done.setdefault(name, []).append((start, start + len(held)))

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _opened(self, name: str) -> BinaryIO:
        path = self._path(name)
        if path.parent != self.folder:  # which is never made again once it is swept
            path.parent.mkdir(exist_ok=True)
        path.touch()
        return path.open("r+b")


def pieces(source: Source, start: int, stop: int) -> Iterator[memoryview]:
    """Yield bytes of a file, a few at a time.

    Raises:
        OutputError: It ended early.
    """
    held = memoryview(bytearray(min(CHUNK, stop - start)))
    for at in range(start, stop, CHUNK):
        piece = held[: min(CHUNK, stop - at)]
        _fill(source, at, piece)
        yield piece


def _fill(source: Source, start: int, piece: memoryview) -> None:
    if source.fill(start, piece) < len(piece):
        raise OutputError(f"{source.label} ended while it was copied. Run it again.")


def require_rewritable(model: Checkpoint) -> None:
    """Refuse a checkpoint of a format that is not written.

    Raises:
        UsageError: It is none of safetensors files.
    """
    other = next((name for name in model.files if not name.lower().endswith(SAFETENSORS)), None)
    if other is not None:
        raise UsageError(
            f"{shown(model.spec)} holds {quote(other)}, expected safetensors: other formats are "
            "read, not written. Save it as safetensors (`model.save_pretrained(folder)`) and give "
            "that folder."
        )


def beside(model: Checkpoint) -> tuple[dict[str, Source], list[Skipped]]:
    """Return the files that belong to a checkpoint beside its weights, by their places in it.

    Settings, tokenizer, index, code, and those of the modules that modules.json names; no weights
    of another form, which would be those before, and nothing that a trainer goes on with.

    Returns:
        The files, and what is left out.
    """
    folder = model.folder
    if folder is None:
        return {}, []
    found: dict[str, Source] = {}
    left: list[Skipped] = []
    for path in ("", *module_paths(folder)):
        inner = folder.inside(path, f"{path}/") if path else folder
        for name in inner.names():
            place = f"{path}/{name}" if path else name
            if place in model.files or name.startswith("."):
                continue
            if reason := _left_out(model, inner, name):
                left.append(Skipped(place, f"not copied: {reason}"))
            else:
                found[place] = inner.file(name)
    return found, left


def _left_out(model: Checkpoint, folder: Folder, name: str) -> str:
    kind = format_named(name)
    if is_state(name):
        return "a trainer's state"
    if kind is not None and kind.is_index and not kind.pickle:
        shards = read_weight_map(folder.file(name), SAFETENSORS[0]).values()
        return "" if {folder.prefix + shard for shard in shards} <= model.files.keys() else OTHERS
    return OTHERS if kind is not None or refused_name(name) else ""


def copy(files: Mapping[str, Source], folder: Path) -> None:
    """Copy files to their places in a folder.

    Raises:
        OutputError: One ended early.
    """
    for place, source in files.items():
        path = folder / place
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            for piece in pieces(source, 0, source.size):
                file.write(piece)
