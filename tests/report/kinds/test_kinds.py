"""Records are found by name, wherever they come from, and are plain where nothing is known."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from report.html import documents
from spectra.analyzers import loss
from spectra.errors import SpectraError
from spectra.report import cells, kind, lowrank
from spectra.report.card import card
from spectra.report.html import Source, render_page
from spectra.report.kinds import Kind, kind_of, kinds
from spectra.report.kinds.diff import CHANGES
from spectra.report.screens import screen_of
from spectra.report.table import Column, render_text

TAILS = Kind(
    "tails",
    "Heads of attention",
    columns=[Column("rank", cell=cells.of("qk_rank"))],
    order=[("qk_rank", True)],
)


def add(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("tails", value, kind.GROUP)

    monkeypatch.setattr(kind, "entry_points", EntryPoints([entry]).select)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    kind_of.cache_clear()
    yield
    kind_of.cache_clear()


def test_every_command_has_a_file() -> None:
    found = {one.command: one for one in kinds()}
    assert set(found) == {
        "check", "compare", "diff", "diff_several", "diff_trend", "heads", "kappa",
        "lowrank_convert", "lowrank_extract", "lowrank_init", "lowrank_mask", "lowrank_merge",
        "lowrank_repair", "lowrank_resize", "ls", "match", "revisions", "shared",
        "spectrum", "trend", "width",
    }  # fmt: skip
    assert all(kind_of(name) is record for name, record in found.items())


def test_another_package_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, f"{__name__}:TAILS")
    assert kind_of("tails") is TAILS
    assert [one.command for one in kinds()][-1] == "tails"


@pytest.mark.parametrize("word", ["tails", "kind", "__init__", "kappa.KIND", "../kappa", "\ud800"])
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
        kind_of("tails")
    assert str(caught.value).startswith("The command 'tails' of another package cannot be told")
    assert value in str(caught.value)
    assert told in str(caught.value)


@pytest.fixture
def tails() -> documents.Document:
    """A result of a command to come: four layers, one of them without numbers."""
    found: documents.Document = documents.spectrum(4) | {"command": "tails"}
    rows = [row for row in found["rows"] if row["role"] == "attn.q"]
    identity = documents.identity("", "", None, 1, 1)
    found["rows"] = [
        {key: row[key] for key in row if key in identity} | {"qk_rank": 10 * place}
        for place, row in enumerate(rows)
    ]
    found["rows"][2] |= {"status": "non-finite", "error": "1 NaN", "qk_rank": None}
    return found


def test_a_record_of_columns_alone_is_told_everywhere(
    tails: documents.Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, f"{__name__}:TAILS")
    screen = screen_of(tails, seconds=1.25, hints=True)
    assert [column.title for column in screen.columns] == ["matrix", "role", "shape", "rank"]
    assert [line.cells[-1] for line in screen.lines] == ["—", "30", "10", "0"]
    assert [line.mark for line in screen.lines] == ["bad", "", "", ""]
    assert screen.facts[-1].endswith("q_proj.weight: 1 NaN")
    assert list(screen.hints) == ["1.2 s"]
    page = render_page([Source(tails, "tails.json")])
    assert '<h2><a href="#r1">Heads of attention: acme/big</a></h2>' in page
    assert '"first":["qk_rank",true]' in page
    assert "spectra tails acme/big -o tails.json" in page
    told = card([tails])
    assert "matrices **4**" in told
    assert "| matrix | rank |" in told
    assert "| `model.layers.3.self_attn.q_proj.weight` | 30 |" in told


def test_a_command_without_a_record_shows_what_its_rows_hold(tails: documents.Document) -> None:
    for row in tails["rows"]:
        row |= {"share": 0.123456, "odd": row["qk_rank"] == 10, "word": "a\x1bb", "list": [1]}
    screen = screen_of(tails)
    assert [column.title for column in screen.columns][3:] == ["qk_rank", "share", "odd", "word"]
    assert list(screen.lines[1].cells[3:]) == ["0", "0.1235", "no", "a\\x1bb"]
    assert "a\\x1bb" in render_text(screen)
    assert ">tails: acme/big<" in render_page([Source(tails, "tails.json")])
    assert "| matrix |" not in card([tails])


def test_a_rank_that_is_a_lower_bound_says_so() -> None:
    row = {"delta_rank": 2458, "delta_rank_status": "at least", "status": "ok"}
    cell = next(column.cell for column in CHANGES if column.title == "rank")
    assert cell(row) == ">= 2,458"
    assert cell({**row, "delta_rank_status": "ok"}) == "2,458"
    assert cell({"delta_rank": None, "status": "non-finite"}) == "—"


def test_what_rounding_alone_loses_is_not_among_the_worst() -> None:
    assert lowrank.EXACT == loss.EXACT
    rows = [{"matrix": name, "loss": lost, "rank_kept": 8}
            for name, lost in (("a", 4e-7), ("b", 0.3), ("c", None))]  # fmt: skip
    assert [one.matrix for one in lowrank.worst({"rows": rows})] == ["b"]
