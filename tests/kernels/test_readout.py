"""Both ends of directions in a table, against all products in float64."""

import pytest
import torch

from spectra.errors import NonFiniteError
from spectra.kernels import readout
from spectra.kernels.heads import grams, strongest
from spectra.kernels.readout import crossed, ends


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_ends_are_those_of_all_products(
    dtype: torch.dtype, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout, "ROOM", 7 * 13)  # a few rows at a time
    table = torch.randn(101, 13, generator=generator).to(dtype)
    lines = torch.randn(5, 13, generator=generator, dtype=torch.float64)
    every = lines @ table.double().mT
    parts = [ends(table[some], lines, 6, some.start) for some in (slice(0, 40), slice(40, 101))]
    found = parts[0].beside(parts[1])
    high, low = every.topk(6, dim=1), every.topk(6, dim=1, largest=False)
    assert torch.equal(found.highest_rows, high.indices)
    assert torch.equal(found.lowest_rows, low.indices)
    torch.testing.assert_close(found.highest, high.values)
    torch.testing.assert_close(found.lowest, low.values)
    few = ends(table[:4], lines, 6)
    assert few.highest.shape == (5, 4)
    assert few.beside(parts[1]).highest.shape == (5, 6)


def test_a_product_of_tables_is_summed_over_rows(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout, "ROOM", 60)
    one, other = (torch.randn(50, size, generator=generator) for size in (9, 12))
    expected = one.double().mT @ other.double()
    found = crossed(one, other)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_a_product_of_tables_that_float32_does_not_hold(
    generator: torch.Generator, scale: float
) -> None:
    one, other = (scale * torch.randn(50, size, generator=generator) for size in (9, 12))
    expected = one.double().mT @ other.double()
    torch.testing.assert_close(crossed(one, other), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_a_broken_table_is_refused(value: float) -> None:
    table = torch.ones(4, 3)
    table[2, 1] = value
    with pytest.raises(NonFiniteError, match="the table of tokens holds NaN or Inf"):
        ends(table, torch.ones(1, 3), 2)
    with pytest.raises(NonFiniteError):
        crossed(table, table)


def test_the_strongest_directions_of_heads_are_those_of_the_full_map(
    generator: torch.Generator,
) -> None:
    left = torch.randn(3, 4, 11, generator=generator, dtype=torch.float64)
    right = torch.randn(3, 4, 9, generator=generator, dtype=torch.float64)
    left[2] = 0.0
    u, v, sigma = strongest(left, right, (grams(left), grams(right)))
    for head in range(2):
        whole = left[head].mT @ right[head]
        expected = torch.linalg.svd(whole)
        torch.testing.assert_close(sigma[head], expected.S[:2])
        torch.testing.assert_close(whole @ v[head], sigma[head, 0] * u[head])
        assert abs(float(u[head] @ expected.U[:, 0])) == pytest.approx(1.0)
        assert float(v[head].norm()) == pytest.approx(1.0)
    assert not u[2].any()
    assert not v[2].any()
