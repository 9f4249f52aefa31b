"""The small JSON files beside the weights: read as data, capped, never as code."""

import json
from pathlib import Path
from typing import Any

from spectra.checkpoint.local import unreadable
from spectra.errors import CheckpointError

MAX_CONFIG = 10_000_000  # bytes
MAX_INDEX = 500_000_000


def read_object(path: Path, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """Return a JSON file's object.

    Args:
        path: The file.
        limit: Largest size accepted, in bytes.

    Raises:
        CheckpointError: It is too large, is not JSON, or is not an object.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise CheckpointError(
                f"{path} has {size:,} bytes, and at most {limit:,} are read: not a real one."
            )
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise CheckpointError(f"{path} is not JSON ({reason}). Fetch that file again.") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a JSON {type(found).__name__}, expected an object.")
    return found


def read_weight_map(path: Path) -> dict[str, str]:
    """Return an index's map from tensor to file.

    Raises:
        CheckpointError: The map is missing, or an entry is no file name of this folder.
    """
    found = read_object(path, MAX_INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{path} has no weight_map from tensor to file. Fetch the index again."
        )
    for tensor, shard in found.items():
        plain = isinstance(shard, str) and shard not in ("", ".", "..")
        if not plain or any(mark in shard for mark in "/\\\0"):
            raise CheckpointError(
                f"{path} puts tensor {tensor!r} in {shard!r}, which is no file name inside its "
                "folder. Refused: an index must not reach elsewhere."
            )
        if not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{path} puts tensor {tensor!r} in {shard!r}, expected a .safetensors file."
            )
    return found
