"""Singular directions of the stream, of matrices and of heads, as vectors to be read in tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spectra.analyzers.analyzer import Attentions, Each, Summary, Takes
from spectra.analyzers.heads_factors import lines_of
from spectra.analyzers.intruders import sides_of
from spectra.analyzers.row import Measurement, Row
from spectra.deferred import Tensor, torch
from spectra.kernels.heads import CHUNK, copying, grams, strongest
from spectra.kernels.verdicts import leading_pairs
from spectra.kernels.work import (
    DOUBLE,
    SINGLE,
    Work,
    similarity_memory,
    similarity_work,
)
from spectra.matrices import Matrix, Pair, View
from spectra.matrices.attention import Attention
from spectra.words import Side

ENDS = ("ov_reads", "ov_writes", "qk_query", "qk_key")
"""Directions of each head."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which singular directions of a matrix, by their indices from 0."""

    side: Side
    own: tuple[int, ...]  # of a pair, of what the base became
    before: tuple[int, ...] = ()  # of a pair's base


@dataclass(frozen=True, slots=True)
class Directions:
    """Singular vectors of one side of a matrix, or of a pair.

    Tensors beside the row: `own` and `before`, directions x width.
    """

    name: ClassVar[str] = "directions"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = ()

    wanted: Mapping[str, Wanted] = field(default_factory=dict, hash=False)  # by matrix

    def cost(self, view: View) -> Work:
        """Half of what judging them against another matrix takes."""
        return 0.5 * similarity_work(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """What finding them takes."""
        return similarity_memory(view.rows, view.cols)

    def measure(self, subject: Matrix | Pair) -> Measurement:
        """Return the vectors as tensors; no row has them.

        Raises:
            NonFiniteError: The matrix holds NaN or Inf.
        """
        asked = self.wanted[subject.view.name]
        if isinstance(subject, Pair):
            base, change = sides_of(subject)
        else:
            base = change = subject.values
        found = {"own": leading_pairs(base, change, asked.own, asked.side)[0]}
        if asked.before:
            found["before"] = leading_pairs(base, base, asked.before, asked.side)[0]
        return Measurement({}, tensors={name: one.mT.float().cpu() for name, one in found.items()})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Conclude nothing: they are read elsewhere."""
        return rows, {"reading": ""}


@dataclass(frozen=True, slots=True)
class HeadDirections:
    """What every head's strongest component of OV and QK reads and writes, norms folded in.

    Tensors beside the row: each of `ENDS`, heads x width; `sigma`, of OV and QK the two largest
    singular values of each head; and, with `crossed`, `copying` of each head in tokens.
    """

    name: ClassVar[str] = "head_directions"
    version: ClassVar[int] = 2
    takes: ClassVar[Takes] = Attentions()
    keys: ClassVar[tuple[str, ...]] = ()

    fold: bool = True
    crossed: Tensor | None = field(default=None, hash=False)
    """Sum over tokens of e w^T, of what each comes in as and how it is read; width x width."""

    def cost(self, about: Attention) -> Work:
        """Gram matrices, small decompositions, and a product with the square of the width."""
        size, value = about.size, about.value_size
        lines = about.heads * (size**2 * about.width + value**2 * about.written)
        lines += about.keys * (size**2 + value**2) * about.memory
        cubes = about.heads * (size**3 + value**3)
        across = (
            about.keys * value * about.memory * about.written if self.crossed is not None else 0
        )
        return Work(
            products=2.0 * (lines * DOUBLE + across * SINGLE),
            decompositions=12.0 * cubes / 30e9, calls=2e-3,
        )  # fmt: skip

    def memory(self, about: Attention) -> int:
        """The lines in float32, twice while norms are folded in, and the square of the width."""
        lines = about.heads * (about.size * about.width + about.value_size * about.written)
        lines += 2 * about.keys * (about.size + about.value_size) * about.memory
        square = 4 * self.crossed.numel() if self.crossed is not None else 0
        squares = about.heads * max(about.size, about.value_size) ** 2
        return 8 * lines + square + 8 * (12 * squares + 2 * CHUNK)

    def measure(self, subject: tuple[Attention, Mapping[str, Matrix]]) -> Measurement:
        """Return the vectors as tensors; no row has them."""
        about, held = subject
        lines = lines_of(about, held, fold=self.fold)
        key_of = lines.key_of
        value, key = grams(lines.values)[key_of], grams(lines.keys)[key_of]
        ov = strongest(lines.written, lines.values[key_of], (grams(lines.written), value))
        qk = strongest(lines.queries, lines.keys[key_of], (grams(lines.queries), key))
        found = {
            "sigma": torch.stack(
                [
                    ov[2] * lines.ov_scale[:, None],
                    qk[2] * lines.qk_scale[:, None],
                ],
                dim=1,
            ),
            "ov_writes": ov[0].float(),
            "ov_reads": ov[1].float(),
            "qk_query": qk[0].float(),
            "qk_key": qk[1].float(),
        }
        if self.crossed is not None and about.memory == len(self.crossed) and not about.across:
            through = lines.values @ self.crossed.to(lines.values)  # whose entries are up to 1
            found["copying"] = copying(through[key_of], lines.written)
        return Measurement({}, tensors={name: one.cpu() for name, one in found.items()})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Conclude nothing: they are read elsewhere."""
        return rows, {"reading": ""}
