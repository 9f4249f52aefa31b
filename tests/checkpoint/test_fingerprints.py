"""What stands for a tensor's bytes: known without reading, and another when they change."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download

from examples import write_model
from loopback import Loopback
from shards import BIG, FIRST, A, opened
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.fingerprints import BLOCK, Digest, MemoryLedger, fingerprint_of
from spectra.checkpoint.hub.remote import RemoteFile
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.reading import read_entry
from spectra.errors import CheckpointError

NAME = "a.weight"


def model(folder: Path, values: torch.Tensor) -> Checkpoint:
    return opened(write_model(folder, {"b.weight": torch.ones(3, 3), NAME: values}))


def known(checkpoint: Checkpoint, ledger: MemoryLedger | None, name: str = NAME) -> str | None:
    return fingerprint_of(checkpoint.entries[name], None, checkpoint.files, ledger)


def read(checkpoint: Checkpoint, ledger: MemoryLedger, *, widen: bool = False) -> torch.Tensor:
    return read_entry(checkpoint.files, checkpoint.entries[NAME], widen=widen, ledger=ledger)


class TestLocalFiles:
    def test_are_known_once_they_were_read(self, tmp_path: Path) -> None:
        values, ledger = torch.randn(6, 5), MemoryLedger()
        one = model(tmp_path / "one", values)
        assert known(one, ledger) is None
        assert torch.equal(read(one, ledger), values)
        assert known(one, ledger) is not None
        assert known(opened(tmp_path / "one"), ledger) == known(one, ledger)
        assert known(one, ledger, "b.weight") is None
        assert known(one, None) is None

    def test_with_the_same_values_have_the_same(self, tmp_path: Path) -> None:
        values, ledger = torch.randn(6, 5), MemoryLedger()
        models = [model(tmp_path / name, values) for name in "ab"]
        models.append(model(tmp_path / "c", values + 1))
        for each in models:
            read(each, ledger)
        first, second, third = (known(each, ledger) for each in models)
        assert first == second != third

    @pytest.mark.parametrize("change", ["size", "time"])
    def test_written_again_are_unknown(self, tmp_path: Path, change: str) -> None:
        ledger = MemoryLedger()
        read(model(tmp_path, torch.zeros(6, 5)), ledger)
        before = (tmp_path / "model.safetensors").stat()
        again = model(tmp_path, torch.ones(6, 6 if change == "size" else 5))
        if change == "time":
            os.utime(tmp_path / "model.safetensors", ns=(0, before.st_mtime_ns + 1))
        assert known(again, ledger) is None

    def test_that_change_while_they_are_read_are_not_noted(self, tmp_path: Path) -> None:
        one, ledger = model(tmp_path, torch.zeros(6, 5)), MemoryLedger()
        (file,) = one.files.values()
        assert isinstance(file, LocalFile)

        class Changing(LocalFile):
            def fill(self, start: int, buffer: memoryview) -> int:
                count = super().fill(start, buffer)
                os.utime(self.path, ns=(0, 1))
                return count

        files = {shard: Changing(file.path) for shard in one.files}
        read_entry(files, one.entries[NAME], ledger=ledger)
        assert known(one, ledger) is None

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_that_were_written_since_they_were_opened_are_refused(
        self, tmp_path: Path, elsewhere: bool
    ) -> None:
        one = model(tmp_path, torch.zeros(6, 5))
        there: Checkpoint = pickle.loads(pickle.dumps(one)) if elsewhere else one
        assert torch.equal(there.read(there.entries[NAME]), torch.zeros(6, 5))
        (path,) = tmp_path.glob("*.safetensors")
        now = path.stat().st_mtime_ns
        os.utime(path, ns=(now, now + (2_000_000_000 if elsewhere else 1)))
        with pytest.raises(CheckpointError, match="was written again after it was opened"):
            there.read(there.entries[NAME])

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("widen", [False, True])
    def test_have_one_digest_however_they_are_read(
        self, tmp_path: Path, threads: int, widen: bool
    ) -> None:
        values = torch.arange(5 * BLOCK // 4 + 7, dtype=torch.float32).bfloat16().view(1, -1)
        one, plain, other = model(tmp_path, values.repeat(2, 1)), MemoryLedger(), MemoryLedger()
        read(one, plain)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = read(one, other, widen=widen)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(found, values.repeat(2, 1).to(found.dtype))
        assert known(one, other) == known(one, plain) is not None

    def test_slabs_are_known_apart(self, tmp_path: Path) -> None:
        one, ledger = model(tmp_path, torch.randn(6, 5)), MemoryLedger()
        entry = one.entries[NAME]
        read_entry(one.files, entry, (2, 4), ledger=ledger)
        assert fingerprint_of(entry, (2, 4), one.files, ledger) is not None
        assert fingerprint_of(entry, (2, 5), one.files, ledger) is None
        assert known(one, ledger) is None

    def test_nothing_is_digested_without_a_ledger(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Digest, "add", pytest.fail)
        one = model(tmp_path, torch.randn(6, 5))
        assert one.read(one.entries[NAME]).shape == (6, 5)


class TestFilesOfTheHub:
    def test_are_known_when_opened_and_nothing_is_asked(self, hub: Loopback, sharded: str) -> None:
        remote = opened("org/name")
        hub.forget()
        prints = {name: known(remote, None, name) for name in remote.entries}
        assert None not in prints.values()
        assert len(set(prints.values())) == len(BIG)
        assert hub.requests == []

    def test_are_the_same_in_the_cache(self, hub: Loopback, sharded: str) -> None:
        remote = known(opened("org/name"), None)
        hf_hub_download("org/name", FIRST)
        held = opened("org/name")
        assert isinstance(held.files[FIRST], LocalFile)
        assert known(held, None) == remote

    def test_go_by_their_commit_where_no_hash_is_told(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RemoteFile, "_note_content", lambda *_: None)
        (file, *_) = opened("org/name").files.values()
        assert file.fingerprint(3, 5) == f"org/name@{sharded}/{FIRST}:3-5"

    def test_are_known_by_what_they_hold_once_they_were_read(
        self, hub: Loopback, sharded: str, tmp_path: Path
    ) -> None:
        remote, ledger = opened("org/name"), MemoryLedger()
        assert known(remote, ledger) is None
        read(remote, ledger)
        found = known(remote, ledger)
        assert found not in (None, known(remote, None))
        near = opened(write_model(tmp_path / "near", {"z": A, NAME: BIG[NAME]}))
        read(near, ledger)
        hf_hub_download("org/name", FIRST)
        held = opened("org/name")  # of which nothing was read
        assert isinstance(held.files[FIRST], LocalFile)
        assert known(held, ledger) == known(near, ledger) == found


def test_what_a_fingerprint_is_made_of(tmp_path: Path) -> None:
    """The same bytes as another dtype, shape or way of decoding are other values."""
    from dataclasses import replace  # noqa: PLC0415

    one, ledger = model(tmp_path, torch.randn(6, 5)), MemoryLedger()
    entry = one.entries[NAME]
    read(one, ledger)
    same: Callable[..., str | None] = lambda **change: fingerprint_of(  # noqa: E731
        replace(entry, **change), None, one.files, ledger
    )
    assert same(name="x", note="y") == same()
    assert len({same(), same(dtype="I32"), same(shape=(5, 6))}) == 3
