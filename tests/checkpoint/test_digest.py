"""Which weights a result is about: exact where they are small, told by pieces where not."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import spectra
from spectra.checkpoint import Checkpoint, digest
from spectra.checkpoint.digest import weights_digest
from spectra.checkpoint.fingerprints import MemoryLedger
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import ByContent


def of(folder: Path) -> str | None:
    opened = spectra.open(folder)
    assert isinstance(opened, Checkpoint)
    return weights_digest(opened.files)


@pytest.fixture
def model(minilm: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(minilm / name, folder)
    return folder


def test_of_small_weights_it_is_what_sha256sum_prints(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "EXACT", 1 << 30)
    raw = (model / "model.safetensors").read_bytes()
    assert of(model) == f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_one_byte_changes_it_and_a_name_does_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "EXACT", 1 << 30)
    before = of(model)
    moved = model.rename(model.parent / "other")
    assert of(moved) == before
    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-1000, 2)
        byte = file.read(1)
        file.seek(-1000, 2)
        file.write(bytes([byte[0] ^ 1]))
    assert of(moved) != before


def test_large_weights_are_told_by_pieces(model: Path) -> None:
    before = of(model)
    assert before is not None
    assert before.startswith("sample:")
    path = model / "model.safetensors"
    raw = bytearray(path.read_bytes())
    for place in range(len(raw) // 2, len(raw), 2000):  # as training moves all of a matrix
        raw[place] ^= 1
    path.write_bytes(raw)
    assert of(model) != before


def test_what_was_sampled_is_not_sampled_again(model: Path) -> None:
    class Counted(LocalFile):
        reads = 0

        def pieces(self, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
            for piece in super().pieces(ranges):
                Counted.reads += 1
                yield piece

    files = {"a": Counted(model / "model.safetensors"), "b": Counted(model / "config.json")}
    ledger = MemoryLedger()
    first = weights_digest(files, ledger)
    taken = Counted.reads
    assert taken > digest.PIECES / 2
    assert weights_digest(files, ledger) == first == weights_digest(files)
    assert Counted.reads == 2 * taken
    path = model / "config.json"
    path.write_text(path.read_text() + " ")
    again = {name: Counted(file.path) for name, file in files.items()}
    assert weights_digest(again, ledger) not in (first, None)


def test_what_was_digested_whole_is_not_read_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, ledger = {"a": LocalFile(model / "config.json")}, MemoryLedger()
    first = weights_digest(files, ledger)
    monkeypatch.setattr(LocalFile, "read", None)
    assert weights_digest(files, ledger) == first
    assert first == f"sha256:{hashlib.sha256((model / 'config.json').read_bytes()).hexdigest()}"


class Remote(ByContent):
    """A file of a server, which must not be asked."""

    label, size, chunk = "remote", 1 << 40, 1 << 20

    def __init__(self, content: str) -> None:
        self.content = content

    def read(self, start: int, stop: int) -> bytes:
        raise AssertionError

    def fill(self, start: int, buffer: memoryview) -> int:
        raise AssertionError


def test_of_the_hub_it_is_the_hash_that_the_hub_tells() -> None:
    name = "ab" * 32
    assert weights_digest({"a": Remote(name)}) == f"sha256:{name}"
    two = hashlib.sha256(f"{name}\n{name}".encode()).hexdigest()
    assert weights_digest({"a": Remote(name), "b": Remote(name)}) == f"sha256:{two}"
    assert weights_digest({"a": Remote("")}) is None
    assert weights_digest({}) is None
