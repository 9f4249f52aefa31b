"""The analyses as functions: the same words as the command line."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.analyzers import Analyzer, Diff, Kappa, Row, Spectrum, Summary
from spectra.analyzers.analyzer import Round
from spectra.analyzers.kappa import NOT_CANDIDATES
from spectra.engine import Model, Plan, plan_model, plan_pair
from spectra.engine.changes import Replaced
from spectra.engine.execute import Progress, Resources, execute
from spectra.kernels.similarity import Side
from spectra.listing import Result, Spec, counted_codecs, open, package_version  # noqa: A004
from spectra.matrices import Selection, View


@dataclass(frozen=True, slots=True)
class Analysis:
    """A planned analysis: what it will cost is known, nothing has been read."""

    analyzer: Analyzer[Any]
    plan: Plan
    selection: Selection
    following: Callable[[Sequence[Row]], Round | None] | None = None
    """What to measure next, given the rows so far, where that depends on them."""

    def run(
        self,
        resources: Resources | None = None,
        report: Callable[[Progress], None] = lambda _progress: None,
    ) -> Result:
        """Read, measure and conclude."""
        start = time.perf_counter()
        rows = self._rows(resources or Resources(), report)
        marked, summary = self.analyzer.conclude(rows)
        settings = {
            field.name: getattr(self.analyzer, field.name)
            for field in dataclasses.fields(self.analyzer)  # type: ignore[arg-type]
        }
        return Result(
            command=self.analyzer.name,
            version=package_version(),
            settings=settings | dataclasses.asdict(self.selection),
            models=self._models(),
            rows=marked,
            skipped=self.plan.skipped,
            summary=self._complete(summary),
            seconds=time.perf_counter() - start,
        )

    def _rows(self, resources: Resources, report: Callable[[Progress], None]) -> list[Row]:
        """Measure, in as many rounds as it takes; natural order of names."""
        if self.following is None:
            return execute(self.plan, self.analyzer, resources, report)
        rows: dict[str, Row] = {}
        while (part := self.following(list(rows.values()))) is not None:
            plan = self.plan if part.matrices is None else self.plan.only(part.matrices)
            found = execute(plan, part.analyzer, resources, report)
            rows.update((row.matrix, row) for row in found)  # an old name keeps its place
        return list(rows.values())

    def _complete(self, summary: Summary) -> dict[str, object]:
        """Add to a summary what the analyzer cannot know or must not hide."""
        reading = [self.plan.warning, str(summary.get("reading", "")), self._lost_to_quantising()]
        broken = summary.get("non_finite")
        if broken:
            reading.append(f"{broken:,} hold NaN or Inf and have no numbers.")
        return {
            **summary,
            "reading": " ".join(text for text in reading if text),
            "skipped": len(self.plan.skipped),
        }

    def _lost_to_quantising(self) -> str:
        """Say where a change is not training's alone: one side quantised, or each differently."""
        schemes = [
            {entry.codec.name if entry.codec and entry.is_quantised else "" for entry in pair}
            for pair in (
                (step.entry, step.change.entry)
                for step in self.plan.steps
                if isinstance(step.change, Replaced)
            )
        ]
        differing = set().union(*(pair for pair in schemes if len(pair) > 1)) - {""}
        if not differing:
            return ""
        return (
            f"One side is decoded from {' and '.join(sorted(differing))}: what quantising lost is "
            "part of the change."
        )

    def _models(self) -> list[Model]:
        """Return the checkpoints, their parts, and the codecs that gave their values."""
        main, tuned = self.plan.checkpoint, self.plan.tuned
        own = counted_codecs(view.entry for step in self.plan.steps for view in step.views)
        if tuned is None:
            return [Model(main.spec, main.resolved, "model", own)]
        theirs = counted_codecs(
            step.change.entry
            for step in self.plan.steps
            if isinstance(step.change, Replaced)
            for _ in step.views
        )
        return [
            Model(main.spec, main.resolved, "base", own),
            Model(tuned.spec, tuned.resolved, "tuned", theirs),
        ]


def plan_spectrum(model: Spec, analyzer: Spectrum, selection: Selection) -> Analysis:
    """Plan `spectrum` without reading weights."""
    return Analysis(analyzer, plan_model(open(model), selection), selection)


def plan_diff(base: Spec, tuned: Spec, analyzer: Diff, selection: Selection) -> Analysis:
    """Plan `diff` without reading weights; every shape mismatch is found here."""
    return Analysis(analyzer, plan_pair(open(base), open(tuned), selection), selection)


def plan_kappa(model: Spec, analyzer: Kappa, selection: Selection) -> Analysis:
    """Plan `kappa`; embeddings, heads and routers are no candidates unless named by role."""
    named = set(selection.roles) & set(NOT_CANDIDATES)

    def leave_out(view: View) -> str | None:
        """Return why a matrix is no candidate."""
        kind = view.role.kind
        if kind in NOT_CANDIDATES and not named:
            return f"{kind} is no candidate for training"
        if min(view.rows, view.cols) == 1:
            return "a single row or column, whose kappa is always 1"
        return None

    plan = plan_model(open(model), selection, leave_out)
    if analyzer.select is None or analyzer.exact:
        return Analysis(analyzer, plan, selection)
    candidates = len(plan.views)
    return Analysis(analyzer, plan, selection, lambda rows: analyzer.following(rows, candidates))


def spectrum(
    model: Spec,
    *,
    energy: float = 0.99,
    selection: Selection | None = None,
    resources: Resources | None = None,
) -> Result:
    """Return the singular spectrum of every matrix and its summaries.

    Args:
        model: What `spectra.open` accepts, save adapters.
        energy: Share of sum sigma^2 that `energy_rank` keeps, in (0, 1].
        selection: From `spectra.select`; all matrices by default.
        resources: Workers and device.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    return plan_spectrum(model, Spectrum(energy=energy), selection or Selection()).run(resources)


def diff(
    base: Spec,
    tuned: Spec,
    *,
    intruders: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    side: Side = "left",
    exact: bool = False,
    selection: Selection | None = None,
    resources: Resources | None = None,
) -> Result:
    """Return what fine-tuning changed in every matrix.

    Args:
        base: The model before.
        tuned: The model after, or a PEFT LoRA folder.
        intruders: Also look for intruder dimensions.
        k: Leading singular vectors of the tuned matrix to examine.
        epsilon: An intruder's largest |cos| with any base vector lies below.
        side: Compare `left` (output-side) or `right` singular vectors.
        exact: Decide every verdict by two full decompositions; slower.
        selection: From `spectra.select`; all matrices by default.
        resources: Workers and device.

    Raises:
        SpectraError: A model cannot be read, the two do not fit, or nothing is left.
    """
    analyzer = Diff(intruders=intruders, k=k, epsilon=epsilon, side=side, exact=exact)
    return plan_diff(base, tuned, analyzer, selection or Selection()).run(resources)


def kappa(
    model: Spec,
    *,
    select: str | int | None = None,
    exact: bool = False,
    selection: Selection | None = None,
    resources: Resources | None = None,
) -> Result:
    """Return the condition number of every candidate matrix, and the selected ones.

    Args:
        model: What `spectra.open` accepts, save adapters.
        select: `10%` of the candidates, or a number of them; lowest kappa first.
        exact: Decompose every matrix in full, where otherwise both ends of its spectrum are
            proven to a thousandth, and what lies outside the selection may stop at a bound.
        selection: From `spectra.select`; all candidates by default.
        resources: Workers and device.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    analyzer = Kappa(select=None if select is None else str(select), exact=exact)
    return plan_kappa(model, analyzer, selection or Selection()).run(resources)
