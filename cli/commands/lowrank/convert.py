"""spectra lowrank convert: an adapter of any method in the names and files of others."""

import spectra

from ...command import command
from ...options import Common
from ...writing import UNUSED, Adapter, AllRanks, OfAdapter, Places, words, write


@command(4, without=UNUSED, wording={"output": Places})
def convert(adapter: Adapter, *, ranks: AllRanks, form: OfAdapter, common: Common) -> int:
    """Write an adapter of any method as a LoRA, in PEFT's names and files or in others'.

    Factors of a LoRA stay as they are, bit for bit, unless a criterion cuts them or a scale has no
    other place than in them. Other methods become factors, with the loss stated.

    Example: spectra lowrank convert minilm-lora-r8/ --to mlx -o mlx/
    """
    return write(common, lambda rest, place: spectra.lowrank.convert.plan(
        rest.open(adapter), place, **words(ranks, form),
    ), to=form.to)  # fmt: skip
