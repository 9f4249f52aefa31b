"""Tensors to named 2-D matrices with roles; pairing; selection."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spectra.matrices.pairing import match_names
from spectra.matrices.place import Place
from spectra.matrices.role import Role
from spectra.matrices.selection import Selection
from spectra.matrices.view import Matrix, View, views_of
from spectra.words import ROLES

if TYPE_CHECKING:
    from spectra.matrices.pair import LowRank, Pair

__all__ = [
    "ROLES",
    "LowRank",
    "Matrix",
    "Pair",
    "Place",
    "Role",
    "Selection",
    "View",
    "match_names",
    "views_of",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Load what holds values, and torch with it, when it is asked for."""
    if name in {"LowRank", "Pair"}:
        return getattr(import_module("spectra.matrices.pair"), name)
    raise AttributeError(f"module 'spectra.matrices' has no attribute {name!r}")
