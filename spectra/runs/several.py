"""A base and several models that were made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spectra.analyzers.course import Course
from spectra.analyzers.diff import Diff
from spectra.analyzers.sorsa import Sorsa
from spectra.analyzers.together import Together
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.trainer import read_step
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis, names_of, plan_for
from spectra.text import shown
from spectra.work.planning.plan import weights_of
from spectra.work.planning.updates import plan_updates

Opened = Checkpoint | Adapter


@dataclass(frozen=True, slots=True)
class Beside:
    """What is asked of several models beside what each changed."""

    merged_rank: int | None = None  # of the sum of their changes
    trend: bool = False  # they are checkpoints of one run
    sorsa: bool = True  # of which all triplets are compared


def plan_diff(
    base: Opened,
    tuned: Sequence[Opened],
    diff: Diff,
    selection: Selection,
    beside: Beside = Beside(),
) -> Analysis:
    """Plan `diff` without reading weights.

    Args:
        base: The model before.
        tuned: What became of it; of several also how their changes lie to each other.
        diff: How each is measured.
        selection: Filters on the matrices.
        beside: What several are asked for.

    Raises:
        SpectraError: They do not fit, nothing is left, or something is asked that goes with others.
    """
    rank = beside.merged_rank
    if len(tuned) > 1 and diff.per_head:
        raise UsageError(
            f"--per-head is of one TUNED, got {len(tuned)}. Compare them one by one, or leave it "
            "out."
        )
    if beside.trend:
        if rank is not None:
            raise UsageError(
                f"--merged-rank {rank} is of changes that are added up, and those of one run "
                "follow each other. Leave out one of --merged-rank and --trend."
            )
        return plan_course(base, tuned, diff, selection, sorsa=beside.sorsa)
    if not beside.sorsa:
        raise UsageError("--no-sorsa leaves out a part of --trend, which is not asked for.")
    if len(tuned) < 2:
        if rank is not None:
            raise UsageError(
                f"--merged-rank {rank} is of the sum of several changes, got one TUNED. "
                "Give two or more, or leave it out."
            )
        plan = plan_for(diff, [base, *tuned], selection)
        if made := _methods(tuned):
            diff = replace(diff, method=made[0])
        return Analysis(diff, plan, selection)
    names = names_of([model.spec for model in tuned])
    analyzer = Together(diff, diff.k, rank, tuple(names), _methods(tuned))
    plan = plan_updates(base, tuned, [{"model": name} for name in names], selection)
    return Analysis(analyzer, plan, selection)


def plan_course(
    base: Opened, tuned: Sequence[Opened], diff: Diff, selection: Selection, *, sorsa: bool = True
) -> Analysis:
    """Plan `diff --trend` without reading weights; checkpoints go by their steps.

    Where one tells none, or two tell the same, all stand as they were given.

    Args:
        base: The model before.
        tuned: Checkpoints of one run, models or adapters, in any order.
        diff: How each is measured; intruders are looked for.
        selection: Filters on the matrices.
        sorsa: Also compare all triplets, which takes two full decompositions of every matrix.

    Raises:
        SpectraError: They do not fit, or nothing is left.
    """
    if len(tuned) < 2:
        raise UsageError(
            f"{shown(tuned[0].spec) if tuned else 'no checkpoint'} alone has no trend. Give two "
            "checkpoints of the run or more after BASE, like run/checkpoint-*/."
        )
    found = [read_step(weights_of(model)) for model in tuned]
    steps = [step for step in found if step is not None]
    notes = []
    if len(steps) == len(tuned) == len(set(steps)):
        tuned = [model for _, model in sorted(zip(steps, tuned, strict=True), key=lambda x: x[0])]
        steps.sort()
    else:
        why = "some tell no training step" if None in found else "two are of one step"
        notes.append(f"the checkpoints stand in the order given: {why}. Name them like step-500")
        steps = []
    names = names_of([model.spec for model in tuned])
    labels: list[dict[str, str | int]] = [{"model": name} for name in names]
    if steps:
        labels = [{**own, "step": step} for own, step in zip(labels, steps, strict=True)]
    plan = plan_updates(base, tuned, labels, selection)
    analyzer = Course(
        replace(diff, intruders=True), Sorsa(), sorsa, tuple(names), tuple(steps), _methods(tuned)
    )
    return Analysis(analyzer, replace(plan, notes=(*plan.notes, *notes)), selection)


def _methods(tuned: Sequence[Opened]) -> tuple[str, ...]:
    """Return by which method each adapter that is no LoRA was made; empty where none is one."""
    made = [one.method if isinstance(one, Adapter) and one.updates else "" for one in tuned]
    return tuple(made) if any(made) else ()
