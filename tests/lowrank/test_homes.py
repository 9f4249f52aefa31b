"""Where families hold what changed: tied weights, fused ones, bare parameters, convolutions."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import peft
import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MambaConfig,
    MambaForCausalLM,
    NomicBertConfig,
    NomicBertModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import spectra.exports.memory
import spectra.lowrank
from spectra.errors import UsageError

from .nets import config_of, loaded, merged, tensors_of

EMBEDDING = "model.embed_tokens.weight"
TOKENS = torch.arange(10)[None]
SMALL: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "vocab_size": 40,
}  # fmt: skip


class Case(NamedTuple):
    make: Callable[[], PreTrainedModel]
    given: dict[str, Tensor]
    saved: set[str]  # among `modules_to_save`
    ties: bool | None = None  # `ensure_weight_tying`
    quiet: bool = True  # PEFT loads it without a word


CASES = {
    "llama": Case(
        lambda: LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)),
        {"input_ids": TOKENS}, {"model.embed_tokens", "lm_head"}, ties=True,
    ),
    "gpt2": Case(
        lambda: GPT2LMHeadModel(GPT2Config(
            n_embd=24, n_layer=1, n_head=2, vocab_size=40, n_positions=16, bos_token_id=0,
            eos_token_id=0,
        )),
        {"input_ids": TOKENS}, {"transformer.wte", "lm_head"}, ties=True,
    ),
    "bert": Case(
        lambda: BertForMaskedLM(BertConfig(**SMALL)), {"input_ids": TOKENS},
        {"bert.embeddings.word_embeddings", "cls.predictions.decoder"},
    ),
    "t5": Case(  # PEFT warns of the tie, though all of its names are saved
        lambda: T5ForConditionalGeneration(
            T5Config(d_model=24, num_layers=1, num_heads=2, d_ff=32, d_kv=12, vocab_size=40)
        ),
        {"input_ids": TOKENS, "decoder_input_ids": TOKENS},
        {"shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"}, quiet=False,
    ),
    "nomic": Case(  # one tensor of the file is three weights in memory
        lambda: NomicBertModel(NomicBertConfig(**SMALL, head_dim=12)), {"input_ids": TOKENS}, set()
    ),
    "dinov2": Case(  # tokens and positions of three axes, scales of layers
        lambda: Dinov2Model(Dinov2Config(
            hidden_size=24, num_hidden_layers=1, num_attention_heads=2, use_swiglu_ffn=True,
            image_size=28, patch_size=14,
        )),
        {"pixel_values": torch.linspace(-1, 1, 3 * 28 * 28).reshape(1, 3, 28, 28)}, set(),
    ),
    "whisper": Case(  # asks its convolutions for their stride
        lambda: WhisperForConditionalGeneration(WhisperConfig(
            d_model=24, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=40,
            max_source_positions=10, max_target_positions=16, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1,
        )),
        {"input_features": torch.linspace(-1, 1, 1600).reshape(1, 80, 20),
         "decoder_input_ids": TOKENS},
        {"model.decoder.embed_tokens", "proj_out", "model.encoder.conv1"}, quiet=False,
    ),
    "opt": Case(  # a table of positions that computes them itself
        lambda: OPTForCausalLM(OPTConfig(
            hidden_size=24, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, vocab_size=40,
            max_position_embeddings=16, word_embed_proj_dim=24,
        )),
        {"input_ids": TOKENS},
        {"model.decoder.embed_tokens", "lm_head", "model.decoder.embed_positions"}, ties=True,
    ),
    "mamba": Case(  # a grouped convolution, and a layer that PEFT refuses
        lambda: MambaForCausalLM(MambaConfig(
            hidden_size=24, num_hidden_layers=1, vocab_size=40, state_size=4
        )),
        {"input_ids": TOKENS},
        {"backbone.layers.0.mixer.conv1d", "backbone.layers.0.mixer.out_proj"}, ties=True,
    ),
}  # fmt: skip


def written(case: Case, folder: Path) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Write a model before and after all of its parameters moved."""
    torch.manual_seed(0)
    model = case.make()
    model.train(mode=False)
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for values in tuned.parameters():
            values.add_(0.05 * torch.randn_like(values))
    model.save_pretrained(folder / "base")
    tuned.save_pretrained(folder / "tuned")
    return model, tuned


@pytest.mark.parametrize("name", CASES)
def test_peft_computes_what_the_tuned_model_does(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    model, tuned = written(case, tmp_path)
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=999)
    assert [item for item in found.skipped if "written whole" not in item.reason] == []
    config = config_of(tmp_path / "a")
    assert case.saved <= set(config["modules_to_save"])
    assert config.get("ensure_weight_tying") is case.ties

    def computed(one: Any) -> Tensor:  # noqa: ANN401 - PEFT's and transformers'
        with torch.no_grad():
            values: Tensor = one(**case.given)[0]
        return values

    expected = computed(tuned)
    with warnings.catch_warnings():
        if not case.quiet:
            warnings.simplefilter("ignore")
        wrapped: Any = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / "a")) \
            if not case.quiet else loaded(model, tmp_path / "a")  # fmt: skip
        torch.testing.assert_close(computed(wrapped.eval()), expected, atol=1e-4, rtol=0)
        warnings.filterwarnings("ignore", ".*no longer tied after merging", UserWarning)
        plain = wrapped.merge_and_unload()
    torch.testing.assert_close(computed(plain), expected, atol=1e-4, rtol=0)


def test_a_name_that_others_end_with_is_saved_by_itself(tmp_path: Path) -> None:
    """`norm` in `modules_to_save` would mean every `input_layernorm` too."""
    case = Case(lambda: LlamaModel(LlamaConfig(**SMALL)), {"input_ids": TOKENS}, set())
    model, tuned = written(case, tmp_path)
    with torch.no_grad():
        for name, values in tuned.named_parameters():
            if name not in ("norm.weight", "layers.0.self_attn.q_proj.weight"):
                values.copy_(model.get_parameter(name))
    tuned.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=24)
    assert config_of(tmp_path / "a")["modules_to_save"] is None
    assert {item.reason.partition(":")[0] for item in found.skipped} == {
        "written whole, by its name in the model"
    }
    wrapped: Any = loaded(model, tmp_path / "a").eval()
    with torch.no_grad():
        expected = tuned(**case.given)[0]
        torch.testing.assert_close(wrapped(**case.given)[0], expected, atol=1e-4, rtol=0)


def test_a_tied_embedding_costs_nothing_where_it_did_not_change(tmp_path: Path) -> None:
    model, tuned = written(CASES["llama"], tmp_path)
    with torch.no_grad():
        tuned.get_parameter(EMBEDDING).copy_(model.get_parameter(EMBEDDING))
    tuned.save_pretrained(tmp_path / "tuned")
    spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=2)
    assert not any("embed" in key or "lm_head" in key for key in tensors_of(tmp_path / "a"))
    assert "ensure_weight_tying" not in config_of(tmp_path / "a")


def test_new_tokens_of_a_tied_embedding_are_written_whole(tmp_path: Path) -> None:
    model, tuned = written(CASES["llama"], tmp_path)
    for one in (model, tuned):
        one.resize_token_embeddings(44, mean_resizing=False)
    tuned.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=2)
    told = {item.tensor: item.reason for item in found.skipped}
    assert told["model.embed_tokens.weight"].startswith("written whole: tied to lm_head")
    made = merged(model, tmp_path / "a")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(made[name], tuned.state_dict()[name])


@pytest.mark.parametrize("words", [None, -4], ids=["told", "impossible"])
def test_a_tie_of_which_no_name_is_known_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int | None
) -> None:
    written(CASES["gpt2"], tmp_path)
    if words is not None:
        config = tmp_path / "base" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": words}))
    monkeypatch.setattr(spectra.exports.memory, "installed", lambda *_: None)
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=2)
    told = {item.tensor: item.reason for item in found.skipped}
    assert told["transformer.wte.weight"] == (
        "not held: tied to the output head, which no adapter of the embedding follows. With "
        "transformers, which knows the names of the tie, it is written whole"
    )
    assert not any("wte" in name for name in tensors_of(tmp_path / "a"))


def test_a_budget_pays_for_a_tied_embedding_only_where_it_changed(tmp_path: Path) -> None:
    model, tuned = written(CASES["llama"], tmp_path)
    pair, place = (tmp_path / "base", tmp_path / "tuned"), tmp_path / "a"
    found = spectra.lowrank.extract(*pair, place, budget="24KB")
    taken = sum(one.stat().st_size for one in place.iterdir())
    assert 18_000 < taken <= 24_000  # the embedding by both of its names, and factors
    assert sum(int(row.number("nbytes") or 0) for row in found.rows) < 24_000 - 2 * 4 * 40 * 24
    with pytest.raises(UsageError, match=r"leaves nothing: 1\d\.\d KiB are taken"):
        spectra.lowrank.extract(*pair, tmp_path / "b", budget="12KB")
    assert not (tmp_path / "b").exists()
    with torch.no_grad():
        tuned.get_parameter(EMBEDDING).copy_(model.get_parameter(EMBEDDING))
    tuned.save_pretrained(tmp_path / "tuned")
    spectra.lowrank.extract(*pair, tmp_path / "b", budget="12KB")
    taken = sum(one.stat().st_size for one in (tmp_path / "b").iterdir())
    assert 8_000 < taken <= 12_000
