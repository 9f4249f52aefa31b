"""spectra heads: heads of attention, told by their weights."""

from typing import Annotated

import spectra

from ..command import command
from ..options import Common, Model, option

# fmt: off
NoFold = Annotated[bool, option("--no-fold",
    "Leave the gains of norms out of what reads through them.")]
Compose = Annotated[bool, option("--compose",
    "Also compare every head with all earlier ones: how much of what these write its queries, "
    "keys and values read.")]
Strongest = Annotated[int | None, option("--strongest N",
    "With --compose: pairs that are told; 20 by default.", least=1)]
Tokens = Annotated[bool, option("--tokens",
    "Also tell what the strongest components of each head read and write in tokens, and how much "
    "it copies them.")]
# fmt: on


@command(5)
def heads(
    model: Model,
    compose: Compose = False,
    strongest: Strongest = None,
    no_fold: NoFold = False,
    tokens: Tokens = False,
    *,
    common: Common,
) -> int:
    """Show what every head of attention moves, OV, and where it looks, QK.

    Singular values and ranks of both, what no logit exceeds, whether a head copies what
    it reads, which are dead and which do the same as another. With --compose: which heads
    read what earlier ones write. From thin factors: nothing of the stream's width squared
    is decomposed or kept.

    Example: spectra heads all-MiniLM-L6-v2/ --plot heads.png
    """
    return common.run(lambda: spectra.heads.plan(
        common.open(model), compose=compose, strongest=strongest, fold=not no_fold,
        tokens=tokens, selection=common.selection,
    ))  # fmt: skip
