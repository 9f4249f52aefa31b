"""Views of a checkpoint's tensors, and the reasons for what is none."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from examples import write_model
from spectra.checkpoint import Checkpoint, open_spec
from spectra.matrices.part import Part
from spectra.matrices.role import Role
from spectra.matrices.view import views_of
from spectra.text import natural


def opened(folder: Path, tensors: dict[str, Tensor], config: str = "") -> Checkpoint:
    checkpoint = open_spec(write_model(folder, tensors, config))
    assert isinstance(checkpoint, Checkpoint)
    return checkpoint


def test_layer_2_comes_before_layer_10(tmp_path: Path) -> None:
    names = [f"layers.{i}.attn.{x}_proj.weight" for i in (10, 2, 1) for x in "vq"]
    views, _ = views_of(opened(tmp_path, {name: torch.zeros(2, 2) for name in names}))
    assert [view.name for view in views] == [
        f"layers.{i}.attn.{x}_proj.weight" for i in (1, 2, 10) for x in "qv"
    ]


def test_expert_2_comes_before_expert_10(tmp_path: Path) -> None:
    tensors = {"layers.0.mlp.experts.down_proj": torch.zeros(11, 2, 3)}
    views, _ = views_of(opened(tmp_path, tensors, '{"model_type": "mixtral"}'))
    assert [view.role.expert for view in views] == list(range(11))


@given(st.lists(st.integers(0, 300), unique=True))
def test_numbers_inside_names_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"layers.{number}.weight" for number in numbers]
    assert sorted(names, key=natural) == [f"layers.{n}.weight" for n in sorted(numbers)]


@given(st.lists(st.text(alphabet="a0b1.", max_size=8)))
def test_any_two_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural)) == sorted(names)


SKIPPED: dict[str, tuple[Tensor, str]] = {
    "norm.weight": (torch.zeros(4), "one-dimensional"),
    "logit_scale": (torch.zeros(()), "a single number"),
    "position_ids": (torch.zeros(1, 4, dtype=torch.int64), "not floating point (I64)"),
    "packed.weight": (
        torch.zeros(4, 4, dtype=torch.uint8),
        "packed integers of a scheme that neither their names nor config.json tell",
    ),
    "codes": (torch.zeros(4, 4, dtype=torch.uint8), "not floating point (U8)"),
    "mask": (torch.zeros(4, 4, dtype=torch.bool), "not floating point (BOOL)"),
    "empty.weight": (torch.zeros(0, 4), "empty"),
    "eight.weight_scale_inv": (
        torch.zeros(2, 2),
        "a part of a quantised weight, without the weight",
    ),
    "experts.w13": (torch.zeros(2, 4, 4), "3-dimensional, of a layout not known"),
    "experts.bias": (torch.zeros(2, 4), "a bias"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_no_matrix_is_listed_with_its_reason(tmp_path: Path, name: str) -> None:
    tensor, reason = SKIPPED[name]
    tensors = {name: tensor, "kept.weight": torch.zeros(2, 2)}
    views, skipped = views_of(opened(tmp_path, tensors))
    assert [view.name for view in views] == ["kept.weight"]
    assert [(item.tensor, item.reason) for item in skipped] == [(name, reason)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_is_a_matrix(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = torch.arange(6, dtype=dtype).reshape(2, 3)
    checkpoint = opened(tmp_path, {"weight": stored})
    ((view,), skipped) = views_of(checkpoint)
    assert torch.equal(view.of(checkpoint.read(view.entry)).to(dtype), stored)
    assert (view.rows, view.cols, skipped) == (2, 3, [])


def test_a_tensor_whose_rule_does_not_fit_is_skipped_and_others_are_not(tmp_path: Path) -> None:
    tensors = {
        "h.0.self_attention.query_key_value.weight": torch.zeros(7, 4),
        "h.0.self_attention.dense.weight": torch.zeros(4, 4),
    }
    config = json.dumps({"model_type": "bloom", "n_head": 2})
    views, skipped = views_of(opened(tmp_path, tensors, config))
    assert [view.name for view in views] == ["h.0.self_attention.dense.weight"]
    assert [item.reason for item in skipped] == ["7 rows do not divide into 2"]


def test_parts_have_names_roles_and_shapes_of_their_own(tmp_path: Path) -> None:
    tensors = {
        "h.3.attn.c_attn.weight": torch.randn(4, 12),
        "h.3.mlp.c_fc.weight": torch.randn(4, 16),
    }
    checkpoint = opened(tmp_path, tensors, '{"model_type": "gpt2"}')
    views, _ = views_of(checkpoint)
    told = {view.name: (view.role, view.rows, view.cols) for view in views}
    assert told == {
        "h.3.attn.c_attn.weight[k]": (Role("attn.k", 3), 4, 4),
        "h.3.attn.c_attn.weight[q]": (Role("attn.q", 3), 4, 4),
        "h.3.attn.c_attn.weight[v]": (Role("attn.v", 3), 4, 4),
        "h.3.mlp.c_fc.weight": (Role("mlp.up", 3), 16, 4),
    }


def test_an_expert_part_is_named_by_expert_and_label(tmp_path: Path) -> None:
    tensors = {"model.layers.1.mlp.experts.gate_up_proj": torch.zeros(2, 6, 4)}
    views, _ = views_of(opened(tmp_path, tensors, '{"model_type": "qwen3_5_moe_text"}'))
    assert [(view.name.partition("[")[2], view.role) for view in views] == [
        ("expert=0,gate]", Role("mlp.gate", 1, 0)),
        ("expert=0,up]", Role("mlp.up", 1, 0)),
        ("expert=1,gate]", Role("mlp.gate", 1, 1)),
        ("expert=1,up]", Role("mlp.up", 1, 1)),
    ]


def test_the_real_model_is_all_matrices_but_its_vectors(minilm: Path) -> None:
    checkpoint = open_spec(minilm)
    assert isinstance(checkpoint, Checkpoint)
    views, skipped = views_of(checkpoint)
    kinds = [view.role.kind for view in views]
    for kind in ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down"):
        assert kinds.count(kind) == 6
    assert kinds.count("embed") == 3
    assert {item.reason for item in skipped} <= {"one-dimensional", "not floating point (I64)"}
    assert len(views) + len(skipped) == len(checkpoint.entries)


@pytest.mark.parametrize("shape", [(), (3,)], ids=["a number", "a vector"])
def test_what_has_no_columns_is_one(shape: tuple[int, ...]) -> None:
    values = torch.arange(3.0)[: max(sum(shape), 1)].reshape(shape)
    assert torch.equal(Part().of(values), values.reshape(-1, 1))
