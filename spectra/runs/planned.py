"""An analysis as a function, and as a plan of which the cost is known before it runs."""

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, Protocol, cast

from spectra.analyzers import Analyzer
from spectra.errors import ClusterError, UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis, plan_for
from spectra.runs.analysis import Planned as Question
from spectra.runs.arguments import typed
from spectra.runs.engine import Where
from spectra.runs.engine import engine as executor_of
from spectra.runs.opening import (
    Device,
    Globs,
    Layers,
    Memory,
    Spec,
    chosen,
    open,  # noqa: A004 - `spectra.open` is its name
)
from spectra.runs.progress import shown
from spectra.runs.result import Result
from spectra.words import Engine
from spectra.work.estimate import Estimate
from spectra.work.executor import Report
from spectra.work.store import place

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, repr=False)
class Planned:
    """A planned analysis: headers are read, weights are not."""

    question: Question
    device: Device = "auto"
    workers: int | None = None
    progress: bool | None = None  # None: a bar in notebooks alone
    cache: bool = True  # ask the store of what was measured before, and keep what is
    tell: Callable[[str], object] = warnings.warn  # of what is wrong with the store
    engine: Engine = "local"
    address: str | None = None  # of a cluster
    memory: Memory = None  # that this process may take: bytes, or `4GB`

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers} is too few. Expected at least 1.")
        self.where.require(self.device)

    def __repr__(self) -> str:
        """Say what it is; all that it holds would fill pages."""
        return f"<spectra.Planned {self.command}: .estimate() or .run()>"

    @property
    def command(self) -> str:
        """The name of its question."""
        return self.question.command

    @property
    def where(self) -> Where:
        """Who measures."""
        return Where(self.engine, self.address, self.memory)

    def estimate(self) -> Estimate:
        """Return what it will cost: matrices, bytes to read, peak memory, seconds.

        Of a cluster that cannot be joined nothing is known, and perhaps it is still to be
        started: then it is what workers as fast as this machine take, one if not told otherwise.
        """
        cache = self.cache and place().is_file()  # none is begun for a question
        here = partial(
            executor_of, self.workers, self.device, self.where, cache=cache, tell=self.tell
        )
        try:
            with here() as one:
                return self.question.estimate(one)
        except ClusterError as error:
            self.tell(f"{error} Told is what workers as fast as this machine take.")
        with here(joins=False) as one:
            return self.question.estimate(one)

    def run(self, report: Report | None = None) -> Result:
        """Read, measure and conclude.

        Args:
            report: Is told how far it is after each matrix, in `.done` of `.total`, `.count` of
                `.of` and seconds `.left`, in place of a bar.

        Raises:
            SpectraError: The device is not there, or a file changed or ended meanwhile.
        """
        here = executor_of(self.workers, self.device, self.where, cache=self.cache, tell=self.tell)
        with here as one:
            if report is not None:
                return self.question.run(one, report)
            with shown(self.progress) as told:
                return self.question.run(one, told)


class Asked(Protocol[P]):
    """An analysis: called it runs; its `plan`, of the same arguments, reads headers alone."""

    plan: Callable[P, Planned]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Plan and run."""


def asked(plan: Callable[P, Planned]) -> Asked[P]:
    """Return the analysis that a function plans: `analysis(...)` is `analysis.plan(...).run()`."""
    plan = typed(plan)

    @functools.wraps(plan)
    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        return plan(*args, **kwargs).run()

    signature = inspect.signature(plan).replace(return_annotation=Result)
    vars(run).update(plan=plan, __signature__=signature)
    return cast("Asked[P]", run)


@asked
def measure(  # noqa: PLR0913 - the options of a question are its keyword arguments
    analyzer: Analyzer[Any],
    model: Spec,
    *others: Spec,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return what an analyzer of your own finds in every matrix.

    Args:
        analyzer: As CONTRIBUTING.md describes them.
        model: What `spectra.open` accepts, save adapters.
        others: Further models, where it takes several: what became of the first, the moments of
            its inputs, or others of its architecture.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    opened = [
        open(one, allow_pickle=allow_pickle, download=download, variant=variant)
        for one in (model, *others)
    ]
    some = chosen(selection, include, exclude, role, layers)
    plan = plan_for(analyzer, opened, some)
    return Planned(
        Analysis(analyzer, plan, some), device, workers, progress, cache, engine=engine,
        address=address, memory=memory,
    )  # fmt: skip
