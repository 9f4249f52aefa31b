"""Every key of a policy file beside the rules' own, each described once.

Reader, refusals, schema, writer and options of the command line go by these.
"""

from collections.abc import Mapping

from spectra.policy.policy import Policy
from spectra.policy.rule import Setting

_DEFAULT = Policy()

TOP: Mapping[str, str] = {
    "schema": "Version of this format.",
    "check": "What concerns the whole check.",
    "rules": "Severity and settings of rules, by code or name.",
    "override": "Other settings for some tensors; the last that fits counts.",
    "ignore": "Findings that are known and accepted, for a reason.",
}
"""What stands at the top."""


def _keyed(*settings: Setting) -> Mapping[str, Setting]:
    return {one.key: one for one in settings}


CHECK = _keyed(
    Setting("select", "codes", _DEFAULT.select,
            "rules that count: codes, beginnings of codes, names", some=True),
    Setting("ignore", "codes", _DEFAULT.ignore, "rules that do not, of those"),
    Setting("fail-on", "fail-on", _DEFAULT.fail_on,
            "least severity that fails: error, warning, note or never"),
    Setting("fail-unchanged", "flag", _DEFAULT.fail_unchanged,
            "also findings that the baseline has"),
    Setting("base", "text", _DEFAULT.base, "what the model was trained from"),
    Setting("adapter", "text", _DEFAULT.adapter, "what was merged into the base"),
    Setting("baseline", "text", _DEFAULT.baseline,
            "the release before: a model or a saved check"),
    Setting("min-coverage", "part", _DEFAULT.min_coverage,
            "share of the tensors that must have been judged", most=1.0),
    Setting("tolerance", "share", _DEFAULT.tolerance,
            "a value this much worse than the baseline's is a new finding"),
    Setting("alias", "name", _DEFAULT.alias,
            "short name of the model, the same for all its releases"),
)  # fmt: skip
"""Under `[check]`, by the fields of `Policy`."""

OVERRIDE = _keyed(
    Setting("tensors", "texts", (), "Globs of names; * and ? are wild.", some=True,
            missing='which ones, like tensors = ["*.embed_*"]'),
    Setting("off", "codes", (), "Rules that do not count there."),
)  # fmt: skip
"""Under `[[override]]` beside its rules, by the fields of `Override`."""

IGNORE = _keyed(
    Setting("code", "code", "", "", missing='the rule, like code = "SPC101"'),
    Setting("tensors", "texts", (), "Globs of names; none: wherever it is found.", some=True),
    Setting("reason", "name", "", "Why it may stay.",
            missing='why it may stay, like reason = "issue 42"'),
    Setting("until", "date", None, "The last day on which it counts."),
)  # fmt: skip
"""Under `[[ignore]]`, by the fields of `Ignore`."""

SEVERITY = Setting("severity", "severity", None, "")
"""Under the table of every rule, before the rule's own settings."""
