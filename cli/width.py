"""spectra width: how the largest singular values scale with width."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from . import options
from .guard import guarded
from .run import Opening, Request, run_analysis

METHOD = "Method"
LISTS = ("--eta", "--lambda", "--weight-decay", "--widths")
NUMBER = re.compile(r"[0-9.]+(?:[eE][-+]?[0-9]+)?")


class Listing(TyperCommand):
    """A command whose lists may be written with spaces: `--eta 4e-3 2e-3 1e-3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the parser's own
        """Join the numbers that follow an option of several values."""
        return super().parse_args(ctx, joined(args))


def joined(words: Sequence[str]) -> list[str]:
    """Join numbers that follow one of `LISTS` by commas; names of models are left alone."""
    found: list[str] = []
    inside = False
    for word in words:
        if inside and NUMBER.fullmatch(word) and found[-1] not in LISTS:
            found[-1] += f",{word}"
            continue
        inside = word in LISTS or (bool(found) and found[-1] in LISTS)
        found.append(word)
    return found


def numbers(option: str) -> Callable[[str | None], list[float]]:
    """Return what reads `4e-3,2e-3` of an option."""

    def read(text: str | None) -> list[float]:
        found = []
        for piece in (text or "").split(",") if text is not None else []:
            try:
                value = float(piece)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise typer.BadParameter(
                    f"{piece.strip()!r} of {text!r} is no number above 0. Expected one for all "
                    f"models or one a model: {option} 4e-3,2e-3."
                )
            found.append(value)
        return found

    return read


def _whole(text: str | None) -> list[int]:
    """Read widths."""
    values = numbers("--widths")(text)
    if any(value != int(value) for value in values):
        raise typer.BadParameter(f"{text!r} are no whole numbers, expected ones like 256,512.")
    return [int(value) for value in values]


def _share(text: str) -> float:
    """Read `10%` or 0.1."""
    try:
        value = float(text[:-1]) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        raise typer.BadParameter(f"{text!r} is no share, expected one like 10%.")
    return value


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Models of one family and of different widths; one is enough with --against.",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="PROXY", rich_help_panel=METHOD,
        help="The model whose sigma_max the others are to match; the narrowest by default.",
    ),
]  # fmt: skip
Eta = Annotated[
    str | None,
    typer.Option(
        "--eta", metavar="LIST", rich_help_panel=METHOD,
        help="Learning rate of the matrices: one for all, or one a model in the order given, "
        "the proxy of --against last. Example: 4e-3,2e-3,1e-3",
    ),
]  # fmt: skip
Lambda = Annotated[
    str | None,
    typer.Option(
        "--lambda", "--weight-decay", metavar="LIST", rich_help_panel=METHOD,
        help="Weight decay of the matrices, likewise.",
    ),
]  # fmt: skip
Widths = Annotated[
    str | None,
    typer.Option(
        "--widths", metavar="LIST", rich_help_panel=METHOD,
        help="Width of each model, likewise; read from shapes by default.",
    ),
]  # fmt: skip
Training = Annotated[
    Path | None,
    typer.Option(
        "--training", metavar="FILE", rich_help_panel=METHOD,
        help="A TOML file with eta and lambda: a table a model, by its name.",
    ),
]  # fmt: skip
Tolerance = Annotated[
    str,
    typer.Option(
        "--tolerance", metavar="SHARE", rich_help_panel=METHOD,
        help="How far a ratio to the proxy may lie from 1.",
    ),
]  # fmt: skip


def width(
    model: Models,
    against: Against = None,
    eta: Eta = None,
    weight_decay: Lambda = None,
    widths: Widths = None,
    training: Training = None,
    tolerance: Tolerance = "10%",
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
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show how the largest singular values scale with width.

    Slope of log sigma_max against log width for each role, whether models match a proxy,
    and the weight decay that would make them (arXiv 2510.15262). Learning rate and weight
    decay come from options, from --training, or from the trainer's files beside the weights.

    Example: spectra width proxy-256/ proxy-512/ target-1024/ --eta 4e-3,2e-3,1e-3 --lambda 0.1
    """
    request = Request(
        format, output or (), plot or (), None, dry_run, device, workers, quiet, verbose
    )
    opened = Opening(allow_pickle, download, variant)
    etas, lambdas = numbers("--eta")(eta), numbers("--lambda")(weight_decay)
    given_widths, share = _whole(widths), _share(tolerance)

    def run() -> int:
        from spectra.analyzers import Width  # noqa: PLC0415 - needs torch
        from spectra.runs.family import Given, plan_width  # noqa: PLC0415
        from spectra.runs.listing import select  # noqa: PLC0415

        given = Given(given_widths, etas, lambdas, training, allow_pickle)
        selection = select(include or (), exclude or (), role or (), layers)
        return run_analysis(
            request,
            lambda: plan_width(
                [opened(spec) for spec in model],
                None if against is None else opened(against),
                given,
                Width(tolerance=share),
                selection,
            ),
        )

    raise typer.Exit(guarded(run))
