"""Whether a matrix is sound: finite, not zero, not saturated; and a digest that tells it apart."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.spans import runs_of
from spectra.checkpoint.entry import BITS
from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import integers
from spectra.kernels.work import Work, is_long, soundness_work
from spectra.matrices import Matrix, View
from spectra.matrices.part import Part

"""Integers of as many bytes as a floating dtype: without the sign they order as magnitudes do."""


@dataclass(frozen=True, slots=True)
class Soundness:
    """What can be wrong with the entries of one matrix, each taken for itself."""

    name: ClassVar[str] = "soundness"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = (
        "nan", "inf", "first_non_finite", "largest", "saturated", "zero_rows", "zero_cols",
        "zero_row_runs", "zero_col_runs", "digest",
    )  # fmt: skip

    block: int = 1 << 20  # bytes looked at together: small enough for a processor's cache

    def cost(self, view: View) -> Work:
        """A pass, of which the digest takes most."""
        return soundness_work(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """The values and a few blocks of them; of a vocabulary, which is held once, the blocks."""
        if is_long(view.rows, view.cols):
            return 4 * self.block
        decoded = 32 if view.entry.codec else 16
        each = max(BITS.get(view.entry.dtype, decoded), decoded) // 8
        return each * view.rows * view.cols + 4 * self.block

    def measure(self, matrix: Matrix) -> Measurement:
        """Return the keys; NaN and Inf are counted, never raised.

        Rows and columns that hold nothing but 0 or -0 are zero. `saturated` is None for values
        that were decoded, whose dtype is not the stored one.
        """
        tally = _Tally(matrix.values.shape[1])
        for block in _blocks(matrix.values, self.block):
            tally.add(block)
        view = matrix.view
        place = None if tally.first is None else _written(tally.first, view)
        rows, cols = tally.zeros()
        found: dict[str, Value] = {
            "nan": tally.nan,
            "inf": tally.inf,
            "first_non_finite": place,
            "largest": tally.largest,
            "saturated": None if view.entry.codec else tally.saturated,
            "zero_rows": int(rows.sum()),
            "zero_cols": int(cols.sum()),
            "zero_row_runs": runs_of(rows),
            "zero_col_runs": runs_of(cols),
            "digest": tally.digest(),
        }
        return Measurement(found)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count those that are not finite."""
        bad = sum(1 for row in rows if row.values.get("nan") or row.values.get("inf"))
        return rows, {"matrices": len(rows), "non_finite": bad}


@dataclass(slots=True)
class _Tally:
    cols: int
    nan: int = 0
    inf: int = 0
    saturated: int = 0
    largest: float | None = None  # finite
    first: tuple[int, int] | None = None  # that is not finite
    seen: int = 0  # rows
    zero_rows: list[Tensor] = field(default_factory=list)
    filled: Tensor | None = None  # by column: some entry is not zero
    hashed: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, block: Tensor) -> None:
        """Take in the next rows, contiguous and in this machine's memory."""
        self.hashed.update(block.reshape(-1).view(torch.uint8).numpy().data)
        values = block if block.element_size() > 1 else block.float()
        kind = integers(values.element_size())
        sizes = values.view(kind) & torch.iinfo(kind).max  # without the sign
        of_rows = sizes.amax(1) if self.cols > 1 else sizes[:, 0]
        of_cols = sizes.amax(0)
        self.filled = of_cols > 0 if self.filled is None else self.filled | (of_cols > 0)
        self.zero_rows.append(of_rows == 0)
        info = torch.finfo(values.dtype)
        limit = int(torch.tensor(info.max, dtype=values.dtype).view(kind))
        top = int(of_rows.amax())
        if top > limit:
            top = self._not_finite(sizes, limit)
        if top == limit:
            self.saturated += int((sizes == limit).sum())
        if top >= 0:
            size = float(torch.tensor(top, dtype=kind).view(values.dtype))
            self.largest = size if self.largest is None else max(self.largest, size)
        self.seen += len(block)

    def _not_finite(self, sizes: Tensor, limit: int) -> int:
        """Count entries that are not finite; return the bits of the largest other, or -1."""
        bad = sizes > limit
        inf = int((sizes == limit + 1).sum())  # NaN has the bits above those of Inf
        self.inf += inf
        self.nan += int(bad.sum()) - inf
        if self.first is None:
            index = int(bad.flatten().to(torch.uint8).argmax())
            self.first = self.seen + index // self.cols, index % self.cols
        return int(sizes.masked_fill(bad, -1).amax())

    def zeros(self) -> tuple[Tensor, Tensor]:
        none = torch.zeros(0, dtype=torch.bool)
        rows = torch.cat(self.zero_rows) if self.zero_rows else none
        return rows, none if self.filled is None else ~self.filled

    def digest(self) -> str:
        """Return 16 hexadecimal digits that tell shape and bytes."""
        self.hashed.update(f"{self.seen}x{self.cols}".encode())
        return self.hashed.hexdigest()[:16]


def _blocks(values: Tensor, size: int) -> Iterator[Tensor]:
    width = values.shape[1] * values.element_size()
    if values.numel():
        for block in values.split(max(1, size // width)):
            yield block.cpu().contiguous()


def _written(place: tuple[int, int], view: View) -> str:
    """Write a place as an index into the matrix, or into the tensor where that is none."""
    shape = view.entry.shape
    if len(shape) == 2 or view.part != Part():
        return str([*place])
    rest, index = place[0] * view.cols + place[1], []
    for extent in reversed(shape):
        rest, at = divmod(rest, extent)
        index.append(at)
    return str(index[::-1])
