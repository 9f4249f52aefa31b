"""Every rule, by its code."""

import difflib

from spectra.errors import UsageError
from spectra.policy.rule import Rule
from spectra.policy.rules import change, conditioning, hygiene, integrity, spectrum, width

RULES: dict[str, Rule] = {
    rule.code: rule
    for module in (integrity, change, conditioning, spectrum, width, hygiene)
    for rule in module.RULES
}
"""In the order of their codes."""


def rule_of(word: str) -> Rule:
    """Return a rule by its code or name.

    Raises:
        UsageError: There is none.
    """
    for rule in RULES.values():
        if word.upper() == rule.code or word.lower() == rule.name:
            return rule
    known = [*RULES, *(rule.name for rule in RULES.values())]
    near = difflib.get_close_matches(word.upper(), known, 1, 0.5) or difflib.get_close_matches(
        word.lower(), known, 1, 0.5
    )
    guess = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"{word!a} is no rule.{guess} `spectra rule` lists all.")
