"""The time left, by what tasks cost and by those that are done."""

import time
from types import SimpleNamespace
from typing import cast

import pytest

from analyzers.subjects import view_of
from spectra.analyzers import Kappa, Spectrum
from spectra.analyzers.kappa import Floor
from spectra.checkpoint import Checkpoint
from spectra.work import executor
from spectra.work.pace import Pace, ends_of
from spectra.work.task import Input, Task

HERE = Checkpoint("m", "m", {}, config={}, files={})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_what_is_left_goes_by_cost_not_by_count(clock: list[float]) -> None:
    found = Pace([10.0, 20.0, 100.0], 0.0)
    clock[0] = 4.0
    assert found.left(2) == pytest.approx(16.0)
    assert found.left(3) == 0.0


def test_what_loads_at_first_and_what_costs_nothing_take_no_part(clock: list[float]) -> None:
    found = Pace([0.0, 4.0, 8.0, 10.0, 100.0], 0.0)
    for count, at in ((1, 9.0), (2, 9.4), (3, 9.8)):
        clock[0] = at
        assert found.left(count) is None
    clock[0] = 10.0
    assert found.left(4) == pytest.approx(90.0 * (10.0 - 9.4) / 6.0)


def test_a_first_matrix_that_is_much_of_the_whole_tells(clock: list[float]) -> None:
    found = Pace([30.0, 60.0], 0.0)
    clock[0] = 3.0
    assert found.left(1) == pytest.approx(3.0)


def test_what_costs_nothing_is_over(clock: list[float]) -> None:
    assert Pace([0.0, 0.0], clock[0]).left(1) == 0.0


def test_until_enough_is_done_earlier_runs_tell(clock: list[float]) -> None:
    found = Pace([1.0, 2.0, 40.0, 100.0], 0.0, seconds=True)
    assert [found.left(count) for count in (0, 1, 2)] == [100.0, 99.0, 98.0]
    clock[0] = 19.0  # half as long as told
    assert found.left(3) == pytest.approx(19.0 * 60.0 / 38.0)


def test_of_earlier_runs_it_is_told_as_busy_as_the_machine_is(clock: list[float]) -> None:
    found = Pace([5.0, 50.0, 100.0], 0.0, seconds=True, busy=3.0)
    assert [found.left(count) for count in (0, 1)] == [300.0, 285.0]
    clock[0] = 45.0  # what is done tells for itself
    assert found.left(2) == pytest.approx(50.0)


@pytest.mark.parametrize(("seconds", "asked"), [(1.0, False), (8.0, True)])
def test_who_else_uses_the_machine_is_asked_before_a_long_wait(
    seconds: float, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "busy", lambda workers: 2.0 * workers)
    view = view_of("layers.0.mlp.up_proj.weight", 64, 64)
    rates = SimpleNamespace(knows=lambda _: True, of_task=lambda *_: seconds)
    told: list[executor.Progress] = []
    here = SimpleNamespace(
        known=lambda *_: {},
        crew=2,
        here=True,
        device="cpu",
        rates=rates,
        ledger=None,
        run=lambda *_: (),
    )
    tasks = [Task(view.place(), (Input("", HERE, view),))]
    executor.measured(cast("executor.Executor", here), tasks, Spectrum(), told.append)
    assert [one.left for one in told] == [4.0 * seconds if asked else seconds]


def test_tasks_begin_as_workers_are_free() -> None:
    costs = [4.0, 1.0, 2.0, 3.0]
    assert ends_of(costs, 1) == [4.0, 5.0, 7.0, 10.0]
    assert ends_of(costs, 2) == [4.0, 1.0, 3.0, 6.0]
    assert ends_of(costs, 2, [1, 2, 1, 9]) == [4.0, 5.0, 7.0, 10.0]
    assert max(ends_of(costs, 9)) == 4.0
    assert ends_of([], 2) == []


def test_rounds_that_likely_follow_are_left_too(clock: list[float]) -> None:
    found = Pace([2.0, 4.0], 0.0, later=16.0)
    clock[0] = 8.0  # four times as long as expected
    assert found.left(1) == pytest.approx(4.0 * 2.0 + 2.0 * 16.0)
    clock[0] = 16.0
    assert found.left(2) == pytest.approx(2.0 * 16.0)


def test_what_bounds_leave_open_counts_by_how_likely_it_is_measured() -> None:
    plan = [
        Task(view.place(), (Input("", HERE, view),))
        for view in (view_of(f"layers.{i}.mlp.up_proj.weight", 4096, 11008) for i in range(20))
    ]
    alone = Pace.of(plan, Floor(), 2)
    found = Pace.of(plan, Floor(), 2, later=[(task, Kappa(), 0.25) for task in plan])
    whole = Pace.of(plan, Kappa(), 2)
    assert alone.later == 0.0
    assert found.ends == alone.ends
    assert found.later == pytest.approx(0.25 * whole.ends[-1])
