"""A checkpoint that may be damaged: what is whole is opened all the same, the rest is told."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.opening import FILES as ADAPTER_FILES
from spectra.checkpoint.adapter.opening import WEIGHTS as ADAPTER_WEIGHTS
from spectra.checkpoint.adapter.opening import peft_adapter, require_read, worn
from spectra.checkpoint.adapter.settings import CONFIG as ADAPTER_CONFIG
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.choice import chosen, told_kind
from spectra.checkpoint.documents import read_object, read_weight_map
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.checkpoint.factored import put_together
from spectra.checkpoint.formats import SAFETENSORS, SAFETENSORS_INDEX
from spectra.checkpoint.header import AGAIN, header_bytes, listed, misfit
from spectra.checkpoint.kin import factors_beside, parts_beside
from spectra.checkpoint.locate import open_name, open_one, place_of_spec
from spectra.checkpoint.modules import Others, joined, modules_of
from spectra.checkpoint.shards import ABSENT, assemble, gather
from spectra.checkpoint.source import Folder, Source
from spectra.checkpoint.unread import beside_adapter, index_beside, with_unread
from spectra.checkpoint.wrappers import plain_names
from spectra.errors import AdapterError, HeaderError

SUFFIX = ".safetensors"
GONE = "is not in the folder"

Parts: TypeAlias = tuple[Mapping[str, TensorEntry], Mapping[str, Source], Sequence[Skipped]]
"""Of a checkpoint: tensors, files, and what is left out."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A file of the checkpoint that is not whole."""

    file: str
    text: str  # what is wrong with it
    tensors: tuple[str, ...] = ()  # those lost with it, as far as is known


@dataclass(frozen=True, slots=True)
class Survey:
    """What a checkpoint holds, and what of it is lost."""

    checkpoint: Checkpoint | Adapter
    faults: tuple[Fault, ...] = ()
    index: Mapping[str, str] | None = None
    """Shard by tensor, as the index has it; also where a whole file beside it was opened."""
    index_name: str = ""  # that index's file
    held: Mapping[str, str] = field(default_factory=dict)
    """Shard by tensor as the headers of the shards have it; parts of quantised weights apart."""
    files: tuple[str, ...] = ()  # names in the folder


def open_damaged(
    spec: str | Path, *, allow_pickle: bool = False, download: bool = False, variant: str = ""
) -> Survey:
    """Open a checkpoint or adapter as far as it is whole, headers only.

    Of safetensors files that are cut, missing or no safetensors at all, what is whole is opened
    as `open_spec` does, and the rest is told as faults. A quantised weight of which one part is
    lost is lost, and so are the factors of one module of an adapter. Files of other formats are
    whole or refused.

    Args:
        spec: As for `open_spec`.
        allow_pickle: As for `open_spec`.
        download: As for `open_spec`.
        variant: As for `open_spec`.

    Raises:
        CheckpointError: Nothing is there, nothing of it is whole, or it is refused for
            another reason than damage.
    """
    folder, name = place_of_spec(spec, download=download)
    first, others = folder, Others()
    if not name and ADAPTER_CONFIG not in folder.names():
        first, others = modules_of(folder, allow_pickle=allow_pickle)
    found = _survey(first, name, variant, allow_pickle=allow_pickle)
    if first is not folder or others.there:
        found = _of_modules(folder, found, others, allow_pickle=allow_pickle)
    return replace(found, files=tuple(folder.names()))


def _survey(folder: Folder, name: str, variant: str, *, allow_pickle: bool) -> Survey:
    found = _as_safetensors(folder, name, variant)
    if found is not None:
        return _Opening(folder, *found, alone=bool(name)).survey()
    opened: Checkpoint | Adapter
    if name or ADAPTER_CONFIG in folder.names():
        opened = open_name(folder, name or ADAPTER_CONFIG, allow_pickle=allow_pickle)
    else:
        found_in = open_one(folder, allow_pickle=allow_pickle, variant=variant)
        opened = found_in if folder.prefix else worn(found_in)
    return survey_of(opened, folder)


def survey_of(opened: Checkpoint | Adapter, folder: Folder | None = None) -> Survey:
    """Return what was opened, whole as it is.

    Args:
        opened: A model or adapter.
        folder: Where it lies; as far as that is known of it by default.
    """
    weights = opened.weights if isinstance(opened, Adapter) else opened
    parts = (part for entry in weights.entries.values() for part in entry.parts)
    held = {part.name: part.shard for part in parts}
    place = folder or weights.folder
    return Survey(opened, held=held, files=tuple(place.names()) if place else ())


def _of_modules(folder: Folder, main: Survey, others: Others, *, allow_pickle: bool) -> Survey:
    parts, faults = [main], [*main.faults]
    faults += [Fault(item.tensor, item.reason) for item in others.missing]
    unread = [item for item in others.unread if item not in others.missing]
    for inner in others.opened:
        try:
            found = _survey(inner, "", "", allow_pickle=allow_pickle)
        except HeaderError as error:
            file = chosen(inner)
            said = str(error).removeprefix(f"{inner.label}/{file}")
            faults.append(Fault(inner.prefix + file, _plain(said)))
        else:
            parts.append(found)
            faults += found.faults
    opened = [part.checkpoint for part in parts if isinstance(part.checkpoint, Checkpoint)]
    whole = joined(folder, opened[0], opened[1:])
    indexed = any(part.index is not None for part in parts)
    homes = [part.held if part.index is None else part.index for part in parts]
    return Survey(
        replace(whole, unread=(*whole.unread, *unread)),
        tuple(faults),
        {name: home for one in homes for name, home in one.items()} if indexed else None,
        main.index_name,
        {name: home for part in parts for name, home in part.held.items()},
    )


def _as_safetensors(folder: Folder, name: str, variant: str) -> tuple[str, str] | None:
    """Return as what a safetensors file or index is opened, and which; None: another format."""
    adapted = name in ADAPTER_FILES if name else ADAPTER_CONFIG in folder.names()
    if adapted and folder.has(ADAPTER_CONFIG):
        return ("adapter", ADAPTER_WEIGHTS) if folder.has(ADAPTER_WEIGHTS) else None
    name = name or chosen(folder, variant)
    kind = told_kind(folder, name)
    if kind is SAFETENSORS:
        return "file", name
    return ("index", name) if kind is SAFETENSORS_INDEX else None


@dataclass(slots=True)
class _Opening:
    """Opens safetensors files as far as they are whole, and remembers what is not."""

    folder: Folder
    kind: str  # "file", "index" or "adapter"
    name: str
    alone: bool = False  # a file that the user named
    index: Mapping[str, str] = field(default_factory=dict)  # by which it is opened
    seen: dict[str, Sequence[TensorEntry]] = field(default_factory=dict)  # by shard, as listed
    wrong: dict[str, str] = field(default_factory=dict)  # what, by shard
    lost: dict[str, list[str]] = field(default_factory=dict)  # stored tensors by shard
    metadata: Mapping[str, str] = field(default_factory=dict)  # of a single file

    def survey(self) -> Survey:
        shards = [self.name]
        if self.kind == "index":
            self.index = read_weight_map(self.folder.file(self.name), SUFFIX)
            shards = list(dict.fromkeys(self.index.values()))
        there = [shard for shard in shards if self.folder.has(shard)]
        entries, files = gather(self.folder, self.index, there, self.open) if there else ({}, {})
        for shard in shards:
            if shard not in self.seen:
                self.wrong.setdefault(shard, GONE)
                homes = self.index.items()
                self.lost[shard] = [name for name, home in homes if home == shard]
        gone, kin = self._kin()
        faults = tuple(self._fault(shard, kin) for shard in shards if shard in self.wrong)
        whole = {name: entry for name, entry in entries.items() if name not in gone}
        if faults and not whole:
            return Survey(self._strictly())
        absent = [name for name in self.index if name not in entries and name not in gone]
        parts = whole, files, [*(Skipped(name, ABSENT) for name in absent), *_lost(faults)]
        if self.kind == "adapter":
            return Survey(self._adapter(parts, strict=not faults), faults, held=self._held())
        return self._told(parts, faults)

    def _told(self, parts: Parts, faults: Sequence[Fault]) -> Survey:
        """Say by the model's own names what is opened, what is lost, and what else lies there."""
        folder, held, lone = self.folder, self._held(), self.alone and self.kind == "file"
        name, index = ("", {}) if lone else index_beside(folder, self.name)
        lost = [one for fault in faults for one in fault.tensors]
        plain = plain_names({*held, *index, *lost})
        opened = assemble(folder, *parts, plain)
        if not lone:
            opened = with_unread(opened, folder, self.name, self.wrong)

        def own(names: Mapping[str, str]) -> dict[str, str]:
            prefix = folder.prefix
            return {prefix + plain.get(one, one): prefix + home for one, home in names.items()}

        told = (
            Fault(folder.prefix + one.file, one.text, tuple(own(dict.fromkeys(one.tensors, ""))))
            for one in faults
        )
        return Survey(
            self._file(opened, strict=not faults),
            tuple(told),
            own(index) if name else None,
            name,
            own(held),
        )

    def open(self, folder: Folder, shard: str) -> tuple[Source, Sequence[TensorEntry]]:
        """Open one shard and return the tensors of it that are whole."""
        file = folder.file(shard)
        try:
            raw = header_bytes(file)
            found = listed(raw, shard)
        except HeaderError as error:
            self.wrong[shard] = _plain(str(error).removeprefix(file.label))
            return file, ()
        self.seen[shard], self.metadata = found.entries, found.metadata
        wrong = misfit(found, 8 + len(raw), file.size)
        if wrong:
            self.wrong[shard] = _plain(wrong)
        whole = [entry for entry in found.entries if entry.stop <= file.size]
        homes = self.index
        cut = (entry.name for entry in found.entries[len(whole) :])
        self.lost[shard] = [name for name in cut if homes.get(name, shard) == shard]
        return file, whole

    def _kin(self) -> tuple[set[str], dict[str, list[str]]]:
        """Return all stored tensors that are lost, and by each what of the model that is."""
        known: dict[str, str | None] = dict.fromkeys(self.index)  # dtype by name
        known |= {entry.name: entry.dtype for found in self.seen.values() for entry in found}
        related = factors_beside if self.kind == "adapter" else parts_beside
        gone: set[str] = set()
        kin: dict[str, list[str]] = {}
        for name in [name for names in self.lost.values() for name in names]:
            parts, told = related(name, known)
            gone |= {name, *parts}
            kin[name] = told or [name]
        return gone, kin

    def _fault(self, shard: str, kin: Mapping[str, Sequence[str]]) -> Fault:
        told = dict.fromkeys(one for name in self.lost[shard] for one in kin[name])
        return Fault(shard, self.wrong[shard], tuple(told))

    def _held(self) -> dict[str, str]:
        """Return the shard of each tensor; of two the one that the index names."""
        held: dict[str, str] = {}
        for shard, found in self.seen.items():
            for entry in found:
                if entry.name not in held or self.index.get(entry.name) == shard:
                    held[entry.name] = shard
        return held

    def _adapter(self, parts: Parts, *, strict: bool) -> Adapter | Checkpoint:
        (entries, files, skipped), folder = parts, self.folder
        weights = Checkpoint(folder.spec, folder.resolved, entries, {}, tuple(skipped), files)
        config = read_object(folder.file(ADAPTER_CONFIG))
        require_read(folder.spec, config)
        opened = self._unless_cut(
            lambda: peft_adapter(folder, config, weights, lenient=True), strict=strict
        )
        return beside_adapter(folder, opened) if isinstance(opened, Adapter) else opened

    def _file(self, found: Checkpoint, *, strict: bool) -> Checkpoint | Adapter:
        if self.kind != "file" or self.folder.prefix:
            return put_together(found)
        found = replace(found, metadata=self.metadata)
        opened = self._unless_cut(lambda: worn(found), strict=strict)
        return opened if strict or isinstance(opened, Checkpoint) else self._strictly()

    def _unless_cut(
        self, opened: Callable[[], Checkpoint | Adapter], *, strict: bool
    ) -> Checkpoint | Adapter:
        try:
            return opened()
        except AdapterError:
            if strict:
                raise
            return self._strictly()  # the cut is what is wrong, not what it left

    def _strictly(self) -> Checkpoint | Adapter:
        return open_name(self.folder, self.name, allow_pickle=False)


def _lost(faults: Iterable[Fault]) -> Iterator[Skipped]:
    for fault in faults:
        for name in fault.tensors:
            what = GONE if fault.text == GONE else "is not whole"
            yield Skipped(name, f"lost: {fault.file} {what}")


def _plain(text: str) -> str:
    """Return what a header's error says, without the file's name and what to do."""
    return text.removesuffix(AGAIN).strip(": ").removesuffix(".")
