"""spectra ls: what a checkpoint holds."""

import spectra

from ..command import command
from ..options import Common, Model


@command(1, without=("download", "plot", "dry_run", "device", "workers", "no_cache"))
def ls(model: Model, *, common: Common) -> int:
    """List the matrices of a model.

    Name, role, shape and dtype of each, and every skip with its reason. Reads headers
    alone, so it takes no time whatever the model's size.

    Example: spectra ls all-MiniLM-L6-v2/ --role attn
    """
    return common.show(lambda: spectra.ls(common.open(model), selection=common.selection))
