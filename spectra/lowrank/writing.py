"""A question whose answer is written too: measured into a spool, concluded, put together."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from spectra.checkpoint import Skipped
from spectra.errors import NonFiniteError
from spectra.lowrank.output import Output
from spectra.runs.analysis import Analysis
from spectra.runs.result import Result
from spectra.text import shown
from spectra.work import Plan
from spectra.work.estimate import Estimate
from spectra.work.executor import Executor, Report, silent
from spectra.writing.spool import Spool


@dataclass(frozen=True, slots=True)
class Writing:
    """An analysis, and the adapter that is made of what it measures."""

    analysis: Analysis
    output: Output
    first: Callable[[], None] = lambda: None
    """Refuses, before anything is measured, what cannot be written, and only reading it tells."""
    settle: Callable[[Output, Set[str]], tuple[Output, list[Skipped]]] = lambda output, _: (
        output, [],
    )  # fmt: skip
    """What of the rest is written, which reading it alone tells; and what to say of that. It gets
    the rows of which something is kept."""

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
            OutputError: The system refuses.
        """
        output = self.output
        self.first()
        with Spool(output.path.absolute().parent) as spool:
            result = self.analysis.run(executor, report, spool)
            refuse_broken(result)
            rows = [row for row in result.rows if row.matrix in output.rows]
            settings = {**result.settings, "output": str(output.path), "force": output.force}
            if output.coat.word != "peft":
                settings |= {"to": output.coat.word, "part": output.part}
            held = {row.matrix for row in rows if row.number("rank_kept")}
            output, told = self.settle(output, held)
            skipped = (*result.skipped, *told)
            result = replace(result, settings=settings, skipped=skipped)
            nbytes = output.write(result, rows, spool)
        reading = f"{result.summary['reading']} Written to {shown(output.path)}."
        summary = {
            **result.summary,
            "reading": reading,
            "written": str(output.path),
            "nbytes_written": nbytes,
            "base": output.given.get("base_model_name_or_path"),
        }
        return replace(result, summary=summary)


def refuse_broken(result: Result) -> None:
    """Refuse to write what holds no numbers.

    Raises:
        NonFiniteError: A matrix holds NaN or Inf.
    """
    broken = [row for row in result.rows if row.status == "non-finite"]
    if broken:
        more = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
        raise NonFiniteError(
            f"{broken[0].matrix}{more} cannot be written: {broken[0].error}. Nothing was "
            "written; --exclude it where that is an option, or repair its weights."
        )
