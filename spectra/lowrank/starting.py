"""A model without what an adapter begins as, and that adapter in a folder of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.deferred import Tensor
from spectra.lowrank.model import Model
from spectra.lowrank.output import Output
from spectra.lowrank.rewriting import Rewriting
from spectra.lowrank.writing import Run
from spectra.runs.result import Result
from spectra.work.task import Task
from spectra.writing.destination import Destination
from spectra.writing.peft import CONFIG, WEIGHTS
from spectra.writing.spool import Spool

ADAPTER = "adapter"  # the folder in the model's
OWN = tuple(f"{ADAPTER}/{name}" for name in (CONFIG, WEIGHTS))


@dataclass(frozen=True, slots=True)
class Both:
    """A `Sink` for a module's residual, which has its place, and for factors, which wait."""

    model: Rewriting
    factors: Spool

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
        """Take a task's tensors.

        Raises:
            OutputError: The disk is full, or the system refuses.
        """
        self.model.take(task, {"values": tensors["residual"]})
        self.factors.take(task, {name: tensors[name] for name in ("left", "right")})


@dataclass(frozen=True, slots=True)
class Starting:
    """Where a model and an adapter of it go."""

    model: Model
    adapter: Output

    @property
    def place(self) -> Destination:
        """The folder of the model."""
        return self.model.with_own(OWN)

    def require(self) -> None:
        """Refuse, before any work, a place where they could not be written.

        Raises:
            OutputError: They cannot.
        """
        self.model.require(OWN, self.adapter.nbytes())

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure and write; return what was found, and what is told of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """

        def fill(folder: Path) -> tuple[Result, int]:
            with Spool(self.place.above) as spool:
                both = Both(self.model.rewriting.into(folder), spool)
                result = run.into(both)
                (folder / ADAPTER).mkdir()
                nbytes = self.adapter.fill(folder / ADAPTER, result, spool)
                return result, nbytes + self.model.finish(both.model, result)

        result, nbytes = self.place.write(fill)
        return result, {"nbytes_written": nbytes}
