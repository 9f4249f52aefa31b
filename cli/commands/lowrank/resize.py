"""spectra lowrank resize: an adapter with fewer directions."""

import spectra

from ...command import command
from ...options import Common
from ...writing import (
    UNUSED,
    Adapter,
    Budget,
    Energy,
    Force,
    Places,
    Rank,
    StoredAs,
    SvCumulative,
    SvFro,
    SvRatio,
    write,
)


@command(1, without=UNUSED, wording={"output": Places})
def resize(
    adapter: Adapter,
    rank: Rank = None,
    energy: Energy = None,
    budget: Budget = None,
    sv_ratio: SvRatio = None,
    sv_cumulative: SvCumulative = None,
    sv_fro: SvFro = None,
    dtype: StoredAs = None,
    force: Force = False,
    *,
    common: Common,
) -> int:
    """Write an adapter again with fewer directions, and say what is lost.

    All comes from the small cores of its factors; the update itself is never formed. Without a
    criterion every module gets its true rank, and nothing is lost.

    Example: spectra lowrank resize minilm-lora-r8/ --budget 500KB -o smaller/
    """
    return write(common, lambda rest, place: spectra.lowrank.resize.plan(
        rest.open(adapter), place, rank=rank, energy=energy, budget=budget, sv_ratio=sv_ratio,
        sv_cumulative=sv_cumulative, sv_fro=sv_fro, dtype=dtype, force=force,
    ))  # fmt: skip
