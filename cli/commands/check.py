"""spectra check: whether a release may ship."""

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from spectra.words import CheckFormat, FailOn

from ..command import command
from ..guard import DONE, FINDINGS
from ..options import OUTPUT, Common, word

POLICY = "Policy"

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
Failing = Annotated[
    FailOn | None,
    word(
        "--fail-on", of=FailOn, metavar="SEVERITY", panel=POLICY,
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
Format = Annotated[
    CheckFormat,
    word(
        "--format", of=CheckFormat, metavar="FORMAT", panel=OUTPUT,
        help=f"What goes to standard output: {' '.join(get_args(CheckFormat))}. github prints "
        "annotations, and adds to the step summary.",
    ),
]  # fmt: skip
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
        help="Also write the result here; repeatable. The suffix is the format: .sarif, .xml "
        "(JUnit), .json .jsonl .csv .md .parquet .txt",
    ),
]  # fmt: skip
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Folder or file with weights, an adapter, or a repository of the Hub.",
    ),
]


@command(
    6,
    without=("include", "exclude", "role", "layers", "plot"),
    wording={"format": Format, "output": Output},
)
def check(
    model: Model = None,
    policy: PolicyFile = None,
    isolated: Isolated = False,
    base: Base = None,
    adapter: Merged = None,
    baseline: Baseline = None,
    save_baseline: SaveBaseline = None,
    select: Select = None,
    ignore: Ignored = None,
    fail_on: Failing = None,
    min_coverage: MinCoverage = None,
    exit_zero: ExitZero = False,
    init: Init = False,
    show_settings: ShowSettings = False,
    *,
    common: Common,
) -> int:
    """Check whether a release may ship.

    Every tensor is read; rules judge it: whole and finite, against its base, well conditioned,
    of full rank. Exit code 0: no findings that fail; 1: findings; 2: it could not be judged;
    3: too little of it could. `spectra rule` lists the rules and explains each.

    Example: spectra check release/ --baseline previous/ -o check.sarif
    """
    from spectra.policy.given import Options, changed, policy_in_force  # noqa: PLC0415 - slow to load
    from spectra.policy.writing import shown  # noqa: PLC0415

    from ..judging import judge, write_policy  # noqa: PLC0415

    if init:
        return write_policy(model, policy, common)
    given = Options(
        base=base,
        baseline=baseline,
        adapter=adapter,
        select=tuple(select or ()),
        ignore=tuple(ignore or ()),
        fail_on=fail_on,
        min_coverage=min_coverage,
    )
    chosen = changed(policy_in_force(policy, isolated=isolated), given)
    if show_settings:
        sys.stdout.write(shown(chosen))
        return DONE
    code = judge(model, chosen, common, save_baseline)
    return DONE if exit_zero and code == FINDINGS else code
