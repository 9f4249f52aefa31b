"""Tensors to named 2-D matrices with roles; pairing; selection."""

from spectra.matrices.pair import LowRank, Pair
from spectra.matrices.pairing import match_names
from spectra.matrices.role import ROLES, Role
from spectra.matrices.selection import Selection
from spectra.matrices.view import Matrix, View, natural, views_of

__all__ = [
    "ROLES",
    "LowRank",
    "Matrix",
    "Pair",
    "Role",
    "Selection",
    "View",
    "match_names",
    "natural",
    "views_of",
]
