"""From a model and a policy to a planned check: what is opened, and what must be measured."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from spectra.analyzers import Diff, Width
from spectra.checkpoint import Adapter, Skipped
from spectra.checkpoint.damaged import Survey, open_damaged
from spectra.errors import CheckpointError, UsageError
from spectra.gate.baseline import Saved, of_release, read_baseline
from spectra.gate.check import Check
from spectra.gate.checkup import Checkup
from spectra.gate.fit import fit_of
from spectra.gate.reading import Reading, plan_reading
from spectra.gate.sides import Sides
from spectra.matrices import Selection
from spectra.policy import RULES, Policy
from spectra.policy.facts import Fit
from spectra.policy.judge import asked_for
from spectra.runs.analysis import Analysis
from spectra.runs.family import Given, plan_width
from spectra.text import counted, quote
from spectra.work import Plan
from spectra.work.planning.plan import weights_of
from spectra.work.task import Replaced

OF_ADAPTERS = ("adapter", "factors", "fit")
"""What rules about adapters need."""

Opener = Callable[[str], Survey]


def plan_check(
    model: str | Path,
    policy: Policy,
    opener: Opener = open_damaged,
    today: dt.date | None = None,
) -> Check:
    """Plan a check without reading weights.

    Args:
        model: The release: a model or an adapter.
        policy: What counts; its `base` and `baseline` are what it is compared with.
        opener: Opens a model, also one that is damaged.
        today: Ignores that ended before it cover nothing; today's date, UTC, by default.

    Raises:
        SpectraError: A model or the saved check cannot be read, a reference is damaged, the base
            is none, or the saved check is of another model.
    """
    release = plan_reading("model", opener(str(model)))
    baseline: Reading | Saved | None = None
    if policy.baseline is not None:
        saved = read_baseline(policy.baseline)
        baseline = (
            of_release(saved, release)
            if saved
            else plan_reading("baseline", _whole("baseline", policy.baseline, opener))
        )
    base = _base(policy, baseline, opener)
    adapter = _adapter(base, release, policy, opener)
    widths = _widths(release, policy, opener)
    spectra, tuned = _spectra(policy, release, base, baseline)
    compared = base is not None and _needed(policy, "base")
    sides = Sides()
    changes = meant = None
    if base is not None and (compared or adapter or "change" in tuned or _fits(policy, release)):
        changes = sides.compare("change", base, release)
    before = baseline if isinstance(baseline, Reading) and baseline is not base else None
    if base is not None and before is not None and (compared or "earlier" in tuned):
        sides.compare("earlier", base, before)
    lost: list[str] = []
    if base is not None and adapter is not None:
        meant = sides.compare("meant", base, adapter)
        lost = sides.compare_vectors(base, release, adapter)
    for reading in (release, base, baseline):
        if isinstance(reading, Reading):
            sides.add(reading)
    if widths is not None:
        sides.add_proxy(widths.plan)
    checkup = Checkup(
        spectra=spectra,
        tuned=tuned,
        diff=_diff(policy) if compared else None,
        replays=meant is not None,
        width=Width() if widths else None,
    )
    held = adapter.survey.checkpoint if adapter is not None else None
    unread = held.untold if isinstance(held, Adapter) else ()
    warnings = [_unseen(changes, meant, lost, unread)] if changes and meant else []
    if changes and release.is_adapter:
        warnings.append(changes.warning)
    return Check(
        policy=policy,
        model=release,
        plan=sides.plan(release),
        checkup=checkup,
        base=base,
        baseline=baseline,
        widths=widths,
        warnings=tuple(warnings),
        unpaired=changes.unpaired if changes and (compared or tuned) else None,
        today=today,
        fit=_fit(release, adapter, changes, meant),
    )


def _spectra(
    policy: Policy, release: Reading, base: Reading | None, baseline: Reading | Saved | None
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the sides that spectra are measured of, and the comparisons with the base.

    An adapter has a spectrum only together with its base.
    """
    if not _needed(policy, "spectrum"):
        return frozenset(), frozenset()
    own, tuned = set(), set()
    for reading, comparison in ((release, "change"), (baseline, "earlier")):
        if isinstance(reading, Reading) and not reading.is_adapter:
            own.add(reading.part)
        elif isinstance(reading, Reading) and base is not None:
            tuned.add(comparison)
    return frozenset(own), frozenset(tuned)


def _needed(policy: Policy, what: str) -> bool:
    return any(rule.needs == what and policy.counts(rule) for rule in RULES.values())


def _whole(part: str, spec: str, opener: Opener) -> Survey:
    """Open what a release is compared with: of what is lost there, nothing could be judged.

    Raises:
        CheckpointError: It is damaged.
    """
    found = opener(spec)
    if found.faults:
        fault = found.faults[0]
        raise CheckpointError(
            f"{part} {spec} is not whole, and a release can be judged only beside what is: "
            f"{fault.file} {fault.text}. Fetch or write it again."
        )
    return found


def _base(policy: Policy, baseline: Reading | Saved | None, opener: Opener) -> Reading | None:
    """Return what the model was trained from, else a baseline that is a model."""
    found = baseline if isinstance(baseline, Reading) else None
    told = policy.base is not None and policy.base != policy.baseline
    if policy.base is not None and (told or found is None):
        found = plan_reading("base", _whole("base", policy.base, opener))
    if found is not None and found.is_adapter:
        if policy.base is None:
            return None
        raise UsageError(f"base {policy.base} is a LoRA adapter: give the model it was trained on.")
    return found


def _diff(policy: Policy) -> Diff:
    rule, ranks = RULES["SPC101"], RULES["SPC103"]
    settings = policy.settings(rule) or rule.defaults
    return Diff(
        intruders=policy.counts(rule),
        k=int(settings["top-k"]),
        epsilon=settings["cosine"],
        # Lower bounds cannot be compared with each other.
        full_spectrum=policy.counts(ranks) and policy.sets(ranks.code, "max-regression", "outlier"),
    )


def _adapter(
    base: Reading | None, model: Reading, policy: Policy, opener: Opener
) -> Reading | None:
    """Return the adapter that the model should hold, if one is told."""
    if policy.adapter is None or not any(map(partial(_needed, policy), OF_ADAPTERS)):
        return None
    if base is None or model.is_adapter:
        raise UsageError(
            f"adapter {policy.adapter} is looked for in a merged model, by what it changed of its "
            "base. Give all three: spectra check MERGED --base BASE --adapter ADAPTER."
        )
    adapter = plan_reading("adapter", _whole("adapter", policy.adapter, opener))
    if not isinstance(adapter.survey.checkpoint, Adapter):
        raise UsageError(f"adapter {policy.adapter} is a model, expected a LoRA adapter.")
    opened = adapter.survey.checkpoint
    # Settings that contradict the tensors are a finding, and the merge is judged by the latter.
    if opened.assumed and not opened.contradictions:
        raise UsageError(
            f"adapter {policy.adapter} cannot be looked for in the model: {opened.assumed}. "
            "Give the folder with its settings."
        )
    return adapter


def _fits(policy: Policy, release: Reading) -> bool:
    return release.is_adapter and (_needed(policy, "fit") or _needed(policy, "factors"))


def _fit(
    release: Reading, adapter: Reading | None, changes: Plan | None, meant: Plan | None
) -> Fit | None:
    """Return how an adapter fits, be it the release itself or what was merged into it."""
    reading, plan = (release, changes) if adapter is None else (adapter, meant)
    opened = reading.survey.checkpoint
    return fit_of(opened, plan) if isinstance(opened, Adapter) else None


def _unseen(changes: Plan, meant: Plan, lost: Sequence[str], unread: Sequence[Skipped]) -> str:
    """Say what of an adapter is not looked for in the model; empty where all is."""
    changed = {task.place.matrix for task in meant.tasks if task.inputs[0].change}
    found = {
        task.place.matrix for task in changes.tasks if isinstance(task.inputs[0].change, Replaced)
    }
    told, lacking = [meant.warning], sorted(changed - found)
    if lacking:
        told.append(
            f"{len(lacking):,} of {counted(len(changed), 'matrix', 'matrices')} that the adapter "
            f"changes found no partner in the merged model, such as {quote(lacking[0])}."
        )
    if unread:
        first, rest = unread[0], len(unread) - 1
        more = f" and {rest:,} more" if rest else ""
        told.append(
            f"Not judged is {quote(first.tensor)}{more}, which the adapter changes: {first.reason}."
        )
    if lost:
        told.append(
            f"Of {counted(len(lost), 'bias', 'biases')} that the adapter moves base and model have "
            f"no two of its size, such as {quote(lost[0])}."
        )
    return " ".join(text for text in told if text)


def _widths(model: Reading, policy: Policy, opener: Opener) -> Analysis | None:
    rule = RULES["SPC401"]
    settings = policy.settings(rule)
    if settings is None or not policy.counts(rule) or not asked_for(policy, rule):
        return None
    proxy = weights_of(_whole("proxy", settings["proxy"], opener).checkpoint)
    analyzer = Width(tolerance=settings["tolerance"])
    return plan_width([model.weights], proxy, Given(), analyzer, Selection())
