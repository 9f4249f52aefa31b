"""A baseline that is a saved check: its findings and numbers, without weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import UsageError
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Finding
from spectra.report.saved import read_saved
from spectra.text import quote
from spectra.work import Model
from spectra.work.result import SCHEMA


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier check found."""

    model: Model
    facts: Facts
    findings: Sequence[Finding]  # accepted ones among them


def read_baseline(spec: str) -> Saved | None:
    """Read a saved check; None where the spec is no file of JSON, so a model.

    Raises:
        SavedError: It is JSON, but no result of spectra, or a damaged one.
        UsageError: It does not exist, or is a result of another command.
    """
    path = Path(spec)
    if path.suffix.lower() != ".json" or spec.endswith(".index.json"):
        return None
    if not path.is_file():
        raise UsageError(
            f"baseline {spec} does not exist. Make it: spectra check MODEL --save-baseline {spec}"
        )
    document = read_saved(path).document
    if (command := document["command"]) != "check":
        raise UsageError(
            f"baseline {spec} is {quote(f'{SCHEMA} {command}')}, expected {SCHEMA} check. Make "
            f"it: spectra check MODEL --save-baseline {spec}"
        )
    subjects = [Subject.read(row) for row in document["rows"]]
    summary = document["summary"]
    found = [Finding.read(one) for one in (*summary["findings"], *summary["ignored"])]
    model = Model(spec, document["models"][0]["resolved"], "baseline")
    return Saved(model, Facts({one.name: one for one in subjects}), found)
