"""A base and several models that were made of it."""

from collections.abc import Sequence

from spectra.analyzers.diff import Diff
from spectra.analyzers.together import Together
from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis, names_of, plan_for
from spectra.work.planning.updates import plan_updates

Opened = Checkpoint | Adapter


def plan_diff(
    base: Opened,
    tuned: Sequence[Opened],
    diff: Diff,
    selection: Selection,
    *,
    merged_rank: int | None = None,
) -> Analysis:
    """Plan `diff` without reading weights.

    Args:
        base: The model before.
        tuned: What became of it; of several also how their changes lie to each other.
        diff: How each is measured.
        selection: Filters on the matrices.
        merged_rank: What the sum of several changes is cut to.

    Raises:
        SpectraError: They do not fit, or nothing is left.
    """
    if len(tuned) < 2:
        if merged_rank is not None:
            raise UsageError(
                f"--merged-rank {merged_rank} is of the sum of several changes, got one TUNED. "
                "Give two or more, or leave it out."
            )
        return Analysis(diff, plan_for(diff, [base, *tuned], selection), selection)
    if diff.per_head:
        raise UsageError(
            f"--per-head is of one TUNED, got {len(tuned)}. Compare them one by one, or leave it "
            "out."
        )
    names = names_of([model.spec for model in tuned])
    analyzer = Together(diff, diff.k, merged_rank, tuple(names))
    plan = plan_updates(base, tuned, [{"model": name} for name in names], selection)
    return Analysis(analyzer, plan, selection)
