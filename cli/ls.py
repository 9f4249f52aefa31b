"""spectra ls: what a checkpoint holds."""

import typer

from . import options
from .guard import guarded
from .run import Opening, Request, deliver, settle_memory


def ls(
    model: options.Model,
    allow_pickle: options.AllowPickle = False,
    variant: options.Variant = "",
    include: options.Include = None,
    exclude: options.Exclude = None,
    role: options.Role = None,
    layers: options.Layers = "",
    format: options.Format = "table",  # noqa: A002 - the option's own name
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List the matrices of a model.

    Name, role, shape and dtype of each, and every skip with its reason. Reads headers
    alone, so it takes no time whatever the model's size.

    Example: spectra ls all-MiniLM-L6-v2/ --role attn
    """
    request = Request(format=format, output=output or (), quiet=quiet, verbose=verbose)

    opened = Opening(allow_pickle, variant=variant)

    def run() -> None:
        import spectra  # noqa: PLC0415 - needs torch

        request.check_targets()
        settle_memory()
        selection = spectra.select(include or (), exclude or (), role or (), layers)
        deliver(spectra.ls(opened(model), selection=selection), request)

    raise typer.Exit(guarded(run))
