"""What directions in tokens hang on: under it the store keeps them, without the tokens' names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar

from spectra.analyzers import Analyzer
from spectra.analyzers.readout import EMBEDDING, HEAD
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.checkpoint.fingerprints import Ledger, plain
from spectra.matrices.stream import Touch, touch_of
from spectra.matrices.vocabulary import Vocabulary
from spectra.runs.vocabulary import tasks_of
from spectra.work import Plan
from spectra.work.executor import Executor
from spectra.work.read import Read
from spectra.work.store import keep, recalled
from spectra.work.task import Task


@dataclass(frozen=True, slots=True)
class Asked:
    """All of it but the contents of matrices and tables."""

    name: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = ()

    analyzer: Analyzer[Any]
    matrices: tuple[str, ...]
    vocabulary: Vocabulary
    headers: str  # of the model whose head is taken: how its parts are called tells what they do
    norms: tuple[str, ...]  # contents
    fold: bool
    each: int  # tokens at each end
    roles: tuple[str, ...]  # of the tables that are read


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks an executor's store, and tells it."""

    executor: Executor
    plan: Plan
    analyzer: Analyzer[Any]
    source: Checkpoint
    vocabulary: Vocabulary
    fold: bool
    each: int
    norms: list[str] = field(default_factory=list)

    def recalled(self) -> Mapping[str, Any] | None:
        """Return what is known, whichever tables it took."""
        if self.executor.ledger is None:
            return None
        both = (HEAD, EMBEDDING)[: 1 + (self.vocabulary.embedding is not None)]
        for roles in (both, (HEAD,), (EMBEDDING,), ()):
            if set(roles) <= set(both):
                known = recalled(self.executor, self._tasks(roles), self._asked(roles))
                if known is not None:
                    return known
        return None

    def keep(self, roles: Sequence[str], answer: Mapping[str, Any]) -> None:
        """Keep what reading the tables of some roles gave."""
        if self.executor.ledger is not None:
            keep(self.executor, self._tasks(roles), self._asked(roles), answer)

    def _tasks(self, roles: Sequence[str]) -> list[Task]:
        tables = [tuple(roles)] if self.vocabulary.tied and roles else [(one,) for one in roles]
        read = [one for some in tables for one in tasks_of(self.source, self.vocabulary, *some)]
        return [*self.plan.tasks, *read]

    def _asked(self, roles: Sequence[str]) -> Asked:
        if not self.norms:
            self.norms.extend(self._norms())
        entries = [(one.name, one.shape) for one in self.source.entries.values()]
        headers = sha256(repr((sorted(entries), plain(self.source.config))).encode())
        return Asked(
            self.analyzer, tuple(one.place.matrix for one in self.plan.tasks), self.vocabulary,
            headers.hexdigest(), tuple(self.norms), self.fold, self.each, tuple(roles),
        )  # fmt: skip

    def _norms(self) -> Iterator[str]:
        """Yield what stands for the values of all norms between matrices and tables."""
        gains = [self.vocabulary.norm]
        for task in self.plan.tasks:
            touch = touch_of(task.views[0], task.inputs[0].source, self.vocabulary.width)
            gains.append(touch.gain if isinstance(touch, Touch) else None)
        entries = {one.entry.name: one.entry for one in gains if one is not None and one.entry}
        for name in sorted(entries):
            yield _content(self.source, entries[name], self.executor.ledger)


def _content(source: Checkpoint, entry: TensorEntry, ledger: Ledger | None) -> str:
    """Return what stands for a vector's values; it is read where that is not known."""
    read = Read(source, entry)
    known = read.fingerprint(ledger)
    if known is None:
        values = read.values(ledger)
        own = sha256(values.double().numpy().tobytes()).hexdigest()
        known = read.fingerprint(ledger) or own
    return known
