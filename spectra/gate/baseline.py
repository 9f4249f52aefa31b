"""A baseline that is a saved check: its findings and numbers, without weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.checkpoint.documents import read_object
from spectra.checkpoint.local import LocalFolder
from spectra.errors import UsageError
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Finding
from spectra.text import quote
from spectra.work import Model
from spectra.work.result import SCHEMA

MAX_BASELINE = 500_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier check found."""

    model: Model
    facts: Facts
    findings: Sequence[Finding]  # accepted ones among them


def read_baseline(spec: str) -> Saved | None:
    """Read a saved check; None where the spec is no file of JSON, so a model.

    Raises:
        UsageError: It is JSON, but no check that this version can compare with.
    """
    path = Path(spec)
    if path.suffix.lower() != ".json" or spec.endswith(".index.json"):
        return None
    if not path.is_file():
        raise UsageError(
            f"baseline {spec} does not exist. Make it: spectra check MODEL --save-baseline {spec}"
        )
    document = read_object(LocalFolder(spec, path.parent, path.name).file(path.name), MAX_BASELINE)
    return saved_check(document, spec)


def saved_check(document: Mapping[str, Any], label: str) -> Saved:
    """Return what a check's document says.

    Raises:
        UsageError: It is that of another command or version, or damaged.
    """
    schema, command = document.get("schema"), document.get("command")
    if schema != SCHEMA or command != "check":
        raise UsageError(
            f"baseline {label} is {quote(f'{schema} {command}')}, expected {SCHEMA} check. Make "
            f"it: spectra check MODEL --save-baseline {label}"
        )
    try:
        subjects = [Subject.read(row) for row in document["rows"]]
        summary = document["summary"]
        found = [Finding.read(one) for one in (*summary["findings"], *summary["ignored"])]
        first = document["models"][0]
        model = Model(str(label), str(first["resolved"]), "baseline")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(
            f"baseline {label} is damaged ({type(error).__name__}: {error}). Save it again."
        ) from None
    return Saved(model, Facts({one.name: one for one in subjects}), found)
