"""What fine-tuning changed: the update's spectrum, and intruder dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from spectra.analyzers.analyzer import Pairs, Summary, Takes, require_share
from spectra.analyzers.change import reading_of
from spectra.analyzers.damage import damage_of, displaced, prints_of
from spectra.analyzers.evidence import Change, Evidence, evidence_of
from spectra.analyzers.intruders import HOLLOW, Look
from spectra.analyzers.intruders import KEYS as INTRUDERS
from spectra.analyzers.row import Measurement, Row, Value
from spectra.errors import NonFiniteError
from spectra.kernels.entries import entry_norm, largest_entry
from spectra.kernels.extremes import largest_singular_value
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import (
    product_singular_values,
    singular_values,
)
from spectra.kernels.summary import (
    effective_rank,
    energy_rank,
    frobenius,
    numerical_rank,
)
from spectra.kernels.work import (
    NO_WORK,
    Work,
    change_work,
    factors_work,
    has_bounds,
    singular_values_memory,
)
from spectra.matrices import LowRank, Pair, View
from spectra.numbers import hundredths, number, ranged
from spectra.text import counted, listed
from spectra.words import Side

EVIDENCE = 13.25, 4  # bytes an entry, and one of the Gram matrix: a change or its rounding?
COUNTING = 8, 16  # likewise, to count its directions by factors
HALF = ("BF16", "F16")
NOT_COMPUTED = "not computed: add --full-spectrum"


@dataclass(frozen=True, slots=True)
class Diff:
    """The update D = W1 - W0, and which leading directions of W1 the base lacks.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228 (intruder dimensions).
    """

    name: ClassVar[str] = "diff"
    version: ClassVar[int] = 3
    takes: ClassVar[Takes] = Pairs()
    DELTA_KEYS: ClassVar[tuple[str, ...]] = (
        "delta_norm", "delta_relative", "delta_sigma_max", "delta_stable_rank",
        "delta_effective_rank", "delta_energy_rank", "delta_spectrum_status", "delta_rank",
        "delta_rank_status",
    )  # fmt: skip
    EVIDENCE_KEYS: ClassVar[tuple[str, ...]] = (
        "delta_kind", "delta_grid", "delta_moved", "delta_rows", "delta_cols",
        "delta_note",
    )  # fmt: skip
    INTRUDER_KEYS: ClassVar[tuple[str, ...]] = INTRUDERS
    keys: ClassVar[tuple[str, ...]] = DELTA_KEYS + EVIDENCE_KEYS + INTRUDER_KEYS

    intruders: bool = False  # look for them in every changed matrix
    k: int = 10  # leading singular vectors of W1 to examine, at least 1
    epsilon: float = 0.5  # an intruder's largest |cos| lies below, in (0, 1)
    side: Side = "left"  # left (output-side) or right (input-side) singular vectors
    exact: bool = False  # decide every verdict by two full decompositions
    energy: float = 0.99  # share of sum sigma^2 that delta_energy_rank keeps, in (0, 1]
    full_spectrum: bool = False  # all singular values of every update, for what needs them

    def __post_init__(self) -> None:
        Look(self.k, self.epsilon, self.side, self.exact)  # refuses what cannot be meant
        require_share(self.energy)

    @property
    def look(self) -> Look:
        """How it looks for intruders."""
        return Look(self.k, self.epsilon, self.side, self.exact)

    def cost(self, view: View) -> Work:
        """The update's directions above rounding, or all, and verdicts where asked for."""
        rows, cols = view.rows, view.cols
        return change_work(rows, cols, full=self.full_spectrum) + self._verdicts_work(rows, cols)

    def cost_of_factors(self, view: View) -> Work:
        """A pass over the base, and verdicts where asked for."""
        rows, cols = view.rows, view.cols
        return factors_work(rows, cols) + self._verdicts_work(rows, cols)

    def _verdicts_work(self, rows: int, cols: int) -> Work:
        return self.look.work(rows, cols) if self.intruders else NO_WORK

    def memory(self, view: View) -> int:
        """Both matrices, and what telling the update or its verdicts takes beside them.

        A matrix whose verdicts bounds leave open takes more, one at a time.
        """
        shape = (view.rows, view.cols)
        entries = view.rows * view.cols
        wide = 2 if view.entry.dtype == "F64" else 1
        square = min(shape) ** 2
        update = max(wide * each * entries + of * square for each, of in (EVIDENCE, COUNTING))
        if self.full_spectrum or not has_bounds(*shape):
            update = max(update, 4 * entries + singular_values_memory(*shape))
        sides = 4 if view.entry.dtype in HALF else 8
        return sides * entries + max(int(update), self._verdicts_memory(view))

    def memory_of_factors(self, view: View) -> int:
        """The base, and what verdicts take beside it."""
        return 4 * view.rows * view.cols + self._verdicts_memory(view)

    def _verdicts_memory(self, view: View) -> int:
        return self.look.memory(view) if self.intruders else 0

    def measure(self, pair: Pair) -> Measurement:
        """Return the delta keys and, where asked for, the intruders."""
        values = self._delta(pair)
        if values is None:
            return Measurement(self._unchanged(pair.view), arrays=prints_of(pair, 0.0))
        damage = damage_of(pair, values)
        if damage is not None:
            values |= {"delta_note": damage.note, "delta_kind": damage.kind or values["delta_kind"]}
        arrays = prints_of(pair, values["delta_relative"])
        if self.intruders:
            found = self.look.measure(pair)
            values, arrays = {**values, **found.values}, {**found.arrays, **arrays}
        return Measurement(values, arrays=arrays)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count changes and intruders, and say what the change looks like."""
        rows = displaced(rows)
        measured = [row for row in rows if row.number("delta_norm") is not None]
        changed = [row for row in measured if row.number("delta_norm")]
        summary: dict[str, object] = {
            "reading": self._reading(measured, changed, len(rows)),
            "matrices": len(rows),
            "changed": len(changed),
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        if self.intruders:
            counts = [int(row.number("intruders") or 0) for row in measured]
            summary |= {
                "intruders": sum(counts),
                "matrices_with_intruders": sum(count > 0 for count in counts),
                "certified": all(row.values.get("certified") is True for row in rows),
            }
            fewest = min((min(r.place.rows, r.place.cols) for r in changed), default=self.k)
            if fewest < self.k:
                told = f"--k {self.k}: the smallest changed matrix has {fewest:,} singular vectors"
                summary["notes"] = [f"{told}; of those with fewer all were looked at."]
        elif idle := self.idle():
            summary["notes"] = idle
        return rows, summary

    def idle(self) -> list[str]:
        """Say which options are set that only tell how to look for intruders, where none are."""
        if self.intruders:
            return []
        told = {one.name: one.default for one in fields(self)}
        found = [
            f"--{name} {value}"
            for name in ("k", "epsilon", "side")
            if (value := getattr(self, name)) != told[name]
        ]
        found += ["--exact"] * self.exact
        have = "has" if len(found) == 1 else "have"
        return [f"{listed(found)} {have} no effect without --intruders."] if found else []

    def _delta(self, pair: Pair) -> dict[str, Value] | None:
        """Return the delta keys; None where the matrix is what it was."""
        largest = _largest(pair.base, "base")
        if isinstance(pair.tuned, LowRank):
            _largest(pair.tuned.left, "factor B")
            _largest(pair.tuned.right, "factor A")
        elif pair.tuned is not None:
            largest = max(largest, _largest(pair.tuned, "tuned"))
        if pair.tuned is None or (
            isinstance(pair.tuned, Tensor) and torch.equal(pair.tuned, pair.base)
        ):
            return None
        if isinstance(pair.tuned, LowRank):
            update = _of_factors(pair.tuned, max(pair.base.shape), self.energy)
            base_norm = entry_norm(pair.base)
        else:
            change = Change(pair, largest)
            update = _of_change(change, self.energy, full=self.full_spectrum)
            base_norm = change.base_norm
        found, known = update.evidence, update.effective_rank is not None
        return {
            "delta_norm": update.norm,
            "delta_relative": update.norm / base_norm if base_norm else None,
            "delta_sigma_max": update.sigma_max,
            "delta_stable_rank": (update.norm / update.sigma_max) ** 2 if update.norm else 0.0,
            "delta_effective_rank": update.effective_rank,
            "delta_energy_rank": update.energy_rank,
            "delta_spectrum_status": "ok" if known else NOT_COMPUTED,
            "delta_rank": found.rank,
            "delta_rank_status": "ok" if found.exact else "at least",
            "delta_kind": found.kind,
            "delta_grid": found.grid,
            "delta_moved": found.moved,
            "delta_rows": found.rows,
            "delta_cols": found.cols,
            "delta_note": None,
        }

    def _unchanged(self, view: View) -> dict[str, Value]:
        values: dict[str, Value] = dict.fromkeys(self.DELTA_KEYS, 0.0)
        values |= {"delta_energy_rank": 0, "delta_spectrum_status": "ok"}
        values |= {"delta_rank": 0, "delta_rank_status": "ok"}
        values |= {"delta_kind": "unchanged", "delta_grid": None}
        values |= {"delta_moved": 0, "delta_rows": 0, "delta_cols": 0, "delta_note": None}
        return values | self.look.unchanged(view) if self.intruders else values

    def _reading(self, measured: Sequence[Row], changed: Sequence[Row], count: int) -> str:
        if not measured:
            return "No pair could be measured."
        if not changed:
            return f"Nothing changed in {counted(len(measured), 'matrix', 'matrices')}."
        text = reading_of(changed, count)
        if self.intruders:
            total = sum(int(row.number("intruders") or 0) for row in measured)
            holders = sum(bool(row.number("intruders")) for row in measured)
            nulls = sorted(row.number("null_cos") or 0.0 for row in changed)
            text += (
                f" {counted(total, 'intruder dimension')} in {holders:,} of "
                f"{counted(len(changed), 'changed matrix', 'changed matrices')} "
                f"(top {self.k}, |cos| < {number(self.epsilon)}). "
                f"A random direction would score {ranged(nulls[0], nulls[-1], hundredths)}."
            )
            text += self._left_out(changed)
        return text

    def _left_out(self, changed: Sequence[Row]) -> str:
        """Say which vectors were not judged, as they are none of their matrix's own."""
        told = ""
        for hollow, why in (
            (False, "no more than rounding the stored values makes"),
            (True, f"{HOLLOW}, and has none to match"),
        ):
            missing = [
                self.look.most(row.place) - int(row.number("vectors_judged") or 0)
                for row in changed
                if (row.values.get("vectors_status") == HOLLOW) is hollow
            ]
            if holders := sum(left > 0 for left in missing):
                vectors = counted(sum(missing), "leading vector")
                were = "was" if sum(missing) == 1 else "were"
                of = counted(holders, "matrix", "matrices")
                told += f" {vectors} of {of} {were} not judged: {why}."
        return told


def _largest(values: Tensor, part: str) -> float:
    """Return the largest |entry|; raise what is not finite, and in which of the two models."""
    try:
        return largest_entry(values)
    except NonFiniteError as error:
        raise NonFiniteError(f"{part}: {error}") from None


class _Update(NamedTuple):
    """What is known of an update as a matrix; None is not, without all singular values."""

    norm: float
    sigma_max: float
    effective_rank: float | None
    energy_rank: int | None
    evidence: Evidence


def _of_spectrum(sigma: Tensor, energy: float, evidence: Evidence, scale: float) -> _Update:
    return _Update(
        scale * frobenius(sigma), scale * float(sigma[0]), effective_rank(sigma),
        energy_rank(sigma, energy), evidence,
    )  # fmt: skip


def _of_factors(change: LowRank, length: int, energy: float) -> _Update:
    """Measure an adapter's update: all its singular values are those of a small matrix."""
    sigma = product_singular_values(change.left, change.right)
    rank = numerical_rank(sigma, length, EPS64)
    evidence = Evidence("low rank", rank) if rank else Evidence("unchanged", 0, 0, 0, 0)
    return _of_spectrum(sigma, energy, evidence, 1.0)


def _of_change(change: Change, energy: float, *, full: bool) -> _Update:
    """Measure a difference, by all singular values where they are asked for or cost no more."""
    core = change.core()
    if full or not has_bounds(*core.shape):
        sigma = singular_values(core)
        return _of_spectrum(sigma, energy, evidence_of(change, sigma), change.scale)
    evidence = evidence_of(change)
    survey = evidence.survey
    bracket = None if survey is None else survey.largest()
    if bracket is None:
        bracket = largest_singular_value(core)
    ranked = None if survey is None else survey.energy_rank(energy)
    return _Update(change.norm, change.scale * bracket.low, None, ranked, evidence)
