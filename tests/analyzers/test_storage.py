"""What storing rounds off, as the values tell it and not the dtype of the file."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from analyzers.subjects import matrix_of
from spectra.analyzers.storage import likely_roundoff, unit_roundoff
from spectra.checkpoint.entry import ROUNDOFF
from spectra.matrices import Matrix


def normal(generator: torch.Generator) -> Tensor:
    return 0.02 * torch.randn(40, 50, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("before", "name"),
    [(torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.float32, "F32")],
    ids=str,
)
def test_values_rounded_before_are_no_finer_in_a_wider_dtype(
    before: torch.dtype, name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    values = normal(generator).to(before).to(dtype)
    assert unit_roundoff(matrix_of(values)) == ROUNDOFF[name]


def test_few_values_are_no_eight_bit_floats(generator: torch.Generator) -> None:
    signs = normal(generator).sign()
    assert unit_roundoff(matrix_of(signs)) == ROUNDOFF["BF16"]
    assert unit_roundoff(matrix_of(torch.zeros(4, 5))) is not None


def test_a_stored_half_is_what_it_says(generator: torch.Generator) -> None:
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16")):
        assert unit_roundoff(matrix_of(normal(generator).to(dtype))) == ROUNDOFF[name]


def test_a_scheme_of_integers_rounds_off_by_its_bits(generator: torch.Generator) -> None:
    plain = matrix_of(normal(generator))
    start, bits = plain.view.entry.start, 9 / 2
    stop = start + int(40 * 50 * bits / 8)
    entry = replace(plain.view.entry, dtype="Q4_0", stop=stop)
    packed = Matrix(replace(plain.view, entry=entry), plain.values)
    assert unit_roundoff(packed) is None
    assert likely_roundoff(packed) == pytest.approx(2.0 * 2.0**-4.5)
