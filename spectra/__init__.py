"""Questions about a neural network, answered from its weights alone.

import spectra
result = spectra.diff("base/", "tuned/", intruders=True)
result.frame, result.summary, result.plot("intruders.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra.api import Result, diff, kappa, ls, open, select, spectrum  # noqa: A004

__all__ = ["Result", "diff", "kappa", "ls", "open", "select", "spectrum"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load torch only when something is asked of it: `spectra --help` must be quick."""
    if name in __all__:
        return getattr(import_module("spectra.api"), name)
    raise AttributeError(f"module 'spectra' has no attribute {name!r}")
