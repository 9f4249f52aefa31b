"""The quantities of a spectrum by name: the groups they are asked for by, and how each is told."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.analyzers.products import product_floor
from spectra.analyzers.row import Value
from spectra.analyzers.storage import likely_roundoff
from spectra.checkpoint.entry import SMALLEST
from spectra.errors import UsageError
from spectra.kernels.arranged import arranged_bulk
from spectra.kernels.cosine import by_short_side, cosine_shares
from spectra.kernels.entries import Sizes, sizes
from spectra.kernels.noise import (
    MARGIN,
    Bulk,
    heavy_tail,
    made_floor,
    noise_bulk,
    resolved_rank,
)
from spectra.kernels.power_law import (
    Alternatives,
    PowerLaw,
    alpha_error,
    alpha_sigma,
    alternatives,
    fit_power_law,
)
from spectra.kernels.summary import (
    condition_number,
    detx,
    effective_rank,
    energy_rank,
    frobenius,
    log_abs_determinant,
    numerical_rank,
    paired_distance,
    signal_to_noise,
    spectral_entropy,
    stable_rank,
)
from spectra.matrices import Matrix
from spectra.matrices.pair import Product
from spectra.numbers import kept
from spectra.text import guess, listed

FEWEST: Final = 10  # singular values that a power law is fitted to
PROFILE: Final = 65  # values that a spectrum is drawn from where only its row is left
FITTED: Final = "ok"  # of a power law
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
        cosine: "Cosine",
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
            return f"fewer than {FEWEST} singular values stand above rounding"
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
        return arranged_bulk(self.matrix.values, self.sigma, *self.entries.filled, gram)

    @cached_property
    def shuffled(self) -> Shuffled:
        """The same entries in another order."""
        return self._shuffled()

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


def _of_law(tell: Callable[[PowerLaw], Value]) -> Callable[[Facts], Value]:
    return lambda facts: tell(facts.law) if facts.law else None


def _of_others(tell: Callable[[Alternatives], Value]) -> Callable[[Facts], Value]:
    return lambda facts: tell(facts.others) if facts.others else None


def _of_bulk(tell: Callable[[Facts, Bulk], Value]) -> Callable[[Facts], Value]:
    return lambda facts: tell(facts, facts.bulk) if facts.bulk else None


Metrics = Mapping[str, Callable[[Facts], Value]]

BASIC: Metrics = {
    "sigma_max": lambda facts: facts.largest,
    "sigma_min": lambda facts: float(facts.sigma[-1]),
    "frobenius": lambda facts: frobenius(facts.sigma),
    "kappa": lambda facts: None if float(facts.sigma[-1]) == 0.0 else condition_number(facts.sigma),
    "stable_rank": lambda facts: stable_rank(facts.sigma),
    "effective_rank": lambda facts: effective_rank(facts.sigma),
    "energy_rank": lambda facts: energy_rank(facts.sigma, facts.energy),
    "numerical_rank": lambda facts: facts.numerical_rank,
    "resolved_rank": lambda facts: facts.rank,
    "rmse": lambda facts: frobenius(facts.sigma) / math.sqrt(facts.numel),
    "log_abs_det": lambda facts: log_abs_determinant(facts.every),
    "entropy": lambda facts: spectral_entropy(facts.sigma, facts.numerical_rank),
    "detx": lambda facts: detx(facts.every),
    "snr": lambda facts: signal_to_noise(facts.every, facts.rows, facts.cols),
}
POWERLAW: Metrics = {
    "alpha": _of_law(lambda law: law.alpha),
    "alpha_xmin": lambda facts: (
        facts.law.xmin * facts.largest * facts.largest if facts.law else None
    ),
    "alpha_ks": _of_law(lambda law: law.distance),
    "alpha_tail": _of_law(lambda law: law.tail),
    "alpha_sigma": _of_law(alpha_sigma),
    "alpha_error": _of_law(alpha_error),
    "alpha_status": lambda facts: FITTED if facts.law else str(facts.fit),
    "alpha_weighted": lambda facts: facts.law.alpha * facts.decades if facts.law else None,
    "log_alpha_norm": lambda facts: facts.log_alpha_norm(facts.law.alpha) if facts.law else None,
    "lognormal_ratio": _of_others(lambda others: others.lognormal.ratio),
    "lognormal_p": _of_others(lambda others: others.lognormal.p),
    "exponential_ratio": _of_others(lambda others: others.exponential.ratio),
    "exponential_p": _of_others(lambda others: others.exponential.p),
    "truncated_ratio": _of_others(lambda others: others.truncated.ratio),
    "truncated_p": _of_others(lambda others: others.truncated.p),
}
MP: Metrics = {
    "mp_edge": _of_bulk(lambda _, bulk: bulk.edge),
    "spikes": _of_bulk(lambda _, bulk: bulk.spikes),
    "heavy_tail": lambda facts: heavy_tail(facts.entries, facts.sigma),
    "mp_softrank": _of_bulk(lambda facts, bulk: (bulk.edge / facts.largest) ** 2),
    "signal_energy": _of_bulk(lambda _, bulk: bulk.energy),
}
RANDOM: Metrics = {
    "traps": lambda facts: facts.shuffled.bulk.spikes if facts.shuffled.bulk else None,
    "sigma_max_random": lambda facts: float(facts.shuffled.sigma[0]),
    "random_distance": lambda facts: paired_distance(facts.sigma, facts.shuffled.sigma),
}
DCT: Metrics = {
    "dct_rank": lambda facts: facts.cosine_rank,
    "dct_energy": lambda facts: facts.captured,
    "dct_null": lambda facts: facts.captured_by_chance,
    "dct_ratio": lambda facts: (
        None if facts.captured is None
        else min(facts.captured / leading_energy(facts.sigma, facts.cosine_rank), 1.0)
    ),
}  # fmt: skip
SCALED: Final = frozenset(("mp_softrank", "signal_energy", "random_distance", "snr"))
"""What is not told of a matrix of zeros, where there is no scale to go by."""

UNTOLD: Final = frozenset((*RANDOM, *DCT, "heavy_tail"))
"""What is not told of a product: it would take entries, or entries in another order."""

DRAWN: Final = "sigma_profile"  # always there: what a saved spectrum is drawn from
EVERY: Metrics = {
    **BASIC, **POWERLAW, **MP, **RANDOM, **DCT,
    DRAWN: lambda facts: sigma_profile(facts.sigma),
}  # fmt: skip

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "basic": tuple(BASIC), "powerlaw": tuple(POWERLAW), "mp": tuple(MP), "random": tuple(RANDOM),
    "dct": tuple(DCT), "all": tuple(EVERY),
}  # fmt: skip
"""Words that mean several."""

DEFAULT: Final = (
    "sigma_max", "sigma_min", "frobenius", "kappa", "stable_rank", "effective_rank",
    "energy_rank", "numerical_rank", "resolved_rank", "alpha", "alpha_xmin", "alpha_ks",
    "mp_edge", "spikes", "heavy_tail", DRAWN,
)  # fmt: skip
"""What is told where nothing is asked for."""

BY_VECTORS: Final = frozenset(MP) - {"heavy_tail"}
"""Those that take singular vectors of what stands out."""

SEEDED: Final = frozenset(RANDOM)
"""Those that take the singular values of shuffled entries too."""

TRANSFORMED: Final = frozenset(DCT)
"""Those that take transforms of all entries."""


def words_of(asked: str | Sequence[str] | None) -> str | None:
    """Return what is asked for as words with commas, each once, groups first; None: the default.

    Raises:
        UsageError: A word is none of those that there are.
    """
    if asked is None:
        return None
    lists = [asked] if isinstance(asked, str) else asked
    words = {word for one in lists for part in one.split(",") if (word := part.strip())}
    known = [*GROUPS, *EVERY]
    for word in sorted(words):
        if word not in known:
            raise UsageError(
                f"--metrics {word!r} is not known.{guess(word.lower(), known)} Expected a list "
                f"with commas of {listed([*GROUPS])}, or names such as alpha or spikes; `spectra "
                "explain` lists them."
            )
    if not words:
        raise UsageError(
            f"--metrics {','.join(lists)!r} names nothing. Expected a list with commas of "
            f"{listed([*GROUPS])}, or names such as alpha or spikes."
        )
    return ",".join(word for word in known if word in words)


@cache
def keys_of(metrics: str | None) -> tuple[str, ...]:
    """Return the keys that are told, in order.

    Args:
        metrics: As `words_of` returns them.

    Raises:
        UsageError: A word is none of those that there are.
    """
    words = words_of(metrics)
    if words is None:
        return DEFAULT
    wanted = {key for word in words.split(",") for key in GROUPS.get(word, (word,))} | {DRAWN}
    new = [key for key in EVERY if key in wanted and key not in DEFAULT]
    return (*(key for key in DEFAULT if key in wanted and key != DRAWN), *new, DRAWN)


def told_of(facts: Facts, keys: Sequence[str]) -> dict[str, Value]:
    """Return the values of these keys; what no key takes is not worked out."""
    without = UNTOLD if facts.product else frozenset()
    if not facts.largest:
        without |= SCALED
    return {key: None if key in without else EVERY[key](facts) for key in keys}


def leading_energy(sigma: Float[Tensor, " rank"], count: int) -> float:
    """Return the share of sum sigma^2 that so many of the largest hold; sigma[0] is above 0."""
    squares = (sigma / sigma[0]).square()
    return float(squares[:count].sum() / squares.sum())


def sigma_profile(sigma: Float[Tensor, " rank"]) -> list[float]:
    """Return sigma at 65 evenly spaced ranks, or all of them where there are fewer.

    Args:
        sigma: Descending singular values.

    Returns:
        Of r values those at index round(i (r - 1) / 64), i = 0 to 64, in six digits: no fewer
        than the values themselves have.
    """
    count = len(sigma)
    if count <= PROFILE:
        ranks = list(range(count))
    else:
        steps = PROFILE - 1
        ranks = [(2 * i * (count - 1) + steps) // (2 * steps) for i in range(PROFILE)]
    return [kept(value) for value in sigma[ranks].tolist()]


def computed_epsilon(values: Tensor) -> float:
    """Return machine epsilon of the dtype a rank is judged in.

    Float64 for tensors stored so, float32 for all others. LAPACK's convention means
    the arithmetic's epsilon; that of bfloat16 would give `max(m, n) * eps > 1` for
    every side over 128 and so rank 0.
    """
    return min(torch.finfo(values.dtype).eps, torch.finfo(torch.float32).eps)
