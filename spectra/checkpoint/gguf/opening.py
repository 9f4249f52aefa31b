"""GGUF files, whole or split, with the names, shapes and order of transformers' own model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import FLOATING, Skipped, TensorEntry
from spectra.checkpoint.gguf.codec import DECODED, GgufCodec, gguf_library
from spectra.checkpoint.gguf.comfy import original
from spectra.checkpoint.gguf.facts import Facts, config_of
from spectra.checkpoint.gguf.header import (
    SHAPES,
    TOKENIZER_KIND,
    GgufHeader,
    GgufTensor,
    read_gguf_header,
)
from spectra.checkpoint.gguf.names import Place, model_name
from spectra.checkpoint.gguf.restore import Restored, restored
from spectra.checkpoint.source import Folder, Source, at_once
from spectra.errors import CheckpointError
from spectra.text import quote

INTEGERS = frozenset({"I8", "I16", "I32", "I64"})
READ = DECODED | INTEGERS | set(FLOATING)
MAX_EXPERTS = 1 << 18  # of all layers, each an entry of its own; beyond, stacks stay stacks
PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
NO_MODEL = {
    "controlvector": "a control vector: a direction for each layer, added to what flows through a "
    "model, no weights of one",
    "imatrix": "an importance matrix: sums of squared inputs for whoever quantises a model, no "
    "weights of one",
}
"""Files that the same format is used for, by their architecture or type."""

AGAIN = "Fetch all parts into one folder, their names as they were."

Parts = Sequence[tuple[str, Source, GgufHeader]]  # of a split file, by their numbers


def open_gguf(folder: Folder, name: str) -> Checkpoint:
    """Open a GGUF file, or all parts of a split one given any of them.

    Every tensor has the name, the shape and the order of rows that transformers' own model
    of that architecture has; what is not known to have a name there keeps GGUF's. Stacked
    experts become one matrix each.

    Raises:
        CheckpointError: A file breaks the format, a part is missing, or the Python package
            gguf is not installed.
    """
    gguf_library()
    parts = _parts(folder, name)
    facts = Facts(parts[0][2].metadata)
    for word in (facts.architecture, facts.metadata.get("general.type")):
        if word in NO_MODEL:
            raise CheckpointError(
                f"{parts[0][1].label} is {NO_MODEL[word]}. Give the GGUF file of the model itself."
            )
    listed = [(shard, tensor) for shard, _, header in parts for tensor in header.tensors]
    _refuse_twice(folder, listed)
    entries: dict[str, TensorEntry] = {}
    skipped: list[Skipped] = []
    for found in _entries(listed, facts):
        if isinstance(found, Skipped):
            skipped.append(found)
        elif found.name in entries:
            raise CheckpointError(
                f"{folder.label} holds tensor {quote(found.name)} twice: alone and in a stack of "
                "experts. Write the file again."
            )
        else:
            entries[found.name] = found
    return Checkpoint(
        spec=folder.spec,
        resolved=folder.resolved,
        entries=entries,
        config=config_of(facts),
        skipped=tuple(skipped),
        files={shard: source for shard, source, _ in parts},
        folder=folder,
        metadata=facts.metadata,
    )


def _parts(folder: Folder, name: str) -> Parts:
    source = folder.file(name)
    # By its shard an entry is known to be GGUF's, whatever the file is called.
    shard = name if name.endswith(".gguf") else f"{name}.gguf"
    header = read_gguf_header(source)
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count < 2:
        return [(shard, source, header)]
    written = PART.fullmatch(name)
    if written is None and header.metadata.get("split.tensors.count") == len(header.tensors):
        return [(shard, source, header)]  # joined again, or quantised whole: the keys were left in
    if written is None or int(written[3]) != count:
        raise CheckpointError(
            f"{source.label} is one of {count} parts, and its name does not say which: expected "
            f"NAME-00001-of-{count:05}.gguf. {AGAIN}"
        )
    names = [f"{written[1]}-{number:05}-of-{written[3]}.gguf" for number in range(1, count + 1)]
    for part in names:
        if not folder.has(part):
            raise CheckpointError(
                f"{source.label} is one of {count} parts, and {quote(part)} is not in its folder. "
                f"{AGAIN}"
            )
    parts = [*at_once(partial(_part, folder), names, folder.concurrency)]
    for number, (_, other, found) in enumerate(parts):
        told = found.metadata.get("split.no"), found.metadata.get("split.count")
        if told != (number, count):
            raise CheckpointError(
                f"{other.label} says that it is part {told[0]} of {told[1]}, expected {number} "
                f"(from 0) of {count}: parts of different files. {AGAIN}"
            )
    total = sum(len(found.tensors) for _, _, found in parts)
    if header.metadata.get("split.tensors.count", total) != total:
        raise CheckpointError(
            f"{source.label} and its other parts hold {total:,} tensors, expected "
            f"{header.metadata['split.tensors.count']:,}: parts of different files. {AGAIN}"
        )
    return parts


def _part(folder: Folder, name: str) -> tuple[str, Source, GgufHeader]:
    source = folder.file(name)
    return name, source, read_gguf_header(source)


def _refuse_twice(folder: Folder, listed: list[tuple[str, GgufTensor]]) -> None:
    where: dict[str, str] = {}
    for shard, tensor in listed:
        if tensor.name in where:
            raise CheckpointError(
                f"tensor {quote(tensor.name)} stands both in {quote(where[tensor.name])} and in "
                f"{quote(shard)} of {folder.label}. {AGAIN}"
            )
        where[tensor.name] = shard


def _entries(listed: list[tuple[str, GgufTensor]], facts: Facts) -> Iterator[TensorEntry | Skipped]:
    tensors = {tensor.name: (shard, tensor) for shard, tensor in listed}
    gated = any(Place.of(name).stem == "ffn_gate" for name in tensors)
    taken = set(tensors)  # a translated name must not fall on another tensor's
    room = MAX_EXPERTS
    for shard, tensor in listed:
        place = Place.of(tensor.name)
        name = _model_name(place, facts, gated=gated)
        experts = tensor.shape[0] if "{}" in name else 0
        if experts and (not prod(tensor.shape) or len(tensor.shape) < 2 or experts > room):
            name = ""
        if not name or name in taken:
            name, experts = tensor.name, 0
        taken.add(name)
        room -= experts
        if SHAPES + tensor.name in facts.metadata:
            back = original(tensor.name, tensor.shape, facts.metadata)
        else:
            back = restored(place, tensor.shape, facts)
        if tensor.kind not in READ:
            back = f"GGUF type {tensor.kind}, which the package gguf cannot decode"
        if isinstance(back, str):
            yield Skipped(tensor.name if experts else name, back)
            continue
        entry = _entry(name, shard, tensor, back, _scale(tensor, tensors))
        if experts:
            yield from (_expert(entry, name, number) for number in range(experts))
        else:
            yield entry


def _model_name(place: Place, facts: Facts, *, gated: bool) -> str:
    """Return the name in transformers' model; empty where the tensor is not all of that."""
    word = facts.architecture
    roberta = word == "bert" and facts.metadata.get(TOKENIZER_KIND) != "bert"
    if roberta and place.stem == "position_embd":  # its first rows are left out
        return ""
    return model_name(word, place, gated=gated)


def _scale(tensor: GgufTensor, tensors: Mapping[str, tuple[str, GgufTensor]]) -> TensorEntry | None:
    """Return the factor that NVFP4 keeps beside a tensor, one or one per expert."""
    beside = f"{tensor.name.removesuffix('.weight')}.scale"
    if tensor.kind != "NVFP4" or beside not in tensors:
        return None
    shard, factor = tensors[beside]
    count = prod(factor.shape)
    if factor.kind != "F32" or count not in {1, tensor.shape[0] if len(tensor.shape) == 3 else 1}:
        return None
    return TensorEntry(factor.name, "F32", (count,), shard, factor.start, factor.stop)


def _entry(
    name: str, shard: str, tensor: GgufTensor, back: Restored, scale: TensorEntry | None
) -> TensorEntry:
    start, stop, kind = tensor.start, tensor.stop, tensor.kind
    if kind in INTEGERS or (kind in FLOATING and not back.moved):  # rows after rows
        return TensorEntry(name, kind, back.shape, shard, start, stop)
    packed = kind not in FLOATING
    last = tensor.row_bytes if packed else tensor.shape[-1]
    stored = TensorEntry(
        tensor.name, "U8" if packed else kind, (*tensor.shape[:-1], last), shard, start, stop
    )
    codec = GgufCodec(
        kind, back.shape, stored, tensor.shape[-1], back.rows, back.columns, back.transposed, scale
    )
    return TensorEntry(name, kind, back.shape, shard, start, stop, codec)


def _expert(stack: TensorEntry, name: str, number: int) -> TensorEntry:
    size = (stack.stop - stack.start) // stack.shape[0]
    start = stack.start + number * size
    one = replace(
        stack, name=name.format(number), shape=stack.shape[1:], start=start, stop=start + size
    )
    codec = stack.codec
    if not isinstance(codec, GgufCodec):
        return one
    stored = replace(codec.stored, shape=codec.stored.shape[1:], start=start, stop=start + size)
    scale = codec.scale
    if scale is not None and scale.numel > 1:
        place = scale.start + 4 * number
        scale = replace(scale, shape=(1,), start=place, stop=place + 4)
    return replace(one, codec=replace(codec, shape=one.shape, stored=stored, scale=scale))
