"""Directions of the stream read in tokens, by some rows of the output head or the embedding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spectra.analyzers.analyzer import PerLayer, Summary, Takes
from spectra.analyzers.row import Measurement, Row
from spectra.deferred import Tensor
from spectra.kernels.readout import ROOM, crossed, ends
from spectra.kernels.work import ENTRY, SINGLE, Work
from spectra.matrices import Matrix, View

HEAD, EMBEDDING = "head", "embedding"
"""Roles of a task: some rows of either."""


@dataclass(frozen=True, slots=True)
class Readout:
    """The tokens at both ends of each direction; and the sum over tokens of e w^T.

    Tensors beside the row: `ROLE.highest` and `.lowest` of directions x k with `.rows` of each, and
    `crossed`, width x width.
    """

    name: ClassVar[str] = "readout"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = PerLayer((HEAD, EMBEDDING))
    keys: ClassVar[tuple[str, ...]] = ()

    directions: Mapping[str, Tensor] = field(default_factory=dict, hash=False)
    """Of either role, directions x width."""
    k: int = 10  # tokens at each end
    crosses: bool = False  # tables of both roles are multiplied

    def cost(self, *views: View) -> Work:
        """A product with each direction, and with the other table."""
        numbers = sum(view.rows * view.cols for view in views)
        lines = max((len(found) for found in self.directions.values()), default=0)
        across = views[0].cols if self.crosses else 0
        return Work(
            products=2.0 * numbers * (lines + across) * SINGLE, passes=4.0 * numbers * ENTRY
        )

    def memory(self, *views: View) -> int:
        """Some rows in float32, products, and the square of the width."""
        own = sum(4 * found.numel() for found in self.directions.values())
        square = 4 * views[0].cols ** 2 if self.crosses else 0
        return own + square + 16 * ROOM

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        """Return what was found in these rows as tensors; no row has them."""
        found: dict[str, Tensor] = {}
        for role, lines in self.directions.items():
            matrix = subject[role]
            block = matrix.view.part.block
            own = ends(matrix.values, lines.to(matrix.values.device), self.k,
                       block[0] if block else 0)  # fmt: skip
            found |= {
                f"{role}.highest": own.highest, f"{role}.highest.rows": own.highest_rows,
                f"{role}.lowest": own.lowest, f"{role}.lowest.rows": own.lowest_rows,
            }  # fmt: skip
        if self.crosses:
            found["crossed"] = crossed(subject[EMBEDDING].values, subject[HEAD].values)
        return Measurement({}, tensors={name: one.cpu() for name, one in found.items()})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Conclude nothing: what rows of the table have found is put together elsewhere."""
        return rows, {"reading": ""}
