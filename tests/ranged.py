"""One file of a repository, opened by range, for tests; and what refusing it says."""

import pytest
from huggingface_hub import get_session, hf_hub_url

from loopback import Loopback
from spectra.checkpoint.hub.remote import RemoteFile
from spectra.errors import CheckpointError

SIZE = 300_000
TOKEN = "hf_secretsecretsecret"  # noqa: S105 - nobody's


def with_token() -> dict[str, str]:
    return {"authorization": f"Bearer {TOKEN}"}


def opened(hub: Loopback, name: str = "a.safetensors") -> RemoteFile:
    """Return a file of the repository, its reader with a token."""
    url = hf_hub_url("org/name", name, endpoint=hub.hub)
    return RemoteFile(url, f"org/name/{name}", with_token, get_session)


def filled(file: RemoteFile, start: int, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: file.fill(start, memoryview(buffer))])


def refusal(file: RemoteFile, start: int = 0, count: int = SIZE) -> str:
    """Return the error's text, after checking that it is one plain line without the token."""
    with pytest.raises(CheckpointError) as caught:
        filled(file, start, count)
    text = str(caught.value)
    assert text.isprintable()
    assert text.endswith(".")
    assert TOKEN not in text
    return text
