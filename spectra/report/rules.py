"""Rules as a reader sees them: the list, and the page of one."""

import textwrap
from collections.abc import Sequence
from typing import Any

from spectra.errors import UsageError
from spectra.policy import Rule
from spectra.policy.rule import NEEDS
from spectra.policy.rules import rule_of, rules_named
from spectra.report.explain import key_named
from spectra.report.table import Column, Line, Screen


def rules_meant(word: str) -> list[Rule]:
    """Return the rule that a word names, or all whose codes begin so.

    Raises:
        UsageError: There is none; of a number it says who explains it.
    """
    if found := rules_named(word):
        return found
    if key := key_named(word):
        raise UsageError(f"{word!a} is a number, no rule: `spectra explain {key}` explains it.")
    return [rule_of(word)]


def rules_screen(rules: Sequence[Rule]) -> Screen:
    """List rules."""
    columns = [Column("code", "left"), Column("severity", "left"), Column("name", "left"),
               Column("what it finds", "left", wrapping=True)]  # fmt: skip
    lines = [
        Line([rule.code, rule.severity, rule.name, rule.summary + (" *" if rule.asked else "")])
        for rule in rules
    ]
    return Screen(
        reading=f"{len(rules)} rules; spectra rule CODE explains one.",
        columns=columns,
        lines=lines,
        facts=["* judges nothing until a policy sets a limit."],
    )


def explanation(rule: Rule, limit: int | None) -> str:
    """Return a rule's whole page as text, wrapped where a terminal shows it."""
    head = f"{rule.code}  {rule.name}  ({rule.severity})"
    asked = " It judges nothing until a policy sets a limit." if rule.asked else ""
    lines = ["", f"  {head}", "", *_wrapped(f"{_sentence(rule.summary)}{asked}", limit)]
    for title, text in rule.parts:
        reads = f" Reads {NEEDS[rule.needs].reads}." if title == "How" else ""
        lines += ["", f"  {title}", *_wrapped(text + reads, limit)]
    if rule.settings:
        lines += ["", f"  Settings, under [rules.{rule.code}]"]
        width = max(len(setting.key) for setting in rule.settings)
        for one in rule.settings:
            lines += _wrapped(f"{one.key.ljust(width)}  {one.about}", limit, width + 2)
    lines += [
        "",
        "  To accept a finding, in spectra.toml",
        *(f"  {one}" for one in accepting(rule)),
    ]
    return "\n".join(lines) + "\n"


def accepting(rule: Rule) -> list[str]:
    """Return the lines of a policy by which a finding of a rule may stay, to be filled in."""
    if rule.needs == "policy":
        return [f"[rules.{rule.code}]", 'severity = "off"']
    return [
        "[[ignore]]",
        f'code = "{rule.code}"',
        'tensors = ["MATRIX"]  # as the finding names it; all without this line',
        'reason = "WHY"',
    ]


def rule_document(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON data."""
    keys = ("code", "name", "severity", "needs", "asked", "summary", "why", "how", "fix")
    return {
        **{key: getattr(rule, key) for key in keys},
        "settings": [
            {"key": one.key, "kind": one.kind, "default": one.default, "help": one.help}
            for one in rule.settings
        ],
        "accept": "\n".join(accepting(rule)),
    }


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _wrapped(text: str, limit: int | None, hanging: int = 0) -> list[str]:
    if limit is None:
        return [f"  {text}"]
    return textwrap.wrap(text, limit, initial_indent="  ", subsequent_indent="  " + " " * hanging,
                         break_on_hyphens=False)  # fmt: skip
