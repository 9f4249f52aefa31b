"""Low-rank updates cut to fewer directions: of an adapter, of a sum of several, of any method's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

from spectra.analyzers.analyzer import Factors, Summary, Takes
from spectra.analyzers.cut import Cutting, leading_factors, stored_factors
from spectra.analyzers.loss import concluded
from spectra.analyzers.row import Measurement, Row
from spectra.checkpoint.entry import BITS, ROUNDOFF, torch_dtype
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.cores import Term, core_cost, core_of, resolved, rounding_energy
from spectra.kernels.entries import largest_entry
from spectra.kernels.truncation import truncation_cost, truncation_memory
from spectra.matrices import Matrix, Pair, View

WEIGHT = "W"  # the role of a weight of the base, with what a method makes of it
FULL = 2  # times the inner size of factors, from which on their product is no larger
LEFT, RIGHT = "B", "A"  # roles of the factors in a task, each with its adapter's number after it

KEYS = (
    "rank_before", "rank_true", "rank_kept", "loss", "loss_spectral", "rounding", "delta_norm",
    "delta_sigma_max", "nbytes_before", "nbytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized(Cutting):
    """The update s B A of every module, with its leading singular directions alone.

    Source:
        Hu et al. 2021, arXiv:2106.09685, for the update; Eckart and Young 1936.
    """

    name: ClassVar[str] = "lowrank_resize"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Factors()
    keys: ClassVar[tuple[str, ...]] = KEYS

    def cost(self, *views: View) -> float:
        """Triangles of both sides, and the decomposition of their product."""
        rows, inner, cols = _shape(views)
        return core_cost(rows, inner, cols)

    def memory(self, *views: View) -> int:
        """Both sides as read, in float64, and what is made of them."""
        rows, inner, cols = _shape(views)
        return 40 * (rows + cols) * inner + 100 * inner**2

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        """Return the keys that no other module decides, and the directions that may be kept."""
        left, right = (one.double() for one in _joined(subject))
        found, rest = resolved(core_of(left, right), _terms(subject))
        dtype = self.stored(*(one.view.entry.dtype for one in subject.values()))
        kept = found.balanced(self.most(found.sigma, found.energy))
        tensors, moved = stored_factors(*kept, dtype)
        largest = float(found.sigma[0]) if len(found.sigma) else 0.0
        width = torch_dtype(dtype).itemsize
        values = dict.fromkeys(KEYS) | {
            "rank_before": left.shape[1],
            "rank_true": len(found.sigma),
            "delta_norm": math.sqrt(found.energy),
            "delta_sigma_max": largest,
            "nbytes_before": _stored_bytes(subject),
            "nbytes": width * (left.shape[0] + right.shape[1]),  # of one direction, so far
        }
        arrays = {"sigma": found.sigma, "moved": moved}
        if len(rest):
            most = float(rest[0])
            beyond = [float(rest.square().sum()), most, most, 0.0]
            arrays["beyond"] = torch.tensor(beyond, dtype=torch.float64)
        return Measurement(values, arrays=arrays, tensors=tensors)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Choose the ranks, and say what they lose."""
        return concluded(self, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Resized):
    """The weighted sum of several adapters' updates, with its leading directions alone."""

    name: ClassVar[str] = "lowrank_merge"

    weights: tuple[float, ...] = ()  # of each adapter's update


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted(Cutting):
    """The update of every module, whatever stores it, as B A.

    Source:
        Hu et al. 2021, arXiv:2106.09685; Eckart and Young 1936.
    """

    name: ClassVar[str] = "lowrank_convert"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Factors()
    keys: ClassVar[tuple[str, ...]] = KEYS

    copied: bool = False  # nothing is asked for: factors are written as they are
    measured: int | None = None  # directions of a whole update that are measured for a budget

    @property
    def cuts(self) -> bool:
        """Say whether anything is asked for."""
        return any(getattr(self, name) is not None for name in ("rank", *self.ONE_OF))

    def require_end(self) -> None:
        """Refuse an update of full rank of which nothing says how much is kept.

        Raises:
            UsageError: Nothing does.
        """
        if not self.cuts:
            raise UsageError(
                "an update of full rank has no end of directions. Expected --rank, --energy or "
                "--budget."
            )

    @property
    def looked_at(self) -> int | None:
        """Directions of a whole update that are measured at most; None: as many as it takes."""
        return self.rank if self.budget is None else self.measured

    def cost(self, *views: View) -> float:
        """Copying, a core, or a Krylov space of the whole."""
        rows, inner, cols = _sizes(views)
        if inner and not self._whole(rows, inner, cols):
            return 4.0 * (rows + cols) * inner if self.copied else Resized().cost(*views)
        return truncation_cost(rows, cols, self.looked_at) + 2.0 * rows * inner * cols

    def memory(self, *views: View) -> int:
        """What these take."""
        rows, inner, cols = _sizes(views)
        if inner and not self._whole(rows, inner, cols):
            return 24 * (rows + cols) * inner if self.copied else Resized().memory(*views)
        sides = 32 * rows * cols if not inner else 8 * (rows + cols) * inner + 8 * rows * cols
        return sides + 2 * truncation_memory(rows, cols, self.looked_at)

    def _whole(self, rows: int, inner: int, cols: int) -> bool:
        """Say whether the product is formed, as its factors are no smaller."""
        return self.cuts and FULL * inner > min(rows, cols)

    def measure(self, subject: Mapping[str, Matrix | Pair]) -> Measurement:
        """Return the keys that no other module decides, and the directions that may be kept."""
        if WEIGHT in subject:
            pair = subject[WEIGHT]
            assert isinstance(pair, Pair)  # noqa: S101 - as it is planned
            return self._of(pair.delta(), 0, "F32", None)
        factors = {role: one for role, one in subject.items() if isinstance(one, Matrix)}
        left, right = _joined(factors)
        dtype = self.stored(*(one.view.entry.dtype for one in factors.values()))
        if self.copied:
            return self._as_is(left, right, dtype)
        rows, inner, cols = left.shape[0], left.shape[1], right.shape[1]
        if not self._whole(rows, inner, cols):
            # Its settings are ours, but for how it is called.
            return Resized.measure(self, factors)  # type: ignore[arg-type]
        stored = _stored_bytes(factors)
        return self._of(left.double() @ right.double(), inner, dtype, stored)

    def _of(self, delta: Tensor, inner: int, dtype: str, stored: int | None) -> Measurement:
        dtype = self.stored(dtype)
        rows, cols = delta.shape
        every = self.sv_cumulative is not None
        told, arrays, tensors = leading_factors(delta, self._count, dtype, every=every)
        values = dict.fromkeys(KEYS) | told | {
            "rank_before": inner or min(rows, cols),
            "nbytes_before": stored,
            "nbytes": torch_dtype(dtype).itemsize * (rows + cols),  # of one direction, so far
        }  # fmt: skip
        return Measurement(values, arrays=arrays, tensors=tensors)

    def _count(self, sigma: Tensor, energy: float) -> int:
        """Return how many directions may be kept, whatever the other matrices are."""
        if self.budget is not None:
            return min(len(sigma), self.measured or len(sigma))
        return self.count(sigma, energy)

    def _as_is(self, left: Tensor, right: Tensor, dtype: str) -> Measurement:
        """Return factors as they are stored, or rounded where a scale was put into them."""
        own = torch_dtype(dtype)
        kept = left.to(own), right.to(own)
        if not all(bool(one.isfinite().all()) for one in kept):
            largest_entry(left)
            largest_entry(right)
            raise NonFiniteError(f"its factors are too large for {dtype}")
        whole, off = _product_norm(left, right), 0.0
        if any(one.dtype != other.dtype for one, other in zip(kept, (left, right), strict=True)):
            off = math.sqrt(float(rounding_energy(left.double(), right.double(), *kept)[-1]))
        rank, nbytes = left.shape[1], sum(one.numel() * one.element_size() for one in kept)
        values = dict.fromkeys(KEYS) | {
            "rank_before": rank, "rank_kept": rank, "loss": off / whole if whole else 0.0,
            "loss_spectral": 0.0, "rounding": off / whole if whole else 0.0, "delta_norm": whole,
            "nbytes_before": nbytes, "nbytes": nbytes,
        }  # fmt: skip
        tensors = {"left": kept[0].mT.contiguous().cpu(), "right": kept[1].contiguous().cpu()}
        return Measurement(values, tensors=tensors)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Choose the ranks, and say what they lose."""
        return concluded(self, rows)


def _product_norm(left: Tensor, right: Tensor) -> float:
    """Return ||B A||_F by the Gram matrices of both; B as rows x k, A as k x cols."""
    one, other = left.double(), right.double()
    grams = (one.mT @ one) * (other @ other.mT)
    return math.sqrt(max(float(grams.sum()), 0.0))


def _sizes(views: Sequence[View]) -> tuple[int, int, int]:
    """Return outputs, inner size and inputs; 0 inside where it is a weight of the base."""
    if len(views) == 1:
        return views[0].rows, 0, views[0].cols
    return _shape(views)


def _joined(factors: Mapping[str, Matrix]) -> tuple[Tensor, Tensor]:
    """Return both sides of the sum of products: those of one A become one, others stand apart."""
    lefts = [one.values for role, one in factors.items() if role.startswith(LEFT)]
    rights = [one.values for role, one in factors.items() if role.startswith(RIGHT)]
    if len(lefts) == 1:
        return lefts[0], rights[0]
    dtype = reduce(torch.promote_types, (one.dtype for one in (*lefts, *rights)))
    lefts, rights = [one.to(dtype) for one in lefts], [one.to(dtype) for one in rights]
    if all(torch.equal(one, rights[0]) for one in rights[1:]) and _apart(lefts):
        return torch.stack(lefts).sum(dim=0), rights[0]
    return torch.cat(lefts, dim=1), torch.cat(rights)


def _terms(factors: Mapping[str, Matrix]) -> list[Term]:
    """Return the products that are summed; none is resolved better than its factors are stored."""
    sides = [[one for role, one in factors.items() if role.startswith(side)]
             for side in (LEFT, RIGHT)]  # fmt: skip
    return [
        Term(left.values, right.values,
             max(ROUNDOFF.get(one.view.entry.dtype, ROUNDOFF["F32"]) for one in (left, right)))
        for left, right in zip(*sides, strict=True)
    ]  # fmt: skip


def _apart(lefts: Sequence[Tensor]) -> bool:
    """Say whether no row is one of several, so that their sum rounds nothing."""
    rows = torch.stack([one.ne(0).any(dim=1) for one in lefts])
    return bool((rows.sum(dim=0) <= 1).all())


def _stored_bytes(factors: Mapping[str, Matrix]) -> int:
    """Return the bytes that factors take in their files, of stacks those of one matrix."""
    return sum(
        min(one.view.entry.nbytes, one.values.numel() * BITS[one.view.entry.dtype] // 8)
        for one in factors.values()
    )


def _shape(views: Sequence[View]) -> tuple[int, int, int]:
    """Return outputs, stacked rank and inputs; factors come A and B by turns."""
    inner = sum(view.rows for view in views[::2])
    return views[1].rows, inner, views[0].cols
