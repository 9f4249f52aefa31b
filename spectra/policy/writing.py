"""A policy as text: what is set, and in comments what holds where nothing is."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from spectra.policy.policy import Ignore, Override, Policy
from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES
from spectra.policy.values import OFF

EXACT = 1e15  # below it a whole number reads best without a point
WIDTH = 100  # of a line, from which on a list has one item a line

CHECK: dict[str, tuple[str, str]] = {
    "select": ("select", "rules that count: codes, beginnings of codes, names"),
    "ignore": ("ignore", "rules that do not, of those"),
    "fail_on": ("fail-on", "least severity that fails: error, warning, note or never"),
    "fail_unchanged": ("fail-unchanged", "also findings that the baseline has"),
    "base": ("base", "what the model was trained from"),
    "adapter": ("adapter", "what was merged into the base"),
    "baseline": ("baseline", "the release before: a model or a saved check"),
    "min_coverage": ("min-coverage", "share of the tensors that must have been judged"),
    "tolerance": ("tolerance", "a value this much worse than the baseline's is a new finding"),
    "alias": ("alias", "short name of the model, the same for all its releases"),
}
"""The key of `[check]` that sets a field of the policy, and what it is for."""


def shown(policy: Policy) -> str:
    """Return the settings in force as a policy file that reads back as the same policy.

    Args:
        policy: Read from a file, or changed by options.
    """
    head = [f"The policy in force, from {policy.path or 'the defaults; no file was read'}."]
    return written(policy, [*head, "Lines after a # have the defaults."])


def written(policy: Policy, head: Iterable[str], notes: Mapping[int, str] | None = None) -> str:
    """Return a policy as a commented TOML document.

    Args:
        policy: It.
        head: Lines of comment on top.
        notes: Lines of comment over an ignore, by its index.
    """
    lines = [*map(_comment, head), "schema = 1", "", "[check]", *_check(policy)]
    for rule in RULES.values():
        if rule.code in policy.rules or (policy.selects(rule.code) and rule.needs != "policy"):
            lines += ["", *_rule(rule, policy.rules.get(rule.code, {}))]
    for override in policy.overrides:
        lines += ["", *_override(override)]
    for index, ignore in enumerate(policy.ignores):
        note = (notes or {}).get(index)
        lines += ["", *([_comment(note)] if note else []), *_ignore(ignore)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return a line of comment; TOML has no control characters in it."""
    return f"# {text if text.isprintable() else ascii(text)}"


def _check(policy: Policy) -> Iterator[str]:
    """Yield the keys of `[check]`."""
    defaults = Policy()
    for one in fields(Policy):
        if one.name not in CHECK:
            continue
        key, what = CHECK[one.name]
        value, default = getattr(policy, one.name), getattr(defaults, one.name)
        if value is None:
            yield f'# {key} = "..."  # not set; {what}'
        else:
            yield f"{'# ' if value == default else ''}{_pair(key, value)}  # {what}"


def _rule(rule: Rule, own: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a rule."""
    yield f"[rules.{rule.code}]  # {rule.name}: {rule.summary}"
    yield f"{'' if 'severity' in own else '# '}{_pair('severity', _severity(rule, own))}"
    for setting in rule.settings:
        yield f"{_setting(setting, own)}  # {setting.help}"


def _severity(rule: Rule, own: Mapping[str, Any]) -> str:
    """Return a rule's severity, or `off`."""
    return str(own.get("severity", rule.severity))


def _setting(setting: Setting, own: Mapping[str, Any]) -> str:
    """Return one setting; one that is not the policy's own as a comment."""
    value = own.get(setting.key, setting.default)
    if setting.kind == "text" and value is None:
        return f'# {setting.key} = "..."'
    return f"{'' if setting.key in own else '# '}{_pair(setting.key, value)}"


def _override(override: Override) -> Iterator[str]:
    """Yield an `[[override]]`."""
    yield "[[override]]"
    yield _pair("tensors", override.tensors)
    if override.off:
        yield _pair("off", override.off)
    for code, settings in override.rules.items():
        yield f"[override.rules.{code}]"
        yield from (_pair(key, value) for key, value in settings.items())


def _ignore(ignore: Ignore) -> Iterator[str]:
    """Yield an `[[ignore]]`."""
    yield "[[ignore]]"
    yield _pair("code", ignore.code)
    if ignore.tensors:
        yield _pair("tensors", ignore.tensors)
    yield _pair("reason", ignore.reason)
    if ignore.until is not None:
        yield f"until = {ignore.until.isoformat()}"


def _pair(key: str, value: Any) -> str:  # noqa: ANN401 - any setting
    """Return a key and its value; a list that is long takes a line for each item."""
    line = f"{key} = {toml(value)}"
    if isinstance(value, tuple | list) and len(line) > WIDTH:
        items = "".join(f"    {toml(item)},\n" for item in value)
        return f"{key} = [\n{items}]"
    return line


def toml(value: Any) -> str:  # noqa: ANN401 - any setting
    """Return a value as TOML; None as "off".

    Args:
        value: A text, number, flag, list of texts, or None.
    """
    if value is None:
        return f'"{OFF}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML does not have as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return repr(value)
