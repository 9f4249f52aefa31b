"""What `spectra check` does once its options are read: judge a model, or write a policy for it."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from spectra.checkpoint.damaged import open_damaged
from spectra.errors import UsageError
from spectra.gate import Check, plan_check
from spectra.policy import Policy
from spectra.policy.document import read_policy
from spectra.policy.initial import initial
from spectra.report.command_line import written
from spectra.report.findings import render
from spectra.report.formats import write_texts
from spectra.runs.planned import Planned
from spectra.work.device import chosen_device
from spectra.work.local import Local
from spectra.writing.atomic import require_writable

from .guard import DONE
from .options import Common
from .run import deliver, measured, settle_memory
from .terminal import note, progress_bar


def judge(model: str | None, policy: Policy, common: Common, saved: Path | None) -> int:
    """Check one model, write what was asked for, and return the exit code.

    Args:
        model: The release.
        policy: What counts.
        common: Where weights come from, what is written and how it runs.
        saved: A file to keep the check in, for a later baseline.

    Raises:
        SpectraError: The model cannot be read, or a file cannot be written.
    """
    release = _required(model)
    asked = replace(common, output=[*common.output, *([saved] if saved else [])])

    def plan() -> Planned:
        if saved and saved.suffix.lower() != ".json":
            wrong = repr(saved.suffix or "no suffix")
            raise UsageError(f"--save-baseline {saved} ends with {wrong}, expected .json.")
        return Planned(_planned(release, policy, common))

    result = measured(asked, plan, findings=True)
    if result is None:
        return DONE
    deliver(result, asked)
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page and common.format == "github":
        with Path(page).open("a", encoding="utf-8") as summary:
            summary.write(render(result.document(), "summary"))
    return int(result.summary["exit_code"])


def write_policy(model: str | None, path: Path | None, common: Common) -> int:
    """Write a policy fitted to the model; one that is there already stays.

    Raises:
        UsageError: There is one.
    """
    release, target = _required(model), path or Path("spectra.toml")
    if target.exists():
        raise UsageError(
            f"{target} exists already and was left as it is. Move it away, or write another: "
            "--policy FILE."
        )
    require_writable(target)
    settle_memory()
    planned = _planned(release, Policy(), common)
    with progress_bar(quiet=common.quiet) as report:
        facts = planned.measure(Local(common.workers, chosen_device(common.device)), report)
    write_texts({target: initial(facts, release)})
    known = len(read_policy(target).ignores)
    if known:
        note(
            f"warning: the model has findings already, and {target} accepts them for 90 days: look "
            f"at its {known:,} [[ignore]] before you keep it."
        )
    options = [*(["--policy", str(path)] if path else []), *common.typed]
    last = ["--", release] if release.startswith("-") else [release]
    again = written(["check", *options, *last])
    note(f"wrote {target}. Check by it: {again}", quiet=common.quiet)
    return DONE


def _required(model: str | None) -> str:
    if model is None:
        raise UsageError("no MODEL was given. Expected a folder: spectra check MODEL.")
    return model


def _planned(model: str, policy: Policy, common: Common) -> Check:
    """Plan a check; also a damaged model is opened."""
    opened = partial(
        open_damaged, allow_pickle=common.allow_pickle, download=common.download,
        variant=common.variant,
    )  # fmt: skip
    return plan_check(model, policy, opened)
