"""A policy as text: what is set, and in comments what holds where nothing is."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from spectra.policy.kinds import OFF
from spectra.policy.policy import Ignore, Override, Policy
from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES
from spectra.policy.table import CHECK, IGNORE, OVERRIDE, SEVERITY

DEFAULTS = "Lines after a # have the defaults."
EXACT = 1e15  # below it a whole number reads best without a point
WIDTH = 100  # of a line, from which on a list has one item a line


def shown(policy: Policy) -> str:
    """Return the settings in force as a policy file that reads back as the same policy.

    Args:
        policy: Read from a file, or changed by options.
    """
    head = [f"The policy in force, from {policy.path or 'the defaults; no file was read'}."]
    return written(policy, [*head, DEFAULTS], full=True)


def written(
    policy: Policy,
    head: Iterable[str],
    notes: Mapping[int, str] | None = None,
    *,
    full: bool = False,
) -> str:
    """Return a policy as a commented TOML document, what it sets first.

    Args:
        policy: It.
        head: Lines of comment on top.
        notes: Lines of comment over an ignore, by its index.
        full: What has its default is told too, as comments.
    """
    lines = [*map(_comment, head), "schema = 1"]
    check = list(_check(policy, full=full))
    lines += ["", "[check]", *check] if check or full else []
    for rule in RULES.values():
        if rule.code in policy.rules:
            lines += ["", *_rule(rule, policy.rules[rule.code], full=full)]
    for override in policy.overrides:
        lines += ["", "[[override]]", *_set(override, OVERRIDE.values())]
        for code, settings in override.rules.items():
            lines += [f"[override.rules.{code}]"]
            lines += [_pair(key, value) for key, value in settings.items()]
    for index, ignore in enumerate(policy.ignores):
        note = (notes or {}).get(index)
        lines += ["", *([_comment(note)] if note else [])]
        lines += ["[[ignore]]", *_set(ignore, IGNORE.values())]
    for rule in RULES.values() if full else ():
        if rule.code not in policy.rules and policy.selects(rule.code) and rule.needs != "policy":
            lines += ["", *_rule(rule, {}, full=full)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return a line of comment; TOML has no control characters in it."""
    return f"# {text if text.isprintable() else ascii(text)}"


def _check(policy: Policy, *, full: bool) -> Iterator[str]:
    keys = {one.field: one for one in CHECK.values()}
    told = [keys[field.name] for field in fields(Policy) if field.name in keys]
    for one in sorted(told, key=lambda one: getattr(policy, one.field) == one.default):
        value = getattr(policy, one.field)
        own = value != one.default
        about = f"not set; {one.help}" if value is None else one.help
        if own or full:
            yield f"{_line(one, value, own=own)}  # {about}"


def _rule(rule: Rule, own: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    yield f"[rules.{rule.code}]  # {rule.name}: {rule.summary}"
    severity = replace(SEVERITY, default=rule.severity)
    for one in sorted((severity, *rule.settings), key=lambda one: one.key not in own):
        line = _line(one, own.get(one.key, one.default), own=one.key in own)
        if full or one.key in own:
            yield f"{line}  # {one.help}" if one.help else line


def _line(one: Setting, value: Any, *, own: bool) -> str:  # noqa: ANN401 - any setting
    """Return a key with its value; one that is not the policy's own as a comment."""
    if value is None and not one.can_be_off:
        return f'# {one.key} = "..."'
    return f"{'' if own else '# '}{_pair(one.key, value)}"


def _set(entry: Override | Ignore, keys: Iterable[Setting]) -> Iterator[str]:
    for one in keys:
        value = getattr(entry, one.field)
        if value:
            yield _pair(one.key, value)


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
        value: A text, number, flag, date, list of texts, or None.
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
        value = int(value)
    return value.isoformat() if isinstance(value, dt.date) else repr(value)
