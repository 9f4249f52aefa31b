"""Norms and biases beside matrices that are the same: in the order of their units, or others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spectra
from examples import write_model
from spectra.runs import matching_vectors
from spectra.work import Result, store

WIDTH, UNITS, HEADS, KEYS, SIZE = 32, 40, 4, 2, 6
Tensors = dict[str, Tensor]
Orders = Mapping[str, Tensor]  # of the lines of what reads or writes units

LLAMA: Any = {
    "model_type": "llama", "num_attention_heads": HEADS, "num_key_value_heads": KEYS,
    "head_dim": SIZE, "hidden_size": WIDTH,
}  # fmt: skip


def lines(order: Tensor, size: int) -> Tensor:
    return (order[:, None] * size + torch.arange(size)).flatten()


HEAD = torch.tensor([3, 2, 1, 0])
UNIT = torch.randperm(UNITS, generator=torch.Generator().manual_seed(5))


def grouped() -> tuple[Any, Tensors, Orders, Orders]:
    """Settings, tensors, and of each the order of its rows, and of its columns."""
    own = "model.layers.0."
    q, k = lines(HEAD, SIZE), lines(torch.tensor([1, 0]), SIZE)
    shapes = {"self_attn.q_proj": (q, WIDTH), "self_attn.k_proj": (k, WIDTH),
              "self_attn.v_proj": (k, WIDTH), "mlp.gate_proj": (UNIT, WIDTH),
              "mlp.up_proj": (UNIT, WIDTH)}  # fmt: skip
    tensors = {f"{own}{name}.weight": torch.randn(len(at), cols)
               for name, (at, cols) in shapes.items()}  # fmt: skip
    tensors |= {f"{own}{name}.bias": torch.randn(len(at)) for name, (at, _) in shapes.items()}
    rows = {f"{own}{name}.{end}": at for name, (at, _) in shapes.items() for end in
            ("weight", "bias")}  # fmt: skip
    cols = {f"{own}self_attn.o_proj.weight": q, f"{own}mlp.down_proj.weight": UNIT}
    tensors |= {name: torch.randn(WIDTH, len(at)) for name, at in cols.items()}
    tensors |= {f"{own}self_attn.o_proj.bias": torch.randn(WIDTH),
                f"{own}input_layernorm.weight": torch.rand(WIDTH),
                f"{own}self_attn.sinks": torch.randn(HEADS),
                f"{own}self_attn.q_norm.weight": torch.rand(HEADS * SIZE)}  # fmt: skip
    rows |= {f"{own}self_attn.sinks": HEAD, f"{own}self_attn.q_norm.weight": q}
    return LLAMA, tensors, rows, cols


def interleaved() -> tuple[Any, Tensors, Orders, Orders]:
    """GPT-NeoX: q, k and v of a head after one another."""
    own, blocks = "gpt_neox.layers.0.", lines(HEAD, 3 * SIZE)
    fused, up = f"{own}attention.query_key_value", f"{own}mlp.dense_h_to_4h"
    tensors = {f"{fused}.weight": torch.randn(len(blocks), WIDTH),
               f"{fused}.bias": torch.randn(len(blocks)),
               f"{own}attention.dense.weight": torch.randn(WIDTH, HEADS * SIZE),
               f"{up}.weight": torch.randn(UNITS, WIDTH), f"{up}.bias": torch.randn(UNITS),
               f"{own}mlp.dense_4h_to_h.weight": torch.randn(WIDTH, UNITS)}  # fmt: skip
    rows = {f"{name}.{end}": at for name, at in ((fused, blocks), (up, UNIT))
            for end in ("weight", "bias")}  # fmt: skip
    cols = {f"{own}attention.dense.weight": lines(HEAD, SIZE),
            f"{own}mlp.dense_4h_to_h.weight": UNIT}  # fmt: skip
    config = {"model_type": "gpt_neox", "num_attention_heads": HEADS, "hidden_size": WIDTH}
    return config, tensors, rows, cols


def turned() -> tuple[Any, Tensors, Orders, Orders]:
    """GPT-2: matrices stored [in, out], all of q before all of k."""
    own, q = "h.0.", lines(HEAD, SIZE)
    thirds = torch.cat([q, q + HEADS * SIZE, q + 2 * HEADS * SIZE])
    tensors = {f"{own}attn.c_attn.weight": torch.randn(WIDTH, len(thirds)),
               f"{own}attn.c_attn.bias": torch.randn(len(thirds)),
               f"{own}attn.c_proj.weight": torch.randn(HEADS * SIZE, WIDTH),
               f"{own}mlp.c_fc.weight": torch.randn(WIDTH, UNITS),
               f"{own}mlp.c_fc.bias": torch.randn(UNITS),
               f"{own}mlp.c_proj.weight": torch.randn(UNITS, WIDTH)}  # fmt: skip
    rows = {f"{own}attn.c_attn.bias": thirds, f"{own}attn.c_proj.weight": q,
            f"{own}mlp.c_fc.bias": UNIT, f"{own}mlp.c_proj.weight": UNIT}  # fmt: skip
    cols = {f"{own}attn.c_attn.weight": thirds, f"{own}mlp.c_fc.weight": UNIT}
    return {"model_type": "gpt2", "n_head": HEADS, "n_embd": WIDTH}, tensors, rows, cols


def matched(
    folder: Path, config: Mapping[str, Any], first: Tensors, second: Tensors, name: str
) -> Result:
    if not (folder / "first").exists():
        write_model(folder / "first", first, json.dumps(config))
    second = {key: one.contiguous() for key, one in second.items()}
    return spectra.match(folder / "first", write_model(folder / name, second, json.dumps(config)))


def counts(both: int, **others: int) -> dict[str, int]:
    return {"both": both, "differ": 0, "lone": 0, "non_finite": 0, **others}


@pytest.mark.parametrize("made", [grouped, interleaved, turned])
def test_biases_go_with_their_units(made: Any, tmp_path: Path) -> None:  # noqa: ANN401
    torch.manual_seed(3)
    config, first, rows, cols = made()
    moved = {name: one[rows[name]] if name in rows else one for name, one in first.items()}
    moved = {name: one[:, cols[name]] if name in cols else one for name, one in moved.items()}
    result = matched(tmp_path, config, first, moved, "moved")
    assert result.summary["relation"] == "the same up to a permutation"
    vectors = {name for name, one in first.items() if one.ndim == 1}
    assert result.summary["vectors"] == counts(len(vectors))
    stay = {name: first[name] if name in vectors else one for name, one in moved.items()}
    result = matched(tmp_path, config, first, stay, "stay")
    differ = len(vectors & rows.keys())
    assert result.summary["relation"] == "the same in part"
    assert result.summary["vectors"] == counts(len(vectors), differ=differ)
    reading = str(result.summary["reading"])
    assert reading.startswith("The matrices of the two models are the same up to a permutation:")
    assert f"But {differ} of {len(vectors)} norms and biases differ, such as " in reading


@pytest.mark.parametrize(("times", "same"), [(1.002, True), (1.01, False)])
def test_rounding_is_no_difference(times: float, same: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config, first, *_ = grouped()
    gain = "model.layers.0.input_layernorm.weight"
    near = {**first, gain: times * first[gain]}
    result = matched(tmp_path, config, first, near, "near")
    assert (result.summary["relation"] == "the same") is same
    assert (f"But 1 of 9 norms and biases differs: {gain}." in str(result.summary["reading"])) \
        is not same  # fmt: skip


def test_what_one_model_lacks_is_named(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config, first, *_ = grouped()
    bias = "model.layers.0.self_attn.o_proj.bias"
    less = {name: one for name, one in first.items() if name != bias}
    less["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)  # no weight
    result = matched(tmp_path, config, first, less, "less")
    assert result.summary["relation"] == "the same in part"
    assert f"1 norm or bias is in one model alone, or of another length: {bias}." in str(
        result.summary["reading"]
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_norm_without_numbers_does_not_differ_from_itself(value: float, tmp_path: Path) -> None:
    """What a module clips at may be infinite, and is then the same, or another bound."""
    torch.manual_seed(3)
    config, first, *_ = grouped()
    gain, bound = "model.layers.0.input_layernorm.weight", "model.layers.0.mlp.input_max"
    first[gain][2] = value
    first[bound] = torch.tensor([float("inf")])
    result = matched(tmp_path, config, first, first, "copy")
    assert result.summary["vectors"] == counts(10, non_finite=1)
    assert result.summary["relation"] == "the same in part"
    told = f"1 of 10 norms and biases holds NaN or Inf in either model: {gain}."
    assert str(result.summary["reading"]).endswith(told)
    clipped = matched(tmp_path, config, first, {**first, bound: torch.ones(1)}, "clipped")
    assert clipped.summary["vectors"] == counts(10, differ=1, non_finite=1)


def test_a_second_run_reads_no_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SETTLED", -1.0)  # as of files that are older
    torch.manual_seed(3)
    config, first, *_ = grouped()
    gain = "model.layers.0.input_layernorm.weight"
    other = {**first, gain: 2.0 * first[gain]}
    summary = matched(tmp_path, config, first, other, "other").summary
    monkeypatch.setattr(matching_vectors, "_differs", lambda *_: pytest.fail("read again"))
    assert spectra.match(tmp_path / "first", tmp_path / "other").summary == summary
