"""AWQ against its published definition, one entry at a time in Python's own integers.

AutoAWQ 0.2.9 (`WQLinear_GEMM.from_linear`) defines the format; it cannot be installed beside what
the tests need.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from checkpoint.codecs.memory import codec_of, reason, stored, weight

ORDER = {0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7}  # place in its word of each output


def config(**more: object) -> dict[str, Any]:
    return {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True, **more}


def made(inputs: int, eighths: int, groups: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def words(*shape: int) -> Tensor:
        return torch.randint(-(2**31), 2**31, shape, generator=generator).int()

    return {
        "a.qweight": words(inputs, eighths),
        "a.qzeros": words(groups, eighths),
        "a.scales": torch.rand(groups, 8 * eighths, generator=generator).half(),
    }


def field(row: list[int], output: int) -> int:
    return (row[output // 8] % 2**32 >> 4 * ORDER[output % 8]) % 16


@settings(max_examples=40)
@given(
    size=st.integers(1, 9),
    eighths=st.integers(1, 4),
    groups=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_every_entry_is_what_the_definition_says(
    size: int, eighths: int, groups: int, seed: int
) -> None:
    inputs, outputs = size * groups, 8 * eighths
    tensors = made(inputs, eighths, groups, seed)
    codes, zeros = tensors["a.qweight"].tolist(), tensors["a.qzeros"].tolist()
    scales = tensors["a.scales"].double().tolist()
    expected = torch.tensor(
        [
            [
                (field(codes[i], out) - field(zeros[i // size], out)) * scales[i // size][out]
                for i in range(inputs)
            ]
            for out in range(outputs)
        ],
        dtype=torch.float64,
    )
    checkpoint = stored(tensors, quantization=config())
    entry = checkpoint.entries["a.weight"]
    assert (codec_of(checkpoint), entry.dtype) == ("awq-4bit", "I32")
    assert (entry.shape, list(checkpoint.entries)) == ((outputs, inputs), ["a.weight"])
    assert torch.equal(weight(checkpoint), expected.float())  # 11 bits times 5: exact


def test_a_packed_row_in_the_order_of_the_library() -> None:
    """AutoAWQ shifts outputs 0, 2, 4, 6, 1, 3, 5, 7 into a word, the first one lowest."""
    word = sum(value << 4 * place for place, value in enumerate((0, 2, 4, 6, 1, 3, 5, 7)))
    tensors = {"a.qweight": torch.tensor([[word]]).int(), "a.qzeros": torch.zeros(1, 1).int(),
               "a.scales": torch.ones(1, 8).half()}  # fmt: skip
    assert weight(stored(tensors, quantization=config())).flatten().tolist() == [*range(8)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "gemv"}, "in the layout 'gemv' are not read"),
        ({"version": "GEMV_FAST"}, "in the layout 'gemv_fast' are not read"),
        ({"version": "llm-awq"}, "in the layout 'llm-awq' are not read"),
        ({"bits": 3}, "of 3 bits in the layout 'gemm' are not read"),
    ],
)
def test_other_layouts_are_left_out_by_name(changes: dict[str, object], expected: str) -> None:
    assert expected in reason(made(16, 2, 2), quantization=config(**changes))


@pytest.mark.parametrize(
    ("part", "bad", "expected"),
    [
        ("qzeros", None, "qzeros is missing"),
        ("scales", None, "scales is missing"),
        ("qzeros", torch.ones(2, 3).int(), "qzeros is I32 [2, 3], expected I32 [2, 2]"),
        ("scales", torch.ones(2, 15), "do not fit"),
        ("scales", torch.ones(3, 16), "do not fit"),
        ("scales", torch.ones(16), "do not fit"),
        ("qweight", torch.ones(16, 2).short(), "the weights are I16"),
        ("qweight", torch.ones(16, 0).int(), "the weights are I32 [16, 0]"),
    ],
)
def test_parts_that_do_not_fit_are_named(part: str, bad: Tensor | None, expected: str) -> None:
    tensors = made(16, 2, 2)
    tensors.pop(f"a.{part}", None)
    if bad is not None:
        tensors[f"a.{part}"] = bad
    assert expected in reason(tensors, quantization=config())
