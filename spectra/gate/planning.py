"""From a model and a policy to a planned check: what is opened, and what must be measured."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from spectra.analyzers import Diff, Width
from spectra.checkpoint import Adapter
from spectra.checkpoint.damaged import Survey, open_damaged
from spectra.errors import UsageError
from spectra.gate.baseline import Saved, read_baseline
from spectra.gate.check import Check
from spectra.gate.checkup import Checkup
from spectra.gate.comparison import Comparison, plan_comparison
from spectra.gate.merge import Merge, plan_merge
from spectra.gate.reading import Reading, plan_reading, weights_of
from spectra.matrices import Selection
from spectra.policy import RULES, Policy
from spectra.policy.judge import asked_for
from spectra.runs.analysis import Series
from spectra.runs.family import Given, plan_width

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
        SpectraError: A model or the saved check cannot be read, or the base is none.
    """
    survey = opener(str(model))
    # An adapter has no spectrum without its base.
    spectrum = _needed(policy, "spectrum") and not isinstance(survey.checkpoint, Adapter)
    checkup = Checkup(spectrum=spectrum)
    reading = plan_reading("model", survey, checkup)
    baseline: Reading | Saved | None = None
    if policy.baseline is not None:
        baseline = read_baseline(policy.baseline) or plan_reading(
            "baseline", opener(policy.baseline), checkup
        )
    base = _base(policy, baseline, opener)
    compared = base is not None and _needed(policy, "base")
    live = isinstance(baseline, Reading) and baseline is not base
    return Check(
        policy=policy,
        model=reading,
        base=base,
        baseline=baseline,
        changes=_comparison(base, reading, policy) if compared else None,
        earlier=_comparison(base, baseline, policy) if compared and live else None,
        merge=_merge(base, reading, policy, opener),
        widths=_widths(reading, policy, opener),
        today=today,
    )


def _needed(policy: Policy, what: str) -> bool:
    """Say whether a rule that counts needs a measurement."""
    return any(rule.needs == what and policy.counts(rule) for rule in RULES.values())


def _base(policy: Policy, baseline: Reading | Saved | None, opener: Opener) -> Reading | None:
    """Return what the model was trained from; where that is not told, a baseline that is a model.

    Raises:
        UsageError: It is an adapter.
    """
    found = baseline if isinstance(baseline, Reading) else None
    told = policy.base is not None and policy.base != policy.baseline
    if policy.base is not None and (told or found is None):
        found = plan_reading("base", opener(policy.base), Checkup(spectrum=False))
    if found is not None and isinstance(found.survey.checkpoint, Adapter):
        if policy.base is None:
            return None
        raise UsageError(f"base {policy.base} is a LoRA adapter: give the model it was trained on.")
    return found


def _comparison(base: Reading | None, tuned: Reading | Saved | None, policy: Policy) -> Comparison:
    """Plan a model against its base."""
    assert base is not None  # noqa: S101 - asked for only where there is one
    assert isinstance(tuned, Reading)  # noqa: S101 - likewise
    rule = RULES["SPC101"]
    settings = policy.settings(rule) or rule.defaults
    diff = Diff(intruders=policy.counts(rule), k=int(settings["top-k"]), epsilon=settings["cosine"])
    return plan_comparison(base, tuned, diff)


def _merge(base: Reading | None, model: Reading, policy: Policy, opener: Opener) -> Merge | None:
    """Plan the comparison with the adapter that the model should hold, if one is told.

    Raises:
        UsageError: There is no base, or it is no adapter.
    """
    if policy.adapter is None or not _needed(policy, "adapter"):
        return None
    if base is None or isinstance(model.survey.checkpoint, Adapter):
        raise UsageError(
            f"adapter {policy.adapter} is looked for in a merged model, by what it changed of its "
            "base. Give all three: spectra check MERGED --base BASE --adapter ADAPTER."
        )
    adapter = plan_reading("adapter", opener(policy.adapter), Checkup(spectrum=False))
    if not isinstance(adapter.survey.checkpoint, Adapter):
        raise UsageError(f"adapter {policy.adapter} is a model, expected a LoRA adapter.")
    if adapter.survey.checkpoint.assumed:
        raise UsageError(
            f"adapter {policy.adapter} cannot be looked for in the model: "
            f"{adapter.survey.checkpoint.assumed}. Give the folder with its settings."
        )
    return plan_merge(base, model, adapter)


def _widths(model: Reading, policy: Policy, opener: Opener) -> Series | None:
    """Plan the model beside the proxy that a policy names, if any."""
    rule = RULES["SPC401"]
    settings = policy.settings(rule)
    if settings is None or not policy.counts(rule) or not asked_for(policy, rule):
        return None
    proxy = weights_of(opener(settings["proxy"]).checkpoint)
    analyzer = Width(tolerance=settings["tolerance"])
    return plan_width([model.weights], proxy, Given(), analyzer, Selection())
