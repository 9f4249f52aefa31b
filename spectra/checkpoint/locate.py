"""From what the user wrote to a checkpoint or an adapter."""

import os.path
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.opening import FILES as ADAPTER_FILES
from spectra.checkpoint.adapter.opening import open_adapter, worn
from spectra.checkpoint.adapter.settings import CONFIG as ADAPTER_CONFIG
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import Skipped
from spectra.checkpoint.formats import (
    CONVERT,
    DCP,
    FORMATS,
    GGUF,
    NOT_READ,
    Format,
    format_named,
    is_state,
    refused_name,
    refused_text,
    weights_in,
)
from spectra.checkpoint.hub.answers import UnreachableError
from spectra.checkpoint.hub.repository import looks_like_hub, open_hub
from spectra.checkpoint.local import LocalFolder, unreadable
from spectra.checkpoint.modules import (
    joined,
    left_out,
    missing,
    modules_of,
    nested,
    only_pickles,
)
from spectra.checkpoint.pickled.opening import refuse_foreign
from spectra.checkpoint.quote import quote, shown
from spectra.checkpoint.roots import inner_weights
from spectra.checkpoint.shards import open_file
from spectra.checkpoint.signatures import kind_of, readable, stranger
from spectra.checkpoint.source import Folder, Source
from spectra.checkpoint.unread import PICKLES, beside_adapter, with_unread
from spectra.checkpoint.variants import split_variant
from spectra.errors import CheckpointError

DOCUMENTS = (
    ".json", ".txt", ".md", ".py", ".yaml", ".yml", ".toml", ".jinja", ".csv", ".log", ".sh",
    ".model", ".png", ".jpg", ".svg", ".gitattributes", ".gitignore", ".lock",
)  # fmt: skip
"""Endings of what lies beside weights and is none."""

PART = re.compile(r"-\d{5}-of-(\d{5})\.")
MOST_TRIED = 16  # files whose first bytes are looked at where no name tells
UNNAMED = Format("", "files of weights", (), (), open_file)


def open_spec(
    spec: str | Path, *, allow_pickle: bool = False, download: bool = False, variant: str = ""
) -> Checkpoint | Adapter:
    """Open a checkpoint or adapter, headers only.

    Args:
        spec: A file of weights, an index, a folder that holds either or a PEFT adapter; or
            a repository of the Hub, `org/name[@revision]`.
        allow_pickle: Also open PyTorch pickle files, as data: nothing in them is run.
        download: Fetch whole files of a Hub repository into its cache instead of the
            ranges that are needed.
        variant: Of a folder that holds several, such as `fp16`; a file that is named is
            opened as it is.

    Raises:
        CheckpointError: Nothing is there, or what is there cannot be read.
    """
    folder, name = place_of_spec(spec, download=download)
    try:
        if name:
            return open_name(folder, name, allow_pickle=allow_pickle)
        return open_folder(folder, allow_pickle=allow_pickle, variant=variant)
    except OSError as error:
        if isinstance(folder, LocalFolder):
            raise unreadable(Path(folder.resolved), error) from None
        raise


def place_of_spec(spec: str | Path, *, download: bool = False) -> tuple[Folder, str]:
    """Return the folder that a spec means, and the file in it that it names, or nothing.

    Args:
        spec: As for `open_spec`.
        download: As for `open_spec`.

    Raises:
        CheckpointError: Nothing is there.
    """
    spec = str(spec)
    path = Path(os.path.expanduser(spec))  # noqa: PTH111 - leaves "~nobody" as it is
    try:
        if spec and path.is_dir():
            return LocalFolder(spec, path), ""
        if spec and path.exists():
            return _given(spec, path), path.name
    except OSError as error:
        raise unreadable(path, error) from None
    if looks_like_hub(spec):
        return _open_hub(spec, download=download)
    page = re.fullmatch(r"https?://[^/]+/([\w.-]+/[\w.-]+)(/.*)?", spec)
    raise CheckpointError(
        f"{shown(spec)} does not exist. Expected a folder or file with weights, or a repository "
        "of the Hub as org/name or hf://name."
        + (f" A page of the Hub is given as {page[1]}." if page else "")
    )


def _open_hub(spec: str, *, download: bool) -> tuple[Folder, str]:
    """Open a repository; say of words that may have meant a folder that there is none.

    Raises:
        UnreachableError: The Hub does not answer.
    """
    try:
        return open_hub(spec, download=download)
    except UnreachableError as error:
        raise UnreachableError(f"{error} Nothing of that name is on this machine.") from None


def _given(spec: str, path: Path) -> Folder:
    """Return the folder of the file that the user named; a link is the user's own."""
    kind = format_named(path.name)
    many = (kind is not None and kind.is_index) or path.name in ADAPTER_FILES
    return LocalFolder(spec, path.parent, "" if many else path.name)


def open_name(folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint | Adapter:
    """Open one file of a folder by what its name says it is.

    Raises:
        CheckpointError: It is of a format that is not read, or breaks its own.
    """
    if name in ADAPTER_FILES and folder.has(ADAPTER_CONFIG):
        return beside_adapter(folder, open_adapter(folder, allow_pickle=allow_pickle))
    kind = told_kind(folder, name)
    opened = _open_as(kind, folder, name, allow_pickle=allow_pickle)
    return worn(with_unread(opened, folder, name) if kind.is_index else opened)


def told_kind(folder: Folder, name: str) -> Format:
    """Return the format of a file that is there: an index by its name, others by their bytes.

    Raises:
        CheckpointError: It is of a format that is not read, or of none that is known.
    """
    kind, pattern = format_named(name), refused_name(name)
    if kind is not None and kind.is_index:
        return kind
    if pattern and NOT_READ[pattern] is DCP:  # some of their files look like others
        raise CheckpointError(f"{folder.label} holds {refused_text(pattern, name)}")
    return kind_of(folder.file(name), name)


def open_folder(folder: Folder, *, allow_pickle: bool, variant: str = "") -> Checkpoint | Adapter:
    """Choose what a folder means, in the order in which transformers looks.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    if ADAPTER_CONFIG in folder.names():
        return beside_adapter(folder, open_adapter(folder, allow_pickle=allow_pickle))
    first, others = modules_of(folder)
    opened = open_one(first, allow_pickle=allow_pickle, variant=variant)
    if first is folder and not others:
        return worn(opened)
    told, unread = [], list[Skipped]()
    for module in others:
        unread += [*nested(module), *missing(module)]
        if only_pickles(module.folder) and not allow_pickle:
            unread += left_out(module, PICKLES)
        elif weights_in(module.folder):
            told.append(open_one(module.folder, allow_pickle=allow_pickle, variant=""))
    whole = joined(folder, opened, told)
    return replace(whole, unread=(*whole.unread, *unread))


def open_one(folder: Folder, *, allow_pickle: bool, variant: str) -> Checkpoint:
    """Open the weights of one folder.

    Raises:
        CheckpointError: As for `open_folder`.
    """
    name = chosen(folder, variant)
    opened = _open_as(told_kind(folder, name), folder, name, allow_pickle=allow_pickle)
    return with_unread(opened, folder, name)


def chosen(folder: Folder, variant: str = "") -> str:
    """Return which file of a folder is opened, in the order in which transformers looks.

    Args:
        folder: Searched.
        variant: Wanted; empty: what has none, or the only one that is there.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    names = [name for name in folder.names() if not is_state(name)]
    known = [name for name in names if format_named(name)]
    if not known:
        return _unnamed(folder, names)
    own = _of_variant(folder, known, variant)
    held = [(kind, [name for name in own if kind.names(name)]) for kind in FORMATS]
    kind, found = min((one for one in held if one[1]), key=lambda one: _before(one[0], one[1], own))
    for usual in kind.usual:
        for name in found:
            if own[name] == usual:
                return name
    return _only(folder, kind, found)


def _unnamed(folder: Folder, names: list[str]) -> str:
    """Return the file that is of a format that is read, though it is not named so.

    Raises:
        CheckpointError: There is none, or several.
    """
    tried = {
        name: file
        for name in names
        if not name.lower().endswith(DOCUMENTS)
        and not refused_name(name)
        and (file := _file(folder, name)) is not None
    }
    found = [name for name, file in list(tried.items())[:MOST_TRIED] if readable(file)]
    if not found:
        _refuse_empty(folder, list(tried.values())[:MOST_TRIED])
    return _only(folder, UNNAMED, found)


def _file(folder: Folder, name: str) -> Source | None:
    """Return a file; None: a link to nowhere, or a pipe."""
    try:
        return folder.file(name)
    except CheckpointError:
        return None


def _of_variant(folder: Folder, names: list[str], wanted: str) -> dict[str, str]:
    """Return the files of one variant, and their names without it.

    Raises:
        CheckpointError: It is not there, or there are several and none without a variant.
    """
    found = {name: split_variant(name, wanted) for name in names}
    if wanted:
        own = {name: plain for name, (plain, variant) in found.items() if variant}
    else:
        own = {name: plain for name, (plain, variant) in found.items() if not variant}
    told = sorted({variant for name in names if (variant := split_variant(name)[1])})
    if not own and not wanted and len(told) == 1:
        own = {name: plain for name, (plain, _) in found.items()}
    if own:
        return own
    there = f"variants {', '.join(told)}" if told else "no variants"
    if wanted:
        raise CheckpointError(
            f"{folder.label} holds no weights of the variant {quote(wanted)}; it holds {there}. "
            "Give one of those with --variant (`variant=`), or leave it out."
        )
    raise CheckpointError(
        f"{folder.label} holds its weights in {there}: which one is meant? Give it: "
        f"--variant {shown(told[0])} (`variant={quote(told[0])}`)."
    )


def _refuse_empty(folder: Folder, others: list[Source]) -> NoReturn:
    """Say why a folder without files of weights cannot be opened.

    Args:
        folder: Searched.
        others: Files in it whose names tell nothing.

    Raises:
        CheckpointError: Always.
    """
    inner = inner_weights(folder)
    for name in folder.names():
        pattern = refused_name(name)
        if pattern and not inner:
            raise CheckpointError(f"{folder.label} holds {refused_text(pattern, name)}")
    if inner:
        raise CheckpointError(f"{folder.label}{inner}")
    for told in filter(None, map(stranger, others)):
        raise CheckpointError(told)
    raise CheckpointError(
        f"{folder.label} holds no weights. Expected model.safetensors, "
        "model.safetensors.index.json with its shards, a GGUF file, or a PEFT adapter."
    )


def _before(kind: Format, found: list[str], plain: dict[str, str]) -> tuple[bool, bool, bool]:
    """Order formats: pickles last, usual names before others, an index before its files."""
    unusual = not any(plain[name] in kind.usual for name in found)
    return kind.pickle, unusual, unusual and not kind.is_index


def _open_as(kind: Format, folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint:
    """Open one file as one format.

    Raises:
        CheckpointError: It is a pickle, which nobody allowed.
    """
    if kind.pickle and not allow_pickle:
        if not kind.is_index:
            refuse_foreign(folder.file(name))
        raise CheckpointError(
            f"{folder.label} holds PyTorch pickle weights ({quote(name)}), which are opened only "
            "with --allow-pickle (`allow_pickle=True`), and then read as data: nothing in them is "
            f"run. Or: {CONVERT[0].lower()}{CONVERT[1:]}"
        )
    return kind.open(folder, name)


PARTS = "*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf"
"""Names of the parts of a split GGUF file."""


def _only(folder: Folder, kind: Format, found: list[str]) -> str:
    """Return the one file, or the first part of one that is split.

    Raises:
        CheckpointError: There are several.
    """
    if len(found) == 1:
        return found[0]
    parts = {name.rpartition("-of-")[::2] for name in found if fnmatchcase(name, PARTS)}
    whole = {(stem.rpartition("-")[0], count) for stem, count in parts}
    if kind is GGUF and len(whole) == 1 and len(parts) == len(found):
        return found[0]  # one that is lost is missed by name when it is opened
    names = ", ".join(quote(name) for name in found[:4]) + (", ..." if len(found) > 4 else "")
    series = [part for name in found if (part := PART.search(name))]
    if len(series) > 1 and len({part[1] for part in series}) == 1:
        raise CheckpointError(
            f"{folder.label} holds {len(series)} of {int(series[0][1])} parts of a model and no "
            f"index ({names}). Fetch the index (NAME.index.json) again, or "
            f"give one part: {shown(folder.spec.rstrip('/'))}/FILE."
        )
    raise CheckpointError(
        f"{folder.label} holds several {kind.what} ({names}): which one is meant? Give one of "
        f"them: {shown(folder.spec.rstrip('/'))}/FILE."
    )
