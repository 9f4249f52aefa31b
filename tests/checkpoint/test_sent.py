"""Checkpoints sent to another process: the same bytes there, and no secret on the way."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from examples import write_model
from loopback import Loopback
from ranged import TOKEN
from shards import BIG, FIRST, SECOND, opened
from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.checkpoint.fingerprints import MemoryLedger, fingerprint_of
from spectra.checkpoint.hub.repository import open_hub
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.reading import read_entry
from spectra.errors import CheckpointError


def sent(checkpoint: Checkpoint) -> Checkpoint:
    """Return what another process gets."""
    found = pickle.loads(pickle.dumps(checkpoint))
    assert isinstance(found, Checkpoint)
    return found


def test_a_local_file_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(4, 3)
    write_model(tmp_path / "model", {"a.weight": values}, '{"model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    there = pickle.dumps(opened("model"))
    monkeypatch.chdir("/")
    found = pickle.loads(there)
    assert torch.equal(found.read(found.entries["a.weight"]), values)
    assert found.folder is not None
    assert found.folder.names() == ["config.json", "model.safetensors"]
    assert (found.spec, found.config) == ("model", {"model_type": "llama"})


def test_shards_of_the_hub_are_read_where_they_lie(hub: Loopback, sharded: str) -> None:
    here = opened("org/name")
    hub.forget()
    there = sent(here)
    assert there == here.__class__(
        **{  # but for its files, which are others
            **{name: getattr(here, name) for name in here.__dataclass_fields__},
            "files": there.files,
        }
    )
    assert [file.size for file in there.files.values()] == [f.size for f in here.files.values()]
    assert hub.requests == []
    for name, entry in there.entries.items():
        assert torch.equal(there.read(entry), BIG[name])


def test_a_file_to_download_is_fetched_there(hub: Loopback, sharded: str) -> None:
    def fetched() -> list[str]:
        return sorted(path.name for path in Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))

    there = sent(opened("org/name", download=True))
    assert fetched() == []
    assert list(there.entries) == list(BIG)
    for name, entry in there.entries.items():
        assert torch.equal(there.read(entry), BIG[name])
    assert fetched() == [FIRST, SECOND]


class TestTokens:
    @pytest.fixture
    def closed(self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
        """A checkpoint that was opened with a token."""
        hub.faults.token = TOKEN
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        return opened("org/name")

    def test_are_not_sent(self, closed: Checkpoint) -> None:
        for entry in closed.entries.values():
            closed.read(entry)  # which leads to signed addresses
        raw = pickle.dumps(closed)
        assert TOKEN.encode() not in raw
        assert b"signature=" not in raw

    def test_are_those_of_the_other_process(
        self, closed: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = pickle.dumps(closed)
        monkeypatch.delenv("HF_TOKEN")
        Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
        Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
        there = pickle.loads(raw)
        assert torch.equal(there.read(there.entries["a.weight"]), BIG["a.weight"])

    def test_that_are_missing_there_are_asked_for(
        self, closed: Checkpoint, hub: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there = sent(closed)
        monkeypatch.delenv("HF_TOKEN")
        hub.forget()
        with pytest.raises(CheckpointError, match="opened with a token, which is not sent"):
            there.read(there.entries["a.weight"])
        assert hub.requests == []


def test_another_process_reads_the_same_bytes(hub: Loopback, sharded: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"local")
    folder, _ = open_hub("org/name", download=False)
    remote = folder.file("model-00001-of-00002.safetensors")
    code = "import pickle, sys; print([f.read(0, 64) for f in pickle.load(sys.stdin.buffer)])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps([LocalFile(tmp_path / "x"), remote]),
        capture_output=True,
        check=True,
        cwd="/",
        env={**os.environ, **hub.environment(tmp_path / "other")},
    )
    assert found.stdout.decode().strip() == str([b"local", remote.read(0, 64)])


def test_an_adapter_arrives_whole() -> None:
    here = open_spec("tests/data/minilm-lora-r8")
    assert isinstance(here, Adapter)
    there = pickle.loads(pickle.dumps(here))
    assert there.factors == here.factors
    for factors in here.factors.values():
        assert torch.equal(there.weights.read(factors.a), here.weights.read(factors.a))


def test_views_of_a_torch_pickle_are_read_alike(tmp_path: Path) -> None:
    values = torch.randn(5, 4)
    torch.save({"a": values, "b": values.mT}, tmp_path / "model.pt")
    here = open_spec(tmp_path / "model.pt", allow_pickle=True)
    assert isinstance(here, Checkpoint)
    there = sent(here)
    assert torch.equal(there.read(there.entries["b"]), values.mT)
    ledger = MemoryLedger()
    for name in "ab":
        read_entry(there.files, there.entries[name], ledger=ledger)
    prints = [fingerprint_of(there.entries[name], None, here.files, ledger) for name in "ab"]
    assert None not in prints
    assert prints[0] != prints[1]
