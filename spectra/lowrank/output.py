"""The adapter that is written: its parts, what it takes on disk, and where each came from."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.entry import BITS
from spectra.checkpoint.gguf.codec import Order
from spectra.checkpoint.source import Folder
from spectra.errors import OutputError, UsageError
from spectra.lowrank.provenance import own_settings
from spectra.lowrank.writing import Run
from spectra.runs.result import Result
from spectra.text import shown, size
from spectra.writing.coats import COATS, FILES, Coat, Worn
from spectra.writing.destination import Destination
from spectra.writing.peft import BESIDE, Module, alpha_of, config_of, config_text, targets_of
from spectra.writing.spool import Spool, raw
from spectra.writing.tensors import Bytes, Slot, header_of

CHUNK = 8 << 20  # bytes of a carried tensor in memory at a time
MOST_FILE = 64 << 20  # of a tokenizer's file, that is read at once


@dataclass(frozen=True, slots=True)
class Part:
    """One module whose factors are written."""

    name: str  # of the module
    inputs: tuple[int, ...]  # of A, behind its rank
    outputs: int
    behind: tuple[int, ...] = ()  # of B, behind its rank: of a convolution
    kind: Literal["linear", "embedding"] = "linear"
    least: int = 0  # directions it has whatever is kept, filled up with zeros

    told: float = 1.0  # the scale that is written beside its factors
    lengths: bool = False  # DoRA gives each output one
    rows: Order | None = None  # of its outputs in the file
    columns: Order | None = None  # of its inputs

    def worn(self, rank: int) -> Worn:
        """Return it as it is written at a rank."""
        return Worn(self.name, rank, self.kind, self.told, len(self.behind) + 2, self.lengths)

    @property
    def width(self) -> int:
        """Entries of one direction."""
        return self.outputs + _product(self.inputs)


@dataclass(frozen=True, slots=True)
class Carried:
    """A tensor that is written as it is stored."""

    source: Checkpoint
    entry: TensorEntry
    shape: tuple[int, ...] | None = None  # in the file, where it is another

    @property
    def written(self) -> tuple[int, ...]:
        """The shape in the file."""
        return self.entry.shape if self.shape is None else self.shape


@dataclass(frozen=True, slots=True)
class Output:
    """Where an adapter goes, and all that is known of it before anything is measured."""

    path: Path
    parts: Mapping[str, Part]  # by the row that tells the rank
    dtypes: Mapping[str, str]  # of the parts, by safetensors' word
    given: Mapping[str, Any]  # settings that it is made from
    carried: Mapping[str, Carried] = field(default_factory=dict)
    kept: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    beside: Folder | None = None  # whose tokenizer goes with it
    others: Sequence[str] = ()  # all modules of the base, where they are known
    sources: Sequence[Mapping[str, str]] = ()  # how each was asked for, and found
    start: bool | str = True  # `init_lora_weights`: what PEFT makes of modules before it loads them
    force: bool = False
    coat: Coat = COATS["peft"]
    part: str = ""  # of a pipeline, that was asked for
    most: Mapping[str, int] = field(default_factory=dict)  # the highest rank of each part
    settle: Callable[["Output", Set[str]], tuple["Output", list[Skipped]]] = lambda output, _: (
        output, [],
    )  # fmt: skip
    """What of the rest is written, which reading it alone tells; and what to say of that. It gets
    the rows of which something is kept."""

    @property
    def place(self) -> Destination:
        """Where it goes."""
        suffixes = self.coat.suffixes
        if not suffixes:
            return Destination(self.path, FILES, self.force)
        told = f"--to {self.coat.word} writes a {suffixes[0]} file."
        return Destination(self.path, (), self.force, suffixes, told)

    def require(self) -> None:
        """Refuse, before any work, a place where it could not be written.

        Raises:
            OutputError: It cannot.
        """
        self.place.require(self.nbytes())

    def nbytes(self) -> int:
        """Return the bytes that it takes on disk while it is written, at most."""
        # What is measured lies there once more until it is written.
        factors = sum(rank * self.direction(row) for row, rank in self.most.items())
        return self.fixed(self.most) + 2 * factors

    def fixed(self, ranks: Mapping[str, int]) -> int:
        """Return the bytes of all that is no factor, at most: header, settings, what is carried."""
        slots = self._slots(ranks, None)
        config = config_text(self._settings({**ranks, **dict.fromkeys([*ranks][:1], 1 << 20)}))
        carried = sum(slots[name].nbytes for name in self.carried)
        told = _texts([{**one, "digest": DIGEST} for one in self.sources], {})
        return len(header_of(slots, told)) + len(config) + SPARE + carried

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure and write; return what was found, and what is told of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """
        with Spool(self.place.above) as spool:
            result = run.into(spool)
            held = {row.matrix for row in result.rows if row.number("rank_kept")}
            output, told = self.settle(self, held & self.parts.keys())
            if self.coat.word != "peft":
                settings = {**result.settings, "to": self.coat.word, "part": self.part}
                result = replace(result, settings=settings)
            result = replace(result, skipped=(*result.skipped, *told))
            written = self.place.write(lambda place: output.fill(place, result, spool))
        base = output.given.get("base_model_name_or_path")
        return result, {"nbytes_written": written, "base": base}

    def fill(self, place: Path, result: Result, spool: Spool) -> int:
        """Write the adapter into a folder or file that is there, and return its size in bytes.

        Args:
            place: Empty.
            result: What was measured: a row for each part, with its rank.
            spool: Holds the factors of each, `left` and `right`, a direction a row.

        Raises:
            OutputError: The system refuses.
        """
        ranks = {
            row.matrix: int(row.number("rank_kept") or 0)
            for row in result.rows if row.matrix in self.parts
        }  # fmt: skip
        if not any(ranks.values()):
            raise UsageError(
                f"nothing of any module would be kept, so that {shown(self.path)} is not written. "
                "Give a higher rank, share or budget."
            )
        slots = self._slots(ranks, spool)
        metadata = provenance(result)
        written = self.coat.write(place, slots, self._settings(ranks), metadata)
        if self.beside is not None and not self.coat.suffixes:
            for name in BESIDE:
                copy_file(self.beside, name, place)
        return written

    def direction(self, row: str) -> int:
        """Return the bytes of one direction of a part."""
        return self.parts[row].width * BITS[self.dtypes[row]] // 8

    def _modules(self, ranks: Mapping[str, int]) -> dict[str, Worn]:
        """Return what is written of the parts, by their rows."""
        held = {row: max(rank, self.parts[row].least) for row, rank in ranks.items()}
        return {row: self.parts[row].worn(rank) for row, rank in held.items() if rank}

    def _settings(self, ranks: Mapping[str, int]) -> Mapping[str, Any]:
        """Return what the coat says beside the factors."""
        worn = [*self._modules(ranks).values()]
        whole = len(worn) == len(self.parts) and self.given.get("target_modules")
        targets = None if whole else targets_of([module.name for module in worn], self.others)
        modules = [
            Module(one.name, one.rank, one.kind, alpha_of(one.told, one.rank)) for one in worn
        ]
        config = config_of(modules, self.given, kept=self.kept, targets=targets, start=self.start)
        return self.coat.settings(worn, config)

    def _slots(self, ranks: Mapping[str, int], spool: Spool | None) -> dict[str, Slot]:
        """Return every tensor of the file; without a spool those that only tell their sizes."""
        slots: dict[str, Slot] = {}
        for row, module in self._modules(ranks).items():
            part, dtype = self.parts[row], self.dtypes[row]
            names = self.coat.names(module)
            sides = (
                (names.a, "right", (module.rank, *part.inputs), names.turned[0], part.columns),
                (names.b, "left", (part.outputs, module.rank, *part.behind), names.turned[1],
                 part.rows),
            )  # fmt: skip
            for name, side, shape, turned, order in sides:
                piece = Piece(row, side, ranks[row], module.rank, turned, order)
                own = shape[::-1] if turned else shape
                nbytes = _product(shape) * BITS[dtype] // 8
                slots[name] = Slot(dtype, own, nbytes, partial(piece.chunks, spool))
            slots |= self.coat.beside(module)
        for name, one in self.carried.items():
            nbytes = one.entry.numel * BITS[one.entry.dtype] // 8
            slots[name] = Slot(one.entry.dtype, one.written, nbytes, partial(stored_bytes, one))
        return slots


DIGEST = "sha256:" + 64 * "0"
SPARE = 1024  # bytes of settings in the metadata, and of what changes in the other texts


def provenance(result: Result) -> dict[str, str]:
    """Return where what is written came from, as texts: no word of where it goes."""
    models = [{"spec": one.spec, "resolved": one.resolved, "digest": one.digest}
              for one in result.models]  # fmt: skip
    return _texts(models, result.settings, result)


def _texts(
    models: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], result: Result | None = None
) -> dict[str, str]:
    return {
        "spectra": result.version if result else "",
        "spectra_command": result.command.replace("_", " ") if result else "",
        "spectra_settings": json.dumps(own_settings(settings), default=str),
        "spectra_sources": json.dumps(models),
    }


def _product(sizes: Sequence[int]) -> int:
    found = 1
    for one in sizes:
        found *= one
    return found


@dataclass(frozen=True, slots=True)
class Piece:
    """One factor, and how the file has it: B with a direction a column, unless it is turned."""

    row: str
    side: str
    count: int  # of directions in the spool
    rank: int  # of the file
    turned: bool
    order: Order | None

    def chunks(self, spool: Spool | None) -> Iterator[Bytes]:
        """Yield its bytes."""
        if spool is None:
            return
        rows = spool.rows(self.row, self.side, self.count)
        if self.rank > self.count:
            filled = rows.new_zeros(self.rank, *rows.shape[1:])
            filled[: self.count] = rows
            rows = filled
        if self.order is not None:
            moved = rows.clone()
            moved[:, self.order.index(rows.shape[1])] = rows
            rows = moved
        yield raw(rows if (self.side == "right") != self.turned else rows.mT)


def stored_bytes(one: Carried) -> Iterator[Bytes]:
    """Yield the bytes of a tensor as it is stored."""
    entry = one.entry
    if entry.codec is not None or entry.strides:
        yield raw(one.source.read(entry))
        return
    file = one.source.files[entry.shard]
    for start in range(entry.start, entry.stop, CHUNK):
        piece = bytearray(min(CHUNK, entry.stop - start))
        if file.fill(start, memoryview(piece)) < len(piece):
            raise OutputError(f"{file.label} ended while it was copied. Run it again.")
        yield piece


def copy_file(folder: Folder, name: str, into: Path) -> None:
    """Copy a file of a tokenizer, where there is one.

    Raises:
        OutputError: It is far too large to be one.
    """
    if not folder.has(name):
        return
    file = folder.file(name)
    if file.size > MOST_FILE:
        raise OutputError(
            f"{file.label} is {size(file.size)}, expected a tokenizer's file below "
            f"{size(MOST_FILE)}. Take it out of that folder."
        )
    (into / name).write_bytes(file.read(0, file.size))
