"""Leading triplets: every proven error holds against LAPACK."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, orthonormal, random, spectrum
from spectra.kernels.counting import SPARE, at_most
from spectra.kernels.leading import (
    DOUBLE,
    SINGLE,
    Accept,
    Answer,
    Leading,
    Open,
    Search,
    Why,
    certified_leading,
    distance_from_sine,
    vectors_within,
)
from spectra.kernels.linear_map import FLOAT32 as LARGE
from spectra.kernels.linear_map import LinearMap, linear_map

# What is proven does not depend on how many steps a matrix has room for.
FLOAT32, FLOAT64 = replace(SINGLE, fewest=4), replace(DOUBLE, fewest=4)
IN_FLOAT32 = 1  # float32, whatever the size
SEARCHES = (
    FLOAT32,
    FLOAT64,
    replace(FLOAT32, first=3, every=1, most=9, tries=9),
    replace(FLOAT32, settled=True),
)


def whatever(_found: Leading) -> Answer:
    return Answer.YES


def holds(found: Leading, of: LinearMap, matrix: Tensor) -> None:
    """Hold every claim against a full decomposition of the scaled float64 matrix."""
    scaled = matrix.double() / of.scale
    left, sigma, right = torch.linalg.svd(scaled, full_matrices=False)
    right = right.mT
    rounding = 1e-12 * float(sigma[0])
    count = len(found.sigma)
    assert found.measured
    assert of.shape == tuple(matrix.shape)
    errors = (found.sigma - sigma[:count]).abs()
    assert float(errors.norm()) <= found.value_error + rounding
    # Kahan's bound, of which ordinary spectra need next to nothing.
    assert found.value_error >= (1.0 - 1e-12) * float(found.residual.norm())
    assert float(sigma[count]) < found.ceiling + rounding
    if not count:
        return
    assert float(sigma[count - 1]) >= found.ceiling - rounding
    gaps = (sigma[:count, None] - sigma).abs()
    gaps[torch.arange(count), torch.arange(count)] = math.inf
    reference = 1e-14 * float(sigma[0]) / gaps.amin(dim=1).clamp(min=1e-300)
    for i in range(count):
        outer, inner = found.outer[:, i], found.inner[:, i]
        sign = torch.sign(left[:, i] @ outer + right[:, i] @ inner)
        allowed = float(found.vector_error[i]) + 10.0 * float(reference[i]) + 1e-9
        assert float((outer - sign * left[:, i]).norm()) <= allowed
        assert float((inner - sign * right[:, i]).norm()) <= allowed
        pair = scaled @ inner - found.sigma[i] * outer
        other = scaled.mT @ outer - found.sigma[i] * inner
        residual = torch.cat([pair, other]).norm() / 2.0**0.5
        assert float(residual) <= float(found.residual[i]) + rounding


def proven(
    of: LinearMap,
    matrix: Tensor,
    k: int,
    accept: Accept = whatever,
    search: Search = FLOAT32,
    start: Tensor | None = None,
) -> Leading:
    """Triplets, all of whose claims hold."""
    found = certified_leading(of, k, accept, search, start)
    assert isinstance(found, Leading)
    holds(found, of, matrix)
    return found


def left_open(
    of: LinearMap, k: int, accept: Accept, search: Search = FLOAT32, start: Tensor | None = None
) -> Open:
    found = certified_leading(of, k, accept, search, start)
    assert isinstance(found, Open)
    return found


@settings(max_examples=125)
@given(
    st.integers(80, 140),
    st.integers(80, 140),
    st.integers(1, 5),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.sampled_from(["float64", "float32", "precise"]),
    st.booleans(),
    st.sampled_from([0, 0, 1, 4, 16]),
    st.sampled_from([1e-6, 1e-3, 1e-2, 1.0, None]),
    st.sampled_from(SEARCHES),
    st.integers(0, 3),
)
def test_every_error_is_no_less_than_the_true_one(
    rows: int,
    cols: int,
    k: int,
    kind: str,
    seed: int,
    way: str,
    turned: bool,
    rank: int,
    tolerance: float | None,
    search: Search,
    extra: int,
) -> None:
    source = torch.Generator().manual_seed(seed)
    matrix = with_spectrum(spectrum(kind, min(rows, cols), seed), rows, cols, source).float()
    whole = matrix.double()
    parts: tuple[Tensor, ...] = (matrix,)
    if rank:
        update = random(rows, rank, seed).float() / rows, random(rank, cols, seed + 1).float()
        whole, parts = whole + update[0].double() @ update[1].double(), (matrix, *update)
    accept = whatever if tolerance is None else vectors_within(k, tolerance)
    of = linear_map(*parts, float32=LARGE if way == "float64" else IN_FLOAT32)
    of, whole = (of.mT, whole.mT) if turned else (of, whole)
    if way == "precise":
        of = of.precise()
    start = torch.nn.functional.normalize(random(of.shape[1], extra, seed + 2), dim=0)
    search = replace(search, width=1)
    found = certified_leading(of, k, accept, search, start if extra else None)
    if isinstance(found, Leading):
        assert len(found.sigma) >= k or (tolerance is None and len(found.sigma) == 0)
        if tolerance is not None:
            assert float(found.vector_error[:k].max()) <= tolerance
        holds(found, of, whole)
    else:
        assert found.why in Why


@pytest.mark.parametrize("shape", [(300, 300), (290, 390), (390, 290)], ids=str)
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("k", [1, 10, 14])
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "turned"])
def test_separate_values_are_found(
    shape: tuple[int, int], single: bool, k: int, turned: bool
) -> None:
    tail = torch.linspace(0.3, 0.01, min(shape) - k)
    sigma = torch.cat([torch.linspace(3, 1, k + 1)[:k], tail])
    matrix = with_spectrum(sigma, *shape, torch.Generator().manual_seed(0)).float()
    of = linear_map(matrix, float32=IN_FLOAT32 if single else LARGE)
    of, matrix = (of.mT, matrix.mT) if turned else (of, matrix)
    found = proven(of, matrix, k, vectors_within(k, 1e-3))
    assert found.space.steps <= FLOAT32.most
    # Not vacuous: as exact as products with vectors in this precision allow.
    assert found.value_error <= (1e-4 if single else 1e-5) * float(found.sigma[0])
    assert found.sigma.device.type == found.vector_error.device.type == "cpu"


def test_float64_products_prove_more() -> None:
    sigma = torch.cat([torch.tensor([3.0, 2.0, 1.99, 1.98]), torch.logspace(-0.5, -3, 236)])
    matrix = with_spectrum(sigma, 260, 240, torch.Generator().manual_seed(1)).float()
    of, accept = linear_map(matrix, float32=IN_FLOAT32), vectors_within(4, 1e-6)
    assert left_open(of, 4, accept).why is Why.CLOSE
    found = proven(of.precise(), matrix, 4, accept, FLOAT64)
    assert found.value_error <= 1e-8 * float(found.sigma[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_float32_products_prove_the_edge_of_a_bulk_below_heads(seed: int) -> None:
    """Rounding of the heads is not that of the bulk, from which they differ by far."""
    side, edge, source = 1000, 0.127, torch.Generator().manual_seed(seed)
    heads = with_spectrum(torch.tensor([1, 0.7, 0.57, 0.5, 0.45, 0.42]), side, side, source)
    noise = torch.randn(side, side, generator=source, dtype=torch.float64)
    matrix = (heads + edge / 2.0 * noise / side**0.5).float()
    found = proven(linear_map(matrix, float32=IN_FLOAT32), matrix, 10, vectors_within(10, 1e-3))
    assert float(found.sigma[6] - found.sigma[9]) < 0.1 * edge * float(found.sigma[0])


def test_an_update_is_not_formed() -> None:
    sigma = torch.logspace(0, -2, 200)
    matrix = with_spectrum(sigma, 240, 200, torch.Generator().manual_seed(1)).float()
    up, down = 3.0 * orthonormal(240, 8, 2).float(), orthonormal(200, 8, 3).mT.float()
    down = down * torch.linspace(2, 1, 8)[:, None]
    of = linear_map(matrix, up, down, float32=IN_FLOAT32)
    proven(of, matrix.double() + up.double() @ down.double(), 8, vectors_within(8, 1e-3))


@pytest.mark.parametrize(
    ("sigma", "k", "why"),
    [
        (torch.ones(150), 3, {Why.CLOSE}),
        (torch.zeros(150), 1, {Why.RANK}),
        # Of a block that is rounding alone there may be nothing to make an orthonormal one of.
        (torch.cat([torch.ones(3), torch.zeros(147)]), 5, {Why.RANK, Why.OVERFLOW}),
        (torch.cat([torch.ones(80), torch.full((70,), 0.1)]), 5, {Why.CLOSE}),
        (torch.linspace(1, 0.99, 150), 10, {Why.CLOSE}),
        (torch.linspace(1, 0.1, 150), 20, {Why.SMALL}),
        (torch.linspace(1, 0.1, 50), 1, {Why.SMALL}),
    ],
    ids=["flat", "zero", "rank 3", "cluster", "crowded", "too many", "too small"],
)
@pytest.mark.parametrize("search", [FLOAT32, FLOAT64], ids=["single", "double"])
def test_what_cannot_be_proven_is_left_open_and_why(
    sigma: Tensor, k: int, why: set[Why], search: Search
) -> None:
    size = len(sigma)
    matrix = with_spectrum(sigma, size, size, torch.Generator().manual_seed(4))
    found = left_open(linear_map(matrix), k, vectors_within(k, 1e-3), search)
    assert found.why in why
    assert (found.seeds is not None) == (found.why is Why.CLOSE)


@pytest.mark.parametrize("small", [1e-1, 9e-5, 1e-8])
def test_what_is_negligible_is_left_to_a_full_decomposition(small: float) -> None:
    sigma = torch.cat([torch.linspace(1, 0.8, 3), small * torch.linspace(1, 0.8, 2),
                       torch.linspace(1e-2, 1e-3, 295) * small]).double()  # fmt: skip
    matrix = with_spectrum(sigma, 310, 300, torch.Generator().manual_seed(4))
    of, accept = linear_map(matrix), vectors_within(5, 1e-2)
    if small < FLOAT32.negligible:
        assert left_open(of, 5, accept) == Open(Why.RANK)
    else:
        proven(of, matrix, 5, accept)


@pytest.mark.parametrize(("single", "scale"), [(False, 1e-300), (False, 1e-200), (True, 1e-45)])
def test_products_that_overflow_are_told(single: bool, scale: float) -> None:
    matrix = with_spectrum(torch.linspace(1, 0.1, 150), 150, 150, torch.Generator()).float()
    of = replace(linear_map(matrix, float32=IN_FLOAT32 if single else LARGE), scale=scale)
    assert certified_leading(of, 1, whatever, FLOAT32) == Open(Why.OVERFLOW)


@pytest.mark.parametrize("split", [1e-9, 1e-6])
def test_vectors_of_nearly_coinciding_values_are_not_claimed(split: float) -> None:
    sigma = torch.cat([torch.tensor([3.0, 2.0, 2.0 * (1 - split)]).double(),
                       torch.linspace(0.5, 0.1, 147).double()])  # fmt: skip
    matrix = with_spectrum(sigma, 150, 160, torch.Generator().manual_seed(5))
    of = linear_map(matrix)
    found = proven(of.mT, matrix.mT, 3, vectors_within(3, 2.0))
    assert float(found.vector_error[0]) < 1e-3
    near = vectors_within(3, 1e-6)
    assert left_open(linear_map(matrix.float()).mT, 3, near).why is Why.CLOSE


@pytest.mark.parametrize("split", [0.0, 1e-15])
def test_values_that_coincide_have_no_vectors(split: float) -> None:
    sigma = torch.cat([torch.tensor([3.0, 2.0, 2.0 * (1 - split)]).double(),
                       torch.linspace(0.5, 0.1, 147).double()])  # fmt: skip
    matrix = with_spectrum(sigma, 160, 150, torch.Generator().manual_seed(6))
    found = certified_leading(linear_map(matrix), 3, whatever, FLOAT64)
    assert isinstance(found, Leading)
    assert found.vector_error[1:3].tolist() == [2.0, 2.0]
    assert float(found.vector_error[0]) < 1e-3
    assert found.value_error < 1e-6


def test_the_caller_decides_what_is_good_enough() -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 300), 300, 300, torch.Generator().manual_seed(6))
    of, asked = linear_map(matrix), []

    def later(found: Leading) -> Answer:
        asked.append(found)
        return Answer.LATER

    def measured(found: Leading) -> Answer:
        asked.append(found)
        return Answer.YES

    def never(found: Leading) -> Answer:
        asked.append(found)
        return Answer.NEVER

    assert left_open(of, 2, later).why is Why.CLOSE
    # Estimates, until nothing follows: what is proven then is measured all the same.
    *before, final = asked
    assert {found.space.steps for found in asked} == {6, 8, 10, 11}
    assert not any(found.measured or len(found.outer) for found in before)
    assert final.measured
    holds(final, of, matrix)
    asked.clear()
    proven(of, matrix, 2, measured)
    assert [found.measured for found in asked] == [False, True]
    assert asked[-2].space.steps == asked[-1].space.steps == FLOAT32.first
    asked.clear()
    # What is known when the search ends is measured, too.
    assert left_open(of, 2, never).why is Why.CLOSE
    assert [found.measured for found in asked] == [False, True]
    assert asked[-1].space.steps == FLOAT32.first


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_measurements_are_limited(tries: int) -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 220), 220, 220, torch.Generator().manual_seed(7))
    asked: list[bool] = []

    def estimates(found: Leading) -> Answer:
        asked.append(found.measured)
        return Answer.LATER if found.measured else Answer.YES

    search = replace(FLOAT32, first=4, every=1, tries=tries)
    assert left_open(linear_map(matrix), 2, estimates, search).why is Why.CLOSE
    assert asked.count(True) == tries


def test_at_last_whatever_is_proven_is_offered_even_none() -> None:
    """Values too close to each other: but none reaches the ceiling, and the space is known."""
    matrix = with_spectrum(torch.linspace(1, 0.99, 150), 170, 150, torch.Generator().manual_seed(8))
    of, asked = linear_map(matrix), []

    def none(found: Leading) -> Answer:
        asked.append(found)
        return Answer.YES if found.measured else Answer.LATER

    found = proven(of, matrix, 5, none, replace(FLOAT32, most=8))
    assert len(found.sigma) == 0
    assert found.outer.shape == (170, 0)
    assert found.inner.shape == (150, 0)
    assert found.value_error == 0.0
    largest = float(torch.linalg.svdvals(matrix)[0]) / of.scale
    assert largest < found.ceiling < 1.3 * largest
    assert at_most(0, found.ceiling**2, found.space)
    assert found.space.steps == max(one.space.steps for one in asked)


@pytest.mark.parametrize("extra", [1, 5, 12])
def test_further_columns_are_started_from(extra: int) -> None:
    """They are told of as the last rows of the start block, and no eigenvalue is lost by them."""
    sigma = torch.cat([torch.linspace(3, 2, 5), torch.linspace(1.0, 0.4, 255)])
    matrix = with_spectrum(sigma, 280, 260, torch.Generator().manual_seed(9))
    of = linear_map(matrix)
    start = orthonormal(260, extra, 10)
    found = proven(of, matrix, 5, vectors_within(5, 1e-2), start=start)
    space = found.space
    assert space.random >= 5 + 2 * SPARE + 6
    assert space.ritz.start.shape[1] == space.random + extra
    known = space.ritz.start[:, space.random :]
    torch.testing.assert_close(known.norm(dim=0), torch.ones(extra, dtype=torch.float64))
    # Ritz vectors, which these triplets are turned from, meet them as the triplets do.
    count = len(found.sigma)
    seen = (found.inner.mT @ start).square().sum(dim=0)
    torch.testing.assert_close(seen, known[:count].square().sum(dim=0), atol=1e-6, rtol=0)


def test_what_was_found_is_a_start_for_the_next_search() -> None:
    sigma = torch.cat([torch.linspace(1.5, 1.3, 6), torch.linspace(1.0, 0.4, 294)])
    matrix = with_spectrum(sigma, 300, 300, torch.Generator().manual_seed(11))
    of, accept = linear_map(matrix), vectors_within(6, 1e-3)
    first = left_open(of, 6, accept, replace(FLOAT32, most=5, first=5))
    assert first.why is Why.CLOSE
    assert first.seeds is not None
    assert first.seeds.shape == (300, 6 + SPARE)
    unit = torch.eye(6 + SPARE, dtype=torch.float64)
    torch.testing.assert_close(first.seeds.mT @ first.seeds, unit, rtol=0, atol=1e-9)
    right = torch.linalg.svd(matrix).Vh[:6].mT
    assert float((right.mT @ first.seeds).square().sum()) > 5.5
    again = replace(FLOAT32, first=4, every=1)
    without = proven(of, matrix, 6, accept, again)
    seeded = proven(of, matrix, 6, accept, again, first.seeds)
    assert seeded.space.steps < without.space.steps


def test_a_search_that_has_settled_is_not_gone_on_with() -> None:
    """Leading vectors that have converged, of values that nothing would tell apart."""
    sigma = torch.cat([torch.tensor([3.0, 2.0, 2.0 * (1 - 1e-12)]).double(),
                       torch.linspace(0.3, 0.1, 797).double()])  # fmt: skip
    matrix = with_spectrum(sigma, 800, 800, torch.Generator().manual_seed(12))
    of, steps = linear_map(matrix), {}
    for settled in (False, True):
        asked: list[Leading] = []

        def accept(found: Leading, asked: list[Leading] = asked) -> Answer:
            asked.append(found)
            return vectors_within(3, 1e-3)(found)

        search = replace(FLOAT32, settled=settled)
        assert left_open(of, 3, accept, search).why is Why.CLOSE
        steps[settled] = asked[-1].space.steps
        # Settled as far as products in float32 would let it be.
        assert float(asked[-1].residual[:3].max()) <= 1e-6
    assert steps[False] == FLOAT32.most
    assert steps[True] < FLOAT32.most


def test_vectors_within() -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 150), 150, 150, torch.Generator().manual_seed(13))
    found = proven(linear_map(matrix), matrix, 2, vectors_within(2, 1e-2))
    errors = found.vector_error
    assert vectors_within(2, float(errors[:2].max()))(found) is Answer.YES
    assert vectors_within(2, 0.99 * float(errors[:2].max()))(found) is Answer.LATER
    assert vectors_within(len(errors) + 1, 2.0)(found) is Answer.LATER


def test_distance_from_sine() -> None:
    angle = torch.linspace(0.0, 1.5, 20, dtype=torch.float64)
    pair = torch.stack([angle.cos(), angle.sin()])
    moved = (pair - torch.tensor([[1.0], [0.0]])).norm(dim=0) * 2.0**0.5
    torch.testing.assert_close(distance_from_sine(angle.sin()), moved.clamp(max=2.0))
    assert distance_from_sine(torch.tensor([1.0, 7.0, math.inf, math.nan])).tolist() == [2.0] * 4
