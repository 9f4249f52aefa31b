"""The policy in force: a file's, changed by what a command line or caller says."""

import os.path
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.errors import UsageError
from spectra.policy.document import find_policy, read_policy
from spectra.policy.policy import Policy
from spectra.policy.rules import RULES, rule_of
from spectra.policy.table import CHECK
from spectra.text import pieces, share_of


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for beside the file; None and empty change nothing."""

    base: str | None = None
    baseline: str | None = None
    adapter: str | None = None
    select: tuple[str, ...] = ()  # codes, beginnings of codes, or names
    ignore: tuple[str, ...] = ()
    fail_on: str | None = None
    min_coverage: str | float | None = None  # 0.99 or "99%"


def policy_in_force(path: Path | None, *, isolated: bool = False) -> Policy:
    """Return the policy of a file, or the defaults where there is none.

    Args:
        path: The policy file; None: the closest one from here upwards, if any.
        isolated: Look for none.

    Raises:
        UsageError: The file cannot be read.
    """
    if path is None and not isolated:
        path = find_policy(Path.cwd())
        # A document names it as seen from here: it may be read on another machine.
        path = path and Path(os.path.relpath(path))
    return Policy() if path is None else read_policy(path)


def changed(policy: Policy, options: Options) -> Policy:
    """Return a policy as options change it.

    Raises:
        UsageError: An option cannot be meant.
    """
    changes: dict[str, Any] = {}
    for one in CHECK.values():
        value: Any = getattr(options, one.field, None)
        if value is None or value == ():
            continue
        if one.kind == "codes":
            value = tuple(code_of(word) for word in pieces(value))
        changes[one.field] = part_of(value) if one.kind == "part" else value
    if options.ignore:  # besides the file's
        changes["ignore"] = policy.ignore + changes["ignore"]
    return replace(policy, **changes)


def code_of(word: str) -> str:
    """Return a code, or the beginning of codes, from what was written.

    Raises:
        UsageError: No rule is meant.
    """
    upper = word.strip().upper()
    if upper and any(code.startswith(upper) for code in RULES):
        return upper
    return rule_of(word.strip()).code


def part_of(given: str | float) -> float:
    """Return a share from 0 to 1 from a number or a percentage.

    Raises:
        UsageError: It is none.
    """
    value = share_of(str(given))
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"{given!r} is no share. Expected a number from 0 to 1, or like 99%.")
    return value
