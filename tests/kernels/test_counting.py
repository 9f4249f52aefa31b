"""No eigenvalue is ever missed: counts are proven against full decompositions."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, random, spectrum
from spectra.kernels.counting import (
    FAILURE,
    SPARE,
    Space,
    _least_polynomial,
    at_most,
    gaussian_floor,
    is_drowned,
)
from spectra.kernels.lanczos import Lanczos
from spectra.kernels.linear_map import FLOAT32 as LARGE
from spectra.kernels.linear_map import linear_map
from spectra.kernels.relation import seen


def space_of(
    matrix: Tensor, start: Tensor, steps: int, *, single: bool = False
) -> tuple[Space, Tensor]:
    """A Krylov space of a matrix whose start is Gaussian, and the true eigenvalues."""
    of = linear_map(matrix, float32=1 if single else LARGE)
    turned = of.mT  # of W W^T
    krylov = Lanczos(turned.gram_matmat, start, steps)
    for _ in range(steps):
        krylov.step()
    ritz = krylov.ritz()
    rounding = seen(turned, krylov, ritz).rounding
    true = torch.linalg.svdvals(matrix.double() / of.scale).square()
    full = torch.cat([true, true.new_zeros(max(matrix.shape[0] - len(true), 0))])
    return Space(ritz, start.shape[1], steps, rounding), full


def constant(each: Tensor) -> Callable[[float], Tensor]:
    """The same rounding at every point."""
    return lambda _point: each


@settings(max_examples=150)
@example(56, 55, 6, 4, "flat", 0, False)  # a zero, whose Ritz value is the rounding of 16
@given(
    st.integers(30, 80),
    st.integers(30, 80),
    st.integers(6, 12),
    st.integers(2, 6),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.booleans(),
)
def test_no_count_is_too_small(
    rows: int, cols: int, block: int, steps: int, kind: str, seed: int, single: bool
) -> None:
    steps = min(steps, min(rows, cols) // block - 1)
    source = torch.Generator().manual_seed(seed)
    matrix = with_spectrum(spectrum(kind, min(rows, cols), seed), rows, cols, source).float()
    space, true = space_of(matrix, random(rows, block, seed + 1), steps, single=single)
    values = space.ritz.values
    for counted in range(block - SPARE):
        high = float(values[counted - 1]) if counted else 2.0 * float(values[0])
        low = float(values[counted])
        for share in (0.999, 0.6, 0.3, 0.01):
            point = low + share * (high - low)
            if low < point < high and at_most(counted, point, space):
                assert int((true >= point).sum()) <= counted, (counted, point)
    for share in (0.99, 0.5, 0.1, 1e-3):
        point = share * float(values[-1])
        if point > 0.0 and at_most(0, point, space):
            assert float(true.min()) > point


@settings(max_examples=150)
@given(st.integers(20, 60), st.integers(1, 5), st.integers(5, 9), st.integers(0, 2**20))
def test_an_eigenvalue_that_a_start_nearly_lacks_is_not_denied(
    rows: int, hidden: int, block: int, seed: int
) -> None:
    """The hardest case for a Gaussian start is one that it might have been by chance."""
    vectors = torch.linalg.qr(random(rows, rows, seed)).Q
    sigma = torch.rand(rows, generator=torch.Generator().manual_seed(seed)).double()
    sigma[:hidden] += 1.0
    matrix = (vectors * sigma) @ torch.linalg.qr(random(rows, rows, seed + 1)).Q
    start = random(rows, block, seed + 2)
    # As unlucky as a draw in a billion.
    start -= (1.0 - 1e-9 ** (1.0 / block)) * vectors[:, :1] @ (vectors[:, :1].mT @ start)
    steps = max(min(3, rows // block - 1), 1)
    space, true = space_of(matrix, start, steps)
    values = space.ritz.values
    for counted in range(min(block - SPARE, len(values))):
        high = float(values[counted - 1]) if counted else 2.0 * float(values[0])
        point = 0.5 * (high + float(values[counted]))
        if at_most(counted, point, space):
            assert int((true >= point).sum()) <= counted


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("counted", [1, 4, 10])
def test_what_has_converged_is_proven(counted: int, single: bool) -> None:
    sigma = torch.cat([torch.linspace(4, 3, counted), torch.linspace(1, 0.1, 120 - counted)])
    matrix = with_spectrum(sigma, 140, 120, torch.Generator().manual_seed(1)).float()
    space, true = space_of(matrix, random(140, 20, 2), 5, single=single)
    point = float(0.5 * (true[counted - 1] + true[counted]))
    assert at_most(counted, point, space)


def test_the_lower_end_is_proven() -> None:
    sigma = torch.linspace(1.0, 0.5, 110)
    matrix = with_spectrum(sigma, 110, 130, torch.Generator().manual_seed(3))
    space, true = space_of(matrix, random(110, 12, 4), 8)
    least = float(true.min())
    assert at_most(0, 0.2 * least, space)
    assert not at_most(0, 0.999 * least, space)


@pytest.mark.parametrize("side", [40, 55])
def test_nothing_is_claimed_below_the_rounding_of_the_largest(side: int) -> None:
    """The null vector's Ritz value is whatever rounding makes of it, however good it looks."""
    matrix = with_spectrum(torch.full((side,), 4.0), side + 1, side, torch.Generator())
    space, true = space_of(matrix, random(side + 1, 6, 1), 4)
    values = space.ritz.values.clone()
    assert float(true.min()) == 0.0
    for exponent in range(-30, -14):
        values[-1] = 16.0 * 10.0**exponent
        ritz = space.ritz._replace(values=values, leaving=1e-9 * values[None])
        good = space._replace(ritz=ritz, rounding=constant(1e-9 * values))
        assert not at_most(0, 0.5 * float(values[-1]), good)


@pytest.mark.parametrize("counted", [0, 3, 15, 16, 30])
def test_too_few_columns_prove_nothing(counted: int) -> None:
    space, true = space_of(random(60, 50, 5), random(60, 20, 6), 2)
    proven = at_most(counted, 2.0 * float(true[0]), space)
    assert not proven or counted < 20 - SPARE


@pytest.mark.parametrize(("columns", "counted"), [(6, 0), (8, 2), (12, 0), (12, 7), (24, 10)])
def test_gaussian_floor(columns: int, counted: int) -> None:
    """At a probability that can be simulated, and falling with it."""
    draws = random(20_000, (counted + 1) * columns, 7).reshape(-1, counted + 1, columns)
    least = torch.linalg.svdvals(draws)[:, -1]
    at = {}
    for probability in (0.3, 0.1, 1e-2, 1e-3):
        at[probability] = gaussian_floor(columns, counted, probability)
        assert float((least < at[probability]).double().mean()) <= probability
    assert FAILURE == 1e-12
    assert 0.0 < gaussian_floor(columns, counted) < at[1e-3] < at[0.3]


@pytest.mark.parametrize("side", [110, 130])
def test_what_is_drowned_is_never_proven_and_what_is_not_may_be(side: int) -> None:
    """Whatever the space has learnt: rounding by itself is too much, or it is not."""
    matrix = with_spectrum(torch.linspace(1.0, 0.5, side), side, side, torch.Generator())
    space, true = space_of(matrix, random(side, 12, 4), 8)
    point = 1.5 * float(true[0])
    told = set()
    for exponent in range(-14, 2):
        loud = space._replace(rounding=constant(torch.full((96,), 10.0**exponent).double()))
        drowned = is_drowned(point, loud)
        told.add(drowned)
        assert not (drowned and at_most(0, point, loud))
    assert told == {True, False}
    assert at_most(0, point, space)
    assert not is_drowned(point, space)


def test_no_floor_without_spare_columns() -> None:
    assert gaussian_floor(10, 10 - SPARE) == 0.0
    assert gaussian_floor(10, 10 - SPARE - 1) > 0.0


@settings(max_examples=50)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**20), st.booleans())
def test_the_polynomial_is_one_of_its_degree_that_grows_beyond_its_nodes(
    count: int, steps: int, seed: int, above: bool
) -> None:
    steps = min(steps, count)
    nodes = torch.rand(count, generator=torch.Generator().manual_seed(seed)).double()
    weight = random(count, 1, seed).flatten().abs() + 1e-3
    point = 1.5 if above else -0.5
    ratio = _least_polynomial(nodes, weight, point, steps)
    further = _least_polynomial(nodes, weight, point + (1.0 if above else -1.0), steps)
    # The least of the weighted sum: no more than that of the constant or of a shifted power.
    total = float((ratio * weight).norm())
    plain = ((nodes - 0.5) / (point - 0.5)).abs() ** (steps - 1)
    assert total <= min(float(weight.norm()), float((plain * weight).norm())) * (1 + 1e-9) + 1e-9
    assert float((further * weight).norm()) <= total * (1 + 1e-9) + 1e-9


def test_rounding_falls_over_the_distance() -> None:
    space, true = space_of(random(50, 40, 8), random(50, 8, 9), 3, single=True)
    values = space.ritz.values
    for first, second in ((1.1, 1.2), (1.2, 3.0)):
        near, far = first * float(true[0]), second * float(true[0])
        assert (
            space.rounding(far) / (far - values) <= space.rounding(near) / (near - values)
        ).all()
