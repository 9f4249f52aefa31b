"""A model as a page: every analysis that it is made of, and `spectra.report`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from spectra.api import diff, spectrum
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import CheckpointError, UsageError
from spectra.gate import References, plan_check
from spectra.policy import Policy
from spectra.policy.given import Options, changed, policy_in_force
from spectra.report.saving import PAGE, save
from spectra.runs.arguments import typed
from spectra.runs.opening import Device, Spec, is_model, open  # noqa: A004 - `spectra.open` is its name
from spectra.runs.planned import Planned
from spectra.runs.result import Result
from spectra.runs.saved import load
from spectra.text import quote, shown
from spectra.writing.atomic import require_writable

ALONE = "The report holds the check alone."


class Step(NamedTuple):
    """One analysis of the page."""

    name: str  # as its file would be called
    told: str
    plan: Callable[[], Planned]


def steps(
    model: Spec, base: Spec | None, policy: Policy, warn: Callable[[str], object] = str,
    *, tokens: bool = False,
) -> Iterator[Step]:  # fmt: skip
    """Yield what a page of a model is made of: it is opened before anything is measured.

    Args:
        model: What the page is about.
        base: What it was trained from.
        policy: By which it is checked.
        warn: Told of a model that is damaged, of which the check is all.
        tokens: Also tell its leading directions, and what intruders are, in tokens.

    Raises:
        SpectraError: It cannot be read, or is an adapter without a base.
    """
    references = References(open_damaged)
    name, of = references.named(model), references.named(base)
    options = Options(base=of)
    check = plan_check(str(name), changed(policy, options), references.opened)
    first = Step("check", f"check of {name}", lambda: Planned(check))
    try:
        opened = open(model)
    except CheckpointError as error:
        yield first
        warn(f"{error} {ALONE}")
        return
    if isinstance(opened, Adapter) and base is None:
        raise UsageError(
            f"{name} is an adapter, which says little without its base. Give it: "
            f"spectra report {name} --base BASE."
        )
    yield first
    before = None
    if base is not None:
        before = open(base)
        pair = diff.plan(before, opened, intruders=True, tokens=tokens)
        yield Step("diff", f"diff of {of} and {name}", lambda: pair)
        start = spectrum.plan(before)
        yield Step("base-spectrum", f"spectrum of {of}", lambda: start)
    under = before if isinstance(opened, Adapter) else None
    last = spectrum.plan(opened, base=under, tokens=tokens)
    yield Step("spectrum", f"spectrum of {name}", lambda: last)


@typed
def report(
    *results: Result | str | Path | Checkpoint | Adapter,
    base: Spec | None = None,
    output: str | Path = "report.html",
    card: bool = False,
    policy: str | Path | Policy | None = None,
    device: Device = "auto",
    tokens: bool = False,
) -> Path:
    """Write results, or one model that is measured now, as one page that needs no network.

    Args:
        results: Results, or files that hold some, as `Result.save` and `-o FILE.json` write them.
            Or one model: its check, its spectra and, with a base, what fine-tuning changed are
            measured first.
        base: Of a model, what it was trained from.
        output: The file: `.html` of any results; of one what `Result.save` takes.
        card: Write a section for the README of a model card instead, as Markdown.
        policy: Of a model: by which it is checked, as for `spectra.check`.
        device: Of a model: as for every analysis.
        tokens: Of a model: also tell its leading directions, and what intruders are, in tokens.

    Returns:
        The path.

    Raises:
        SpectraError: A file holds no result, a model cannot be read, or `output` cannot be
            written.
    """
    target = Path(output)
    for one in results:
        if not isinstance(one, Result | str | Path | Checkpoint | Adapter):
            raise UsageError(
                f"{quote(one)} is of type {type(one).__name__}. Expected results, files that hold "
                "some, or one model."
            )
    models = [one for one in results if not isinstance(one, Result) and is_model(one)]
    if models or base is not None:
        if not isinstance(policy, Policy):
            policy = policy_in_force(None if policy is None else Path(policy), isolated=True)
        return _of_model(models, results, (base, policy, tokens), target, device, card=card)
    if tokens:
        raise UsageError(
            "tokens= is of a model that is measured now, and what was given are results. Leave it "
            "out."
        )
    if policy is not None:
        raise UsageError(
            "policy= is of a model that is measured now, and what was given are results. Leave it "
            "out."
        )
    found: dict[str, Result] = {}
    for one in results:
        result = one if isinstance(one, Result) else load(one)  # type: ignore[arg-type]
        name = str(getattr(result, "path", result.command))
        found[name if name not in found else f"{name} ({len(found) + 1})"] = result
    save({name: one.document() for name, one in found.items()}, target, card=card)
    return target


def _of_model(
    models: list[Spec],
    given: tuple[object, ...],
    beside: tuple[Spec | None, Policy, bool],
    target: Path,
    device: Device,
    *,
    card: bool,
) -> Path:
    if len(models) != 1 or len(given) != 1:
        saved = next((one for one in given if one not in models), None)
        told = (
            f"{len(given)} were given" if saved is None else f"{shown(str(saved)[:80])} is a result"
        )
        raise UsageError(
            f"a page of a model is of one, and {told}. Give the model alone, and what it was "
            "trained from as base=."
        )
    if not card and target.suffix.lower() not in PAGE:
        raise UsageError(
            f"{shown(target)} holds one result, and a report of a model is made of several. Write "
            "a page: output='report.html'."
        )
    require_writable(target)
    base, policy, tokens = beside
    parts = list(steps(models[0], base, policy, tokens=tokens))
    documents = {
        f"{step.name}.json": replace(step.plan(), device=device).run().document() for step in parts
    }
    save(documents, target, card=card)
    return target
