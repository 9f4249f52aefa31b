"""The small JSON files beside the weights: read as data, capped, never as code."""

import json
from typing import Any

from spectra.checkpoint.source import Source
from spectra.errors import CheckpointError
from spectra.text import json_trouble, printable, quote

MAX_CONFIG = 10_000_000  # bytes
MAX_INDEX = 100_000_000  # a million tensors
MAX_VALUES = 3_000_000  # in one document: each takes far more memory than it has bytes


def read_object(source: Source, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """Return a JSON file's object.

    Args:
        source: The file.
        limit: Largest size accepted, in bytes.

    Raises:
        CheckpointError: It is too large, is not JSON, or is not an object.
    """
    found = read_document(source, limit)
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{source.label} holds {quote(found)}, expected a JSON object. Fetch that file again."
        )
    return found


def read_document(source: Source, limit: int = MAX_CONFIG) -> Any:  # noqa: ANN401 - any JSON value
    """Return what a JSON file holds.

    Args:
        source: The file.
        limit: Largest size accepted, in bytes.

    Raises:
        CheckpointError: It is too large, or is not JSON.
    """
    label = source.label
    if source.size > limit:
        raise CheckpointError(
            f"{label} has {source.size:,} bytes, and at most {limit:,} are read: not a real "
            "one. Fetch that file again."
        )
    raw = source.read(0, source.size)
    values = count_values(raw)
    if values > MAX_VALUES:
        raise CheckpointError(
            f"{label} holds {values:,} values, and at most {MAX_VALUES:,} are read: not a real "
            "one. Fetch that file again."
        )
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = printable(json_trouble(error))
        raise CheckpointError(f"{label} is not JSON: {reason}. Fetch that file again.") from None


def count_values(raw: bytes) -> int:
    """Return about how many values JSON text holds, without parsing it."""
    return max(raw.count(b","), raw.count(b"[") + raw.count(b"{"))


def read_weight_map(source: Source, suffix: str) -> dict[str, str]:
    """Return an index's map from tensor to file.

    Args:
        source: The index.
        suffix: What its files' names must end with, such as `.safetensors`.

    Raises:
        CheckpointError: The map is missing, or an entry is no file name of this folder.
    """
    found = read_object(source, MAX_INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{source.label} has no weight_map from tensor to file. Fetch the index again."
        )
    for tensor, shard in found.items():
        plain = isinstance(shard, str) and shard.isprintable() and shard not in ("", ".", "..")
        if not plain or "/" in shard or "\\" in shard:
            raise CheckpointError(
                f"{source.label} puts tensor {quote(tensor)} in {quote(shard)}, which is no file "
                "name inside its folder. Refused: an index must not reach elsewhere."
            )
        if not shard.endswith(suffix):
            raise CheckpointError(
                f"{source.label} puts tensor {quote(tensor)} in {quote(shard)}, expected a "
                f"{suffix} file. Save the model as safetensors and give that folder."
            )
    return found
