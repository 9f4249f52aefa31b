"""The adapter that is written: its parts, what it takes on disk, and where each came from."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from spectra.analyzers import Row
from spectra.checkpoint import Skipped
from spectra.checkpoint.entry import BITS, STORED
from spectra.checkpoint.gguf.codec import Order
from spectra.checkpoint.source import Folder
from spectra.errors import UsageError
from spectra.lowrank.pieces import Carried, Piece, Stack, copy_file, finite_bytes
from spectra.lowrank.provenance import own_settings
from spectra.lowrank.writing import Run
from spectra.runs.result import Result
from spectra.text import counted, listed, shown
from spectra.writing.coat import Coat, Worn
from spectra.writing.coats import COATS, FILES
from spectra.writing.destination import Destination
from spectra.writing.peft import BESIDE, Module, alpha_of, config_of, config_text, targets_of
from spectra.writing.spool import Spool
from spectra.writing.tensors import Slot, header_of

STACKING = "0.19.1"
"""The first version of PEFT that takes the matrices of a stack the way round they are stored."""

NOT_WRITTEN = "not written"
"""Of what an adapter holds and the file has no place for."""

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
    leaf: str = ""  # gate, up or down of experts, where a stack is of that alone
    layer: int = -1  # of a stack

    def worn(self, rank: int, inside: int = 0) -> Worn:
        """Return it as it is written at a rank, inside so many other wrappers."""
        name = self.name + inside * ".base_layer"
        axes, experts = len(self.behind) + 2, len(self.members)
        return Worn(name, rank, self.kind, self.told, axes, self.lengths, experts)

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
    most: Mapping[str, int] = field(default_factory=dict)  # the highest rank of each part
    first: Callable[["Output", Run], Run] = lambda _, run: run
    """Before anything is measured, what only reading tells: refuses what cannot be written."""
    settle: Callable[["Output", Sequence[Row]], tuple["Output", list[Skipped]]] = (
        lambda output, _: (output, [])
    )  # fmt: skip
    """What of the rest is written, which reading it alone tells; and what to say of that. It gets
    the rows whose directions are written."""

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
        held = self._held(self.most)
        factors = sum(rank * self.direction(row) for row, rank in held.items())
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
        run = self.first(self, run)
        with Spool(self.place.above) as spool:
            result = run.into(spool)
            rows = [row for row in result.rows if row.matrix in self.rows]
            output, told = self.settle(self, rows)
            if self.coat.word != "peft":
                settings = {**result.settings, "to": self.coat.word, "part": self.part}
                result = replace(result, settings=settings)
            result = replace(
                result, skipped=(*result.skipped, *told),
                summary={**result.summary, "reading": _lacking(result, told)},
            )  # fmt: skip
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
        rows = [row for row in result.rows if row.matrix in self.rows]
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
        self._require_seen(rows, counts, spool)
        slots = self._slots(ranks, spool, counts)
        metadata = provenance(result)
        written = self.coat.write(place, slots, self._settings(ranks), metadata)
        if self.beside is not None and not self.coat.suffixes:
            for name in BESIDE:
                copy_file(self.beside, name, place)
        return written

    def _require_seen(self, rows: Sequence[Row], counts: Mapping[str, int], spool: Spool) -> None:
        """Refuse updates that are not 0 and whose factors all are, as they are stored.

        Raises:
            UsageError: They are.
        """
        sizes = ("delta_norm", "delta_sigma_max")  # of an update: a start for training has none
        moved = any(row.number(key) for row in rows for key in sizes if key in row.values)
        seen = (
            bool(spool.rows(name, "left", count).any() and spool.rows(name, "right", count).any())
            for name, count in counts.items() if count
        )  # fmt: skip
        if moved and not any(seen):
            kinds = sorted({STORED[self.dtypes[key]] for key in self.parts})
            wider = " Give --dtype float32 or bfloat16." if "float16" in kinds else ""
            raise UsageError(
                f"every update is 0 as {listed(kinds)}, which holds no numbers as small: nothing "
                f"is left to write to {shown(self.path)}.{wider}"
            )

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

    def _held(self, ranks: Mapping[str, int]) -> dict[str, int]:
        """Return the rank of each part in the file, filled up; 0: it is left out."""
        held = {row: max(rank, self.parts[row].least) for row, rank in ranks.items()}
        if not self.coat.one_rank:
            return held
        most = max(held.values(), default=0)
        return {row: most if rank else 0 for row, rank in held.items()}

    def _modules(self, ranks: Mapping[str, int]) -> dict[str, Worn]:
        """Return what is written of the parts, by their rows."""
        held = self._held(ranks)
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
            count, apart = len(part.members), self.coat.stacks == "each"
            most = module.rank * max(count, 1)
            shapes = (most, *part.inputs), (part.outputs, most, *part.behind)
            if count and apart:
                each = (module.rank, *part.inputs), (part.outputs, module.rank)
                shapes = (count, *each[0]), (count, *each[1])
            sides = (
                (names.a, "right", shapes[0], names.turned[0], part.columns),
                (names.b, "left", shapes[1], names.turned[1], part.rows),
            )
            for name, side, shape, turned, order in sides:
                piece: Piece | Stack = Piece(row, side, ranks[row], module.rank, turned, order)
                if part.members:
                    held = tuple((one, counts.get(one, 0)) for one in part.members)
                    width = part.outputs if side == "left" else _product(part.inputs)
                    piece = Stack(held, side, module.rank, width, apart)
                own = shape[::-1] if turned else shape
                nbytes = _product(shape) * BITS[dtype] // 8
                slots[name] = Slot(dtype, own, nbytes, partial(piece.chunks, spool))
            slots |= self.coat.beside(module)
        for name, one in self.carried.items():
            nbytes = one.entry.numel * BITS[one.entry.dtype] // 8
            slots[name] = Slot(one.entry.dtype, one.written, nbytes, partial(finite_bytes, one))
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


def _lacking(result: Result, told: Sequence[Skipped]) -> str:
    """Return the reading, with what changed and is not in the file, of which loss tells nothing."""
    reading = str(result.summary["reading"])
    held = {one.tensor for one in told if one.reason.startswith("not held")}
    if held:
        few = counted(len(held), "tensor that changed is", "tensors that changed are")
        reading += f" {few} not held: see skipped."
    beside = {one.tensor for one in result.skipped if one.reason.startswith(NOT_WRITTEN)}
    if beside:
        few = counted(len(beside), "tensor beside the factors is", "tensors beside the factors are")
        reading += f" {few} {NOT_WRITTEN}: see skipped."
    return reading
