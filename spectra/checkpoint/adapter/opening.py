"""From a folder or file to the adapter in it, whoever wrote it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.bare import bare_adapter
from spectra.checkpoint.adapter.ggml import gguf_adapter, is_gguf_adapter
from spectra.checkpoint.adapter.mlx import MLX_WEIGHTS, is_mlx, mlx_adapter
from spectra.checkpoint.adapter.peft import adapter_of
from spectra.checkpoint.adapter.settings import CONFIG, refuse_unsupported
from spectra.checkpoint.adapter.updates.opening import TYPES, method_adapter, refuse_unread
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.documents import read_object
from spectra.checkpoint.factored import put_together
from spectra.checkpoint.pickled.opening import open_pickled
from spectra.checkpoint.shards import open_shard
from spectra.checkpoint.source import Folder
from spectra.errors import CheckpointError
from spectra.text import shown

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
FILES = (CONFIG, WEIGHTS, PICKLED, MLX_WEIGHTS)


def open_adapter(folder: Folder, *, allow_pickle: bool = False) -> Adapter:
    """Open the adapter of a folder with settings: PEFT's or mlx-lm's.

    Args:
        folder: It holds adapter_config.json and the weights.
        allow_pickle: Also open adapter_model.bin, read as data: nothing in it is run.

    Raises:
        AdapterError: It is of a method that is not read, its factors do not fit, or its training
            changed the base, so that the base alone does not give the tuned weights.
        CheckpointError: A file is missing or breaks its format.
    """
    config = read_object(folder.file(CONFIG))
    if is_mlx(config):
        return mlx_adapter(config, _weights(folder, MLX_WEIGHTS, allow_pickle=False))
    require_read(folder.spec, config)
    return peft_adapter(folder, config, _weights(folder, WEIGHTS, allow_pickle=allow_pickle))


def require_read(spec: str, config: Mapping[str, Any]) -> None:
    """Refuse by name, before weights are opened, settings of PEFT's that are not read.

    Raises:
        AdapterError: It is of a method that is not read, or its training changed the base.
    """
    if _other(config):
        refuse_unread(spec, config)
    else:
        refuse_unsupported(spec, config)


def peft_adapter(
    folder: Folder, config: Mapping[str, Any], weights: Checkpoint, *, lenient: bool = False
) -> Adapter:
    """Put an adapter of PEFT's together, whatever its method; `lenient` as for `adapter_of`.

    Raises:
        AdapterError: It does not fit its settings.
    """
    if _other(config):
        return method_adapter(folder.spec, config, weights, lenient=lenient)
    return adapter_of(folder, config, weights, lenient=lenient)


def _other(config: Mapping[str, Any]) -> bool:
    kind = config.get("peft_type")
    return isinstance(kind, str) and kind in TYPES


def worn(found: Checkpoint) -> Checkpoint | Adapter:
    """Return the adapter that opened weights without settings are, or the model that they are.

    Raises:
        AdapterError: It is an adapter of another method, or its factors do not fit.
    """
    if is_gguf_adapter(found):
        return gguf_adapter(found)
    return bare_adapter(found) or put_together(found)


def _weights(folder: Folder, name: str, *, allow_pickle: bool) -> Checkpoint:
    if folder.has(name):
        file, found = open_shard(folder, name)
        entries = {entry.name: entry for entry in found}
        files = {name: file}
        return Checkpoint(folder.spec, folder.resolved, entries, {}, files=files, folder=folder)
    if folder.has(PICKLED) and allow_pickle:
        return replace(open_pickled(folder, PICKLED), config={})
    held, instead = "no weights", "Save the adapter with"
    if folder.has(PICKLED):
        held = f"{PICKLED} (PyTorch pickle)"
        instead = "Allow it with --allow-pickle (`allow_pickle=True`), or save the adapter with"
    raise CheckpointError(
        f"{shown(folder.spec)} has {CONFIG} but {held}; expected {name}. {instead} "
        "safetensors (`save_pretrained(folder)`) and give that folder."
    )
