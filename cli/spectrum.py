"""spectra spectrum: singular spectra of every matrix."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .guard import guarded
from .run import Opening, Request, run_analysis

Energy = Annotated[
    float,
    typer.Option("--energy", metavar="SHARE", help="Share of sum sigma^2 that energy_rank keeps."),
]
Values = Annotated[
    Path | None,
    typer.Option(
        "--values", metavar="FILE", rich_help_panel=options.OUTPUT,
        help="Also write every singular value: columns matrix, index, sigma; .parquet or .csv.",
    ),
]  # fmt: skip


def spectrum(
    model: options.Model,
    energy: Energy = 0.99,
    allow_pickle: options.AllowPickle = False,
    download: options.Download = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    role: options.Role = None,
    layers: options.Layers = "",
    format: options.Format = "table",  # noqa: A002 - the option's own name
    output: options.Output = None,
    plot: options.Plot = None,
    values: Values = None,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show singular spectra and their summaries.

    Norms, ranks, condition number, power-law exponent, and how many singular values
    stand above what noise of the same scale would give.

    Example: spectra spectrum all-MiniLM-L6-v2/ --plot spectrum.png -o spectrum.json
    """
    request = Request(
        format, output or (), plot or (), values, dry_run, device, workers, quiet, verbose
    )

    opened = Opening(allow_pickle, download)

    def run() -> int:
        from spectra.analyzers import Spectrum  # noqa: PLC0415 - needs torch
        from spectra.api import plan_spectrum  # noqa: PLC0415
        from spectra.listing import select  # noqa: PLC0415

        analyzer = Spectrum(energy=energy)
        selection = select(include or (), exclude or (), role or (), layers)
        return run_analysis(request, lambda: plan_spectrum(opened(model), analyzer, selection))

    raise typer.Exit(guarded(run))
