"""Which leading directions of a tuned matrix its base lacks: what is looked at, what is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from torch import Tensor

from spectra.analyzers.null_directions import own_directions
from spectra.analyzers.row import Measurement, Row, Value
from spectra.errors import UsageError
from spectra.kernels.noise import chance_cosine
from spectra.kernels.similarity import Similarity, exact_similarity
from spectra.kernels.verdicts import proven_similarity
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
from spectra.words import Side

SIDES: Final = get_args(Side)
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
    side: Side = "left"  # left (output-side) or right (input-side) singular vectors
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
            raise UsageError(f"--side {self.side!r} is no side.{near} Expected left or right.")

    def work(self, rows: int, cols: int) -> Work:
        """Two decompositions, or what bounds take."""
        return 2.0 * left_singular_work(rows, cols) if self.exact else similarity_work(rows, cols)

    def memory(self, view: View) -> int:
        """The most bytes that it takes beside the matrices."""
        shape = (view.rows, view.cols)
        return left_singular_memory(*shape) if self.exact else similarity_memory(*shape)

    def most(self, of: View | Place) -> int:
        """Return how many leading vectors there are to judge."""
        return min(self.k, of.rows, of.cols)

    def measure(self, pair: Pair) -> Measurement:
        """Judge the leading vectors that are the matrix's own; zeros have none to match."""
        if not bool(pair.base.any()):
            nothing: dict[str, Value] = {
                "intruders": 0, "vectors_judged": 0, "vectors_status": HOLLOW, "certified": True,
                "null_cos": self.null_cosine(pair.view), "subspace_overlap": None,
                "overlap_status": "undetermined", "intruder_detail": [],
            }  # fmt: skip
            return Measurement(nothing)
        found = self._similarity(pair, self.k)
        own, grid = own_directions(pair, found.sigma)
        if own < len(found.sigma):
            found = self._similarity(pair, max(own, 1))
        left = self.most(pair.view) - len(found.sigma)
        judged: dict[str, Value] = {
            "intruders": 0,
            "vectors_judged": len(found.sigma),
            "vectors_status": f"{left:,} within the rounding of {grid}" if left else "ok",
        }
        verdicts = self._verdicts(found, pair.view)
        return Measurement(judged | verdicts, arrays={"cosines": found.cosines})

    def unchanged(self, view: View) -> dict[str, Value]:
        """Return the keys of a matrix that is what it was."""
        return {
            "intruders": 0, "vectors_judged": 0, "vectors_status": "unchanged", "certified": True,
            "null_cos": self.null_cosine(view), "subspace_overlap": 1.0, "overlap_status": "ok",
            "intruder_detail": [],
        }  # fmt: skip

    def null_cosine(self, view: View) -> float:
        """Return what a random direction would score."""
        space = view.rows if self.side == "left" else view.cols
        return chance_cosine(space, min(view.rows, view.cols))

    def summary(
        self, rows: Sequence[Row], measured: Sequence[Row], changed: Sequence[Row]
    ) -> dict[str, object]:
        """Count them, and say where there are fewer vectors than were asked for."""
        counts = [int(row.number("intruders") or 0) for row in measured]
        found: dict[str, object] = {
            "intruders": sum(counts),
            "matrices_with_intruders": sum(count > 0 for count in counts),
            "certified": all(row.values.get("certified") is True for row in rows),
        }
        fewest = min((min(r.place.rows, r.place.cols) for r in changed), default=self.k)
        if fewest < self.k:
            told = f"--k {self.k}: the smallest changed matrix has {fewest:,} singular vectors"
            found["notes"] = [f"{told}; of those with fewer all were looked at."]
        return found

    def reading(self, measured: Sequence[Row], changed: Sequence[Row]) -> str:
        """Say how many there are, and what chance would score.

        Args:
            measured: Rows with numbers.
            changed: Those of them that changed, at least one.
        """
        total = sum(int(row.number("intruders") or 0) for row in measured)
        holders = sum(bool(row.number("intruders")) for row in measured)
        nulls = sorted(row.number("null_cos") or 0.0 for row in changed)
        return (
            f"{counted(total, 'intruder dimension')} in {holders:,} of "
            f"{counted(len(changed), 'changed matrix', 'changed matrices')} "
            f"(top {self.k}, |cos| < {number(self.epsilon)}). "
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
                self.most(row.place) - int(row.number("vectors_judged") or 0)
                for row in changed
                if (row.values.get("vectors_status") == HOLLOW) is hollow
            ]
            if holders := sum(left > 0 for left in missing):
                vectors = counted(sum(missing), "leading vector")
                were = "was" if sum(missing) == 1 else "were"
                of = counted(holders, "matrix", "matrices")
                told += f" {vectors} of {of} {were} not judged: {why}."
        return told

    def _similarity(self, pair: Pair, k: int) -> Similarity:
        if self.exact:
            return exact_similarity(pair.base, pair.tuned_exact(), k, self.side)
        return proven_similarity(*sides_of(pair), k, self.epsilon, self.side)

    def _verdicts(self, found: Similarity, view: View) -> dict[str, Value]:
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
            "certified": True,
            "null_cos": self.null_cosine(view),
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
