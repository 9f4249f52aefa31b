"""Matrices that are stored as two factors: what storing rounded off, and what is said of them."""

from collections.abc import Sequence
from statistics import median

from spectra.analyzers.row import Row
from spectra.checkpoint.codecs import composed
from spectra.checkpoint.entry import ROUNDOFF
from spectra.kernels.cores import core_cost
from spectra.kernels.entries import entry_norm
from spectra.kernels.noise import mean_rounding_floor
from spectra.kernels.singular import singular_values
from spectra.kernels.work import DOUBLE, Work
from spectra.matrices import View
from spectra.matrices.apart import LOW_RANK, SPARSE
from spectra.matrices.pair import Product
from spectra.matrices.view import inner_of
from spectra.numbers import percent
from spectra.text import counted


def product_floor(product: Product) -> float:
    """Return about the most that storing two factors moved a singular value of their product by.

    What was rounded off either, times the other's largest singular value.
    """
    codec = product.view.entry.codec
    dtypes = ["F32", "F32"]
    if isinstance(codec, composed.Product):
        dtypes = [codec.left.dtype, codec.right.dtype][:: -1 if codec.turned else 1]
    sides = product.factors.left, product.factors.right
    lost = []
    for side, dtype in zip(sides, dtypes, strict=True):
        rows, cols = side.shape
        roundoff = ROUNDOFF.get(dtype, ROUNDOFF["F32"])
        lost.append(mean_rounding_floor(entry_norm(side), rows, cols, roundoff))
    left, right = (float(singular_values(side)[0]) for side in sides)
    return lost[0] * right + lost[1] * left


def product_work(view: View) -> Work | None:
    """Return what the singular values of a product take; None where no factors are stored."""
    inner = inner_of(view.entry)
    return None if inner is None else Work(products=core_cost(view.rows, inner, view.cols) * DOUBLE)


def product_memory(view: View) -> int | None:
    """Return the bytes that these take, both factors in float64; None where there are none."""
    inner = inner_of(view.entry)
    return None if inner is None else 24 * inner * (view.rows + view.cols) + 100 * inner**2


def sums_told(rows: Sequence[Row]) -> list[str]:
    """Say of sums of a low-rank and a sparse part how much of their energy either has."""
    parts = {row.place.part.rpartition(",")[2]: row for row in rows}
    if not {LOW_RANK, SPARSE} <= parts.keys():
        return []
    energies = {row.matrix: float(row.arrays["sigma"].square().sum())
                for row in rows if "sigma" in row.arrays}  # fmt: skip
    shares: dict[str, list[float]] = {LOW_RANK: [], SPARSE: []}
    for row in rows:
        kind = row.place.part.rpartition(",")[2]
        whole = energies.get(_whole(row.matrix, kind), 0.0)
        if kind in shares and whole and row.matrix in energies:
            shares[kind].append(energies[row.matrix] / whole)
    if not all(shares.values()):
        return []
    are = counted(len(shares[SPARSE]), "matrix is", "matrices are")
    low, sparse = (percent(median(shares[kind])) for kind in (LOW_RANK, SPARSE))
    told = f"{are} low-rank plus sparse: in the median one the low-rank part has {low} of the sum's"
    return [f"{told} energy, the sparse part {sparse}."]


def _whole(matrix: str, kind: str) -> str:
    """Return the name of what a piece is a part of."""
    return matrix.replace(f"[{kind}]", "").replace(f",{kind}]", "]")


def products_told(rows: Sequence[Row]) -> list[str]:
    """Say of matrices that are products that their smallest singular values are no property."""
    bounds = [bound for row in rows if isinstance(bound := row.values.get("rank_bound"), int)]
    if not bounds:
        return []
    low, high = min(bounds), max(bounds)
    ranks = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    are = counted(len(bounds), "matrix is a product", "matrices are products")
    told = f"{are} of two stored factors, of rank {ranks} by construction: sigma_min and kappa are"
    return [f"{told} over as many singular values, as the others are 0."]
