"""Several changes of a matrix: each for itself, a few rows at a time, or by its factors."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float

from spectra.analyzers.analyzer import Analyzer, Ask
from spectra.analyzers.row import Row, Value
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.rounding import GRIDS, STORED, Grid, grid_of
from spectra.kernels.updates import Factors
from spectra.matrices import LowRank, Pair
from spectra.matrices.pair import widened

ROWS = 512  # added at a time


@dataclass(frozen=True, slots=True)
class Update:
    """D = W1 - W0 of one model."""

    shape: tuple[int, int]
    factors: Factors | None  # D = left @ right; None: by the entries of both sides
    right: Tensor | None  # float64
    pair: Pair
    grid: Grid | None  # that W1 was rounded to and W0 was not: every such D has much of that
    shared: MutableMapping[int, Tensor]  # rows of the base, float64, by where they begin

    @staticmethod
    def of(pair: Pair, shared: MutableMapping[int, Tensor]) -> "Update":
        """Return the change of a pair.

        Args:
            pair: Of a base that it has in common with others.
            shared: Between these: the rows of the base that were widened last.
        """
        rows, cols = pair.base.shape
        if isinstance(pair.tuned, LowRank):
            factors = pair.tuned.left, pair.tuned.right
            return Update((rows, cols), factors, factors[1].double(), pair, None, shared)
        return Update((rows, cols), None, None, pair, _coarser(pair), shared)

    @property
    def coded(self) -> bool:
        """Say whether one side was quantised, which moved it as it would have any other."""
        return self.pair.base_codec is not None or self.pair.tuned_codec is not None

    def rows(self, here: slice) -> Float[Tensor, "some cols"]:
        """Return some rows, float64."""
        if self.factors is not None and self.right is not None:
            return self.factors[0][here].double() @ self.right
        return self._tuned[here].double() - self.base(here)

    def rounding(self) -> float:
        """Return the squared norm of what rounding W0 as W1 was would change."""
        total = 0.0
        for here in self._blocks() if self.grid is not None else ():
            base = self.pair.base[here].double()
            total += float((self.grid.rounded(base) - base).square().sum())  # type: ignore[union-attr]
        return total

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, self.shape[0], ROWS):
            yield slice(start, min(start + ROWS, self.shape[0]))

    @property
    def _tuned(self) -> Tensor:
        tuned = self.pair.tuned
        return tuned if isinstance(tuned, Tensor) else self.pair.base

    def base(self, here: slice) -> Float[Tensor, "some cols"]:
        """Return some rows of W0, float64."""
        found = self.shared.get(here.start)
        if found is None or len(found) != here.stop - here.start:
            found = self.pair.base[here].double()
            self.shared.clear()
            self.shared[here.start] = found
        return found

    def matrix(self) -> Float[Tensor, "rows cols"]:
        """Return all of it, float32 or wider, formed anew."""
        return self.pair.delta()

    def add_to(self, total: Float[Tensor, "rows cols"]) -> None:
        """Add it, a few rows at a time."""
        for here in self._blocks():
            total[here] += self.rows(here).to(total.dtype)

    def along(
        self, left: Float[Tensor, "rows k"], right: Float[Tensor, "cols k"]
    ) -> Float[Tensor, "k k"]:
        """Return U^T D V."""
        if self.factors is not None and self.right is not None:
            return (left.mT @ self.factors[0].double()) @ (self.right @ right)
        found = torch.zeros(left.shape[1], self.shape[1], dtype=torch.float64, device=left.device)
        for here in self._blocks():
            found.addmm_(left[here].mT, self.rows(here))
        return found @ right


def _coarser(pair: Pair) -> Grid | None:
    """Return the grid that the tuned values lie on and those of the base do not."""
    if not isinstance(pair.tuned, Tensor) or pair.formed:
        return None
    tuned, base = widened(pair.tuned), widened(pair.base)
    grid = grid_of(tuned, STORED.get(str(pair.tuned.dtype), STORED[str(tuned.dtype)]))
    own = grid_of(base, STORED.get(str(pair.base.dtype), STORED[str(base.dtype)]))
    return grid if GRIDS.index(grid) < GRIDS.index(own) else None


def each_of(
    ask: Ask, diff: Analyzer[Pair], subject: Mapping[str, Pair]
) -> tuple[list[Mapping[str, Value]], dict[str, Tensor]]:
    """Return what `diff` finds in each pair, by its `model`, and its arrays.

    Raises:
        NonFiniteError: One holds NaN or Inf; it is told which, from 1.
    """
    told: list[Mapping[str, Value]] = []
    arrays: dict[str, Tensor] = {}
    for role, pair in subject.items():
        try:
            found = ask(role, diff, pair)
        except NonFiniteError as error:
            raise NonFiniteError(f"model {int(role) + 1}: {error}") from None
        told.append({"model": int(role), **found.values})
        arrays |= {f"{role}.{name}": array for name, array in found.arrays.items()}
    return told, arrays


def of_method(diff: Analyzer[Pair], methods: Sequence[str], number: int) -> Analyzer[Pair]:
    """Return what concludes a model's rows, told which method made its change, where one is known.

    Args:
        diff: What measures every change.
        methods: Of each model; empty: of none one is known.
        number: Which model.
    """
    made = methods[number] if methods else ""
    told: Analyzer[Pair] = replace(diff, method=made) if made else diff  # type: ignore[type-var]
    return told


def of_model(row: Row, number: int) -> Row | None:
    """Return what is known of one model's change of a matrix, as `diff` alone would tell it.

    Args:
        row: With `updates`, by `model`.
        number: The model's.
    """
    told: Any = row.values["updates"] or ()
    for one in told:
        if one["model"] == number:
            values = {key: value for key, value in one.items() if key != "model"}
            start = f"{number}."
            arrays = {name.removeprefix(start): array for name, array in row.arrays.items()
                      if name.startswith(start)}  # fmt: skip
            return replace(row, values=values, arrays=arrays)
    return None
