"""Adapters of families that transformers renames on loading, against PEFT's own merge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import spectra
from families import build
from spectra.checkpoint import Checkpoint, open_spec
from spectra.work.planning.renamed import renamed_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)
FAMILIES = {
    "llava": ["q_proj", "fc1", "linear_1"],
    "qwen2_vl": ["o_proj", "down_proj", "fc2"],
    "swin": ["q_proj", "o_proj", "fc1"],
    "vit": ["q_proj", "o_proj", "fc1", "fc2"],
    "bert": ["query"],  # keeps its names
}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_finds_its_base_under_names_in_memory(family: str, tmp_path: Path) -> None:
    model: Any = build(family)
    model.save_pretrained(tmp_path / "base")
    tuned: Any = get_peft_model(model, LoraConfig(r=2, target_modules=FAMILIES[family]))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(generator=generator)
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    expected = changes(tmp_path / "base", tmp_path / "merged")
    assert sum(value > 0 for value in expected.values()) >= len(FAMILIES[family])
    found = changes(tmp_path / "base", tmp_path / "adapter")
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def changes(base: Path, tuned: Path) -> dict[str, float]:
    """Return how much of each matrix changed."""
    rows = spectra.diff(base, tuned).rows
    return {row.matrix: row.number("delta_relative") or 0.0 for row in rows}


def test_a_base_of_no_family_keeps_its_names(tmp_path: Path) -> None:
    model = build("bert")
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "lama"}', encoding="utf-8")
    base = open_spec(tmp_path)
    assert isinstance(base, Checkpoint)
    assert renamed_of(base) == {}


def test_a_base_that_names_no_class_is_still_renamed(tmp_path: Path) -> None:
    build("vit").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    base = open_spec(tmp_path)
    assert isinstance(base, Checkpoint)
    assert "layers.0.attention.q_proj.weight" in renamed_of(base)
