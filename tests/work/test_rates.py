"""What runs took tells what the next will take; nothing else does."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Kappa, Spectrum
from spectra.kernels.work import Work, singular_values_work, size_of
from spectra.matrices import Selection
from spectra.work import plan_model, rates
from spectra.work.database import Database
from spectra.work.estimate import estimate
from spectra.work.executor import measured
from spectra.work.local import Local
from spectra.work.meter import Observed, Stopwatch, Took, question_of
from spectra.work.planning.plan import Plan
from spectra.work.rates import RATE, Rates
from spectra.work.read import Read
from spectra.work.store import Remembering, Store
from spectra.work.task import Task

SPECTRUM = singular_values_work(256, 256)
QUESTION = question_of(Spectrum(), SPECTRUM)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "store.sqlite")) as found:
        yield found


def task_of(side: int, work: Work) -> Task:
    """As much of a task as is asked for."""
    place = SimpleNamespace(rows=side, cols=side)
    return cast("Task", SimpleNamespace(place=place, work=lambda _: work))


def ran(base: Database, ratio: float, side: int = 256, work: Work = SPECTRUM) -> None:
    """Have a run of ten matrices take so many times the reference."""
    seen, seconds = Observed(), ratio * float(work)
    for _ in range(10):
        took = Took(0.0, 50.0 * seconds, seconds)  # by the clock others had the core
        seen.measured(task_of(side, work), Spectrum(), took, 1)
    Rates(base).keep(seen.take())


def test_a_run_tells_the_next_whatever_else_had_the_core(base: Database) -> None:
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8) is None
    ran(base, 1.7)
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8) == pytest.approx(1.7 * float(SPECTRUM))
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8, "cuda") is None
    assert not Rates(base).knows("cuda")


def test_one_run_of_another_speed_moves_little(base: Database) -> None:
    for ratio in (1.0, 1.1, 9.0, 0.9, 1.05, 0.02):
        ran(base, ratio)
    found = Rates(base).seconds(SPECTRUM, QUESTION, 8)
    assert found == pytest.approx(float(SPECTRUM), rel=0.15)
    for _ in range(rates.RUNS):  # what lasts is believed in the end
        ran(base, 3.0)
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8) == pytest.approx(3.0 * float(SPECTRUM))


def test_what_is_nearest_counts(base: Database) -> None:
    ran(base, 2.0, 256)
    ran(base, 1.0, 4096)
    known = Rates(base)
    for side, ratio in ((150, 2.0), (512, 2.0), (2048, 1.0), (9000, 1.0)):
        found = known.seconds(SPECTRUM, QUESTION, size_of(side, side))
        assert found == pytest.approx(ratio * float(SPECTRUM))
    # What is further off tells nothing: the first matrices of a small model, of a large one's.
    assert known.seconds(SPECTRUM, QUESTION, size_of(64, 64)) is None
    # Of another question the same kind of work, of other kinds what the machine is like.
    others = Work(eigenvalues=1.0), Work(krylov=3.0)
    ran(base, 4.0, 256, Work(eigenvalues=1.0))
    known = Rates(base)
    assert known.seconds(others[0], "another", 8) == pytest.approx(4.0)
    assert known.seconds(others[1], "another", 8) == pytest.approx(12.0)


def test_of_several_threads_one_is_timed(base: Database) -> None:
    work = Work(products=8.0)
    seen = Observed()
    seen.measured(task_of(4096, work), Spectrum(), Took(1.0, 70.0, 6.0), 2)
    Rates(base).keep(seen.take())
    question = question_of(Spectrum(), work)
    assert Rates(base).seconds(work, question, 12, threads=2) == pytest.approx(6.0)


def read_of(nbytes: int, *, local: bool) -> Read:
    shard = spectra.checkpoint.local.LocalFile.__new__(spectra.checkpoint.local.LocalFile) \
        if local else SimpleNamespace()  # fmt: skip
    entry = SimpleNamespace(shard="a", codec=None, parts=[SimpleNamespace(shard="a")])
    source = SimpleNamespace(files={"a": shard})
    return cast("Read", SimpleNamespace(source=source, entry=entry, nbytes=nbytes))


def test_ranges_that_come_together_count_their_time_once(base: Database) -> None:
    seen = Observed()
    for begun in (0.0, 0.5, 1.0, 9.0):
        seen.read(read_of(100, local=False), Took(begun, begun + 1.0, 0.01))
    seen.read(read_of(100, local=True), Took(0.0, 2.0, 1.0, 1.0))  # others had the core meanwhile
    seen.read(read_of(100, local=True), Took(0.0, 5.0, 1.0))  # the disk was waited for
    Rates(base).keep(seen.take())
    assert Rates(base).reading("network") == pytest.approx(3.0 / 400)
    assert Rates(base).reading("disk") == pytest.approx(6.0 / 200)


@pytest.mark.parametrize(
    ("about", "body"),
    [
        (b"not json", b"[[1.0, 1.0]]"),
        (json.dumps(["this", "cpu", QUESTION, 8, 1]).encode(), b"[[1.0]]"),
        (json.dumps(["this", "cpu", QUESTION, 8, 1]).encode(), b"[[NaN, 1.0]]"),
        (json.dumps(["this", "cpu", QUESTION, 8, 1]).encode(), b"[[-2.0, 1.0]]"),
        (json.dumps(["this", "cpu", QUESTION, 8, 1]).encode(), b"[]"),
        (json.dumps(["this", "cpu", QUESTION, 8, 1]).encode(), b"7"),
        (json.dumps(["this", "cpu", [1], 8, 1]).encode(), b"[[1.0, 1.0]]"),
        (json.dumps(["another machine", "cpu", QUESTION, 8, 1]).encode(), b"[[1.0, 1.0]]"),
    ],
)
def test_what_is_no_figure_of_this_machine_is_left(
    base: Database, monkeypatch: pytest.MonkeyPatch, about: bytes, body: bytes
) -> None:
    monkeypatch.setattr(rates, "machine", lambda: "this")
    base.put(RATE, about, body)
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8) is None
    ran(base, 2.0)
    assert Rates(base).seconds(SPECTRUM, QUESTION, 8) == pytest.approx(2.0 * float(SPECTRUM))


def five(folder: Path, generator: torch.Generator) -> Plan:
    values = {f"layers.{i}.mlp.up_proj.weight": torch.randn(96, 64, generator=generator)
              for i in range(5)}  # fmt: skip
    return plan_model(spectra.open(write_model(folder / "m", values)), Selection())


def test_real_runs_are_kept_and_dry_runs_go_by_them(
    tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = five(tmp_path, generator)
    with closing(Store(tmp_path / "cache" / "store.sqlite")) as store:
        seen = Observed()
        here = Remembering(Local(1, ledger=store, meter=seen), store, seen)
        assert estimate(plan, Spectrum(), here).basis == "probe"
        measured(here, plan.tasks, Spectrum())
        before = len(store.rates)
        assert before >= 2
        monkeypatch.setattr("spectra.work.probe.busy", lambda _workers: 1.0)
        found = estimate(plan, Kappa(), here)
        assert found.basis == "runs"
        assert found.seconds is not None
        assert 0.0 < found.seconds < 1.0
        assert found.longest is not None
        assert found.longest < found.seconds
        assert sum(found.work.values()) == pytest.approx(1.0)
        assert list(found.others) == [4, 16, 64]
        later = found.begun(2.0)
        assert later.seconds == pytest.approx(found.seconds + 2.0)
        assert later.others[64] == pytest.approx(found.others[64] + 2.0)
    with closing(Store(tmp_path / "cache" / "store.sqlite")) as store:
        assert len(store.rates) == before
        there = Remembering(Local(1, "cuda", ledger=store), store)
        unknown = estimate(plan, Kappa(), there)
        assert (unknown.seconds, unknown.longest, unknown.others) == (None, None, {})


def test_a_run_that_is_killed_leaves_what_it_took_by_then(
    tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done at its end then, and all of it is one run, however often it was kept."""
    monkeypatch.setattr("spectra.work.store.EVERY", 0.0)
    plan = five(tmp_path, generator)
    path = tmp_path / "cache" / "store.sqlite"
    with closing(Store(path)) as store:
        seen = Observed()
        here = Remembering(Local(1, ledger=store, meter=seen), store, seen)
        run = here.run(plan.tasks, Spectrum())
        next(run), next(run)
        with closing(Store(path)) as another:
            assert len(another.rates) >= 2
        assert len([*run]) == 3
        assert {len(some) for some in store.rates.told().values()} == {1}
        assert seen.take() == []


def test_a_stopwatch_times_the_clock_and_its_thread() -> None:
    with Stopwatch() as watch:
        sum(range(20_000))
    assert watch.took.computed > 0.0
    assert watch.took.elapsed > 0.0


def test_a_probe_tells_every_kind_of_work() -> None:
    from spectra.work import probe  # noqa: PLC0415 - timed here alone

    found: dict[str, Any] = probe.slownesses(1)
    assert found.keys() == Work(*[1.0] * 6).kinds().keys()
    assert all(value > 0.0 for value in found.values())
    assert probe.busy(1) >= 1.0
