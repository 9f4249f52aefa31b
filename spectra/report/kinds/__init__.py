"""One record a command: what is told of its results, and how.

A command of this package has a file here, found by its name; one from elsewhere an entry point of
the group `spectra.kinds`, whose name is the command's and whose value is a `Kind`.
"""

import importlib.util
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from spectra.errors import SpectraError
from spectra.report.kinds.kind import Document, Kind, RowDoc

GROUP = "spectra.kinds"

__all__ = ["Document", "Kind", "RowDoc", "kind_of", "kinds"]


@cache
def kind_of(command: str) -> Kind:
    """Return the record of a command; of one that is not known here, a plain one.

    Raises:
        SpectraError: The package that brings the command is broken.
    """
    found = _own(command)
    for entry in () if found else entry_points(group=GROUP, name=command):
        found = _loaded(entry)
    return found or Kind(command, command)


def kinds() -> Iterator[Kind]:
    """Yield the record of every command, those of other packages last."""
    own = [found for module in pkgutil.iter_modules(__path__) if (found := _own(module.name))]
    yield from own
    known = {kind.command for kind in own}
    for entry in entry_points(group=GROUP):
        if entry.name not in known:
            yield kind_of(entry.name)


def _own(command: str) -> Kind | None:
    """Return the record in this folder; a command may be any word that a file claims."""
    name = f"{__name__}.{command}"
    if not command.isidentifier() or importlib.util.find_spec(name) is None:
        return None
    found = getattr(importlib.import_module(name), "KIND", None)
    return found if isinstance(found, Kind) else None


def _loaded(entry: EntryPoint) -> Kind:
    """Return the record that another package brings."""
    try:
        found = entry.load()
    except Exception as error:
        raise SpectraError(
            f"The command {entry.name!r} of another package cannot be told of: {entry.value} "
            f"fails to load ({type(error).__name__}: {error}). Update or remove that package."
        ) from error
    if not isinstance(found, Kind):
        raise SpectraError(
            f"The command {entry.name!r} of another package cannot be told of: {entry.value} is "
            f"of type {type(found).__name__}, expected a spectra.report.kinds.Kind."
        )
    return found
