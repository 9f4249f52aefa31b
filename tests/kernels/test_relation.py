"""How far a recurrence is from exact: what is measured is no less than what is true."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, orthonormal, random, spectrum
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.linear_map import FLOAT32 as LARGE
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.relation import OWN, lengths, measured_above, measured_below, seen, shares

Apply = Callable[[Tensor], Tensor]


def grown(of: LinearMap, block: int, steps: int, apply: Apply | None = None) -> Lanczos:
    krylov = Lanczos(apply or of.gram_matmat, gaussian(of.shape[1], block, of.device), steps)
    for _ in range(steps):
        krylov.step()
    return krylov


def pairs_of(krylov: Lanczos) -> Ritz:
    assert krylov.finite
    return krylov.ritz()


def missed(krylov: Lanczos, ritz: Ritz, gram: Tensor) -> Tensor:
    """F of every Ritz vector, from the float64 matrix itself."""
    unit = torch.eye(krylov.size, dtype=torch.float64)
    return (gram @ krylov.basis - krylov.mapped(unit)) @ ritz.coordinates


def covers(rounding: Callable[[float], Tensor], ritz: Ritz, parts: Tensor, values: Tensor) -> float:
    """Hold f_i against F seen from each eigenvector, a row, and from all; return what is left.

    |sum of u^T F s_i c_i| <= root of the sum of (f_i c_i)^2 for all c, so the row over f is no
    longer than 1.
    """
    share = 0.0
    for value, row in zip(values.tolist(), parts, strict=True):
        each = rounding(value)
        assert each.shape == ritz.values.shape
        share = max(share, float((row / each).norm()))
    assert share <= 1.0
    return share


def made(
    shape: tuple[int, int], kind: str, seed: int, rank: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """A matrix of a spectrum, perhaps with an update's factors, and both as one."""
    source = torch.Generator().manual_seed(seed)
    matrix = with_spectrum(spectrum(kind, min(shape), seed), *shape, source).float()
    if not rank:
        return (matrix,), matrix.double()
    up, down = random(shape[0], rank, seed).float(), random(rank, shape[1], seed + 1).float()
    up = up / shape[0]
    return (matrix, up, down), matrix.double() + up.double() @ down.double()


@settings(max_examples=125)
@given(
    st.integers(40, 90),
    st.integers(40, 90),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 1, 4]),
    st.sampled_from([0, 1, 8, 50]),
    st.integers(0, 6),
)
def test_measured_rounding_is_no_less_than_the_true_one(
    rows: int,
    cols: int,
    block: int,
    steps: int,
    kind: str,
    seed: int,
    single: bool,
    turned: bool,
    rank: int,
    leading: int,
    cut: int,
) -> None:
    parts, whole = made((rows, cols), kind, seed, rank)
    of = linear_map(*parts, float32=1 if single else LARGE)
    assert of.matrix.dtype == (torch.float32 if single else torch.float64)
    of, whole = (of.mT, whole.mT) if turned else (of, whole)
    scaled = whole / of.scale
    krylov = grown(of, block, steps)
    ritz = pairs_of(krylov)
    found = seen(of, krylov, ritz, leading, min(cut, krylov.size))

    values, vectors = torch.linalg.eigh(scaled.mT @ scaled)
    true = missed(krylov, ritz, scaled.mT @ scaled)
    covers(found.rounding, ritz, vectors.mT @ true, values.clamp(min=0.0))
    top = float(values[-1])
    most = found.rounding(top)
    assert float(torch.linalg.matrix_norm(true.cpu() / most, 2)) <= 1.0
    # Not vacuous: float32 products of entries near 1 stay far below this.
    assert float(most.max()) < (1e-3 if single else 1e-10) * of.norm**2

    count = min(leading, krylov.size)
    assert found.vectors.shape == (of.shape[1], count)
    torch.testing.assert_close(found.vectors, krylov.basis @ ritz.coordinates[:, :count])
    assert found.own == of.rounding()
    apart = lengths(found.image - scaled @ found.vectors)
    assert float(apart.max() if count else 0.0) <= 2.0 * found.own
    apart = lengths(found.back - scaled.mT @ (scaled @ found.vectors))
    assert float(apart.max() if count else 0.0) <= 4.0 * found.own * of.norm


@pytest.mark.parametrize("rank", [0, 3], ids=["plain", "updated"])
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "turned"])
def test_whatever_is_wrong_with_the_products_is_seen(rank: int, turned: bool) -> None:
    """A space of something else, or of products with noise: F is large, and so is what is seen."""
    parts, whole = made((90, 70), "slow", 1, rank)
    of = linear_map(*parts)
    of, whole = (of.mT, whole.mT) if turned else (of, whole)
    gram = (whole / of.scale).mT @ (whole / of.scale)
    top = float(torch.linalg.eigvalsh(gram)[-1])
    noise = top * random(len(gram), len(gram), 2) / len(gram) ** 0.5
    wrong: dict[str, Apply] = {
        "scaled": lambda v: 0.9 * of.gram_matmat(v),
        "noise": lambda v: of.gram_matmat(v) + 1e-3 * noise @ v,
        "one direction": lambda v: of.gram_matmat(v) + 1e-3 * top * v.sum(dim=0),
    }
    for apply in wrong.values():
        krylov = grown(of, 5, 5, apply)
        ritz = pairs_of(krylov)
        true = missed(krylov, ritz, gram)
        found = seen(of, krylov, ritz).rounding(top)
        assert float(torch.linalg.matrix_norm(true.cpu() / found, 2)) <= 1.0
        assert float(true.norm()) > 1e-4 * top
        # `INFLATION`, the share of the leading ones and the weights of sums of squares.
        assert float(found.max()) <= 50.0 * float(true.norm())


def test_leading_vectors_have_their_own_rounding() -> None:
    """Noise beside them is not theirs."""
    sigma = torch.cat([torch.linspace(4, 3, 4), torch.linspace(1, 0.5, 76)])
    matrix = with_spectrum(sigma, 90, 80, torch.Generator().manual_seed(3))
    of = linear_map(matrix)
    leading = torch.linalg.svd(matrix, full_matrices=False).Vh[:4].mT
    beside = torch.eye(80, dtype=torch.float64) - leading @ leading.mT
    noise = beside @ (random(80, 80, 4) + random(80, 80, 4).mT) @ beside / 80**0.5
    krylov = grown(of, 8, 8, lambda v: of.gram_matmat(v) + 1e-4 * noise @ v)
    ritz = pairs_of(krylov)
    scaled = matrix / of.scale
    true = missed(krylov, ritz, scaled.mT @ scaled)
    top = float(ritz.values[0])
    for count in (0, 2, 4):
        found = seen(of, krylov, ritz, count).rounding(top)
        assert float(torch.linalg.matrix_norm(true.cpu() / found, 2)) <= 1.0
        assert (found[:count] < 1e-9).all()
        assert found[count:].max() > 1e-4


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_no_other_shares_make_the_sum_of_a_certificate_less(cut: int) -> None:
    matrix = with_spectrum(torch.linspace(3, 1, 60), 70, 60, torch.Generator().manual_seed(8))
    of = linear_map(matrix)
    ritz = pairs_of(grown(of, 6, 5))
    times = shares(ritz, 8, cut)
    values = ritz.values
    weight = lengths(ritz.start[8:].mT) / (values[max(cut, 1) - 1] - values[8:])

    def total(others: Tensor) -> float:
        """What they amount to where F is alike on all."""
        return float((others * weight).norm()) * float((1.0 / others).norm())

    least = total(times[8:])
    for seed in range(20):
        other = times[8:] * (0.3 * random(len(times) - 8, 1, seed)[:, 0]).exp()
        assert least <= total(other)
    assert least < total(torch.ones_like(times[8:]))
    assert times[:8].tolist() == [math.sqrt(8 / OWN)] * 8


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", ["power", "slow", "near"])
def test_what_is_reached_from_below(kind: str, single: bool) -> None:
    (matrix,), whole = made((120, 100), kind, 5, 0)
    of = linear_map(matrix, float32=1 if single else LARGE)
    krylov = grown(of, 8, 9)
    ritz = pairs_of(krylov)
    rounding, reached = measured_above(of, krylov, ritz)
    largest = float(torch.linalg.svdvals(whole)[0]) / of.scale
    assert 0.9999 * largest < reached <= largest
    torch.testing.assert_close(rounding(1.0), seen(of, krylov, ritz).rounding(1.0))


@settings(max_examples=75)
@given(
    st.integers(40, 80),
    st.integers(0, 40),
    st.integers(1, 8),
    st.integers(1, 4),
    st.floats(0.0, 4.0),
    st.integers(0, 2**20),
    st.sampled_from(["float64", "float32", "noise", "least"]),
    st.booleans(),
)
def test_measured_rounding_of_the_inverse_is_no_less_than_the_true_one(
    cols: int,
    more: int,
    block: int,
    steps: int,
    decades: float,
    seed: int,
    way: str,
    by_transposed: bool,
) -> None:
    """Of (W^T W)^-1, from factors that are exact, rounded or wrong."""
    source = torch.Generator().manual_seed(seed)
    rows = cols if by_transposed else cols + more
    matrix = with_spectrum(torch.logspace(0, -decades, cols), rows, cols, source)
    of = linear_map(matrix)
    scaled = matrix / of.scale
    left, sigma, right = torch.linalg.svd(scaled, full_matrices=False)
    pinv = (right.mT / sigma) @ left.mT
    if way == "float32":
        pinv = pinv.float().double()
    if way == "noise":
        pinv = pinv + 1e-3 * float(pinv.norm()) * random(cols, rows, seed + 1) / rows
    if way == "least":  # along the smallest singular value alone
        pinv = pinv + 1e-3 / sigma[-1] * torch.outer(right[-1], left[:, -1])
    krylov = grown(of, block, steps, lambda v: pinv @ (pinv.mT @ v))
    ritz = pairs_of(krylov)
    solve = pinv.mT.__matmul__ if by_transposed else None
    rounding, reached = measured_below(of, solve, krylov, ritz)

    values = sigma.square().reciprocal()
    basis, image = (part @ ritz.coordinates for part in (
        krylov.basis, krylov.mapped(torch.eye(krylov.size, dtype=torch.float64))))  # fmt: skip
    parts = values[:, None] * (right @ basis) - right @ image
    covers(rounding, ritz, parts, values)
    # Below what is reached, where the float64 twin of the inverse is as good as that.
    assert reached <= 1.0 / float(sigma[-1]) * (1.0 + 1e-14 * 10.0**decades)


@pytest.mark.parametrize("by_transposed", [False, True], ids=["W y", "solved"])
def test_what_is_reached_of_the_inverse(by_transposed: bool) -> None:
    sigma = torch.cat([torch.linspace(1, 0.5, 76), torch.tensor([0.04, 0.03, 0.02, 0.01])])
    matrix = with_spectrum(sigma, 80, 80, torch.Generator().manual_seed(6))
    of = linear_map(matrix)
    inverse = torch.linalg.inv(matrix / of.scale)
    krylov = grown(of, 8, 6, lambda v: inverse @ (inverse.mT @ v))
    solve = inverse.mT.__matmul__ if by_transposed else None
    rounding, reached = measured_below(of, solve, krylov, pairs_of(krylov))
    largest = float(torch.linalg.svdvals(inverse)[0])
    assert 0.999999 * largest < reached <= largest
    # Nor is it vacuous: rounding of the inverse, relative to its largest eigenvalue.
    assert float(rounding(largest**2).max()) <= 1e-9 * largest**2


def test_a_zero_matrix_is_not_called_exact() -> None:
    of = linear_map(torch.zeros(60, 50))
    krylov = grown(of, 4, 4)
    if not krylov.finite:
        return
    found = seen(of, krylov, krylov.ritz()).rounding(1.0)
    assert ((found >= 0.0) | found.isnan()).all()


@pytest.mark.parametrize("size", [1, 7])
def test_lengths(size: int) -> None:
    vectors = random(30, size, 7)
    expected = [math.hypot(*column) for column in vectors.mT.tolist()]
    assert lengths(vectors).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("leading", [0, 3, 8])
def test_sums_of_many_ritz_vectors_are_covered(leading: int) -> None:
    """The worst sum is along the leading singular vector of F; each alone says nothing of it."""
    matrix = with_spectrum(torch.linspace(1, 0.2, 60), 70, 60, torch.Generator().manual_seed(8))
    of = linear_map(matrix)
    direction = orthonormal(60, 1, 9)
    krylov = grown(of, 6, 5, lambda v: of.gram_matmat(v) + 1e-5 * direction @ v.sum(dim=0)[None])
    ritz = pairs_of(krylov)
    scaled = matrix / of.scale
    true = missed(krylov, ritz, scaled.mT @ scaled).cpu()
    found = seen(of, krylov, ritz, leading).rounding(float(ritz.values[0]))
    worst = float(torch.linalg.matrix_norm(true / found, 2))
    assert 0.01 < worst <= 1.0
