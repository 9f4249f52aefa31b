"""How many singular directions of each update are kept: by rank, share, kohya's criteria, bytes."""

import heapq
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final

from spectra.analyzers.row import Value
from spectra.checkpoint.entry import torch_dtype
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.cores import rounding_energy
from spectra.kernels.truncation import Count, truncated
from spectra.text import listed
from spectra.words import Stored

WORDS: Final = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """What is asked for: the settings of every writer of factors.

    Without any of them all directions are kept, as many as the true rank.

    Source:
        kohya-ss/sd-scripts, `networks/resize_lora.py`, for `sv_ratio`, `sv_cumulative` and
        `sv_fro`; there each rank comes out one above what the criterion needs.
    """

    ONE_OF: ClassVar[tuple[str, ...]] = (
        "energy", "budget", "sv_ratio", "sv_cumulative", "sv_fro",
    )  # fmt: skip

    rank: int | None = None  # directions, at most
    energy: float | None = None  # share of sum sigma^2 that is kept, in (0, 1]
    budget: int | None = None  # bytes of the whole adapter
    sv_ratio: float | None = None  # sigma above sigma_1 over this, at least 1
    sv_cumulative: float | None = None  # share of sum sigma, in (0, 1]
    sv_fro: float | None = None  # share of the Frobenius norm, in (0, 1]
    dtype: Stored | None = None  # of what is written; None: as it is read
    reserved: int = 0  # bytes of the budget that factors do not get

    def __post_init__(self) -> None:
        given = [name for name in self.ONE_OF if getattr(self, name) is not None]
        if len(given) > 1:
            named = listed([f"--{name.replace('_', '-')}" for name in given])
            raise UsageError(
                f"{named} each choose ranks, and only one can. Expected one of them; --rank beside "
                "it is the most."
            )
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"--rank {self.rank} is too small. Expected at least 1.")
        for name in ("energy", "sv_cumulative", "sv_fro"):
            share = getattr(self, name)
            if share is not None and not 0.0 < share <= 1.0:
                raise UsageError(
                    f"--{name.replace('_', '-')} {share!r} is no share. Expected above 0 and at "
                    "most 1."
                )
        if self.sv_ratio is not None and not self.sv_ratio >= 1.0:
            raise UsageError(f"--sv-ratio {self.sv_ratio!r} is too small. Expected at least 1.")

    def stored(self, *dtypes: str) -> str:
        """Return the dtype of what is written: as asked for, or the widest that is read."""
        if self.dtype is not None:
            return WORDS[self.dtype]
        known = {*dtypes}
        return known.pop() if len(known) == 1 and known <= {*WORDS.values()} else "F32"

    def most(self, sigma: Tensor, energy: float) -> int:
        """Return how many directions of a matrix may be kept, whatever the others are.

        Args:
            sigma: The leading ones, descending.
            energy: The sum of all squares.
        """
        if self.budget is not None:
            return len(sigma) if self.rank is None else min(self.rank, len(sigma))
        return self.count(sigma, energy)

    def count(self, sigma: Tensor, energy: float) -> int:
        """Return how many directions of a matrix are kept by anything but a budget."""
        count = len(sigma)
        if self.energy is not None:
            count = _reached(sigma.square().cumsum(0), self.energy * energy)
        elif self.sv_fro is not None:
            count = _reached(sigma.square().cumsum(0), self.sv_fro**2 * energy)
        elif self.sv_cumulative is not None:
            count = _reached(sigma.cumsum(0), self.sv_cumulative * float(sigma.sum()))
        elif self.sv_ratio is not None and count:
            count = max(int((sigma > sigma[0] / self.sv_ratio).sum()), 1)
        return count if self.rank is None else min(count, self.rank)

    def counts(
        self,
        spectra: Sequence[Tensor],
        energies: Sequence[float],
        costs: Sequence[int],
        groups: Sequence[Hashable],
    ) -> list[int]:
        """Return how many directions of every matrix are kept.

        By a budget, those that save most of the sum of all squares for each byte, as long as
        they fit: a matrix's next direction never saves more than the one before. Matrices of a
        group have one rank in the file, so that the next direction is one of each.

        Args:
            spectra: Leading singular values of each.
            energies: Sums of all squares.
            costs: Bytes of one direction of each.
            groups: Of each the group, alike for those that are in one.
        """
        if self.budget is None:
            return [self.count(*one) for one in zip(spectra, energies, strict=True)]
        order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        where = [order[group] for group in groups]
        held: list[list[int]] = [[] for _ in order]
        for index, group in enumerate(where):
            held[group].append(index)
        sums = [summed([spectra[index].square() for index in own]) for own in held]
        prices = [sum(costs[index] for index in own) for own in held]
        shared = self._shared(sums, prices)
        return [min(shared[group], len(sigma)) for group, sigma in
                zip(where, spectra, strict=True)]  # fmt: skip

    def _shared(self, gained: Sequence[Tensor], costs: Sequence[int]) -> list[int]:
        """Return how many directions of each group the budget goes to."""
        found = [0] * len(costs)
        left = (self.budget or 0) - self.reserved
        values = [(own / cost).tolist() for own, cost in zip(gained, costs, strict=True)]
        heap = [(-gains[0], index) for index, gains in enumerate(values) if gains]
        heapq.heapify(heap)
        while heap:
            _, index = heapq.heappop(heap)
            if costs[index] > left:
                continue  # nor does the next of the same matrix
            left -= costs[index]
            found[index] += 1
            if found[index] < min(len(values[index]), self.rank or len(values[index])):
                heapq.heappush(heap, (-values[index][found[index]], index))
        return found


def summed(series: Sequence[Tensor]) -> Tensor:
    """Return the sum of vectors, those that are shorter filled up with zeros."""
    found = torch.zeros(max(map(len, series)), dtype=torch.float64)
    for one in series:
        found[: len(one)] += one
    return found


def _reached(sums: Tensor, target: float) -> int:
    """Return how many terms it takes until their sum reaches a target, at most all."""
    within = target * (1.0 - 1e-12)  # of sums that end at the target but for rounding
    return min(int(torch.searchsorted(sums, within)) + 1, len(sums))


CUTTING: Final = tuple(field.name for field in fields(Cutting))


def leading_factors(
    delta: Tensor, count: Count, dtype: str, *, every: bool
) -> tuple[dict[str, Value], dict[str, Tensor], dict[str, Tensor]]:
    """Return what is known of an update, the arrays of its row, and its factors as written.

    Args:
        delta: rows x cols, float32 or float64.
        count: How many directions may be kept.
        dtype: Safetensors' word.
        every: It asks for all singular values.

    Raises:
        NonFiniteError: It holds NaN or Inf, or is too large for the dtype.
    """
    found = truncated(delta, count, every=every)
    tensors, moved = stored_factors(found.left, found.right, dtype)
    largest = float(found.sigma[0]) if len(found.sigma) else found.spectral.high
    beyond = torch.tensor(
        [found.rest, found.spectral.low, found.spectral.high, found.coupling], dtype=torch.float64
    )
    values: dict[str, Value] = {
        "delta_norm": math.sqrt(found.energy), "delta_sigma_max": largest,
    }  # fmt: skip
    return values, {"sigma": found.sigma, "moved": moved, "beyond": beyond}, tensors


def stored_factors(left: Tensor, right: Tensor, dtype: str) -> tuple[dict[str, Tensor], Tensor]:
    """Return factors as they are written, a direction a row, and what rounding moves.

    Args:
        left: rows x kept, float64.
        right: kept x cols, float64.
        dtype: Safetensors' word.

    Raises:
        NonFiniteError: They are too large for the dtype.
    """
    own = torch_dtype(dtype)
    rounded = left.to(own), right.to(own)
    if not all(bool(part.isfinite().all()) for part in rounded):
        raise NonFiniteError(f"its factors are too large for {dtype}")
    moved = rounding_energy(left, right, *rounded)
    return {"left": rounded[0].mT.contiguous().cpu(), "right": rounded[1].cpu()}, moved
