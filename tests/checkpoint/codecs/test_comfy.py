"""ComfyUI's marked weights against their definition, entry by entry in float64.

Once, comfy-kitchen 0.2.40's own `dequantize` of every format gave the same bits, but for ConvRot's
rotation, which rounds.
"""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from checkpoint.codecs.memory import (
    MemoryFile,
    MemoryFolder,
    codec_of,
    reason,
    stored,
    weight,
)
from spectra.checkpoint.codecs.comfy import DTYPES
from spectra.checkpoint.reading import read_rounded
from spectra.checkpoint.shards import open_file

VALUES = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
E4M3 = torch.float8_e4m3fn


def mark(**told: object) -> Tensor:
    """Return what ComfyUI writes beside a weight."""
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


def tiles(grid: Tensor) -> Tensor:
    """Lay scales out in tiles of 128 x 4, zeros where there are none, entry by entry."""
    rows, cols = grid.shape
    down, across = -(-rows // 128), -(-cols // 4)
    flat = [0] * (down * across * 512)
    for row in range(rows):
        for col in range(cols):
            tile = (row // 128) * across + col // 4
            place = 16 * (row % 32) + 4 * (row % 128 // 32) + col % 4
            flat[512 * tile + place] = int(grid.view(torch.uint8)[row, col])
    return torch.tensor(flat, dtype=torch.uint8).view(down * 128, across * 4)


def nvfp4(rows: int, groups: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Return a weight as ComfyUI stores it, and what it means."""
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows, 8 * groups), generator=generator, dtype=torch.uint8)
    scale = (torch.rand(rows, groups, generator=generator) * 100 + 1).to(E4M3)
    factor = torch.tensor(0.013)
    expected = torch.zeros(rows, 16 * groups, dtype=torch.float64)
    for row in range(rows):
        for col in range(16 * groups):
            bits = int(packed[row, col // 2]) >> 4 * (1 - col % 2) & 15  # the high ones first
            value = VALUES[bits & 7] * (-1 if bits & 8 else 1)
            expected[row, col] = value * float(scale[row, col // 16]) * float(factor)
    parts = {"a.weight": packed, "a.weight_scale": tiles(scale), "a.weight_scale_2": factor}
    return parts, expected


@pytest.mark.parametrize(("rows", "groups"), [(128, 4), (3, 2), (140, 5)])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_nvfp4_has_the_high_bits_first_and_scales_in_tiles(
    rows: int, groups: int, as_bytes: bool
) -> None:
    tensors, expected = nvfp4(rows, groups)
    if not as_bytes:
        tensors["a.weight_scale"] = tensors["a.weight_scale"].view(E4M3)
    checkpoint = stored({**tensors, "a.comfy_quant": mark(format="nvfp4"),
                         "a.input_scale": torch.ones(()), "a.bias": torch.ones(rows)})  # fmt: skip
    assert codec_of(checkpoint) == "comfy-nvfp4"
    assert set(checkpoint.entries) == {"a.weight", "a.bias"}
    torch.testing.assert_close(weight(checkpoint).double(), expected, rtol=1e-6, atol=0.0)


def test_without_the_mark_it_is_modelopts() -> None:
    tensors, _ = nvfp4(128, 4)
    tensors["a.weight_scale"] = tensors["a.weight_scale"].view(E4M3)
    assert codec_of(stored(tensors)) == "modelopt-nvfp4"


def test_rows_that_fill_up_a_run_are_none_of_the_model() -> None:
    tensors, expected = nvfp4(144, 4)
    checkpoint = stored({**tensors, "a.comfy_quant": mark(format="nvfp4"),
                         "a.bias": torch.ones(130)})  # fmt: skip
    assert checkpoint.entries["a.weight"].shape == (130, 64)
    torch.testing.assert_close(weight(checkpoint).double(), expected[:130], rtol=1e-6, atol=0.0)


def test_mxfp8_has_exponents_in_tiles() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(130, 96, generator=generator).to(E4M3)
    exponents = torch.randint(120, 130, (130, 3), generator=generator, dtype=torch.uint8)
    checkpoint = stored({"a.weight": values, "a.weight_scale": tiles(exponents),
                         "a.comfy_quant": mark(format="mxfp8")})  # fmt: skip
    assert codec_of(checkpoint) == "comfy-mxfp8"
    scale = torch.exp2(exponents.double() - 127).repeat_interleave(32, dim=1)
    assert torch.equal(weight(checkpoint).double(), values.double() * scale)
    half = read_rounded(checkpoint.files, checkpoint.entries["a.weight"])[1]
    assert half is not None
    assert half.shape == values.shape


@pytest.mark.parametrize("dtype", [E4M3, torch.float8_e5m2])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_float8_has_one_scale(dtype: torch.dtype, as_bytes: bool) -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    layout = "float8_e4m3fn" if dtype == E4M3 else "float8_e5m2"
    told = mark(format=layout, full_precision_matrix_mult=True)
    checkpoint = stored({"a.weight": values.view(torch.uint8) if as_bytes else values,
                         "a.weight_scale": torch.tensor(0.3), "a.comfy_quant": told})  # fmt: skip
    assert codec_of(checkpoint) == "comfy-fp8"
    assert torch.equal(weight(checkpoint), values.float() * torch.tensor(0.3))


def hadamard(size: int) -> Tensor:
    """Return ConvRot's matrix: ones, and -1 on the antidiagonal of each level, by its digits."""
    found = torch.ones(size, size, dtype=torch.float64)
    for row in range(size):
        for col in range(size):
            left, right, step = row, col, size
            while step > 1:
                step //= 4
                if left // step + right // step == 3:
                    found[row, col] *= -1
                left, right = left % step, right % step
    return found / math.sqrt(size)


@pytest.mark.parametrize(("size", "where"), [(4, "top"), (16, "params"), (64, "top"), (256, "")])
def test_convrot_is_undone(size: int, where: str) -> None:
    told: dict[str, Any] = {"convrot": True, "convrot_groupsize": size}
    told = {"params": told} if where == "params" else told if where else {"convrot": True}
    original = torch.randn(3, 2 * size, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(size))  # fmt: skip
    turned = (original.view(3, 2, size) @ hadamard(size).T).view(3, -1)
    scale = turned.abs().amax(dim=1, keepdim=True) / 127
    codes = (turned / scale).round()
    checkpoint = stored({"a.weight": codes.to(torch.int8), "a.weight_scale": scale.float(),
                         "a.comfy_quant": mark(format="int8_tensorwise", **told)})  # fmt: skip
    assert codec_of(checkpoint) == "comfy-int8-rotated"
    expected = ((codes * scale).view(3, 2, size) @ hadamard(size)).view(3, -1)
    torch.testing.assert_close(weight(checkpoint).double(), expected, rtol=0.0, atol=2e-5)
    assert float((expected - original).norm() / original.norm()) < 0.02
    half = read_rounded(checkpoint.files, checkpoint.entries["a.weight"])[1]
    assert half is not None
    assert float(half.square().mean().sqrt() / (scale / 2).square().mean().sqrt()) == (
        pytest.approx(1.0, rel=0.3)
    )


def test_four_bit_integers_are_signed_and_the_low_ones_first() -> None:
    packed = torch.tensor([[0x71, 0x8F], [0x00, 0xA5]], dtype=torch.uint8).view(torch.int8)
    scale = torch.tensor([0.5, 2.0])
    told = mark(format="convrot_w4a4", convrot_groupsize=4, linear_dtype="int8")
    checkpoint = stored({"a.weight": packed, "a.weight_scale": scale, "a.comfy_quant": told})
    assert codec_of(checkpoint) == "comfy-int4-rotated"
    codes = torch.tensor([[1.0, 7, -1, -8], [0, 0, 5, -6]], dtype=torch.float64)
    expected = codes * scale[:, None] @ hadamard(4)
    torch.testing.assert_close(weight(checkpoint).double(), expected, rtol=1e-6, atol=1e-6)
    assert read_rounded(checkpoint.files, checkpoint.entries["a.weight"])[1] is not None


def opened_with(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Any:  # noqa: ANN401
    """Write one file with metadata and open it."""
    raw = save({name: value.contiguous() for name, value in tensors.items()}, metadata)
    return open_file(MemoryFolder({"m.safetensors": MemoryFile("m", raw)}), "m.safetensors")


def test_marks_may_stand_in_the_header() -> None:
    tensors, expected = nvfp4(128, 4)
    told = json.dumps({"format_version": "1.0", "layers": {"a": {"format": "nvfp4"}}})
    checkpoint = opened_with(tensors, {"_quantization_metadata": told, "format": "pt"})
    assert codec_of(checkpoint) == "comfy-nvfp4"
    torch.testing.assert_close(weight(checkpoint).double(), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("text", ["{", "[]", '{"layers": 3}', '{"a": {}}'])
def test_marks_that_are_none_refuse_what_they_may_be_about(text: str) -> None:
    tensors, _ = nvfp4(128, 4)
    checkpoint = opened_with(tensors, {"_quantization_metadata": text})
    assert not checkpoint.entries
    assert "_quantization_metadata that is no table of layers" in checkpoint.skipped[0].reason


def test_scaled_float8_of_old_is_read() -> None:
    values = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))
    tensors = {"m.a.weight": values.to(E4M3), "m.a.scale_weight": torch.tensor(0.25),
               "m.a.scale_input": torch.tensor(1.0), "m.scaled_fp8": torch.empty(0).to(E4M3),
               "m.b.weight": values.half(), "m.b.scale_weight": torch.tensor([2.0]),
               "m.b.bias": torch.ones(4)}  # fmt: skip
    checkpoint = stored(tensors)
    assert set(checkpoint.entries) == {"m.a.weight", "m.b.weight", "m.b.bias"}
    assert codec_of(checkpoint, "m.a.weight") == "comfy-fp8"
    read = {
        name: checkpoint.read(checkpoint.entries[name]) for name in ("m.a.weight", "m.b.weight")
    }
    assert torch.equal(read["m.a.weight"], values.to(E4M3).float() / 4)
    assert torch.equal(read["m.b.weight"], values.half().float() * 2)
    assert read_rounded(checkpoint.files, checkpoint.entries["m.b.weight"])[1] is None
    (skipped,) = checkpoint.skipped
    assert "no weight" in skipped.reason


FP8 = {"a.weight": torch.ones(4, 4).to(E4M3), "a.weight_scale": torch.ones(1)}
INT8 = {"a.weight": torch.ones(4, 4).char(), "a.weight_scale": torch.ones(4, 1)}


@pytest.mark.parametrize(
    ("tensors", "told", "expected"),
    [
        (FP8, {"format": "asym_w4a8_int8"}, "format 'asym_w4a8_int8' are not read"),
        (FP8, {}, "format 'None' are not read"),
        (FP8, {"format": "float8_e4m3fn", "hadamard": True}, "'hadamard': True"),
        (nvfp4(4, 2)[0], {"format": "nvfp4", "group_size": 32}, "'group_size': 32"),
        (FP8 | {"a.pre_quant_scale": torch.ones(4)}, {"format": "float8_e4m3fn"},
         "permuted or scaled"),
        ({"a.weight": FP8["a.weight"]}, {"format": "float8_e4m3fn"}, "weight_scale is missing"),
        (FP8 | {"a.weight_scale": torch.ones(2, 2)}, {"format": "float8_e4m3fn"},
         "expected one value, or one a row"),
        (FP8, {"format": "nvfp4"}, "the weights are F8_E4M3 [4, 4], expected U8"),
        (nvfp4(4, 2)[0] | {"a.weight_scale": torch.ones(4, 2).to(E4M3)}, {"format": "nvfp4"},
         "weight_scale is F8_E4M3 [4, 2], expected F8_E4M3 or U8 [128, 4]"),
        (FP8, {"format": "mxfp8"}, "4 columns are no whole number of runs of 32"),
        (INT8, {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 8},
         "groups of 8 does not fit 4 columns"),
        (INT8, {"format": "int8_tensorwise", "convrot": True}, "groups of 256 does not fit"),
    ],
)  # fmt: skip
def test_what_is_not_understood_or_does_not_fit_is_left_out(
    tensors: dict[str, Tensor], told: dict[str, Any], expected: str
) -> None:
    assert expected in reason({**tensors, "a.comfy_quant": mark(**told)})


@pytest.mark.parametrize("raw", [b"[1]", b"nonsense", b"\xff\xfe"])
def test_a_mark_that_is_no_object_is_not_understood(raw: bytes) -> None:
    told = torch.tensor(list(raw), dtype=torch.uint8)
    assert "mark of the weight is no JSON object" in reason({**FP8, "a.comfy_quant": told})


@settings(max_examples=200)
@given(
    told=st.dictionaries(
        st.sampled_from(["format", "convrot", "convrot_groupsize", "group_size", "params", "x"]),
        st.one_of(st.sampled_from([*DTYPES, "", None, 16, 32, -1, True, 0.5, [1]]),
                  st.dictionaries(st.sampled_from(["convrot", "format"]), st.booleans())),
    ),
    shape=st.lists(st.sampled_from([1, 4, 16, 32]), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.uint8, torch.int8, E4M3]),
    scale=st.sampled_from([(), (1,), (4, 1), (128, 4), (256, 4)]),
)  # fmt: skip
def test_any_mark_makes_a_weight_or_a_reason(
    told: dict[str, Any], shape: list[int], dtype: torch.dtype, scale: tuple[int, ...]
) -> None:
    tensors = {"a.weight": torch.ones(shape).to(dtype), "a.comfy_quant": mark(**told),
               "a.weight_scale": torch.ones(scale).to(dtype if len(scale) > 1 else torch.float32),
               "a.weight_scale_2": torch.ones(())}  # fmt: skip
    checkpoint = stored(tensors)
    for entry in checkpoint.entries.values():
        assert tuple(checkpoint.read(entry).shape) == entry.shape
    assert len(checkpoint.entries) + len(checkpoint.skipped) == 1
    assert all(skipped.reason.isprintable() for skipped in checkpoint.skipped)
