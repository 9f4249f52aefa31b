"""GPTQ against its published definition, one entry at a time in Python's own integers.

GPTQModel 7.7 (`convert_gptq_v1_to_v2_format_module`, `dequantize_weight`) defines the format; it
cannot be installed beside what the tests need.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from checkpoint.codecs.memory import codec_of, reason, stored, weight
from spectra.errors import CheckpointError

ONES = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}


def config(layout: str = "gptq", bits: int = 4, **more: object) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "checkpoint_format": layout, **more}


def words(*shape: int, seed: int) -> Tensor:
    """Return random words: every pattern of bits may be stored."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**31), 2**31, shape, generator=generator).int()


def fields(found: list[int], bits: int, count: int) -> list[int]:
    """Return fields packed from the lowest bit on: the words as one long number."""
    number = sum((word % 2**32) << 32 * place for place, word in enumerate(found))
    return [(number >> bits * place) % 2**bits for place in range(count)]


def zeros_of(row: list[int], bits: int, count: int, layout: str) -> list[int]:
    """Return one group's zero points; the first version stores them less one."""
    if layout == "gptq_v2":
        return fields(row, bits, count)
    if bits == 3:
        return [(zero + 1) % 8 for zero in fields(row, bits, count)]
    return fields([word + ONES[bits] for word in row], bits, count)


def defined(tensors: dict[str, Tensor], group: list[int], bits: int, layout: str) -> Tensor:
    """Return the weight by its definition, float64."""
    scales = tensors["a.scales"].double().tolist()
    outputs = len(scales[0])
    zeros = [zeros_of(row, bits, outputs, layout) for row in tensors["a.qzeros"].tolist()]
    columns = [fields(column, bits, len(group)) for column in tensors["a.qweight"].T.tolist()]
    rows = [
        [(code - zeros[g][out]) * scales[g][out] for code, g in zip(codes, group, strict=True)]
        for out, codes in enumerate(columns)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def made(
    bits: int, inputs: int, outputs: int, groups: int, seed: int = 0
) -> tuple[dict[str, Tensor], list[int]]:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(0, groups, (inputs,), generator=generator).int()
    tensors = {
        "a.qweight": words(-(-inputs * bits // 32), outputs, seed=seed),
        "a.qzeros": words(groups, -(-outputs * bits // 32), seed=seed + 1),
        "a.scales": torch.rand(groups, outputs, generator=generator).half(),
        "a.g_idx": group,
    }
    return tensors, group.tolist()


@settings(max_examples=60)
@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 40),
    groups=st.integers(1, 5),
    layout=st.sampled_from(["gptq", "gptq_v2"]),
    seed=st.integers(0, 99),
)
def test_every_entry_is_what_the_definition_says(
    bits: int, inputs: int, outputs: int, groups: int, layout: str, seed: int
) -> None:
    tensors, group = made(bits, inputs, outputs, groups, seed)
    checkpoint = stored(tensors, quantization=config(layout, bits))
    entry = checkpoint.entries["a.weight"]
    assert (codec_of(checkpoint), entry.dtype) == (f"gptq-{bits}bit", "I32")
    assert (entry.shape, list(checkpoint.entries)) == ((outputs, inputs), ["a.weight"])
    expected = defined(tensors, group, bits, layout)
    assert torch.equal(weight(checkpoint), expected.float())  # 11 bits times 9: exact


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_without_groups_inputs_are_in_order(bits: int) -> None:
    tensors, _group = made(bits, 64, 16, 4)
    del tensors["a.g_idx"]
    group = [number // 16 for number in range(64)]
    expected = defined(tensors, group, bits, "gptq")
    assert torch.equal(weight(stored(tensors, quantization=config(bits=bits))), expected.float())


def test_zero_points_less_one_carry_from_field_to_field() -> None:
    """GPTQModel takes one from whole words, so that zero points 0, 5 are stored as 15, 3."""
    tensors, group = made(4, 8, 8, 1)
    tensors["a.qzeros"] = torch.tensor([[(0x87654350 - 0x11111111) - 2**32 * 0]]).int()
    tensors["a.scales"] = torch.ones(1, 8).half()
    codes = [fields(column, 4, 8) for column in tensors["a.qweight"].T.tolist()]
    read = weight(stored(tensors, quantization=config()))
    zeros = [0, 5, 3, 4, 5, 6, 7, 8]
    assert read.tolist() == [[code - zero for code in row]
                             for row, zero in zip(codes, zeros, strict=True)]  # fmt: skip
    assert torch.equal(read, defined(tensors, group, 4, "gptq").float())


def test_layers_may_have_bits_of_their_own() -> None:
    tensors, group = made(8, 32, 32, 2)
    read = weight(stored(tensors, quantization=config(bits=4)))
    assert torch.equal(read, defined(tensors, group, 8, "gptq").float())


@pytest.mark.parametrize("bad", [-1, 4, -(2**31), 2**31 - 1])
def test_a_group_out_of_range_is_refused(bad: int) -> None:
    tensors, _group = made(4, 16, 8, 4)
    tensors["a.g_idx"][3] = bad
    checkpoint = stored(tensors, quantization=config())
    with pytest.raises(CheckpointError, match=r"'a.g_idx' of .* holds groups .*, expected 0 to 3"):
        checkpoint.read(checkpoint.entries["a.weight"])


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (None, "of the scheme unknown (config.json has no quantization_config) are not read"),
        ({"quant_method": "auto-round"}, "of the scheme auto-round are not read"),
        ({"quant_method": "\x1b[31m"}, "of the scheme '\\x1b[31m' are not read"),
        ({"quant_method": ["gptq"]}, "unknown"),
        (config("marlin"), "in the layout 'marlin' are not read"),
        (config("gptq_p"), "in the layout 'gptq_p' are not read"),
        (config("x" * 999), "in the layout 'xxxx"),
        (config(is_marlin_format=True), "in the layout 'marlin' are not read"),
    ],
)
def test_other_layouts_are_left_out_by_name(
    quantization: dict[str, Any] | None, expected: str
) -> None:
    tensors, _group = made(4, 16, 8, 4)
    found = reason(tensors, quantization=quantization)
    assert expected in found
    assert len(found) < 200


@pytest.mark.parametrize(
    ("part", "bad", "expected"),
    [
        ("qzeros", None, "qzeros is missing"),
        ("scales", None, "scales is missing"),
        ("qzeros", torch.ones(4, 2).int(), "fit no width"),
        ("qzeros", torch.ones(3, 1).int(), "do not fit"),
        ("qzeros", torch.ones(4).int(), "do not fit"),
        ("qzeros", torch.ones(4, 1), "qzeros is F32"),
        ("qzeros", torch.ones(4, 0).int(), "qzeros is I32 [4, 0]"),
        ("scales", torch.ones(4, 9), "do not fit"),
        ("scales", torch.ones(4, 8).int(), "scales is I32"),
        ("g_idx", torch.ones(17).int(), "fit no width"),
        ("g_idx", torch.ones(4, 4).int(), "fit no width"),
        ("g_idx", torch.ones(16), "g_idx is F32"),
        ("qweight", torch.ones(2, 8).long(), "the weights are I64"),
        ("qweight", torch.ones(16).int(), "the weights are I32 [16]"),
        ("qweight", torch.ones(0, 8).int(), "the weights are I32 [0, 8]"),
    ],
)
def test_parts_that_do_not_fit_are_named(part: str, bad: Tensor | None, expected: str) -> None:
    tensors, _group = made(4, 16, 8, 4)
    tensors.pop(f"a.{part}", None)
    if bad is not None:
        tensors[f"a.{part}"] = bad
    assert expected in reason(tensors, quantization=config())


def test_groups_that_do_not_divide_the_inputs_need_to_be_told() -> None:
    tensors, _group = made(4, 16, 8, 3)
    del tensors["a.g_idx"]
    assert "g_idx is missing, and 3 groups do not divide 16" in reason(
        tensors, quantization=config()
    )


def test_gpt2_holds_what_gptq_stores_turned() -> None:
    tensors, _group = made(4, 16, 8, 4)
    names = {key.replace("a.", "h.0.mlp.c_fc."): value for key, value in tensors.items()}
    plain = weight(stored(tensors, quantization=config(), model_type="gpt2"))
    turned = weight(stored(names, quantization=config(), model_type="gpt2"), "h.0.mlp.c_fc.weight")
    assert torch.equal(turned, plain.T)
