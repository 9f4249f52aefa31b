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


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Folder or file with weights, or a repository of the Hub: org/name[@revision]; "
        "with --trend several checkpoints of one run.",
    ),
]
Trend = Annotated[
    bool,
    typer.Option(
        "--trend",
        help="Follow sigma_max, stable rank and kappa over the steps of one run's checkpoints.",
    ),
]


def spectrum(
    model: Models,
    energy: Energy = 0.99,
    trend: Trend = False,
    allow_pickle: options.AllowPickle = False,
    download: options.Download = False,
    variant: options.Variant = "",
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
    stand above what noise of the same scale would give. With --trend: how they moved over
    the checkpoints of one run, each of which tells its step by its trainer_state.json or name.

    Example: spectra spectrum all-MiniLM-L6-v2/ --plot spectrum.png -o spectrum.json
    """
    if trend and values:
        raise typer.BadParameter(
            "--trend measures both ends of a spectrum, not all values. Leave out one of the two.",
            param_hint="'--values'",
        )
    if len(model) > 1 and not trend:
        raise typer.BadParameter(
            f"expected one model, got {len(model)}. Several checkpoints of one run are followed "
            "with --trend; models of several widths by `spectra width`.",
            param_hint="'MODEL'",
        )
    request = Request(
        format, output or (), plot or (), values, dry_run, device, workers, quiet, verbose
    )

    opened = Opening(allow_pickle, download, variant)

    def run() -> int:
        from spectra.analyzers import Spectrum, Trend  # noqa: PLC0415 - needs torch
        from spectra.api import plan_spectrum  # noqa: PLC0415
        from spectra.runs.family import plan_trend  # noqa: PLC0415
        from spectra.runs.listing import select  # noqa: PLC0415

        selection = select(include or (), exclude or (), role or (), layers)
        if trend:
            return run_analysis(
                request, lambda: plan_trend([opened(spec) for spec in model], Trend(), selection)
            )
        analyzer = Spectrum(energy=energy)
        return run_analysis(request, lambda: plan_spectrum(opened(model[0]), analyzer, selection))

    raise typer.Exit(guarded(run))
