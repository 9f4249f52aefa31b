"""What transformers said of a model's names is kept, and asked anew where that may be another."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import spectra
import spectra.exports.kept
from exports.subjects import tiny
from spectra.checkpoint import Checkpoint
from spectra.exports.kept import remembered
from spectra.exports.memory import Memory, memory_of
from spectra.work.store import CONCLUSION, Store

FAMILIES = "bert", "mixtral", "gpt2"


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Checkpoint]:
    """Return what transformers is asked about from now on."""
    found: list[Checkpoint] = []

    def ask(checkpoint: Checkpoint) -> Memory:
        found.append(checkpoint)
        return memory_of(checkpoint)

    monkeypatch.setattr(spectra.exports.kept, "memory_of", ask)
    return found


def of(folder: Path) -> Checkpoint:
    opened = spectra.open(folder)
    assert isinstance(opened, Checkpoint)
    return opened


def spoil(change: Callable[[bytes], bytes]) -> None:
    """Change the body of every conclusion, its checksum made anew."""
    with closing(Store()) as store:
        for entry in list(store.base.entries(CONCLUSION)):
            store.base.put(CONCLUSION, entry.about, change(entry.body))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_second_answer_is_the_first(
    family: str, tmp_path: Path, asked: list[Checkpoint]
) -> None:
    checkpoint = tiny(family, tmp_path).checkpoint
    assert remembered(checkpoint) == (memory_of(checkpoint), [])
    assert remembered(of(tmp_path)) == (memory_of(checkpoint), [])
    assert len(asked) == 1


def test_another_model_or_library_is_asked_about_anew(
    tmp_path: Path, asked: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("bert", tmp_path / "model").checkpoint
    remembered(checkpoint)
    config = {**checkpoint.config, "is_decoder": True}
    remembered(Checkpoint(checkpoint.spec, checkpoint.resolved, checkpoint.entries, config))
    fewer = dict(list(checkpoint.entries.items())[1:])
    remembered(Checkpoint(checkpoint.spec, checkpoint.resolved, fewer, checkpoint.config))
    assert len(asked) == 3
    (tmp_path / "site" / "timm-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    remembered(checkpoint)
    assert len(asked) == 4
    remembered(checkpoint)
    assert len(asked) == 4


@pytest.mark.parametrize("library", ["transformers", "torch"])
def test_one_whose_files_nothing_lists_is_always_asked(
    library: str, tmp_path: Path, asked: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("bert", tmp_path).checkpoint
    monkeypatch.setattr(sys.modules[library].__spec__, "origin", str(tmp_path / "a" / "b.py"))
    remembered(checkpoint)
    remembered(checkpoint)
    assert len(asked) == 2


def test_files_that_another_build_lists_are_of_another(
    tmp_path: Path, asked: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("bert", tmp_path / "model").checkpoint
    record = tmp_path / "site" / "transformers-5.0.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    inside = tmp_path / "site" / "transformers" / "__init__.py"
    monkeypatch.setattr(sys.modules["transformers"].__spec__, "origin", str(inside))
    for told in ("one", "another", "one"):
        record.write_text(told)
        remembered(checkpoint)
    assert len(asked) == 2


@pytest.mark.parametrize("body", [b"", b"nothing", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_cannot_be_read_is_asked_anew(
    body: bytes, tmp_path: Path, asked: list[Checkpoint]
) -> None:
    checkpoint = tiny("bert", tmp_path).checkpoint
    first = remembered(checkpoint)
    spoil(lambda _: body)
    assert remembered(checkpoint) == first
    remembered(checkpoint)
    assert len(asked) == 2


def test_an_entry_whose_checksum_fails_is_asked_anew(
    tmp_path: Path, asked: list[Checkpoint]
) -> None:
    checkpoint = tiny("bert", tmp_path).checkpoint
    first = remembered(checkpoint)
    with closing(Store()) as store:
        store.base._order("UPDATE entries SET body = body || x'00'", ())
    assert remembered(checkpoint) == first
    assert len(asked) == 2


def test_a_store_that_cannot_be_written_is_done_without(
    tmp_path: Path, asked: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "file"))
    checkpoint = tiny("bert", tmp_path / "model").checkpoint
    for _ in range(2):
        assert remembered(checkpoint) == (memory_of(checkpoint), [])
    assert len(asked) == 2


def test_a_store_that_is_set_aside_is_told(tmp_path: Path) -> None:
    tiny("bert", tmp_path / "model")
    chosen = spectra.kappa(tmp_path / "model", select=1)
    (tmp_path / "cache" / "store.sqlite").write_bytes(b"no store" * 100)
    *_, told = chosen.export("peft").notes
    assert "store.sqlite is damaged (file is not a database): it is set aside as" in told


def test_a_result_that_asked_no_store_keeps_nothing(
    tmp_path: Path, asked: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny("bert", tmp_path / "model")
    first = spectra.kappa(tmp_path / "model", select=1).export("peft")
    assert spectra.kappa(tmp_path / "model", select=1).export("peft") == first
    assert len(asked) == 1
    with monkeypatch.context() as patch:
        patch.setattr(spectra.exports, "remembered", None)
        assert spectra.kappa(tmp_path / "model", select=1, cache=False).export("peft") == first
