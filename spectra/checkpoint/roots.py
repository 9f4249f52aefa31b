"""Folders without weights of their own: which folders in them hold some, and what to type."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spectra.checkpoint.adapter.settings import CONFIG as ADAPTER_CONFIG
from spectra.checkpoint.formats import DCP, NOT_READ, ZERO, refused_name, weights_in
from spectra.checkpoint.source import Folder
from spectra.errors import CheckpointError
from spectra.text import natural, shown

DEPTH: Final = 2  # of folders in folders
MOST: Final = 500  # folders looked into
TOLD: Final = 8  # folders named
TO_FP32: Final = "zero_to_fp32.py"
ROOTS: Final = {
    "model_index.json": "a pipeline of diffusers",
    "modules.json": "a model of sentence-transformers",
    "latest": "a checkpoint of DeepSpeed",
    TO_FP32: "a checkpoint of DeepSpeed",
}
"""Files that tell what a folder is the root of."""


@dataclass(frozen=True, slots=True)
class Inner:
    """A folder in another that holds weights."""

    spec: str  # what to type
    refused: str = ""  # what it is and what to do, where it cannot be opened


def inner_weights(folder: Folder) -> str:
    """Say which folders in a folder hold weights and which of them cannot be read.

    Returns:
        Sentences that read on from its name; empty where none does.
    """
    found = sorted(_walk(folder, DEPTH, [MOST]), key=lambda one: natural(one.spec))
    opened = [shown(one.spec) for one in found if not one.refused]
    refused = [one for one in found if one.refused]
    if not found:
        return ""
    names = folder.names()
    root = next((f" is {what}" for file, what in ROOTS.items() if file in names), "")
    text = f"{root}{' and' if root else ''} holds no weights of its own"
    if opened:
        more = f", ... ({len(opened)} in all)" if len(opened) > TOLD else ""
        text += f"; folders in it do. Give one: {', '.join(opened[:TOLD])}{more}."
    else:
        text += "."
    for one in refused[:TOLD]:
        text += f" {shown(one.spec)} holds {one.refused}"
    return text


def _walk(folder: Folder, depth: int, left: list[int]) -> Iterator[Inner]:
    """Yield the folders that hold weights, not those inside them."""
    for name in folder.folders():
        if name.startswith((".", "optimizer")) or left[0] <= 0:
            continue
        left[0] -= 1
        inner = folder.inside(name)
        try:
            found = _told(inner, folder)
            further = [] if found is not None or depth == 1 else [*_walk(inner, depth - 1, left)]
        except CheckpointError:  # nobody may look into it
            continue
        yield from further if found is None else (found,)


def _told(folder: Folder, above: Folder) -> Inner | None:
    names = folder.names()
    if ADAPTER_CONFIG in names or weights_in(folder):
        return Inner(folder.spec)
    meant = [NOT_READ[pattern] for name in names if (pattern := refused_name(name))]
    if not meant:
        return None
    what, instead = meant[0]
    place = shown(folder.spec)
    if meant[0] is DCP:
        instead = instead.replace("DIR", place)
    elif meant[0] is ZERO:
        root = shown(above.spec)
        instead = f"Put them together: `python {root}/{TO_FP32} {root} OUT`, and give OUT."
    return Inner(folder.spec, f"{what}, which is not read. {instead}")
