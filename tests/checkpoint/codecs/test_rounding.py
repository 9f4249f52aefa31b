"""Half a step of each value's grid, against definitions and against what quantising has moved."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from checkpoint.codecs.memory import nan_equal, stored
from checkpoint.codecs.test_awq import config as awq
from checkpoint.codecs.test_awq import made as awq_made
from checkpoint.codecs.test_bitsandbytes import four_bits
from checkpoint.codecs.test_gptq import config as gptq
from checkpoint.codecs.test_gptq import made as gptq_made
from checkpoint.codecs.test_packed import config_of, packed
from checkpoint.test_gguf_codec import packed as gguf_bytes
from checkpoint.test_gguf_codec import write
from shards import opened
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.codecs.rounding import rounding_of
from spectra.checkpoint.reading import read_rounded

AFFINE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
BOOKS = ("IQ1_S", "IQ2_XXS", "IQ3_S", "TQ1_0")


def halves(checkpoint: Checkpoint, name: str = "a.weight") -> tuple[Tensor, Tensor]:
    """Return a weight and half its steps, after checks that hold for all."""
    entry = checkpoint.entries[name]
    values = checkpoint.read(entry)
    half = read_rounded(checkpoint.files, entry)[1]
    assert half is not None
    assert (half.shape, half.dtype) == (values.shape, torch.float32)
    part = read_rounded(checkpoint.files, entry, (1, 3))[1]
    assert part is not None
    assert nan_equal(part, half[1:3])
    return values, half


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_plain_values_have_no_step_of_their_own() -> None:
    checkpoint = stored({"a.weight": torch.ones(2, 2)})
    entry = checkpoint.entries["a.weight"]
    assert read_rounded(checkpoint.files, entry)[1] is None


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_steps_are_its_scales(bits: int) -> None:
    tensors, group = gptq_made(bits, 96, 32, 3)
    _, half = halves(stored(tensors, quantization=gptq(bits=bits)))
    expected = tensors["a.scales"].float().T[:, group] / 2
    torch.testing.assert_close(half, expected, rtol=2e-4, atol=0.0)


def test_awq_steps_are_its_scales() -> None:
    tensors = awq_made(8, 2, 2)
    _, half = halves(stored(tensors, quantization=awq()))
    expected = tensors["a.scales"].float().T.repeat_interleave(4, dim=1) / 2
    torch.testing.assert_close(half, expected, rtol=2e-5, atol=0.0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_steps_are_the_scales_at_every_width(bits: int) -> None:
    args = QuantizationArgs(num_bits=bits, strategy="group", group_size=8, symmetric=True)
    tensors, _, scheme = packed(args, (5, 40))
    _, half = halves(stored(tensors, quantization=config_of(scheme)))
    expected = tensors["a.weight_scale"].float().repeat_interleave(8, dim=1) / 2
    torch.testing.assert_close(half, expected, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_have_half_the_gap_to_a_neighbour(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(dtype)
    codes = codes[codes.float().isfinite()]
    codes = codes[: len(codes) // 2 * 2].reshape(2, -1).repeat(2, 1)
    tensors = {"a.weight": codes, "a.weight_scale": torch.full((4, 1), 0.25)}
    values, half = halves(stored(tensors, quantization={"quant_method": "fp8"}))
    spacing = torch.finfo(dtype).eps * torch.exp2((4 * values.abs()).log2().floor()) / 4
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps / 4
    expected = spacing.clamp(min=least) / 2
    assert ((half == expected) | (half == expected / 2)).all()  # below a power of two: half
    assert (half == expected).float().mean() > 0.9
    assert torch.equal(halves(stored({"a.weight": codes}))[1], 4 * half)


def test_the_largest_float_steps_down() -> None:
    """In e4m3fn the code above 448 is NaN; every block scaled to its largest entry holds it."""
    tensors = {"a.weight": torch.full((4, 4), 448.0).to(torch.float8_e4m3fn)}
    assert halves(stored(tensors))[1].unique().tolist() == [16.0]


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_what_bitsandbytes_has_moved_lies_within(kind: str) -> None:
    values = normal(64, 128)
    read, half = halves(stored(four_bits((64, 128), kind)[0]))
    near_zero = half < 0.02 * read.abs().amax() if kind == "fp4" else torch.zeros_like(half).bool()
    within(values[~near_zero], read[~near_zero], half[~near_zero])


@pytest.mark.parametrize("word", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"])
def test_what_gguf_has_moved_lies_within(tmp_path: Path, word: str) -> None:
    values = normal(64, 256)
    raw = gguf.quants.quantize(values.numpy(), Kind[word])
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, Kind[word])}))
    read, half = halves(checkpoint, "w")
    within(values, read, half)


def within(values: Tensor, read: Tensor, half: Tensor) -> None:
    """Compare the error with half steps: its size about theirs, few beyond."""
    error = (values - read).abs()
    assert (error <= 2.5 * half + 1e-6).float().mean() > 0.99
    ratio = float(error.square().mean().sqrt() / (half.square().mean() / 3).sqrt())
    assert 0.7 < ratio < 1.4


@pytest.mark.parametrize("word", AFFINE)
def test_values_of_a_run_differ_by_whole_steps(tmp_path: Path, word: str) -> None:
    kind = Kind[word]
    raw = np.random.default_rng(3).integers(0, 256, gguf_bytes(kind, 7, 512).shape, np.uint8)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, kind)}))
    values, half = halves(checkpoint, "w")
    runs, steps = values.double().view(-1, 16), 2 * half.double().view(-1, 16)
    sound = (runs.isfinite() & (steps > 0) & steps.isfinite()).all(dim=1)
    runs, steps = runs[sound], steps[sound]
    assert len(runs) > 50
    slack = 1e-6 * runs.abs().amax(dim=1, keepdim=True) / steps
    away = (runs - runs[:, :1]) / steps
    assert ((away - away.round()).abs() <= slack + 1e-3).float().mean() > 0.99


@pytest.mark.parametrize("word", BOOKS)
def test_code_books_have_about_the_distortion_of_their_rate(tmp_path: Path, word: str) -> None:
    kind = Kind[word]
    raw = gguf_bytes(kind, 6, 512)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, kind)}))
    entry = checkpoint.entries["w"]
    half = rounding_of(entry, torch.ones(6, 512), checkpoint.read)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert half is not None
    torch.testing.assert_close(half, torch.full((6, 512), 2 * 2 ** (-8 * size / block)))


def test_an_order_put_back_moves_no_value(tmp_path: Path) -> None:
    weights = {"blk.0.attn_q.weight": (normal(8, 8).numpy(), Kind.F32)}
    numbers = {"attention.head_count": 2, "attention.head_count_kv": 2}
    checkpoint = opened(write(tmp_path / "m.gguf", weights, "llama", numbers))
    (entry,) = checkpoint.entries.values()
    assert entry.codec is not None
    assert read_rounded(checkpoint.files, entry)[1] is None
