"""FP8 and int8 with scales against transformers and compressed-tensors."""

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
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import (
    Fp8Dequantize,
    Fp8Quantize,
    _dequantize_fp8_weight,
)

from checkpoint.codecs.memory import codec_of, nan_equal, reason, stored, weight

E4M3, E5M2, E8M0 = torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu


def fp8(*shape: int, seed: int = 0, dtype: torch.dtype = E4M3) -> Tensor:
    """Return random float8 values, none of them NaN."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 60).clamp(-440, 440).to(dtype)


def factors(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


class Quantizer:
    """As much of transformers' quantizer as its conversions look at."""

    def __init__(self, block: tuple[int, int], *, exponents: bool) -> None:
        self.quantization_config = FineGrainedFP8Config(
            weight_block_size=block, scale_fmt="ue8m0" if exponents else "float"
        )


def converted(stored: Tensor, scale: Tensor) -> Tensor:
    """Return what transformers loads, the size of blocks taken from the grid of scales."""
    conversion = Fp8Dequantize(None)  # type: ignore[no-untyped-call]
    return conversion._dequantize_one(stored, scale, torch.float32)


def in_blocks(tensors: dict[str, Tensor], block: list[int] | None) -> Tensor:
    """Return what transformers multiplies with, blocks of a given size, the last ones cut."""
    stored, scale = tensors.values()
    return _dequantize_fp8_weight(stored, scale, block, torch.float32)


def fine_grained(block: list[int] | None) -> dict[str, Any]:
    return {"quant_method": "fp8", "weight_block_size": block}


@settings(max_examples=40)
@given(
    tiles=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    block=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    exponents=st.booleans(),
    experts=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 9),
)
def test_fp8_blocks_are_what_transformers_writes_and_reads(
    tiles: tuple[int, int], block: tuple[int, int], exponents: bool, experts: int, seed: int
) -> None:
    shape = (*((experts,) if experts else ()), tiles[0] * block[0], tiles[1] * block[1])
    original = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    name = "a.gate_up_proj" if experts else "a.weight"
    conversion: Any = Fp8Quantize(  # type: ignore[no-untyped-call]
        Quantizer(block, exponents=exponents)
    )
    tensors = conversion.convert({name: original})
    assert len(tensors) == 2
    checkpoint = stored(tensors, quantization=fine_grained(list(block)))
    entry = checkpoint.entries[name]
    assert (codec_of(checkpoint, name), entry.dtype) == ("deepseek-fp8", "F8_E4M3")
    expected = converted(tensors[name], tensors[f"{name}_scale_inv"])
    assert torch.equal(weight(checkpoint, name), expected)


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    block=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    seed=st.integers(0, 9),
)
def test_the_last_block_may_be_cut(
    shape: tuple[int, int], block: tuple[int, int], seed: int
) -> None:
    grid = tuple(-(-extent // size) for extent, size in zip(shape, block, strict=True))
    tensors = {"a.weight": fp8(*shape, seed=seed), "a.weight_scale_inv": factors(*grid)}
    expected = in_blocks(tensors, list(block))
    read = weight(stored(tensors, quantization=fine_grained(list(block))))
    assert torch.equal(read, expected)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_is_for_all(shape: tuple[int, ...]) -> None:
    tensors = {"a.weight": fp8(6, 5), "a.weight_scale_inv": torch.full(shape, 0.3)}
    expected = in_blocks(tensors, None)
    assert torch.equal(weight(stored(tensors, quantization=fine_grained(None))), expected)


def test_scales_may_be_exponents_in_bytes() -> None:
    scale = torch.arange(118, 130, dtype=torch.uint8).view(3, 4)
    tensors = {"a.weight": fp8(6, 128), "a.weight_scale_inv": scale}
    expected = converted(*tensors.values())
    read = weight(stored(tensors, quantization={"quant_method": "mxfp8"}))
    assert torch.equal(read, expected)


def test_every_exponent_means_what_torch_says() -> None:
    scale = torch.arange(255, dtype=torch.uint8)[:, None]  # 255 is NaN there, infinite here
    ones = torch.ones(255, 1).to(E4M3)
    read = weight(stored({"a.weight": ones, "a.weight_scale_inv": scale}))
    assert torch.equal(read, scale.view(E8M0).float())


def test_four_bit_experts_are_what_transformers_reads() -> None:
    packed = torch.randint(-128, 128, (2, 6, 32), dtype=torch.int8)
    scale = torch.randint(110, 140, (2, 6, 2), dtype=torch.uint8).view(E8M0)
    tensors = {"a.up_proj": packed, "a.up_proj_scale_inv": scale}
    checkpoint = stored(tensors, quantization=fine_grained([128, 128]))
    entry = checkpoint.entries["a.up_proj"]
    assert (codec_of(checkpoint, "a.up_proj"), entry.shape) == ("deepseek-fp4", (2, 6, 64))
    expected = converted(packed, scale)
    assert torch.equal(weight(checkpoint, "a.up_proj"), expected)


def test_of_a_stack_only_the_expert_asked_for_is_read() -> None:
    tensors = {"a.up_proj": fp8(4, 8, 8), "a.up_proj_scale_inv": factors(4, 2, 2)}
    checkpoint = stored(tensors, quantization=fine_grained([4, 4]))
    file: Any = checkpoint.files["model-0.safetensors"]
    file.reads.clear()
    checkpoint.read(checkpoint.entries["a.up_proj"], (2, 3))
    assert sorted(stop - start for start, stop in file.reads) == [16, 64]


def test_parts_may_lie_in_several_files() -> None:
    values, scale, other = fp8(8, 8), factors(2, 2), torch.ones(3, 3)
    shards = {"a.weight_scale_inv": scale, "b.weight": other}, {"a.weight": values}
    checkpoint = stored(*shards, quantization=fine_grained([4, 4]))
    assert list(checkpoint.entries) == ["a.weight", "b.weight"]  # in the place of the first part
    entry = checkpoint.entries["a.weight"]
    assert (entry.shard, entry.nbytes) == ("model-1.safetensors", 64 + 16)
    expected = in_blocks({"a.weight": values, "a.weight_scale_inv": scale}, [4, 4])
    assert torch.equal(weight(checkpoint), expected)


def compressed(
    args: QuantizationArgs, layout: str, seed: int, shape: tuple[int, int]
) -> tuple[dict[str, Tensor], Tensor, dict[str, Any]]:
    """Return what compressed-tensors stores, reads back, and says in the config."""
    generator = torch.Generator().manual_seed(seed)
    rows, cols = shape
    grids = {"tensor": (1,), "channel": (rows, 1), "group": (rows, cols // (args.group_size or 1))}
    if args.strategy == "block":
        high, wide = args.block_structure or (1, 1)
        grids["block"] = (-(-rows // high), -(-cols // wide))
    scale = torch.rand(grids[str(args.strategy)], generator=generator).bfloat16() * 0.1 + 0.01
    state = {"weight": torch.randn(shape, generator=generator).bfloat16(), "weight_scale": scale}
    if not args.symmetric:
        zero = torch.randint(-20, 20, scale.shape, generator=generator, dtype=torch.int8)
        state["weight_zero_point"] = zero
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(layout)
    parts = compressor.compress(state, scheme)
    config = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
    }
    expected = compressor.decompress(parts, scheme)["weight"]
    return {f"a.{key}": value for key, value in parts.items()}, expected, config


@settings(max_examples=60)
@given(
    rows=st.integers(1, 20),
    groups=st.integers(1, 5),
    size=st.sampled_from([1, 4, 7]),
    strategy=st.sampled_from(["tensor", "channel", "group", "block"]),
    kind=st.sampled_from(["float", "int"]),
    symmetric=st.booleans(),
    layout=st.sampled_from(["naive-quantized", "float-quantized", "int-quantized"]),
    seed=st.integers(0, 9),
)
def test_eight_bits_are_what_compressed_tensors_reads(
    rows: int, groups: int, size: int, strategy: str, kind: str, symmetric: bool, layout: str,
    seed: int,
) -> None:  # fmt: skip
    args = QuantizationArgs(
        num_bits=8,
        type=kind,
        strategy=strategy,
        symmetric=symmetric or kind == "float",
        group_size=size if strategy == "group" else None,
        block_structure=[3, size] if strategy == "block" else None,
    )
    cols = groups * size + (size // 2 if strategy == "block" else 0)
    tensors, expected, config = compressed(args, layout, seed, (rows, cols))
    checkpoint = stored(tensors, quantization=config)
    entry = checkpoint.entries["a.weight"]
    name = "compressed-tensors-" + ("fp8" if kind == "float" else "int8")
    assert (codec_of(checkpoint), entry.shape) == (name, (rows, cols))
    assert nan_equal(weight(checkpoint).bfloat16(), expected)


def test_mxfp8_is_what_compressed_tensors_reads() -> None:
    args = QuantizationArgs(num_bits=8, type="float", strategy="group", group_size=32,
                            scale_dtype=torch.uint8)  # fmt: skip
    tensors, expected, config = compressed(args, "mxfp8-quantized", 1, (6, 96))
    assert tensors["a.weight_scale"].dtype == torch.uint8
    checkpoint = stored(tensors, quantization=config)
    assert codec_of(checkpoint) == "compressed-tensors-mxfp8"
    assert torch.equal(weight(checkpoint).bfloat16(), expected)


@pytest.mark.parametrize(
    ("method", "shape", "name"),
    [
        ("fbgemm_fp8", (6, 1), "fbgemm-fp8"),
        ("modelopt", (), "modelopt-fp8"),
        ("modelopt", (6,), "modelopt-fp8"),
        ("fp8", (1,), "scaled-fp8"),
    ],
)
def test_scales_by_row_or_tensor_are_factors(
    method: str, shape: tuple[int, ...], name: str
) -> None:
    values, scale = fp8(6, 4), factors(*shape)
    checkpoint = stored({"a.weight": values, "a.weight_scale": scale},
                        quantization={"quant_method": method})  # fmt: skip
    assert codec_of(checkpoint) == name
    spread = scale.reshape(-1, 1).expand(6, 1)
    for row, col in ((0, 0), (5, 3), (2, 1)):
        expected = float(values[row, col]) * float(spread[row, 0])
        assert float(weight(checkpoint)[row, col]) == pytest.approx(expected, rel=1e-7, abs=0)


def test_experts_scaled_by_column_are_read() -> None:
    """FBGEMM's Llama 4 experts: [experts, in, out] with a scale for each output."""
    values, scale = fp8(3, 4, 6), factors(3, 1, 6)
    tensors = {"a.gate_up_proj": values, "a.gate_up_proj_scale": scale}
    checkpoint = stored(tensors, quantization={"quant_method": "fbgemm_fp8"})
    assert torch.equal(weight(checkpoint, "a.gate_up_proj"), values.float() * scale)


@pytest.mark.parametrize("dtype", [E4M3, E5M2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])
def test_float8_without_scales_stands_as_it_is(dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
    checkpoint = stored({"a.weight": values, "b": values, "a.bias": torch.ones(3)})
    assert set(checkpoint.entries) == {"a.weight", "b", "a.bias"}
    for name in ("a.weight", "b"):
        entry = checkpoint.entries[name]
        assert codec_of(checkpoint, name) == "float8"
        assert nan_equal(checkpoint.read(entry), values.float())


@pytest.mark.parametrize(
    ("tensors", "quantization", "expected"),
    [
        ({"a.weight": fp8(4, 4)}, {"quant_method": "fp8"}, "the scale that fp8 stores"),
        ({"a.weight": fp8(4, 4), "a.scale_weight": factors(4)}, None, "scale_weight is F32 [4]"),
        ({"a.weight._data": fp8(4, 4), "a.weight._scale": factors(4, 1)}, None, "with a scale"),
        ({"a.weight": fp8(4, 4), "a.weight_scale": factors(4, 1)}, {"quant_method": "quark"},
         "of the scheme quark are not read"),
        ({"a.weight": fp8(4, 4), "a.weight_scale_inv": factors(3, 4)}, fine_grained([2, 2]),
         "scales [3, 4] do not cover weights [4, 4]"),
        ({"a.weight": fp8(4, 4), "a.weight_scale_inv": factors(2, 2, 1)}, None,
         "scales [2, 2, 1] do not cover weights [4, 4]"),
        ({"a.weight": fp8(2, 4, 4), "a.weight_scale_inv": factors(3, 2, 2)}, None,
         "scales [3, 2, 2] do not cover weights [2, 4, 4]"),
        ({"a.weight": fp8(4, 4), "a.weight_scale": factors(0, 4)}, None, "scale is F32 [0, 4]"),
        ({"a.weight": fp8(4, 4), "a.weight_scale": torch.ones(4, 1, dtype=torch.int64)}, None,
         "scale is I64 [4, 1]"),
        ({"a.weight": fp8(4), "a.weight_scale": factors(4)}, None, "the weights are F8_E4M3 [4]"),
        ({"a.weight": fp8(0, 4), "a.weight_scale": factors(1)}, None, "[0, 4]"),
        ({"a.weight": torch.ones(4, 4, dtype=torch.uint8), "a.weight_scale": factors(1)},
         {"quant_method": "bitnet"}, "of the scheme bitnet are not read"),
        ({"a.weight": fp8(4, 4), "a.weight_scale": factors(4, 1),
          "a.weight_zero_point": factors(4)}, None, "zero_point is F32 [4], expected"),
        ({"a.weight": fp8(4, 4), "a.weight_scale": factors(4, 1),
          "a.pre_quant_scale": factors(4)}, {"quant_method": "modelopt"}, "permuted or scaled"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_left_out_with_its_reason(
    tensors: dict[str, Tensor], quantization: dict[str, Any] | None, expected: str
) -> None:
    assert expected in reason(tensors, quantization=quantization)


def test_sizes_that_cover_a_weight_in_two_ways_are_left_out() -> None:
    groups = {str(size): {"weights": {"block_structure": [size, size]}} for size in (4, 6)}
    config = {"quant_method": "compressed-tensors", "config_groups": groups}
    tensors = {"a.weight": fp8(7, 7), "a.weight_scale": factors(2, 2)}
    assert "in one way alone" in reason(tensors, quantization=config)
    del groups["6"]
    expected = in_blocks(tensors, [4, 4])
    assert torch.equal(weight(stored(tensors, quantization=config)), expected)
