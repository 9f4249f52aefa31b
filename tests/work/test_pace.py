"""The time left, by what tasks cost and by those that are done."""

import time

import pytest

from spectra.work import pace
from spectra.work.pace import Pace


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


def test_too_little_tells_nothing_and_what_costs_nothing_takes_no_part(clock: list[float]) -> None:
    found = Pace([0.0, 4.0, 10.0, 100.0], 0.0)
    clock[0] = 9.0
    assert found.left(1) is None
    clock[0] = 9.4
    assert found.left(2) is None
    clock[0] = 10.0
    assert found.left(3) == pytest.approx(9.0)  # of the second after the one that cost nothing


def test_small_matrices_take_more_of_their_time() -> None:
    assert pace.slowed(1.0, 600, 9000) == 2.0
    assert pace.slowed(1.0, 60_000, 60_000) == pytest.approx(1.01)
