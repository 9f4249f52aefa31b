"""Which stored tensors become weights, which are left out, and that nothing else happens."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from checkpoint.codecs.memory import MemoryFile, folder_of, stored
from spectra.checkpoint.codecs import read_small
from spectra.checkpoint.entry import TensorEntry
from spectra.checkpoint.shards import open_file
from spectra.errors import CheckpointError

BYTES, WORDS, ROWS = torch.ones(4, 4).byte(), torch.ones(4, 4).int(), torch.ones(4, 1)

UNREAD = {
    "hqq": {"a.W_q": BYTES, "a.scale": ROWS, "a.zero": ROWS, "a.meta": BYTES},
    "aqlm": {"a.codes": torch.ones(4, 4, 1).char(), "a.codebooks": torch.ones(1, 4, 1, 8),
             "a.scales": torch.ones(4, 1, 1, 1)},
    "quip": {"a.Qidxs": torch.ones(4, 4).long(), "a.SU": torch.ones(4), "a.SV": torch.ones(4)},
    "exl2": {"a.q_weight": WORDS, "a.q_scale": WORDS, "a.q_scale_max": torch.ones(4).half()},
    "exl3": {"a.trellis": torch.ones(4, 4, 4).short(), "a.suh": torch.ones(4, 4)},
    "quanto": {"a.weight._data": torch.ones(4, 4).char(), "a.weight._scale": ROWS,
               "a.input_scale": torch.ones(1)},
    "eetq": {"a.weight": torch.ones(4, 4).char(), "a.weight_scales": torch.ones(4)},
    "spqr": {"a.dense_weights": torch.ones(4).long(), "a.in_perm": torch.ones(4).short()},
    "vptq": {"a.indices": WORDS, "a.centroids.weight": torch.ones(1, 64),
             "a.res_centroids.weight": torch.ones(1, 64)},
    "torchao": {"a.weight_qdata": torch.ones(4, 4).char(), "a.weight_scale": ROWS},
    "higgs": {"a.weight": torch.ones(4, 4).short(), "a.scales": ROWS, "a.tables": torch.ones(4, 2)},
    "bitnet": {"a.weight": BYTES, "a.weight_scale": torch.ones(1)},
    "marlin": {"a.B": WORDS, "a.s": torch.ones(4, 4).half()},
    "quark": {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": ROWS},
    "auto-round": {"a.qweight": WORDS, "a.qzeros": WORDS, "a.scales": ROWS},
    "fp_quant": {"a.qweight": BYTES, "a.scales": BYTES, "a.forward_hadamard_matrix": ROWS},
    "gptqmodel-7.7": {"a.codes_of_its_own": WORDS, "a.grid": torch.ones(4, 4)},
}  # fmt: skip


@pytest.mark.parametrize("method", UNREAD)
def test_a_scheme_that_is_not_read_is_left_out_by_name_and_alone(method: str) -> None:
    plain = {"a.bias": torch.ones(4), "b.weight": torch.ones(3, 3), "ab.scale": torch.ones(2, 2),
             "ids": torch.arange(4)}  # fmt: skip
    checkpoint = stored({**UNREAD[method], **plain}, quantization={"quant_method": method})
    assert {name for name, entry in checkpoint.entries.items() if entry.is_weights} == (
        plain.keys() - {"ids"}
    )
    assert checkpoint.skipped
    for skipped in checkpoint.skipped:
        assert skipped.reason == f"weights of the scheme {method} are not read"


@pytest.mark.parametrize("method", ["hqq", "aqlm", "quip", "exl2", "exl3", "quanto", "eetq"])
def test_a_scheme_is_known_by_its_names_without_a_config(method: str) -> None:
    checkpoint = stored({**UNREAD[method], "b.weight": torch.ones(3, 3)})
    weights = [name for name, entry in checkpoint.entries.items() if entry.is_weights]
    assert weights == ["b.weight"]
    assert {method in skipped.reason for skipped in checkpoint.skipped} == {True}


def test_openais_own_names_for_mxfp4_are_left_out() -> None:
    tensors = {"block.0.mlp.mlp1_weight.blocks": torch.ones(2, 4, 1, 16).byte(),
               "block.0.mlp.mlp1_weight.scales": torch.ones(2, 4, 1).byte(),
               "block.0.mlp.mlp1_bias": torch.ones(2, 4)}  # fmt: skip
    checkpoint = stored(tensors, quantization={"quant_method": "mxfp4"})
    assert list(checkpoint.entries) == ["block.0.mlp.mlp1_bias"]
    assert "mxfp4 as OpenAI stores it" in checkpoint.skipped[0].reason


def test_scales_without_their_weight_are_no_matrices() -> None:
    lost = ("a.weight_scale", "a.weight_scale_inv", "b.qzeros", "c.weight_zero_point", "d.SCB",
            "e.weight.absmax", "x.experts.down_proj_scale")  # fmt: skip
    checkpoint = stored({name: torch.ones(4, 4) for name in (*lost, "f.weight", "f.my_scale")})
    assert set(checkpoint.entries) == {"f.weight", "f.my_scale"}
    assert {skipped.tensor for skipped in checkpoint.skipped} == set(lost)


def test_a_float_weight_keeps_its_values_beside_a_scale() -> None:
    values = torch.rand(4, 4)
    checkpoint = stored({"a.weight": values, "a.weight_scale": ROWS},
                        quantization={"quant_method": "compressed-tensors"})  # fmt: skip
    assert torch.equal(checkpoint.read(checkpoint.entries["a.weight"]), values)
    assert list(checkpoint.entries) == ["a.weight"]


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": None},
        {"quantization_config": []},
        {"quantization_config": {"quant_method": 7, "config_groups": {"a": None, "b": {}}}},
        {"quantization_config": {"config_groups": {"a": {"weights": {"num_bits": "4"}}}}},
        {"quantization_config": {"weight_block_size": [0, -1]}},
        {"quantization_config": {"weight_block_size": [2.0, 2.0]}},
        {"quantization_config": {"weight_block_size": "x"}},
        {"quantization_config": {"weight_block_size": [1 << 70, 1]}},
        {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
        {"text_config": 3},
        {"compression_config": {"quant_method": "compressed-tensors"}},
    ],
)
def test_settings_that_mean_nothing_are_no_settings(config: dict[str, Any]) -> None:
    tensors = {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "b.weight": torch.ones(2, 2)}
    inverse = "compression_config" not in config
    tensors["a.weight_scale_inv" if inverse else "a.weight_scale"] = torch.full((2, 2), 0.5)
    checkpoint = stored(tensors, **config)
    assert not checkpoint.skipped
    assert (checkpoint.read(checkpoint.entries["a.weight"]) == 0.5).all()


def test_blocks_may_be_written_as_text() -> None:
    weights = {"type": "float", "num_bits": 8, "strategy": "block", "block_structure": "3x3"}
    config = {"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": weights}}}
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensors = {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": scale}
    checkpoint = stored(tensors, quantization=config)
    assert checkpoint.read(checkpoint.entries["a.weight"])[2:].tolist() == [
        [1, 1, 1, 2], [3, 3, 3, 4]
    ]  # fmt: skip


def test_a_model_that_is_not_quantised_is_read_as_it_is() -> None:
    tensors = {"x.weight": torch.ones(2, 2), "x.ids": WORDS, "x.mask": BYTES, "x.scales": ROWS,
               "x.scale": ROWS, "x_scale": ROWS, "x_blocks": ROWS, "zeros": WORDS}  # fmt: skip
    checkpoint = stored(tensors)
    assert set(checkpoint.entries) == set(tensors)
    assert not any(entry.codec for entry in checkpoint.entries.values())
    assert not checkpoint.skipped


def test_small_tensors_that_lie_together_are_read_at_once() -> None:
    near = [TensorEntry(str(i), "I64", (2,), "one", 100 * i, 100 * i + 16) for i in range(9)]
    far = [TensorEntry("far", "I64", (2,), "one", 90_000, 90_016),
           TensorEntry("other", "I64", (2,), "two", 0, 16)]  # fmt: skip
    large = TensorEntry("large", "U8", (1 << 17,), "one", 1000, 1000 + (1 << 17))
    files = {name: MemoryFile(name, bytes(range(256)) * 400) for name in ("one", "two")}
    read = read_small(files, 1, [*near, *far, large])
    assert files["one"].reads == [(0, 816), (90_000, 90_016)]
    assert files["two"].reads == [(0, 16)]
    assert "large" not in read
    assert read == read_small(files, 4, [*reversed(far), *near])
    assert read["3"] == files["one"].raw[300:316]


def test_a_file_that_ends_in_a_small_tensor_is_an_error() -> None:
    entry = TensorEntry("a", "I64", (2,), "one", 0, 16)
    with pytest.raises(CheckpointError, match=r"^one ended inside tensor 'a': .* Run again\.$"):
        read_small({"one": MemoryFile("one", b"short")}, 1, [entry])


DTYPES = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float16,
    torch.bfloat16, torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.bool, torch.uint32,
)  # fmt: skip
ENDINGS = (
    ".weight", ".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".weight_zero_point",
    ".weight_packed", ".weight_shape", ".weight_g_idx", ".weight_global_scale", ".qweight",
    ".qzeros", ".scales", ".g_idx", ".SCB", ".weight_format", ".weight.absmax", ".weight.quant_map",
    ".weight.nested_absmax", ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4", "", "_blocks", "_scales", "_scale", "_scale_inv",
    ".W_q", ".weight._data", ".weight._scale", ".biases", ".qbiases", ".comfy_quant", ".bias",
    ".scale_weight", ".pre_quant_scale", ".R1_input.weight",
)  # fmt: skip
METHODS = (
    None, "gptq", "awq", "compressed-tensors", "fp8", "bitsandbytes", "mxfp4", "modelopt", "hqq",
    "metal",
)  # fmt: skip
shapes = st.lists(st.sampled_from([0, 1, 2, 4, 8, 16, 32]), max_size=4)
parts = st.tuples(st.sampled_from(DTYPES), shapes)


def tensor_of(dtype: torch.dtype, shape: list[int], seed: int) -> Tensor:
    width = torch.empty(0, dtype=dtype).element_size()
    count = width
    for extent in shape:
        count *= extent
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count,),
                        generator=torch.Generator().manual_seed(seed))  # fmt: skip
    return raw.byte().view(dtype).reshape(shape)


@settings(max_examples=200)
@given(
    found=st.dictionaries(st.sampled_from(ENDINGS), parts, min_size=1, max_size=6),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 9),
)
def test_any_parts_become_a_weight_or_a_reason(
    found: dict[str, tuple[torch.dtype, list[int]]], method: str | None, seed: int
) -> None:
    tensors = {f"a{ending}": tensor_of(*part, seed) for ending, part in found.items()}
    quantization = {"quant_method": method, "bits": 4} if method else None
    checkpoint = open_file(folder_of(tensors, quantization=quantization), "model-0.safetensors")
    read = set()
    for name, entry in checkpoint.entries.items():
        assert name == entry.name
        if entry.codec is None:
            read.add(name)
            continue
        read.update(part.name for part in entry.codec.parts)
        assert entry.nbytes == sum(part.nbytes for part in entry.codec.parts)
        try:
            values = checkpoint.read(entry)
        except CheckpointError as error:
            assert str(error).isprintable()  # noqa: PT017 - it may also be read
            continue
        assert tuple(values.shape) == entry.shape
        assert values.is_floating_point()
    assert len({skipped.tensor for skipped in checkpoint.skipped}) == len(checkpoint.skipped)
    assert read <= tensors.keys()
    assert all(skipped.reason.isprintable() for skipped in checkpoint.skipped)
    assert read or checkpoint.skipped


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.uint32])
def test_what_lies_beside_packed_integers_of_no_name_is_no_weight(dtype: torch.dtype) -> None:
    words = torch.ones(4, 4).to(dtype)
    tensors = {"a.packed_weight": words, "a.biases": torch.ones(4, 4), "a.zeros": torch.ones(4, 4),
               "a.bias": torch.ones(4), "b.weight": torch.ones(4, 4)}  # fmt: skip
    checkpoint = stored(tensors)
    assert set(checkpoint.entries) == {"a.bias", "b.weight"}
    assert {skipped.tensor for skipped in checkpoint.skipped} == {
        "a.packed_weight", "a.biases", "a.zeros"
    }  # fmt: skip
    assert {skipped.reason for skipped in checkpoint.skipped} == {
        "packed integers of a scheme that neither their names nor config.json tell"
    }


def test_positions_and_masks_are_no_packed_weights() -> None:
    tensors = {"a.position_ids": torch.arange(4)[None].int(), "a.mask": torch.ones(4, 4).byte(),
               "a.weight": torch.ones(4, 4), "a.scales": torch.ones(4, 4),
               "a.mask_of_weight": torch.ones(4, 4).byte(), "weight": torch.ones(4, 4).byte(),
               "proj": torch.ones(4, 4)}  # fmt: skip
    checkpoint = stored(tensors)
    assert set(checkpoint.entries) == set(tensors)
    assert not checkpoint.skipped


@pytest.mark.parametrize(
    ("name", "settings", "codec"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 32, "desc_act": True}, "gptq-4bit"),
        ("quant_config.json", {"zero_point": True, "q_group_size": 32, "w_bit": 4,
                               "version": "GEMM"}, "awq-4bit"),
        ("hf_quant_config.json", {"producer": {"name": "modelopt"},
                                  "quantization": {"quant_algo": "FP8"}}, "modelopt-fp8"),
    ],
)  # fmt: skip
def test_settings_may_stand_in_a_file_of_their_own(
    name: str, settings: dict[str, Any], codec: str
) -> None:
    words = {"a.qweight": torch.ones(4, 8).int(), "a.qzeros": torch.ones(1, 1).int(),
             "a.scales": torch.ones(1, 8).half()}  # fmt: skip
    if codec.startswith("awq"):
        words = {"a.qweight": torch.ones(32, 1).int(), "a.qzeros": torch.ones(1, 1).int(),
                 "a.scales": torch.ones(1, 8).half()}  # fmt: skip
    if codec.startswith("modelopt"):
        words = {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
                 "a.weight_scale": torch.ones(1)}  # fmt: skip
    folder = folder_of(words)
    folder.files[name] = MemoryFile(name, json.dumps(settings).encode())
    checkpoint = open_file(folder, "model-0.safetensors")
    found = checkpoint.entries["a.weight"].codec
    assert found is not None
    assert found.name == codec
    quantised = folder_of(words, quantization={"quant_method": "hqq"})
    quantised.files[name] = folder.files[name]
    assert not open_file(quantised, "model-0.safetensors").entries  # config.json goes first


def test_settings_beside_it_that_are_no_json_are_an_error() -> None:
    folder = folder_of({"a.weight": torch.ones(2, 2)})
    folder.files["quantize_config.json"] = MemoryFile("quantize_config.json", b"{")
    with pytest.raises(CheckpointError, match=r"quantize_config.json is not JSON"):
        open_file(folder, "model-0.safetensors")


def test_a_file_that_is_no_settings_is_none() -> None:
    folder = folder_of({"a.weight": torch.ones(2, 2)})
    folder.files["quant_config.json"] = MemoryFile("quant_config.json", b'{"layers": 3}')
    assert "quantization_config" not in open_file(folder, "model-0.safetensors").config


def test_what_lies_beside_packed_weights_that_are_left_out_is_no_weight() -> None:
    """Nunchaku's SVDQuant: a low-rank branch beside weights of four bits."""
    tensors = {"a.qweight": torch.ones(4, 4).char(), "a.wscales": torch.ones(4, 4),
               "a.proj_down": torch.ones(4, 2), "a.bias": torch.ones(4),
               "b.weight": torch.ones(4, 4)}  # fmt: skip
    checkpoint = stored(tensors)
    assert set(checkpoint.entries) == {"a.bias", "b.weight"}
    reasons = {skipped.tensor: skipped.reason for skipped in checkpoint.skipped}
    assert reasons["a.proj_down"] == reasons["a.wscales"]
    assert reasons["a.proj_down"] == "beside packed weights that are left out"
    assert "of the scheme unknown" in reasons["a.qweight"]
