"""What one matrix and its singular values tell, beside those of its shuffled entries."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from jaxtyping import Float

from spectra.analyzers.products import product_floor
from spectra.analyzers.storage import likely_roundoff, stands_clear
from spectra.checkpoint.entry import SMALLEST
from spectra.deferred import Tensor, torch
from spectra.kernels.arranged import arranged_bulk
from spectra.kernels.cosine import by_short_side, cosine_shares
from spectra.kernels.entries import Sizes, sizes
from spectra.kernels.noise import BREAK, ENOUGH, MARGIN, Bulk, made_floor, noise_bulk, resolved_rank
from spectra.kernels.power_law import Alternatives, PowerLaw, alternatives, fit_power_law
from spectra.kernels.summary import frobenius, numerical_rank
from spectra.matrices import Matrix
from spectra.matrices.pair import Product

FEWEST: Final = 10  # singular values that a power law is fitted to
TOO_FEW: Final = f"fewer than {FEWEST} singular values stand above rounding"
QUARTER: Final = 4  # what of the shorter side a cosine basis has, if no number is given


class Shuffled:
    """The singular values of a matrix whose entries were shuffled, and its filled sides."""

    def __init__(self, sigma: Float[Tensor, " rank"], filled: tuple[int, int]) -> None:
        """Take what was measured of it."""
        self.sigma = sigma
        self.bulk = noise_bulk(sigma, *filled)


class Cosine(NamedTuple):
    """What is asked of a cosine basis."""

    rank: int | None = None  # columns; None: a quarter of the shorter side
    seed: int = 0  # of the signs with which it is a random basis

    def of(self, shape: Sequence[int]) -> int:
        """Return how many columns are taken of a matrix."""
        short = min(shape)
        return min(self.rank or math.ceil(short / QUARTER), short)


class Facts:
    """What is known of one matrix by its singular values: each is worked out when asked for."""

    def __init__(
        self,
        matrix: Matrix | Product,
        sigma: Float[Tensor, " rank"],
        energy: float,
        shuffled: Callable[[], Shuffled],
        cosine: Cosine,
        gram: Float[Tensor, "short short"] | None = None,
    ) -> None:
        """Take what was measured; of the rest nothing is worked out yet.

        Args:
            matrix: As it was decomposed.
            sigma: Its singular values, descending, float64 on the CPU; of a product those that
                its factors leave room for, as all others are 0.
            energy: The share of their squares that `energy_rank` keeps.
            shuffled: Returns those of its shuffled entries, which take a decomposition.
            cosine: How many columns of a cosine basis are taken.
            gram: Of `decompose`, where that is known.
        """
        self.sigma, self.energy, self._matrix = sigma, energy, matrix
        self.rows, self.cols = matrix.view.rows, matrix.view.cols
        self.largest = float(sigma[0])
        self._shuffled, self._cosine, self._gram = shuffled, cosine, gram

    @property
    def product(self) -> bool:
        """Say whether factors are stored, so that nothing is known of entries."""
        return isinstance(self._matrix, Product)

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.rows * self.cols

    @property
    def matrix(self) -> Matrix:
        """The matrix with its entries."""
        assert isinstance(self._matrix, Matrix)  # noqa: S101 - of products no entries are asked for
        return self._matrix

    @property
    def every(self) -> Float[Tensor, " rank"]:
        """All singular values, those too that are 0 as factors leave no room for them."""
        more = min(self.rows, self.cols) - len(self.sigma)
        return torch.cat([self.sigma, self.sigma.new_zeros(more)]) if more else self.sigma

    @cached_property
    def entries(self) -> Sizes:
        """How large entries are."""
        return sizes(self.matrix.values)

    @cached_property
    def _lost(self) -> tuple[float, float]:
        return likely_roundoff(self.matrix), SMALLEST.get(self.matrix.view.entry.dtype, 0.0)

    @cached_property
    def floor(self) -> float:
        """About the most that making and storing the matrix moved a singular value by."""
        if isinstance(self._matrix, Product):
            return MARGIN * product_floor(self._matrix)
        return made_floor(self.entries, *self._lost)

    @property
    def resolved(self) -> bool | None:
        """Whether the smallest singular value stands above rounding, as `Kappa` has it."""
        smallest = float(self.sigma[-1])
        if isinstance(self._matrix, Product):
            return smallest > product_floor(self._matrix)
        return stands_clear(self._matrix, frobenius(self.sigma), smallest)

    @cached_property
    def rank(self) -> int:
        """How many singular values storing cannot have made."""
        if self.product:
            return int((self.sigma > self.floor).sum())
        return resolved_rank(self.matrix.values, self.entries, self.sigma, *self._lost)

    @cached_property
    def eigenvalues(self) -> Float[Tensor, " rank"]:
        """The lambda above rounding, over the largest: squares of 1e200 overflow."""
        held = self._matrix
        device = held.factors.left.device if isinstance(held, Product) else held.values.device
        return (self.sigma[: self.rank].to(device) / self.largest).square()

    @cached_property
    def fit(self) -> PowerLaw | str:
        """The power law of the tail, of lambda over the largest, or why there is none."""
        if not self.largest:
            return "every singular value is 0"
        if self.rank < FEWEST:
            return TOO_FEW
        spread = float(self.sigma[0] - self.sigma[self.rank - 1])
        if spread <= self.floor:
            return "nothing but rounding spreads the singular values"
        law = fit_power_law(self.eigenvalues)
        if law is None or not math.isfinite(law.alpha):
            return "the singular values are too small beside the largest"
        return law

    @property
    def law(self) -> PowerLaw | None:
        """The power law, None where there is none."""
        return None if isinstance(self.fit, str) else self.fit

    @cached_property
    def others(self) -> Alternatives | None:
        """What might describe the tail better."""
        return alternatives(self.eigenvalues, self.law) if self.law else None

    @cached_property
    def bulk(self) -> Bulk | None:
        """Where noise ends; of a product nothing is left that could be noise."""
        if self.product:
            return None
        gram, self._gram = self._gram, None  # let go: shuffled entries need the room
        values, filled = self.matrix.values, self.entries.filled
        found = arranged_bulk(values, self.sigma, *filled, gram)
        some = self.sigma[: int(ENOUGH * len(self.sigma)) + 1]
        if found is None or not bool((some[:-1] >= BREAK * some[1:]).any()):
            return found  # without a look at entries
        few = self.rank >= ENOUGH * int((self.sigma > 0.0).sum())  # as noise's least may be
        if few or 2 * found.spikes >= self.rank:
            return found
        # Some values are rounding, and most others noise: of a block with zeros beside it.
        above = torch.arange(len(self.sigma)) < self.rank
        return arranged_bulk(values, self.sigma * above, *filled, gram)

    @cached_property
    def shuffled(self) -> Shuffled:
        """The same entries in another order."""
        return self._shuffled()

    @property
    def mean_share(self) -> float:
        """What a mean of all entries makes of the largest singular value in any order of them."""
        mean = float(self._matrix.values.mean(dtype=torch.float64))
        largest = float(self.shuffled.sigma[0])
        return abs(mean) * math.sqrt(self.numel) / largest if largest else 0.0

    @property
    def cosine_rank(self) -> int:
        """How many columns of a cosine basis, and singular vectors, are compared."""
        return self._cosine.of(self.matrix.values.shape)

    @cached_property
    def captured(self) -> float | None:
        """The share of the energy that these columns hold; None of zeros."""
        return self._held(None)

    @property
    def captured_by_chance(self) -> float | None:
        """The same of a basis that has nothing to do with the matrix."""
        return self._held(self._cosine.seed)

    def _held(self, seed: int | None) -> float | None:
        if not self.largest:
            return None
        shares = cosine_shares(by_short_side(self.matrix.values), seed)
        return min(float(shares[: self.cosine_rank].sum()), 1.0)

    @property
    def numerical_rank(self) -> int:
        """How many singular values exceed LAPACK's threshold."""
        held = self._matrix
        epsilon = computed_epsilon(held.factors.left if isinstance(held, Product) else held.values)
        return numerical_rank(self.sigma, max(self.rows, self.cols), epsilon)

    @property
    def decades(self) -> float:
        """log10 of the largest lambda."""
        return 2.0 * math.log10(self.largest)

    def log_alpha_norm(self, alpha: float) -> float:
        """Return log10 of sum lambda^alpha, without overflow."""
        scaled = (self.sigma / self.largest).square()
        return alpha * self.decades + math.log10(float(scaled.pow(alpha).sum()))


def computed_epsilon(values: Tensor) -> float:
    """Return machine epsilon of the dtype a rank is judged in.

    Float64 for tensors stored so, float32 for all others. LAPACK's convention means
    the arithmetic's epsilon; that of bfloat16 would give `max(m, n) * eps > 1` for
    every side over 128 and so rank 0.
    """
    return min(torch.finfo(values.dtype).eps, torch.finfo(torch.float32).eps)
