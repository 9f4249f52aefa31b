"""Rules, findings, policies: whether a release may ship."""

from spectra.policy.finding import Breach, Finding
from spectra.policy.policy import Ignore, Override, Policy
from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES, rule_of

__all__ = [
    "RULES",
    "Breach",
    "Finding",
    "Ignore",
    "Override",
    "Policy",
    "Rule",
    "Setting",
    "rule_of",
]
