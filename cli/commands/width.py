"""spectra width: how the largest singular values scale with width."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import spectra
from spectra.text import share_of

from ..command import command
from ..options import Common, option
from ..usage import Worded

METHOD = "Method"
LISTS = ("--eta", "--lambda", "--weight-decay", "--widths")
NUMBER = re.compile(r"[0-9.]+(?:[eE][-+]?[0-9]+)?")


class Listing(Worded):
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


def _numbers(option: str, text: str | None) -> list[float]:
    """Read `4e-3,2e-3` of an option."""
    found = []
    for piece in text.split(",") if text is not None else []:
        value = _number(piece)
        if not (math.isfinite(value) and value > 0):
            raise typer.BadParameter(
                f"{piece.strip()!r} of {text!r} is no number above 0. Expected one for all "
                f"models or one a model: {option} 4e-3,2e-3."
            )
        found.append(value)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole(text: str | None) -> list[int]:
    values = _numbers("--widths", text)
    if any(value != int(value) for value in values):
        raise typer.BadParameter(f"{text!r} are no whole numbers, expected ones like 256,512.")
    return [int(value) for value in values]


# fmt: off
Models = Annotated[list[str], typer.Argument(
    metavar="MODEL",
    help="Models of one family and of different widths; one is enough with --against.")]
Against = Annotated[str | None, option("--against PROXY",
    "The model whose sigma_max the others are to match; the narrowest by default.", METHOD)]
Eta = Annotated[str | None, option("--eta LIST",
    "Learning rate of the matrices: one for all, or one a model in the order given, "
    "the proxy of --against last. Example: 4e-3,2e-3,1e-3", METHOD)]
Lambda = Annotated[str | None, option("--lambda --weight-decay LIST",
    "Weight decay of the matrices, likewise.", METHOD)]
Widths = Annotated[str | None, option("--widths LIST",
    "Width of each model, likewise; read from shapes by default.", METHOD)]
Training = Annotated[Path | None, option("--training FILE",
    "A TOML file with eta and lambda: a table a model, by its name.", METHOD)]
Tolerance = Annotated[str, option("--tolerance SHARE",
    "How far a ratio to the proxy may lie from 1.", METHOD)]
# fmt: on


@command(5, parser=Listing)
def width(
    model: Models,
    against: Against = None,
    eta: Eta = None,
    weight_decay: Lambda = None,
    widths: Widths = None,
    training: Training = None,
    tolerance: Tolerance = "10%",
    *,
    common: Common,
) -> int:
    """Show how the largest singular values scale with width.

    Slope of log sigma_max against log width for each role, whether models match a proxy,
    and the weight decay that would make them (arXiv 2510.15262). Learning rate and weight
    decay come from options, from --training, or from the trainer's files beside the weights.

    Example: spectra width proxy-256/ proxy-512/ target-1024/ --eta 4e-3,2e-3,1e-3 --lambda 0.1
    """
    etas, lambdas = _numbers("--eta", eta), _numbers("--lambda", weight_decay)
    given_widths, share = _whole(widths), share_of(tolerance)
    if not 0.0 < share < 1.0:
        raise typer.BadParameter(
            f"{tolerance!r} is no share. Expected above 0% and below 100%, like 10%.",
            param_hint="'--tolerance'",
        )
    return common.run(lambda: spectra.width.plan(
        list(map(common.open, model)), against=None if against is None else common.open(against),
        eta=etas, weight_decay=lambdas, widths=given_widths, training=training, tolerance=share,
        allow_pickle=common.allow_pickle, selection=common.selection,
    ))  # fmt: skip
