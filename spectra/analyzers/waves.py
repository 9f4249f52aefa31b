"""How much of a change few columns of a cosine basis hold, beside as many singular vectors."""

from collections.abc import Sequence

from spectra.analyzers.facts import Cosine
from spectra.analyzers.metrics import leading_energy
from spectra.analyzers.row import Row, Value
from spectra.analyzers.tally import smallest_of
from spectra.kernels.cosine import by_short_side, core_of, cosine_shares
from spectra.kernels.singular import product_singular_values, singular_values
from spectra.matrices import LowRank, Pair
from spectra.numbers import percent
from spectra.text import counted

KEYS = ("delta_dct_energy", "delta_dct_null", "delta_dct_ratio")
UNCHANGED: dict[str, Value] = dict.fromkeys(KEYS)


def waves_of(pair: Pair, rank: int) -> dict[str, Value]:
    """Return the keys of a matrix that changed.

    Args:
        pair: Both sides, finite; an adapter's factors are not multiplied out.
        rank: Columns of the basis; of a matrix that has fewer all of them.
    """
    cosine = Cosine(rank)
    count = cosine.of(pair.base.shape)
    if isinstance(pair.tuned, LowRank):
        sigma = product_singular_values(pair.tuned.left, pair.tuned.right)
        lines = core_of(pair.tuned.left, pair.tuned.right)
    else:
        change = pair.delta()
        sigma, lines = singular_values(change), by_short_side(change)
    if not float(sigma[0]):
        return dict(UNCHANGED)
    held, chance = (
        min(float(cosine_shares(lines, seed)[:count].sum()), 1.0) for seed in (None, cosine.seed)
    )
    ratio = min(held / leading_energy(sigma, count), 1.0)
    return dict(zip(KEYS, (held, chance, ratio), strict=True))


def beyond(rank: int | None, rows: Sequence[Row]) -> list[str]:
    """Say where more columns were asked for than matrices have."""
    if not rank or not rows or rank <= (fewest := smallest_of(rows))[0]:
        return []
    count, what = fewest
    told = f"--dct-rank {rank}: the smallest {what} has {count:,} columns of cosines"
    return [f"{told}; of those with fewer all were taken, which hold everything."]


def reading_of_waves(changed: Sequence[Row], rank: int) -> str:
    """Say what the basis holds of the change of all matrices together, and what chance would."""
    known = [row for row in changed if row.number(KEYS[0]) is not None]
    sizes = [(row.number("delta_norm") or 0.0) ** 2 for row in known]
    if not sum(sizes):
        return ""
    held, chance = (
        sum(size * (row.number(key) or 0.0) for size, row in zip(sizes, known, strict=True))
        / sum(sizes)
        for key in KEYS[:2]
    )
    of = counted(rank, "column", "columns")
    return (
        f"{of[0].upper()}{of[1:]} of a cosine basis, those of largest norm, hold {percent(held)} "
        f"of the change (of a random basis: {percent(chance)})."
    )
