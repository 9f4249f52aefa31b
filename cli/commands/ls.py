"""spectra ls: what a checkpoint holds."""

from typing import Annotated

import typer

import spectra

from ..command import command
from ..options import Common, Model

Other = Annotated[
    str | None,
    typer.Argument(
        metavar="OTHER",
        show_default=False,
        help="What became of it, such as its next revision: hashes tell what changed.",
    ),
]


@command(
    1,
    without=(
        "download", "plot", "dry_run", "device", "workers", "memory", "engine", "address",
        "no_cache",
    ),
)  # fmt: skip
def ls(model: Model, other: Other = None, *, common: Common) -> int:
    """List the matrices of a model, or what changed between two.

    Name, role, shape and dtype of each, and every skip with its reason. Reads headers
    alone, so it takes no time whatever the model's size.

    Of two models, what became of every tensor: added, removed, of another shape or dtype, the
    same, or with other values. That is told by the hashes of the Hub, and by what earlier
    commands digested when they read both; where neither tells, it is not known.

    Example: spectra ls all-MiniLM-L6-v2/ --role attn
    """
    return common.show(
        lambda: spectra.ls(
            common.open(model),
            None if other is None else common.open(other),
            selection=common.selection,
        )
    )
