"""A rule: what it judges and why, its settings, and the function that judges."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.words import Severity

Kind: TypeAlias = Literal["number", "share", "count", "texts", "text"]
Need: TypeAlias = Literal[
    "header", "values", "spectrum", "base", "adapter", "baseline", "proxy", "policy"
]

Settings: TypeAlias = Mapping[str, Any]
SettingsOf: TypeAlias = "Callable[[str], Settings | None]"
"""The settings of a rule for a matrix or tensor by its name; None: it is off there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy may write under `[rules.CODE]` beside `severity`."""

    key: str  # as written, `max-regression`
    kind: Kind  # a share is written as `0.1` or `"10%"`; of texts and text: globs, a reference
    default: Any  # None: not judged by it unless set
    help: str
    whole: bool = False  # read once for the model: an override cannot change it
    limit: bool = False  # "off" is a value too: nothing is judged by it
    above: float | None = None  # a number must be greater
    below: float | None = None  # a number must be less
    most: float | None = None  # a number must not be greater

    @property
    def can_be_off(self) -> bool:
        """Say whether a policy may write "off" for it."""
        return self.kind != "text" and (self.limit or self.default is None)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, with all that `spectra rule CODE` tells."""

    code: str  # SPC101
    name: str  # intruder-dimensions
    severity: Severity
    needs: Need  # what must be there to judge: without it the rule says nothing
    summary: str  # one line, without full stop
    why: str
    how: str  # how it is computed
    fix: str  # what to do about a finding
    judge: Callable[[Facts, SettingsOf], Iterable[Breach]]
    settings: tuple[Setting, ...] = ()
    asked: bool = False  # judges nothing until a policy sets one of its limits

    @property
    def defaults(self) -> dict[str, Any]:
        """Its settings where no policy says otherwise."""
        return {setting.key: setting.default for setting in self.settings}
