"""spectra match: whether two models are the same up to the order of their units and heads."""

from pathlib import Path
from typing import Annotated

import typer

import spectra

from ..command import command
from ..options import OUTPUT, Common, option

# fmt: off
First = Annotated[str, typer.Argument(
    metavar="FIRST", help="The model that stays as it is: folder, file or org/name[@revision].")]
Second = Annotated[str, typer.Argument(
    metavar="SECOND", help="One of the same architecture, whose units and heads may move.")]
Permutation = Annotated[Path | None, option("--permutation FILE",
    "Permutations in place of those that are looked for: safetensors, as --save-permutation "
    "writes them.")]
SavePermutation = Annotated[Path | None, option("--save-permutation FILE",
    "Also write the permutations, safetensors: unit p[i] of SECOND stands for unit i of FIRST.",
    OUTPUT)]
Gamma = Annotated[float, option("--gamma SHARE",
    "Singular directions count as leading from this share of sigma max on.")]
K = Annotated[int, option("--k N", "Leading singular directions whose overlap is told.", least=1)]
AllDirections = Annotated[bool, option("--all-directions",
    "Also R of all singular directions, which takes two decompositions of every matrix.")]
Seed = Annotated[int, option("--seed N", "Of the orders that chance is measured by.", least=0)]
# fmt: on


@command(5)
def match(
    first: First,
    second: Second,
    permutation: Permutation = None,
    save_permutation: SavePermutation = None,
    gamma: Gamma = 0.3,
    k: K = 10,
    all_directions: AllDirections = False,
    seed: Seed = 0,
    *,
    common: Common,
) -> int:
    """Show whether two models are the same, or related, up to the order of units and heads.

    Units between the matrices of an MLP, and heads of attention, may stand in any order and
    compute the same. They are put in the order that brings the second model closest to the
    first; told is how far matrices and their singular vectors agree before and after, and what
    chance gives.

    Example: spectra match a/ b/ --save-permutation order.safetensors
    """
    return common.run(lambda: spectra.match.plan(
        common.open(first), common.open(second), permutation=permutation,
        save_permutation=save_permutation, gamma=gamma, k=k, seed=seed,
        all_directions=all_directions,
        selection=common.selection,
    ))  # fmt: skip
