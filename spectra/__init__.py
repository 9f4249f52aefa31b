"""Questions about a neural network, answered from its weights alone.

import spectra
result = spectra.diff("base/", "tuned/", intruders=True)
result.frame, result.summary, result.plot("intruders.png")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra.api import Result, diff, kappa, ls, open, select, spectrum  # noqa: A004
    from spectra.engine import Resources

__all__ = ["Resources", "Result", "diff", "kappa", "ls", "open", "select", "spectrum"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load torch only when something is asked of it: `spectra --help` must be quick."""
    if name == "__version__":
        return version("spectra-weights")
    if name == "Resources":
        return import_module("spectra.engine").Resources
    if name in __all__:
        return getattr(import_module("spectra.api"), name)
    raise AttributeError(f"module 'spectra' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is public before it is loaded."""
    return [*__all__, "__version__"]
