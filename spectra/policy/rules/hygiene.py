"""Whether the policy itself is in order."""

import datetime as dt
from collections.abc import Mapping

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.policy import Policy
from spectra.policy.rule import Rule

RULES: tuple[Rule, ...] = ()


def hygiene(
    policy: Policy, facts: Facts, used: set[int], unjudged: Mapping[str, str], today: dt.date
) -> list[tuple[Rule, Breach]]:
    """Temporary."""
    return []
