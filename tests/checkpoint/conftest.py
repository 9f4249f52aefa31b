"""A hub of our own with a repository in it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import write_model
from loopback import Loopback, taken_for_the_hub
from ranged import SIZE
from shards import BIG, FIRST, SECOND, write_index


@pytest.fixture(scope="session")
def content() -> bytes:
    """The bytes of the file that tests read by range."""
    return random.Random(5).randbytes(SIZE)  # noqa: S311 - not secret


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Loopback]:
    """A hub without repositories that the real client takes for the Hub."""
    with taken_for_the_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture
def ranged(hub: Loopback, tmp_path: Path, content: bytes) -> Loopback:
    """The same with files of several sizes in org/name."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "a.safetensors").write_bytes(content)
    (tmp_path / "repo" / "small.safetensors").write_bytes(content[:10])
    (tmp_path / "repo" / "empty.safetensors").touch()
    (tmp_path / "repo" / "here.txt").write_bytes(content)
    hub.add("org/name", tmp_path / "repo")
    return hub


@pytest.fixture
def sharded(hub: Loopback, tmp_path: Path) -> str:
    """The commit of a model in two shards, org/name."""
    folder = tmp_path / "sharded"
    for name, shard in zip(BIG, (FIRST, SECOND), strict=True):
        write_model(folder, {name: BIG[name]}, '{"model_type": "llama"}', name=shard)
    write_index(folder, dict(zip(BIG, (FIRST, SECOND), strict=True)))
    return hub.add("org/name", folder)
