"""spectra lowrank extract: what a fine-tune changed, as an adapter."""

from typing import Annotated

import typer

import spectra

from ...command import command
from ...options import Common, option
from ...writing import RANKS, Form, Places, Ranks, words, write

# fmt: off
Base = Annotated[str, typer.Argument(
    metavar="BASE", help="The model before: folder, file or org/name[@revision].")]
Tuned = Annotated[str, typer.Argument(metavar="TUNED", help="The model after, or an adapter.")]
DeltaRank = Annotated[bool, option("--delta-rank",
    "As many as stand above rounding, proven: a merged LoRA at its own ranks. What is of full rank "
    "is written whole, or cut to --rank.", RANKS)]
# fmt: on


@command(0, without=("plot", "no_cache"), wording={"output": Places})
def extract(
    base: Base,
    tuned: Tuned,
    *,
    ranks: Ranks,
    delta_rank: DeltaRank = False,
    form: Form,
    common: Common,
) -> int:
    """Write what a fine-tune changed as a PEFT adapter of its base.

    Of each matrix the leading singular directions of the change, with the loss proven; norms,
    biases and resized embeddings that changed are written whole. What PEFT cannot hold is named.

    Example: spectra lowrank extract base/ tuned/ --rank 16 -o adapter/
    """
    return write(common, lambda rest, place: spectra.lowrank.extract.plan(
        rest.open(base), rest.open(tuned), place, selection=rest.selection,
        delta_rank=delta_rank, **words(ranks, form),
    ), to=form.to)  # fmt: skip
