"""spectra lowrank init: adapters that begin as a part of the weights."""

from typing import Annotated, get_args

import typer

import spectra
from spectra.words import Chosen, InitForm, InitMethod, Stored

from ...command import command
from ...options import OUTPUT, Common, Model, one_of, option
from ...writing import Folders, Replace, write


def layer_numbers(value: str | None) -> tuple[int, ...]:
    """Read `12,16,20` as layers.

    Raises:
        typer.BadParameter: They are none.
    """
    if value is None:
        return ()
    try:
        return tuple(int(word) for word in value.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{value!r} are no layers. Expected numbers with commas between them: 12,16,20.",
            param_hint="'--ramp'",
        ) from None


METHODS = get_args(InitMethod)

# fmt: off
Method = Annotated[InitMethod, typer.Argument(
    metavar="METHOD", help=f"What it begins from: {' '.join(METHODS)}.",
    parser=lambda value: one_of(value, METHODS), autocompletion=lambda: list(METHODS))]
Rank = Annotated[int, option("--rank N",
    "Directions of each module; a smaller one gets all that it has.", least=1)]
Alpha = Annotated[float | None, option("--alpha A",
    "Of every module, s = alpha / rank; by default as published: s is 1.")]
Which = Annotated[Chosen | None, option("--chosen WHICH",
    "Which singular values: min mid max random. As published by default: pissa takes the largest, "
    "milora, soma and mica the smallest. milora knows all four, soma min and max.", of=Chosen)]
Seed = Annotated[int, option("--seed N", "Of --chosen random.", least=0)]
StartBlock = Annotated[int, option("--start-block N",
    "Leave the layers before this one as they are (SoMA).", least=0)]
Ramp = Annotated[str | None, option("--ramp LAYERS",
    "Double the rank from each of these layers on (SoMA). Example: 12,16,20")]
Form = Annotated[InitForm | None, option("--form FORM",
    "residual: the base W - s B A with the adapter in a folder of it. difference: an adapter whose "
    "update B A - B A is 0, for the base as it is. bare: B and A alone. residual by default; "
    "of mica bare.", OUTPUT, of=InitForm)]
StoredAs = Annotated[Stored, option("--dtype DTYPE",
    "Of the factors: float32, bfloat16 or float16. A residual is stored as its base is.", OUTPUT,
    of=Stored)]
# fmt: on


@command(4, without=("plot", "no_cache"), wording={"output": Folders})
def init(
    method: Method,
    model: Model,
    rank: Rank = 16,
    alpha: Alpha = None,
    chosen: Which = None,
    seed: Seed = 0,
    start_block: StartBlock = 0,
    ramp: Ramp = None,
    form: Form = None,
    dtype: StoredAs = "float32",
    force: Replace = False,
    *,
    common: Common,
) -> int:
    """Write an adapter that begins as a part of each weight, and the base without that part.

    Singular triplets are proven to be the largest or the smallest, and base and adapter together
    are the original to a stated error. All linear layers of blocks, unless a filter says other.

    Example: spectra lowrank init pissa model/ --rank 16 -o start/
    """
    layers = layer_numbers(ramp)
    return write(common, lambda rest, place: spectra.lowrank.init.plan(
        method, rest.open(model), place, rank=rank, alpha=alpha, chosen=chosen, seed=seed,
        start_block=start_block, ramp=layers, form=form, dtype=dtype, force=force,
        selection=rest.selection,
    ), "what is written")  # fmt: skip
