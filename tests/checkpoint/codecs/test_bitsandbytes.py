"""bitsandbytes' weights against bitsandbytes itself, which runs on the processor."""

import copy
import json
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from bitsandbytes.functional import QuantState
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt, Params4bit
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from checkpoint.codecs.memory import codec_of, folder_of, reason, stored, weight
from spectra.checkpoint.shards import open_file
from spectra.errors import CheckpointError

STATE = "a.weight.quant_state.bitsandbytes__nf4"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def four_bits(
    shape: tuple[int, ...],
    kind: str = "nf4",
    dtype: torch.dtype = torch.float32,
    run: int = 64,
    *,
    nested: bool = False,
    storage: torch.dtype = torch.uint8,
    seed: int = 0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return a weight as bitsandbytes saves it, and as it reads it back."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    packed, state = bnb.quantize_4bit(
        values, blocksize=run, compress_statistics=nested, quant_type=kind, quant_storage=storage
    )
    parts = {f"a.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    return {"a.weight": packed, **parts}, read_back(packed, state)


def read_back(packed: Tensor, state: QuantState) -> Tensor:
    """Let bitsandbytes decode a weight, as one long row.

    Its code for AVX-512 begins each row with a new scale, which is another one than that the
    values were divided by where a row is no whole number of runs; other processors do not.
    """
    shape = state.shape
    whole = copy.copy(state)
    whole.shape = torch.Size((1, shape.numel()))
    found: Tensor = bnb.dequantize_4bit(packed, whole)
    return found.reshape(shape)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 70),
    kind=st.sampled_from(["nf4", "fp4"]),
    dtype=st.sampled_from(DTYPES),
    run=st.sampled_from([64, 128, 256]),
    nested=st.booleans(),
    seed=st.integers(0, 9),
)
def test_four_bits_are_what_bitsandbytes_reads(
    rows: int, cols: int, kind: str, dtype: torch.dtype, run: int, nested: bool, seed: int
) -> None:
    assume(rows * cols > 2)  # one byte: bitsandbytes takes it for a row and turns the result
    tensors, expected = four_bits((rows, cols), kind, dtype, run, nested=nested, seed=seed)
    checkpoint = stored(tensors)
    entry = checkpoint.entries["a.weight"]
    assert (codec_of(checkpoint), entry.dtype) == (f"bitsandbytes-{kind}", "U8")
    assert list(checkpoint.entries) == ["a.weight"]
    assert torch.equal(weight(checkpoint).to(dtype), expected)


def test_scales_of_scales_span_several_runs() -> None:
    tensors, expected = four_bits((256, 160), nested=True)  # 640 scales, 256 to a run
    assert tensors["a.weight.nested_absmax"].shape == (3,)
    assert torch.equal(weight(stored(tensors)), expected)


def test_bytes_may_be_stored_as_floats() -> None:
    tensors, expected = four_bits((32, 64), dtype=torch.bfloat16, storage=torch.bfloat16)
    assert tensors["a.weight"].dtype == torch.bfloat16
    assert torch.equal(weight(stored(tensors)).bfloat16(), expected)


def test_a_module_saved_by_bitsandbytes_is_read(generator: torch.Generator) -> None:
    layer: torch.nn.Linear = Linear4bit(  # type: ignore[no-untyped-call]
        96, 40, bias=True, compress_statistics=True, quant_type="nf4"
    )
    layer.load_state_dict({"weight": torch.randn(40, 96, generator=generator),
                           "bias": torch.randn(40, generator=generator)})  # fmt: skip
    layer = layer.to("cpu")
    tensors = {f"a.{key}": value for key, value in layer.state_dict().items()}
    checkpoint = stored(tensors, quantization={"quant_method": "bitsandbytes"})
    assert list(checkpoint.entries) == ["a.bias", "a.weight"]
    assert isinstance(layer.weight, Params4bit)
    expected = read_back(layer.weight.data, layer.weight.quant_state)
    assert torch.equal(weight(checkpoint).to(expected.dtype), expected)


@settings(max_examples=30)
@given(rows=st.integers(1, 30), cols=st.integers(1, 50), seed=st.integers(0, 9))
def test_int8_rows_are_what_bitsandbytes_reads(rows: int, cols: int, seed: int) -> None:
    values = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)).half()
    packed, scales, _outliers = bnb.int8_vectorwise_quant(values)
    tensors = {"a.weight": packed, "a.SCB": scales,
               "a.weight_format": torch.tensor(0, dtype=torch.uint8)}  # fmt: skip
    checkpoint = stored(tensors)
    entry = checkpoint.entries["a.weight"]
    assert (codec_of(checkpoint), entry.dtype) == ("bitsandbytes-int8", "I8")
    assert torch.equal(weight(checkpoint), bnb.int8_vectorwise_dequant(packed, scales))


def test_an_int8_module_saved_by_bitsandbytes_is_read(generator: torch.Generator) -> None:
    layer: torch.nn.Linear = Linear8bitLt(64, 24, bias=False, has_fp16_weights=False)
    original = torch.randn(24, 64, generator=generator).half()
    layer.load_state_dict({"weight": original})
    layer = layer.to("cpu")
    tensors = {f"a.{key}": value for key, value in layer.state_dict().items()}
    assert set(tensors) == {"a.weight", "a.SCB", "a.weight_format"}
    values = weight(stored(tensors, quantization={"quant_method": "bitsandbytes"}))
    assert torch.allclose(values, original.float(), atol=float(original.abs().max()) / 127)


def test_an_int8_layout_for_tensor_cores_of_old_is_refused() -> None:
    tensors = {"a.weight": torch.ones(2, 2, dtype=torch.int8), "a.SCB": torch.ones(2),
               "a.weight_format": torch.tensor(2, dtype=torch.uint8)}  # fmt: skip
    checkpoint = stored(tensors)
    with pytest.raises(CheckpointError, match=r"holds the layout 2, expected 0 \(row\)"):
        checkpoint.read(checkpoint.entries["a.weight"])


def test_states_that_lie_far_apart_are_read_each_alone() -> None:
    tensors, expected = four_bits((256, 512))
    both = {key.replace("a.", f"{name}.", 1): value for name in "ab"
            for key, value in tensors.items()}  # fmt: skip
    folder = folder_of({key: value.clone() for key, value in both.items()})
    folder.concurrency = 3
    checkpoint = open_file(folder, "model-0.safetensors")
    assert max(stop - start for start, stop in folder.files["model-0.safetensors"].reads) < 5000
    assert torch.equal(weight(checkpoint, "b.weight"), expected)


def lying(**changes: Any) -> dict[str, Tensor]:  # noqa: ANN401 - any JSON value
    """Return a weight [8, 16] whose state says something else."""
    tensors, _expected = four_bits((8, 16))
    told = json.loads(bytes(tensors[STATE].tolist()))
    return {**tensors, STATE: text(json.dumps({**told, **changes}))}


def text(written: str) -> Tensor:
    return torch.frombuffer(bytearray(written.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [8, 17]},
        {"shape": [8, 14]},
        {"shape": [1 << 40, 1 << 40]},
        {"shape": [(1 << 31) - 1] * 8},
        {"shape": [-8, -16]},
        {"shape": [8.0, 16.0]},
        {"shape": [True, 128]},
        {"shape": []},
        {"shape": [1] * 9},
        {"shape": None},
        {"shape": "8x16"},
        {"blocksize": 0},
        {"blocksize": -64},
        {"blocksize": 1},
        {"blocksize": 1 << 62},
        {"blocksize": 64.0},
        {"blocksize": True},
        {"quant_type": "fp4"},
        {"quant_type": None},
    ],
)
def test_a_state_that_lies_is_left_out_with_its_reason(changes: dict[str, object]) -> None:
    assert reason(lying(**changes))


@pytest.mark.parametrize(
    "written", ["", "{", "null", "[]", "[" * 5000, '{"shape": NaN}', "\x00", "1" * 5000, "\ud800"]
)
def test_a_state_that_is_no_object_is_left_out(written: str) -> None:
    tensors, _expected = four_bits((8, 16))
    raw = torch.frombuffer(bytearray(written.encode("utf-8", "surrogatepass") or b" "),
                           dtype=torch.uint8)  # fmt: skip
    assert "no JSON object of the type nf4" in reason({**tensors, STATE: raw})


def test_a_state_of_megabytes_is_not_read() -> None:
    tensors, _expected = four_bits((8, 16))
    huge = torch.zeros(1 << 20, dtype=torch.uint8)
    assert "too long" in reason({**tensors, STATE: huge})


@pytest.mark.parametrize(
    "offset", [None, float("nan"), float("inf"), 1e39, 10**400, "0", True, [0]]
)
def test_an_offset_that_is_no_number_is_left_out(offset: object) -> None:
    tensors, _expected = four_bits((8, 16), nested=True)
    told = json.loads(bytes(tensors[STATE].tolist()))
    tensors[STATE] = text(json.dumps({**told, "nested_offset": offset}))
    assert "nested_offset" in reason(tensors)


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        ("absmax", torch.ones(3)),
        ("absmax", torch.ones(2, dtype=torch.float64)),
        ("absmax", torch.ones(0)),
        ("quant_map", torch.ones(15)),
        ("quant_map", torch.ones(16, dtype=torch.int32)),
    ],
)
def test_parts_that_do_not_fit_are_named(part: str, bad: Tensor) -> None:
    tensors, _expected = four_bits((8, 16))
    assert reason({**tensors, f"a.weight.{part}": bad}).startswith(f"{part} is ")
    del tensors[f"a.weight.{part}"]
    assert reason(tensors) == f"{part} is missing"


def test_parts_without_their_state_are_no_matrices() -> None:
    tensors, _expected = four_bits((8, 16), nested=True)
    del tensors[STATE]
    checkpoint = stored(tensors, quantization={"quant_method": "bitsandbytes"})
    assert not checkpoint.entries
    told = {skipped.tensor: skipped.reason for skipped in checkpoint.skipped}["a.weight"]
    assert told == "packed integers without the parts that bitsandbytes stores beside them"
    assert len(checkpoint.skipped) == 5
