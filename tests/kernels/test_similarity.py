"""Similarity of singular vectors against the published script's two full SVDs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.similarity import (
    Similarity,
    closest_of,
    exact_similarity,
    leading_of,
)
from spectra.kernels.verdicts import proven_similarity
from spectra.words import Side

SHAPES = ((40, 40), (30, 55), (55, 30))
EPSILON = 0.5


def published(base: Tensor, tuned: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The script of arXiv:2410.21228: |U0^T U1|, the largest of each column."""
    before = torch.linalg.svd(base.double(), full_matrices=False).U
    after = torch.linalg.svd(tuned.double(), full_matrices=False).U[:, :k]
    cosine, best = (before.mT @ after).abs().max(dim=0)
    return cosine, best


def random(rows: int, cols: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=source, dtype=torch.float64)


def orthonormal(rows: int, cols: int, seed: int) -> Tensor:
    vectors: Tensor = torch.linalg.qr(random(rows, cols, seed)).Q
    return vectors


def close(found: Tensor, expected: Tensor | list[float] | float, atol: float = 1e-9) -> None:
    torch.testing.assert_close(
        found, torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=atol
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_random_pairs_as_the_published_script(shape: tuple[int, int], strength: float) -> None:
    base = random(*shape, 0)
    tuned = base + strength * random(*shape, 1)
    found = exact_similarity(base, tuned, 10)
    cosine, best = published(base, tuned, 10)
    close(found.cosine, cosine)
    assert torch.equal(found.best, best)
    assert not found.tied.any()
    assert found.decided_by == ("exact",) * 10
    assert not found.error.any()
    close(found.sigma, torch.linalg.svdvals(tuned)[:10])
    close(found.energy, found.sigma.square() / tuned.square().sum())


def test_every_real_matrix_as_the_published_script(
    real: dict[str, Tensor], updates: dict[str, tuple[Tensor, Tensor]]
) -> None:
    intruders = {}
    for name, (left, right) in updates.items():
        base = real[name]
        tuned = base.double() + left.double() @ right.double()
        found = exact_similarity(base, tuned, 10)
        cosine, best = published(base, tuned, 10)
        close(found.cosine, cosine, atol=1e-4)
        assert torch.equal(found.cosine < EPSILON, cosine < EPSILON)
        assert torch.equal(found.best, best)
        intruders[name] = int((found.cosine < EPSILON).sum())
    assert len(intruders) == 36
    assert sum(intruders.values()) == 3
    assert sorted(intruders.values())[-3:] == [1, 1, 1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_right_side_is_the_left_of_the_transposes(shape: tuple[int, int]) -> None:
    base, tuned = random(*shape, 2), random(*shape, 3)
    right = exact_similarity(base, tuned, 5, side="right")
    left = exact_similarity(base.mT, tuned.mT, 5, side="left")
    for found, expected in zip(right, left, strict=True):
        if isinstance(found, Tensor) and isinstance(expected, Tensor):
            assert torch.equal(found, expected)
        else:
            assert found == expected
    before = torch.linalg.svd(base, full_matrices=False).Vh
    after = torch.linalg.svd(tuned, full_matrices=False).Vh[:5]
    close(right.cosine, (before @ after.mT).abs().amax(dim=0))


def test_nothing_changed() -> None:
    base = random(30, 40, 4)
    found = exact_similarity(base, base, 6)
    close(found.cosine, [1.0] * 6)
    assert found.best.tolist() == list(range(6))
    assert found.overlap == pytest.approx(1.0)
    close(found.cosines[:, :6], torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 4, 10])
def test_overlap_is_the_share_of_the_leading_subspace(k: int) -> None:
    base, tuned = random(50, 40, 5), random(50, 40, 5) + random(50, 40, 6)
    before = torch.linalg.svd(base).U[:, :k]
    after = torch.linalg.svd(tuned).U[:, :k]
    expected = float((before.mT @ after).square().sum()) / k
    assert exact_similarity(base, tuned, k).overlap == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("cols", [7, 32, 40])
def test_cosines_for_the_picture(cols: int) -> None:
    base, tuned = random(50, cols, 7), random(50, cols, 8)
    found = exact_similarity(base, tuned, 3)
    before = torch.linalg.svd(base, full_matrices=False).U[:, :32]
    after = torch.linalg.svd(tuned).U[:, :3]
    assert found.cosines.shape == (3, min(cols, 32))
    close(found.cosines, (after.mT @ before).abs())


@pytest.mark.parametrize("size", [2, 3, 100])
@pytest.mark.parametrize("shape", [(120, 120), (110, 150), (150, 110)], ids=str)
def test_a_cluster_stands_for_its_vectors(size: int, shape: tuple[int, int]) -> None:
    """Repeated sigma leave any basis of their subspace: the projection onto it counts."""
    rank, first = min(shape), 4
    sigma = torch.linspace(3, 1, rank, dtype=torch.float64)
    sigma[first : first + size] = sigma[first]
    left = orthonormal(shape[0], rank, 9)
    base = (left * sigma) @ orthonormal(shape[1], rank, 10).mT
    direction = left[:, first : first + size].sum(dim=1) / math.sqrt(size)
    tuned = base + 20 * torch.outer(direction, orthonormal(shape[1], 1, 11).squeeze(1))
    found = exact_similarity(base, tuned, 5)
    after = torch.linalg.svd(tuned).U[:, :5]
    groups = [[i] for i in range(rank) if not first <= i < first + size]
    groups.append(list(range(first, first + size)))
    projections = torch.stack([(left[:, g].mT @ after).norm(dim=0) for g in groups])
    close(found.cosine, projections.amax(dim=0), atol=1e-7)
    assert found.cosine[0] > 0.98
    assert found.best[0] == first


def planted(base: Tensor, direction: Tensor) -> Tensor:
    """Add one direction that leads everything."""
    side = orthonormal(base.shape[1], 1, 12).squeeze(1)
    return base + 50 * torch.outer(direction, side)


def test_no_null_vector_of_a_tall_base_matches() -> None:
    left = orthonormal(90, 13, 13)
    sigma = torch.linspace(3, 1, 12, dtype=torch.float64)
    base = (left[:, :12] * sigma) @ orthonormal(20, 12, 14).mT
    found = exact_similarity(base, planted(base, left[:, 12]), 3)
    assert found.cosine[0] < 0.1
    first = torch.linalg.svd(planted(base, left[:, 12])).U[:, 0]
    close(found.cosine[0], float((left[:, :12].mT @ first).abs().max()))


@pytest.mark.parametrize("shape", [(40, 40), (40, 60)], ids=str)
def test_the_null_space_of_a_base_that_is_not_tall_belongs_to_it(shape: tuple[int, int]) -> None:
    left = orthonormal(40, 40, 15)
    sigma = torch.linspace(3, 1, 30, dtype=torch.float64)
    base = (left[:, :30] * sigma) @ orthonormal(shape[1], 30, 16).mT
    found = exact_similarity(base, planted(base, left[:, 33:36].sum(dim=1) / math.sqrt(3)), 3)
    assert found.cosine[0] > 0.99
    assert found.best[0] == 30


def test_a_zero_base() -> None:
    tall = exact_similarity(torch.zeros(30, 20), random(30, 20, 17).float(), 4)
    assert tall.cosine.tolist() == [0.0] * 4
    assert tall.best.tolist() == [-1] * 4
    wide = exact_similarity(torch.zeros(20, 30), random(20, 30, 17).float(), 4)
    close(wide.cosine, [1.0] * 4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_zero_tuned_matrix_has_no_vectors(shape: tuple[int, int]) -> None:
    found = exact_similarity(random(*shape, 18), torch.zeros(shape), 4)
    for values in (found.cosine, found.best, found.tied, found.sigma, found.energy):
        assert len(values) == 0
    assert found.overlap is None
    assert found.cosines.shape == (0, min(32, *shape))


def test_no_more_vectors_than_the_rank() -> None:
    base = random(30, 20, 19)
    assert len(exact_similarity(base, base + random(30, 20, 20), 50).cosine) == 20
    product = random(30, 3, 21) @ random(3, 20, 22)
    assert len(exact_similarity(base, product, 10).cosine) == 3
    assert len(exact_similarity(base[:1], random(1, 20, 23), 10).cosine) == 1


def test_tied_leading_values_are_marked(generator: torch.Generator) -> None:
    sigma = torch.tensor([5.0, 5.0, 4.0, 3.0, 2.0, 2.0, 1.0])
    tuned = with_spectrum(sigma, 30, 20, generator)
    found = exact_similarity(random(30, 20, 24), tuned, 6)
    assert found.tied.tolist() == [True, True, False, False, True, True]
    # The fifth is tied to the sixth even where only five are examined.
    assert exact_similarity(random(30, 20, 24), tuned, 5).tied.tolist()[-1] is True


def test_one_row_and_one_column() -> None:
    found = exact_similarity(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), 10)
    close(found.cosine, [1.0])
    column = exact_similarity(torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [4.0]]), 10)
    close(column.cosine, [0.6])
    assert column.best.tolist() == [0]
    assert column.overlap == pytest.approx(0.36)


TIED = torch.tensor([9.0, 7.0, 5.0, 3.0, 3.0, 3.0, 2.0, 1.0])
APART = torch.tensor([9.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.0])
WAYS = ("exact", "proven", "low rank")


def overlap(way: str, base: Tensor, tuned: Tensor, k: int, side: Side) -> float | None:
    """By every path by which an overlap is found."""
    if way == "exact":
        return exact_similarity(base, tuned, k, side).overlap
    if way == "proven":
        return proven_similarity(base, tuned, k, 0.5, side).overlap
    factors = tuned - base, torch.eye(base.shape[1], dtype=torch.float64)
    return proven_similarity(base, factors, k, 0.5, side).overlap


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", [(40, 40), (30, 60), (60, 30)], ids=str)
def test_no_overlap_of_subspaces_that_a_permutation_changes(
    way: str, side: Side, shape: tuple[int, int], generator: torch.Generator
) -> None:
    tied = with_spectrum(TIED, *shape, generator)
    bulk = 0.02 * random(*shape, 30)
    apart = with_spectrum(APART, *shape, generator) + bulk
    for base, tuned, k in (
        (tied, apart, 4),  # the 4th of the base ties with the next two
        (tied, apart, 5),
        (tied, apart, 9),  # and there is no 9th
        (apart, tied, 4),
        (torch.zeros(shape, dtype=torch.float64), apart, 3),
    ):
        assert overlap(way, base, tuned, k, side) is None
    for base, tuned, k in ((tied, apart, 3), (tied, apart, 6), (tied, apart, 8), (apart, tied, 6)):
        order = torch.randperm(shape[1], generator=generator)
        plain, turned = (overlap(way, base[:, o], tuned[:, o], k, side)
                         for o in (torch.arange(shape[1]), order))  # fmt: skip
        assert plain == pytest.approx(turned, abs=1e-7)
        assert plain == pytest.approx(exact_similarity(base, tuned, k, side).overlap, abs=5e-3)


def test_a_whole_basis_leads_where_its_rank_is_full() -> None:
    base, tuned = random(30, 30, 31), random(30, 30, 32)
    assert exact_similarity(base, tuned, 30).overlap == pytest.approx(1.0)
    assert proven_similarity(base, tuned, 30, 0.1).overlap == pytest.approx(1.0, abs=5e-3)


SEEDS = st.integers(0, 2**31)
SIDES = st.integers(2, 20)


def same(found: Similarity, expected: Similarity) -> None:
    close(found.cosine, expected.cosine, atol=1e-7)
    close(found.sigma, expected.sigma, atol=1e-10 * float(expected.sigma[0]))
    close(found.energy, expected.energy, atol=1e-10)
    assert found.overlap is not None
    assert found.overlap == pytest.approx(expected.overlap, abs=1e-7)


@settings(max_examples=40)
@given(SIDES, SIDES, SEEDS)
def test_rotating_both_changes_nothing(rows: int, cols: int, seed: int) -> None:
    base, tuned = random(rows, cols, seed), random(rows, cols, seed + 1)
    left, right = orthonormal(rows, rows, seed + 2), orthonormal(cols, cols, seed + 3)
    turned = exact_similarity(left @ base @ right, left @ tuned @ right, 4)
    same(turned, exact_similarity(base, tuned, 4))


@settings(max_examples=40)
@given(SIDES, SIDES, SEEDS)
def test_permuting_the_rows_of_both_changes_nothing(rows: int, cols: int, seed: int) -> None:
    base, tuned = random(rows, cols, seed), random(rows, cols, seed + 1)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    same(exact_similarity(base[order], tuned[order], 4), exact_similarity(base, tuned, 4))


@settings(max_examples=40)
@given(SIDES, SIDES, SEEDS, st.integers(-60, 60))
def test_scaling_both_scales_sigma_only(rows: int, cols: int, seed: int, power: int) -> None:
    base, tuned = random(rows, cols, seed), random(rows, cols, seed + 1)
    found = exact_similarity(base * 2.0**power, tuned * 2.0**power, 4)
    plain = exact_similarity(base, tuned, 4)
    same(found._replace(sigma=found.sigma / 2.0**power), plain)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_extreme_scales(factor: float) -> None:
    base, tuned = random(20, 30, 25), random(20, 30, 26)
    found = exact_similarity(base * factor, tuned * factor, 4)
    plain = exact_similarity(base, tuned, 4)
    close(found.cosine, plain.cosine, atol=1e-12)
    close(found.energy, plain.energy, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_not_finite_is_refused(which: int) -> None:
    pair = [random(5, 6, 27), random(5, 6, 28)]
    pair[which][2, 3] = math.nan
    with pytest.raises(NonFiniteError, match=r"1 (NaN|Inf), the first at \[2, 3\]"):
        exact_similarity(pair[0], pair[1], 2)


@pytest.mark.parametrize("scale", [1.0, 1e160, 1e-160])
def test_shares_of_the_energy(scale: float) -> None:
    tuned = torch.diag(scale * torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64))
    found = exact_similarity(torch.eye(3, dtype=torch.float64), tuned, 2)
    close(found.energy, torch.tensor([16.0, 4.0]).double() / 21.0, atol=1e-15)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 20])
def test_leading_of(k: int, generator: torch.Generator) -> None:
    """No more than the rank; tied to a neighbour that may be the first left out."""
    sigma = torch.tensor([5.0, 4.0, 4.0 - 1e-15, 3.0, 2.0, 2.0, 1e-15, 0.0]).double()
    sigma[2] = torch.nextafter(sigma[1], torch.tensor(0.0).double())
    vectors = orthonormal(30, 8, 50)
    found = leading_of(vectors, sigma, k, 40)
    count = min(k, 6)
    assert torch.equal(found.vectors, vectors[:, :count])
    assert torch.equal(found.sigma, sigma[:count])
    assert found.tied.tolist() == [False, True, True, False, True, True][:count]
    assert found.leads == (count in (1, 3, 4, 6))
    assert found.vectors.data_ptr() != vectors.data_ptr()


@pytest.mark.parametrize("gap", [1e-16, 1e-12, 1e-9])
def test_a_subspace_leads_where_rounding_would_not_turn_it(gap: float) -> None:
    sigma = torch.tensor([2.0, 1.0, 1.0 - gap, 0.5], dtype=torch.float64)
    vectors = orthonormal(30, 4, 51)
    leads = gap > 1e-10  # a thousand roundings, 30 * eps * sigma_1 each
    assert leading_of(vectors, sigma, 2, 30).leads is leads
    assert closest_of(vectors.mT @ vectors[:, :2], sigma, (30, 4)).leads is leads
    assert leading_of(vectors, sigma, 2, 30).tied.tolist() == [False, gap < 1e-14]
    assert leading_of(vectors, torch.zeros(4, dtype=torch.float64), 2, 30).leads is False


@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (20, 20)], ids=str)
def test_closest_of(shape: tuple[int, int], generator: torch.Generator) -> None:
    """The largest of all, a repeated value's subspace as one, no null vector of a tall base."""
    sigma = torch.cat([torch.linspace(3, 2, 8), torch.full((4,), 1.0), torch.zeros(8)]).double()
    basis = orthonormal(shape[0], 20, 52)
    asked = torch.stack([basis[:, 3], basis[:, 8:12].sum(dim=1) / 2.0, basis[:, 14]], dim=1)
    base = torch.empty(shape)  # whose shape alone matters
    found = closest_of(basis.mT @ asked, sigma, base.shape)
    null = 0.0 if shape[0] > shape[1] else 1.0
    close(found.cosine, [1.0, 1.0, null], atol=1e-12)
    assert found.best.tolist()[:2] == [3, 8]
    assert found.best.tolist()[2] == 12 or null == 0.0
    close(found.cosines, (basis.mT @ asked).abs())
    assert found.leads
    assert not closest_of(basis.mT @ basis[:, :9], sigma, base.shape).leads
    assert not closest_of(basis.mT @ basis[:, :0], sigma, base.shape).leads
