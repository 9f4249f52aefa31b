"""From what the user wrote to a checkpoint or an adapter."""

import os.path
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from spectra.checkpoint.adapter.adapter import CONFIG as ADAPTER_CONFIG
from spectra.checkpoint.adapter.adapter import WEIGHTS as ADAPTER_WEIGHTS
from spectra.checkpoint.adapter.adapter import Adapter, open_adapter
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.gguf.opening import open_gguf
from spectra.checkpoint.hub.answers import UnreachableError
from spectra.checkpoint.hub.repository import looks_like_hub, open_hub
from spectra.checkpoint.local import LocalFolder, unreadable
from spectra.checkpoint.pickled.opening import open_pickled, open_pickled_shards
from spectra.checkpoint.quote import quote, shown
from spectra.checkpoint.shards import open_file, open_sharded
from spectra.checkpoint.source import Folder
from spectra.errors import CheckpointError

ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "adapter_model.bin")


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which a folder holds weights."""

    what: str  # several of them, for messages
    pattern: str  # of its files' names
    usual: str  # the name that goes before all others of this format; empty: none does
    open: Callable[[Folder, str], Checkpoint]
    pickle: bool = False  # refused unless allowed


FORMATS = (
    Format("safetensors files and no index", "*.safetensors", "model.safetensors", open_file),
    Format("indexes", "*.safetensors.index.json", "model.safetensors.index.json", open_sharded),
    Format("GGUF files", "*.gguf", "", open_gguf),
    Format("PyTorch pickle files and no index", "*.bin", "pytorch_model.bin", open_pickled, True),
    Format(
        "indexes", "*.bin.index.json", "pytorch_model.bin.index.json", open_pickled_shards, True
    ),
    *(
        Format("PyTorch pickle files", f"*{suffix}", "", open_pickled, True)
        for suffix in (".pth", ".pt", ".ckpt")
    ),
)
"""In the order in which a folder is searched."""

DCP = (
    "a torch distributed checkpoint",
    (
        "Convert it first: "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR x.pt`."
    ),
)
NOT_READ = {
    "*.distcp": DCP,
    ".metadata": DCP,
    "*.msgpack": ("Flax weights", ""),
    "*.h5": ("TensorFlow weights", ""),
    "*.onnx": ("an ONNX model", ""),
    "*.npz": ("NumPy arrays", ""),
}
"""Formats that are recognised and refused, and what to do instead."""

NOT_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "rng_state*", "scaler.pt")
"""What trainers leave beside the weights under weights' endings."""

CONVERT = "Save the model as safetensors (`model.save_pretrained(folder)`) and give that folder."


def open_spec(
    spec: str | Path, *, allow_pickle: bool = False, download: bool = False
) -> Checkpoint | Adapter:
    """Open a checkpoint or adapter, headers only.

    Args:
        spec: A file of weights, an index, a folder that holds either or a PEFT adapter; or
            a repository of the Hub, `org/name[@revision]`.
        allow_pickle: Also open PyTorch pickle files, as data: nothing in them is run.
        download: Fetch whole files of a Hub repository into its cache instead of the
            ranges that are needed.

    Raises:
        CheckpointError: Nothing is there, or what is there cannot be read.
    """
    folder, name = place_of_spec(spec, download=download)
    try:
        if name:
            return open_name(folder, name, allow_pickle=allow_pickle)
        return open_folder(folder, allow_pickle=allow_pickle)
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
    many = path.name.endswith(".index.json") or path.name in ADAPTER_FILES
    return LocalFolder(spec, path.parent, "" if many else path.name)


def open_name(folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint | Adapter:
    """Open one file of a folder by what its name says it is.

    Raises:
        CheckpointError: It is of a format that is not read, or breaks its own.
    """
    if name in ADAPTER_FILES and folder.has(ADAPTER_CONFIG):
        return open_adapter(folder, allow_pickle=allow_pickle)
    for pattern in NOT_READ:
        if fnmatch(name, pattern):
            raise _not_read(folder, pattern)
    for kind in FORMATS:
        if fnmatch(name, kind.pattern):
            return _open_as(kind, folder, name, allow_pickle=allow_pickle)
    return open_file(folder, name)


def open_folder(folder: Folder, *, allow_pickle: bool) -> Checkpoint | Adapter:
    """Choose what a folder means, in the order in which transformers looks.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    if ADAPTER_CONFIG in folder.names():
        return open_adapter(folder, allow_pickle=allow_pickle)
    kind, name = chosen(folder)
    return _open_as(kind, folder, name, allow_pickle=allow_pickle)


def chosen(folder: Folder) -> tuple[Format, str]:
    """Return which file of a folder is opened, in the order in which transformers looks.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    names = [name for name in folder.names() if not any(fnmatch(name, p) for p in NOT_WEIGHTS)]
    held = [(kind, [name for name in names if fnmatch(name, kind.pattern)]) for kind in FORMATS]
    held.sort(key=_before)
    for kind, found in held:
        if found:
            return kind, kind.usual if kind.usual in found else _only(folder, kind, found)
    for pattern in NOT_READ:
        if any(fnmatch(name, pattern) for name in names):
            raise _not_read(folder, pattern)
    raise CheckpointError(
        f"{folder.label} holds no weights. Expected model.safetensors, "
        "model.safetensors.index.json with its shards, a GGUF file, or a PEFT adapter."
        + _adapter_inside(folder)
    )


def _before(held: tuple[Format, list[str]]) -> tuple[bool, bool, bool]:
    """Order formats: pickles last, usual names before others, an index before its files."""
    kind, found = held
    unusual = kind.usual not in found
    return kind.pickle, unusual, unusual and not kind.pattern.endswith(".json")


def _open_as(kind: Format, folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint:
    """Open one file as one format.

    Raises:
        CheckpointError: It is a pickle, which nobody allowed.
    """
    if kind.pickle and not allow_pickle:
        raise CheckpointError(
            f"{folder.label} holds PyTorch pickle weights ({quote(name)}), which are opened only "
            "with --allow-pickle (`allow_pickle=True`), and then read as data: nothing in them is "
            f"run. Or: {CONVERT[0].lower()}{CONVERT[1:]}"
        )
    return kind.open(folder, name)


def _only(folder: Folder, kind: Format, found: list[str]) -> str:
    """Return the one file, or the first part of one that is split.

    Raises:
        CheckpointError: There are several.
    """
    if len(found) == 1:
        return found[0]
    parts = [name for name in found if fnmatch(name, "*-00001-of-[0-9][0-9][0-9][0-9][0-9].*")]
    if kind.pattern == "*.gguf" and len(parts) == 1 and len(found) == int(parts[0][-10:-5]):
        return parts[0]
    names = ", ".join(quote(name) for name in found[:4]) + (", ..." if len(found) > 4 else "")
    raise CheckpointError(
        f"{folder.label} holds several {kind.what} ({names}): which one is meant? Give one of "
        f"them: {shown(folder.spec.rstrip('/'))}/FILE."
    )


def _not_read(folder: Folder, pattern: str) -> CheckpointError:
    """Return the error for a format that is known and not read."""
    what, instead = NOT_READ[pattern]
    return CheckpointError(f"{folder.label} holds {what}, expected safetensors. "
                           f"{instead or CONVERT}")  # fmt: skip


def _adapter_inside(folder: Folder) -> str:
    """Return a hint where a folder holds a named adapter one level down."""
    if not isinstance(folder, LocalFolder):
        return ""
    inner = sorted(folder.path.glob(f"*/{ADAPTER_CONFIG}"))
    return f" It holds a named adapter: give {shown(inner[0].parent)}." if inner else ""
