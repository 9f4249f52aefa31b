"""spectra lowrank repair: intruder dimensions scaled down."""

from typing import Annotated

import typer

import spectra
from spectra.words import Side

from ...command import command
from ...options import OUTPUT, Common, Exact, option, share_or_percent
from ...writing import Folders, Replace, write

REPAIR, METHOD = "What is repaired", "Method"

# fmt: off
Base = Annotated[str, typer.Argument(
    metavar="BASE", help="The model before: folder, file or org/name[@revision].")]
Tuned = Annotated[str, typer.Argument(metavar="TUNED", help="The model after, or a LoRA adapter.")]
Scale = Annotated[float, option("--scale X",
    "Of an intruder's singular value that is left: 0 takes it out, 1 changes nothing; published: "
    "0.3 to 0.9.", REPAIR)]
Every = Annotated[bool, option("--all",
    "Scale every intruder, not the leading one of each matrix alone.", REPAIR)]
MinEnergy = Annotated[float | None, option("--min-energy SHARE",
    "Of all intruders those with this share of their matrix's sum of squared singular values. "
    "Example: 0.001", REPAIR, parser=share_or_percent)]
Truncate = Annotated[str | None, option("--truncate RANK|SHARE",
    "In place of scaling, cut each update to so many directions, or to as many as hold a share of "
    "its energy. Example: 8, 0.9 or 90%", REPAIR)]
Rank = Annotated[int | None, option("--rank N",
    "Of an adapter, directions of each module at most; otherwise a repair adds some.", REPAIR,
    least=1)]
Merged = Annotated[bool, option("--merged",
    "Of an adapter, write the base with it instead: a whole model.", OUTPUT)]
K = Annotated[int, option("--k N",
    "Leading singular vectors of the tuned matrix to examine.", METHOD)]
Epsilon = Annotated[float, option("--epsilon COS",
    "An intruder's largest |cos| with any base vector lies below.", METHOD)]
SideOption = Annotated[Side, option("--side SIDE",
    "left (output-side, as published) or right (input-side) singular vectors.",
    METHOD, of=Side)]
# fmt: on


@command(3, without=("plot", "no_cache"), wording={"output": Folders, "exact": Exact})
def repair(
    base: Base,
    tuned: Tuned,
    scale: Scale = 0.75,
    every: Every = False,
    min_energy: MinEnergy = None,
    truncate: Truncate = None,
    rank: Rank = None,
    k: K = 10,
    epsilon: Epsilon = 0.5,
    side: SideOption = "left",
    merged: Merged = False,
    force: Replace = False,
    *,
    common: Common,
) -> int:
    """Write a fine-tune again with its intruder dimensions scaled down.

    Of each matrix the leading intruder, as published, or more of them; all else stays as it is,
    byte for byte. An adapter gets the directions that this takes beside its own. What is written
    is looked at again: one table tells before and after.

    Example: spectra lowrank repair all-MiniLM-L6-v2/ minilm-lora-r8/ --scale 0.5 -o repaired/
    """
    return write(common, lambda rest, place: spectra.lowrank.repair.plan(
        rest.open(base), rest.open(tuned), place, scale=scale, all=every, min_energy=min_energy,
        truncate=truncate, rank=rank, merged=merged, k=k, epsilon=epsilon, side=side,
        exact=rest.exact, force=force, selection=rest.selection,
    ), what="a model or adapter")  # fmt: skip
