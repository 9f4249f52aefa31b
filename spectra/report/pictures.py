"""Pictures in files: kept by all that they were drawn from, so that none is drawn twice."""

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spectra.distribution import version
from spectra.report.kind import Document, drawer_named
from spectra.work.packed import UNSOUND, opened, packed
from spectra.work.result import Result
from spectra.work.store import PICTURE, Store
from spectra.writing.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST: Final = 4 << 20  # bytes of a file that is kept
OURS: Final = "spectra.report.plots."  # of what another package draws nothing tells its code
DRAWS: Final = "matplotlib"
_HOME = Path(__file__).parent.parent


def require_picture(command: str, *, kept: bool) -> None:
    """Refuse before the work what cannot be drawn after it.

    Args:
        command: Whose results are drawn.
        kept: Whether what is measured is kept: then a broken matplotlib loses nothing, and it is
            loaded once something is drawn.

    Raises:
        UsageError: There is no picture of this command's results.
        SpectraError: The package that draws them is broken.
    """
    known = kept and drawer_named(command).startswith(OURS)
    if not known or find_spec(DRAWS) is None:
        from spectra.report.plots import drawer_of  # noqa: PLC0415 - matplotlib is slow to load

        drawer_of(command)


def write_pictures(result: Result, paths: Sequence[Path]) -> Sequence[str]:
    """Draw a result into files, all or nothing each, the same bytes from run to run.

    Args:
        result: It is drawn once, and not at all where the store may be asked and knows it.
        paths: Their suffixes are pictures'.

    Returns:
        What went wrong with the store beside that it cannot be written, which whoever measured
        has told.

    Raises:
        UsageError: There is no picture of it.
        OutputError: A file cannot be written.
    """
    document = result.document()
    figure: Figure | None = None
    key = _key(result, document) if result.cached else None
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store())) if key else None
        for path in paths:
            suffix = path.suffix.lower()
            about = f"{key}{suffix}".encode()
            body = _known(store, about) if store else None
            if body is None:
                from spectra.report.plots import bytes_of, draw  # noqa: PLC0415 - slow to load

                figure = figure or draw(document, result.arrays)
                body = bytes_of(figure, suffix)
                if store and len(body) <= LARGEST:
                    store.base.put(PICTURE, about, packed(body))
            write_atomically(path, partial(Path.write_bytes, data=body))
        if store is None:
            return ()
        return store.troubles if store.base.writes else store.troubles[:-1]


def _known(store: Store, about: bytes) -> bytes | None:
    body = store.base.get(PICTURE, about)
    try:
        return None if body is None else opened(body, LARGEST)
    except UNSOUND:  # of a version that keeps others
        store.base.drop(PICTURE, about)
        return None


def _key(result: Result, document: Document) -> str | None:
    """Return what tells a picture for ever: all that it is drawn from, and what draws it."""
    try:
        draws = version_of(DRAWS)
    except PackageNotFoundError:
        return None
    if not drawer_named(result.command).startswith(OURS):
        return None
    told = {key: one for key, one in document.items() if key != "date"}  # which none shows
    found = sha256(json.dumps([_code(), draws, told]).encode())
    for row in result.rows:
        found.update(json.dumps(row.plain()["arrays"]).encode())
    return found.hexdigest()


@cache
def _code() -> str:
    """Return the digest of this package's code, all of it: a picture's numbers come of much."""
    found = sha256(version().encode())
    for path in sorted(_HOME.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
