"""The modules of a sentence-transformers model, each in a folder of its own.

Source:
    sentence-transformers 5.1, `SentenceTransformer._load_sbert_model` and
    `models/Module.py:load_torch_weights`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.documents import read_document
from spectra.checkpoint.entry import Skipped
from spectra.checkpoint.formats import format_named, weights_in
from spectra.checkpoint.source import Folder, Source
from spectra.checkpoint.unread import ALLOWED, NESTED, PICKLES
from spectra.errors import CheckpointError
from spectra.text import quote, shown
from spectra.wording import worded

MODULES: Final = "modules.json"
MOST: Final = 100  # modules; real models have two to four
HOLDING: Final = frozenset((
    "Dense", "LSTM", "CNN", "LayerNorm", "WordEmbeddings", "StaticEmbedding", "SparseAutoEncoder",
    "SparseStaticEmbedding", "WeightedLayerPooling",
))  # fmt: skip
"""Kinds of modules that cannot do without weights."""


@dataclass(frozen=True, slots=True)
class Others:
    """What lies in the folders of the modules after the first."""

    there: bool = False  # there are such modules
    opened: tuple[Folder, ...] = ()  # those whose weights are read
    unread: tuple[Skipped, ...] = ()  # files that are not opened, or not there
    missing: tuple[Skipped, ...] = ()  # of these what a module should hold and does not


def modules_of(folder: Folder, *, allow_pickle: bool) -> tuple[Folder, Others]:
    """Return the folder of a model's first module, and the modules after it.

    Args:
        folder: The model's; without modules.json its own first module.
        allow_pickle: Whether pickles of the others are opened.

    Raises:
        CheckpointError: modules.json is malformed, or names what is not in the folder.
    """
    if MODULES not in folder.names():
        return folder, Others()
    source, listed = _listed(folder)
    paths = [_path(source.label, one) for one in listed]
    if len(set(paths)) < len(paths):
        raise CheckpointError(
            f"{source.label} puts two modules in one folder. Fetch that file again."
        )
    first = folder.inside(paths[0]) if paths[0] else folder
    if paths[0] and not first.names():
        raise CheckpointError(
            f"{source.label} names the module {quote(paths[0])}, which is not in its folder. Fetch "
            "the whole model again."
        )
    opened: list[Folder] = []
    unread: list[Skipped] = []
    missing: list[Skipped] = []
    for path, one in zip(paths[1:], listed[1:], strict=True):
        if path:
            inner = folder.inside(path, f"{path}/")
            kinds = {name: format_named(name) for name in weights_in(inner)}
            nested = _nested(inner)
            unread += nested
            if kinds and not allow_pickle and all(kind and kind.pickle for kind in kinds.values()):
                reason = f"{PICKLES}, {worded(ALLOWED)}"
                unread += [Skipped(inner.prefix + name, reason) for name in kinds]
            elif kinds:
                opened.append(inner)
            elif not nested:
                lacking = _missing(inner, str(one.get("type", "")).rpartition(".")[2])
                missing += lacking
                unread += lacking
    return first, Others(any(paths[1:]), tuple(opened), tuple(unread), tuple(missing))


def module_paths(folder: Folder) -> list[str]:
    """Return the folders of a model's modules, as its modules.json names them; its own is none.

    Raises:
        CheckpointError: As for `modules_of`.
    """
    if MODULES not in folder.names():
        return []
    source, listed = _listed(folder)
    return [path for one in listed if (path := _path(source.label, one))]


def _listed(folder: Folder) -> tuple[Source, list[Any]]:
    source = folder.file(MODULES)
    listed = read_document(source)
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST:
        raise CheckpointError(
            f"{source.label} holds {quote(listed)}, expected a list of modules. Fetch that file "
            "again."
        )
    return source, listed


def _nested(inner: Folder) -> list[Skipped]:
    """Return files of weights of modules inside a module, which are not opened."""
    return [
        Skipped(f"{inner.prefix}{module}/{name}", f"{NESTED} {shown(inner.prefix.rstrip('/'))}")
        for module in inner.folders()
        for name in weights_in(inner.inside(module))
    ]


def _missing(inner: Folder, kind: str) -> list[Skipped]:
    what = f"is not in the folder, and a module {kind} has weights"
    return [Skipped(f"{inner.prefix}model.safetensors", what)] if kind in HOLDING else []


def _path(label: str, module: object) -> str:
    path = module.get("path") if isinstance(module, dict) else None
    plain = isinstance(path, str) and (not path or path.isprintable())
    if not isinstance(path, str) or not plain or "\\" in path or ":" in path:
        raise CheckpointError(
            f"{label} holds {quote(module)}, expected a module with its path. Fetch that file "
            "again."
        )
    inside = path.rstrip("/")
    if inside and not all(part not in {"", ".", ".."} for part in inside.split("/")):
        raise CheckpointError(
            f"{label} puts a module in {quote(path)}, which is no place inside its folder. "
            "Refused: a model must not reach elsewhere."
        )
    return inside


def joined(folder: Folder, first: Checkpoint, others: Sequence[Checkpoint]) -> Checkpoint:
    """Return one checkpoint of several modules.

    Args:
        folder: The model's.
        first: Its first module, with plain names.
        others: With names that begin with their folders.

    Raises:
        CheckpointError: Two tensors have one name.
    """
    entries, files = dict(first.entries), dict(first.files)
    for other in others:
        twice = entries.keys() & other.entries.keys()
        if twice:
            raise CheckpointError(
                f"{folder.label} holds two tensors {quote(min(twice))}, of two modules. Give the "
                "folder of one."
            )
        entries |= other.entries
        files |= other.files
    return replace(
        first,
        spec=folder.spec,
        resolved=folder.resolved,
        entries=entries,
        files=files,
        skipped=tuple(item for one in (first, *others) for item in one.skipped),
        unread=tuple(item for one in (first, *others) for item in one.unread),
    )
