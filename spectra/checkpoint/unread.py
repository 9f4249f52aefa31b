"""Files of weights that lie in a checkpoint's folder and were not opened, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.documents import read_weight_map
from spectra.checkpoint.entry import Skipped
from spectra.checkpoint.formats import (
    DCP,
    NOT_READ,
    SAFETENSORS_INDEX,
    format_named,
    is_state,
    refused_name,
    weights_in,
)
from spectra.checkpoint.source import Folder
from spectra.checkpoint.variants import split_variant
from spectra.checkpoint.wrappers import plain_names
from spectra.text import shown

MISTRAL = "consolidated"
PIPELINE = "model_index.json"
STRANGER = "not named by the index"
NAMED = "named by an index"
PICKLES = "PyTorch pickle"
ALLOWED = "opened only with --allow-pickle"
NESTED = "a module inside the module"
ANOTHER = "another format of weights"
OF_THE_MODEL = (STRANGER, NAMED, PICKLES, NESTED)
"""How reasons begin where a file is a part of the model; others hold it in another form."""


def with_unread(
    opened: Checkpoint, folder: Folder, chosen: str, lost: Collection[str] = ()
) -> Checkpoint:
    """Return a checkpoint that names what else its folder holds.

    Args:
        opened: What was opened.
        folder: Where it lies.
        chosen: Its file or index.
        lost: Files of it that are damaged or not there.

    Raises:
        CheckpointError: The index beside it is malformed.
    """
    name, index = index_beside(folder, chosen)
    read = {*opened.files, *(folder.prefix + file for file in lost)}
    unread = unread_files(folder, chosen, read, index)
    if name and name != chosen:
        unread += _lacking(opened, folder, chosen, name, index)
    if PIPELINE in folder.names():
        unread += _of_pipeline(folder, chosen)
    return replace(opened, unread=unread)


def beside_adapter(folder: Folder, opened: Adapter) -> Adapter:
    """Return an adapter that names what else its folder holds."""
    weights = opened.weights
    chosen = next(iter(weights.files))
    unread = unread_files(folder, chosen, weights.files, {})
    return replace(opened, weights=replace(weights, unread=unread))


def _of_pipeline(folder: Folder, chosen: str) -> tuple[Skipped, ...]:
    """Return the weights in the folders of a pipeline of diffusers, which loads those."""
    return tuple(
        Skipped(f"{inner}/{name}", f"of the pipeline of {PIPELINE}; {shown(chosen)} is read")
        for inner in folder.folders()
        for name in weights_in(folder.inside(inner))
    )


def _lacking(
    opened: Checkpoint, folder: Folder, chosen: str, name: str, index: Mapping[str, str]
) -> tuple[Skipped, ...]:
    """Return the index beside a whole file where it names more than the file holds."""
    held = {item.tensor for item in opened.skipped}
    for entry in opened.entries.values():
        held |= {entry.name, *(part.name for part in entry.parts)}
    plain = plain_names(index)
    lacking = sum(folder.prefix + plain.get(one, one) not in held for one in index)
    if not lacking:
        return ()
    what = f"{lacking:,} of its {len(index):,} tensors are not in {shown(chosen)}, which is read"
    return (Skipped(folder.prefix + name, what),)


def unread_files(
    folder: Folder, chosen: str, read: Collection[str], index: Mapping[str, str]
) -> tuple[Skipped, ...]:
    """Return the files of weights in a folder that were not opened; an optimizer's are none.

    Args:
        folder: Where the weights lie.
        chosen: The file or index that was opened.
        read: Files that hold what was opened, as the checkpoint names them.
        index: Shard by tensor as the folder's index has it, opened or not; empty: none.
    """
    shards = set(index.values())
    found = []
    for name in folder.names():
        if folder.prefix + name not in read and name != chosen and not is_state(name):
            reason = _other_format(name) or _reason(name, chosen, shards)
            if reason == STRANGER:
                found.append(Skipped(folder.prefix + name, reason))
            elif reason:
                found.append(Skipped(folder.prefix + name, f"{reason}; {shown(chosen)} is read"))
    return tuple(found)


def _other_format(name: str) -> str:
    pattern = "" if format_named(name) else refused_name(name)
    if not pattern or NOT_READ[pattern] is DCP:
        return ""
    return f"{ANOTHER} ({NOT_READ[pattern][0]})"


def _reason(name: str, chosen: str, shards: Collection[str]) -> str:
    """Say what a file is beside the one that was opened; empty: no weights, or an index."""
    kind, own = format_named(name), format_named(chosen)
    variant, opened = split_variant(name)[1], split_variant(chosen)[1]
    if kind is None or kind.is_index:
        return ""
    if name in shards:
        return NAMED
    if name.lower().startswith(MISTRAL):
        return "Mistral's own form of the weights"
    if own is not None and kind.name != own.name:
        return f"{ANOTHER} ({kind.name})"
    if variant != opened:
        return f"a variant ({variant})" if variant else "the model without a variant"
    return STRANGER if own is not None and own.is_index else "another file of weights"


def index_beside(folder: Folder, chosen: str) -> tuple[str, Mapping[str, str]]:
    """Return the name of the safetensors index that speaks of what was opened, and its map.

    Args:
        folder: Where the weights lie.
        chosen: The file or index that was opened.

    Returns:
        Nothing and an empty map where there is none.

    Raises:
        CheckpointError: It is malformed.
    """
    found = _index_name(folder.names(), chosen)
    if not found:
        return "", {}
    return found, read_weight_map(folder.file(found), ".safetensors")


def _index_name(names: Sequence[str], chosen: str) -> str:
    if SAFETENSORS_INDEX.names(chosen):
        return chosen
    wanted = (split_variant(chosen)[0] + ".index.json", split_variant(chosen)[1])
    return next((name for name in names if split_variant(name) == wanted), "")
