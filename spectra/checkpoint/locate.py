"""From what the user wrote to a checkpoint or an adapter."""

import os.path
import re
from pathlib import Path

from spectra.checkpoint.adapter import Adapter, open_adapter
from spectra.checkpoint.checkpoint import Checkpoint, open_file, open_sharded
from spectra.checkpoint.local import unreadable
from spectra.checkpoint.quote import quote, shown
from spectra.errors import CheckpointError

OTHER_FORMATS = {
    "*.bin": "PyTorch pickle weights",
    "*.pth": "PyTorch pickle weights",
    "*.pt": "PyTorch pickle weights",
    "*.ckpt": "PyTorch pickle weights",
    "*.gguf": "GGUF weights",
    "*.distcp": "a torch distributed checkpoint",
    "*.msgpack": "Flax weights",
    "*.h5": "TensorFlow weights",
    "*.onnx": "an ONNX model",
}
CONVERT = "Save the model as safetensors (`model.save_pretrained(folder)`) and give that folder."


def open_spec(spec: str | Path) -> Checkpoint | Adapter:
    """Open a checkpoint or adapter from disk, headers only.

    Args:
        spec: A safetensors file, an index, or a folder that holds either, or a PEFT
            adapter folder.

    Raises:
        CheckpointError: Nothing is there, or what is there cannot be read.
    """
    spec = str(spec)
    path = Path(os.path.expanduser(spec))  # noqa: PTH111 - leaves "~nobody" as it is
    try:
        return _open_path(spec, path)
    except OSError as error:
        raise unreadable(path, error) from None


def _open_path(spec: str, path: Path) -> Checkpoint | Adapter:
    """Choose between a folder, an index, an adapter and a file of weights."""
    if not spec or not path.exists():
        raise CheckpointError(
            f"{shown(spec)} does not exist. Expected a folder or file with safetensors weights."
            + _elsewhere(spec)
        )
    if path.is_dir():
        return _open_folder(spec, path)
    if path.name.endswith(".safetensors.index.json"):
        return open_sharded(spec, path)
    part_of_adapter = path.name in {"adapter_config.json", "adapter_model.safetensors"}
    if part_of_adapter and (path.parent / "adapter_config.json").is_file():
        return open_adapter(spec, path.parent)
    for pattern, kind in OTHER_FORMATS.items():
        if path.match(pattern):
            raise CheckpointError(f"{shown(spec)} holds {kind}, expected safetensors. {CONVERT}")
    return open_file(spec, path)


def _open_folder(spec: str, folder: Path) -> Checkpoint | Adapter:
    """Choose what a folder means, in the order in which transformers looks."""
    if (folder / "adapter_config.json").is_file():
        return open_adapter(spec, folder)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            found = folder / name
            opened = open_sharded if name.endswith(".json") else open_file
            return opened(spec, found)
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(folder.glob("*.safetensors"))
    if len(indexes) == 1:
        return open_sharded(spec, indexes[0])
    if len(files) == 1 and not indexes:
        return open_file(spec, files[0])
    if files or indexes:
        several = indexes or files
        names = ", ".join(quote(path.name) for path in several[:4])
        names += ", ..." if len(several) > 4 else ""
        what = "several indexes" if indexes else "several safetensors files and no index"
        raise CheckpointError(
            f"{shown(spec)} holds {what} ({names}): which one is meant? Give one of them."
        )
    for pattern, kind in OTHER_FORMATS.items():
        if any(folder.glob(pattern)):
            raise CheckpointError(f"{shown(spec)} holds {kind}, expected safetensors. {CONVERT}")
    inner = sorted(folder.glob("*/adapter_config.json"))
    if inner:
        raise CheckpointError(
            f"{shown(spec)} holds no weights itself, but a named adapter: give "
            f"{shown(inner[0].parent)}."
        )
    raise CheckpointError(
        f"{shown(spec)} holds no weights. Expected model.safetensors, model.safetensors.index.json "
        "with its shards, or a PEFT adapter."
    )


def _elsewhere(spec: str) -> str:
    """Return a hint where the words look like a Hub id."""
    if re.fullmatch(r"(hf://)?[\w.-]+/[\w.-]+(@[\w./-]+)?", spec) and not spec.endswith("/"):
        return (
            " If it is a Hub id, download it first: `hf download "
            f"{spec.removeprefix('hf://').split('@')[0]} --local-dir DIR`, then give DIR."
        )
    return ""
