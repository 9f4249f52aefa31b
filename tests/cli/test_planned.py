"""The screen of a dry run."""

import json
from pathlib import Path

import pytest
from spectra_cli.planned import estimated, since_start

from spectra.work.estimate import Estimate

from .conftest import Command

WORK = {"products": 0.28, "krylov": 0.279, "passes": 0.25, "eigenvalues": 0.14, "calls": 0.004}
FOUND = Estimate(
    40, 40, 5 << 20, 9 << 20, 7.0, 3, known=2, workers=2, longest=1.5, work=WORK,
    others={4: 4.0, 16: 2.0}, basis="runs",
)  # fmt: skip


@pytest.mark.parametrize("limit", [60, 80, 100, 160, None])
def test_no_line_is_longer_than_the_terminal(limit: int | None) -> None:
    told = estimated(FOUND, "spectrum", device="cpu", limit=limit)
    assert max(map(len, told.splitlines()[3:])) <= (limit or 999)
    words = " ".join(told.split())
    assert "known before 2 matrices" in words
    assert "products 28 %, Krylov spaces 28 %, passes over entries 25 %, eigenvalues 14 %" in words
    assert "calls" not in words  # less than a hundredth
    assert "time about 7.0 s with 2 workers, by earlier runs here" in words
    assert "more workers 4: 4.0 s, 16: 2.0 s; the longest matrix takes 1.5 s" in words
    assert "busy now" not in words
    slow = " ".join(estimated(FOUND.begun(2.0), "spectrum", device="cpu").split())
    assert "time about 9.0 s with 2 workers, 2.0 s of it to start, by earlier runs here" in slow
    assert "more workers 4: 6.0 s" in slow


def test_what_is_not_known_is_not_told_as_something_else() -> None:
    unknown = Estimate(
        40, 40, 5 << 20, 9 << 20, None, 0, reading=None, longest=None, work=WORK, basis="runs"
    )
    told = estimated(unknown, "kappa", device="cuda")
    assert "not known: nothing was measured on cuda yet" in told
    assert "from a network of which no speed is known" in told
    assert "more workers" not in told
    assert unknown.begun(3.0).seconds is None


def test_a_probe_and_other_work_are_said() -> None:
    told = estimated(
        Estimate(1, 1, 1, 1, 9.0, 0, basis="probe", busy=2.4, others={4: 8.0}), "diff", device="cpu"
    )
    assert "by a probe: no run like it was timed here yet" in told
    assert "2.4 x as long as alone: other work has the cores too" in told


def test_a_process_knows_when_it_began() -> None:
    assert 0.0 < since_start() < 86_400.0


def test_it_does_without_a_cluster_that_is_not_there(command: Command, model: Path) -> None:
    words = "spectrum", model, "--no-cache", "--engine", "ray", "--address", "127.0.0.1:1"
    done = command(*words, "--dry-run", "--format", "json")
    assert done.code == 0
    assert done.err.startswith("warning: the cluster at 127.0.0.1:1 cannot be joined: Connection")
    assert done.err.endswith(" Told is what workers as fast as this machine take.\n")
    found = json.loads(done.out)["dry_run"]
    assert (found["workers"], found["busy"], found["basis"]) == (1, 1.0, "probe")
    assert {*found["others"]} == {"4", "16", "64"}
    assert " with 8 workers, " in command(*words, "--dry-run", "--workers", "8").out
    refused = command(*words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: the cluster at 127.0.0.1:1 cannot be joined: Connection")
