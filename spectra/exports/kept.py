"""What the installed transformers said of a checkpoint, kept as conclusions are: asked once."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from spectra.architectures.renaming import Landing
from spectra.architectures.table import Layer
from spectra.checkpoint import Checkpoint
from spectra.distribution import version
from spectra.exports.memory import Memory, memory_of
from spectra.work.packed import UNSOUND, packed, unpacked
from spectra.work.store import CONCLUSION, Store

ASKED: Final = "transformers", "torch"  # what builds a model
ROOMS: Final = "exports", "architectures"  # whose code and table make names of what they tell
_HOME: Final = Path(__file__).parent.parent


def remembered(checkpoint: Checkpoint) -> tuple[Memory, Sequence[str]]:
    """Return what a checkpoint's tensors become, from the store where that knows.

    Only what transformers told of a model that it built is kept: all else is quickly found.

    Returns:
        What `memory_of` does, and what went wrong with the store beside that it cannot be
        written, which whoever measured has told.

    Raises:
        UsageError: As `memory_of` does.
    """
    key = _key(checkpoint)
    if key is None:
        return memory_of(checkpoint), ()
    with closing(Store()) as store:
        found = _known(store, key)
        if found is None:
            found = memory_of(checkpoint)
            if found.exact and _opened(body := _closed(found)) == found:
                store.base.put(CONCLUSION, key, body)
        return found, store.troubles if store.base.writes else store.troubles[:-1]


def _known(store: Store, key: bytes) -> Memory | None:
    body = store.base.get(CONCLUSION, key)
    try:
        return None if body is None else _opened(body)
    except UNSOUND:  # of a version with others
        store.base.drop(CONCLUSION, key)
        return None


def _key(checkpoint: Checkpoint) -> bytes | None:
    """Return what tells an answer for ever; None where nothing tells one library from the next.

    What is installed beside it counts too, by name and version: some models take theirs from it.
    """
    records = [_record(one) for one in ASKED]
    if None in records:
        return None
    beside = {path.name for one in sys.path for path in Path(one).glob("*.*-info")}
    entries = [(name, entry.shape) for name, entry in checkpoint.entries.items()]
    gguf = any(entry.shard.endswith(".gguf") for entry in checkpoint.entries.values())
    told = repr((_code(), records, sorted(beside), entries, gguf, checkpoint.config))
    return sha256(told.encode()).hexdigest().encode()


def _record(library: str) -> str | None:
    """Return the digest of all files that an installed library has; None where nothing lists them.

    So it is of one that lies where it is worked on, whose version says nothing of its code.
    """
    try:
        found = find_spec(library)
    except ValueError:  # it was loaded by somebody's own means
        return None
    if found is None or not found.origin:
        return None
    lists = [*Path(found.origin).parent.parent.glob(f"{library}-*.dist-info/RECORD")]
    return sha256(lists[0].read_bytes()).hexdigest() if len(lists) == 1 else None


def _code() -> str:
    found = sha256(version().encode())
    for room in ROOMS:
        for path in sorted((_HOME / room).glob("*.*")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _closed(found: Memory) -> bytes:
    return packed(json.dumps(asdict(found), separators=(",", ":")).encode())


def _opened(body: bytes) -> Memory:
    told = unpacked(body)
    told["landings"] = {
        name: tuple(Landing(**_tuples(one)) for one in own)
        for name, own in told["landings"].items()
    }
    told["layers"] = {name: Layer(*own) for name, own in told["layers"].items()}
    return Memory(**(told | {key: _tuples(told[key]) for key in ("shapes", "tied")}))


def _tuples(read: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(own) if isinstance(own, list) else own for key, own in read.items()}
