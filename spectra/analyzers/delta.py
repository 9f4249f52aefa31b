"""What was added to a matrix: size, spectrum, rank and kind of D = W1 - W0."""

import math
from typing import NamedTuple

from spectra.analyzers.change import STORED
from spectra.analyzers.damage import damage_of
from spectra.analyzers.difference import Change
from spectra.analyzers.direction import LEAST, directions_of
from spectra.analyzers.evidence import Evidence, evidence_of
from spectra.analyzers.row import Value
from spectra.deferred import Tensor
from spectra.errors import NonFiniteError
from spectra.kernels.entries import are_equal, entry_norm, largest_entry
from spectra.kernels.extremes import largest_singular_value
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import product_singular_values, singular_values
from spectra.kernels.summary import effective_rank, energy_rank, frobenius, numerical_rank
from spectra.kernels.work import (
    has_bounds,
    is_streamed,
    singular_values_memory,
    streamed_memory,
)
from spectra.matrices import LowRank, Pair, View

DELTA_KEYS = (
    "delta_norm", "delta_relative", "delta_sigma_max", "delta_stable_rank",
    "delta_effective_rank", "delta_energy_rank", "delta_spectrum_status", "delta_rank",
    "delta_rank_status",
)  # fmt: skip
EVIDENCE_KEYS = (
    "delta_kind", "delta_grid", "delta_moved", "delta_rows", "delta_cols", "delta_note",
)  # fmt: skip

EVIDENCE = 13.25, 4  # bytes an entry, and one of the Gram matrix: a change or its rounding?
COUNTING = 8, 16  # likewise, to count its directions by factors
HALF = ("BF16", "F16")
NOT_COMPUTED = "not computed: add --full-spectrum"

UNCHANGED: dict[str, Value] = {
    **dict.fromkeys(DELTA_KEYS, 0.0),
    "delta_energy_rank": 0, "delta_spectrum_status": "ok", "delta_rank": 0,
    "delta_rank_status": "ok", "delta_kind": "unchanged", "delta_grid": None, "delta_moved": 0,
    "delta_rows": 0, "delta_cols": 0, "delta_note": None,
}  # fmt: skip
"""The keys of a matrix that is what it was."""


def update_memory(view: View, *, full: bool) -> tuple[int, int]:
    """Return the bytes of both sides, and the most that telling the update takes beside them.

    Of a vocabulary both sides stay as they were read, and the update is never formed.
    """
    shape = (view.rows, view.cols)
    if is_streamed(*shape):
        every = singular_values_memory(*shape, stored=True) if full else 0
        return 0, max(streamed_memory(*shape), every)
    entries, square = view.rows * view.cols, min(view.rows, view.cols) ** 2
    wide = 2 if view.entry.dtype == "F64" else 1
    most = max(wide * each * entries + of * square for each, of in (EVIDENCE, COUNTING))
    if full or not has_bounds(*shape):
        most = max(most, 4 * entries + singular_values_memory(*shape))
    return (4 if view.entry.dtype in HALF else 8) * entries, int(most)


class Update(NamedTuple):
    """What is told of a change, and what is kept of it for more."""

    values: dict[str, Value]
    rounding: float  # about what of ||D||^2 storing makes
    arrays: dict[str, Tensor]  # its directions in the residual stream


def update_of(pair: Pair, energy: float, *, full: bool) -> Update | None:
    """Return the delta keys and more; None where the matrix is what it was.

    Args:
        pair: Both sides.
        energy: Share of all squares that `delta_energy_rank` keeps.
        full: Whether all singular values are to be computed, for what needs them.

    Raises:
        NonFiniteError: One side, or a factor, holds NaN or Inf.
    """
    largest = _largest(pair.base, "base")
    if isinstance(pair.tuned, LowRank):
        _largest(pair.tuned.left, "factor B")
        _largest(pair.tuned.right, "factor A")
    elif pair.tuned is not None:
        largest = max(largest, _largest(pair.tuned, "tuned"))
    if pair.tuned is None or (isinstance(pair.tuned, Tensor) and are_equal(pair.tuned, pair.base)):
        return None
    rounding, arrays = 0.0, {}
    if isinstance(pair.tuned, LowRank):
        update = _of_factors(pair.tuned, max(pair.base.shape), energy)
        base_norm = entry_norm(pair.base)
        if update.norm:
            arrays = directions_of(pair, pair.tuned, 1.0, 0.0)
    else:
        change = Change(pair, largest)
        update = _of_change(change, energy, full=full)
        base_norm, rounding = change.base_norm, change.rounding
        # No direction holds more than the first, to what its bracket is narrow.
        alone = 1.01 * update.sigma_max >= math.sqrt(LEAST) * update.norm
        if update.evidence.kind not in STORED and alone:
            arrays = directions_of(pair, change.values, change.scale, rounding)
        del change  # its values make room
    values = _values(update, base_norm)
    damage = damage_of(pair, values)
    if damage is not None:
        values |= {"delta_note": damage.note, "delta_kind": damage.kind or values["delta_kind"]}
    return Update(values, rounding, arrays)


def evidence_for(pair: Pair) -> Evidence:
    """Return what a change is, and how many of its directions stand above rounding.

    Args:
        pair: The tuned side as values, finite as the base is.

    Raises:
        NonFiniteError: One side holds NaN or Inf.
    """
    largest = _largest(pair.base, "base")
    if not isinstance(pair.tuned, Tensor) or are_equal(pair.tuned, pair.base):
        return Evidence("unchanged", 0)
    change = Change(pair, max(largest, _largest(pair.tuned, "tuned")))
    core = change.core()
    if has_bounds(*core.shape):
        return evidence_of(change)
    return evidence_of(change, singular_values(core))


class _Update(NamedTuple):
    """What is known of an update as a matrix; None is not, without all singular values."""

    norm: float
    sigma_max: float
    effective_rank: float | None
    energy_rank: int | None
    evidence: Evidence


def _values(update: _Update, base_norm: float) -> dict[str, Value]:
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


def _largest(values: Tensor, part: str) -> float:
    """Return the largest |entry|; raise what is not finite, and in which of the two models."""
    try:
        return largest_entry(values)
    except NonFiniteError as error:
        raise NonFiniteError(f"{part}: {error}") from None


def _of_spectrum(sigma: Tensor, energy: float, evidence: Evidence, scale: float) -> _Update:
    return _Update(
        scale * frobenius(sigma), scale * float(sigma[0]), effective_rank(sigma),
        energy_rank(sigma, energy), evidence,
    )  # fmt: skip


SMALL = 32  # a side that the rank of a LoRA may well reach


def _of_factors(change: LowRank, length: int, energy: float) -> _Update:
    """Measure an adapter's update: all its singular values are those of a small matrix."""
    sigma = product_singular_values(change.left, change.right)
    rank = numerical_rank(sigma, length, EPS64)
    evidence = Evidence("low rank", rank) if rank else Evidence("unchanged", 0, 0, 0, 0)
    short = min(change.left.shape[0], change.right.shape[1])
    if rank == short and SMALL < short <= change.left.shape[1] < 2 * short:  # as large as a whole
        evidence = Evidence("full rank", rank)
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
