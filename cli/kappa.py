"""spectra kappa: condition numbers, and what to train next."""

from typing import Annotated

import typer

from . import options
from .guard import guarded
from .run import Opening, Request, run_analysis

SelectOption = Annotated[
    str | None,
    typer.Option(
        "--select", metavar="SHARE",
        help="Select the lowest kappa: a share of the matrices like 10%, or how many.",
    ),
]  # fmt: skip


def kappa(
    model: options.Model,
    select: SelectOption = None,
    exact: options.Exact = False,
    allow_pickle: options.AllowPickle = False,
    download: options.Download = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    role: options.Role = None,
    layers: options.Layers = "",
    format: options.Format = "table",  # noqa: A002 - the option's own name
    output: options.Output = None,
    plot: options.Plot = None,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show condition numbers and select by them.

    The lowest are well suited for training: they carry little of what is known.
        Embeddings, output heads and routers are no candidates, unless named by --role
    (KappaTune, arXiv 2506.16289).

    Example: spectra kappa all-MiniLM-L6-v2/ --select 10% -o kappa.json
    """
    request = Request(
        format, output or (), plot or (), None, dry_run, device, workers, quiet, verbose
    )

    opened = Opening(allow_pickle, download)

    def run() -> int:
        from spectra.analyzers import Kappa  # noqa: PLC0415 - needs torch
        from spectra.api import plan_kappa  # noqa: PLC0415
        from spectra.listing import select as choose  # noqa: PLC0415

        analyzer = Kappa(select=select, exact=exact)
        selection = choose(include or (), exclude or (), role or (), layers)
        return run_analysis(request, lambda: plan_kappa(opened(model), analyzer, selection))

    raise typer.Exit(guarded(run))
