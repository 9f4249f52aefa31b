"""A hub of its own on this machine, for as long as a block lasts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import pytest
from huggingface_hub import close_session, constants

from loopback_server import Handler, Loopback, Request, Server

__all__ = ["Loopback", "Request", "loopback", "taken_for_the_hub"]


@contextmanager
def loopback() -> Iterator[Loopback]:
    """Run a hub for as long as the block does."""
    owner = Loopback()
    servers = []
    for port in ("hub", "cdn"):
        handler = type(f"{port.title()}Handler", (Handler,), {"owner": owner, "port": port})
        server = Server(("127.0.0.1", 0), handler)
        setattr(owner, port, f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield owner
    finally:
        owner.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def taken_for_the_hub(home: Path) -> Iterator[Loopback]:
    """Run a hub that this process's own client asks, with a cache of its own and no token."""
    with loopback() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(constants, "ENDPOINT", server.hub)
        template = server.hub + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"):
            patch.setattr(constants, name, True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr("spectra.checkpoint.hub.answers.WAIT", 0.01)
        # Files of other tests may still be open.
        patch.setattr("spectra.checkpoint.hub.remote._beginnings", WeakValueDictionary())
        close_session()
        try:
            yield server
        finally:
            close_session()
