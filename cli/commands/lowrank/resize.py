"""spectra lowrank resize: an adapter with fewer directions."""

import spectra

from ...command import command
from ...options import Common
from ...writing import UNUSED, Adapter, AllRanks, OfAdapter, Places, words, write


@command(1, without=UNUSED, wording={"output": Places})
def resize(adapter: Adapter, *, ranks: AllRanks, form: OfAdapter, common: Common) -> int:
    """Write an adapter again with fewer directions, and say what is lost.

    All comes from the small cores of its factors; the update itself is never formed. Without a
    criterion every module gets its true rank, and nothing is lost.

    Example: spectra lowrank resize minilm-lora-r8/ --budget 500KB -o smaller/
    """
    return write(common, lambda rest, place: spectra.lowrank.resize.plan(
        rest.open(adapter), place, **words(ranks, form),
    ), to=form.to)  # fmt: skip
