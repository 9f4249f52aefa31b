"""A model against its base: planned from headers, measured pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.analyzers import Diff, Row
from spectra.gate.reading import Reading
from spectra.matrices import Selection
from spectra.work import Plan, plan_pair
from spectra.work.planning.changes import Replaced


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the base's matrices."""

    plan: Plan
    analyzer: Diff
    names: Mapping[str, str]  # of the tuned model's matrices, by the base's

    def added(self, rows: Sequence[Row], compared: Sequence[Row]) -> list[Row]:
        """Add to each row of the tuned model how it differs from the base.

        Args:
            rows: Of the tuned model. An adapter has none of the base's matrices; what it
                does to them are rows of their own.
            compared: Of the pairs.
        """
        found = {self.names.get(row.matrix, row.matrix): row for row in compared}
        told = [
            replace(row, values={**row.values, **found.pop(row.matrix).values})
            if row.matrix in found
            else row
            for row in rows
        ]
        return told + list(found.values())


def plan_comparison(base: Reading, tuned: Reading, diff: Diff) -> Comparison:
    """Plan the comparison of two models.

    Raises:
        PairingError: Nothing of one belongs to the other.
    """
    plan = plan_pair(base.weights, tuned.survey.checkpoint, Selection(), lenient=True)
    names = {
        name: step.change.entry.name + part.suffix
        for step in plan.steps
        if isinstance(step.change, Replaced)
        for name, part in step.change.parts.items()
    }
    return Comparison(plan, diff, names)
