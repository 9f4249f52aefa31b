"""Heads of attention from their thin factors: no matrix of the stream's width squared is formed.

A head has lines: `size` rows of its queries Q and keys K, and of its values V and what each of them
writes, O. Its two maps are QK = Q^T K and OV = O^T V, both of rank `size` at most. Singular values
come from the small Gram matrices of both factors, in float64: with Q Q^T = A^T A and K K^T = B^T B
those of Q^T K are those of A B^T. They are exact to about 1e-8 of the product of both factors'
largest ones.
"""

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError

CHUNK = 1 << 22  # entries that are taken at once
WIDE = 1 << 18  # and widened, always in the same memory: fresh pages cost more
APART = 1e-6  # of the largest singular value: what lies closer is one value with two vectors
FLOOR = 1e-7  # of the product of both factors' largest values: below lies rounding


def grams(lines: Float[Tensor, "heads size width"]) -> Float[Tensor, "heads size size"]:
    """Return the inner products of every head's lines, in float64.

    Raises:
        NonFiniteError: They hold NaN or Inf.
    """
    gram = cross_grams(lines, lines)
    if not bool(gram.isfinite().all()):
        raise NonFiniteError("queries, keys, values or what they write hold NaN or Inf")
    return gram


def cross_grams(
    left: Float[Tensor, "heads size width"], right: Float[Tensor, "heads size width"]
) -> Float[Tensor, "heads size size"]:
    """Return the inner products of every head's lines with others, in float64."""
    heads, size, width = left.shape
    many = max(1, min(WIDE // max(size * width, 1), heads))
    found = left.new_empty((heads, size, size), dtype=torch.float64)
    wide = left.new_empty((1 if right is left else 2, many, size, width), dtype=torch.float64)
    for start in range(0, heads, many):
        some = slice(start, min(start + many, heads))
        one = wide[0, : some.stop - start].copy_(left[some])
        other = one if right is left else wide[1, : some.stop - start].copy_(right[some])
        torch.bmm(one, other.mT, out=found[some])
    return found


def roots(gram: Float[Tensor, "heads size size"]) -> Float[Tensor, "heads size size"]:
    """Return A with A^T A = gram, for each; its rows are orthogonal, the longest last."""
    values, vectors = torch.linalg.eigh(gram)
    found: Tensor = values.clamp(min=0.0).sqrt()[..., None] * vectors.mT
    return found


def power_of_two(size: Float[Tensor, " heads"]) -> Float[Tensor, " heads"]:
    """Return the power of two next above each size, 1 for 0: dividing by it never rounds."""
    found: Tensor = torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent)
    return found


def _near_one(
    lines: Float[Tensor, "heads size width"],
) -> tuple[Float[Tensor, "heads size width"], Float[Tensor, " heads"]]:
    """Return every head's lines with entries up to 1, in float32, and what was divided out.

    Products of several of the entries as they are need not be numbers of float32.
    """
    least = torch.finfo(lines.dtype).tiny
    scale = power_of_two(lines.abs().amax(dim=(1, 2)).clamp(min=least))
    return (lines / scale[:, None, None]).float(), scale.double()


def root_norms(root: Float[Tensor, "heads size size"]) -> Float[Tensor, " heads"]:
    """Return the largest singular value of every one of `roots`."""
    found: Tensor = torch.linalg.vector_norm(root[:, -1], dim=1)
    return found


def values_of(
    left: Float[Tensor, "heads size size"], right: Float[Tensor, "heads size size"]
) -> Float[Tensor, "heads size"]:
    """Return the singular values of products of two factors, from their roots; descending."""
    found: Tensor = torch.linalg.svdvals(left @ right.mT)
    return found


def tied(
    sigma: Float[Tensor, "heads size"], floor: Float[Tensor, " heads"]
) -> Int[Tensor, " heads"]:
    """Count singular values that coincide with a neighbour, whose vectors are not determined.

    Args:
        sigma: Descending.
        floor: What is no larger is rounding, and does not count.
    """
    close = (sigma[:, :-1] - sigma[:, 1:] <= APART * sigma[:, :1]) & (sigma[:, 1:] > floor[:, None])
    both = torch.zeros_like(sigma, dtype=torch.bool)
    both[:, :-1] |= close
    both[:, 1:] |= close
    return both.sum(dim=1)


def copying(
    values: Float[Tensor, "heads size width"], written: Float[Tensor, "heads size width"]
) -> Float[Tensor, " heads"]:
    """Return the sum of the eigenvalues of O^T V over the sum of their sizes; NaN where all are 0.

    The eigenvalues that are not 0 are those of the small V O^T.

    Source:
        Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
    """
    cores = cross_grams(values, written)
    found = torch.linalg.eigvals(cores)
    size = torch.linalg.vector_norm(cores, dim=(1, 2)) * cores.shape[1] ** 0.5
    total = found.abs().sum(dim=1)
    known = total > APART * size  # of a nilpotent core rounding alone makes eigenvalues
    return torch.where(known, found.real.sum(dim=1) / total, torch.nan)


def inner_products(
    values: Float[Tensor, "keys lines width"],
    written: Float[Tensor, "heads lines out"],
    keys: Int[Tensor, " heads"],
) -> Float[Tensor, "heads heads"]:
    """Return the inner products of all O_i^T V_i as vectors, by traces of small products.

    Args:
        values: Of the heads of keys and values.
        written: Of the heads of queries.
        keys: The head of keys and values of each of these, ascending.
    """
    heads, size = written.shape[:2]
    values, of_key = _near_one(values)
    written, scale = _near_one(written)
    scale = scale * of_key[keys]
    flat, wide = written.flatten(0, 1), values.flatten(0, 1)
    found = written.new_zeros((heads, heads), dtype=torch.float64)
    last, of_values = -1, wide
    for head, key in enumerate(keys.tolist()):
        if key != last:
            of_values = (values[key] @ wide[key * size :].mT).unflatten(1, (-1, size))
            last = key
        of_written = (written[head] @ flat[head * size :].mT).unflatten(1, (-1, size))
        found[head, head:] = (of_written * of_values[:, keys[head:] - key]).sum(dim=(0, 2))
    return (found + found.triu(1).mT) * scale[:, None] * scale


def unturned(
    queries: Float[Tensor, "heads size size"],
    keys: Float[Tensor, "heads size size"],
    turning: slice,
    *,
    halves: bool,
) -> Float[Tensor, " heads"]:
    """Return the Frobenius norm of what no rotation changes of Q^T K.

    A rotation R turns the plane of two lines: Q_p^T R K_p. The Gram matrix of two lines is a
    multiple of the identity, which commutes with every rotation, and a rest without trace. Of
    ||Q_p^T R K_p||^2 the former give ||Q_p||^2 ||K_p||^2 / 2 whatever R is; what the rests give is
    0 in the mean over angles. So it is also the root mean square of ||Q^T K||_F over all angles.

    Args:
        queries: Gram matrices.
        keys: Likewise.
        turning: The lines that rotate.
        halves: Line i rotates with the one half of them further on, not with its neighbour.
    """
    size = queries.shape[1]
    fixed = torch.ones(size, dtype=torch.bool, device=queries.device)
    fixed[turning] = False
    rest = queries[:, fixed][:, :, fixed] * keys[:, fixed][:, :, fixed]

    def planes(gram: Tensor) -> Tensor:
        lines = gram.diagonal(dim1=1, dim2=2)[:, turning]
        shape = (2, lines.shape[1] // 2) if halves else (lines.shape[1] // 2, 2)
        sums: Tensor = lines.unflatten(1, shape).sum(dim=1 if halves else 2)
        return sums

    turned = (planes(queries) * planes(keys)).sum(dim=1) / 2.0
    return (rest.sum(dim=(1, 2)) + turned).clamp(min=0.0).sqrt()


def strongest(
    left: Float[Tensor, "heads size width"],
    right: Float[Tensor, "heads size across"],
    grams_of: tuple[Float[Tensor, "heads size size"], Float[Tensor, "heads size size"]],
) -> tuple[Float[Tensor, "heads width"], Float[Tensor, "heads across"], Float[Tensor, "heads two"]]:
    """Return u and v of the largest singular value of every left^T right, and two of these.

    With left left^T = A^T A, right right^T = B^T B and A B^T = X S Y^T, they are left^T B^T y / s
    and right^T A^T x / s: no factor is inverted. Both have a sign in common: left^T right v = s u.
    Of a head without any, both are 0.

    Args:
        left: Lines of every head.
        right: Likewise, as many.
        grams_of: Their inner products, in float64.
    """
    a, b = (roots(gram) for gram in grams_of)
    x, sigma, y = torch.linalg.svd(a @ b.mT)
    first = sigma[:, :1].clamp(min=torch.finfo(torch.float64).tiny)
    of_left = (b.mT @ y[:, 0, :, None])[..., 0] / first
    of_right = (a.mT @ x[:, :, :1])[..., 0] / first
    u = torch.stack([rows.double().mT @ one for rows, one in zip(left, of_left, strict=True)])
    v = torch.stack([rows.double().mT @ one for rows, one in zip(right, of_right, strict=True)])
    return u, v, torch.nn.functional.pad(sigma, (0, 1))[:, :2]
