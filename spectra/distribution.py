"""What is installed: the distribution's name and version, and the addresses that it has.

Addresses stand once, in `[project.urls]` of pyproject.toml. Before the first release there are
none, and what would link to one names the page that ships instead.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from importlib.metadata import version as version_of
from typing import Final

NAME: Final = "spectra-weights"


@cache  # each result asks, and the metadata are a file that is parsed
def version() -> str:
    """Return the version that is installed, "unknown" where only the files are there."""
    try:
        return version_of(NAME)
    except PackageNotFoundError:
        return "unknown"


def address(label: str) -> str | None:
    """Return an address of `[project.urls]` without a slash at its end, None where it has none."""
    try:
        lines = metadata(NAME).get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    known = dict(line.split(", ", 1) for line in lines)
    return known[label].rstrip("/") if label in known else None


def documentation(page: str, anchor: str) -> str | None:
    """Return the address of a page of this version's documentation, None where it has none."""
    home = address("Documentation")
    return f"{home}/{version()}/{page}/#{anchor}" if home else None
