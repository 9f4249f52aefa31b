"""A model without what an adapter begins as, and that adapter in a folder of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.lowrank.model import Model
from spectra.lowrank.output import Output
from spectra.lowrank.rewriting import Rewriting
from spectra.lowrank.writing import refuse_broken
from spectra.runs.analysis import Analysis
from spectra.runs.result import Result
from spectra.text import shown
from spectra.work import Plan
from spectra.work.estimate import Estimate
from spectra.work.executor import Executor, Report, silent
from spectra.work.task import Task
from spectra.writing.folder import write_folder
from spectra.writing.peft import CONFIG, WEIGHTS
from spectra.writing.spool import Spool

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER = "adapter"  # the folder in the model's
OWN = tuple(f"{ADAPTER}/{name}" for name in (CONFIG, WEIGHTS))


@dataclass(frozen=True, slots=True)
class Both:
    """A `Sink` for a module's residual, which has its place, and for factors, which wait."""

    model: Rewriting
    factors: Spool

    def take(self, task: Task, tensors: Mapping[str, "Tensor"]) -> None:
        """Take a task's tensors.

        Raises:
            OutputError: The disk is full, or the system refuses.
        """
        self.model.take(task, {"values": tensors["residual"]})
        self.factors.take(task, {name: tensors[name] for name in ("left", "right")})


@dataclass(frozen=True, slots=True)
class Starting:
    """An analysis, and the model and the adapter that are made of what it measures."""

    analysis: Analysis
    model: Model
    adapter: Output

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

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read, measure, conclude and write.

        Raises:
            NonFiniteError: A matrix holds NaN or Inf; nothing is written.
            OutputError: The system refuses; what was there before is still there.
        """
        path, found = self.model.path, list[Result]()

        def fill(folder: Path) -> None:
            with Spool(folder.parent) as spool:
                both = Both(self.model.rewriting.into(folder), spool)
                result = self.analysis.run(executor, report, both)
                refuse_broken(result)
                settings = {**result.settings, "output": str(path), "force": self.model.force}
                result = replace(result, settings=settings)
                (folder / ADAPTER).mkdir()
                nbytes = self.adapter.fill(folder / ADAPTER, result, result.rows, spool)
                nbytes += self.model.finish(both.model, result)
            reading = f"{result.summary['reading']} Written to {shown(path)}."
            told = {"reading": reading, "written": str(path), "nbytes_written": nbytes}
            found.append(replace(result, summary={**result.summary, **told}))

        self.model.require(OWN)
        write_folder(path, fill)
        return found[0]
