"""Opening and choosing: what the user names becomes a checkpoint or adapter, headers only."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.deferred import torch
from spectra.errors import UsageError
from spectra.matrices import Selection

Spec: TypeAlias = str | Path | Checkpoint | Adapter
Globs: TypeAlias = str | Sequence[str] | None  # None as nothing given
Layers: TypeAlias = str | int | Sequence[int] | None
Device: TypeAlias = "str | torch.device"
Memory: TypeAlias = int | str | None
NOTHING = ("None", "", "()", "[]")


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


def is_model(given: object) -> bool:
    """Say whether what is given means weights, not a saved result."""
    if not isinstance(given, str | Path):
        return isinstance(given, Checkpoint | Adapter)
    text, path = str(given), Path(given)
    if path.suffix.lower() in WEIGHTS or path.is_dir() or text.startswith("hf://"):
        return True
    return not path.exists() and path.suffix.lower() != ".json" and text.count("/") == 1


WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")


def chosen(
    selection: Selection | None, include: Globs, exclude: Globs, role: Globs, layers: Layers
) -> Selection:
    """Return what is chosen by an object or by its four words.

    Raises:
        UsageError: Both are given, or a word cannot be meant as written.
    """
    words = {"include": include, "exclude": exclude, "role": role, "layers": layers}
    given = [
        word
        for word, value in words.items()
        if value is not None and str(value) not in ("", "()", "[]")
    ]
    if selection is None:
        return Selection(include or (), exclude or (), role or (), "" if layers is None else layers)
    if given:
        raise UsageError(
            f"selection= and {given[0]}= are both given. Expected the one or the other: "
            f"selection=spectra.Selection({'roles' if given[0] == 'role' else given[0]}=...)."
        )
    return selection
