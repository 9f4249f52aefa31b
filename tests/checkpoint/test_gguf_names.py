"""Names and order of GGUF tensors, against transformers' own models and its GGUF loader."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS
from transformers.utils import logging

from shards import opened
from spectra.checkpoint.gguf.names import Place, model_name

Array: TypeAlias = NDArray[Any]

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 64}
BLOOM = {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128}
MPT = {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 128}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 128}
EXPERTS = {**GROUPED, "num_experts": 4, "moe_intermediate_size": 32}
DELTA = {
    **GROUPED, "head_dim": 16, "num_hidden_layers": 4, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
LATENT = {
    **SMALL, "num_key_value_heads": 4, "n_routed_experts": 4, "moe_intermediate_size": 32,
    "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 16, "first_k_dense_replace": 1,
}  # fmt: skip
CONVOLVED = {**GROUPED, "layer_types": ["conv", "full_attention"]}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama", GROUPED),
    "mixtral": ("llama", "mixtral", {**GROUPED, "num_local_experts": 4}),
    "qwen2": ("qwen2", "qwen2", GROUPED),
    "qwen2moe": ("qwen2moe", "qwen2_moe", EXPERTS),
    "qwen3": ("qwen3", "qwen3", GROUPED),
    "qwen35": ("qwen35", "qwen3_5_text", DELTA),
    "gemma2": ("gemma2", "gemma2", {**GROUPED, "head_dim": 16}),
    "gemma3": ("gemma3", "gemma3_text", {**GROUPED, "head_dim": 16}),
    "phi2": ("phi2", "phi", SMALL),
    "phi3": ("phi3", "phi3", GROUPED),
    "starcoder2": ("starcoder2", "starcoder2", GROUPED),
    "stablelm": ("stablelm", "stablelm", GROUPED),
    "command-r": ("command-r", "cohere", GROUPED),
    "glm4": ("glm4", "glm4", {**GROUPED, "head_dim": 16}),
    "granite": ("granite", "granite", GROUPED),
    "deepseek2": ("deepseek2", "deepseek_v3", LATENT),
    "lfm2": ("lfm2", "lfm2", CONVOLVED),
    "gpt2": ("gpt2", "gpt2", GPT2),
    "starcoder": ("starcoder", "gpt_bigcode", GPT2),
    "gptneox": ("gptneox", "gpt_neox", SMALL),
    "bloom": ("bloom", "bloom", BLOOM),
    "falcon": ("falcon", "falcon", SMALL),
    "mpt": ("mpt", "mpt", MPT),
    "mamba": ("mamba", "mamba", {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 128}),
    "bert": ("bert", "bert", SMALL),
    "modern-bert": ("modern-bert", "modernbert", SMALL),
    "t5": ("t5", "t5", T5),
    "t5-gated": ("t5", "t5", {**T5, "feed_forward_proj": "gated-gelu"}),
}
ENCODERS = {"bert", "modernbert"}

# What the converter renames, merges or cuts: no one name belongs to it.
CHANGED = ("A_log", "dt_bias", ".D", "kv_b_proj.weight", "altup_projections")


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Keep transformers from warning of what small models lack."""
    before = logging.get_verbosity()
    logging.set_verbosity(50)
    yield
    logging.set_verbosity(before)


def names_of(folder: Path, kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the names in the file that transformers writes of its own model."""
    auto: Any = transformers.AutoModelForCausalLM
    if kind in ENCODERS:
        auto = transformers.AutoModel
    elif kind == "t5":
        auto = transformers.AutoModelForSeq2SeqLM
    config = transformers.AutoConfig.for_model(kind, **settings)
    auto.from_config(config).save_pretrained(folder)
    return list(opened(folder).entries)


@pytest.mark.parametrize("case", MODELS)
def test_names_are_those_that_transformers_writes(tmp_path: Path, case: str) -> None:
    architecture, kind, settings = MODELS[case]
    key = next(k for k, word in gguf.MODEL_ARCH_NAMES.items() if word == architecture)
    forward = gguf.get_tensor_name_map(key, 4)
    checked = 0
    for name in names_of(tmp_path, kind, settings):
        found = forward.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is not None and not name.removesuffix(".bias").endswith(CHANGED):
            assert model_name(architecture, Place.of(found), gated="gated" in case) == name
            checked += 1
    assert checked >= 10


MIXTRAL, DEEPSEEK = "model.layers.7.block_sparse_moe.experts", "model.layers.12.mlp.experts"


@pytest.mark.parametrize(
    ("architecture", "name", "expected"),
    [
        ("llama", "blk.7.ffn_gate_exps.weight", MIXTRAL + ".{}.w1.weight"),
        ("llama", "blk.7.ffn_down_exps.weight", MIXTRAL + ".{}.w2.weight"),
        ("llama", "blk.7.ffn_up_exps.weight", MIXTRAL + ".{}.w3.weight"),
        ("qwen3moe", "blk.0.ffn_up_exps.weight", "model.layers.0.mlp.experts.{}.up_proj.weight"),
        ("deepseek2", "blk.12.ffn_down_exps.weight", DEEPSEEK + ".{}.down_proj.weight"),
        ("lfm2moe", "blk.3.ffn_gate_exps.weight",
         "model.layers.3.feed_forward.experts.{}.w1.weight"),
        ("gemma3n", "altup_proj.weight", "model.altup_projections.{}.weight"),
        ("t5", "enc.blk.2.attn_q.weight", "encoder.block.2.layer.0.SelfAttention.q.weight"),
        ("llama", "rope_freqs.weight", ""),
        ("llama", "blk.0.attn_qkv.weight", ""),
        ("mamba", "blk.0.ssm_a", ""),
        ("rwkv6", "blk.0.channel_mix_key.weight", ""),
        ("unheard-of", "blk.0.attn_q.weight", ""),
        ("", "token_embd.weight", ""),
    ],
)  # fmt: skip
def test_names_that_files_have(architecture: str, name: str, expected: str) -> None:
    assert model_name(architecture, Place.of(name), gated=True) == expected


def test_a_name_that_two_tensors_would_have_is_left_to_the_one_in_the_file(tmp_path: Path) -> None:
    values = np.ones((4, 32), np.float32)
    name = "model.layers.0.mlp.up_proj.weight"
    path = write(tmp_path, "llama", {}, {"blk.0.ffn_up.weight": values, name: 2 * values})
    entries = opened(path).entries
    assert list(entries) == ["blk.0.ffn_up.weight", name]


def write(
    folder: Path, architecture: str, numbers: Mapping[str, Any], tensors: Mapping[str, Array]
) -> Path:
    writer = gguf.GGUFWriter(folder / "m.gguf", architecture)
    for key, number in numbers.items():
        if isinstance(number, list):
            writer.add_array(f"{architecture}.{key}", number)
        else:
            writer.add_uint32(f"{architecture}.{key}", number)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "m.gguf"


HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}
CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2, "n_head": 4, "hidden_size": 32}
LOADED = [
    ("llama", "blk.0.attn_q.weight", (32, 32)),
    ("llama", "blk.0.attn_k.weight", (16, 32)),
    ("llama", "blk.0.attn_v.weight", (16, 32)),
    ("bloom", "blk.1.attn_qkv.weight", (96, 32)),
    ("gpt2", "blk.1.attn_qkv.weight", (96, 32)),
    ("gpt2", "blk.1.attn_output.weight", (32, 32)),
    ("gpt2", "blk.1.ffn_up.weight", (128, 32)),
    ("gpt2", "blk.1.ffn_down.weight", (32, 128)),
    ("gpt2", "token_embd.weight", (50, 32)),
    ("mamba", "blk.0.ssm_conv1d.weight", (64, 4)),
    ("lfm2", "blk.0.shortconv.conv.weight", (32, 3)),
    ("qwen2moe", "blk.0.ffn_gate_inp_shexp.weight", (32,)),
]


@pytest.mark.parametrize(("architecture", "name", "shape"), LOADED)
def test_values_are_those_that_transformers_loads(
    tmp_path: Path, architecture: str, name: str, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    processors: Mapping[str, Any] = TENSOR_PROCESSORS
    theirs = processors[architecture](config=CONFIG).process(values, name)
    checkpoint = opened(write(tmp_path, architecture, HEADS, {name: values}))
    (entry,) = checkpoint.entries.values()
    assert entry.name == model_name(architecture, Place.of(name), gated=True) != ""
    assert torch.equal(checkpoint.read(entry), torch.from_numpy(np.array(theirs.weights)))


# What transformers does not undo: the converter's own steps, row by row.
def falcon(model: Array, heads: int, groups: int, size: int) -> Array:
    """Return rows [groups, queries + k + v, size] as all queries, all keys, all values."""
    each = heads // groups + 2
    rows = [
        model[(group * each + part) * size : (group * each + part + 1) * size]
        for parts in (range(each - 2), [each - 2], [each - 1])
        for group in range(groups)
        for part in parts
    ]
    return np.concatenate(rows)


def tiled(model: Array, keys: int, values: int, size: int) -> Array:
    """Return value heads as ggml repeats them: the first of each key head, then the second."""
    each = values // keys
    rows = [
        model[(key * each + turn) * size : (key * each + turn + 1) * size]
        for turn in range(each)
        for key in range(keys)
    ]
    return np.concatenate(rows)


def halved(model: Array, heads: int, rotated: int) -> Array:
    """Return of each head the even rotated rows, the odd ones, and the rest."""
    size = len(model) // heads
    rows = []
    for head in range(heads):
        block = model[head * size : (head + 1) * size]
        rows += [block[:rotated:2], block[1:rotated:2], block[rotated:]]
    return np.concatenate(rows)


def model_of(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


DELTA_NUMBERS = {
    "ssm.group_count": 2, "ssm.time_step_rank": 6, "ssm.inner_size": 48, "ssm.state_size": 4,
}  # fmt: skip
FALCON = {"attention.head_count": 6, "attention.head_count_kv": 3}


def undone() -> dict[str, tuple[str, dict[str, Any], str, Array, Array]]:
    """Return for each case the architecture, its numbers, a name, file and model."""
    wide, qkv, matrix = model_of((48, 32)), model_of((64, 32)), model_of((6, 32))
    grouped, mixed = model_of((96, 32)), model_of((32, 32))
    out = model_of((32, 48))
    conv = model_of((64, 1, 4))
    neox = falcon(grouped, 4, 4, 8)
    return {
        "falcon": ("falcon", FALCON, "attn_qkv", falcon(grouped, 6, 3, 8), grouped),
        "falcon mqa": ("falcon", {"attention.head_count": 10, "attention.head_count_kv": 1},
                       "attn_qkv", grouped, grouped),
        "gptneox": ("gptneox", {"attention.head_count": 4}, "attn_qkv", neox, grouped),
        "qwen35 z": ("qwen35", DELTA_NUMBERS, "attn_gate", tiled(wide, 2, 6, 8), wide),
        "qwen35 b": ("qwen35", DELTA_NUMBERS, "ssm_beta", tiled(matrix, 2, 6, 1), matrix),
        "qwen35 qkv": ("qwen35", DELTA_NUMBERS, "attn_qkv",
                       np.concatenate([qkv[:16], tiled(qkv[16:], 2, 6, 8)]), qkv),
        "qwen35 conv": ("qwen35", DELTA_NUMBERS, "ssm_conv1d",
                        np.concatenate([conv[:16, 0], tiled(conv[16:, 0], 2, 6, 8)]), conv),
        "qwen35 out": ("qwen35", DELTA_NUMBERS, "ssm_out", tiled(out.T, 2, 6, 8).T.copy(), out),
        "glm4 q": ("glm4", {**HEADS, "rope.dimension_count": 4, "rope.dimension_sections": [1, 1]},
                   "attn_q", halved(mixed, 4, 4), mixed),
        "glm4 plain": ("glm4", {**HEADS, "rope.dimension_count": 4}, "attn_q", mixed, mixed),
        "no attention": ("llama", {"attention.head_count": 4, "attention.head_count_kv": [0, 0]},
                         "attn_q", mixed, mixed),
        "qwen35 of equal heads": ("qwen35", {**DELTA_NUMBERS, "ssm.time_step_rank": 2}, "attn_gate",
                                  wide, wide),
        "qwen35 conv of equal heads": ("qwen35", {**DELTA_NUMBERS, "ssm.time_step_rank": 2},
                                       "ssm_conv1d", conv[:, 0], conv),
        "mamba2 norm": ("mamba2", {}, "ssm_norm", mixed[:2], mixed[:2].flatten()),
        "deepseek2 k_b": ("deepseek2", {}, "attn_k_b",
                          wide.reshape(4, 12, 32).swapaxes(1, 2).copy(), wide),
        "deepseek2 v_b": ("deepseek2", {}, "attn_v_b", wide.reshape(4, 12, 32), wide),
    }  # fmt: skip


UNDONE = undone()


@pytest.mark.parametrize("case", UNDONE)
def test_what_the_converter_moved_is_put_back(tmp_path: Path, case: str) -> None:
    architecture, numbers, stem, stored, model = UNDONE[case]
    path = write(tmp_path, architecture, numbers, {f"blk.1.{stem}.weight": stored})
    checkpoint = opened(path)
    (entry,) = checkpoint.entries.values()
    assert not re.match("blk", entry.name)
    assert torch.equal(checkpoint.read(entry), torch.from_numpy(model))


@pytest.mark.parametrize("values", [6, 5])
def test_value_heads_that_do_not_fit_are_told(tmp_path: Path, values: int) -> None:
    numbers = {**DELTA_NUMBERS, "ssm.time_step_rank": values}
    path = write(tmp_path, "qwen35", numbers, {"blk.0.attn_gate.weight": model_of((50, 32))})
    (skipped,) = opened(path).skipped
    assert f"qwen35 with {values} and 2 heads does not fit [50, 32]" in skipped.reason


def test_a_head_of_more_rows_than_any_model_has_is_told(tmp_path: Path) -> None:
    values = np.zeros((70_000, 1), np.float32)
    numbers = {"attention.head_count": 1}
    path = write(tmp_path, "llama", numbers, {"blk.0.attn_q.weight": values})
    (skipped,) = opened(path).skipped
    assert "does not fit [70000, 1]" in skipped.reason


@pytest.mark.parametrize(("tokenizer", "name"), [("bert", "embeddings.position_embeddings.weight"),
                                                 ("t5", "position_embd.weight")])  # fmt: skip
def test_positions_of_roberta_which_lack_rows_are_not_taken_for_berts(
    tmp_path: Path, tokenizer: str, name: str
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "bert")
    writer.add_tokenizer_model(tokenizer)
    writer.add_tensor("position_embd.weight", model_of((10, 32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert list(opened(tmp_path / "m.gguf").entries) == [name]
