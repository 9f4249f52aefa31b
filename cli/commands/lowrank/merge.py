"""spectra lowrank merge: the weighted sum of several adapters."""

from typing import Annotated

import typer

import spectra

from ...command import command
from ...options import Common, option
from ...writing import UNUSED, AllRanks, OfAdapter, Places, words, write


def numbers(value: str | None) -> tuple[float, ...]:
    """Read `0.5,0.5` as numbers.

    Raises:
        typer.BadParameter: They are none.
    """
    if value is None:
        return ()
    try:
        return tuple(float(word) for word in value.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{value!r} are no weights. Expected numbers with commas between them: 0.5,0.5.",
            param_hint="'--weights'",
        ) from None


# fmt: off
Adapters = Annotated[list[str], typer.Argument(
    metavar="ADAPTER", help="Two or more LoRAs of one base.")]
Weights = Annotated[str | None, option("--weights W,W",
    "Of each adapter's update, in their order; 1 each by default. Example: 0.7,0.3")]
# fmt: on


@command(2, without=UNUSED, wording={"output": Places})
def merge(
    adapters: Adapters,
    weights: Weights = None,
    *,
    ranks: AllRanks,
    form: OfAdapter,
    common: Common,
) -> int:
    """Write the weighted sum of several adapters as one.

    Their factors are stacked, which is exact, and then cut to the true rank of the sum, or to
    what is asked for, with the loss stated.

    Example: spectra lowrank merge one/ other/ --weights 0.7,0.3 --rank 8 -o both/
    """
    given = numbers(weights)
    return write(common, lambda rest, place: spectra.lowrank.merge.plan(
        [rest.open(one) for one in adapters], place, weights=given, **words(ranks, form),
    ), to=form.to)  # fmt: skip
