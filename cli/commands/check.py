"""spectra check: whether a release may ship."""

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from spectra.errors import UsageError
from spectra.words import CheckFormat, FailOn

from ..command import command
from ..guard import DONE
from ..options import OUTPUT, Common, option

POLICY = "Policy"

# fmt: off
Model = Annotated[str | None, typer.Argument(
    metavar="MODEL",
    help="Folder or file with weights, an adapter, or a repository of the Hub.")]
PolicyFile = Annotated[Path | None, option("--policy FILE",
    "Policy to judge by; else the closest .spectra.toml, spectra.toml or pyproject.toml "
    "with [tool.spectra], from here upwards.", POLICY)]
Isolated = Annotated[bool, option("--isolated",
    "Look for no policy file: defaults alone.", POLICY)]
Base = Annotated[str | None, option("--base REF",
    "What the model was trained from, for the rules SPC1xx; of an adapter also for those of "
    "spectra. A --baseline that is a model stands in for it.", POLICY)]
Merged = Annotated[str | None, option("--adapter REF",
    "A LoRA adapter that was merged into the model: the merge is done again with the --base, and "
    "compared bit for bit.", POLICY)]
Baseline = Annotated[str | None, option("--baseline REF",
    "The release before: a model, or a check saved by --save-baseline. Only findings "
    "that it does not have fail.", POLICY)]
SaveBaseline = Annotated[Path | None, option("--save-baseline FILE",
    "Save this check as .json, for a later --baseline that needs no weights, and exit with 0: "
    "all that it finds is known. With the same --baseline FILE: only where there is none yet.",
    POLICY)]
Select = Annotated[list[str] | None, option("--select CODE",
    "Only these rules: codes, their beginnings, or names; repeatable, or a list with commas. "
    "Example: SPC1", POLICY)]
Ignored = Annotated[list[str] | None, option("--ignore CODE",
    "Not these rules; repeatable, or a list with commas.", POLICY)]
Failing = Annotated[FailOn | None, option("--fail-on SEVERITY",
    "The least severe finding that fails: error (the default), warning, note or never.",
    POLICY, of=FailOn)]
MinCoverage = Annotated[str | None, option("--min-coverage SHARE",
    "Exit with 3 unless this share of the tensors was judged. Example: 99%", POLICY)]
ExitZero = Annotated[bool, option("--exit-zero", "Exit with 0 even with findings.", POLICY)]
Init = Annotated[bool, option("--init",
    "Write a spectra.toml (or --policy FILE) that is fitted to the model and holds no more than "
    "what it sets, and stop.", POLICY)]
Full = Annotated[bool, option("--full",
    "With --init: all other settings too, as comments with their defaults.", POLICY)]
ShowSettings = Annotated[bool, option("--show-settings",
    "Print the policy in force, from file and options, and stop.", POLICY)]
Format = Annotated[CheckFormat, option("--format FORMAT",
    f"What goes to standard output: {' '.join(get_args(CheckFormat))}. github prints "
    "annotations, and adds to the step summary.", OUTPUT, of=CheckFormat)]
Output = Annotated[list[Path] | None, option("--output -o FILE",
    "Also write the result here; repeatable. The suffix is the format: .sarif, .xml "
    "(JUnit), .json .jsonl .csv .md .parquet .txt", OUTPUT)]
# fmt: on


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
    full: Full = False,
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
    from spectra.policy import Policy  # noqa: PLC0415
    from spectra.policy.given import Options, changed, policy_in_force  # noqa: PLC0415 - slow to load
    from spectra.policy.writing import shown  # noqa: PLC0415

    from ..judging import judge, write_policy  # noqa: PLC0415

    if full and not init:
        raise UsageError(
            "--full goes with --init alone. Write both: spectra check MODEL --init --full."
        )
    given = Options(
        base=base, baseline=baseline, adapter=adapter, select=tuple(select or ()),
        ignore=tuple(ignore or ()), fail_on=fail_on, min_coverage=min_coverage,
    )  # fmt: skip
    if init:
        _require_alone(
            "--init, which writes a policy and judges nothing",
            save_baseline=save_baseline, exit_zero=exit_zero, show_settings=show_settings,
            output=common.output, dry_run=common.dry_run,
        )  # fmt: skip
        return write_policy(model, policy, changed(Policy(), given), common, full=full)
    chosen = changed(policy_in_force(policy, isolated=isolated), given)
    if show_settings:
        _require_alone(
            "--show-settings, which prints the policy and judges nothing",
            save_baseline=save_baseline, exit_zero=exit_zero, output=common.output,
            dry_run=common.dry_run,
        )  # fmt: skip
        sys.stdout.write(shown(chosen))
        return DONE
    return judge(model, chosen, common, save_baseline, exit_zero=exit_zero)


def _require_alone(told: str, **others: object) -> None:
    """Refuse what an option that judges nothing would not do.

    Raises:
        UsageError: It was asked for.
    """
    for name in (name for name, given in others.items() if given):
        word = f"--{name.replace('_', '-')}"
        raise UsageError(f"{word} does not go with {told}. Leave one of them out.")
