"""Runs a plan here: one reader, several workers, within a memory budget."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.analyzer import Together
from spectra.analyzers.row import Measurement
from spectra.errors import NonFiniteError
from spectra.matrices import View
from spectra.matrices.layout import Part
from spectra.text import natural
from spectra.work.load import Loaded, Loader
from spectra.work.planning.plan import Plan, step_cost

ROOM = 256 << 20  # bytes that small matrices may share, however small the largest is
BATCH = 32  # small matrices of one shape that a GPU decomposes together
SHARE = 12  # bytes per entry of the largest matrix that those in work may share: 3 x float32


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in operations as the plan counts them."""

    done: float
    total: float
    matrix: str  # measured last


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use."""

    workers: int | None = None  # matrices at once; None: one per core
    device: str = "cpu"
    batch: int | None = None  # small matrices of one shape together; None: 1 on a CPU, else 32


def execute(
    plan: Plan,
    analyzer: Analyzer[Any],
    resources: Resources,
    report: Callable[[Progress], None] = lambda _progress: None,
) -> list[Row]:
    """Measure every matrix of a plan.

    The calling thread reads, one tensor ahead of the workers at most. Decompositions are
    bound by memory and gain little from threads, so each worker computes with one, and a
    matrix waits until what it needs fits beside those in work. One so large that no second
    would fit is measured alone, with all threads. A GPU takes small matrices of one shape in
    batches; on a CPU batches only leave cores idle.

    Returns:
        One row per matrix, in natural order of names, whatever finished first.
    """
    workers = 1 if resources.device != "cpu" else resources.workers or usable_cores()
    needs = {view.name: analyzer.memory(view) for view in plan.views}
    budget = memory_budget(plan, list(needs.values()))
    costs = {
        view.name: step_cost(step, view, analyzer, plan)
        for step in plan.steps
        for view in step.views
    }
    total, done = sum(costs.values()) or 1.0, 0.0
    rows: list[Row] = []
    pending: dict[Future[list[Row]], list[View]] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="spectra")
    # What has all threads always runs in one: with the helpers of two, none would wait awake.
    lone = ThreadPoolExecutor(1, thread_name_prefix="spectra-alone")

    def collect(room: int) -> None:
        """Take finished rows in until a worker is free and the others need at most `room`."""
        nonlocal done
        while pending and (
            len(pending) >= workers
            or sum(needs[v.name] for views in pending.values() for v in views) > room
        ):
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                views = pending.pop(future)
                rows.extend(future.result())
                done += sum(costs[view.name] for view in views)
                report(Progress(done, total, views[-1].name))

    before = torch.get_num_threads()
    alone = False
    most = resources.batch or (1 if resources.device == "cpu" else BATCH)
    try:
        for jobs in _batches(plan, analyzer, most, budget // 2):
            views = [view for view, _ in jobs]
            need = sum(needs[view.name] for view in views)
            after = alone  # nothing starts beside what has all threads
            alone = workers == 1 or 2 * need > budget
            collect(-1 if alone or after else budget - need)
            crew, threads = (lone, before) if alone else (pool, 1)
            future = crew.submit(_measure, analyzer, jobs, resources.device, threads=threads)
            pending[future] = views
            del jobs
        collect(-1)
    finally:
        for crew in (pool, lone):
            crew.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(before)
    return sorted(rows, key=lambda row: natural(row.matrix))


def _batches(
    plan: Plan, analyzer: Analyzer[Any], most: int, budget: int
) -> Iterator[list[tuple[View, Loaded]]]:
    """Read step by step; hold small matrices back until enough of one shape are there."""
    waiting: dict[tuple[int, int], list[tuple[View, Loaded]]] = {}
    held = 0
    loader = Loader(plan)
    for step in plan.steps:
        loaded = loader.load(step)
        for view in step.views:
            if most == 1 or not isinstance(analyzer, Together) or not analyzer.together(view):
                yield [(view, loaded)]
                continue
            shape, need = (view.rows, view.cols), analyzer.memory(view)
            waiting.setdefault(shape, []).append((view, loaded))
            held += need
            if len(waiting[shape]) == most or held > budget:
                held -= need * len(waiting[shape])
                yield waiting.pop(shape)
        del loaded
    yield from waiting.values()


def memory_budget(plan: Plan, needs: Sequence[int]) -> int:
    """Return the bytes that the matrices in work at one time may need together."""
    return max(ROOM, *needs, *(SHARE * view.rows * view.cols for view in plan.views))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _measure(
    analyzer: Analyzer[Any], jobs: Sequence[tuple[View, Loaded]], device: str, *, threads: int
) -> list[Row]:
    """Measure one matrix, or several of one shape; each becomes a row."""
    torch.set_num_threads(threads)
    if len(jobs) > 1 and isinstance(analyzer, Together):
        try:
            found = analyzer.measure_together(
                [loaded.subject(view, device) for view, loaded in jobs]
            )
        except NonFiniteError:
            pass  # one by one, to say of each what it holds
        else:
            return [_row(view, one) for (view, _), one in zip(jobs, found, strict=True)]
    return [_measure_one(analyzer, *job, device) for job in jobs]


def _measure_one(analyzer: Analyzer[Any], view: View, loaded: Loaded, device: str) -> Row:
    """Measure one matrix; what is not finite becomes a row that says so."""
    try:
        return _row(view, analyzer.measure(loaded.subject(view, device)))
    except NonFiniteError as error:
        place = "" if view.part == Part() else " of the matrix shown (row = output)"
        return Row(view, "non-finite", f"{error}{place}", dict.fromkeys(analyzer.keys))


def _row(view: View, found: Measurement) -> Row:
    """Return a measurement as a row; nothing of it stays on the device."""
    arrays = {name: array.cpu() for name, array in found.arrays.items()}
    return Row(view, found.status, None, found.values, arrays)
