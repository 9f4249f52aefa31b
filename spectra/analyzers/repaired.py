"""Fine-tuned matrices whose intruders are scaled down, or whose updates lose their tail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from spectra.analyzers.analyzer import Pairs, Summary, Takes
from spectra.analyzers.intruders import KEYS as JUDGED
from spectra.analyzers.intruders import Look, sides_of
from spectra.analyzers.row import Measurement, Row, Value
from spectra.checkpoint.entry import torch_dtype
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.entries import entry_norm, largest_entry
from spectra.kernels.singular import product_singular_values
from spectra.kernels.truncation import truncated, truncation_cost, truncation_memory
from spectra.kernels.verdicts import leading_pairs
from spectra.kernels.work import DOUBLE, Work
from spectra.matrices import LowRank, Pair, View
from spectra.numbers import hundredths, number, percent, ranged
from spectra.text import counted
from spectra.words import Side

SCALE = 0.75  # PEFT's default, and among the published
Form = Literal["adapter", "model", "merged"]
ROWS = 512  # widened to float64 at a time
AFTER = (
    "intruders_after", "worst_cos", "worst_cos_after", "repaired", "delta_norm", "delta_norm_after",
    "delta_relative", "rank_before", "rank_kept", "loss", "rounding", "intruder_detail_after",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """W1' = W1 + (scale - 1) sum u_i sigma_i v_i^T over some intruders of W1.

    Or, to `truncate`, W1' = W0 + the leading singular directions of W1 - W0.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228, which scales the leading intruder of each
        matrix by 0.3 to 0.9.
    """

    name: ClassVar[str] = "lowrank_repair"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Pairs()
    keys: ClassVar[tuple[str, ...]] = (*JUDGED, *AFTER)

    scale: float = SCALE  # of an intruder's sigma that is left, at least 0
    all: bool = False  # every intruder, not the leading one of each matrix alone
    min_energy: float | None = None  # of all intruders those with this share of sum sigma^2
    truncate: int | float | None = None  # directions of each update that stay; or a share of energy
    rank: int | None = None  # of the adapter that is written, at most
    form: Form = "adapter"  # what is written; merged: the base with an adapter in it
    k: int = 10  # leading singular vectors of W1 to examine, at least 1
    epsilon: float = 0.5  # an intruder's largest |cos| lies below, in (0, 1)
    side: Side = "left"  # left (output-side) or right (input-side) singular vectors
    exact: bool = False  # decide every verdict by two full decompositions

    def __post_init__(self) -> None:
        Look(self.k, self.epsilon, self.side, self.exact)  # refuses what cannot be meant
        if self.side not in get_args(Side):
            raise UsageError(
                f"--side {self.side!r} is not repaired in one run. Expected left or right; one can "
                "be repaired after the other."
            )
        if not 0.0 <= self.scale < math.inf:
            raise UsageError(
                f"--scale {self.scale} cannot be meant. Expected 0 or more: 0 takes intruders out, "
                "1 leaves all as it is; published: 0.3 to 0.9."
            )
        if self.min_energy is not None and not 0.0 <= self.min_energy <= 1.0:
            raise UsageError(f"--min-energy {self.min_energy} is no share. Expected from 0 to 1.")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"--rank {self.rank} is too small. Expected at least 1.")
        if self.truncate is not None and not self.truncate > 0:
            raise UsageError(
                f"--truncate {self.truncate} keeps nothing. Expected a rank of at least 1, or a "
                "share of the energy: 8, or 0.9."
            )

    @property
    def look(self) -> Look:
        """How it looks for intruders."""
        return Look(self.k, self.epsilon, self.side, self.exact)

    @property
    def stays(self) -> bool:
        """Whether nothing is to become other than it is."""
        return self.scale == 1.0 if self.truncate is None else self.truncate == 1.0 and isinstance(
            self.truncate, float
        )  # fmt: skip

    @property
    def most(self) -> int | None:
        """Directions of an update that stay at most; None: as many as it takes."""
        return self.truncate if isinstance(self.truncate, int) else None

    def kept(self, sigma: Tensor, energy: float) -> int:
        """Return how many leading directions of an update stay.

        Args:
            sigma: The leading ones, descending.
            energy: The sum of all squares.
        """
        if not isinstance(self.truncate, float):
            return min(self.truncate or len(sigma), len(sigma))
        sums = sigma.square().cumsum(0)
        target = self.truncate * energy * (1.0 - 1e-12)
        return min(int(torch.searchsorted(sums, target)) + 1, len(sums))

    def cost(self, view: View) -> Work:
        """Verdicts, and what a truncation takes; how many are to be repaired none knows."""
        found = self.look.work(view.rows, view.cols)
        if self.truncate is None or self.form == "adapter":
            return found
        return 2.0 * found + Work(truncation_cost(view.rows, view.cols, self.most) * DOUBLE)

    def memory(self, view: View) -> int:
        """Both matrices, what is made of them, and what verdicts take beside them."""
        more = self.look.memory(view)
        if self.truncate is not None and self.form != "adapter":
            more = max(more, truncation_memory(view.rows, view.cols, self.most))
        return 20 * view.rows * view.cols + more

    def measure(self, pair: Pair) -> Measurement:
        """Return what is found before and, of a checkpoint, after; and what is written."""
        largest = [_largest(pair.base, "base")]
        if isinstance(pair.tuned, Tensor):
            largest.append(_largest(pair.tuned, "tuned"))
        elif pair.tuned is not None:
            largest += [
                _largest(pair.tuned.left, "factor B"),
                _largest(pair.tuned.right, "factor A"),
            ]
        norm, base_norm = update_norm(pair), entry_norm(pair.base)
        values: dict[str, Value] = dict.fromkeys(self.keys)
        values |= {
            "delta_norm": norm, "delta_norm_after": norm, "repaired": 0,
            "delta_relative": norm / base_norm if base_norm else None,
        }  # fmt: skip
        if not norm:
            found = self.look.unchanged(pair.view)
            return Measurement(values | found | after_of(found))
        judged = self.look.measure(pair)
        values |= {**judged.values, **after_of(judged.values), "worst_cos": lowest(judged.values)}
        if self.truncate is not None:
            return self._cut(pair, values) if self.form != "adapter" else Measurement(values)
        chosen = [] if self.stays else self.chosen(judged.values)
        if not chosen:
            return self._as_it_is(pair, values)
        left, right = self._correction(pair, chosen)
        values["repaired"] = len(chosen)
        if self.form == "adapter":
            sides = {"left": left.mT.contiguous().cpu(), "right": right.cpu()}
            return Measurement(values, tensors=sides)
        before = pair.tuned_exact()
        return self._written(pair, values, before, left, right)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Sum up what was found and what became of it."""
        measured = [row for row in rows if row.number("delta_norm") is not None]
        changed = [row for row in measured if row.number("delta_norm")]
        before, after = (_total(measured, key) for key in ("intruders", "intruders_after"))
        summary = {
            "reading": self._reading(measured, changed, before, after),
            "matrices": len(rows),
            "changed": len(changed),
            "intruders": before,
            "intruders_after": after,
            "matrices_with_intruders": sum(bool(row.number("intruders")) for row in measured),
            "repaired": _total(measured, "repaired"),
            "loss": _loss(changed),
            "certified": all(row.values.get("certified") is True for row in rows),
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        return rows, summary

    def idle(self) -> list[str]:
        """Say which options are set and do nothing."""
        if self.all and self.min_energy is not None:
            return ["--all has no effect beside --min-energy, which chooses among all intruders."]
        return []

    def chosen(self, judged: Mapping[str, Any]) -> list[int]:
        """Return which leading vectors are scaled, by their indices."""
        found = [one for one in judged["intruder_detail"] if one["intruder"]]
        if self.min_energy is not None:
            return [one["index"] for one in found if one["energy"] >= self.min_energy]
        return [one["index"] for one in (found if self.all else found[:1])]

    def _correction(self, pair: Pair, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (scale - 1) sum u_i sigma_i v_i^T as balanced factors, float64."""
        own, other = leading_pairs(*sides_of(pair), chosen, self.side)
        root = (abs(self.scale - 1.0) * torch.linalg.vector_norm(other, dim=0)).sqrt()
        own, other = own * root, other * ((self.scale - 1.0) / root)
        return (own, other.mT) if self.side == "left" else (other, own.mT)

    def _cut(self, pair: Pair, values: dict[str, Value]) -> Measurement:
        """Keep the leading directions of the update."""
        if self.stays:
            return self._as_it_is(pair, values)
        found = truncated(pair.delta(), self.kept)
        values["rank_kept"] = len(found.sigma)
        values["loss"] = math.sqrt(found.rest / found.energy)
        return self._written(pair, values, pair.base, found.left, found.right)

    def _as_it_is(self, pair: Pair, values: dict[str, Value]) -> Measurement:
        """Return what is not repaired, which an adapter's matrix is written as into its base."""
        if self.form != "merged":
            return Measurement(values)
        start = pair.tuned_exact()
        return self._written(pair, values, start, *_nothing(start))

    def _written(
        self, pair: Pair, values: dict[str, Value], start: Tensor, left: Tensor, right: Tensor
    ) -> Measurement:
        """Return start + left @ right as it is stored, and what is found in that."""
        dtype = pair.view.entry.dtype if self.form == "merged" else pair.tuned_dtype
        made, off = _rounded(start, left, right, torch_dtype(dtype))
        again = replace(pair, tuned=made, formed="")
        judged = self.look.measure(again).values
        values |= after_of(judged) | {"delta_norm_after": update_norm(again)}
        norm = values["delta_norm"]
        values["rounding"] = off / norm if isinstance(norm, float) and norm else 0.0
        return Measurement(values, tensors={"values": made.cpu()})

    def _reading(
        self, measured: Sequence[Row], changed: Sequence[Row], before: int, after: int
    ) -> str:
        if not measured:
            return "No pair could be measured."
        if not changed:
            of = counted(len(measured), "matrix", "matrices")
            return f"Nothing changed in {of}: all is written as it is."
        holders = sum(bool(row.number("intruders")) for row in measured)
        of = counted(len(changed), "changed matrix", "changed matrices")
        nulls = sorted(row.number("null_cos") or 0.0 for row in changed)
        told = (
            f"{counted(before, 'intruder dimension')} in {holders:,} of {of} (top {self.k}, |cos| "
            f"< {number(self.epsilon)}; a random direction scores "
            f"{ranged(nulls[0], nulls[-1], hundredths)})."
        )
        return f"{told} {self._became(changed, before, after)}"

    def _became(self, changed: Sequence[Row], before: int, after: int) -> str:
        left = f"{after:,} {'is' if after == 1 else 'are'} left."
        if self.truncate is not None:
            share = self.truncate
            what = f"rank {share}" if isinstance(share, int) else f"{percent(share)} of its energy"
            lost = _loss(changed)
            told = f"Each update is cut to {what} and loses {percent(lost)} of the norm; {left}"
            return f"{told}{self._ranks(changed)}"
        repaired = _total(changed, "repaired")
        if not before:
            return "Nothing is to be repaired: all is written as it is."
        if self.stays:
            return "A scale of 1 changes nothing: all is written as it is."
        if not repaired:
            return "None is chosen: all is written as it is."
        were = "was" if repaired == 1 else "were"
        told = f"{repaired:,} {were} scaled to {percent(self.scale)}; {left}"
        return f"{told}{self._ranks(changed)}"

    def _ranks(self, changed: Sequence[Row]) -> str:
        """Say what became of the ranks of an adapter, and what a trimmed one loses."""
        before, after = (
            {int(row.number(key) or 0) for row in changed if row.number(key) is not None}
            for key in ("rank_before", "rank_kept")
        )
        if not before:
            return ""
        told = f" Ranks of {ranged(min(before), max(before), number)} became "
        told += ranged(min(after), max(after), number)
        if self.rank is None:
            return f"{told}."
        return f"{told}, trimmed with a loss of {percent(_loss(changed))} of the norm."


def after_of(judged: Mapping[str, Any]) -> dict[str, Value]:
    """Return verdicts on what is written, by their keys beside those on what was there."""
    return {
        "intruders_after": judged["intruders"],
        "worst_cos_after": lowest(judged),
        "intruder_detail_after": judged["intruder_detail"],
    }


def lowest(judged: Mapping[str, Any]) -> float | None:
    """Return the largest |cos| of the vector for which it is lowest."""
    return min((one["max_cos"] for one in judged["intruder_detail"]), default=None)


def update_norm(pair: Pair) -> float:
    """Return the Frobenius norm of the update."""
    if pair.tuned is None:
        return 0.0
    if isinstance(pair.tuned, LowRank):
        sigma = product_singular_values(pair.tuned.left, pair.tuned.right)
        return float(torch.linalg.vector_norm(sigma.double()))
    return entry_norm(pair.delta())


def merged_values(pair: Pair) -> Tensor:
    """Return what became of a matrix, as its base is stored.

    Raises:
        NonFiniteError: It is no number, or too large for that.
    """
    start = pair.tuned_exact()
    return _rounded(start, *_nothing(start), torch_dtype(pair.view.entry.dtype))[0]


def _nothing(start: Tensor) -> tuple[Tensor, Tensor]:
    none = start.new_zeros(0, dtype=torch.float64)
    return none.reshape(len(start), 0), none.reshape(0, start.shape[1])


def _rounded(
    start: Tensor, left: Tensor, right: Tensor, dtype: "torch.dtype"
) -> tuple[Tensor, float]:
    """Return start + left @ right in a dtype, rounded once, and the norm of what that moves."""
    made, moved = start.new_empty(start.shape, dtype=dtype), 0.0
    for at in range(0, len(start), ROWS):
        here = slice(at, at + ROWS)
        wide = start[here].to(torch.float64, copy=True).addmm_(left[here], right)
        made[here] = wide
        moved += float(torch.linalg.vector_norm(wide.sub_(made[here]))) ** 2
    if not bool(made.isfinite().all()):
        raise NonFiniteError(f"what is repaired is too large for {dtype}".replace("torch.", ""))
    return made, math.sqrt(moved)


def _largest(values: Tensor, part: str) -> float:
    """Return the largest |entry|; raise what is not finite, and in which of the two models."""
    try:
        return largest_entry(values)
    except NonFiniteError as error:
        raise NonFiniteError(f"{part}: {error}") from None


def _total(rows: Sequence[Row], key: str) -> int:
    return sum(int(row.number(key) or 0) for row in rows)


def _loss(rows: Sequence[Row]) -> float:
    """Return what is missed of all updates together, over their norm."""
    whole = sum((row.number("delta_norm") or 0.0) ** 2 for row in rows)
    lost = sum(
        ((row.number("loss") or 0.0) * (row.number("delta_norm") or 0.0)) ** 2 for row in rows
    )
    return math.sqrt(lost / whole) if whole else 0.0
