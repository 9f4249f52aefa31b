"""Chosen singular triplets against LAPACK's decomposition in float64."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.components import (
    Components,
    Settings,
    Which,
    components,
    components_work,
)
from spectra.kernels.lanczos import Lanczos

SMALL = Settings(small=64, block=12, share=2, spare=8)  # small matrices by Krylov spaces too


def indices(which: Which | Sequence[int], count: int, short: int) -> list[int]:
    if which == "largest":
        return list(range(count))
    return list(range(short - count, short)) if which == "smallest" else [*which]


def checked(matrix: Tensor, found: Components, chosen: Sequence[int], error: float) -> None:
    """Check triplets against the SVD: values, orthonormality, the product, and the gap."""
    left, sigma, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    rows = torch.tensor(list(chosen))
    scale = float(sigma[0])
    twin = left[:, rows] * sigma[rows] @ right[rows]
    torch.testing.assert_close(found.sigma, sigma[rows], rtol=1e-6, atol=1e-12 * scale)
    made = found.left * found.sigma @ found.right.mT
    assert float((made - twin).norm()) <= error * float(twin.norm()) + 1e-13 * scale
    for part in (found.left, found.right):
        torch.testing.assert_close(part.mT @ part, torch.eye(len(rows), dtype=torch.float64))
    assert bool((found.left.gather(0, found.left.abs().argmax(0, keepdim=True)) > 0.0).all())
    others = torch.tensor([one for one in range(len(sigma)) if one not in set(chosen)])
    if len(others):
        apart = float((sigma[rows][:, None] - sigma[others.long()]).abs().min())
        assert found.gap <= apart + 1e-12 * scale  # never claimed wider than it is
        if found.decided_by == "exact":
            assert found.gap == pytest.approx(apart, rel=1e-4, abs=1e-12 * scale)
    else:
        assert math.isinf(found.gap)
    assert found.energy == pytest.approx(float(matrix.double().square().sum()), rel=1e-9)


@pytest.mark.parametrize("shape", [(300, 300), (420, 200), (200, 420)])
@pytest.mark.parametrize("decay", [0.3, 2.0])
@pytest.mark.parametrize("which", ["largest", "smallest", "middle", "any"])
@pytest.mark.parametrize("count", [1, 16])
def test_triplets_are_those_of_the_decomposition(
    shape: tuple[int, int], decay: float, which: str, count: int
) -> None:
    short = min(shape)
    sigma = torch.arange(1, short + 1, dtype=torch.float64) ** -decay
    matrix = with_spectrum(sigma, *shape).float()
    wanted: Which | list[int]
    if which == "middle":
        wanted = list(range(short // 2, short // 2 + count))
    elif which == "any":
        wanted = [3 * index + 1 for index in range(count)]
    else:
        wanted = which  # type: ignore[assignment]
    found = components(matrix, wanted, count, SMALL)
    told = 2.0 * found.residual / found.gap  # of the steepest, near the rounding of W^T W
    assert told < 1e-3
    checked(matrix, found, indices(wanted, count, short), max(told, 1e-5))


def test_few_of_a_large_matrix_are_proven_and_not_all_computed() -> None:
    ends = torch.linspace(2.0, 1.5, 8), torch.linspace(0.1, 0.05, 8)
    sigma = torch.cat([ends[0], torch.linspace(1.0, 0.2, 584), ends[1]]).double()
    matrix = with_spectrum(sigma, 700, 600).float()
    for which, rows in (("largest", range(8)), ("smallest", range(592, 600))):
        found = components(matrix, which, 8, Settings(block=24, share=2))  # type: ignore[arg-type]
        assert found.decided_by == "bound"
        assert found.gap >= 0.09
        checked(matrix, found, rows, 1e-5)


def test_a_flat_spectrum_is_given_up_soon_and_decomposed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    step = Lanczos.step

    def counted(krylov: Lanczos) -> None:
        steps.append(krylov.steps)
        step(krylov)

    monkeypatch.setattr(Lanczos, "step", counted)
    matrix = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    settings = Settings(small=64, block=4, share=2, spare=2, hopeless=0.1)
    found = components(matrix, "largest", 16, settings)
    assert found.decided_by == "exact"
    assert len(steps) <= settings.steps_for(1000, 16) // 2 + 1
    checked(matrix, found, range(16), 1e-9)
    steps.clear()
    components(matrix, "largest", 40, settings)  # the space holds too few
    assert not steps


def test_ill_conditioned_minor_triplets_are_no_rounding() -> None:
    # A float32 Gram matrix has nothing left of these, a float64 one hardly anything.
    sigma = torch.cat([torch.ones(80), torch.logspace(-5, -7, 16)]).double()
    matrix = with_spectrum(sigma, 120, 96)
    found = components(matrix, "smallest", 8, SMALL)
    checked(matrix, found, range(88, 96), 1e-6)
    torch.testing.assert_close(found.sigma, sigma[88:], rtol=1e-6, atol=0.0)


def test_a_choice_that_cuts_a_tie_has_no_gap() -> None:
    sigma = torch.tensor([3.0] + [1.0] * 100 + [0.5] * 20, dtype=torch.float64)
    matrix = with_spectrum(sigma, 130, 121)
    for which, count in (("largest", 7), ("smallest", 9)):
        found = components(matrix, which, count, SMALL)  # type: ignore[arg-type]
        assert found.gap <= 1e-12
        assert found.decided_by == "exact"
    whole = components(matrix, "smallest", 20, SMALL)
    assert whole.gap == pytest.approx(0.5, rel=1e-3)
    found = components(matrix, "largest", 1, SMALL)
    assert found.gap == pytest.approx(2.0, rel=2e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    matrix = with_spectrum(torch.linspace(2.0, 1.0, 90, dtype=torch.float64), 90, 120).float()
    plain, scaled = (components(one, "smallest", 4, SMALL) for one in (matrix, scale * matrix))
    torch.testing.assert_close(scaled.sigma / scale, plain.sigma, rtol=1e-6, atol=0.0)
    assert scaled.gap / scale == pytest.approx(plain.gap, rel=1e-2)


def test_all_of_a_zero_matrix_and_of_one_row() -> None:
    none = components(torch.zeros(90, 80), "smallest", 3, SMALL)
    assert (none.sigma.tolist(), none.energy, none.gap) == ([0.0] * 3, 0.0, 0.0)
    row = components(torch.tensor([[3.0, 4.0]]), "largest", 1)
    assert row.sigma.tolist() == pytest.approx([5.0])
    assert math.isinf(row.gap)


def test_nan_is_refused() -> None:
    matrix = torch.ones(5, 4)
    matrix[2, 1] = math.nan
    with pytest.raises(NonFiniteError):
        components(matrix, "largest", 1)


def test_work_counts_a_decomposition_where_few_have_no_room() -> None:
    few, all_of_them = (float(components_work(2048, 2048, "largest", k)) for k in (16, 128))
    middle = float(components_work(2048, 2048, None, 128))
    assert few < all_of_them == middle


@pytest.mark.parametrize(
    ("rows", "cols", "count", "seconds"),
    [
        (768, 768, 128, 0.094), (768, 768, 256, 0.153), (1024, 1024, 128, 0.154),
        (1024, 1024, 256, 0.252), (1536, 1536, 128, 0.436), (1536, 1536, 256, 0.543),
        (768, 3072, 256, 0.318), (1024, 4096, 128, 0.327), (1024, 4096, 256, 0.520),
    ],
)  # fmt: skip
def test_work_of_vectors_among_all_is_what_they_took(
    rows: int, cols: int, count: int, seconds: float
) -> None:
    """Of a flat spectrum, on a core whose singular values take what the reference's take."""
    assert float(components_work(rows, cols, None, count)) == pytest.approx(seconds, rel=0.2)
