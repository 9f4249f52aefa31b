"""Whether the policy itself is in order; `spectra/policy/hygiene.py` judges these."""

from collections.abc import Iterable

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.rule import Rule, SettingsOf


def not_of_a_model(facts: Facts, settings_of: SettingsOf) -> Iterable[Breach]:  # noqa: ARG001
    """Return nothing: what is found here is about the policy, once all else is judged."""
    return ()


UNUSED = Rule(
    code="SPC901",
    name="unused-ignore",
    severity="warning",
    needs="policy",
    summary="an [[ignore]] covers no finding",
    why="An exception that is no longer needed hides the next finding of its kind, which nobody "
    "has looked at.",
    how="None of the findings has its code and one of its tensors. Not told while none of its "
    "rules could judge.",
    fix="Remove the [[ignore]].",
    judge=not_of_a_model,
)
EXPIRED = Rule(
    code="SPC902",
    name="expired-ignore",
    severity="warning",
    needs="policy",
    summary="an [[ignore]] is past its `until`",
    why="It was accepted for a time, and that is over: its findings count again.",
    how="The day of the check, in UTC, is after `until`, which is the last day that it covers.",
    fix="Fix what it covered and remove it, or look at it again and move `until`.",
    judge=not_of_a_model,
)
UNMATCHED = Rule(
    code="SPC903",
    name="unmatched-pattern",
    severity="warning",
    needs="policy",
    summary="a pattern of the policy fits no tensor",
    why="Tensors that were renamed, or a slip of the pen, leave an override, an ignore or a list "
    "without effect, and nothing else tells.",
    how="No name of a tensor or matrix of the model matches the glob: of an override, of "
    "`allowed`, `expect` and the like, and of an [[ignore]] that covers something by another.",
    fix="Compare with `spectra ls MODEL -v`. In globs `*` and `?` are wild, `[` is not.",
    judge=not_of_a_model,
)
NOT_JUDGED = Rule(
    code="SPC904",
    name="not-judged",
    severity="warning",
    needs="policy",
    summary="a rule that the policy asks for could not judge",
    why="A check that lacks its base or baseline says nothing about what it was set up for, and "
    "looks green.",
    how="`select` names the rule or its group, or the policy sets its limits, and what it needs "
    "is not given; or `max-regression` is set and there is no baseline.",
    fix="Give what is missing (--base, --baseline, --adapter, or in [check]), or no longer ask.",
    judge=not_of_a_model,
)

RULES = (UNUSED, EXPIRED, UNMATCHED, NOT_JUDGED)
