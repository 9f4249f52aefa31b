"""How much of what one head writes another reads: norms of products of thin factors.

A writer's OV^T = V^T O is P T with orthonormal columns P, and a reader's map M (its Q^T K, K^T Q or
V^T O) is N^T P' likewise, so that ||V^T O M||_F = ||T N^T||_F, a product of heads' lines alone.

That is also the inner product of two Gram matrices, ||T N^T||_F^2 = <T^T T, N^T N>. T N^T takes
width x rows^2 products, the inner product half of width^2 once these are made. They are made a few
columns at a time and never held. In float32 it is off by a part of the product of their norms,
which only what a head barely reads of another feels: there T N^T is taken.

Where all pairs would take too long, T and N are turned to singular directions times their singular
values, the longest first, and most rows are summed up by random ones: of N the leading rows stay,
the others become a few sums of them with Gaussian weights, and the same of T. The squared norm of
the small product is then right on average, whatever the factors are, and by how much it scatters is
told by its own rows and columns.

Source:
    Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Merullo et al. 2024,
    arXiv:2406.09519 (Talking Heads); Drineas et al. 2006 (random products).
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, groupby
from typing import NamedTuple

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.kernels.products import product

LEADING = 8  # rows that stay as they are
DRAWN = 8  # sums of the others
HELD = 12 << 20  # bytes of Gram matrices that are multiplied with others: they stay in a cache
NARROW = 16  # their columns at least
MOST = 1 << 30  # bytes that all threads' own may take, where one's do not
SHORT = 1 / 64  # of the product of two Gram matrices' norms: below, float32 has lost digits
ENTRIES = 1 << 22  # of lines that are taken at once


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


def frame_of(
    lines: Float[Tensor, "inner width"],
) -> tuple[Float[Tensor, " inner"], Float[Tensor, "inner inner"]]:
    """Return singular values of one head's lines T, descending, and U^T that turns T to S V^T."""
    wide = lines.double()
    squares, turn = torch.linalg.eigh(wide @ wide.mT)
    return squares.flip(0).clamp(min=0.0).sqrt(), turn.flip(1).mT


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


class HeadsLines(NamedTuple):
    """The lines of some heads, and how long all of each head's are together."""

    lines: Float[Tensor, "heads rows width"]  # float32
    length: Float[Tensor, " heads"]  # float64

    @property
    def _length(self) -> Float[Tensor, "heads one one"]:
        length: Tensor = torch.where(self.length > 0.0, self.length, 1.0).to(self.lines)
        return length[:, None, None]

    def gram(self, columns: slice, out: Float[Tensor, "heads some more"]) -> None:
        """Make these columns of every Gram matrix, of lines of length 1, from the diagonal on."""
        left = self.lines[:, :, columns] / self._length / self._length
        torch.bmm(left.mT, self.lines[:, :, columns.start :], out=out)

    def gram_norm(self) -> Float[Tensor, " heads"]:
        """Return the Frobenius norm of every one of these Gram matrices."""
        lines = self.lines / self._length
        norm: Tensor = torch.linalg.matrix_norm(lines @ lines.mT).double()
        return norm

    def some(self, heads: Int[Tensor, " some"]) -> Float[Tensor, "some rows width"]:
        """Return the lines of some heads, of length 1."""
        found: Tensor = self.lines[heads] / self._length[heads]
        return found


def gram_shares(
    writers: Sequence[HeadsLines],
    readers: Sequence[HeadsLines],
    reads: Sequence[range],
    threads: int = 1,
) -> list[Float[Tensor, "writing reading"]]:
    """Return ||T N^T||_F^2 / (||T||_F ||N||_F)^2 of all pairs of heads, by their Gram matrices.

    Their roots are off by less than 1.5e-6, relative to themselves, but for what float32 leaves of
    a product, 1e-7; measured of random, graded and trained heads: 3e-7.

    Args:
        writers: The lines T of modules, all of one width.
        readers: The lines N of sides of modules.
        reads: The places of the writers that each of these reads.
        threads: That work at once, each alone; fewer where they have no room.

    Returns:
        Of each reader, in float64: the heads of its writers, one after the other, by its own.
    """
    starts = [0, *accumulate(len(one.lines) for one in writers)]
    rows = [slice(starts[some.start], starts[some.stop]) for some in reads]
    width = writers[0].lines.shape[2]
    threads = _crew(width, starts[-1], threads)
    panels = [*_panels(width, starts[-1] * threads)]
    # A thread each for some of them: helpers of many short operations wait for each other, beside
    # other work twenty times as long as these take.
    with ThreadPoolExecutor(threads, initializer=_alone) as pool:
        shared = [panels[first::threads] for first in range(threads)]
        sums = pool.map(lambda own: _summed(writers, readers, rows, own), shared)
        found = pool.submit(_completed, writers, readers, reads, [*sums]).result()
    torch.set_num_threads(torch.get_num_threads())  # which is what new threads take
    return found


def _completed(
    writers: Sequence[HeadsLines],
    readers: Sequence[HeadsLines],
    reads: Sequence[range],
    sums: Sequence[Sequence[Tensor]],
) -> list[Float[Tensor, "writing reading"]]:
    """Return all inner products, of whom each has a part; those that are short by products."""
    found = [torch.stack(parts).sum(0) for parts in zip(*sums, strict=True)]
    starts = [0, *accumulate(len(one.lines) for one in writers)]
    norms = torch.cat([one.gram_norm() for one in writers])
    for shares, one, some in zip(found, readers, reads, strict=True):
        here = slice(starts[some.start], starts[some.stop])
        short = shares <= SHORT * norms[here, None] * one.gram_norm()
        first = 0
        for place in some:
            writer = writers[place]
            own = slice(first, first + len(writer.lines))
            shares[own][short[own]] = _by_products(writer, one, short[own].nonzero())
            first = own.stop
    return found


def _alone() -> None:
    torch.get_num_threads()  # at its first operation a thread takes what any thread set last
    torch.set_num_threads(1)


def _summed(
    writers: Sequence[HeadsLines],
    readers: Sequence[HeadsLines],
    rows: Sequence[slice],
    panels: Sequence[slice],
) -> list[Float[Tensor, "writing reading"]]:
    """Return what some columns of Gram matrices make of their inner products."""
    found = [
        torch.zeros(here.stop - here.start, len(one.lines), dtype=torch.float64)
        for one, here in zip(readers, rows, strict=True)
    ]
    alike = [list(group) for _, group in groupby(range(len(rows)), key=rows.__getitem__)]
    memory: dict[str, Tensor] = {}  # the same again and again: fresh pages cost more
    for columns in panels:
        held = _grams(writers, columns, memory, "held")
        held[:, :, columns.stop - columns.start :] *= 2.0  # whose mirror image is not made
        for group in alike:
            read = _grams([readers[at] for at in group], columns, memory, "read")
            both = product(read.flatten(1), held[rows[group[0]]].flatten(1).mT)
            parts = both.split([len(readers[at].lines) for at in group])
            for at, part in zip(group, parts, strict=True):
                found[at] += part.mT
    return found


def gram_memory(width: int, heads: int, threads: int) -> int:
    """Return the bytes that Gram matrices of writers take at once, and those of readers beside."""
    return 2 * max(HELD, 4 * heads * NARROW * width * _crew(width, heads, threads))


def _crew(width: int, heads: int, threads: int) -> int:
    """Return how many of these threads have room for columns of all Gram matrices."""
    return max(1, min(threads, MOST // max(8 * heads * NARROW * width, 1)))


def _panels(width: int, heads: int) -> Iterator[slice]:
    """Yield columns of all Gram matrices that fit into a cache."""
    start = 0
    while start < width:
        many = max(HELD // (4 * heads * (width - start)), NARROW)
        yield slice(start, min(start + many, width))
        start += many


def _grams(
    some: Sequence[HeadsLines], columns: slice, memory: dict[str, Tensor], name: str
) -> Float[Tensor, "heads some more"]:
    """Return these columns of the Gram matrices of all heads, in memory of that name."""
    count, width = sum(len(one.lines) for one in some), some[0].lines.shape[2]
    shape = count, columns.stop - columns.start, width - columns.start
    if name not in memory or memory[name].numel() < math.prod(shape):
        memory[name] = some[0].lines.new_empty(math.prod(shape))
    found = memory[name][: math.prod(shape)].view(shape)
    first = 0
    for one in some:
        one.gram(columns, found[first : first + len(one.lines)])
        first += len(one.lines)
    return found


def _by_products(
    writer: HeadsLines, reader: HeadsLines, pairs: Int[Tensor, "pairs two"]
) -> Float[Tensor, " pairs"]:
    """Return the shares of some pairs of heads from their products."""
    many = max(ENTRIES // max(writer.lines[:1].numel(), reader.lines[:1].numel()), 1)
    found = [
        (writer.some(part[:, 0]) @ reader.some(part[:, 1]).mT).square_().sum((1, 2)).double()
        for part in pairs.split(many)
    ]
    return torch.cat(found) if found else writer.length.new_zeros(0)


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
