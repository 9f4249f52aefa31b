"""Plain data as the store keeps it: JSON in few bytes, and never in more than a limit opened."""

import json
import zlib
from typing import Any, Final

MOST: Final = 128 << 20  # bytes of JSON; a hundred thousand rows take a third of it
UNSOUND: Final = ValueError, LookupError, TypeError, AttributeError, RecursionError
"""What is raised where an entry is opened that is none: of another version, or somebody's own."""


def packed(text: bytes) -> bytes:
    """Return JSON, or a picture, in fewer bytes."""
    return zlib.compress(text, 1)


def opened(body: bytes, most: int) -> bytes:
    """Return what `packed` was given.

    Raises:
        ValueError: They are cut off, or of something else, or unpack to more than `most`.
    """
    opener = zlib.decompressobj()
    try:
        text = opener.decompress(body, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not opener.eof:
        raise ValueError(f"{len(body)} bytes are cut off, or unpack to over {most}")
    return text


def unpacked(body: bytes) -> Any:  # noqa: ANN401 - plain data
    """Return plain data from its bytes.

    Raises:
        ValueError: They are cut off, or of something else, or unpack to more than `MOST`.
    """
    return json.loads(opened(body, MOST))
