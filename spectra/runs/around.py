"""A question around another: what is asked, planned and told beforehand is the inner one's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from spectra.runs.analysis import Planned
from spectra.work import Plan
from spectra.work.estimate import Estimate
from spectra.work.executor import Executor

Inner = TypeVar("Inner", bound=Planned)


@dataclass(frozen=True, slots=True)
class Around(Generic[Inner]):
    """An analysis with something done to what it finds."""

    analysis: Inner

    @property
    def command(self) -> str:
        """The name of its question."""
        return self.analysis.command

    @property
    def plan(self) -> Plan:
        """What will be read and measured."""
        return self.analysis.plan

    @property
    def notes(self) -> Sequence[str]:
        """What of it was asked for and does nothing."""
        return self.analysis.notes

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what it will cost."""
        return self.analysis.estimate(executor)
