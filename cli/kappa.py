"""spectra kappa: condition numbers, and what to train next."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from . import options
from .guard import guarded
from .run import Opening, Request, run_analysis

if TYPE_CHECKING:
    from spectra.analyzers import choice

BY, PER, RANK_BY = ("matrices", "params"), ("global", "role"), ("kappa", "kappa_excess")


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """Return what refuses a word that is not known."""
    return lambda value: options.one_of(value, known)


SelectOption = Annotated[
    str | None,
    typer.Option(
        "--select", metavar="SHARE",
        help="Select the lowest: a share of the candidates like 10%, or how many.",
    ),
]  # fmt: skip
RankBy = Annotated[
    str,
    typer.Option(
        "--rank-by", metavar="KEY", callback=one_of(RANK_BY), autocompletion=lambda: list(RANK_BY),
        help="What to rank by: kappa, as published, or kappa_excess, kappa over what random "
        "numbers in the same shape have.",
    ),
]  # fmt: skip
By = Annotated[
    str,
    typer.Option(
        "--by", metavar="UNIT", callback=one_of(BY), autocompletion=lambda: list(BY),
        help="What --select is a share or a number of: matrices, or params.",
    ),
]  # fmt: skip
Per = Annotated[
    str,
    typer.Option(
        "--per", metavar="GROUP", callback=one_of(PER), autocompletion=lambda: list(PER),
        help="Take the share of all candidates (global) or of those of each role (role).",
    ),
]  # fmt: skip
IncludeEmbeddings = Annotated[
    bool,
    typer.Option(
        "--include-embeddings", help="Embeddings and output heads are candidates too."
    ),
]  # fmt: skip


EXPORTS = ("peft", "axolotl", "llamafactory", "python", "names")
Export = Annotated[
    str | None,
    typer.Option(
        "--export", metavar="FORM", rich_help_panel=options.OUTPUT,
        callback=lambda value: value if value is None else options.one_of(value, EXPORTS),
        autocompletion=lambda: list(EXPORTS),
        help="Write the selection as settings of what trains it: peft (-o FILE.json or .py), "
        "axolotl, llamafactory (.yaml), python (.py) or names (.txt); without -o to standard "
        "output.",
    ),
]  # fmt: skip


def kappa(
    model: options.Model,
    select: SelectOption = None,
    rank_by: RankBy = "kappa",
    by: By = "matrices",
    per: Per = "global",
    include_embeddings: IncludeEmbeddings = False,
    exact: options.Exact = False,
    allow_pickle: options.AllowPickle = False,
    download: options.Download = False,
    variant: options.Variant = "",
    include: options.Include = None,
    exclude: options.Exclude = None,
    role: options.Role = None,
    layers: options.Layers = "",
    format: options.Format = "table",  # noqa: A002 - the option's own name
    output: options.Output = None,
    export: Export = None,
    plot: options.Plot = None,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show condition numbers and select by them.

    The lowest are well suited for training: they carry little of what is known
    (KappaTune, arXiv 2506.16289). Embeddings, output heads, routers and
    convolutions are no candidates unless named by --role.

    Example: spectra kappa all-MiniLM-L6-v2/ --select 10% --export peft -o lora.json
    """
    if export and select is None:
        raise typer.BadParameter(
            f"{export!r} is of a selection, and nothing is selected. Add --select 10%.",
            param_hint="'--export'",
        )
    request = Request(
        format, output or (), plot or (), None, dry_run, device, workers, quiet, verbose, export
    )

    opened = Opening(allow_pickle, download, variant)

    def run() -> int:
        from spectra.analyzers import Kappa  # noqa: PLC0415 - needs torch
        from spectra.api import plan_kappa  # noqa: PLC0415
        from spectra.runs.listing import select as choose  # noqa: PLC0415

        analyzer = Kappa(
            select=select,
            by=cast("choice.By", by),
            per=cast("choice.Per", per),
            rank_by=cast("choice.RankBy", rank_by),
            include_embeddings=include_embeddings,
            exact=exact,
        )
        selection = choose(include or (), exclude or (), role or (), layers)
        return run_analysis(request, lambda: plan_kappa(opened(model), analyzer, selection))

    raise typer.Exit(guarded(run))
