"""spectra report: saved results as one page, a model card, or another format."""

from pathlib import Path
from typing import Annotated

import typer

from ..command import command
from ..options import OUTPUT, Quiet, option

# fmt: off
Results = Annotated[list[Path], typer.Argument(
    metavar="RESULT.json", help="Results that other commands wrote with -o FILE.json.")]
Output = Annotated[list[Path] | None, option("--output -o FILE",
    "Write here; repeatable; report.html by default. The suffix is the format: .html of "
    "any results; .json .jsonl .csv .md .parquet .txt of one; of a check also .sarif and "
    ".xml (JUnit).", OUTPUT)]
Card = Annotated[bool, option("--card",
    "Print a section for the README of a model card, or write it with -o CARD.md.", OUTPUT)]
# fmt: on


@command(9)
def report(
    result: Results, output: Output = None, card: Card = False, quiet: Quiet = False
) -> None:
    """Write a page from saved results.

    One file that needs no network: what was found, worst first, with heatmaps, tables and
    spectra to click on, the settings and the commands. No weights are read.

    Example: spectra report spectrum.json kappa.json -o report.html
    """
    from ..reporting import write_report  # noqa: PLC0415 - slow to load

    write_report(result, output or [Path("report.html")] * (not card), card=card, quiet=quiet)
