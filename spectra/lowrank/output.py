"""The adapter that is written: its parts, what it takes on disk, and where each came from."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from spectra.analyzers import Row
from spectra.checkpoint.entry import BITS
from spectra.checkpoint.gguf.codec import Order
from spectra.checkpoint.source import Folder
from spectra.errors import OutputError, UsageError
from spectra.lowrank.pieces import Carried, Piece, Stack, copy_file, stored_bytes
from spectra.lowrank.provenance import own_settings
from spectra.text import shown
from spectra.work.result import Result
from spectra.writing.atomic import require_suffix, require_writable, write_atomically
from spectra.writing.coats import COATS, FILES, Coat, Worn
from spectra.writing.folder import require_new_folder, require_room, write_folder
from spectra.writing.peft import BESIDE, Module, alpha_of, config_of, config_text, targets_of
from spectra.writing.spool import Spool
from spectra.writing.tensors import Slot, header_of

STACKING = "0.19.1"
"""The first version of PEFT that takes the matrices of a stack the way round they are stored."""

NO_COUNTS: Mapping[str, int] = {}


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
    parameter: str = ""  # bare, which PEFT wraps by this name
    members: tuple[str, ...] = ()
    """Of a stack, the row of each of its matrices; empty: it has no directions."""

    def worn(self, rank: int, inside: int = 0) -> Worn:
        """Return it as it is written at a rank, inside so many other wrappers."""
        name = self.name + inside * ".base_layer"
        return Worn(name, rank, self.kind, self.told, len(self.behind) + 2, self.lengths)

    @property
    def width(self) -> int:
        """Entries of one direction, of a stack of one of each matrix."""
        return (self.outputs + _product(self.inputs)) * max(len(self.members), 1)


@dataclass(frozen=True, slots=True)
class Output:
    """Where an adapter goes, and all that is known of it before anything is measured."""

    path: Path
    parts: Mapping[str, Part]  # by the row that tells the rank; of a stack by its name
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

    def require(self, ranks: Mapping[str, int]) -> None:
        """Refuse, before any work, a place where it could not be written.

        Args:
            ranks: The highest that each part can have.

        Raises:
            OutputError: It cannot.
        """
        self._require_place()
        require_room(self.path, self.nbytes(ranks))

    def nbytes(self, ranks: Mapping[str, int]) -> int:
        """Return the bytes that it takes on disk while it is written, at most."""
        # What is measured lies there once more until it is written.
        factors = sum(rank * self.direction(row) for row, rank in ranks.items())
        return self.fixed(ranks) + 2 * factors

    def fixed(self, ranks: Mapping[str, int]) -> int:
        """Return the bytes of all that is no factor, at most: header, settings, what is carried."""
        slots = self._slots(ranks, None)
        config = config_text(self._settings({**ranks, **dict.fromkeys([*ranks][:1], 1 << 20)}))
        carried = sum(slots[name].nbytes for name in self.carried)
        told = _texts([{**one, "digest": DIGEST} for one in self.sources], {})
        return len(header_of(slots, told)) + len(config) + SPARE + carried

    def write(self, result: Result, rows: Sequence[Row], spool: Spool) -> int:
        """Write the adapter in its place, as `fill` does, and return its size in bytes.

        Raises:
            OutputError: The system refuses; what was there before is still there.
        """
        self._require_place()
        written = 0

        def fill(place: Path) -> None:
            nonlocal written
            written = self.fill(place, result, rows, spool)

        if self.coat.suffixes:
            write_atomically(self.path, fill)
        else:
            write_folder(self.path, fill)
        return written

    def _require_place(self) -> None:
        """Refuse a place where it could not be written.

        Raises:
            OutputError: It could not.
        """
        if not self.coat.suffixes:
            require_new_folder(self.path, FILES, force=self.force)
            return
        require_suffix(self.path, self.coat.suffixes,
                       f"--to {self.coat.word} writes a {self.coat.suffixes[0]} file.")  # fmt: skip
        require_writable(self.path)
        if self.path.exists() and not self.force:
            raise OutputError(
                f"{shown(self.path)} exists; nothing is overwritten without --force. Choose "
                "another place."
            )

    def fill(self, place: Path, result: Result, rows: Sequence[Row], spool: Spool) -> int:
        """Write the adapter into a folder or file that is there, and return its size in bytes.

        Args:
            place: Empty.
            result: What was measured, for the provenance.
            rows: One for each part, with its `rank`.
            spool: Holds the factors of each, `left` and `right`, a direction a row.

        Raises:
            OutputError: The system refuses.
        """
        counts = {row.matrix: int(row.number("rank_kept") or 0) for row in rows}
        ranks = self.ranks(counts)
        if not any(ranks.values()):
            if all(row.number("delta_norm") == 0.0 for row in rows):
                told = shown(self.path)
                raise UsageError(f"every update is 0: nothing is left to write to {told}.")
            raise UsageError(
                f"nothing of any module would be kept, so that {shown(self.path)} is not written. "
                "Give a higher rank, share or budget."
            )
        slots = self._slots(ranks, spool, counts)
        metadata = provenance(result)
        written = self.coat.write(place, slots, self._settings(ranks), metadata)
        if self.beside is not None and not self.coat.suffixes:
            for name in BESIDE:
                copy_file(self.beside, name, place)
        return written

    def ranks(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the rank of each part; of a stack the most that one of its matrices has.

        Args:
            counts: The directions of each row that are kept.
        """
        return {
            key: max((counts.get(row, 0) for row in part.members), default=0)
            if part.members else counts.get(key, 0)
            for key, part in self.parts.items()
        }  # fmt: skip

    @property
    def rows(self) -> frozenset[str]:
        """The rows whose directions are written."""
        return frozenset(row for key, part in self.parts.items() for row in part.members or (key,))

    def direction(self, row: str) -> int:
        """Return the bytes of one direction of a part."""
        return self.parts[row].width * BITS[self.dtypes[row]] // 8

    def _modules(self, ranks: Mapping[str, int]) -> dict[str, Worn]:
        """Return what is written of the parts, by their rows."""
        held = {row: max(rank, self.parts[row].least) for row, rank in ranks.items()}
        wrapped = Counter(self.parts[row].name for row, rank in held.items()
                          if rank and self.parts[row].parameter)  # fmt: skip
        found = {}
        for row, rank in held.items():
            part = self.parts[row]
            if rank and part.parameter:  # PEFT wraps the parameters of a module one by one
                wrapped[part.name] -= 1
                found[row] = part.worn(rank, wrapped[part.name])
            elif rank:
                found[row] = part.worn(rank)
        return found

    def _settings(self, ranks: Mapping[str, int]) -> Mapping[str, Any]:
        """Return what the coat says beside the factors."""
        written = self._modules(ranks)
        bare = {self.parts[row].parameter: one for row, one in written.items()
                if self.parts[row].parameter}  # fmt: skip
        worn = [one for row, one in written.items() if not self.parts[row].parameter]
        whole = len(written) == len(self.parts) and self.given.get("target_modules")
        targets = None if whole else targets_of([module.name for module in worn], self.others)
        modules = [
            Module(one.name, one.rank, one.kind, alpha_of(one.told, one.rank)) for one in worn
        ]
        given, kept = self.given, dict(self.kept)
        if bare:
            kept |= {name: (one.rank, one.told * one.rank) for name, one in bare.items()}
            given = {**given, "target_parameters": [*bare], "peft_version": STACKING}
        config = config_of(modules, given, kept=kept, targets=targets, start=self.start)
        return self.coat.settings(worn, config)

    def _slots(
        self, ranks: Mapping[str, int], spool: Spool | None, counts: Mapping[str, int] = NO_COUNTS
    ) -> dict[str, Slot]:
        """Return every tensor of the file; without a spool those that only tell their sizes."""
        slots: dict[str, Slot] = {}
        for row, module in self._modules(ranks).items():
            part, dtype = self.parts[row], self.dtypes[row]
            names = self.coat.names(module)
            most = module.rank * max(len(part.members), 1)
            sides = (
                (names.a, "right", (most, *part.inputs), names.turned[0], part.columns),
                (names.b, "left", (part.outputs, most, *part.behind), names.turned[1], part.rows),
            )  # fmt: skip
            for name, side, shape, turned, order in sides:
                piece: Piece | Stack = Piece(row, side, ranks[row], module.rank, turned, order)
                if part.members:
                    held = tuple((one, counts.get(one, 0)) for one in part.members)
                    width = part.outputs if side == "left" else _product(part.inputs)
                    piece = Stack(held, side, module.rank, width)
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
