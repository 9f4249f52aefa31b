"""A question whose answer is written too: measured, concluded, and put in its place."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from spectra.errors import NonFiniteError, OutputError
from spectra.runs.analysis import Analysis
from spectra.runs.around import Around
from spectra.runs.result import Result
from spectra.text import shown
from spectra.words import FAILED
from spectra.work.executor import Executor, Report, Sink, silent
from spectra.writing.destination import Destination


@dataclass(frozen=True, slots=True)
class Run:
    """A question that is about to be measured, and by whom."""

    analysis: Analysis
    place: Destination
    executor: Executor | None
    report: Report

    def into(self, sink: Sink) -> Result:
        """Measure; a sink takes what is to be written.

        Raises:
            NonFiniteError: A matrix holds NaN or Inf.
            OutputError: One could not be measured.
        """
        result = self.analysis.run(self.executor, self.report, sink)
        refuse_broken(result)
        here = {"output": str(self.place.path), "force": self.place.force}
        return replace(result, settings={**result.settings, **here})


class Output(Protocol):
    """What is written: an adapter, a checkpoint, both, or masks."""

    @property
    def place(self) -> Destination:
        """Where it goes."""

    def require(self) -> None:
        """Refuse, before any work, a place where it could not be written.

        Raises:
            OutputError: It cannot.
        """

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure and write; return what was found, and what its summary says of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """


@dataclass(frozen=True, slots=True)
class Writing(Around[Analysis]):
    """An analysis, and what is made of what it measures."""

    output: Output

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read, measure, conclude and write.

        Raises:
            NonFiniteError: A matrix holds NaN or Inf; nothing is written.
            OutputError: The system refuses; what was there before is still there.
        """
        place = self.output.place
        self.output.require()
        result, told = self.output.write(Run(self.analysis, place, executor, report))
        reading = f"{result.summary['reading']} Written to {shown(place.path)}."
        summary = {**result.summary, "reading": reading, "written": str(place.path), **told}
        return replace(result, summary=summary)


def ready(analysis: Analysis, output: Output) -> Writing:
    """Return what is ready to run.

    Raises:
        OutputError: It could not be written.
    """
    output.require()
    return Writing(analysis, output)


def refuse_broken(result: Result) -> None:
    """Refuse to write what holds no numbers.

    Raises:
        NonFiniteError: A matrix holds NaN or Inf.
        OutputError: One could not be measured, such as for want of memory.
    """
    for status, error, more in (
        ("non-finite", NonFiniteError, "repair its weights"),
        (FAILED, OutputError, "run it again with fewer --workers; SPECTRA_DEBUG=1 shows more"),
    ):
        broken = [row for row in result.rows if row.status == status]
        if broken:
            others = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
            raise error(
                f"{broken[0].matrix}{others} cannot be written: {broken[0].error}. Nothing was "
                f"written; --exclude it where that is an option, or {more}."
            )
