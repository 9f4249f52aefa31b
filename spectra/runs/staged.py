"""One bar for a run of several stages: what each tells is told as a part of the whole."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from spectra.analyzers import Analyzer
from spectra.work.executor import Progress, Report
from spectra.work.task import Task, bytes_of


class Stage(NamedTuple):
    """What measuring some tasks takes, as progress counts it."""

    cost: float
    matrices: int
    nbytes: int

    @staticmethod
    def of(tasks: Sequence[Task], analyzer: Analyzer[Any]) -> "Stage":
        """Return it from what is planned."""
        return Stage(sum(one.cost(analyzer) for one in tasks), len(tasks), bytes_of(tasks))


NOTHING = Stage(0.0, 0, 0)


def together(stages: Iterable[Stage]) -> Stage:
    """Return several as one."""
    some = list(stages)
    return Stage(
        sum(one.cost for one in some), sum(one.matrices for one in some),
        sum(one.nbytes for one in some),
    )  # fmt: skip


@dataclass
class Staged:
    """A report that makes one of those of several stages, each of which begins at nothing.

    Of stages to come the plan tells how long they are; one that is known from before, or takes
    less than was planned, lets the whole shrink.
    """

    report: Report
    planned: Sequence[Stage]
    begun: float = field(default_factory=time.monotonic)
    place: int = 0
    last: Progress | None = None
    before: Stage = NOTHING
    known: int = 0  # of those before

    def __call__(self, progress: Progress) -> None:
        """Tell how far the whole is."""
        last = self.last
        if last is not None and _is_another(last, progress):
            self.before = together([self.before, Stage(last.total, last.of, last.to_read)])
            self.known += last.known
            self.place += 1
        self.last = progress
        rest = together(self.planned[self.place + 1 :])
        done, left = self.before.cost + progress.done, progress.left
        if left is not None and rest.cost:
            took = time.monotonic() - self.begun
            left = left + took * rest.cost / done if done else None
        self.report(replace(
            progress, done=done, total=self.before.cost + progress.total + rest.cost, left=left,
            count=self.before.matrices + progress.count,
            of=self.before.matrices + progress.of + rest.matrices,
            known=self.known + progress.known,
            read=self.before.nbytes + progress.read,
            to_read=self.before.nbytes + progress.to_read + rest.nbytes,
        ))  # fmt: skip


def staged(report: Report, planned: Sequence[Stage]) -> Report:
    """Return a report for several stages; one that knows of them already as it is."""
    return report if isinstance(report, Staged) else Staged(report, planned)


def _is_another(last: Progress, now: Progress) -> bool:
    """Say whether a report is of the stage after that of the last one."""
    return now.count < last.count or (now.total, now.of) != (last.total, last.of)
