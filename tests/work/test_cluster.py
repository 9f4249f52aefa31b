"""A cluster of Ray: the same bytes, bytes read where they are needed, and nodes that are lost."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

import pytest
import ray
import torch
from ray.cluster_utils import Cluster as Nodes

import spectra
from examples import write_model
from loopback import taken_for_the_hub
from spectra.analyzers import Kappa, Measurement, Row
from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.checkpoint.fingerprints import MemoryLedger
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import NAMED, Span
from spectra.errors import CheckpointError, ClusterError, UsageError
from spectra.matrices import Matrix, Selection, View
from spectra.runs.engine import Where, engine
from spectra.runs.planned import Planned
from spectra.work import connection, plan_model
from spectra.work import dispatch as module
from spectra.work.batches import Batch
from spectra.work.cluster import Cluster
from spectra.work.connection import Needs, Node, chosen_address
from spectra.work.errand import Errand, received, sealed, versions
from spectra.work.executor import measured
from spectra.work.identity import identity
from spectra.work.local import Local
from spectra.work.task import Task

MEMORY = 4 << 30  # of each node, as it says
CLOUDPICKLE: Any = ray.cloudpickle


@dataclass
class Machines:
    """Two nodes on this machine, and the folder in which their processes work."""

    nodes: Nodes
    second: Any
    home: Path


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Start them once; each takes seconds, and so do their first workers."""
    home, before = tmp_path_factory.mktemp("node"), Path.cwd()
    CLOUDPICKLE.register_pickle_by_value(sys.modules[__name__])  # no node can import tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.chdir(home)
        with connection._silence():
            one: dict[str, Any] = {
                "num_cpus": 1,
                "memory": MEMORY,
                "object_store_memory": 128 << 20,
            }
            nodes = Nodes(initialize_head=True, head_node_args={**one, "include_dashboard": False})
            second = nodes.add_node(**one)
            os.chdir(before)
            ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
            yield Machines(nodes, second, home)
            ray.shutdown()
            nodes.shutdown()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Traced:
    """The largest entry; writes down which matrix was asked for, and may be slow or deadly."""

    name: ClassVar[str] = "traced"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = ("largest",)

    trace: str
    pause: float = 0.0
    deadly: str = ""
    holds: int = 0

    def cost(self, view: View) -> float:
        return 1e12

    def memory(self, view: View) -> int:
        return self.holds

    def measure(self, matrix: Matrix) -> Measurement:
        name, node = matrix.view.name, ray.get_runtime_context().get_node_id()
        with Path(self.trace).open("a", encoding="utf-8") as file:
            file.write(f"{name} {node}\n")
        if name == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)
        return Measurement({"largest": float(matrix.values.abs().max())})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        return rows, {"reading": "Done.", "matrices": len(rows)}


def tasks_of(folder: Path | str) -> list[Task]:
    return list(plan_model(spectra.open(folder), Selection()).tasks)


def matrices(folder: Path, count: int) -> Path:
    return write_model(folder, {f"w{i}.weight": torch.full((4, 3), i + 1.0) for i in range(count)})


def traced(trace: Path) -> list[list[str]]:
    return [line.split() for line in trace.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("machines")
def test_documents_are_those_of_the_local_engine_byte_by_byte(
    minilm: Path, minilm_lora: Path
) -> None:
    some = Selection(layers="0-1")
    plans: dict[str, Callable[..., Planned]] = {
        "spectrum": partial(spectra.spectrum.plan, minilm, selection=some),
        "kappa": partial(spectra.kappa.plan, minilm, selection=some),
        "diff": partial(spectra.diff.plan, minilm, minilm_lora, intruders=True, selection=some),
        "check": partial(spectra.check.plan, minilm, base=minilm),
    }
    for name, plan in plans.items():
        here, there = (
            plan(cache=False, engine=one, device="cpu").run() for one in ("local", "ray")
        )
        assert json.dumps(here.document()) == json.dumps(there.document()), name
        for mine, other in zip(here.rows, there.rows, strict=True):
            assert mine.plain() == other.plain()  # arrays too


@pytest.mark.usefixtures("machines")
def test_what_workers_read_is_known_to_the_store(minilm: Path, tmp_path: Path) -> None:
    """Digests come back with the rows: the local engine then measures nothing again."""
    plan = partial(spectra.kappa.plan, minilm, selection=Selection(layers="3"), device="cpu")
    assert plan().estimate().known == 0
    first = plan(engine="ray").run()
    assert plan().estimate().known == plan().estimate().matrices == len(first.rows)
    assert plan().run().document() == first.document()

    folder, ledger = matrices(tmp_path / "m", 3), MemoryLedger()
    tasks = tasks_of(folder)
    with closing(Cluster(wanted="cpu", ledger=ledger)) as away:
        measured(away, tasks, Kappa())
    local = MemoryLedger()
    measured(Local(ledger=local), tasks, Kappa())
    own = [identity(task, Kappa(), local) for task in tasks]
    assert [identity(task, Kappa(), ledger) for task in tasks] == own
    assert None not in own


@pytest.mark.usefixtures("machines")
def test_digests_of_files_that_are_others_here_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = matrices(tmp_path / "m", 1) / "model.safetensors"
    span = LocalFile(file).span(0, 8)
    assert span is not None
    assert module.same_here(span)
    for state in ("size", "mtime_ns", "ctime_ns", "inode"):
        assert not module.same_here(span._replace(**{state: getattr(span, state) + 1}))
    assert not module.same_here(span._replace(path=f"{span.path}.gone"))
    assert module.same_here(Span("ab" * 32, NAMED, 0, 8, 72))  # of the Hub, by its hash

    monkeypatch.setattr(module, "same_here", lambda span: False)
    told: list[str] = []
    with engine(None, "cpu", Where("ray"), tell=told.append) as away:
        measured(away, tasks_of(file.parent), Kappa())
        assert not away.known(tasks_of(file.parent), Kappa())
    kept = "what was measured of files that nodes have as copies of their own is not kept: use a "
    assert told == [f"{kept}folder that all share."]


@pytest.mark.usefixtures("machines")
def test_what_no_node_can_hold_is_told_at_once(tmp_path: Path) -> None:
    tasks, trace = tasks_of(matrices(tmp_path / "m", 2)), tmp_path / "trace"
    with closing(Cluster(wanted="cpu")) as away, pytest.raises(UsageError) as told:
        measured(away, tasks, Traced(str(trace), holds=2 * MEMORY))
    assert str(told.value).startswith(
        "w0.weight takes 1 CPU and 8.0 GiB of memory at once, and no node of the cluster has that: "
        "the largest has 1 CPU and 4.0 GiB of memory."
    )
    assert not trace.exists()
    with closing(Cluster(wanted="cuda")) as away, pytest.raises(UsageError, match="has no GPU"):
        measured(away, tasks, Kappa())


def test_nodes_of_other_versions_or_files_are_refused(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = matrices(tmp_path / "m", 1)
    monkeypatch.chdir(tmp_path)
    tasks = tasks_of("/proc/self/cwd/m")  # which is another folder for whoever else reads it

    def refusal() -> str:
        with closing(Cluster(wanted="cpu")) as away, pytest.raises(UsageError) as told:
            measured(away, tasks, Kappa())
        return str(told.value).partition(" ")[2].partition(" ")[2]  # behind the node's address

    unseen = (
        "cannot see a file: /proc/self/cwd/m/model.safetensors cannot be read: No such file or "
        "directory. Use a folder that all nodes share at one path."
    )
    assert refusal() == unseen
    elsewhere = write_model(machines.home / "m", {"w0.weight": torch.full((4, 3), 2.0)})
    assert refusal().startswith("has another file at /proc/self/cwd/m/model.safetensors: 1")
    times = (here / "model.safetensors").stat()
    os.utime(elsewhere / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "and its bytes are others" in refusal()

    own = versions()
    monkeypatch.setattr(module, "versions", lambda: {**own, "torch": "2.99.0"})
    assert refusal() == (
        f"has torch {own['torch']}, expected torch 2.99.0 as here. Use one environment, or image, "
        "on all nodes."
    )
    monkeypatch.setattr(module, "versions", lambda: {**own, "code": "another"})
    assert refusal().startswith(f"has another spectra {own['spectra']}: its code differs")


def test_files_that_differ_between_their_ends_have_other_seals(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(1 << 20))
    times, seals = path.stat(), [sealed(path)]
    for at in range(0, 1 << 20, 1 << 17):  # an eighth is trained anew
        path.write_bytes(bytes(at) + b"\1" * (1 << 17) + bytes((7 << 17) - at))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        seals.append(sealed(path))
    assert len(set(seals)) == 9
    assert {one[:2] for one in seals} == {seals[0][:2]}
    path.write_bytes(b"short")
    assert sealed(path).size == 5


@pytest.mark.usefixtures("machines")
def test_an_error_of_a_worker_is_that_of_the_run(tmp_path: Path) -> None:
    """A file that is shorter than its header says."""
    folder = write_model(tmp_path / "m", {"w.weight": torch.randn(64, 64)})
    tasks = tasks_of(folder)
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 4096)
    with closing(Cluster(wanted="cpu")) as away, pytest.raises(CheckpointError) as there:
        measured(away, tasks, Kappa())
    with pytest.raises(CheckpointError) as here:
        measured(Local(), tasks, Kappa())
    assert str(there.value).startswith(str(here.value))
    assert "(On node " in str(there.value)


@pytest.mark.usefixtures("machines")
def test_of_the_hub_workers_read_their_own_ranges(tmp_path: Path) -> None:
    """The driver reads headers; weights are asked for by the workers, once, without its token."""
    folder = write_model(
        tmp_path / "m", {f"w{i}.weight": torch.randn(64, 80 + i) for i in range(4)}
    )
    nbytes = (folder / "model.safetensors").stat().st_size
    with taken_for_the_hub(tmp_path) as hub:
        hub.add("org/name", folder)
        tasks = tasks_of("org/name")
        hub.forget()
        with closing(Cluster(wanted="cpu")) as away:
            rows = measured(away, tasks, Kappa())
        there, hub.faults.token = hub.sent(".safetensors"), "hf_of_the_driver"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", hub.faults.token)
            private = tasks_of("org/name")
            with closing(Cluster(wanted="cpu")) as away, pytest.raises(CheckpointError) as told:
                measured(away, private, Kappa())
    assert nbytes / 2 < there < nbytes * 1.2
    assert [row.plain() for row in rows] == [
        row.plain() for row in measured(Local(), tasks_of(folder), Kappa())
    ]
    assert "log in with `hf auth login` or set HF_TOKEN. (On node " in str(told.value)


def test_a_matrix_of_which_every_worker_dies_is_a_row_without_numbers(
    machines: Machines, tmp_path: Path
) -> None:
    tasks, trace = tasks_of(matrices(tmp_path / "m", 5)), tmp_path / "trace"
    with closing(Cluster(wanted="cpu")) as away:
        rows = measured(away, tasks, Traced(str(trace), deadly="w2.weight"))
    assert {row.matrix: row.status for row in rows} == {
        f"w{i}.weight": "failed" if i == 2 else "ok" for i in range(5)
    }
    assert rows[2].error == "its worker died, 3 times in a row"
    assert rows[2].values == {"largest": None}
    counts = Counter(name for name, _ in traced(trace))
    assert counts["w2.weight"] == module.CRASHES
    assert all(count == 1 for name, count in counts.items() if name != "w2.weight")


def test_an_interrupted_run_frees_a_cluster_that_stays(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, trace = tasks_of(matrices(tmp_path / "m", 12)), tmp_path / "trace"
    forced: list[bool] = []
    cancel = ray.cancel

    def noted(one: Any, *, force: bool = False) -> None:  # noqa: ANN401 - Ray's own
        forced.append(force)
        cancel(one)

    monkeypatch.setattr(ray, "cancel", noted)
    with closing(Cluster(wanted="cpu")) as away:
        rows = away.run(tasks, Traced(str(trace), pause=0.5))
        next(iter(rows))
        cast("Generator[Row]", rows).close()
    until = time.monotonic() + 20
    free: Any = ray.available_resources
    while free().get("CPU", 0.0) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert forced
    assert not any(forced), "by force Ray may end the process that asks"
    assert len(trace.read_text().splitlines()) < 12


def test_a_node_that_is_killed_costs_what_it_had_in_work(
    machines: Machines, tmp_path: Path
) -> None:
    """The last of the tests that need both nodes."""
    tasks, trace = tasks_of(matrices(tmp_path / "m", 16)), tmp_path / "trace"
    analyzer, lost = Traced(str(trace), pause=0.3), machines.second.node_id
    rows = []
    with closing(Cluster(wanted="cpu")) as away:
        for row in away.run(tasks, analyzer):
            rows.append(row)
            on = Counter(node for _, node in traced(trace))
            if machines.second is not None and on[lost] >= 2:
                machines.nodes.remove_node(machines.second, allow_graceful=False)
                machines.second = None
    assert machines.second is None
    assert Counter(row.matrix for row in rows) == Counter(f"w{i}.weight" for i in range(16))
    assert {row.matrix: row.values["largest"] for row in rows} == {
        f"w{i}.weight": i + 1.0 for i in range(16)
    }
    asked = Counter(name for name, _ in traced(trace))
    again = [name for name, count in asked.items() if count > 1]
    assert len(again) <= 1, "one CPU has one matrix in work"
    assert max(asked.values()) <= 2


@pytest.mark.parametrize(
    "address", ["auto", "head:6379", "10.0.0.1:6379", "[::1]:6379", "ray://a:1"]
)
def test_addresses_that_are_ones(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen_address(None) is None
    assert chosen_address(address) == address
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert chosen_address(None) == address
    assert chosen_address("other:1") == "other:1"


@pytest.mark.parametrize("kept", ["file", "variable"])
def test_a_cluster_that_was_killed_is_told_as_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """It leaves its address behind; Ray would try for minutes, and write of it meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        gone = f"127.0.0.1:{once.getsockname()[1]}"
    asked: list[object] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if kept == "variable":
        monkeypatch.setenv("RAY_ADDRESS", gone)
    else:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(gone)
    with (
        pytest.raises(ClusterError, match="the cluster at auto cannot be joined: Connection ref"),
        connection.connected("auto"),
    ):
        pass
    assert asked == []


def test_what_cannot_be_meant_is_refused_before_any_work(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(**how: str) -> str:
        with pytest.raises(UsageError) as told:
            spectra.kappa.plan(minilm, **how)  # type: ignore[arg-type]
        return str(told.value)

    assert refusal(engine="rya") == (
        "engine='rya' is not known. Did you mean 'ray'? Expected one of local, ray."
    )
    assert refusal(address="auto").startswith("address='auto' goes with engine='ray' alone.")
    expected = "Expected auto, HOST:PORT or ray://HOST:PORT."
    assert refusal(engine="ray", address="head") == (
        f"address='head' is no address of a cluster. {expected}"
    )
    assert "a cluster gives each task a GPU" in refusal(engine="ray", device="cuda:1")
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert refusal(engine="ray") == (
        f"RAY_ADDRESS='http://head:8265' is no address of a cluster. {expected}"
    )
    monkeypatch.setattr("spectra.runs.engine.find_spec", lambda name: None)
    assert refusal(engine="ray") == "engine='ray' needs Ray: pip install 'ray[client]'."


def test_a_worker_says_what_it_lacks(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(sent: bytes) -> str:
        return str(received(versions(), sent)["refused"])

    errand = Errand((), Kappa(), "cuda", 1, {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(CLOUDPICKLE.dumps(errand)).startswith(
        "has a GPU by Ray's count, and torch sees none."
    )
    gone = ModuleType("gone_elsewhere")
    gone.Own = type("Own", (), {"__module__": "gone_elsewhere"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gone_elsewhere", gone)
    sent = CLOUDPICKLE.dumps(replace(errand, analyzer=gone.Own(), device="cpu"))
    monkeypatch.delitem(sys.modules, "gone_elsewhere")
    assert "No module named 'gone_elsewhere'" in refusal(sent)
    monkeypatch.setitem(sys.modules, "spectra.work.errand", None)
    _, answer = module._carried()(versions(), "", b"")
    assert answer["refused"].startswith("cannot import spectra (")


def test_a_task_asks_for_what_it_needs(machines: Machines, tmp_path: Path) -> None:
    """A GPU where the cluster has one; no more CPUs than any node has."""
    (task,) = tasks_of(matrices(tmp_path / "m", 1))
    small, large = Node("a", "a", Needs(2, 1 << 30)), Node("b", "b", Needs(8, 1 << 34, 1))
    batch = Batch((task,), 1.0, 4, 3 << 28)
    link = connection.Connection(ray, started=False)
    for nodes, wanted, device, needs in (
        ((small,), "auto", "cpu", Needs(2, 3 << 28)),
        ((small, large), "auto", "cuda", Needs(1, 3 << 28, 1)),
        ((small, large), "cpu", "cpu", Needs(4, 3 << 28)),
        ((small, large), "cuda", "cuda", Needs(1, 3 << 28, 1)),
    ):
        away = Cluster(wanted=wanted)
        assert away._require_device(nodes) == device
        run = module.Dispatch(link, Kappa(), device, {}, away.limit)
        assert run.needs(batch, nodes) == needs
    assert Cluster()._crew((small, large)) == 1  # GPUs
    assert Cluster(wanted="cpu")._crew((small, large)) == 10
    assert Cluster(wanted="cpu", workers=3).limit((small, large)) == 3


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
sys.argv[1:] = {words!r}
from spectra_cli.entry import main
main()
"""


def test_an_interrupted_run_keeps_what_it_has_and_leaves_no_cluster(
    minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    words = ["diff", str(minilm), str(minilm_lora), "--intruders", "--exact", "--engine", "ray"]
    store = tmp_path / "store.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(words=[*words, "--workers", "1"])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SPECTRA_CACHE_DIR": str(tmp_path), "RAY_ADDRESS": ""},
    ) as process:  # fmt: skip
        while process.poll() is None and not kept(store):
            time.sleep(0.01)
        ours = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert told.splitlines()[-1].endswith("What was measured is kept: the same command goes on "
                                          "from there.")  # fmt: skip
    assert len(told.splitlines()) == 1
    assert kept(store)
    assert any("raylet" in line for line in ours.values())
    until = time.monotonic() + 30
    while left := {pid: line for pid, line in ours.items() if command_of(pid) == line}:
        assert time.monotonic() < until, left
        time.sleep(0.1)


def kept(store: Path) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("select count(*) from entries where kind = 'row'").fetchone()[0])
    return 0


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that one started, and those that they did, by what was called."""
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with suppress(OSError):
                parents[int(place.name)] = int(
                    (place / "stat").read_text().rpartition(")")[2].split()[1]
                )
    found: set[int] = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: command_of(one) for one in found - {pid}}


def test_who_answers_sigterm_stays_while_ray_begins_and_where_it_fails() -> None:
    before = signal.getsignal(signal.SIGTERM)
    utils: Any = ray._private.utils
    own = utils.set_sigterm_handler

    def begins() -> None:
        with connection._signals():
            utils.set_sigterm_handler(lambda *_: None)
            assert signal.getsignal(signal.SIGTERM) == before
            signal.signal(signal.SIGTERM, lambda *_: None)
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        begins()
    assert signal.getsignal(signal.SIGTERM) == before
    assert utils.set_sigterm_handler is own
