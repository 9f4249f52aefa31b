"""What heads write and read, as lines that other heads' are multiplied with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spectra.analyzers.analyzer import Attentions, Summary, Takes
from spectra.analyzers.heads_factors import lines_of
from spectra.analyzers.row import Measurement, Row
from spectra.deferred import Tensor, torch
from spectra.kernels.composition import DRAWN, LEADING, sorted_lines, weights_of
from spectra.kernels.heads import CHUNK, grams, power_of_two, roots
from spectra.kernels.work import DOUBLE, SINGLE, Work
from spectra.matrices import Matrix
from spectra.matrices.attention import Attention

WRITERS, READERS = 1, 2  # seeds
KINDS = ("q", "k", "v")


@dataclass(frozen=True, slots=True)
class HeadLines:
    """The lines T of what every head writes, and N of what its queries, keys and values read.

    Tensors beside the row: `writes`, `q`, `k`, `v` of heads x lines x width, each head's divided by
    a power of two so that they are as long as a number from 1/2 to 1, whatever the scale of the
    weights; that length, `writes.norm` and so on, and the power, `writes.scale`. Those of a head
    that holds NaN or Inf are 0. Those that are summed up are sorted before.
    """

    name: ClassVar[str] = "head_lines"
    version: ClassVar[int] = 2
    takes: ClassVar[Takes] = Attentions()
    keys: ClassVar[tuple[str, ...]] = ()

    fold: bool = True
    summed: bool = False  # most lines by random sums of them
    chosen: Mapping[str, Mapping[str, tuple[int, ...]]] | None = field(default=None, hash=False)
    """Of which heads of a module, by what they do; None: of all, whatever they do."""
    beside: int = 0  # bytes that whoever takes the lines needs for them

    def cost(self, about: Attention) -> Work:
        """Gram matrices, small decompositions, and one product with every line."""
        size, value = about.size, about.value_size
        lines = about.heads * (size**2 * about.width + value**2 * about.written)
        lines += about.keys * (size**2 + value**2) * about.memory
        turned = about.heads * (value**2 * about.written + size**2 * (about.width + about.memory))
        turned += about.heads * value**2 * about.memory
        cubes = about.heads * (size**3 + value**3)
        return Work(
            products=2.0 * (lines * DOUBLE + turned * SINGLE),
            eigenvalues=24.0 * cubes / 34e9, calls=2e-3,
        )  # fmt: skip

    def memory(self, about: Attention) -> int:
        """The lines of heads in float32, twice while norms are folded in, and those returned."""
        size, value = about.size, about.value_size
        lines = about.heads * (size * about.width + value * about.written)
        lines += about.keys * (size + value) * about.memory
        squares = 12 * about.heads * max(size, value) ** 2
        return 8 * lines + 4 * self._numbers(about) + 8 * (squares + 2 * CHUNK)

    def kept(self, about: Sequence[Attention]) -> int:
        """The lines that are returned, which stay until pairs are compared, and what that takes."""
        return self.beside + (2 if self.summed else 4) * sum(map(self._numbers, about))

    def _numbers(self, about: Attention) -> int:
        most = LEADING + DRAWN if self.summed else max(about.size, about.value_size)
        value, size = min(about.value_size, most), min(about.size, most)
        counts = {name: about.heads if self.chosen is None else
                  len(self.chosen.get(about.module, {}).get(name, ()))
                  for name in ("writes", *KINDS)}  # fmt: skip
        return (
            counts["writes"] * value * about.written + counts["q"] * size * about.width
            + counts["k"] * size * about.memory + counts["v"] * value * about.memory
        )  # fmt: skip

    def measure(self, subject: tuple[Attention, Mapping[str, Matrix]]) -> Measurement:
        """Return the lines as tensors; no row has them."""
        about, held = subject
        lines = lines_of(about, held, fold=self.fold)
        shared = lines.key_of
        query, key = grams(lines.queries), grams(lines.keys)
        value, output = grams(lines.values), grams(lines.written)
        whole = {"writes": lines.ov_scale}
        pieces = {
            "writes": (value, shared, output, None, lines.written, WRITERS),
            "q": (key, shared, query, None, lines.queries, READERS),
            "k": (query, None, key, shared, lines.keys, READERS),
            "v": (output, None, value, shared, lines.values, READERS),
        }
        found: dict[str, Tensor] = {}
        for name, (other, of_other, own, of_own, rows, seed) in pieces.items():
            heads = self._heads(about, name, shared.device)
            outer = other[heads if of_other is None else of_other[heads]]
            places = heads if of_own is None else of_own[heads]
            gram = own[places]
            length = (outer * gram).sum((1, 2)).clamp(min=0.0).sqrt()
            scale = power_of_two(length)
            root = roots(outer) / scale[:, None, None]
            found[name] = self._lines(root, gram, rows, places, seed).cpu()
            found[f"{name}.norm"] = (length / scale).cpu()
            found[f"{name}.scale"] = (scale * whole[name][heads] if name in whole else scale).cpu()
        return Measurement({}, tensors=found)

    def _heads(self, about: Attention, name: str, device: "torch.device") -> Tensor:
        if self.chosen is None:
            return torch.arange(about.heads, device=device)
        some = self.chosen.get(about.module, {}).get(name, ())
        return torch.tensor(some, dtype=torch.long, device=device)

    def _lines(self, root: Tensor, gram: Tensor, rows: Tensor, places: Tensor, seed: int) -> Tensor:
        """Return the lines of some places, a few heads at a time."""
        many = max(1, CHUNK // max(rows.shape[1] * rows.shape[2], 1))
        sums = weights_of(root.shape[1], seed).to(rows) if self.summed else None
        few = root.shape[1] if sums is None else len(sums)
        kind = torch.float32 if sums is None else torch.bfloat16
        found = rows.new_empty((len(places), few, rows.shape[2]), dtype=kind)
        if not torch.equal(places, torch.arange(len(rows), device=places.device)):
            rows = rows[places]
        for start in range(0, len(places), many):
            some = slice(start, start + many)
            if sums is None and rows.dtype == kind:
                torch.bmm(root[some].to(rows), rows[some], out=found[some])
            elif sums is None:
                found[some] = root[some] @ rows[some]
            else:
                found[some] = sums @ sorted_lines(root[some], gram[some], rows[some])[1]
        return found

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Conclude nothing: pairs of modules are compared elsewhere."""
        return rows, {"reading": ""}
