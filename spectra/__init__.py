"""Questions about a neural network, answered from its weights alone.

import spectra
result = spectra.diff("base/", "tuned/", intruders=True)
result.frame, result.summary, result.plot("intruders.png")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra.api import check, diff, kappa, spectrum, trend, width
    from spectra.runs.listing import Result, ls, open, select  # noqa: A004
    from spectra.work.local import Resources

_HOME = {
    "Resources": "spectra.work.local",
    "Result": "spectra.runs.listing",
    "check": "spectra.api",
    "diff": "spectra.api",
    "kappa": "spectra.api",
    "ls": "spectra.runs.listing",
    "open": "spectra.runs.listing",
    "select": "spectra.runs.listing",
    "spectrum": "spectra.api",
    "trend": "spectra.api",
    "width": "spectra.api",
}

__all__ = [
    "Resources",
    "Result",
    "check",
    "diff",
    "kappa",
    "ls",
    "open",
    "select",
    "spectrum",
    "trend",
    "width",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load torch only when something is computed: `spectra --help` and `ls` must be quick."""
    if name == "__version__":
        return version("spectra-weights")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'spectra' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is public before it is loaded."""
    return [*__all__, "__version__"]
