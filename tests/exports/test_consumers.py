"""What the consumers themselves make of an export: exactly the selected set."""

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import peft
import pytest
import torch
import transformers as hf
import yaml  # type: ignore[import-untyped]

from exports.subjects import (
    Subject,
    all_rows,
    opened,
    rows_unfrozen,
    run,
    tiny,
    trainable,
    wrapped,
)
from spectra.exports import export
from spectra.exports.memory import memory_of
from spectra.exports.parameters import parameters_of, targets_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # A model of both kinds of layer cannot have it right for all; PEFT settles each.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to (True|False) but the target"),
]
FAMILIES = [
    "llama", "bert", "gpt2", "gpt-neox", "phi3", "deberta", "nomic", "vit-gpt2", "mixtral",
    "qwen2-moe", "glm4-moe", "gpt-oss", "llama4", "dbrx", "granite-moe", "qwen3.5-moe",
]  # fmt: skip
Get = Callable[[str], Subject]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Get:
    return cache(lambda family: tiny(family, tmp_path_factory.mktemp(family)))


def lora(text: str) -> peft.LoraConfig:
    return peft.LoraConfig(r=2, **json.loads(text))


def parameters(subject: Subject, selected: list[str]) -> set[str]:
    """Return the parameters that hold matrices: `test_parameters` proves these names."""
    known = parameters_of(subject.checkpoint, memory_of(subject.checkpoint))
    targets = targets_of(subject.pick(*selected), known)
    return {target.name for target in targets}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_wraps_exactly_the_selected(family: str, seed: int, subject: Get) -> None:
    here = subject(family)
    selected = here.sample(seed)
    made = export(selected, here.checkpoint, "peft")
    expected = parameters(here, [view.name for view in selected])
    by_json = peft.get_peft_model(copy.deepcopy(here.model), lora(made.files[".json"]))
    assert wrapped(by_json) == expected
    by_python = run(made.files[".py"])["wrap"](copy.deepcopy(here.model))
    assert wrapped(by_python) == expected
    assert all("lora_" in name for name in trainable(by_python))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_function_trains_exactly_the_selected(
    family: str, seed: int, subject: Get, tmp_path: Path
) -> None:
    here = subject(family)
    selected = here.sample(seed)
    made = export(selected, here.checkpoint, "python")
    model = copy.deepcopy(here.model)
    names = run(made.text)["train_only"](model)
    assert trainable(model) == set(names)
    changed = here.changed_by(all_rows(here.model, names), tmp_path)
    assert {view.name for view in selected} <= changed
    assert bool(made.notes) == (len(changed) > len(selected))
    assert told_beyond(made.text) == len(changed) - len(selected)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_axolotls_patterns_train_exactly_the_selected(
    family: str, seed: int, subject: Get, tmp_path: Path
) -> None:
    here = subject(family)
    selected = here.sample(seed)
    made = export(selected, here.checkpoint, "axolotl")
    patterns = yaml.safe_load(made.text)["unfrozen_parameters"]
    changed = here.changed_by(rows_unfrozen(here.model, patterns), tmp_path)
    assert {view.name for view in selected} <= changed
    assert told_beyond(made.text) == len(changed) - len(selected)


def told_beyond(text: str) -> int:
    """Return how many matrices an export says it trains that were not selected."""
    found = re.findall(r"^# .*: (?:all )?(\d+) .*of which (\d+) (?:was|were)", text, re.MULTILINE)
    return sum(int(trained) - int(selected) for trained, selected in found)


def test_one_expert_of_a_stack_is_trained_alone_where_rows_allow_it(
    subject: Get, tmp_path: Path
) -> None:
    here = subject("mixtral")
    down, gate = (f"model.layers.1.block_sparse_moe.experts.2.{w}.weight" for w in ("w2", "w1"))
    made = export(here.pick(down), here.checkpoint, "axolotl")
    patterns = yaml.safe_load(made.text)["unfrozen_parameters"]
    assert patterns == ["^model.layers.1.mlp.experts.down_proj$[2:3]"]
    assert here.changed_by(rows_unfrozen(here.model, patterns), tmp_path) == {down}
    assert [note for note in made.notes if "holds" in note] == []
    assert "weight decay still acts" in made.notes[0]
    assert export(here.pick(gate), here.checkpoint, "axolotl").notes[0] == (
        "transformers 5 holds the 3 experts of a layer in one tensor, "
        "model.layers.1.mlp.experts.gate_up_proj: 2 of 6 matrices are trained, of which 1 was "
        "selected."
    )
    for form in ("peft", "python"):
        assert export(here.pick(gate), here.checkpoint, form).notes[0] == (
            "transformers 5 holds the 3 experts of a layer in one tensor, "
            "model.layers.1.mlp.experts.gate_up_proj: all 6 matrices are trained, of which 1 was "
            "selected."
        )


def test_peft_would_take_a_shared_expert_for_the_experts_of_all_layers(subject: Get) -> None:
    here = subject("glm4-moe")
    tensor = "model.layers.1.mlp.shared_experts.down_proj.weight"
    plain = peft.LoraConfig(r=2, target_modules=[tensor.removesuffix(".weight")])
    taken = wrapped(peft.get_peft_model(copy.deepcopy(here.model), plain))
    assert "model.layers.1.mlp.experts.down_proj" in taken
    made = export(here.pick(tensor), here.checkpoint, "peft")
    assert wrapped(peft.get_peft_model(copy.deepcopy(here.model), lora(made.text))) == {tensor}


def test_experts_alone_need_no_module(subject: Get) -> None:
    here = subject("mixtral")
    made = export(
        here.pick("model.layers.0.block_sparse_moe.experts.1.w3.weight"), here.checkpoint, "peft"
    )
    assert json.loads(made.text) == {
        "target_modules": [],
        "target_parameters": ["model.layers.0.mlp.experts.gate_up_proj"],
    }
    tuned = peft.get_peft_model(copy.deepcopy(here.model), lora(made.text))
    assert wrapped(tuned) == {"model.layers.0.mlp.experts.gate_up_proj"}
    assert made.notes[1] == "A LoRA on target_parameters takes no lora_dropout: leave it at 0."
    with pytest.raises(ValueError, match="dropout"):
        peft.get_peft_model(
            copy.deepcopy(here.model), peft.LoraConfig(lora_dropout=0.1, **json.loads(made.text))
        )


MINILM = [
    "encoder.layer.1.attention.self.query.weight", "encoder.layer.5.output.dense.weight",
    "encoder.layer.0.intermediate.dense.weight", "pooler.dense.weight",
]  # fmt: skip


@pytest.mark.parametrize("head", ["BertModel", "BertForSequenceClassification"])
def test_minilm_with_and_without_a_prefix(minilm: Path, head: str) -> None:
    here = opened(minilm, getattr(hf, head).from_pretrained(minilm))
    prefix = "" if head == "BertModel" else "bert."
    expected = {prefix + name for name in MINILM}
    made = export(here.pick(*MINILM), here.checkpoint, "peft")
    assert wrapped(peft.get_peft_model(copy.deepcopy(here.model), lora(made.text))) == expected
    assert wrapped(run(made.files[".py"])["wrap"](copy.deepcopy(here.model))) == expected
    names = run(export(here.pick(*MINILM), here.checkpoint, "python").text)["train_only"](
        here.model
    )
    assert trainable(here.model) == set(names) == expected


def test_a_bare_gpt2_is_found_inside_the_model_that_axolotl_loads(tmp_path: Path) -> None:
    bare = hf.GPT2Config(
        n_embd=8, n_layer=12, n_head=2, vocab_size=12, n_positions=8, bos_token_id=1, eos_token_id=2
    )
    hf.GPT2Model(bare).save_pretrained(tmp_path)
    here = opened(tmp_path, hf.GPT2LMHeadModel.from_pretrained(tmp_path))
    selected = here.pick("h.1.attn.c_attn.weight[q]", "h.1.mlp.c_fc.weight", "h.11.mlp.c_fc.weight")
    expected = {f"transformer.{view.entry.name}" for view in selected}
    patterns = yaml.safe_load(export(selected, here.checkpoint, "axolotl").text)
    assert set(rows_unfrozen(here.model, patterns["unfrozen_parameters"])) == expected
    made = export(selected, here.checkpoint, "peft")
    assert wrapped(peft.get_peft_model(copy.deepcopy(here.model), lora(made.text))) == expected
    run(export(selected, here.checkpoint, "python").text)["train_only"](here.model)
    assert trainable(here.model) == expected


def test_llamafactory_splits_at_commas_and_hands_the_list_to_peft(subject: Get) -> None:
    here = subject("llama")
    selected = here.sample(3)
    settings = yaml.safe_load(export(selected, here.checkpoint, "llamafactory").text)
    assert settings["finetuning_type"] == "lora"
    modules = [part.strip() for part in settings["lora_target"].split(",")]
    tuned = peft.get_peft_model(copy.deepcopy(here.model), peft.LoraConfig(target_modules=modules))
    assert wrapped(tuned) == {view.entry.name for view in selected}


def test_the_function_says_what_is_missing_and_changes_nothing(subject: Get) -> None:
    here = subject("bert")
    made = export(here.sample(0), here.checkpoint, "python")
    other = copy.deepcopy(subject("llama").model)
    before = trainable(other)
    with pytest.raises(ValueError, match=r"the model has no parameter 'bert\.encoder\..*class"):
        run(made.text)["train_only"](other)
    assert trainable(other) == before
    twice = torch.nn.ModuleDict({"a": here.model, "b": copy.deepcopy(here.model)})
    with pytest.raises(ValueError, match=r"more than once: under \['a\.', 'b\.'\]"):
        run(made.text)["train_only"](twice)


def test_the_wrapper_refuses_a_model_with_more_of_them(subject: Get) -> None:
    here = subject("llama")
    made = export(here.sample(0), here.checkpoint, "peft")

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = copy.deepcopy(here.model), copy.deepcopy(here.model)

    with pytest.raises(ValueError, match=r"expected an adapter on (\d+) places, got \d+"):
        run(made.files[".py"])["wrap"](Two())
