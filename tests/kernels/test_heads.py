"""Kernels of heads against the plain definition in numpy's float64."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from spectra.errors import NonFiniteError
from spectra.kernels.heads import (
    copying,
    grams,
    inner_products,
    roots,
    tied,
    unturned,
    values_of,
)

HEADS, KEYS, SIZE, WIDTH = 4, 2, 6, 24


def plain(left: Tensor, right: Tensor) -> NDArray[np.float64]:
    """Return A^T B of one head, in full."""
    found: NDArray[np.float64] = left.double().cpu().numpy().T @ right.double().cpu().numpy()
    return found


@pytest.fixture
def lines(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lines of heads that share two heads of keys, the second of which has a tiny direction."""
    some = torch.randn(HEADS, SIZE, WIDTH, generator=generator)
    shared = torch.randn(KEYS, SIZE, WIDTH, generator=generator)
    shared[1, 0] *= 1e-5
    return some, shared


def key_of(like: Tensor) -> Tensor:
    return torch.arange(HEADS, device=like.device) // (HEADS // KEYS)


def test_singular_values_are_those_of_the_whole_map(lines: tuple[Tensor, Tensor]) -> None:
    some, shared = lines
    found = values_of(roots(grams(some)), roots(grams(shared))[key_of(some)]).cpu()
    for head in range(HEADS):
        expected = np.linalg.svd(plain(some[head], shared[head // 2]), compute_uv=False)[:SIZE]
        assert_close(found[head].numpy(), expected, rtol=1e-9, atol=1e-7 * expected[0])


def test_a_map_that_is_zero_has_zero_values(lines: tuple[Tensor, Tensor]) -> None:
    some, _ = lines
    some[1] = 0.0
    found = values_of(roots(grams(some)), roots(grams(some)))
    assert float(found[1].abs().max()) == 0.0


def test_nan_is_refused(lines: tuple[Tensor, Tensor]) -> None:
    some, _ = lines
    some[2, 1, 3] = torch.nan
    with pytest.raises(NonFiniteError):
        grams(some)


def test_copying_is_of_the_eigenvalues_of_the_whole_map(lines: tuple[Tensor, Tensor]) -> None:
    some, shared = lines
    found = copying(shared[key_of(some)], some).cpu()
    for head in range(HEADS):
        values = np.linalg.eigvals(plain(some[head], shared[head // 2]))
        assert float(found[head]) == pytest.approx(values.real.sum() / np.abs(values).sum())


@pytest.mark.parametrize(("sign", "score"), [(1.0, 1.0), (-1.0, -1.0)])
def test_a_head_that_writes_what_it_reads_copies(
    sign: float, score: float, generator: torch.Generator
) -> None:
    values = torch.randn(1, SIZE, WIDTH, generator=generator)
    assert float(copying(values, sign * values)) == pytest.approx(score)


def test_a_nilpotent_map_has_no_score() -> None:
    values, written = torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)
    values[0, 0, 0] = values[0, 1, 1] = 1.0
    written[0, 0, 1] = written[0, 1, 2] = 1.0  # moves 0 to 1 and 1 to 2
    assert bool(copying(values, written).isnan().all())


def test_inner_products_are_those_of_whole_maps(lines: tuple[Tensor, Tensor]) -> None:
    some, shared = lines
    found = inner_products(shared, some, key_of(some)).cpu().numpy()
    maps = [plain(some[head], shared[head // 2]) for head in range(HEADS)]
    expected = np.array([[(one * other).sum() for other in maps] for one in maps])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kind", "scale"), [
    (torch.float32, 2.0**100), (torch.float32, 2.0**-100), (torch.float64, 2.0**200),
    (torch.float64, 2.0**-200),
])  # fmt: skip
def test_inner_products_hold_at_every_scale(
    lines: tuple[Tensor, Tensor], kind: torch.dtype, scale: float
) -> None:
    left, right = (one.to(kind) for one in lines)
    keys = torch.arange(len(right))
    expected = inner_products(left, right, keys) * scale**2
    torch.testing.assert_close(
        inner_products(left * scale, right, keys), expected, rtol=1e-6, atol=0.0
    )


def turned(
    lines: Tensor, angles: NDArray[np.float64], turning: slice, *, halves: bool
) -> NDArray[np.float64]:
    """Return a head's lines after each plane was turned by its angle."""
    found: NDArray[np.float64] = lines.double().cpu().numpy().copy()
    inside = found[turning]
    count = len(inside) // 2
    for plane, angle in enumerate(angles):
        one, other = (plane, plane + count) if halves else (2 * plane, 2 * plane + 1)
        x, y = inside[one].copy(), inside[other].copy()
        inside[one] = np.cos(angle) * x - np.sin(angle) * y
        inside[other] = np.sin(angle) * x + np.cos(angle) * y
    return found


@pytest.mark.parametrize("halves", [True, False], ids=["halves", "neighbours"])
@pytest.mark.parametrize("turning", [slice(0, 6), slice(0, 4), slice(2, 6), slice(0, 0)], ids=str)
def test_what_no_rotation_changes_is_the_mean_over_all(
    turning: slice, halves: bool, lines: tuple[Tensor, Tensor]
) -> None:
    some, _ = lines
    other = some.flip(0)
    found = unturned(grams(some), grams(other), turning, halves=halves).cpu()
    planes = (turning.stop - turning.start) // 2
    grid = [np.array(one) for one in itertools.product(np.arange(8) * np.pi / 4, repeat=planes)]
    for head in range(HEADS):
        key = other[head].double().cpu().numpy()
        squares = [
            np.linalg.norm(turned(some[head], angles, turning, halves=halves).T @ key) ** 2
            for angles in grid
        ]
        assert float(found[head]) == pytest.approx(np.sqrt(np.mean(squares)))


def test_values_that_coincide_are_counted() -> None:
    sigma = torch.tensor([[3.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 1e-9, 1e-9]])
    assert tied(sigma, torch.full((3,), 1e-8)).tolist() == [2, 0, 0]
