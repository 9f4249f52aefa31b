"""Which leading directions of a tuned matrix its base lacks: what is looked at, what is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from spectra.analyzers.null_directions import own_directions
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.tally import CHANGED, matrices_of, share_of, smallest_of, tallied
from spectra.deferred import Tensor
from spectra.errors import UsageError
from spectra.kernels.entries import is_zero
from spectra.kernels.noise import chance_cosine
from spectra.kernels.similarity import Similarity, exact_similarity
from spectra.kernels.verdicts import proven_similarities
from spectra.kernels.work import (
    Work,
    left_singular_memory,
    left_singular_work,
    similarity_memory,
    similarity_work,
)
from spectra.matrices import LowRank, Pair, Place, View
from spectra.numbers import hundredths, number, ranged
from spectra.text import counted, guess
from spectra.words import Side, Sides

SIDES: Final = get_args(Sides)
BESIDE: Final = 0.2  # of the work of one side, that the other takes with it
RIGHT: Final = "_right"  # at the end of keys of right vectors, where left ones are judged too
HOLLOW: Final = "the base is 0 in every entry"
KEYS: Final = (
    "intruders", "vectors_judged", "vectors_status", "certified", "null_cos",
    "subspace_overlap", "overlap_status", "intruder_detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How to look for intruders in a pair.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228 (intruder dimensions).
    """

    k: int = 10  # leading singular vectors of W1 to examine, at least 1
    epsilon: float = 0.5  # an intruder's largest |cos| lies below, in (0, 1)
    side: Sides = "left"  # left (output-side) or right (input-side) singular vectors, or both
    exact: bool = False  # decide every verdict by two full decompositions

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"--k {self.k} is too small. Expected at least 1; published: 10.")
        if not 0.0 < self.epsilon < 1.0:
            raise UsageError(
                f"--epsilon {self.epsilon} is no cosine. Expected above 0 and below 1; "
                "published: 0.5."
            )
        if self.side not in SIDES:
            near = guess(self.side, SIDES)
            raise UsageError(
                f"--side {self.side!r} is no side.{near} Expected left, right or both."
            )

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are judged."""
        return ("left", "right") if self.side == "both" else (self.side,)

    def work(self, rows: int, cols: int) -> Work:
        """Two decompositions, or what bounds take, which one side more adds little to."""
        if self.exact:
            return 2.0 * len(self.sides) * left_singular_work(rows, cols)
        return (1.0 + BESIDE * (len(self.sides) - 1)) * similarity_work(rows, cols)

    def memory(self, view: View) -> int:
        """The most bytes that it takes beside the matrices."""
        shape = (view.rows, view.cols)
        return left_singular_memory(*shape) if self.exact else similarity_memory(*shape)

    def most(self, of: View | Place) -> int:
        """Return how many leading vectors there are to judge."""
        return min(self.k, of.rows, of.cols)

    def measure(self, pair: Pair) -> Measurement:
        """Judge the leading vectors that are the matrix's own; zeros have none to match."""
        if is_zero(pair.base):
            return Measurement({
                "intruders": 0, "vectors_judged": 0, "vectors_status": HOLLOW, "certified": True,
                **self._each(lambda side: self._nothing(pair.view, side)),
            })  # fmt: skip
        found = self._similarities(pair, self.k)
        sigma = found[0].sigma
        own, grid = own_directions(pair, sigma)
        if own < len(sigma):
            found = self._similarities(pair, max(own, 1))
            sigma = found[0].sigma
        left = self.most(pair.view) - len(sigma)
        judged: dict[str, Value] = {
            "intruders": 0,
            "vectors_judged": len(sigma),
            "vectors_status": f"{left:,} within the rounding of {grid}" if left else "ok",
            "certified": True,
        }
        by_side = dict(zip(self.sides, found, strict=True))
        verdicts = self._each(lambda side: self._verdicts(by_side[side], pair.view, side))
        arrays = {f"cosines{self._end(side)}": by_side[side].cosines for side in self.sides}
        return Measurement(judged | verdicts, arrays=arrays)

    def unchanged(self, view: View) -> dict[str, Value]:
        """Return the keys of a matrix that is what it was."""
        same: dict[str, Value] = {"subspace_overlap": 1.0, "overlap_status": "ok"}
        return {
            "intruders": 0, "vectors_judged": 0, "vectors_status": "unchanged", "certified": True,
            **self._each(lambda side: {**self._nothing(view, side), **same}),
        }  # fmt: skip

    def null_cosine(self, view: View, side: Side | None = None) -> float:
        """Return what a random direction would score, of the first side by default."""
        space = view.rows if (side or self.sides[0]) == "left" else view.cols
        return chance_cosine(space, min(view.rows, view.cols))

    def _end(self, side: Side) -> str:
        """Return how keys of a side end."""
        return RIGHT if side == "right" and self.side == "both" else ""

    def _each(self, told: Callable[[Side], Mapping[str, Value]]) -> dict[str, Value]:
        """Return the keys of every side."""
        return {
            f"{key}{self._end(side)}": value
            for side in self.sides
            for key, value in told(side).items()
        }

    def _nothing(self, view: View, side: Side) -> dict[str, Value]:
        return {
            "intruders": 0, "null_cos": self.null_cosine(view, side), "subspace_overlap": None,
            "overlap_status": "undetermined", "intruder_detail": [],
        }  # fmt: skip

    def summary(
        self, rows: Sequence[Row], measured: Sequence[Row], changed: Sequence[Row]
    ) -> dict[str, object]:
        """Count them, and say where there are fewer vectors than were asked for."""
        found: dict[str, object] = {}
        for side in self.sides:
            key = f"intruders{self._end(side)}"
            counts = [int(row.number(key) or 0) for row in measured]
            found[key] = sum(counts)
            found[f"matrices_with_{key}"] = matrices_of(
                [row for row, count in zip(measured, counts, strict=True) if count]
            )
        found["certified"] = all(row.values.get("certified") is True for row in rows)
        fewest, what = smallest_of(changed) if changed else (self.k, "matrix")
        if fewest < self.k:
            told = f"--k {self.k}: the smallest changed {what} has {fewest:,} singular vectors"
            found["notes"] = [f"{told}; of those with fewer all were looked at."]
        return found

    def reading(self, measured: Sequence[Row], changed: Sequence[Row]) -> str:
        """Say how many there are, and what chance would score.

        Args:
            measured: Rows with numbers.
            changed: Those of them that changed, at least one.
        """
        told = []
        for side in self.sides:
            key = f"intruders{self._end(side)}"
            total = sum(int(row.number(key) or 0) for row in measured)
            holders = [row for row in measured if row.number(key)]
            where = {"left": " by outputs", "right": " by inputs"}[side]
            told.append(
                f"{counted(total, 'intruder dimension')}{where * (self.side == 'both')} in "
                f"{share_of(holders, changed, CHANGED)}"
            )
        nulls = sorted(
            row.number(f"null_cos{self._end(side)}") or 0.0
            for row in changed
            for side in self.sides
        )
        return (
            f"{', '.join(told)} (top {self.k}, |cos| < {number(self.epsilon)}). "
            f"A random direction would score {ranged(nulls[0], nulls[-1], hundredths)}."
            f"{self._left_out(changed)}"
        )

    def _left_out(self, changed: Sequence[Row]) -> str:
        """Say which vectors were not judged, as they are none of their matrix's own."""
        told = ""
        for hollow, why in (
            (False, "no more than rounding the stored values makes"),
            (True, f"{HOLLOW}, and has none to match"),
        ):
            missing = [
                (row, left)
                for row in changed
                if (row.values.get("vectors_status") == HOLLOW) is hollow
                and (left := self.most(row.place) - int(row.number("vectors_judged") or 0)) > 0
            ]
            if count := sum(left for _, left in missing):
                vectors, were = counted(count, "leading vector"), "was" if count == 1 else "were"
                of = tallied([row for row, _ in missing])
                told += f" {vectors} of {of} {were} not judged: {why}."
        return told

    def _similarities(self, pair: Pair, k: int) -> list[Similarity]:
        if self.exact:
            tuned = pair.tuned_exact()
            return [exact_similarity(pair.base, tuned, k, side) for side in self.sides]
        return proven_similarities(*sides_of(pair), k, self.epsilon, self.sides)

    def _verdicts(self, found: Similarity, view: View, side: Side) -> dict[str, Value]:
        cosines: Sequence[float] = found.cosine.tolist()
        detail = [
            {
                "index": index,
                "sigma": float(found.sigma[index]),
                "max_cos": cosine,
                "max_cos_error": float(found.error[index]),
                "best_match": int(found.best[index]) if int(found.best[index]) >= 0 else None,
                "energy": float(found.energy[index]),
                "intruder": cosine < self.epsilon,
                "tied": bool(found.tied[index]),
                "decided_by": found.decided_by[index],
            }
            for index, cosine in enumerate(cosines)
        ]
        return {
            "intruders": sum(cosine < self.epsilon for cosine in cosines),
            "null_cos": self.null_cosine(view, side),
            "subspace_overlap": found.overlap,
            "overlap_status": "undetermined" if found.overlap is None else "ok",
            "intruder_detail": detail,
        }


def sides_of(pair: Pair) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Return the base, and the tuned values or the factors of an update."""
    change = pair.tuned
    if isinstance(change, LowRank):
        return pair.base, (change.left, change.right)
    return pair.base, pair.base if change is None else change
