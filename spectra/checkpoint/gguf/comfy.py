"""True shapes that ComfyUI's converter keeps in the metadata of the tensors it lays out anew."""

from collections.abc import Mapping
from math import prod

from spectra.checkpoint.gguf.header import SHAPES
from spectra.checkpoint.gguf.reader import Value
from spectra.checkpoint.gguf.restore import Restored
from spectra.text import quote


def original(name: str, shape: tuple[int, ...], metadata: Mapping[str, Value]) -> Restored | str:
    """Return a tensor in the shape that the metadata says is its own, or why it cannot be so.

    What cannot be quantised row by row is stored as [n / 256, 256]: its values in order, in
    other rows than the model's.

    Args:
        name: In the file.
        shape: As stored, first axis outermost.
        metadata: Of the file; it has a shape for the name.

    Source:
        `get_orig_shape` of ComfyUI-GGUF's `loader.py`.
    """
    told = metadata[SHAPES + name]
    axes = told if isinstance(told, tuple) else ()
    counts = tuple(axis for axis in axes if isinstance(axis, int) and axis > 0)
    if not axes or len(counts) != len(axes):
        return f"{SHAPES}* gives it the shape {quote(told)}, expected counts"
    if prod(counts) != prod(shape):
        return (
            f"{SHAPES}* gives it the shape {list(counts)}, {prod(counts):,} values, and "
            f"{prod(shape):,} are stored"
        )
    return Restored(counts)
