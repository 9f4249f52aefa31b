"""Several updates against float64 twins that form everything."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.updates import (
    Rows,
    entries_of,
    inner_product,
    leading_of_factors,
    leading_of_matrix,
    overlap,
)


def rows_of(matrix: Tensor) -> Rows:
    return lambda part: matrix[part].double()


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5), (70, 2000), (1, 1), (300, 7)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_entries(shape: tuple[int, int], count: int, generator: torch.Generator) -> None:
    base = random(generator, *shape)
    updates = [random(generator, *shape) for _ in range(count)]
    for place, one in enumerate(updates):  # zeros in some, also where no other has one
        one[random(generator, *shape) > 0.7 * (place + 1)] = 0.0
    found = entries_of([*map(rows_of, updates)], rows_of(base), shape)
    stack = torch.stack(updates).cpu()
    for i, j in itertools.product(range(count), repeat=2):
        product = stack[i] * stack[j]
        assert float(found.gram[i, j]) == pytest.approx(float(product.sum()), abs=1e-9)
        assert float(found.spread[i, j]) == pytest.approx(float(product.square().sum()), rel=1e-12)
    moved = (stack != 0).sum(dim=0)
    opposed = (stack.amax(dim=0) > 0) & (stack.amin(dim=0) < 0)
    assert found.shared == int((moved > 1).sum())
    assert found.conflicts == int(opposed.sum())
    expected = sum(1 - 2.0 ** (1 - int(many)) for many in moved.flatten() if many > 1)
    assert found.expected == pytest.approx(expected, rel=1e-12)
    assert found.weight == pytest.approx(float(stack.abs().sum()), rel=1e-12)
    elected = stack.sum(dim=0).sign()
    dropped = float((stack.abs() * (stack.sign() * elected < 0)).sum())
    assert found.against == pytest.approx(dropped, abs=1e-9)
    flat = base.cpu().flatten()
    for i in range(count):
        along = float(stack[i].flatten() @ flat / flat.norm())
        assert float(found.along[i]) == pytest.approx(along, abs=1e-9)


def test_chance_is_what_independent_signs_of_rows_and_columns_give(
    generator: torch.Generator,
) -> None:
    """The root mean square over all signs of a small matrix, one of its rows ten times larger."""
    a, b = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    a[1] *= 10.0
    products = [
        float((torch.tensor(s)[:, None] * a * torch.tensor(t) * b).sum())
        for s in itertools.product((-1.0, 1.0), repeat=3)
        for t in itertools.product((-1.0, 1.0), repeat=4)
    ]
    found = entries_of([rows_of(a), rows_of(b)], rows_of(a), (3, 4))
    mean = sum(one**2 for one in products) / len(products)
    assert float(found.spread[0, 1]) == pytest.approx(mean, rel=1e-12)


def test_entries_too_large_are_refused() -> None:
    huge = torch.full((2, 2), 1e200, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match="overflow float64"):
        entries_of([rows_of(huge), rows_of(huge)], rows_of(huge), (2, 2))


def test_inner_products_of_factors(generator: torch.Generator) -> None:
    one = random(generator, 30, 4).float(), random(generator, 4, 50).float()
    other = random(generator, 30, 9).float(), random(generator, 9, 50).float()
    a, b = (left.double() @ right.double() for left, right in (one, other))
    assert inner_product(one, other) == pytest.approx(float((a * b).sum()), rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (700, 530)], ids=str)
def test_leading_directions_and_what_two_share(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    k, (rows, cols) = 5, shape
    left, right = random(generator, rows, 8), random(generator, 8, cols)
    dense = left @ right + 0.3 * random(generator, rows, cols) / math.sqrt(rows)
    found = leading_of_matrix(dense, k), leading_of_factors(left, right, k)
    told, chance = overlap(*found)
    twins = [torch.linalg.svd(one, full_matrices=False) for one in (dense, left @ right)]
    assert told is not None
    for share, (one, other) in zip(
        told,
        ((twins[0].U[:, :k], twins[1].U[:, :k]), (twins[0].Vh[:k].mT, twins[1].Vh[:k].mT)),
        strict=True,
    ):
        assert share == pytest.approx(float((one.mT @ other).square().sum()) / k, abs=1e-3)
    assert chance == (k / rows, k / cols)
    for own, twin in zip(found, twins, strict=True):
        assert own.energy == pytest.approx(float(twin.S.square().sum()), rel=1e-9)
        assert own.kept == pytest.approx(float(twin.S[:k].square().sum()), rel=1e-5)


def test_a_tie_at_the_cut_leaves_the_subspace_open(generator: torch.Generator) -> None:
    q, p = (torch.linalg.qr(random(generator, 20, 6)).Q for _ in range(2))
    sigma = torch.tensor([5.0, 4.0, 3.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    left, right = q * sigma, p.mT
    for whole, cut, further in (
        (leading_of_factors(left, right, 6), leading_of_factors(left, right, 3),
         leading_of_factors(left, right, 4)),
        (leading_of_matrix(left @ right, 10), leading_of_matrix(left @ right, 3),
         leading_of_matrix(left @ right, 4)),
    ):  # fmt: skip
        assert overlap(cut, whole)[0] is None
        shares, chance = overlap(further, whole)
        assert shares == pytest.approx((1.0, 1.0))
        assert chance == (6 / 20, 6 / 20)
