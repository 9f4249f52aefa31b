"""The table of renames is that of the pinned transformers, and names what it does not know."""

from typing import Any

import pytest
import transformers as hf

from benchmarks.families import renames
from spectra.architectures.table import Layer, UnknownFamilyError, table

CLASSES = [
    "BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM", "LlavaForConditionalGeneration",
    "MambaForCausalLM", "NemotronHForCausalLM", "SwinForImageClassification", "ViTModel",
    "VisionEncoderDecoderModel", "T5ForConditionalGeneration",
]  # fmt: skip
LLAVA = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}


def test_it_is_of_the_installed_version() -> None:
    assert table().version == hf.__version__, "run python -m benchmarks.families.renames"


def test_renames_and_families_are_those_of_transformers() -> None:
    read = renames.stored()
    assert read["moves"] == renames.moves()
    assert read["types"] == renames.types()
    assert read["expert_types"] == renames.expert_types()


@pytest.mark.parametrize("name", CLASSES)
def test_classes_call_their_parts_what_it_says(name: str) -> None:
    found: dict[str, list[Any]] = {}
    renames.note(name, found)
    assert found[name] == renames.stored()["classes"][name]


def test_a_model_inside_another_is_the_one_that_the_config_names() -> None:
    moe = {**LLAVA, "text_config": {"model_type": "qwen2_moe"}}
    name = "language_model.model.layers.0.mlp.experts.1.up_proj.weight"
    for config, expected in (
        (moe, "model.language_model.layers.0.mlp.experts.gate_up_proj"),
        (
            {**LLAVA, "text_config": {"model_type": "llama"}},
            f"model.{name}".replace(".model.l", ".l"),
        ),
    ):
        assert table().renamer(config).renamed(name)[0] == expected


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "family": ({"model_type": "lama"}, "model_type 'lama'"),
    "no-family": ({"model_type": 3}, "model_type 3"),
    "class": (
        {"model_type": "llama", "architectures": ["LlamaForPoetry"]},
        "the class 'LlamaForPoetry' of model_type 'llama'",
    ),
    "part": (
        {**LLAVA, "text_config": {"model_type": "lama"}},
        "model_type 'lama' of a part of the model",
    ),
    "part-of-another-kind": (
        {**LLAVA, "vision_config": {"model_type": "mimi_unknown"}},
        "model_type 'mimi_unknown' of a part of the model",
    ),
    "rename-of-a-kind-of-its-own": (
        {"model_type": "kimi_k25"}, "what transformers does to the names of 'kimi_k25'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_in_it_is_named(case: str) -> None:
    config, told = UNKNOWN[case]
    with pytest.raises(UnknownFamilyError) as unknown:
        table().renamer(config)
    assert str(unknown.value) == told


def test_a_part_of_a_family_that_plays_no_such_part_is_named() -> None:
    config = {"model_type": "idefics2", "architectures": ["Idefics2ForConditionalGeneration"]}
    with pytest.raises(UnknownFamilyError, match="model_type 'llama' in place of 'idefics2_vision"):
        table().renamer({**config, "vision_config": {"model_type": "llama"}})


def test_layers_that_are_not_linear_are_told() -> None:
    known = table().renamer({"model_type": "nemotron_h", "architectures": ["NemotronHForCausalLM"]})
    assert known.layer("model.layers.3.mixer.conv1d").kind == "Conv1d"
    assert known.layer("model.layers.3.mixer.conv1d").groups > 1
    assert known.layer("model.layers.12.mixer.gate").kind == "NemotronHTopkRouter"
    assert known.layer("model.layers.12.mixer.in_proj") == Layer("Linear")
    assert known.layer("lm_head") == Layer("Linear")


PREFIXES = {
    "bert": ("BertForMaskedLM", "encoder.layer.0.output.dense.weight", "bert."),
    "llama": ("LlamaForCausalLM", "layers.0.mlp.up_proj.weight", "model."),
}


@pytest.mark.parametrize("family", PREFIXES)
def test_a_body_saved_alone_gets_the_prefix_and_loses_it(family: str) -> None:
    head, name, prefix = PREFIXES[family]
    body = table().families[family][0]
    with_head = table().renamer({"model_type": family, "architectures": [head]})
    bare = table().renamer({"model_type": family, "architectures": [body]})
    assert with_head.renamed(name)[0] == with_head.renamed(prefix + name)[0] == prefix + name
    assert bare.renamed(name)[0] == bare.renamed(prefix + name)[0] == name


def test_a_model_that_names_no_class_is_taken_for_what_its_names_fit() -> None:
    names = ["model.layers.0.mlp.up_proj.weight"]
    assert table().likely({"model_type": "llama"}, names) == "LlamaForCausalLM"
    assert table().likely({"model_type": "llama"}, ["layers.0.x"]) == "LlamaModel"
    assert table().likely({"model_type": "lama"}, names) == ""
