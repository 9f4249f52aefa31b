"""What holds no matrix of weights says what it is, and how much was not read is told."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import spectra
from spectra.checkpoint import Checkpoint, TensorEntry, open_spec
from spectra.errors import NothingToAnalyseError
from spectra.matrices.unread import lies_bare, no_weights
from spectra.matrices.view import unread_share, unread_weights, views_of
from spectra.runs.result import not_read

WEIGHT = "layers.0.fc1.weight"


def held(*entries: tuple[str, str, tuple[int, ...]], **config: object) -> Checkpoint:
    found = {name: TensorEntry(name, dtype, shape, "x", 0, 1) for name, dtype, shape in entries}
    return Checkpoint("x", "x", found, config)


def reasons(*entries: tuple[str, str, tuple[int, ...]]) -> dict[str, str]:
    return {item.tensor: item.reason for item in views_of(held(*entries))[1]}


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        ("F4", "4-bit floats (F4), packed two to a byte, with no scheme that says their scales"),
        ("F6_E2M3", "6-bit floats (F6_E2M3), with no scheme that says their scales"),
        ("F6_E3M2", "6-bit floats (F6_E3M2), with no scheme that says their scales"),
        ("F8_E8M0", "powers of two (F8_E8M0), the scales of quantised weights"),
        ("F8_E4M3", "8-bit floats (F8_E4M3), with no scheme that says their scales"),
        ("C64", "complex numbers (C64)"),
        ("I64", "not floating point (I64)"),
        ("BOOL", "not floating point (BOOL)"),
    ],
)
def test_a_dtype_that_is_no_weight_as_it_stands(dtype: str, reason: str) -> None:
    assert no_weights(TensorEntry("a.weight", dtype, (4, 4), "x", 0, 16)) == reason


@pytest.mark.parametrize("name", ["block.layer_scale", "attn.log_scale", "attn.q_clip.scale"])
def test_a_scale_where_nothing_is_quantised(name: str) -> None:
    assert reasons((name, "F32", (4, 8)), (WEIGHT, "F32", (8, 8))) == {
        name: "a scale, no layer's weight"
    }


def test_a_scale_beside_what_is_quantised() -> None:
    found = reasons(("layers.0.fc1.w_scale", "F32", (4, 8)), (WEIGHT, "U8", (8, 8)))
    assert found["layers.0.fc1.w_scale"] == "scales of quantised weights"


def test_a_weight_that_is_called_a_scale_is_one() -> None:
    assert not reasons(("class_head.logit_scale.weight", "F32", (1, 8)))


@pytest.mark.parametrize("name", ["encoder.0.weight", "net.2.weight", "encoder.layer.1.out.weight"])
def test_three_dimensions_are_a_convolution_where_nothing_says_otherwise(name: str) -> None:
    views, skipped = views_of(held((name, "F32", (8, 4, 3))))
    assert [(v.rows, v.cols, v.role.kind) for v in views] == [(8, 12, "conv")]
    assert not skipped


@pytest.mark.parametrize("name", ["encoder.table", "layers.0.experts.w1.weight", "x.state"])
def test_three_dimensions_that_may_be_anything_stay_out(name: str) -> None:
    assert reasons((name, "F32", (8, 4, 3))) == {name: "3-dimensional, of a layout not known"}


def test_the_share_that_was_not_read_is_the_first_sentence(tmp_path: Path) -> None:
    tensors = {
        WEIGHT: torch.eye(30),
        "experts.w13": torch.ones(4, 5, 5),
        "norm.weight": torch.ones(9),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    first = "10 % of the parameters are in tensors that were not read. "
    assert str(spectra.ls(tmp_path).summary["reading"]).startswith(first)
    assert str(spectra.spectrum(tmp_path).summary["reading"]).startswith(first)
    assert str(spectra.kappa(tmp_path).summary["reading"]).startswith(first)


def test_quantised_weights_that_were_not_read_are_counted_by_module(tmp_path: Path) -> None:
    packed = torch.ones(4, 8, dtype=torch.int32)
    tensors = {WEIGHT: torch.eye(8)} | {
        f"layers.{layer}.up.{part}": packed.clone()
        for layer in range(2)
        for part in ("qweight", "qzeros", "g_idx")
    }
    save_file(tensors, tmp_path / "model.safetensors")
    settings = {"quant_method": "of_tomorrow"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
    reading = str(spectra.spectrum(tmp_path).summary["reading"])
    assert reading.startswith("2 weights were not read: weights of the scheme of_tomorrow")
    opened = open_spec(tmp_path)
    assert isinstance(opened, Checkpoint)
    assert len(unread_weights(opened)) == 2


@pytest.mark.parametrize(
    "beside",
    [("norm.weight", "F32", (4096,)), ("vit.cls_token", "F32", (1, 1, 4096)),
     ("mask", "BOOL", (64, 64)), ("experts.w13", "F32", (2, 2, 2))],
    ids=["one-dimensional", "a vector", "a buffer", "negligible"],
)  # fmt: skip
def test_nothing_is_said_of_what_is_no_parameter(beside: tuple[str, str, tuple[int, ...]]) -> None:
    model = held((WEIGHT, "F32", (64, 64)), beside)
    assert not_read(model, views_of(model)[1]) == ""
    assert unread_share(held(), []) == 0


BARE: dict[str, Tensor] = {
    "layers.0.mixer.A_log": torch.rand(8, 4),
    "layers.0.state_table": torch.rand(8, 8),
    "layers.0.attn.relative_position_bias_table": torch.rand(9, 4),
    "vision.class_embedding": torch.rand(2, 8),
    "layers.0.mixer.conv1d.weight": torch.rand(8, 1, 4),
}


def test_bare_parameters_are_no_candidates(tmp_path: Path) -> None:
    save_file({**BARE, WEIGHT: torch.rand(8, 8)}, tmp_path / "model.safetensors")
    rows = spectra.kappa(tmp_path, selection=spectra.Selection(exclude=["*conv1d*"])).rows
    assert [row.matrix for row in rows] == [WEIGHT]


def test_a_model_of_bare_parameters_has_no_candidates(tmp_path: Path) -> None:
    save_file({"layers.0.table": torch.rand(8, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(NothingToAnalyseError, match="a bare parameter, of no layer that is known"):
        spectra.kappa(tmp_path)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("w", False),
        ("layers.0.proj", False),
        ("lstm.weight_ih_l0", False),
        ("model.text_projection", False),
        ("layers.0.table", True),
    ],
)
def test_a_name_tells_whether_a_parameter_lies_bare(name: str, bare: bool) -> None:
    assert lies_bare(name) == bare
