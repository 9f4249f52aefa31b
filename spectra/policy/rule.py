"""A rule: what it judges and why, its settings, and the function that judges."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.words import Severity

Kind: TypeAlias = Literal[
    "number", "share", "count", "texts", "text",  # of rules; texts are globs, a text a reference
    "severity", "part", "codes", "code", "name", "fail-on", "flag", "date",  # of all else
]  # fmt: skip
NeedWord: TypeAlias = Literal[
    "header",
    "values",
    "spectrum",
    "base",
    "adapter",
    "factors",
    "fit",
    "baseline",
    "proxy",
    "policy",
]

Settings: TypeAlias = Mapping[str, Any]
SettingsOf: TypeAlias = "Callable[[str], Settings | None]"
"""The settings of a rule for a matrix or tensor by its name; None: it is off there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a policy: of a rule's table beside `severity`, or of any other table."""

    key: str  # as written, `max-regression`
    kind: Kind  # a share is written as `0.1` or `"10%"`; a part is one of at most 1
    default: Any  # None: not judged by it unless set
    help: str
    whole: bool = False  # read once for the model: an override cannot change it
    limit: bool = False  # "off" is a value too: nothing is judged by it
    above: float | None = None  # a number must be greater
    below: float | None = None  # a number must be less
    most: float | None = None  # a number must not be greater
    some: bool = False  # a list must not be empty
    missing: str = ""  # it must be set: what to add where it is not

    @property
    def field(self) -> str:
        """Name of the attribute that it sets."""
        return self.key.replace("-", "_")

    @property
    def range(self) -> tuple[float | None, float | None, float | None]:
        """What a number must be above, below, and at most."""
        return self.above, self.below, self.most

    @property
    def about(self) -> str:
        """What it is for, and its default."""
        default = "not set" if self.default is None else self.default
        told = f"{default:g}" if isinstance(default, float) else default
        return f"{self.help} (default: {told})"

    @property
    def can_be_off(self) -> bool:
        """Say whether a policy may write "off" for it."""
        judged = self.kind in {"number", "share", "count", "texts"}
        return judged and (self.limit or self.default is None)


@dataclass(frozen=True, slots=True)
class Need:
    """What must be there for a rule to judge."""

    reads: str  # what it takes
    absent: str = ""  # why a rule could not judge
    there: Callable[[Facts], bool] = lambda _facts: True
    of_adapter: str = ""  # likewise, of an adapter without its base

    def why_not(self, facts: Facts) -> str:
        """Say why a rule could not judge what lacks it."""
        lone = facts.is_adapter and facts.base is None
        return self.of_adapter if self.of_adapter and lone else self.absent


NEEDS: Mapping[NeedWord, Need] = {
    "header": Need("headers alone"),
    "values": Need("every tensor's values"),
    "spectrum": Need(
        "all singular values of every matrix",
        "no spectrum was measured",
        lambda facts: any(one.number("sigma_max") is not None for one in facts.matrices()),
        "an adapter has no spectrum without its base (--base)",
    ),
    "base": Need(
        "a base (--base or --baseline)",
        "no base is given (--base, or a model as --baseline)",
        lambda facts: facts.base is not None,
    ),
    "adapter": Need(
        "a base and an adapter (--base, --adapter)",
        "no adapter is given (--adapter)",
        lambda facts: any(
            {"merge_scale", "merge_zero", "merge_fault"} & one.values.keys()
            for one in facts.subjects.values()
        ),
    ),
    "factors": Need(
        "an adapter (MODEL or --adapter)",
        "no adapter is given (--adapter)",
        lambda facts: facts.adapter is not None,
    ),
    "fit": Need(
        "an adapter and its base (--base)",
        "no adapter is given (--adapter)",
        lambda facts: facts.adapter is not None and facts.adapter.lost is not None,
        "no base is given (--base, or a model as --baseline)",
    ),
    "baseline": Need(
        "a baseline (--baseline)",
        "no baseline is given (--baseline)",
        lambda facts: facts.baseline is not None,
    ),
    "proxy": Need(
        "a proxy of another width", "no proxy is set", lambda facts: facts.proxy is not None
    ),
    "policy": Need("the policy alone"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, with all that `spectra rule CODE` tells."""

    code: str  # SPC101
    name: str  # intruder-dimensions
    severity: Severity
    needs: NeedWord  # what must be there to judge: without it the rule says nothing
    summary: str  # one line, without full stop
    why: str
    how: str  # how it is computed
    fix: str  # what to do about a finding
    judge: Callable[[Facts, SettingsOf], Iterable[Breach]]
    settings: tuple[Setting, ...] = ()
    asked: bool = False  # judges nothing until a policy sets one of its limits

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """What its page tells, each under a title."""
        return ("Why", self.why), ("How", self.how), ("What to do", self.fix)

    @property
    def defaults(self) -> dict[str, Any]:
        """Its settings where no policy says otherwise."""
        return {setting.key: setting.default for setting in self.settings}
