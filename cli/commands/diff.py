"""spectra diff: what fine-tuning changed."""

from typing import Annotated

import typer

import spectra
from spectra.words import Side

from ..command import command
from ..options import Common, Exact, word

METHOD = "Method"

Base = Annotated[
    str,
    typer.Argument(metavar="BASE", help="The model before: folder, file or org/name[@revision]."),
]
Tuned = Annotated[str, typer.Argument(metavar="TUNED", help="The model after, or a LoRA adapter.")]
Intruders = Annotated[
    bool,
    typer.Option("--intruders", rich_help_panel=METHOD, help="Look for intruder dimensions."),
]
K = Annotated[
    int,
    typer.Option(
        "--k", metavar="N", rich_help_panel=METHOD,
        help="Leading singular vectors of the tuned matrix to examine.",
    ),
]  # fmt: skip
Epsilon = Annotated[
    float,
    typer.Option(
        "--epsilon", metavar="COS", rich_help_panel=METHOD,
        help="An intruder's largest |cos| with any base vector lies below.",
    ),
]  # fmt: skip
SideOption = Annotated[
    Side,
    word(
        "--side", of=Side, metavar="SIDE", panel=METHOD,
        help="left (output-side, as published) or right (input-side) singular vectors.",
    ),
]  # fmt: skip


@command(3, wording={"exact": Exact})
def diff(
    base: Base,
    tuned: Tuned,
    intruders: Intruders = False,
    k: K = 10,
    epsilon: Epsilon = 0.5,
    side: SideOption = "left",
    *,
    common: Common,
) -> int:
    """Show what fine-tuning changed.

    Size and rank of the change of every matrix, and intruder dimensions: leading singular
    vectors of the tuned matrix that resemble none of the base's, a sign of forgetting
    (arXiv 2410.21228).

    Example: spectra diff all-MiniLM-L6-v2/ minilm-lora-r8/ --intruders
    """
    return common.run(
        lambda: spectra.diff.plan(
            common.open(base),
            common.open(tuned),
            intruders=intruders,
            k=k,
            epsilon=epsilon,
            side=side,
            exact=common.exact,
            selection=common.selection,
        )
    )
