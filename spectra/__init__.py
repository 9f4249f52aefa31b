"""Questions about a neural network, answered from its weights alone.

import spectra
result = spectra.diff("base/", "tuned/", intruders=True)
result.frame, result.summary, result.plot("intruders.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra import lowrank
    from spectra.api import check, diff, heads, kappa, match, shared, spectrum, trend, width
    from spectra.errors import SpectraError
    from spectra.matrices import Selection
    from spectra.portrait import report
    from spectra.runs.compare import compare
    from spectra.runs.ls import ls
    from spectra.runs.opening import open  # noqa: A004
    from spectra.runs.planned import Planned, measure
    from spectra.runs.result import Result
    from spectra.runs.saved import load

_HOMES = {
    "spectra.api": (
        "check",
        "diff",
        "heads",
        "kappa",
        "match",
        "shared",
        "spectrum",
        "trend",
        "width",
    ),
    "spectra.errors": ("SpectraError",),
    "spectra.matrices": ("Selection",),
    "spectra.runs.compare": ("compare",),
    "spectra.runs.ls": ("ls",),
    "spectra.runs.opening": ("open",),
    "spectra.runs.planned": ("Planned", "measure"),
    "spectra.runs.result": ("Result",),
    "spectra.runs.saved": ("load",),
}
ROOMS = ("lowrank", "report")
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Planned", "Result", "Selection", "SpectraError", "check", "compare", "diff", "heads", "kappa",
    "load", "lowrank", "ls", "match", "measure", "open", "report", "shared", "spectrum", "trend",
    "width",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load torch only when something is computed: `spectra --help` and `ls` must be quick."""
    if name == "__version__":
        from spectra.distribution import version  # noqa: PLC0415 - few ask

        return version()
    if name in ROOMS:  # one of them is called, the other's functions are
        return import_module(f"spectra.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'spectra' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is public before it is loaded."""
    return [*__all__, "__version__"]
