"""spectra check: whether a release may ship."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from . import check_options as only
from . import options
from .guard import DONE, guarded
from .run import Request, chosen_device, deliver, settle_memory, show_estimate
from .terminal import note, progress_bar

if TYPE_CHECKING:
    from spectra.checkpoint.damaged import Survey
    from spectra.policy import Policy
    from spectra.runs.listing import Result


def check(
    model: only.CheckModel = None,
    policy: only.PolicyFile = None,
    isolated: only.Isolated = False,
    base: only.Base = None,
    adapter: only.Merged = None,
    baseline: only.Baseline = None,
    save_baseline: only.SaveBaseline = None,
    select: only.Select = None,
    ignore: only.Ignored = None,
    fail_on: only.FailOn = None,
    min_coverage: only.MinCoverage = None,
    exit_zero: only.ExitZero = False,
    init: only.Init = False,
    show_settings: only.ShowSettings = False,
    allow_pickle: options.AllowPickle = False,
    download: options.Download = False,
    variant: options.Variant = "",
    format: only.CheckFormat = "table",  # noqa: A002 - the option's own name
    output: only.CheckOutput = None,
    dry_run: options.DryRun = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Check whether a release may ship.

    Every tensor is read; rules judge it: whole and finite, against its base, well conditioned,
    of full rank. Exit code 0: no findings that fail; 1: findings; 2: it could not be judged;
    3: too little of it could. `spectra rule` lists the rules and explains each.

    Example: spectra check release/ --baseline previous/ -o check.sarif
    """
    request = Request(
        format, output or (), (), None, dry_run, device, workers, quiet, verbose, check=True
    )

    def opened(spec: str) -> "Survey":
        from spectra.checkpoint.damaged import open_damaged  # noqa: PLC0415 - slow to load

        return open_damaged(spec, allow_pickle=allow_pickle, download=download, variant=variant)

    def run() -> int:
        from spectra.policy.given import Options, changed, policy_in_force  # noqa: PLC0415 - needs torch

        given = Options(
            base=base,
            baseline=baseline,
            adapter=adapter,
            select=tuple(select or ()),
            ignore=tuple(ignore or ()),
            fail_on=fail_on,
            min_coverage=min_coverage,
        )
        if init:
            return _write_policy(_required(model), policy, opened, request)
        chosen = changed(policy_in_force(policy, isolated=isolated), given)
        if show_settings:
            from spectra.policy.writing import shown  # noqa: PLC0415 - as above

            sys.stdout.write(shown(chosen))
            return DONE
        return _judge(_required(model), chosen, opened, request, save_baseline, exit_zero)

    raise typer.Exit(guarded(run))


def _required(model: str | None) -> str:
    """Return the model.

    Raises:
        UsageError: None was given.
    """
    from spectra.errors import UsageError  # noqa: PLC0415 - as everywhere here

    if model is None:
        raise UsageError("no MODEL was given. Expected a folder: spectra check MODEL.")
    return model


def _judge(
    model: str,
    policy: "Policy",
    opened: "Callable[[str], Survey]",
    request: Request,
    save_baseline: Path | None,
    exit_zero: bool,
) -> int:
    """Check one model, write what was asked for, and return the exit code."""
    from spectra.gate import plan_check  # noqa: PLC0415
    from spectra.work.local import Resources  # noqa: PLC0415 - needs torch

    targets = [*request.output, *([save_baseline] if save_baseline else [])]
    replace(request, output=targets).check_targets()
    _require_json(save_baseline)
    settle_memory()
    resources = Resources(workers=request.workers, device=chosen_device(request.device))
    planned = plan_check(model, policy, opened)
    if request.dry_run:
        show_estimate(planned, request)
        return DONE
    with progress_bar(quiet=request.quiet) as report:
        result = planned.run(resources, report)
    deliver(replace(result), replace(request, output=targets))
    if request.format == "github":
        _add_step_summary(result)
    code = int(result.summary["exit_code"])
    return DONE if exit_zero and code == 1 else code


def _require_json(path: Path | None) -> None:
    """Refuse a saved check that would not be found to be one.

    Raises:
        UsageError: Its name does not end with .json.
    """
    from spectra.errors import UsageError  # noqa: PLC0415 - as everywhere here

    if path is not None and path.suffix.lower() != ".json":
        raise UsageError(
            f"--save-baseline {path} ends with {path.suffix or 'no suffix'!r}, expected .json."
        )


def _add_step_summary(result: "Result") -> None:
    """Add the summary to the page of a GitHub workflow, where there is one."""
    from spectra.report.findings import render  # noqa: PLC0415 - needs torch

    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        with Path(place).open("a", encoding="utf-8") as page:
            page.write(render(result.document(), "summary"))


def _write_policy(
    model: str, path: Path | None, opened: "Callable[[str], Survey]", request: Request
) -> int:
    """Write a policy fitted to the model; one that is there already stays.

    Raises:
        UsageError: There is one.
    """
    from spectra.errors import UsageError  # noqa: PLC0415
    from spectra.gate import plan_check  # noqa: PLC0415
    from spectra.policy import Policy  # noqa: PLC0415
    from spectra.policy.document import read_policy  # noqa: PLC0415
    from spectra.policy.initial import initial  # noqa: PLC0415
    from spectra.report.documents import write_texts  # noqa: PLC0415
    from spectra.work.local import Resources  # noqa: PLC0415 - needs torch
    from spectra.writing.atomic import require_writable  # noqa: PLC0415

    target = path or Path("spectra.toml")
    if target.exists():
        raise UsageError(
            f"{target} exists already and was left as it is. Move it away, or write another: "
            "--policy FILE."
        )
    require_writable(target)
    settle_memory()
    planned = plan_check(model, Policy(), opened)
    resources = Resources(workers=request.workers, device=chosen_device(request.device))
    with progress_bar(quiet=request.quiet) as report:
        facts = planned.measure(resources, report)
    write_texts({target: initial(facts, model)})
    known = len(read_policy(target).ignores)
    if known:
        note(
            f"warning: the model has findings already, and {target} accepts them for 90 days: look "
            f"at its {known:,} [[ignore]] before you keep it."
        )
    note(f"wrote {target}. Check by it: spectra check {model}", quiet=request.quiet)
    return DONE
