"""spectra lowrank mask: which entries of each weight to train."""

from typing import Annotated

import spectra
from spectra.words import Filter, MaskForm

from ...command import command
from ...options import OUTPUT, Common, Model, option, share_or_percent
from ...writing import Folders, Replace, write

# fmt: off
Tuned = Annotated[str | None, option("--tuned MODEL",
    "What training made of it, or an adapter: also tell how much of the update lies in the masks.")]
Rank = Annotated[int, option("--rank N",
    "min((m + n) N, m n) entries of each weight, as many as a LoRA of rank N has.", least=1)]
Density = Annotated[float | None, option("--density SHARE",
    "In place of --rank: this share of the entries of each weight. Example: 0.05",
    parser=share_or_percent)]
Directions = Annotated[Filter, option("--filter WHICH",
    "Which singular directions approximate a weight: largest smallest hybrid random.", of=Filter)]
FilterRank = Annotated[int, option("--filter-rank N",
    "How many of them; a smaller weight has all of its own.", least=1)]
Seed = Annotated[int, option("--seed N", "Of --filter random.", least=0)]
Form = Annotated[MaskForm, option("--form FORM",
    "masks: true and false by the names of the tensors. indices: row and column of each entry. "
    "shira: a SHiRA adapter of PEFT whose values are 0.", OUTPUT, of=MaskForm)]
# fmt: on


@command(5, without=("plot", "no_cache"), wording={"output": Folders})
def mask(
    model: Model,
    tuned: Tuned = None,
    rank: Rank = 128,
    density: Density = None,
    filter: Directions = "largest",  # noqa: A002 - the paper's word
    filter_rank: FilterRank = 128,
    seed: Seed = 0,
    form: Form = "masks",
    force: Replace = False,
    *,
    common: Common,
) -> int:
    """Write which entries of each weight to train: LIFT's principal weights.

    These are the largest in the approximation of the weight by its leading singular directions.
    All linear layers of blocks, unless a filter says other.

    Example: spectra lowrank mask model/ --rank 16 --form shira -o masks/
    """
    return write(common, lambda rest, place: spectra.lowrank.mask.plan(
        rest.open(model), place, tuned=None if tuned is None else rest.open(tuned), rank=rank,
        density=density, filter=filter, filter_rank=filter_rank, seed=seed, form=form,
        force=force, selection=rest.selection,
    ), "the masks")  # fmt: skip
