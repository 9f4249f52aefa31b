"""spectra heads: heads of attention, told by their weights."""

from typing import Annotated

import spectra

from ..command import command
from ..options import Common, Model, option

# fmt: off
NoFold = Annotated[bool, option("--no-fold",
    "Leave the gains of norms out of what reads through them.")]
# fmt: on


@command(5)
def heads(model: Model, no_fold: NoFold = False, *, common: Common) -> int:
    """Show what every head of attention moves, OV, and where it looks, QK.

    Singular values and ranks of both, what no logit exceeds, whether a head copies what
    it reads, which are dead and which do the same as another. From thin factors: nothing
    of the stream's width squared is formed.

    Example: spectra heads all-MiniLM-L6-v2/ --plot heads.png
    """
    return common.run(
        lambda: spectra.heads.plan(common.open(model), fold=not no_fold, selection=common.selection)
    )
