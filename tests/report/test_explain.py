"""Every key and heading is explained, in the words of the documentation."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import spectra
import spectra.lowrank
from examples import write_lora, write_model
from scaled import write_attention
from spectra.errors import UsageError
from spectra.report.document import document_of, summary_of
from spectra.report.explain import (
    ABOUT,
    HEADINGS,
    explained,
    explanation,
    key_named,
    known_words,
    legend,
)
from spectra.report.formats import frame_of, to_text
from spectra.report.keys import KEYS
from spectra.report.kind import Listing, kind_of, kinds
from spectra.report.ranking import ranked
from spectra.report.rules import rules_screen
from spectra.report.screens import screen_of
from spectra.report.shape import Items, Object, Shape
from spectra.report.table import Column, fit, render_text

ROOT = Path(__file__).parents[2]
FREE = frozenset({
    "codecs", "sigma", "widths", "left_out", "lines", "not_measured", "rules_not_in_both",
    "overall", "ratios",
})  # fmt: skip
"""What holds keys that are names from files, or keys that stand elsewhere too."""


def model(folder: Path, width: int, scale: float = 1.0) -> Path:
    generator = torch.Generator().manual_seed(width)
    tensors = {"model.embed_tokens.weight": torch.randn(32, width, generator=generator)}
    for layer in range(2):
        for name, rows, cols in (("self_attn.q_proj", 1, 1), ("mlp.up_proj", 2, 1)):
            made = torch.randn(rows * width, cols * width, generator=generator)
            tensors[f"model.layers.{layer}.{name}.weight"] = scale * made
    tensors["model.norm.weight"] = torch.ones(width)
    return write_model(folder, tensors, '{"model_type": "llama"}')


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One of every command, as it is measured."""
    folder = tmp_path_factory.mktemp("models")
    base, tuned = model(folder / "checkpoint-1", 8), model(folder / "checkpoint-2", 8, 1.5)
    wide = model(folder / "wide", 16)
    checked = spectra.check(tuned, base=base, baseline=base)
    modules = {"model.layers.0.self_attn.q_proj": (8, 8)}
    loras = [write_lora(folder / f"r{rank}", modules, rank) for rank in (3, 4)]
    found = [
        spectra.ls(base, layers="0,9"),
        spectra.ls(base, tuned),
        spectra.spectrum(base),
        spectra.diff(base, tuned),
        spectra.diff(base, tuned, intruders=True),
        spectra.diff(base, [tuned, tuned, base, base], merged_rank=1),
        spectra.diff(base, [tuned, tuned], intruders=True),
        spectra.diff(base, [tuned, base], trend=True),
        spectra.kappa(base, select=2),
        spectra.heads(write_attention(folder / "heads")),
        spectra.heads(write_attention(folder / "composed"), compose=True),
        spectra.match(base, tuned),
        spectra.shared(write_attention(folder / "layers"), group=2),
        spectra.width([base, wide], eta=0.1, weight_decay=0.1),
        spectra.trend([base, tuned]),
        checked,
        spectra.lowrank.extract(base, tuned, folder / "made", rank=2),
        spectra.lowrank.convert(loras[0], folder / "mlx", to="mlx"),
        spectra.lowrank.init("milora", base, folder / "begun", rank=2),
        spectra.lowrank.mask(base, folder / "masks", tuned=tuned, rank=1, filter_rank=2),
        spectra.lowrank.resize(loras[0], folder / "small", rank=2),
        spectra.lowrank.merge(loras, folder / "sum"),
        spectra.lowrank.repair(base, tuned, folder / "repaired"),
        spectra.compare(spectra.check(base), checked),
        spectra.compare(spectra.spectrum(base), spectra.spectrum(tuned)),
    ]
    made = [one.document() for one in found]
    assert {kind.command for kind in kinds()} <= {one["command"] for one in made}
    return made


def keys_in(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield key
            if key not in FREE:
                yield from keys_in(value)
    elif isinstance(found, list):
        for one in found:
            yield from keys_in(one)


def keys_of(shape: Shape | None) -> Iterator[str]:
    """Yield every key that a part of a document may have."""
    if isinstance(shape, Object):
        for key, inner in shape.keys.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(shape, Items):
        yield from keys_of(shape.item)


def test_the_texts_are_those_of_the_pages() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "explained.py"))["text"]()
    written = (ROOT / "spectra" / "report" / "explained.json").read_text(encoding="utf-8")
    assert written == made, "python docs/explained.py writes it again"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_explained(key: str) -> None:
    found = explained(key)
    assert found["key"] == key
    assert found.get("meaning") or found.get("definition")
    text = explanation(key, 80)
    assert all(len(line) <= 80 or line.startswith("    ") for line in text.splitlines())
    assert "](" not in text
    assert "`" not in text.replace("`spectra", "").replace("CODE`", "")


def whole(name: str) -> bool:
    """Say whether a name is explained: what it is, how to read it, where it misleads."""
    try:
        found = explained(name)
    except UsageError:
        return False
    own = [found.get("what"), *found.get("read", ()), *found.get("misleads", ())]
    said = len(own) > 2 and all(own) and found["what"][0] == found["what"][0].upper()
    return said or "formula" in found


def test_every_key_of_every_document_is_explained_whole(documents: list[dict[str, Any]]) -> None:
    names = set(keys_in(documents)) | set(KEYS)
    for kind in kinds():
        names |= set(keys_of(document_of(kind.settings, summary_of(kind))))
    assert len(names) > 200
    assert not (lacking := sorted(name for name in names if not whole(name))), lacking


def test_every_column_of_every_table_and_file_is_explained_whole(
    documents: list[dict[str, Any]],
) -> None:
    names = {"index", "sigma"}  # of --values
    for document in documents:
        kind = kind_of(document["command"])
        rows, _ = ranked(document, kind)
        listings = [kind.table(document)] if kind.table else [Listing(kind.columns, rows)]
        listings += [card] if kind.card and (card := kind.card(document, rows)) else []
        labels = {str(one.get(key)) for one in document["models"] for key in ("model", "width")}
        for column in (one for listing in listings for one in listing.columns):
            if column.title and column.key != "" and column.title not in labels:
                names.add(column.key or column.title)
        names |= {key for sheet in kind.sheets(document) for key in sheet.keys}
        names |= set(to_text(document, "csv").splitlines()[0].split(","))
        names |= set(map(str, frame_of(document).columns))
    names |= {column.title for column in rules_screen([]).columns}
    assert not (lacking := sorted(name for name in names if not whole(name))), lacking


@pytest.mark.parametrize("key", ["at", "finds", "energy", "state", "sigma", "zero_rows", "until"])
def test_small_columns_are_told_in_sentences(key: str) -> None:
    text = explanation(key, 80)
    assert "How to read it" in text
    assert "Where it misleads" in text
    assert not re.search(r"\b(that|its) (vector|share)\b", text.splitlines()[3])


def test_what_is_shortened_or_shared_names_what_is_there() -> None:
    assert set(map(key_named, HEADINGS.values())) == set(HEADINGS.values())
    assert ABOUT.keys() <= KEYS.keys()
    assert all("formula" in explained(key) for key in ABOUT)


def test_one_quantity_is_told_whole() -> None:
    text = explanation("stable_rank", 80)
    for part in ("Formula", "How to read it", "Where it misleads", "Where it comes from"):
        assert f"\n  {part}\n" in text
    assert "stable_rank = frobenius² / sigma_max²" in text
    assert explanation("Stable Rank", 80) == text == explanation("stable", 80)


def test_a_word_that_is_unknown_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'stable_rank'"):
        explained("stabel_rank")


def test_a_legend_tells_of_the_columns_that_mean_something() -> None:
    last = Column("last", means="at the end")
    both = [Column("8", means="of a width"), Column("16", means="of a width")]
    (line,) = legend([Column("stable"), last, Column("excess"), last, Column(""), *both])
    assert line == (
        "stable: Σσ² / σ max²; last: at the end; excess: κ over what noise of this shape has; "
        "8, 16: of a width. More: spectra explain KEY."
    )
    assert legend([Column("2048")]) == []


@pytest.mark.parametrize("limit", [80, 100, 160])
def test_a_legend_names_every_column_that_is_shown(
    documents: list[dict[str, Any]], limit: int
) -> None:
    for document in documents:
        screen = screen_of(document, full=True, legend=True)
        shown, _, _ = fit(screen, limit)
        (line,) = screen.legend
        for title in filter(None, (column.title for column in shown.columns)):
            named = re.search(rf"(^|[;,] ){re.escape(title)}(, [^;:]+)?: ", line)
            assert named, (document["command"], title, line)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_nothing_leads_to_what_only_a_page_has(key: str) -> None:
    text = explanation(key, None)
    for word in (
        "quantities.",
        "Picture:",
        "docs/",
        "below are",
        "the picture:",
        "*shapes*",
        "....",
    ):
        assert word not in text


def test_what_the_legend_tells_is_told_once(tmp_path: Path) -> None:
    document = spectra.shared(write_attention(tmp_path), group=2).document()
    short, full = (
        render_text(screen_of(document, full=True, legend=told)) for told in (False, True)
    )
    assert short.count("together: ") == full.count("together: ") == 1
    assert "More: spectra explain KEY." in full


def test_weightwatchers_names_are_explained(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(40, 60), "b.weight": torch.full((3, 3), torch.nan)}
    result = spectra.spectrum(
        write_model(tmp_path, tensors), preset="weightwatcher", metrics="all"
    ).document()
    (told, _) = (row["weightwatcher"] for row in result["rows"])
    assert {"ERG_gap", "D", "lambda_max"} <= told.keys()
    for key in {*told, *result["summary"]["weightwatcher"]}:
        assert explained(key)["key"].lower() == key.lower(), key
        assert explained(key.lower())["what"], key


def test_a_formula_of_another_key_is_told_as_the_pages() -> None:
    assert "Formula of its page, effective-rank\n" in explanation("entropy", 80)
    assert "Formula\n" in explanation("effective_rank", 80)
    assert not any("page, None" in explanation(word, 80) for word in known_words())
