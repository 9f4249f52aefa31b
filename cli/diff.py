"""spectra diff: what fine-tuning changed."""

from typing import Annotated

import typer

from . import options
from .guard import guarded
from .run import Opening, Request, run_analysis

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
    str,
    typer.Option(
        "--side", metavar="SIDE", rich_help_panel=METHOD,
        callback=lambda value: options.one_of(value, ("left", "right")),
        help="left (output-side, as published) or right (input-side) singular vectors.",
    ),
]  # fmt: skip


def diff(
    base: Base,
    tuned: Tuned,
    intruders: Intruders = False,
    k: K = 10,
    epsilon: Epsilon = 0.5,
    side: SideOption = "left",
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
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    exact: options.Exact = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what fine-tuning changed.

    Size and rank of the change of every matrix, and intruder dimensions: leading singular
    vectors of the tuned matrix that resemble none of the base's, a sign of forgetting
    (arXiv 2410.21228).

    Example: spectra diff all-MiniLM-L6-v2/ minilm-lora-r8/ --intruders
    """
    request = Request(
        format, output or (), plot or (), None, dry_run, device, workers, quiet, verbose
    )

    opened = Opening(allow_pickle, download, variant)

    def run() -> int:
        from spectra.analyzers import Diff  # noqa: PLC0415 - needs torch
        from spectra.api import plan_diff  # noqa: PLC0415
        from spectra.runs.listing import select  # noqa: PLC0415
        from spectra.words import Side  # noqa: PLC0415

        chosen: Side = "left" if side == "left" else "right"
        analyzer = Diff(intruders=intruders, k=k, epsilon=epsilon, side=chosen, exact=exact)
        selection = select(include or (), exclude or (), role or (), layers)
        return run_analysis(
            request, lambda: plan_diff(opened(base), opened(tuned), analyzer, selection)
        )

    raise typer.Exit(guarded(run))
