"""spectra report: a model or saved results as one page, a model card, or another format."""

from pathlib import Path
from typing import Annotated

import typer

from spectra.errors import UsageError

from ..command import command
from ..options import DEVICES, OUTPUT, RUN, SOURCE, NoCache, Quiet, device_of, option

# fmt: off
Results = Annotated[list[str], typer.Argument(
    metavar="MODEL|RESULT.json",
    help="One model, to analyse now; or results that other commands wrote with -o FILE.json.")]
Base = Annotated[str | None, option("--base REF",
    "Of a model: what it was trained from.", SOURCE)]
PolicyFile = Annotated[Path | None, option("--policy FILE",
    "Of a model: the policy that its check judges by; else the one that `spectra check` finds.",
    SOURCE)]
Device = Annotated[str, option("--device DEVICE",
    "Of a model: auto, cpu, cuda, cuda:N, or several: cuda:0,cuda:1.",
    RUN, offered=DEVICES, parser=device_of)]
Tokens = Annotated[bool, option("--tokens",
    "Of a model: also tell its leading directions, and what intruders are, in tokens.", SOURCE)]
Open = Annotated[bool, option("--open", "Open the page in the browser.", OUTPUT)]
Output = Annotated[list[Path] | None, option("--output -o FILE",
    "Write here; repeatable; report.html by default. The suffix is the format: .html of "
    "any results; .json .jsonl .csv .md .parquet .txt of one; of a check also .sarif and "
    ".xml (JUnit).", OUTPUT)]
Card = Annotated[bool, option("--card",
    "Print a section for the README of a model card, or write it with -o CARD.md.", OUTPUT)]
# fmt: on


@command(9)
def report(
    result: Results,
    base: Base = None,
    policy: PolicyFile = None,
    output: Output = None,
    card: Card = False,
    open_page: Open = False,
    tokens: Tokens = False,
    device: Device = "auto",
    no_cache: NoCache = False,
    quiet: Quiet = False,
) -> None:
    """Write a page of a model, or of saved results.

    One file that needs no network: the verdict, what was found, worst first, with heatmaps,
    tables and spectra to click on, the settings and the commands. Of a model its check, its
    spectra and, with --base, what fine-tuning changed are measured first; of saved results no
    weights are read.

    Example: spectra report minilm-lora-r8/ --base all-MiniLM-L6-v2/ --open
    """
    from spectra.runs.opening import is_model  # noqa: PLC0415 - slow to load

    from ..reporting import Asked, Form, report_model, report_saved  # noqa: PLC0415 - slow to load

    form = Form(output or [Path("report.html")] * (not card), card, open_page, quiet)
    if base is not None or any(is_model(one) for one in result):
        asked = Asked(base, policy, device, quiet=quiet, cache=not no_cache, tokens=tokens)
        report_model(result, asked, form)
    elif device != "auto" or policy is not None or tokens:
        word, value = (
            ("--policy", f" {policy}") if policy is not None else
            ("--device", f" {device}") if device != "auto" else ("--tokens", "")
        )  # fmt: skip
        raise UsageError(
            f"{word}{value} is of a model that is measured now, and {result[0]} is a saved "
            f"result: nothing of it is measured. Leave {word} out."
        )
    else:
        report_saved([Path(one) for one in result], form)
