"""Four-bit floats against compressed-tensors, transformers, and the definition."""

from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationScheme,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from checkpoint.codecs.memory import codec_of, nan_equal, reason, stored, weight
from spectra.matrices import views_of

NAME = "model.layers.0.mlp.experts.gate_up_proj"


def compressed(layout: str, rows: int, groups: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return a weight as compressed-tensors stores it, and as it reads it back."""
    generator = torch.Generator().manual_seed(seed)
    size = 16 if layout.startswith("nvfp4") else 32
    state = {
        "weight": torch.randn(rows, groups * size, generator=generator).bfloat16(),
        "weight_scale": torch.rand(rows, groups, generator=generator).bfloat16() + 0.1,
    }
    strategy = "group"
    if size == 16:
        state["weight_global_scale"] = torch.tensor([3.7])
        state["weight_scale"] = (state["weight_scale"] * 100).to(torch.float8_e4m3fn).bfloat16()
        strategy = "tensor_group"
    args = QuantizationArgs(num_bits=4, type="float", strategy=strategy, group_size=size,
                            symmetric=True)  # fmt: skip
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(layout)
    parts = compressor.compress(state, scheme)
    expected = compressor.decompress(parts, scheme)["weight"]
    return {f"a.{key}": value for key, value in parts.items()}, expected


@settings(max_examples=40)
@given(
    layout=st.sampled_from(["nvfp4-pack-quantized", "mxfp4-pack-quantized"]),
    rows=st.integers(1, 20),
    groups=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_packed_floats_are_what_compressed_tensors_reads(
    layout: str, rows: int, groups: int, seed: int
) -> None:
    tensors, expected = compressed(layout, rows, groups, seed)
    config = {"quant_method": "compressed-tensors", "format": layout}
    checkpoint = stored(tensors, quantization=config)
    assert codec_of(checkpoint) == f"compressed-tensors-{layout[:5]}"
    assert torch.equal(weight(checkpoint).bfloat16(), expected)


VALUES = (0, 0.5, 1, 1.5, 2, 3, 4, 6)


@settings(max_examples=20)
@given(rows=st.integers(1, 6), groups=st.integers(1, 3), seed=st.integers(0, 9))
def test_modelopt_multiplies_both_scales(rows: int, groups: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows, 8 * groups), generator=generator, dtype=torch.uint8)
    scale = (torch.rand(rows, groups, generator=generator) * 100).to(torch.float8_e4m3fn)
    tensors = {"a.weight": packed, "a.weight_scale": scale, "a.weight_scale_2": torch.tensor(0.013)}
    checkpoint = stored(tensors, quantization={"quant_method": "modelopt", "quant_algo": "NVFP4"})
    entry = checkpoint.entries["a.weight"]
    assert (codec_of(checkpoint), entry.shape) == ("modelopt-nvfp4", (rows, 16 * groups))
    read = weight(checkpoint)
    factor = float(tensors["a.weight_scale_2"])
    for row in range(rows):
        for col in range(16 * groups):
            bits = (int(packed[row, col // 2]) >> 4 * (col % 2)) & 15
            value = VALUES[bits & 7] * (-1 if bits & 8 else 1)
            expected = value * float(scale[row, col // 16]) * factor
            assert float(read[row, col]) == pytest.approx(expected, rel=3e-7, abs=0)


@pytest.mark.parametrize(
    ("part", "bad", "expected"),
    [
        ("weight_scale", torch.ones(4, 3).to(torch.float8_e4m3fn), "do not cover"),
        ("weight_scale", torch.ones(4, 4).to(torch.float8_e4m3fn), "expected 1 x 16"),
        ("weight_scale", torch.ones(4, 2), "weight_scale is F32"),
        ("weight_scale", None, "weight_scale is missing"),
        ("weight_global_scale", None, "weight_global_scale is missing"),
        ("weight_global_scale", torch.ones(2), "weight_global_scale is F32 [2]"),
        ("weight_global_scale", torch.ones(1).half(), "weight_global_scale is F16"),
        ("weight_zero_point", torch.ones(4, 2), "zero points"),
        ("weight_packed", torch.ones(4, 16, 1, dtype=torch.uint8), "the weights are U8 [4, 16, 1]"),
    ],
)
def test_parts_that_do_not_fit_are_named(part: str, bad: Tensor | None, expected: str) -> None:
    tensors, _expected = compressed("nvfp4-pack-quantized", 4, 2, 0)
    tensors.pop(f"a.{part}", None)
    if bad is not None:
        tensors[f"a.{part}"] = bad
    assert expected in reason(tensors)


def test_six_bits_are_left_out_by_the_size_of_their_groups() -> None:
    tensors = {"a.weight_packed": torch.zeros(4, 24, dtype=torch.uint8),
               "a.weight_scale": torch.zeros(4, 1, dtype=torch.uint8)}  # fmt: skip
    assert "blocks of 1 x 48, expected 1 x 32" in reason(tensors)


def experts(
    count: int, outputs: int, groups: int, seed: int = 0, *, exponents: tuple[int, int] = (110, 140)
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (count, outputs, groups, 16), generator=generator)
    scales = torch.randint(*exponents, (count, outputs, groups), generator=generator)
    return {f"{NAME}_blocks": blocks.byte(), f"{NAME}_scales": scales.byte()}


@settings(max_examples=30)
@given(
    count=st.integers(1, 4),
    outputs=st.integers(1, 8),
    groups=st.integers(1, 3),
    wild=st.booleans(),
    seed=st.integers(0, 9),
)
def test_experts_are_what_transformers_makes_of_them(
    count: int, outputs: int, groups: int, wild: bool, seed: int
) -> None:
    tensors = experts(count, outputs, groups, seed, exponents=(0, 255) if wild else (110, 140))
    checkpoint = stored(tensors, quantization={"quant_method": "mxfp4"}, model_type="gpt_oss")
    entry = checkpoint.entries[NAME]
    assert (codec_of(checkpoint, NAME), entry.dtype) == ("mxfp4", "U8")
    for dtype in (torch.bfloat16, torch.float32):
        expected = convert_moe_packed_tensors(*tensors.values(), dtype=dtype)
        assert nan_equal(checkpoint.read(entry).to(dtype), expected)
    if not wild:
        weight(checkpoint, NAME)


def test_an_expert_is_read_alone_and_falls_into_gate_and_up() -> None:
    tensors = experts(3, 8, 2)
    checkpoint = stored(tensors, quantization={"quant_method": "mxfp4"}, model_type="gpt_oss")
    views, skipped = views_of(checkpoint)
    assert not skipped
    assert [(view.rows, view.cols) for view in views] == [(4, 64)] * 6
    file: Any = checkpoint.files["model-0.safetensors"]
    file.reads.clear()
    view = next(view for view in views if view.part.slab == (1, 2) and view.part.kind)
    values = view.part.within(checkpoint.read(view.entry, view.part.slab))
    assert sorted(stop - start for start, stop in file.reads) == [16, 256]
    whole = convert_moe_packed_tensors(*tensors.values(), dtype=torch.float32)[1].mT
    assert view.part.label == "gate"
    assert torch.equal(values, whole[0::2])


@pytest.mark.parametrize(
    ("part", "bad", "expected"),
    [
        ("_scales", torch.zeros(3, 8, 1), "scales is F32 [3, 8, 1], expected U8 [3, 8, 2]"),
        ("_scales", torch.zeros(3, 8, 3).byte(), "scales is U8 [3, 8, 3]"),
        ("_blocks", torch.zeros(3, 8, 2, 8).byte(), "expected groups of 16 bytes"),
        ("_blocks", torch.zeros(3, 8, 32).byte(), "the weights are U8 [3, 8, 32]"),
        ("_blocks", torch.zeros(3, 8, 0, 16).byte(), "the weights are U8 [3, 8, 0, 16]"),
    ],
)
def test_experts_that_do_not_fit_are_left_out(part: str, bad: Tensor, expected: str) -> None:
    assert expected in reason({**experts(3, 8, 2), f"{NAME}{part}": bad})
