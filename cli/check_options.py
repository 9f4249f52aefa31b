"""The options of `spectra check` that no other command takes."""

from pathlib import Path
from typing import Annotated

import typer

from . import options

POLICY = "Policy"
FORMATS = (*options.FORMATS, "sarif", "junit", "github")
FAIL_ON = ("error", "warning", "note", "never")

PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", rich_help_panel=POLICY,
        help="Policy to judge by; else the closest .spectra.toml, spectra.toml or pyproject.toml "
        "with [tool.spectra], from here upwards.",
    ),
]  # fmt: skip
Isolated = Annotated[
    bool,
    typer.Option(
        "--isolated", rich_help_panel=POLICY, help="Look for no policy file: defaults alone."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="REF", rich_help_panel=POLICY,
        help="What the model was trained from, for the rules SPC1xx. A --baseline that is a model "
        "stands in for it.",
    ),
]  # fmt: skip
Merged = Annotated[
    str | None,
    typer.Option(
        "--adapter", metavar="REF", rich_help_panel=POLICY,
        help="A LoRA adapter that was merged into the model: that it is in there once is checked "
        "against the --base.",
    ),
]  # fmt: skip
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline", metavar="REF", rich_help_panel=POLICY,
        help="The release before: a model, or a check saved by --save-baseline. Only findings "
        "that it does not have fail.",
    ),
]  # fmt: skip
SaveBaseline = Annotated[
    Path | None,
    typer.Option(
        "--save-baseline", metavar="FILE", rich_help_panel=POLICY,
        help="Save this check as .json, for a later --baseline that needs no weights.",
    ),
]  # fmt: skip
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", metavar="CODE", rich_help_panel=POLICY,
        help="Only these rules: codes, their beginnings, or names; repeatable. Example: SPC1",
    ),
]  # fmt: skip
Ignored = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="CODE", rich_help_panel=POLICY, help="Not these rules; repeatable."
    ),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on", metavar="SEVERITY", rich_help_panel=POLICY,
        callback=lambda value: value if value is None else options.one_of(value, FAIL_ON),
        autocompletion=lambda: list(FAIL_ON),
        help="The least severe finding that fails: error (the default), warning, note or never.",
    ),
]  # fmt: skip
MinCoverage = Annotated[
    str | None,
    typer.Option(
        "--min-coverage", metavar="SHARE", rich_help_panel=POLICY,
        help="Exit with 3 unless this share of the tensors was judged. Example: 99%",
    ),
]  # fmt: skip
ExitZero = Annotated[
    bool,
    typer.Option("--exit-zero", rich_help_panel=POLICY, help="Exit with 0 even with findings."),
]
Init = Annotated[
    bool,
    typer.Option(
        "--init", rich_help_panel=POLICY,
        help="Write a commented spectra.toml (or --policy FILE) fitted to the model, and stop.",
    ),
]  # fmt: skip
ShowSettings = Annotated[
    bool,
    typer.Option(
        "--show-settings", rich_help_panel=POLICY,
        help="Print the policy in force, from file and options, and stop.",
    ),
]  # fmt: skip
CheckFormat = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", rich_help_panel=options.OUTPUT,
        callback=lambda value: options.one_of(value, FORMATS),
        autocompletion=lambda: list(FORMATS),
        help=f"What goes to standard output: {' '.join(FORMATS)}. github prints annotations, and "
        "adds to the step summary.",
    ),
]  # fmt: skip
CheckOutput = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=options.OUTPUT,
        help="Also write the result here; repeatable. The suffix is the format: .sarif, .xml "
        "(JUnit), .json .jsonl .csv .md .parquet .txt",
    ),
]  # fmt: skip
CheckModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Folder or file with weights, an adapter, or a repository of the Hub.",
    ),
]
