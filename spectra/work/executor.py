"""The ports of a run: who measures tasks, and who takes what they make."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.analyzer import Foreseeing, InRounds, Round
from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import Tensor
from spectra.matrices import Place
from spectra.text import natural
from spectra.words import HEADWISE, MATRIX, VECTOR
from spectra.work.alike import read_once
from spectra.work.pace import Pace
from spectra.work.probe import busy
from spectra.work.rates import Rates
from spectra.work.read import distinct
from spectra.work.task import Task

Key = tuple[object, str]  # of a row: its model's label, and its matrix


class Sink(Protocol):
    """Takes what measuring made, such as the values of a checkpoint that is written."""

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
        """Take a task's tensors, which nobody else holds; called by one thread at a time."""
        ...


class Executor(Protocol):
    """Measures tasks, here or elsewhere.

    One executor may stand before another, as a store does that knows rows by `identity`.
    """

    @property
    def crew(self) -> int:
        """How many matrices are measured at once, for the time left."""
        ...

    @property
    def here(self) -> bool:
        """Whether this machine measures them: what else it does makes it slower."""
        ...

    @property
    def device(self) -> str:
        """Where matrices are measured: `cpu`, or a GPU."""
        ...

    @property
    def rates(self) -> Rates:
        """What earlier runs took there; nothing is known where no store is."""
        ...

    @property
    def ledger(self) -> Ledger | None:
        """What knows the digests of local files, if anything does."""
        ...

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        """Return the rows of tasks that need no measuring, by `key_of` their places."""
        ...

    def peak(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
        """Return about the bytes that a process takes at most for them, beside the program."""
        ...

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        """Yield the row of every task as it finishes.

        Args:
            tasks: In the order of their bytes.
            analyzer: What measures each.
            sink: Gets what measuring made.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in seconds of a reference core as tasks count them."""

    done: float
    total: float
    matrix: str  # measured last
    count: int = 0  # matrices measured
    of: int = 0
    left: float | None = None  # seconds, about, once enough is done to tell
    noun: str = "matrices"  # what is counted
    known: int = 0  # of the count, that needed no measuring
    read: int = 0  # bytes of those that were measured
    to_read: int = 0  # of all that are to be


Report = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """Report nothing."""


def measured(
    executor: Executor,
    tasks: Sequence[Task],
    analyzer: Analyzer[Any],
    report: Report = silent,
    sink: Sink | None = None,
) -> list[Row]:
    """Return the row of every task, in the order of the tasks' models and of matrices' names.

    Args:
        executor: Who measures.
        tasks: What to measure.
        analyzer: What measures each; one that works in rounds is asked what comes next.
        report: Called as rows come.
        sink: Gets what measuring made.
    """
    if not isinstance(analyzer, InRounds):
        return _round(executor, tasks, Round(analyzer), report, sink)
    rows: dict[str, Row] = {}
    places = [task.place for task in in_order(tasks)]
    while (part := analyzer.following(list(rows.values()), places)) is not None:
        likely = analyzer.likely(part, places) if isinstance(analyzer, Foreseeing) else {}
        later = [(task, analyzer, share) for task in tasks
                 if (share := likely.get(task.place.matrix, 0.0))]  # fmt: skip
        found = _round(executor, tasks, part, report, sink, later)
        rows.update((row.matrix, row) for row in found)  # an old name keeps its place
    return list(rows.values())


def _round(
    executor: Executor,
    tasks: Sequence[Task],
    part: Round,
    report: Report,
    sink: Sink | None,
    later: Sequence[tuple[Task, Analyzer[Any], float]] = (),
) -> list[Row]:
    wanted = part.matrices
    chosen = [task for task in tasks if wanted is None or task.place.matrix in wanted]
    costs = {key_of(task.place): task.cost(part.analyzer) for task in chosen}
    known = executor.known(chosen, part.analyzer) if sink is None else {}
    new = [task for task in chosen if key_of(task.place) not in known]
    new = read_once(new, executor.ledger) if sink is None else new
    rows = [*known.values()]
    total, done = sum(costs.values()) or 1.0, sum((costs[key] for key in known), 0.0)
    # A vector is one too, and so are a tensor of several matrices and a model beside its base.
    vectors = any(task.place.role == VECTOR for task in chosen)
    heads = any(one.view.part.head is not None for task in chosen for one in task.inputs)
    noun = "measurements" if vectors else HEADWISE[1] if heads else MATRIX[1]

    unread = {read.key: read.nbytes for read in distinct(one for task in new for one in task.reads)}
    to_read, places = sum(unread.values()), {key_of(task.place): task for task in new}

    def tell(left: float | None) -> None:
        count, of = len(rows), len(chosen)
        last = rows[-1].matrix if rows else ""
        report(Progress(done, total, last, count, of, left, noun, len(known),
                        to_read - sum(unread.values()), to_read))  # fmt: skip

    # Which a cluster is joined to tell, and torch loaded.
    crew, device = (executor.crew, executor.device) if new else (1, "cpu")
    pace = Pace.of(new, part.analyzer, crew, executor.rates, device, later)
    if executor.here and device == "cpu" and pace.long:
        pace.busy = busy(crew)
    if known or (new and pace.seconds):
        tell(pace.left(0) if new else 0.0)
    for row in executor.run(new, part.analyzer, sink) if new else ():
        rows.append(row)
        done += costs[key_of(row.place)]
        for read in places[key_of(row.place)].reads:  # or the whole that it is cut out of
            for key in (read.key, read.all.key):
                unread.pop(key, None)
        tell(pace.left(len(rows) - len(known)))
    ranks = {key_of(task.place): rank for rank, task in enumerate(in_order(chosen))}
    return sorted(rows, key=lambda row: ranks[key_of(row.place)])


def in_order(tasks: Sequence[Task]) -> list[Task]:
    """Return tasks in natural order of names, those of one model after those of another."""
    models = {str(task.place.labels.get("model")): 0 for task in tasks}
    models = {name: rank for rank, name in enumerate(models)}
    return sorted(
        tasks,
        key=lambda task: (models[str(task.place.labels.get("model"))], natural(task.place.matrix)),
    )


def key_of(place: Place) -> Key:
    """Return what tells a row from the others of its run."""
    return place.labels.get("model"), place.matrix
