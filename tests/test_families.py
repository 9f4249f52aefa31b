"""The builder of tiny models: small, always the same, and of the class that tells most."""

import pytest
import torch

from families import MOST, build, class_for, classes, model_types


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", "LlamaForCausalLM"),
        ("llava", "LlavaForConditionalGeneration"),
        ("whisper", "WhisperForConditionalGeneration"),
        ("bert", "BertForMaskedLM"),
        ("detr", "DetrForObjectDetection"),
    ],
)
def test_a_family_is_built_with_its_head(family: str, expected: str) -> None:
    model = build(family)
    assert type(model).__name__ == expected
    assert sum(parameter.numel() for parameter in model.parameters()) <= MOST


def test_a_model_is_always_the_same() -> None:
    first, second = build("gpt2").state_dict(), build("gpt2").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_nearly_every_family_has_a_class() -> None:
    assert len(model_types()) > 700
    assert sum(bool(classes(family)) for family in model_types()[::20]) > 30


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(ValueError, match="sam_mask_decoder: transformers has no such model"):
        class_for("sam_mask_decoder")
