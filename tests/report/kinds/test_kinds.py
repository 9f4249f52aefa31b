"""Records are found by name, wherever they come from, and are plain where nothing is known."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from spectra.errors import SpectraError
from spectra.report import kinds
from spectra.report.kinds import Kind, kind_of

HEADS = Kind("heads", "Heads of attention")


def add(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("heads", value, kinds.GROUP)

    monkeypatch.setattr(kinds, "entry_points", EntryPoints([entry]).select)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    kind_of.cache_clear()
    yield
    kind_of.cache_clear()


def test_every_command_has_a_file() -> None:
    found = {kind.command: kind for kind in kinds.kinds()}
    assert set(found) == {"check", "diff", "kappa", "ls", "spectrum", "trend", "width"}
    assert all(kind_of(name) is kind for name, kind in found.items())


def test_another_package_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, f"{__name__}:HEADS")
    assert kind_of("heads") is HEADS
    assert [kind.command for kind in kinds.kinds()][-1] == "heads"


@pytest.mark.parametrize("word", ["heads", "kind", "__init__", "kappa.KIND", "../kappa", "\ud800"])
def test_a_word_that_is_no_command_is_told_plainly(word: str) -> None:
    assert (kind_of(word).command, kind_of(word).title) == (word, word)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no_such_module:KIND", "fails to load (ModuleNotFoundError: No module named"),
        (f"{__name__}:add", "is of type function, expected a spectra.report.kinds.Kind"),
    ],
)
def test_a_broken_package_is_named(value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, value)
    with pytest.raises(SpectraError) as caught:
        kind_of("heads")
    assert str(caught.value).startswith("The command 'heads' of another package cannot be told")
    assert value in str(caught.value)
    assert told in str(caught.value)
