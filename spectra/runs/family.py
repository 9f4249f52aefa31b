"""Several checkpoints of one family, or of one run: what tells them apart."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spectra.analyzers import Trend, Width
from spectra.analyzers.width import Member as Known
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.trainer import Training, read_step, read_training
from spectra.errors import CheckpointError, UsageError
from spectra.matrices import Selection, View
from spectra.matrices.view import views_of
from spectra.matrices.width import require_family, require_same_shapes, width_of
from spectra.runs.analysis import Analysis, names_of
from spectra.text import quote, shown
from spectra.work import Plan, plan_model
from spectra.work.planning.plan import several

MAX_SETTINGS = 1_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says of the models, in their order; one value counts for all."""

    widths: Sequence[int] = ()
    eta: Sequence[float] = ()
    weight_decay: Sequence[float] = ()
    training: Path | None = None  # a TOML file: a table a model with `eta` and `lambda`
    allow_pickle: bool = False  # also read the optimizer's state beside the weights


def plan_width(
    models: Sequence[Checkpoint | Adapter],
    against: Checkpoint | Adapter | None,
    given: Given,
    analyzer: Width,
    selection: Selection,
) -> Analysis:
    """Plan `width` without reading weights; what is no family is refused here.

    Args:
        models: Opened, two of different width or more; one is enough beside a proxy.
        against: The proxy that the others are matched to; the narrowest by default.
        given: Widths, learning rates and weight decays, where they are not to be read.
        analyzer: Its members are filled in.
        selection: Filters on the matrices of each.

    Raises:
        SpectraError: A model cannot be read, they are no family, or nothing scales.
    """
    opened = [*models, *([against] if against is not None else [])]
    plans = [plan_model(model, selection) for model in opened]
    specs = [plan.checkpoint.spec for plan in plans]
    if len(plans) < 2:
        alone = f"{shown(specs[0])} alone" if specs else "no model"
        raise UsageError(
            f"{alone} has no slope. Give two models of different widths or more, "
            "or one to match it to: --against PROXY."
        )
    names = names_of(specs)
    require_family(_by_name(names, plans))
    for what, values in (("--widths", given.widths), ("--eta", given.eta),
                         ("--lambda", given.weight_decay)):  # fmt: skip
        _require_numbers(what, values, specs)
    widths = list(given.widths) * (len(plans) if len(given.widths) == 1 else 1) or [
        width_of(views_of(plan.checkpoint)[0], plan.checkpoint.spec) for plan in plans
    ]
    if against is None and len(set(widths)) == 1:
        raise UsageError(
            f"all {len(plans)} models are {widths[0]:,} wide: nothing scales. Give models of "
            "different widths, or compare at one width: --against PROXY."
        )
    known = _training(plans, names, given)
    members = tuple(
        Known(
            name, width, one.eta, one.weight_decay, proxy=against is not None and i == len(models)
        )
        for i, (name, width, one) in enumerate(zip(names, widths, known, strict=True))
    )
    labelled = [
        plan.labelled({"model": one.model, "width": one.width})
        for plan, one in zip(plans, members, strict=True)
    ]
    whole = several(labelled, _architectures(plans))
    return Analysis(replace(analyzer, members=members), whole, selection)


def plan_trend(
    models: Sequence[Checkpoint | Adapter], analyzer: Trend, selection: Selection
) -> Analysis:
    """Plan `spectrum --trend` without reading weights; checkpoints go by their steps.

    Raises:
        SpectraError: A checkpoint cannot be read, they are not of one run, or a step is
            unknown or there twice.
    """
    plans = [plan_model(model, selection) for model in models]
    if len(plans) < 2:
        alone = f"{shown(plans[0].checkpoint.spec)} alone" if plans else "no checkpoint"
        raise UsageError(
            f"{alone} has no trend. Give two checkpoints of the run or more, like "
            "run/checkpoint-*/."
        )
    names = names_of([plan.checkpoint.spec for plan in plans])
    require_same_shapes(_by_name(names, plans))
    steps: dict[int, str] = {}
    members = []
    for name, plan in zip(names, plans, strict=True):
        step = read_step(plan.checkpoint)
        if step is None:
            raise UsageError(
                f"the training step of {shown(plan.checkpoint.spec)} is unknown: no number in its "
                "name and no trainer_state.json in it. Name it like checkpoint-500."
            )
        if step in steps:
            raise UsageError(
                f"{shown(steps[step])} and {shown(plan.checkpoint.spec)} are both of step "
                f"{step:,}. Give one checkpoint a step."
            )
        steps[step] = plan.checkpoint.spec
        members.append((step, plan.labelled({"model": name, "step": step})))
    members.sort(key=lambda pair: pair[0])
    return Analysis(analyzer, several([plan for _, plan in members]), selection)


def read_settings(path: Path) -> dict[str, Training]:
    """Read a TOML file of learning rates and weight decays.

    A table a model, by its name; what stands outside of tables counts for all:

        lambda = 0.1
        [proxy-256]
        eta = 4e-3

    Raises:
        CheckpointError: It cannot be read or is no TOML.
        UsageError: It holds something else.
    """
    try:
        raw = path.read_bytes()[: MAX_SETTINGS + 1]
        found = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{shown(path)} is not TOML: {str(error).splitlines()[0]}. Expected tables like "
            "[proxy-256] with eta = 4e-3 and lambda = 0.1."
        ) from None
    tables = {name: table for name, table in found.items() if isinstance(table, dict)}
    general = {name: value for name, value in found.items() if name not in tables}
    return {
        name: _checked(path, name, general | table) for name, table in {"": {}, **tables}.items()
    }


def _checked(path: Path, name: str, table: Mapping[str, object]) -> Training:
    where = f"[{name}] of {shown(path)}" if name else shown(path)
    values: dict[str, float] = {}
    for key, value in table.items():
        if key not in ("eta", "lambda"):
            raise UsageError(
                f"{where} has the key {quote(key)}, expected eta (the learning rate of the "
                "matrices) and lambda (their weight decay)."
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
            raise UsageError(f"{where}: {key} is {quote(value)}, expected a number above 0.")
        values[key] = float(value)  # type: ignore[arg-type]
    return Training(values.get("eta"), values.get("lambda"))


def _training(plans: Sequence[Plan], names: Sequence[str], given: Given) -> list[Training]:
    """Return what is known of each model's training: options, then the file, then trainers'."""
    settings = read_settings(given.training) if given.training else {}
    tables = {name for name in settings if name}
    known, used = [], False
    for i, (plan, name) in enumerate(zip(plans, names, strict=True)):
        spec = plan.checkpoint.spec
        parts = [name, spec, spec.rstrip("/"), *reversed(spec.split("/"))]
        table = next((part for part in parts if part in tables), "")
        used = used or bool(table)
        options = Training(_nth(given.eta, i), _nth(given.weight_decay, i))
        known.append(
            _first(
                options,
                settings.get(table, Training()),
                read_training(plan.checkpoint, allow_pickle=given.allow_pickle),
            )
        )
    if given.training and tables and not used:
        raise UsageError(
            f"{shown(given.training)} has the tables {', '.join(map(quote, sorted(tables)[:4]))}, "
            f"and none names a model given, such as {quote(names[0])}."
        )
    return known


def _first(*known: Training) -> Training:
    return Training(
        next((one.eta for one in known if one.eta is not None), None),
        next((one.weight_decay for one in known if one.weight_decay is not None), None),
    )


def _nth(values: Sequence[float], index: int) -> float | None:
    return values[index if len(values) > 1 else 0] if values else None


def _require_numbers(what: str, values: Sequence[float], specs: Sequence[str]) -> None:
    if len(values) not in (0, 1, len(specs)):
        raise UsageError(
            f"{what} has {len(values)} values for {len(specs)} models ("
            f"{', '.join(map(shown, specs))}). Give one for all or one a model, in this order."
        )
    if wrong := [value for value in values if not 0 < value < math.inf]:
        raise UsageError(f"{what} {wrong[0]!r} is no number above 0.")


def _architectures(plans: Sequence[Plan]) -> str:
    """Say where the models' own settings call them different architectures."""
    kinds = {
        str(kind): plan.checkpoint.spec
        for plan in plans
        if isinstance(kind := plan.checkpoint.config.get("model_type"), str)
    }
    if len(kinds) < 2:
        return ""
    (one, first), (other, second) = list(kinds.items())[:2]
    return (
        f"{shown(first)} calls itself {quote(one)} and {shown(second)} {quote(other)}: their "
        "matrices have the same names, but whether they are one family is not known."
    )


def _by_name(names: Sequence[str], plans: Sequence[Plan]) -> Mapping[str, list[View]]:
    return {name: plan.views for name, plan in zip(names, plans, strict=True)}
