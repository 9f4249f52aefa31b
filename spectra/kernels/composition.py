"""How much of what one head writes another reads: norms of products of thin factors.

A writer's OV^T = V^T O is P T with orthonormal columns P, and a reader's map M (its Q^T K, K^T Q or
V^T O) is N^T P' likewise, so that ||V^T O M||_F = ||T N^T||_F, a product of heads' lines alone. The
rows of T and N are orthogonal, the longest first: singular directions times their singular values.

Where all pairs would take too long, most rows are summed up by random ones: of N the leading rows
stay, the others become a few sums of them with Gaussian weights, and the same of T. The squared
norm of the small product is then right on average, whatever the factors are, and by how much it
scatters is told by its own rows and columns.

Source:
    Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Merullo et al. 2024,
    arXiv:2406.09519 (Talking Heads); Drineas et al. 2006 (random products).
"""

import torch
from jaxtyping import Float
from torch import Tensor

LEADING = 8  # rows that stay as they are
DRAWN = 8  # sums of the others


def sorted_lines(
    root: Float[Tensor, "heads inner size"],
    gram: Float[Tensor, "heads size size"],
    lines: Float[Tensor, "heads size width"],
) -> tuple[Float[Tensor, "heads inner"], Float[Tensor, "heads inner width"]]:
    """Return the singular values of every root @ lines, and its rows turned to be orthogonal.

    Args:
        root: A with A^T A the Gram matrix of the other factor's lines.
        gram: Inner products of these lines, float64.
        lines: In float32.

    Returns:
        Descending, in float64; and rows of these lengths, the longest first, in float32.
    """
    squares, turn = torch.linalg.eigh(root @ gram @ root.mT)
    turned = turn.flip(2).mT @ root
    sigma = squares.flip(1).clamp(min=0.0).sqrt()
    return sigma, turned.to(lines.dtype) @ lines


def weights_of(rows: int, seed: int) -> Float[Tensor, "few rows"]:
    """Return what sums rows up: the leading ones as they are, and random sums of the others.

    Args:
        rows: That there are.
        seed: Of the sums; writers and readers need different ones.
    """
    if rows <= LEADING + DRAWN:
        return torch.eye(rows)
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(DRAWN, rows - LEADING, generator=source) / DRAWN**0.5
    found: Tensor = torch.block_diag(torch.eye(LEADING), drawn)
    return found


def energies(
    writer: Float[Tensor, "writers few width"], reader: Float[Tensor, "readers some width"]
) -> Float[Tensor, "writers few readers some"]:
    """Return the squared entries of all products T N^T, in float32."""
    few, some = writer.shape[1], reader.shape[1]
    product = writer.flatten(0, 1) @ reader.flatten(0, 1).mT
    found: Tensor = product.square_().unflatten(1, (-1, some)).unflatten(0, (-1, few))
    return found


def with_error(
    squares: Float[Tensor, "writers few readers some"], drawn: tuple[bool, bool]
) -> tuple[Float[Tensor, "writers readers"], Float[Tensor, "writers readers"]]:
    """Return ||T N^T||_F^2 of every pair, and its standard error as its own sums tell it.

    Each of DRAWN sums is an estimate of its own, of which the mean is taken; so the scatter among
    them tells that of the mean, for the sums on either side.

    Args:
        squares: Of `energies`.
        drawn: Whether the writers' rows, and the readers', were summed up.
    """
    total = squares.sum(dim=(1, 3), dtype=torch.float64)
    spread = torch.zeros_like(total)
    for side, summed in enumerate(drawn):
        if summed:
            other = squares.sum(dim=3 if side == 0 else 1)
            along = 1 if side == 0 else 2
            each = other.narrow(along, LEADING, DRAWN).double() * DRAWN
            spread += each.var(dim=along) / DRAWN
    return total, spread.sqrt()
