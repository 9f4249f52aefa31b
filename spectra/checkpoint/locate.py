"""From what the user wrote to a checkpoint or an adapter."""

import os.path
import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.opening import FILES as ADAPTER_FILES
from spectra.checkpoint.adapter.opening import open_adapter, worn
from spectra.checkpoint.adapter.settings import CONFIG as ADAPTER_CONFIG
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.choice import chosen, told_kind
from spectra.checkpoint.factored import put_together
from spectra.checkpoint.formats import CONVERT, Format, format_named
from spectra.checkpoint.hub.answers import UnreachableError
from spectra.checkpoint.hub.place import place_of
from spectra.checkpoint.hub.repository import open_hub
from spectra.checkpoint.local import LocalFolder, legible
from spectra.checkpoint.modules import joined, modules_of
from spectra.checkpoint.pickled.opening import refuse_foreign
from spectra.checkpoint.source import Folder, at_once
from spectra.checkpoint.unread import beside_adapter, with_unread
from spectra.errors import CheckpointError
from spectra.text import guess_path, shown


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
    with legible(Path(folder.resolved)) if isinstance(folder, LocalFolder) else nullcontext():
        if name:
            return open_name(folder, name, allow_pickle=allow_pickle)
        return open_folder(folder, allow_pickle=allow_pickle, variant=variant)


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
    with legible(path):
        if spec and path.is_dir():
            return LocalFolder(spec, path), ""
        if spec and path.exists():
            return _given(spec, path), path.name
    if place_of(spec):
        return _open_hub(spec, download=download)
    page = re.fullmatch(r"https?://[^/]+/([\w.-]+/[\w.-]+)(/.*)?", spec)
    raise CheckpointError(
        f"{shown(spec)} does not exist.{guess_path(path)} Expected a folder or file with weights, "
        "or a repository of the Hub as org/name or hf://name."
        + (f" A page of the Hub is given as {page[1]}." if page else "")
    )


def _open_hub(spec: str, *, download: bool) -> tuple[Folder, str]:
    """Open a repository; say of words that may have meant a folder that there is none."""
    try:
        return open_hub(spec, download=download)
    except CheckpointError as error:
        near = guess_path(os.path.expanduser(spec))  # noqa: PTH111 - as in `place_of_spec`
        if "Did you mean" in str(error):
            near = ""
        if isinstance(error, UnreachableError):
            near = near or " Nothing of that name is on this machine."
        raise type(error)(f"{error}{near}") from None


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


def open_folder(folder: Folder, *, allow_pickle: bool, variant: str = "") -> Checkpoint | Adapter:
    """Choose what a folder means, in the order in which transformers looks.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    if ADAPTER_CONFIG in folder.names():
        return beside_adapter(folder, open_adapter(folder, allow_pickle=allow_pickle))
    first, others = modules_of(folder, allow_pickle=allow_pickle)
    opened = open_one(first, allow_pickle=allow_pickle, variant=variant)
    if first is folder and not others.there:
        return worn(opened)
    open_part = partial(open_one, allow_pickle=allow_pickle, variant="")
    told = list(at_once(open_part, others.opened, folder.concurrency))
    whole = joined(folder, opened, told)
    return put_together(replace(whole, unread=(*whole.unread, *others.unread)))


def open_one(folder: Folder, *, allow_pickle: bool, variant: str) -> Checkpoint:
    """Open the weights of one folder.

    Raises:
        CheckpointError: As for `open_folder`.
    """
    name = chosen(folder, variant)
    opened = _open_as(told_kind(folder, name), folder, name, allow_pickle=allow_pickle)
    return with_unread(opened, folder, name)


def _open_as(kind: Format, folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint:
    if kind.pickle and not allow_pickle:
        if not kind.is_index:
            refuse_foreign(folder.file(name))
        raise CheckpointError(
            f"{folder.label.rstrip('/')}/{shown(name)} holds PyTorch pickle weights, which are "
            "opened only with --allow-pickle (`allow_pickle=True`), and then read as data: nothing "
            f"in them is run. Or: {CONVERT[0].lower()}{CONVERT[1:]}"
        )
    return kind.open(folder, name)
