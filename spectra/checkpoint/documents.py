"""The small JSON files beside the weights: read as data, capped, never as code."""

import json
from pathlib import Path
from typing import Any

from spectra.checkpoint.local import unreadable
from spectra.checkpoint.quote import quote, shown
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
                f"{shown(path)} has {size:,} bytes, and at most {limit:,} are read: not a real "
                "one. Fetch that file again."
            )
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise CheckpointError(
            f"{shown(path)} is not JSON ({reason}). Fetch that file again."
        ) from None
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{shown(path)} holds {quote(found)}, expected a JSON object. Fetch that file again."
        )
    return found


def read_weight_map(path: Path) -> dict[str, str]:
    """Return an index's map from tensor to file.

    Raises:
        CheckpointError: The map is missing, or an entry is no file name of this folder.
    """
    found = read_object(path, MAX_INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{shown(path)} has no weight_map from tensor to file. Fetch the index again."
        )
    for tensor, shard in found.items():
        plain = isinstance(shard, str) and shard.isprintable() and shard not in ("", ".", "..")
        if not plain or "/" in shard or "\\" in shard:
            raise CheckpointError(
                f"{shown(path)} puts tensor {quote(tensor)} in {quote(shard)}, which is no file "
                "name inside its folder. Refused: an index must not reach elsewhere."
            )
        if not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{shown(path)} puts tensor {quote(tensor)} in {quote(shard)}, expected a "
                ".safetensors file. Save the model as safetensors and give that folder."
            )
    return found
