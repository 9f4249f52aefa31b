"""Attention head by head: which rows or columns a head is, against slices made by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spectra.checkpoint.entry import TensorEntry
from spectra.matrices import LowRank, View
from spectra.matrices.layout import parts_of
from spectra.matrices.per_head import by_head
from spectra.matrices.role import Role, roles_of

WIDTH = 12


def views(name: str, shape: tuple[int, ...], config: dict[str, Any]) -> list[View]:
    entry = TensorEntry(name, "F32", shape, "model.safetensors", 0, 4)
    told = roles_of({name: len(shape)})[name]
    return [
        View(name + part.suffix, Role(part.kind or told.kind, told.layer), entry, part,
             *part.shape(shape))
        for part in parts_of(name, shape, config)
    ]  # fmt: skip


def heads(name: str, shape: tuple[int, ...], config: dict[str, Any]) -> dict[str, list[Tensor]]:
    """Each head of each matrix of a tensor that counts up from 0."""
    values = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    found: dict[str, list[Tensor]] = {}
    for view in views(name, shape, config):
        split = by_head(view, config)
        assert not isinstance(split, str), split
        for one in split:
            part = one.part.of(values)
            assert part.shape == (one.rows, one.cols)
            found.setdefault(view.role.kind, []).append(part)
    return found


def test_grouped_queries() -> None:
    config = {"num_attention_heads": 4, "num_key_value_heads": 2}
    (view,) = views("model.layers.1.self_attn.q_proj.weight", (WIDTH, WIDTH), config)
    split = by_head(view, config)
    assert not isinstance(split, str)
    assert [one.name[-8:] for one in split] == [f"[head={i}]" for i in range(4)]
    assert [one.part.head and one.part.head.key for one in split] == [0, 0, 1, 1]
    whole = torch.arange(144.0).reshape(WIDTH, WIDTH)
    q = heads("model.layers.1.self_attn.q_proj.weight", (WIDTH, WIDTH), config)["attn.q"]
    assert all(torch.equal(one, whole[3 * i : 3 * i + 3]) for i, one in enumerate(q))
    k = heads("model.layers.1.self_attn.k_proj.weight", (6, WIDTH), config)["attn.k"]
    assert [len(one) for one in k] == [3, 3]
    o = heads("model.layers.1.self_attn.o_proj.weight", (WIDTH, WIDTH), config)["attn.o"]
    assert all(torch.equal(one, whole[:, 3 * i : 3 * i + 3]) for i, one in enumerate(o))


def test_fused_per_head_as_gpt_neox() -> None:
    config = {"model_type": "gpt_neox", "num_attention_heads": 3}
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    found = heads(name, (36, WIDTH), config)
    blocks = torch.arange(36.0 * WIDTH).reshape(3, 3, 4, WIDTH)
    for at, role in enumerate(("attn.q", "attn.k", "attn.v")):
        for head in range(3):
            assert torch.equal(found[role][head], blocks[head, at])


def test_fused_and_stored_in_out_as_gpt2() -> None:
    config = {"model_type": "gpt2", "n_head": 3}
    found = heads("h.0.attn.c_attn.weight", (WIDTH, 3 * WIDTH), config)
    whole = torch.arange(3.0 * WIDTH * WIDTH).reshape(WIDTH, 3 * WIDTH)
    for at, role in enumerate(("attn.q", "attn.k", "attn.v")):
        for head in range(3):
            start = at * WIDTH + 4 * head
            assert torch.equal(found[role][head], whole[:, start : start + 4].mT)
    out = heads("h.0.attn.c_proj.weight", (WIDTH, WIDTH), config)["attn.o"]
    square = torch.arange(144.0).reshape(WIDTH, WIDTH)
    assert all(torch.equal(one, square[4 * i : 4 * i + 4].mT) for i, one in enumerate(out))


def test_fused_groups_as_falcon() -> None:
    config = {"model_type": "falcon", "new_decoder_architecture": True, "num_attention_heads": 4,
              "num_kv_heads": 2}  # fmt: skip
    name = "transformer.h.0.self_attention.query_key_value.weight"
    found = heads(name, (24, WIDTH), config)
    blocks = torch.arange(24.0 * WIDTH).reshape(2, 4, 3, WIDTH)  # groups: two q, a k, a v
    for head in range(4):
        assert torch.equal(found["attn.q"][head], blocks[head // 2, head % 2])
    assert [len(found[role]) for role in ("attn.q", "attn.k", "attn.v")] == [4, 2, 2]
    assert torch.equal(found["attn.v"][1], blocks[1, 3])


def test_expanded_latents_as_deepseek() -> None:
    config = {"model_type": "deepseek_v3", "num_attention_heads": 2, "num_key_value_heads": 2,
              "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3, "kv_lora_rank": 5,
              "head_dim": 2}  # fmt: skip
    found = heads("model.layers.0.self_attn.kv_b_proj.weight", (14, 5), config)
    blocks = torch.arange(70.0).reshape(2, 7, 5)
    assert torch.equal(found["attn.k"][1], blocks[1, :4])
    assert torch.equal(found["attn.v"][1], blocks[1, 4:])
    q = heads("model.layers.0.self_attn.q_b_proj.weight", (12, 5), config)["attn.q"]
    assert [len(one) for one in q] == [6, 6]


@pytest.mark.parametrize("name", ["q_proj", "k_proj", "o_proj"])
def test_an_update_is_cut_as_its_matrix_is(name: str) -> None:
    config = {"num_attention_heads": 4, "num_key_value_heads": 2}
    shape = (6, WIDTH) if name == "k_proj" else (WIDTH, WIDTH)
    source = torch.Generator().manual_seed(1)
    update = LowRank(torch.randn(shape[0], 2, generator=source),
                     torch.randn(2, shape[1], generator=source))  # fmt: skip
    (view,) = views(f"model.layers.0.self_attn.{name}.weight", shape, config)
    split = by_head(view, config)
    assert not isinstance(split, str)
    for one in split:
        cut = update.of(one.part)
        whole = one.part.of(update.left @ update.right)
        assert torch.allclose(cut.left @ cut.right, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "config", "why"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (12, 12), {},
         "there is no config.json to tell how many heads it has"),
        ("model.layers.0.self_attn.q_proj.weight", (12, 12), {"model_type": "llama"},
         "config.json does not tell how many heads it has"),
        ("model.layers.0.self_attn.q_proj.weight", (12, 12), {"num_attention_heads": "4"},
         "config.json has num_attention_heads '4', which is no number of heads"),
        *(("model.layers.0.self_attn.k_proj.weight", (12, 12),
           {"num_attention_heads": 4, key: value},
           f"config.json has {key} {value!r}, which is no {what}")
          for key, value, what in (("num_key_value_heads", -2, "number of heads"),
                                   ("num_kv_heads", [2, 4], "number of heads"),
                                   ("encoder_attention_heads", 2.0, "number of heads"),
                                   ("head_dim", -3, "size of a head"),
                                   ("head_dim", 0, "size of a head"),
                                   ("v_head_dim", "3", "size of a head"))),
        ("model.layers.0.self_attn.q_proj.weight", (12, 12), {"num_attention_heads": 5},
         "its 12 rows are no multiple of 5 heads"),
        ("model.layers.0.self_attn.o_proj.weight", (12, 24), {"num_attention_heads": 4,
                                                              "head_dim": 3},
         "its 24 columns are not 4 heads of 3"),
        ("model.layers.0.self_attn.q_a_proj.weight", (12, 12), {"num_attention_heads": 4},
         "it lies before the heads are expanded"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(
    name: str, shape: tuple[int, int], config: dict[str, Any], why: str
) -> None:
    (view,) = views(name, shape, config)
    assert by_head(view, config) == why
