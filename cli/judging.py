"""What `spectra check` does once its options are read: judge a model, or write a policy for it."""

import os
from dataclasses import replace
from pathlib import Path

from spectra.checkpoint.damaged import Survey, open_damaged
from spectra.errors import UsageError
from spectra.gate import Check, plan_check
from spectra.policy import Policy
from spectra.policy.document import policy_of
from spectra.policy.initial import initial
from spectra.report.command_line import written
from spectra.report.findings import render
from spectra.report.formats import write_texts
from spectra.runs.engine import Where, engine
from spectra.runs.planned import Planned
from spectra.writing.atomic import require_writable

from .guard import DONE, FINDINGS
from .options import Common
from .run import deliver, measured, settle_memory
from .terminal import note, progress_bar, warn


def judge(
    model: str | None,
    policy: Policy,
    common: Common,
    saved: Path | None,
    *,
    exit_zero: bool = False,
) -> int:
    """Check one model, write what was asked for, and return the exit code.

    Args:
        model: The release.
        policy: What counts.
        common: Where weights come from, what is written and how it runs.
        saved: A file to keep the check in, for a later baseline; written where the check passes.
            That of the policy stays where it is there, and is begun where it is not.
        exit_zero: Findings do not fail.

    Raises:
        SpectraError: The model cannot be read, or a file cannot be written.
    """
    release = _required(model)
    starts, kept = saved is not None and policy.baseline is None, None
    if saved and policy.baseline and Path(policy.baseline).resolve() == saved.resolve():
        starts = not saved.exists()
        saved, kept = (saved, None) if starts else (None, saved)
    asked = replace(common, output=[*common.output, *([saved] if saved else [])])

    def plan() -> Planned:
        if saved and saved.suffix.lower() != ".json":
            wrong = repr(saved.suffix or "no suffix")
            raise UsageError(f"--save-baseline {saved} ends with {wrong}, expected .json.")
        if not starts:
            return Planned(_planned(release, policy, common))
        check = _planned(release, replace(policy, baseline=None), common)
        return Planned(replace(check, policy=policy, starts=str(saved)))

    result = measured(asked, plan, findings=True)
    if result is None:
        return DONE
    passed = result.summary["passed"]
    if exit_zero and result.summary["exit_code"] == FINDINGS:
        result = replace(result, summary={**result.summary, "exit_code": DONE})
    deliver(result, asked if passed else common)
    if saved and not passed:
        note(f"warning: {saved} was not written: only a check that passes is kept as a baseline.")
    if kept:
        note(
            f"{kept} was left as it was. To take this state as known, save it without --baseline.",
            quiet=common.quiet,
        )
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page and common.format == "github":
        with Path(page).open("a", encoding="utf-8") as summary:
            summary.write(render(result.document(), "summary"))
    return int(result.summary["exit_code"])


def write_policy(
    model: str | None, path: Path | None, asked: Policy, common: Common, *, full: bool = False
) -> int:
    """Write a policy fitted to the model, by which it passes; one that is there already stays.

    Args:
        model: The release.
        path: The policy file; None: spectra.toml.
        asked: What it is to hold besides.
        common: Where weights come from and how it runs.
        full: Tell the defaults too.

    Raises:
        UsageError: There is one, or the model cannot pass by what was asked.
    """
    release, target = _required(model), path or Path("spectra.toml")
    if target.exists():
        raise UsageError(
            f"{target} exists already and was left as it is. Move it away, or write another: "
            "--policy FILE."
        )
    require_writable(target)
    settle_memory()
    planned = _planned(release, asked, common)
    where = Where(common.engine, common.address, common.memory)
    here = engine(common.workers, common.device, where, cache=not common.no_cache, tell=warn)
    with here as executor, progress_bar(quiet=common.quiet) as report:
        facts = planned.measure(executor, report)
    text = initial(facts, release, asked=asked, full=full)
    policy = policy_of(text, target)
    summary = replace(planned, policy=policy).judged(facts)
    if summary["exit_code"]:
        raise UsageError(
            f"{target} was not written: the model would not pass by it. {summary['reading']}"
        )
    write_texts({target: text})
    known = len(policy.ignores)
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

    def opened(spec: str) -> Survey:
        survey = open_damaged(
            spec, allow_pickle=common.allow_pickle, download=common.download,
            variant=common.variant,
        )  # fmt: skip
        common.tell_source(survey.checkpoint)
        return survey

    return plan_check(model, policy, opened)
