"""What is said of the spectra of a model, in sentences."""

import math
from collections.abc import Sequence
from statistics import median

from spectra.analyzers.facts import FEWEST as LEAST
from spectra.analyzers.facts import TOO_FEW
from spectra.analyzers.metrics import FITTED
from spectra.analyzers.products import products_told, sums_told
from spectra.analyzers.row import Row
from spectra.kernels.noise import FEWEST
from spectra.numbers import number, percent
from spectra.text import counted, listed

NAMED = 2  # matrices of zeros whose names are told
UNLIKELY = 0.1  # p, below which Clauset et al. call a comparison of two laws decided
OTHERS = ("lognormal", "exponential", "truncated")
OF_NOISE = ("mp_edge", "spikes")
MEAN = "mean_share"  # array of rows whose shuffled entries have spikes: as `Facts` has it
COMMON = 0.25  # of it, from which on a mean makes one of these


def reading_of(rows: Sequence[Row], count: int, parameters: int) -> str:
    """Return what is said of the matrices that were measured.

    Args:
        rows: Theirs.
        count: Of all matrices.
        parameters: Of all matrices.
    """
    if not rows:
        return "No matrix could be measured."
    told = [f"{counted(count, 'matrix', 'matrices')}, {counted(parameters, 'parameter')}."]
    largest = max(rows, key=_largest)
    told.append(f"Largest sigma {number(_largest(largest))} in {largest.matrix}.")
    if alphas := _known(rows, "alpha"):
        told.append(f"Median alpha {number(median(alphas))}.")
    told += [*_fits(rows), *_lost(rows), *_unresolved(rows)]
    told += [*products_told(rows), *sums_told(rows)]
    heavy = sum(row.values.get("heavy_tail") is True for row in rows)
    if heavy:
        have = counted(heavy, "matrix has", "matrices have")
        told.append(f"{have} entries of heavy tails: what these alone make is no spike.")
    return " ".join([*told, *_edgeless(rows), *_signal(rows), *_trapped(rows), *_waves(rows)])


def _known(rows: Sequence[Row], key: str) -> list[float]:
    found = (row.values.get(key) for row in rows)
    return [one for one in found if isinstance(one, int | float) and not math.isnan(one)]


def _largest(row: Row) -> float:
    """Return sigma_max, which every row has, if not under that name."""
    profile = row.values.get("sigma_profile")
    first = profile[0] if isinstance(profile, list) else None
    found = row.values.get("sigma_max", first)
    return float(found) if isinstance(found, int | float) else 0.0


def _fits(rows: Sequence[Row]) -> list[str]:
    """Say how many tails have no power law, and which are better described by something else."""
    told = []
    why = [(row, reason) for row in rows if (reason := _unfitted(row))]
    if why:
        have = counted(len(why), "matrix has", "matrices have")
        told.append(
            f"{have} no power law and {'counts' if len(why) == 1 else 'count'} in no median: "
            f"{_first_of_each(why)}."
        )
    better = [{name for name in OTHERS if _beaten(row, name)} for row in rows]
    some = sum(map(bool, better))
    if some:
        fits = len(_known(rows, "lognormal_p") or _known(rows, "alpha"))
        ways = [(name, sum(name in one for one in better)) for name in OTHERS]
        told.append(
            f"In {some:,} of {counted(fits, 'tail')} another law is likelier than a power law "
            f"(p < {UNLIKELY}): {listed([f'{name} in {many:,}' for name, many in ways if many])}."
        )
    return told


def _unfitted(row: Row) -> str:
    """Return why a row has no power law; empty where it has one, or none was asked for."""
    values = row.values
    status = values.get("alpha_status")
    if isinstance(status, str):
        return "" if status == FITTED else status
    if "alpha" not in values or values["alpha"] is not None or not _largest(row):
        return ""  # of zeros the matrix is told of
    few = "resolved_rank" in values and _resolved(row) < LEAST
    return TOO_FEW if few else "--metrics powerlaw tells why"


def _first_of_each(why: Sequence[tuple[Row, str]]) -> str:
    """Name the first matrix of each reason."""
    first: dict[str, str] = {}
    for row, reason in why:
        first.setdefault(reason, row.matrix)
    return ", ".join(f"{matrix} ({reason})" for reason, matrix in first.items())


def _beaten(row: Row, name: str) -> bool:
    ratio, p = row.values.get(f"{name}_ratio"), row.values.get(f"{name}_p")
    return isinstance(ratio, float) and isinstance(p, float) and ratio < 0.0 and p < UNLIKELY


def _unresolved(rows: Sequence[Row]) -> list[str]:
    """Say in how many matrices kappa is rounding, as `Kappa` does; singular ones have none."""
    found = sum(row.values.get("kappa_resolved") is False and row.status == "ok" for row in rows)
    what = counted(found, "matrix", "matrices")
    return [f"In {what} kappa measures the rounding of what is stored."] if found else []


def _edgeless(rows: Sequence[Row]) -> list[str]:
    """Say in which matrices no spikes are counted, and why."""
    why = [(row, _without_edge(row)) for row in rows
           if any(key in row.values and row.values[key] is None for key in OF_NOISE)]  # fmt: skip
    if not why:
        return []
    what = counted(len(why), "matrix", "matrices")
    return [f"No spikes are counted in {what}: {_first_of_each(why)}."]


def _without_edge(row: Row) -> str:
    """Return why nothing of a matrix could be noise."""
    if "rank_bound" in row.values:
        return "a product, of which no entries are formed"
    if "experts" in row.values:
        return "experts pooled, which are no one matrix"
    profile = row.values.get("sigma_profile")
    if isinstance(profile, list) and sum(map(bool, profile)) < FEWEST:
        return f"fewer than {FEWEST} singular values are not 0"
    return "more than half of the singular values stand out of one scale"


def _signal(rows: Sequence[Row]) -> list[str]:
    shares = _known(rows, "signal_energy")
    if not shares:
        return []
    return [f"Spikes hold {percent(median(shares))} of the energy in the median matrix."]


def _trapped(rows: Sequence[Row]) -> list[str]:
    """Say which shuffled matrices have spikes, and what makes these: entries or their mean."""
    found = [(row, many) for row in rows
             if isinstance(many := row.values.get("traps"), int) and many]  # fmt: skip
    if not found:
        return ["Shuffled, no matrix has a spike."] if _known(rows, "traps") else []
    have = counted(len(found), "matrix has", "matrices have")
    told = f"Shuffled, {have} spikes still: "
    if not all(MEAN in row.arrays for row, _ in found):  # of a run from before that was told
        return [f"{told}single entries or a mean of all make them."]
    means = {row.matrix: int(float(row.arrays[MEAN][0]) >= COMMON) for row, _ in found}
    entries = sum(many > means[row.matrix] for row, many in found)
    common = sum(means.values())
    if entries and common:
        return [f"{told}in {entries:,} single entries make some, in {common:,} the mean of all."]
    return [f"{told}{'single entries make' if entries else 'the mean of all entries makes'} them."]


def _waves(rows: Sequence[Row]) -> list[str]:
    """Say what a cosine basis holds, and that chance holds as much where it does."""
    held, best = _known(rows, "dct_energy"), _known(rows, "dct_ratio")
    if not held:
        return []
    of = f", {percent(median(best))} of what singular vectors hold" if best else ""
    chance = _known(rows, "dct_null")
    beside = f" (of a random basis: {percent(median(chance))})" if chance else ""
    share = percent(median(held))
    return [f"A cosine basis holds {share} of the energy in the median matrix{beside}{of}."]


def _lost(rows: Sequence[Row]) -> list[str]:
    """Say which matrices are zero, and which have half their rank at most above rounding."""
    zero = [row for row in rows if not _largest(row)]
    told = []
    if zero:
        many = counted(len(zero), "matrix is", "matrices are")
        text = f"{many} 0 in every entry: {listed([row.matrix for row in zero[:NAMED]])}"
        told.append(text + (f" and {len(zero) - NAMED:,} more." if len(zero) > NAMED else "."))
    few = [row for row in rows if 0.0 < 2.0 * _resolved(row) < _full(row)]
    if few:
        told.append(
            f"{counted(len(few), 'matrix has', 'matrices have')} fewer than half of "
            f"{'its' if len(few) == 1 else 'their'} directions above rounding: {few[0].matrix} "
            f"{_resolved(few[0]):,} of {_full(few[0]):,}."
        )
    return told


def _resolved(row: Row) -> int:
    found = row.values.get("resolved_rank")
    return found if isinstance(found, int) else 0


def _full(row: Row) -> int:
    bound = row.values.get("rank_bound")
    return bound if isinstance(bound, int) else min(row.place.rows, row.place.cols)
