"""spectra shared: whether neighbouring layers read one subspace of their inputs."""

from typing import Annotated

import spectra

from ..command import command
from ..options import Common, Model, option

# fmt: off
Group = Annotated[str, option("--group SIZES",
    "Layers at a time; or several sizes that lie in each other: 2,4.")]
Rank = Annotated[int | None, option("--rank R",
    "Of a layer alone; by default a quarter of the shorter side. A group gets the rank that as "
    "many parameters allow.", least=1)]
Seed = Annotated[int, option("--seed N",
    "Of the bases of layers that share nothing, which chance is measured by.", least=0)]
# fmt: on


@command(5)
def shared(
    model: Model, group: Group = "4", rank: Rank = None, seed: Seed = 0, *, common: Common
) -> int:
    """Show whether neighbouring layers read one subspace of their inputs.

    What makes keys, and what makes values, of several layers in one basis, against a basis
    for each layer with as many parameters, and against chance. Other roles with --role. What
    xKV (arXiv 2503.18893) looks for among keys and values, in the weights that make them.

    Example: spectra shared all-MiniLM-L6-v2/ --group 2
    """
    return common.run(lambda: spectra.shared.plan(
        common.open(model), group=group, rank=rank, seed=seed, selection=common.selection
    ))  # fmt: skip
