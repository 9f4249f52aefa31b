"""Every rule, by its code."""

from spectra.errors import UsageError
from spectra.policy.rule import Rule
from spectra.policy.rules import (
    adapters,
    change,
    conditioning,
    hygiene,
    integrity,
    spectrum,
    width,
)
from spectra.text import guess

RULES: dict[str, Rule] = {
    rule.code: rule
    for module in (integrity, change, adapters, conditioning, spectrum, width, hygiene)
    for rule in module.RULES
}
"""In the order of their codes."""


def rules_named(word: str) -> list[Rule]:
    """Return the rule of a code or name, or all whose codes begin so; none: it names none."""
    name = word.lower().replace("_", "-")
    exact = [one for one in RULES.values() if word.upper() == one.code or name == one.name]
    begins = word.upper().startswith("SPC") and word[3:].isdecimal()
    return exact or [one for one in RULES.values() if begins and one.code.startswith(word.upper())]


def rule_of(word: str) -> Rule:
    """Return a rule by its code or name.

    Raises:
        UsageError: There is none.
    """
    for rule in RULES.values():
        if word.upper() == rule.code or word.lower() == rule.name:
            return rule
    names = [rule.name for rule in RULES.values()]
    near = guess(word.upper(), RULES, 0.8) or guess(word.lower().replace("_", "-"), names, 0.7)
    raise UsageError(f"{word!a} is no rule.{near} `spectra rule` lists all.")
