"""The quantities of a spectrum by name: the groups they are asked for by, and how each is told."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

from jaxtyping import Float

from spectra.analyzers.facts import Facts
from spectra.analyzers.row import Value
from spectra.deferred import Tensor
from spectra.errors import UsageError
from spectra.kernels.noise import Bulk, heavy_tail
from spectra.kernels.power_law import Alternatives, PowerLaw, alpha_error, alpha_sigma
from spectra.kernels.summary import (
    condition_number,
    detx,
    effective_rank,
    energy_rank,
    frobenius,
    log_abs_determinant,
    paired_distance,
    signal_to_noise,
    spectral_entropy,
    stable_rank,
)
from spectra.numbers import kept
from spectra.text import guess, listed

PROFILE: Final = 65  # values that a spectrum is drawn from where only its row is left
FITTED: Final = "ok"  # of a power law


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
    "kappa_resolved": lambda facts: facts.resolved,
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
    "sigma_max", "sigma_min", "frobenius", "kappa", "kappa_resolved", "stable_rank",
    "effective_rank", "energy_rank", "numerical_rank", "resolved_rank", "alpha", "alpha_xmin",
    "alpha_ks",
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
    if "kappa" in wanted:
        wanted.add("kappa_resolved")  # without which it is not known what it tells
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
