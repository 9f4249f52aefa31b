"""A merged model against its base plus the adapter it should hold: how often that was added."""

import torch

from spectra.kernels.merged import Store, added
from spectra.kernels.rounding import STORED, grid_of, half_steps
from spectra.matrices import LowRank, Pair
from spectra.matrices.pair import widened


def merged(change: Pair, meant: Pair) -> dict[str, float | None]:
    """Return how the change of a matrix compares with the one that an adapter means.

    `merge_scale` is the factor c for which storing the base plus c U gives the model, with U
    the adapter's update at its own scale: 1 for a right merge, null where U lies below the
    rounding of the stored values. `merge_rest` is what of the change is neither that nor
    rounding, as a share. Neither is there where the adapter changes nothing.

    Args:
        change: The base and the model, as stored.
        meant: The base and the adapter.
    """
    stored = change.tuned
    if meant.tuned is None or stored is None or isinstance(stored, LowRank):
        return {}
    update = meant.delta()
    rows = min(len(stored), len(update))  # where a vocabulary was resized
    tuned, base, update = widened(stored)[:rows], widened(meant.base)[:rows], update[:rows]
    wide = torch.promote_types(torch.promote_types(tuned.dtype, base.dtype), update.dtype)
    tuned, base, update = tuned.to(wide), base.to(wide), update.to(wide)
    if change.tuned_codec is not None:
        store = Store(None, change.tuned_codec.steps[:rows].to(wide))
    else:
        own = STORED[stored.dtype]
        grid = grid_of(tuned, own)
        store = Store(grid.rounded, half_steps(tuned, grid, own))
    found = added(base, tuned, update, store)
    if found.scale is None and not bool(update.any()):
        return {}
    return {"merge_scale": found.scale, "merge_rest": found.rest if found.scale else None}
