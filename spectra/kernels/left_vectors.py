"""Left singular vectors in float64: all, the leading ones, or what vectors have of each.

A full SVD spends most of its time on singular vectors. To know how much a few vectors y have
in common with every one, U^T y is enough: W is reduced to a bidiagonal matrix by reflections,
W = Q B P^T, B to its singular values by rotations, and y is carried along by both.

The leading ones come from Gram matrices. Eigenvectors of W W^T lose those of small singular
values: below the root of rounding, relative to sigma_1, they are mixed among each other. So those
above come first, and are taken out of W; what is left is looked at again.

A matrix as long as a vocabulary is reduced to its triangular factor a panel at a time, vectors of
its long side with it, and never copied.

All are exact for a matrix that differs from W by some roundings of sigma_1, as of any SVD.

Source:
    Golub and Van Loan 2013, Matrix Computations, sections 5.4.8 and 8.6; Chan 1982, An improved
    algorithm for computing the SVD (QR first).
"""

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.lapack import bidiagonal_components, leading_eigenpairs
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.triangle import triangle_beside
from spectra.kernels.work import is_long

RESOLVED = 1e-7  # of the largest eigenvalue: what is below is looked at again, alone


def left_singular(
    matrix: Float[Tensor, "rows cols"],
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, " rank"]]:
    """Return the left singular vectors and values of a float64 LAPACK SVD.

    A matrix that is not square is first reduced to its triangular factor. A wide one
    shares left singular vectors with it, so that the right ones are never formed; those
    of a tall one are turned back by the reflectors, which takes less memory than LAPACK.

    Orthonormal columns and descending values, both float64; `rank = min(rows, cols)`.
    """
    largest_entry(matrix)
    rows, cols = matrix.shape
    if cols >= rows:
        # The transpose of a row-major matrix is LAPACK's own order: no further copy.
        wide = cols > rows
        square = torch.linalg.qr(matrix.double().mT, mode="r").R.mT if wide else matrix.double()
        left, values, _ = torch.linalg.svd(square)
        return left, values
    reflectors, scales = torch.geqrf(matrix.double())
    turned, values, _ = torch.linalg.svd(reflectors[:cols].triu())
    padded = torch.zeros_like(reflectors)
    padded[:cols] = turned
    return torch.ormqr(reflectors, scales, padded), values


def left_components(
    matrix: Float[Tensor, "rows cols"], vectors: Float[Tensor, "rows k"]
) -> tuple[Float[Tensor, "rank k"], Float[Tensor, " rank"]]:
    """Return U^T y of several vectors y, and the singular values of W = U S V^T.

    All float64, the results on the CPU, where LAPACK is.
    """
    found, _, sigma = components(matrix, vectors, vectors.new_zeros(matrix.shape[1], 0))
    return found, sigma


def components(
    matrix: Float[Tensor, "rows cols"],
    left: Float[Tensor, "rows k"],
    right: Float[Tensor, "cols j"],
) -> tuple[Float[Tensor, "rank k"], Float[Tensor, "rank j"], Float[Tensor, " rank"]]:
    """Return U^T y of left vectors, V^T y of right ones, and the values of W = U S V^T.

    One reduction to a bidiagonal matrix serves both. All float64, the results on the CPU.
    """
    square, outer, inner, scale = _reduced(matrix, left, right)
    lines, others = (
        part.mT.clone(memory_format=torch.contiguous_format) for part in (outer, inner)
    )
    sigma = bidiagonal_components(square.contiguous(), lines, others)
    if sigma is None:
        square, outer, inner, scale = _reduced(matrix, left, right)  # its memory was written to
        basis, sigma = left_singular(square)
        found = basis.mT @ outer
        other = left_singular(square.mT)[0].mT @ inner if inner.shape[1] else others.mT
        return found, other, sigma * scale
    return lines.mT, others.mT, sigma * scale


def _reduced(
    matrix: Tensor, left: Tensor, right: Tensor
) -> tuple[Float[Tensor, "rank rank"], Float[Tensor, "rank k"], Float[Tensor, "rank j"], float]:
    """Return a square matrix with the values of W over a scale, and what vectors are beside it."""
    rows, cols = matrix.shape
    outer, inner = left.cpu(), right.cpu()
    if is_long(rows, cols):
        of = linear_map(matrix, stored=True)
        of, along = (of, left) if rows > cols else (of.mT, right)
        square, carried = (part.cpu() for part in triangle_beside(of, along))
        _refuse_overflow(square)
        found = (square, carried, inner) if rows > cols else (square.mT, outer, carried)
        return *found, of.scale
    wide, scale = _scaled(matrix)
    if rows < cols and not inner.shape[1]:
        # A triangular factor of the transpose has the same left singular vectors.
        wide = torch.linalg.qr(wide.mT, mode="r").R.mT
        inner = inner[:rows]
    elif rows < cols:
        reflectors, factors = torch.geqrf(wide.mT)
        inner = torch.ormqr(reflectors, factors, inner, transpose=True)[:rows]
        wide = reflectors[:rows].triu().mT
    elif rows > cols:
        reflectors, factors = torch.geqrf(wide)
        outer = torch.ormqr(reflectors, factors, outer, transpose=True)[:cols]
        wide = reflectors[:cols].triu()
    _refuse_overflow(wide)
    return wide, outer, inner, scale


def leading_of_long(
    of: LinearMap, count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, " count"]]:
    """Return what `leading_by_gram` does, through a triangular factor: no copy is made of W."""
    tall = of.shape[0] > of.shape[1]
    long = of if tall else of.mT
    square, _ = triangle_beside(long, torch.zeros(long.shape[0], 0, device=of.device))
    _refuse_overflow(square)
    vectors, values = leading_by_gram(square.mT, count)  # right ones of R
    if tall:
        image, _ = of.products(vectors.to(of.device), vectors.new_zeros(of.shape[0], 0))
        # Column by column: what is left of small ones is not to be what large ones lack.
        vectors = torch.linalg.qr(image).Q.cpu()
    return vectors, values * of.scale


def leading_by_gram(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, " count"]]:
    """Return leading left singular vectors and values, at most all, float64, on the CPU."""
    rest, scale = _scaled(matrix)
    tall = matrix.shape[0] > matrix.shape[1]
    vectors, values = rest.new_zeros(len(rest), 0), rest.new_zeros(0)
    while True:
        gram = rest.mT @ rest if tall else rest @ rest.mT
        _refuse_overflow(gram)
        wanted = count - len(values)
        pairs = leading_eigenpairs(gram.clone(), wanted)
        squares, found = pairs or (part.flip(-1) for part in torch.linalg.eigh(gram))
        squares, found = squares[:wanted], found[:, :wanted]
        clear = max(int((squares > RESOLVED * squares[0]).sum()), 1)
        if not float(squares[0]) > 0.0:
            clear = len(squares)  # nothing is left: any vectors serve
        found = rest @ found[:, :clear] if tall else found[:, :clear]
        # Those of larger values are not to be found again.
        found = torch.linalg.qr(torch.cat([vectors, found], dim=1)).Q[:, len(values) :]
        vectors = torch.cat([vectors, found], dim=1)
        seen = found.mT @ rest
        sizes = torch.linalg.vector_norm(seen, dim=1)
        values = torch.cat([values, sizes])
        if len(values) >= count:
            return vectors, values * scale
        rest = rest - found @ seen
        known = seen / sizes.clamp(min=1e-300)[:, None]
        rest = rest - (rest @ known.mT) @ known


def _scaled(matrix: Tensor) -> tuple[Tensor, float]:
    """Return the matrix over a power of two near its largest entry, and that."""
    scale = power_of_two_near(largest_entry(matrix)) or 1.0
    return matrix.cpu().to(torch.float64, copy=True).div_(scale), scale


def _refuse_overflow(products: Tensor) -> None:
    if not bool(products.isfinite().all()):
        raise NonFiniteError("products of the entries overflow float64")
