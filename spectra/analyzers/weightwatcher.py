"""What WeightWatcher 0.7.7 calls the quantities of a matrix, and its averages over a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from spectra.analyzers.row import Row, Value
from spectra.deferred import Tensor, torch
from spectra.words import VOCABULARY

METRICS: Final = "basic,powerlaw"
"""What its columns are made of, at least."""
AVERAGED: Final = (
    "log_norm", "alpha", "alpha_weighted", "log_alpha_norm", "log_spectral_norm", "stable_rank",
    "mp_softrank",
)  # fmt: skip
"""Columns that its `get_summary` averages."""
OVER, UNDER = 2.0, 6.0  # alphas beyond which it warns
WEAK = 1e-6  # lambda that it counts as lost
TINY = 1e-10  # that it adds to shares and ranks
DIFFERENCES: Final = (
    "Named and averaged as WeightWatcher 0.7.7 does, but: a failed fit is empty and in no average "
    "(there -1, averaged); tails are of what stands above rounding (there above 1e-5), fitted in "
    "one way (there in another below 20 eigenvalues); a convolution is its kernel flattened (there "
    "its slices, pooled); every matrix counts, numbered from 0 in the order of names; spikes and "
    "their edge are ours."
)


def details_of(row: Row, number: int) -> dict[str, Value]:
    """Return the line of WeightWatcher's details that is about a matrix, its columns by name.

    Args:
        row: With `sigma` among its arrays, and the keys of `METRICS`.
        number: What it is counted as.
    """
    place, values = row.place, row.values
    short, long = sorted((place.rows, place.cols))
    name = place.matrix.removesuffix(".weight")
    kind = "embedding" if place.role in VOCABULARY[:1] else "dense"
    found: dict[str, Value] = {
        "layer_id": number, "name": name.rpartition(".")[2], "longname": name,
        "layer_type": "conv2d" if place.role == "conv" else kind,
        "M": short, "N": long, "Q": long / short, "rf": 1, "has_esd": "sigma" in row.arrays,
    }  # fmt: skip
    if "sigma" in row.arrays:
        sigma = row.arrays["sigma"].double()
        # Of a product those are there alone that its factors leave room for.
        found |= _of_values(torch.cat([sigma, sigma.new_zeros(short - len(sigma))]), long)
        found |= _of_others(found, values) if float(sigma[0]) > 0.0 else {}
    alpha = values.get("alpha")
    found |= {
        "alpha": alpha, "D": values.get("alpha_ks"), "xmin": values.get("alpha_xmin"),
        "sigma": values.get("alpha_sigma"), "num_pl_spikes": values.get("alpha_tail"),
        "alpha_weighted": values.get("alpha_weighted"),
        "log_alpha_norm": values.get("log_alpha_norm"),
        "xmax": found.get("lambda_max") if alpha is not None else None,
        "status": "failed" if alpha is None else "success", "warning": _warning(alpha),
    }  # fmt: skip
    return {key: found[key] for key in ("layer_id", "name", *sorted(found.keys() - LEADING))}


LEADING: Final = frozenset({"layer_id", "name"})


def averages(details: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Return the means that WeightWatcher tells, each over the matrices that have the column."""
    found: dict[str, Value] = {}
    for key in AVERAGED:
        known = [value for one in details if isinstance(value := one.get(key), int | float)]
        if known:
            found[key] = math.fsum(known) / len(known)
    return found


def _of_values(sigma: Tensor, long: int) -> dict[str, Value]:
    """Return what its names hold of all singular values; of zeros what has no logarithm."""
    if not float(sigma[0]):
        count = len(sigma)
        return {
            "norm": 0.0, "spectral_norm": 0.0, "lambda_max": 0.0, "sv_max": 0.0, "sv_min": 0.0,
            "num_evals": count, "matrix_rank": 0, "rank_loss": count, "weak_rank_loss": count,
        }  # fmt: skip
    largest = float(sigma[0])
    scaled = (sigma / largest).square()  # squares of 1e200 overflow, those of 1e-200 are 0
    rank = int((sigma > largest * long * torch.finfo(torch.float64).eps).sum())
    stable, decades = float(scaled.sum()), 2.0 * math.log10(largest)
    share = scaled / stable + TINY
    whole = -float((share * share.log()).sum())
    return {
        "norm": stable * largest * largest, "log_norm": math.log10(stable) + decades,
        "spectral_norm": largest * largest, "log_spectral_norm": decades,
        "lambda_max": largest * largest, "stable_rank": stable, "num_evals": len(sigma),
        "matrix_rank": rank, "entropy": whole / math.log(rank + TINY) if rank > 1 else None,
        "rank_loss": len(sigma) - rank, "weak_rank_loss": int((sigma.square() < WEAK).sum()),
        "sv_max": largest, "sv_min": float(sigma[-1]),
    }  # fmt: skip


def _of_others(known: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    """Return what it tells with `mp_fit`, `randomize` or `detX`, where that was asked for."""
    found: dict[str, Value] = {}
    if "detx" in values:
        count, tail = values["detx"], values.get("alpha_tail")
        gap = count - tail if isinstance(count, int) and isinstance(tail, int) else None
        found |= {"detX_num": count, "num_ERG_spikes": count, "ERG_gap": gap}
    if "mp_edge" in values:
        edge = values["mp_edge"]
        found["bulk_max"] = edge * edge if isinstance(edge, float) else None
    for ours, theirs in (("spikes", "num_spikes"), ("mp_softrank", "mp_softrank"),
                         ("traps", "num_traps"), ("traps", "rand_num_spikes"),
                         ("random_distance", "rand_distance")):  # fmt: skip
        if ours in values:
            found[theirs] = values[ours]
    other, largest = values.get("sigma_max_random"), known["sv_max"]
    if isinstance(other, float) and isinstance(largest, float):
        found |= {
            "max_rand_eval": other * other, "ww_softrank": (other / largest) ** 2,
            "ww_maxdist": largest * largest - other * other,
        }  # fmt: skip
    return found


def _warning(alpha: Value) -> str:
    if not isinstance(alpha, float):
        return ""
    return "over-trained" if alpha < OVER else "under-trained" if alpha > UNDER else ""
