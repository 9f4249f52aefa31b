"""A cluster of Ray: joined where it runs, or started on this machine, and left again."""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from spectra.errors import ClusterError, UsageError
from spectra.numbers import number
from spectra.text import quote, size
from spectra.work.local import usable_cores

ADDRESS: Final = "RAY_ADDRESS"  # the variable that Ray itself takes an address from
FORM: Final = re.compile(r"auto|(ray://)?([\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
ENDED: Final = 3.0  # seconds in which a node ends what it started
SILENCE: Final = 20.0  # seconds without it; one that keeps its state may be started again
HEAD: Final = 2.0  # seconds in which the head of a cluster that was joined answers
REACHED: Final = 10.0  # seconds in which something answers at an address
STORED: Final = 128 << 20  # bytes of shared memory: what comes back is small
OURS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning where there is a GPU
}
"""What a cluster that is started here is told, where nobody said otherwise."""
CURRENT: Final = "ray", "ray_current_cluster"
IDENTIFY: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # which every head answers
NO_RAY: Final = "what listens there is no head of a Ray cluster"
UNTRUSTED: Final = (
    "it asks for a token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token as on "
    "its nodes"
)
MISSING: Final = "--engine ray needs Ray: pip install 'ray[client]'."


class Needs(NamedTuple):
    """What a task asks of a node."""

    cpus: float
    memory: int = 0
    gpus: float = 0

    @property
    def told(self) -> str:
        """In words."""
        gpu = ", a GPU" if self.gpus else ""
        cores = f"{number(self.cpus)} CPU" + ("s" if self.cpus != 1 else "")
        return f"{cores}{gpu} and {size(self.memory)} of memory"


class Node(NamedTuple):
    """A machine of the cluster, or what Ray takes for one."""

    id: str
    name: str  # its address
    has: Needs

    def holds(self, needs: Needs) -> bool:
        """Say whether a task fits on it, nothing else being there."""
        return all(have >= want for have, want in zip(self.has, needs, strict=True))


@dataclass(slots=True)
class Connection:
    """A cluster that this process is connected to."""

    ray: ModuleType
    started: bool  # here, for this run alone
    head: str = ""  # where it listens
    heard: float = field(default_factory=time.monotonic)

    def answers(self) -> bool:
        """Say whether the head is there; without it Ray waits a minute and ends this process.

        Raises:
            UsageError: It has not been there for long.
        """
        host, _, port = self.head.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), HEAD):
                self.heard = time.monotonic()
                return True
        except OSError:
            if time.monotonic() - self.heard < SILENCE:
                return False
        raise UsageError(
            f"the head of the cluster is gone: nothing answers at {self.head}. Start it again."
        )

    def nodes(self) -> list[Node]:
        """Return the nodes that live and have a CPU."""
        found = []
        for one in self.ray.nodes():
            has: Mapping[str, float] = one["Resources"]
            needs = Needs(has.get("CPU", 0.0), int(has.get("memory", 0)), has.get("GPU", 0.0))
            if one["Alive"] and needs.cpus >= 1:
                found.append(Node(one["NodeID"], one["NodeManagerAddress"], needs))
        return found


def chosen_address(address: str | None) -> str | None:
    """Return the address of a cluster: as given, or as RAY_ADDRESS has it; None: start one.

    Raises:
        UsageError: It is none.
    """
    found = address or os.environ.get(ADDRESS) or None
    if found is not None and not FORM.fullmatch(found):
        whose = f"--address {quote(found)}" if address else f"{ADDRESS}={quote(found)}"
        raise UsageError(
            f"{whose} is no address of a cluster. Expected auto, HOST:PORT or ray://HOST:PORT."
        )
    return found


def imported() -> ModuleType:
    """Return Ray.

    Raises:
        UsageError: It is not installed.
    """
    hints = logging.getLogger("ray.widgets")  # in a notebook, of what else could be installed
    level = hints.level
    hints.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray  # noqa: PLC0415 - an extra, and slow to load

            import_module("ray.util.scheduling_strategies")
    except ImportError:
        raise UsageError(MISSING) from None
    finally:
        hints.setLevel(level)
    return ray


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[Connection]:
    """Join a cluster, or start one on this machine's cores, and leave it in the end.

    What the process is connected to already is used and stays.

    Args:
        address: As `chosen_address` returns it.
        cpus: Of a cluster that is started; None: all that this process may use.

    Raises:
        ClusterError: It cannot be joined or started.
        UsageError: Ray is not installed.
    """
    global _begun  # noqa: PLW0603 - as below
    ray = imported()
    if ray.is_initialized():
        _require_same(ray, address)
        with _silence():
            yield Connection(ray, started=False, head=_head(ray, address))
        return
    with ExitStack() as stack:
        stack.enter_context(_silence())
        stack.enter_context(_defaults())
        options: dict[str, Any] = {"address": address or "local"}
        if address is None:
            options |= {
                "num_cpus": cpus or usable_cores(), "include_dashboard": False,
                "object_store_memory": STORED, "_node_ip_address": "127.0.0.1",
            }  # fmt: skip
        stack.callback(_left, ray)
        with _signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                _reach(address)
                ray.init(log_to_driver=False, configure_logging=False, **options)
            except Exception as error:  # noqa: BLE001 - of a dozen kinds, all of them a no
                raise _refused(address, error) from None
        _begun = address is None
        yield Connection(ray, started=address is None, head=_head(ray, address))


_begun = False  # whether a cluster runs that this process started


def abandon() -> None:
    """End the cluster that was started here, for a process that ends at once.

    Its main processes would end with this one, and leave those that they started to themselves.
    """
    global _begun  # noqa: PLW0603 - as there is one cluster a process, and one end of it
    node: Any = getattr(sys.modules.get("ray._private.worker"), "_global_node", None)
    if not _begun or node is None:
        return
    _begun = False
    with suppress(Exception):  # it ends all the same
        (raylet,) = node.all_processes["raylet"]
        raylet.process.terminate()
        raylet.process.wait(ENDED)


def _reach(address: str | None) -> None:
    """Ask whether a cluster listens there: Ray would try for minutes, and tell of it meanwhile.

    Raises:
        OSError: Nothing does, or something else.
    """
    if address == "auto":
        given = os.environ.get(ADDRESS, "")
        address = _last() if given in {"", "auto"} else given
    if not address:
        return
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), REACHED):
        pass
    if find_spec("grpc") is None or os.environ.get("RAY_USE_TLS", "0") not in {"", "0"}:
        return
    grpc = import_module("grpc")
    with grpc.insecure_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(REACHED)
            if address == place:  # the head itself, asked without a token
                channel.unary_unary(IDENTIFY)(b"", timeout=REACHED)
        except grpc.FutureTimeoutError:
            raise OSError(NO_RAY) from None
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise OSError(NO_RAY) from None
            sends = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
            if error.code() == grpc.StatusCode.UNAUTHENTICATED and not sends:
                raise OSError(UNTRUSTED) from None


def _last() -> str:
    """Return where the cluster that was started here last listened, as Ray keeps it; else nothing.

    One that was killed leaves it there.
    """
    given = (os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR"))
    folder = next((one for one in given if one), "/tmp")  # noqa: S108 - as Ray has it
    try:
        return Path(folder, *CURRENT).read_text().strip()
    except OSError:
        return ""


def _head(ray: ModuleType, address: str | None) -> str:
    """Return where the head of a cluster listens, or who stands for it outside."""
    place = str(address)
    if place.startswith("ray://"):
        return place.removeprefix("ray://")
    return str(ray.get_runtime_context().gcs_address)


def _left(ray: ModuleType) -> None:
    global _begun  # noqa: PLW0603 - as above
    _begun = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()


def _require_same(ray: ModuleType, address: str | None) -> None:
    """Refuse another cluster than the one this process is connected to."""
    own = ray.get_runtime_context().gcs_address
    if address not in {None, "auto", own} and not str(address).startswith("ray://"):
        raise UsageError(
            f"--address {address} is another cluster than {own}, to which this process is "
            "connected. Call ray.shutdown() first, or give --address auto."
        )


def _refused(address: str | None, error: Exception) -> ClusterError:
    known = isinstance(error, OSError) and error.strerror
    said = known or " ".join(str(error).split()) or type(error).__name__
    said = said if len(said) <= 300 else f"{said[:299]}…"
    if address is None:
        return ClusterError(
            f"Ray cannot be started here: {said} Use --engine local, or name a cluster: --address "
            "HOST:PORT."
        )
    client = str(address).startswith("ray://")
    port = ", that the port is that of Ray Client (mostly 10001)" if client else ""
    advice = (
        "" if said == UNTRUSTED else f" Check that it runs (`ray status`){port}, and that Ray "
        "and Python are of its versions."
    )  # fmt: skip
    return ClusterError(f"the cluster at {address} cannot be joined: {said.rstrip('.')}.{advice}")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what Ray says of itself off both streams; what goes wrong is told by whoever asks."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    worker: Any = sys.modules.get("ray._private.worker")  # prints what nodes say, wanted or not
    before = getattr(worker, "_worker_logs_enabled", None)
    if before is not None:
        worker._worker_logs_enabled = False  # noqa: SLF001 - there is no other way
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is not None:
            worker._worker_logs_enabled = before  # noqa: SLF001


@contextmanager
def _defaults() -> Iterator[None]:
    """Set what Ray takes from the environment, for as long as it runs."""
    new = {name: value for name, value in OURS.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def _signals() -> Iterator[None]:
    """Keep who handles SIGTERM, which Ray takes for itself: it would end this without a word."""
    handler: Callable[..., Any] | int | None = signal.getsignal(signal.SIGTERM)
    taking: Any = import_module("ray._private.utils")
    own = getattr(taking, "set_sigterm_handler", None)
    taking.set_sigterm_handler = lambda _handler: None
    try:
        yield
    finally:
        taking.set_sigterm_handler = own
        if threading.current_thread() is threading.main_thread():
            with suppress(TypeError):  # it was not set from Python
                signal.signal(signal.SIGTERM, handler)
