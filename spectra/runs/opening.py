"""Opening: what the user names becomes a checkpoint or adapter, headers only."""

from pathlib import Path
from typing import TypeAlias

from spectra.checkpoint import Adapter, Checkpoint, open_spec

Spec: TypeAlias = str | Path | Checkpoint | Adapter


def open(  # noqa: A001 - `spectra.open` is its name
    spec: Spec, *, allow_pickle: bool = False, download: bool = False, variant: str = ""
) -> Checkpoint | Adapter:
    """Open a checkpoint or adapter: headers only, no weights.

    Args:
        spec: A file of weights (safetensors, GGUF), a folder that holds one or an index with
            its shards, a PEFT LoRA folder, or a repository of the Hub: `org/name[@revision]`.
        allow_pickle: Also open PyTorch pickle files, read as data: nothing in them is run.
        download: Fetch whole files from the Hub into its cache, where otherwise the ranges
            that are needed are read into memory.
        variant: Of a folder that holds several, such as `fp16`.

    Raises:
        CheckpointError: It is not there or cannot be read.
    """
    if isinstance(spec, Checkpoint | Adapter):
        return spec
    return open_spec(spec, allow_pickle=allow_pickle, download=download, variant=variant)
