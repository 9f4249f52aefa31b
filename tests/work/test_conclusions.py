"""What was concluded is kept with all that it hangs on, and nothing else is taken for it."""

import importlib
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from spectra.analyzers import Kappa, Row, Spectrum, Summary
from spectra.matrices import Place
from spectra.work import conclusions
from spectra.work.conclusions import Concluded, concluded
from spectra.work.identity import code_of
from spectra.work.store import CONCLUSION, Store

ROWS = [
    Row(Place(name, name, "attn.q", None, None, 4, 4, "F32"), "ok", None, {"kappa": 2.0},
        {"sigma": torch.tensor([2.0, 1.0])})
    for name in ("a.weight", "b.weight", "c.weight")
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store.sqlite")) as found:
        yield found


@dataclass
class Counting:
    """Concludes, and counts how often."""

    summary: Summary = field(default_factory=lambda: {"count": 3, "nan": float("nan")})
    times: int = 0

    def __call__(self, rows: Sequence[Row]) -> Concluded:
        self.times += 1
        marked = [replace(row, values={**row.values, "chosen": True}) for row in rows]
        return marked[::-1], self.summary


def plain(found: Concluded) -> str:
    return repr(([row.plain() for row in found[0]], found[1]))


def test_the_second_time_nothing_is_concluded(store: Store) -> None:
    once = Counting()
    first = concluded(Kappa(), ROWS, store, once)
    again = concluded(Kappa(), ROWS, store, once)
    assert once.times == 1
    assert plain(again) == plain(first)
    assert all(one.arrays is row.arrays for one, row in zip(again[0], ROWS[::-1], strict=True))


def test_rows_from_a_store_are_those_that_were_measured(store: Store) -> None:
    once = Counting()
    concluded(Kappa(), ROWS, store, once)
    concluded(Kappa(), [Row.from_plain(row.plain()) for row in ROWS], store, once)
    assert once.times == 1


@pytest.mark.parametrize(
    "other",
    [
        [replace(ROWS[0], values={"kappa": 2.5}), *ROWS[1:]],
        [replace(ROWS[0], arrays={"sigma": torch.tensor([2.0, 1.5])}), *ROWS[1:]],
        [replace(ROWS[0], place=replace(ROWS[0].place, role="attn.k")), *ROWS[1:]],
        [replace(ROWS[0], status="failed"), *ROWS[1:]],
        ROWS[:2],
        ROWS[::-1],
    ],
    ids=["value", "array", "place", "status", "fewer", "order"],
)
def test_other_rows_are_concluded_anew(store: Store, other: Sequence[Row]) -> None:
    once = Counting()
    concluded(Kappa(), ROWS, store, once)
    concluded(Kappa(), other, store, once)
    assert once.times == 2


def test_settings_that_measuring_does_not_take_count_too(store: Store) -> None:
    once = Counting()
    for analyzer in (Kappa(), Kappa(select="50%"), Kappa(select="10%"), Spectrum(), Kappa()):
        concluded(analyzer, ROWS, store, once)
    assert once.times == 4


def test_rows_that_a_conclusion_makes_come_back_whole(store: Store) -> None:
    calls: list[int] = []

    def halves(rows: Sequence[Row]) -> Concluded:
        calls.append(1)
        return [
            replace(row, place=replace(row.place, matrix=f"{row.matrix}[{half}]"),
                    arrays={"sigma": row.arrays["sigma"][half:]})
            for row in rows for half in range(2)
        ], {}  # fmt: skip

    first = concluded(Kappa(), ROWS, store, halves)
    again = concluded(Kappa(), ROWS, store, halves)
    assert len(calls) == 1
    assert plain(again) == plain(first)
    for one, other in zip(first[0], again[0], strict=True):
        assert torch.equal(one.arrays["sigma"], other.arrays["sigma"])


@pytest.mark.parametrize("held", [(1, 2), torch.ones(1), {1: "a"}], ids=["tuple", "tensor", "key"])
def test_what_plain_data_does_not_hold_is_concluded_each_time(store: Store, held: object) -> None:
    once = Counting({"held": held})
    concluded(Kappa(), ROWS, store, once)
    found = concluded(Kappa(), ROWS, store, once)
    assert once.times == 2
    assert found[1]["held"] is held


def test_settings_that_are_no_plain_data_are_never_taken_for_each_other(store: Store) -> None:
    @dataclass(frozen=True)
    class Odd(Kappa):
        more: object = None

    once = Counting()
    for more in (torch.ones(3), torch.zeros(3), object()):
        concluded(Odd(more=more), ROWS, store, once)
    assert once.times == 3
    assert not store.base.count(CONCLUSION)


def test_an_analyzer_without_a_file_is_asked_each_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a notebook has it; and one that is loaded again from a file is another."""
    lines = "from spectra.analyzers import Kappa\nclass Mine(Kappa): pass\n"
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    once = Counting()
    exec(lines, vars(module))  # noqa: S102 - as a notebook does
    for _ in range(2):
        concluded(module.Mine(), ROWS, store, once)
    assert (once.times, store.base.count(CONCLUSION)) == (2, 0)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "mine.py"), raising=False)
    for text in (lines, lines, f"{lines}# edited\n"):
        (tmp_path / "mine.py").write_text(text)
        exec(text, vars(module))  # noqa: S102
        concluded(module.Mine(), ROWS, store, once)
    assert (once.times, store.base.count(CONCLUSION)) == (4, 2)


def test_analyzers_whose_code_no_file_tells_whole_are_asked_each_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that a function made closes over values; and what it imports may be edited."""

    def made(share: float) -> type[Kappa]:
        class Mine(Kappa):
            def conclude(self, rows: Sequence[Row]) -> Concluded:
                return rows, {"share": share}

        return Mine

    module = ModuleType("made")
    monkeypatch.setitem(sys.modules, "made", module)
    monkeypatch.setattr(module, "__file__", __file__, raising=False)
    for share in (1.0, 2.0):
        mine = made(share)
        mine.__module__, mine.__qualname__ = "made", "Mine"
        assert concluded(mine(), ROWS, store, mine().conclude)[1] == {"share": share}
        setattr(module, "Mine", made(share))  # noqa: B010 - of its name, and yet another
    assert not store.base.count(CONCLUSION)


def test_what_an_analyzer_of_ones_own_imports_may_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_all").mkdir()
    whole = {
        "mine_all/__init__.py": "",
        "mine_all/question.py": "from spectra.analyzers import Kappa\nfrom . import beside\n"
        "from .more import FACTOR\nclass Mine(Kappa):\n    def measure(self, matrix):\n"
        "        import mine_late\n",
        "mine_all/beside.py": "import mine_far\n", "mine_all/more.py": "FACTOR = 1\n",
        "mine_far.py": "FACTOR = 1\n", "mine_late.py": "FACTOR = 1\n",
        "mine_other.py": "FACTOR = 1\n",
    }  # fmt: skip

    def code() -> str | None:
        for name in [name for name in sys.modules if name.startswith("mine_")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        return code_of(importlib.import_module("mine_all.question").Mine)

    for name, text in whole.items():
        (tmp_path / name).write_text(text)
    first = code()
    assert first is not None
    for name, text in whole.items():
        (tmp_path / name).write_text(f"{text}# edited\n")
        assert (code() == first) == (name == "mine_other.py"), name
        (tmp_path / name).write_text(text)
    assert code() == first


def test_damage_and_other_layouts_are_concluded_anew(store: Store) -> None:
    once = Counting()
    concluded(Kappa(), ROWS, store, once)
    (entry,) = store.base.entries(CONCLUSION)
    for body in (b"", zlib.compress(b"[]"), zlib.compress(b'[[{"row": 7}], {}]'),
                 zlib.compress(b'[[{"row": 0, "other": 1}], {}]')):  # fmt: skip
        store.base.put(CONCLUSION, entry.about, body)
        found = concluded(Kappa(), ROWS, store, once)
        assert len(found[0]) == 3
    assert once.times == 5
    assert concluded(Kappa(), ROWS, None, once)
    assert once.times == 6


def test_other_code_that_words_it_concludes_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Counting()
    concluded(Kappa(), ROWS, store, once)
    monkeypatch.setattr(conclusions, "version", lambda: "0.2.0")
    conclusions.wording.cache_clear()
    concluded(Kappa(), ROWS, store, once)
    conclusions.wording.cache_clear()
    assert once.times == 2
