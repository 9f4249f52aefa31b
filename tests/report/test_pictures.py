"""A picture is drawn once, and again where anything that it shows, or what draws it, is another."""

import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import spectra
from examples import write_model
from spectra.analyzers import Row
from spectra.errors import SpectraError, UsageError
from spectra.report import kind, pictures, plots
from spectra.report.kind import Document
from spectra.report.pictures import require_picture, write_pictures
from spectra.report.plots import Arrays
from spectra.work.result import Result
from spectra.work.store import PICTURE, Store


@pytest.fixture
def result(tmp_path: Path) -> Result:
    model = {f"layers.{at}.q.weight": torch.diag(torch.arange(1.0, 9.0) + at) for at in range(2)}
    return spectra.spectrum(write_model(tmp_path / "model", model))


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """Return what is drawn from now on, with a store of its own."""
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "cache"))
    found: list[Document] = []

    def draw(document: Document, arrays: Arrays) -> Figure:
        found.append(document)
        return drawing(document, arrays)

    drawing = plots.draw
    monkeypatch.setattr(plots, "draw", draw)
    return found


def written(result: Result, path: Path) -> bytes:
    path.unlink(missing_ok=True)
    assert write_pictures(result, [path]) in ((), [])
    return path.read_bytes()


def kept() -> int:
    with closing(Store()) as store:
        return store.base.count(PICTURE)


def test_it_is_drawn_once_for_all_its_files(
    result: Result, drawn: list[Document], tmp_path: Path
) -> None:
    assert result.cached
    write_pictures(result, [tmp_path / "a.png", tmp_path / "b.SVG", tmp_path / "c.png"])
    assert (len(drawn), kept()) == (1, 2)
    later = replace(result, date="2031-01-01T00:00:00Z", seconds=7.0)
    for name in ("a.png", "b.SVG", "c.png"):
        before = (tmp_path / name).read_bytes()
        assert written(later, tmp_path / name) == before
        assert written(replace(result, cached=False), tmp_path / name) == before  # drawn anew
    assert len(drawn) == 1 + 3


def other_sigma(result: Result) -> Result:
    def moved(row: Row) -> Row:
        return replace(row, arrays={**row.arrays, "sigma": 2.0 * row.arrays["sigma"]})

    return replace(result, rows=[*map(moved, result.rows)])


@pytest.mark.parametrize("change", [
    other_sigma, lambda found: replace(found, rows=found.rows[:1]),
    lambda found: replace(found, summary={**found.summary, "reading": "Something else."}),
], ids=["sigma", "rows", "sentence"])  # fmt: skip
def test_what_it_shows_tells_one_from_the_next(
    change: Callable[[Result], Result], result: Result, drawn: list[Document], tmp_path: Path
) -> None:
    first, second = (written(one, tmp_path / "a.png") for one in (result, change(result)))
    assert first != second
    assert len(drawn) == 2


def test_what_draws_it_tells_one_from_the_next(
    result: Result, drawn: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(result, tmp_path / "a.png")
    monkeypatch.setattr(pictures, "version_of", lambda _: "3.0")
    written(result, tmp_path / "a.png")
    monkeypatch.setattr(pictures, "_HOME", tmp_path)  # other code
    pictures._code.cache_clear()
    written(result, tmp_path / "a.png")
    pictures._code.cache_clear()
    assert (len(drawn), kept()) == (3, 3)


@pytest.mark.parametrize("body", [b"", b"no", zlib.compress(b"0" * (8 << 20))], ids=len)
def test_an_entry_that_is_none_is_drawn_anew(
    body: bytes, result: Result, drawn: list[Document], tmp_path: Path
) -> None:
    first = written(result, tmp_path / "a.png")
    with closing(Store()) as store:
        (entry,) = store.base.entries(PICTURE)
        store.base.put(PICTURE, entry.about, body)
    assert [written(result, tmp_path / "a.png") for _ in range(2)] == [first, first]
    assert len(drawn) == 2


def test_large_ones_and_those_of_others_are_not_kept(
    result: Result, drawn: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "LARGEST", 1000)
    written(result, tmp_path / "a.png")
    monkeypatch.undo()
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "OURS", "others.")
    written(result, tmp_path / "a.png")
    assert kept() == 0


def test_what_cannot_draw_is_told_before_work_that_would_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = kind.Kind("tails", "tails", drawer="spectra.report.plots.broken:draw")
    monkeypatch.setattr(kind, "kind_of", lambda _: broken)
    monkeypatch.setattr(kind, "typed", str)
    require_picture("tails", kept=True)
    with pytest.raises(SpectraError, match="The picture of tails cannot be drawn: "):
        require_picture("tails", kept=False)


def test_a_drawer_of_others_is_tried_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    require_picture("spectrum", kept=True)
    found = kind.Kind("tails", "tails", drawer="no_such_module:draw")
    monkeypatch.setattr(kind, "kind_of", lambda _: found)
    monkeypatch.setattr(kind, "typed", str)
    with pytest.raises(SpectraError, match="The picture of tails cannot be drawn: "):
        require_picture("tails", kept=True)
    monkeypatch.setattr(kind, "kind_of", lambda _: replace(found, drawer=None))
    with pytest.raises(UsageError, match="tails has no picture"):
        require_picture("tails", kept=True)
