"""A baseline that is a saved check: its findings and numbers, without weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spectra.errors import UsageError
from spectra.gate.reading import Reading, renamed
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Finding
from spectra.report.document import SavedError
from spectra.report.saved import read_saved
from spectra.text import counted, quote
from spectra.words import FAILED
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
    make = f"Make it: spectra check MODEL --save-baseline {spec}"
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UsageError(
            f"baseline {spec} {what}. {make}; with --baseline {spec} as well, the first "
            "run makes it and later ones compare."
        )
    try:
        document = read_saved(path).document
    except SavedError as error:
        told = str(error.args[0]).replace("-o FILE.json", f"--save-baseline {spec}")
        raise SavedError(f"baseline {told}") from None
    if (command := document["command"]) != "check":
        raise UsageError(
            f"baseline {spec} is {quote(f'{SCHEMA} {command}')}, expected {SCHEMA} check. {make}"
        )
    subjects = [Subject.read(row) for row in document["rows"] if row["status"] != FAILED]
    summary = document["summary"]
    found = [Finding.read(one) for one in (*summary["findings"], *summary["ignored"])]
    model = Model(spec, document["models"][0]["resolved"], "baseline")
    return Saved(model, Facts({one.name: one for one in subjects}), found)


def of_release(saved: Saved, release: Reading) -> Saved:
    """Return a saved check with the names of the release that it is compared with.

    Raises:
        UsageError: Nothing of it is in the release by name and shape: it is of another model.
    """
    facts = renamed(saved.facts, list(release.weights.entries))
    here = {view.name: (view.rows, view.cols) for view in release.views}
    there = {one.name: (one.rows, one.cols) for one in facts.subjects.values()}
    both = [name for name in there if name in here]
    if not any(there[name] == here[name] for name in both):
        spec, model = saved.model.spec, release.survey.checkpoint.spec
        what = f"none of its {counted(len(there), 'tensor')} has the name of one in {model}"
        if both:
            old, new = (" x ".join(map(str, of[both[0]])) for of in (there, here))
            what = (
                f"all {counted(len(both), 'tensor')} that it shares with {model} by name have "
                f"other shapes, such as {quote(both[0])}: {old} there and {new} here"
            )
        raise UsageError(
            f"baseline {spec} is of another model: {what}. Save one of this model: spectra check "
            f"MODEL --save-baseline {spec}"
        )
    return replace(saved, facts=replace(facts, is_adapter=release.is_adapter))
