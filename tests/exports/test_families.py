"""Exports of families, each against the model that transformers loads; the table has them all."""

from pathlib import Path

import pytest

from benchmarks.families.outcome import EXACT, outcome
from benchmarks.families.page import PATH
from families import build, model_types

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
EXPORTED = [
    "swin", "mllama", "qwen2_audio", "llava_next", "nomic_bert", "deepseek_v3",
    "ernie4_5_vl_moe", "kimi_linear", "encoder-decoder", "inkling_mm_model",
]  # fmt: skip
REFUSED = {
    "dab-detr": "PEFT takes no model of the family dab-detr: it asks for the embedding",
    "nemotron_h": "fast path goes past it: leave it out with --exclude, or use --export python.",
}


@pytest.mark.parametrize("family", EXPORTED)
def test_every_form_selects_exactly_what_was_selected(family: str, tmp_path: Path) -> None:
    found = outcome(family, build(family), tmp_path / "model")
    assert found.forms == dict.fromkeys(found.forms, EXACT)


@pytest.mark.parametrize("family", REFUSED)
def test_what_peft_refuses_is_refused_before(family: str, tmp_path: Path) -> None:
    found = outcome(family, build(family), tmp_path / "model", "100%")
    assert found.forms["peft"].startswith("refused: ")
    assert REFUSED[family] in found.forms["peft"]
    assert found.forms["axolotl"] == found.forms["python"] == EXACT


def test_the_table_lists_every_family_and_none_is_wrong() -> None:
    text = PATH.read_text(encoding="utf-8")
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert listed == set(model_types())
    assert "WRONG" not in text
    assert "LOST" not in text
