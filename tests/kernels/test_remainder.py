"""What is left of a vector: the bound, and the floor it may need, against eigenvectors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, random, spectrum
from spectra.kernels import linear_map as maps
from spectra.kernels.linear_map import linear_map
from spectra.kernels.remainder import Known, Question, remainders


def known_of(scaled: Tensor, count: int, turn: float, seed: int) -> Known:
    """The leading eigenvectors of W W^T, turned by about `turn`, and what they are off by."""
    left = torch.linalg.svd(scaled).U[:, :count]
    basis = torch.linalg.qr(left + turn * random(len(left), count, seed) / len(left) ** 0.5).Q
    turned = torch.linalg.eigh(basis.mT @ scaled @ scaled.mT @ basis)
    basis, values = basis @ turned.eigenvectors.flip(1), turned.eigenvalues.flip(0)
    off = (scaled @ (scaled.mT @ basis) - basis * values).norm(dim=0)
    return Known(basis, values, off + 1e-12)


@settings(max_examples=100)
@given(
    st.integers(40, 90),
    st.integers(0, 60),
    st.integers(1, 10),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.sampled_from([0.0, 1e-7, 1e-4, 1e-2]),
    st.booleans(),
    st.booleans(),
)
def test_no_eigenvector_holds_more(
    short: int,
    more: int,
    count: int,
    kind: str,
    seed: int,
    turn: float,
    single: bool,
    over_sigma: bool,
) -> None:
    """Wide maps: what is over sigma is asked on the right of a tall base."""
    source = torch.Generator().manual_seed(seed)
    matrix = with_spectrum(spectrum(kind, short, seed), short, short + more, source).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "SINGLE", 1 if single else 1 << 20)
        of = linear_map(matrix)
    scaled = matrix.double() / of.scale
    left, sigma, _ = torch.linalg.svd(scaled, full_matrices=False)
    # A ceiling between the known and the others, as far from both as there is room.
    ceiling = 0.6 * float(sigma[count - 1]) + 0.4 * float(sigma[count])
    if not ceiling > 1.0001 * float(sigma[count]):
        return
    vectors = torch.nn.functional.normalize(random(short, 3, seed + 1), dim=0)
    if over_sigma:
        outer = torch.nn.functional.normalize(random(short + more, 3, seed + 2), dim=0)
        vectors = scaled @ outer
    room = torch.full((3,), 50.0 if over_sigma else 0.99, dtype=torch.float64)
    question = Question(vectors, room, ceiling**2, over_sigma)
    found = remainders(of, known_of(scaled, count, turn, seed), question)
    if found is None:
        return
    held = (left[:, count:].mT @ vectors).abs()
    held = held / sigma[count:, None] if over_sigma else held
    for j in range(3):
        assert float(held[:, j].max()) <= found[j] + 1e-7
        assert found[j] < float(room[j])


@pytest.mark.parametrize("over_sigma", [False, True], ids=["plain", "over sigma"])
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_a_vector_spread_over_the_bulk_is_bounded(
    over_sigma: bool, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "SINGLE", 1 if single else 1 << 20)
    sigma = torch.cat([torch.linspace(3, 2, 5), torch.linspace(1.0, 0.4, 395)])
    matrix = with_spectrum(sigma, 400, 500, torch.Generator().manual_seed(1)).float()
    of = linear_map(matrix)
    scaled = matrix.double() / of.scale
    outer = torch.nn.functional.normalize(random(500, 2, 2), dim=0)
    vectors = scaled @ outer if over_sigma else outer[:400]
    room = torch.full((2,), 0.5, dtype=torch.float64)
    question = Question(vectors, room, (1.3 / of.scale) ** 2, over_sigma)
    found = remainders(of, known_of(scaled, 5, 0.0, 3), question)
    assert found is not None
    assert max(found) < 0.5


def test_an_eigenvector_among_the_unknown_is_not_bounded_away() -> None:
    sigma = torch.cat([torch.linspace(3, 2, 5), torch.linspace(1.0, 0.4, 195)])
    matrix = with_spectrum(sigma, 200, 200, torch.Generator().manual_seed(4))
    of = linear_map(matrix)
    scaled = matrix / of.scale
    vectors = torch.linalg.svd(scaled).U[:, [60, 199]] + 1e-3 * random(200, 2, 5)
    room = torch.full((2,), 0.9, dtype=torch.float64)
    for j in range(2):
        question = Question(vectors[:, [j]], room[:1], (1.3 / of.scale) ** 2, over_sigma=False)
        assert remainders(of, known_of(scaled, 5, 0.0, 6), question) is None


@pytest.mark.parametrize("least", [0.0, 1e-9, 1e-6])
def test_no_floor_where_the_spectrum_has_none(least: float) -> None:
    sigma = torch.cat([torch.linspace(3, 2, 5), torch.linspace(1.0, 0.4, 194)]).double()
    sigma = torch.cat([sigma, torch.tensor([least], dtype=torch.float64)])
    matrix = with_spectrum(sigma, 200, 260, torch.Generator().manual_seed(7))
    of = linear_map(matrix)
    scaled = matrix / of.scale
    vectors = scaled @ torch.nn.functional.normalize(random(260, 1, 8), dim=0)
    room = torch.full((1,), 0.7, dtype=torch.float64)
    question = Question(vectors, room, (1.3 / of.scale) ** 2, over_sigma=True)
    assert remainders(of, known_of(scaled, 5, 0.0, 9), question) is None


@settings(max_examples=60)
@given(st.integers(10, 60), st.integers(1, 5), st.integers(0, 2**20), st.sampled_from([1e-3, 0.05]))
def test_what_known_directions_leak(size: int, count: int, seed: int, turn: float) -> None:
    scaled = random(size, size, seed)
    left, sigma, _ = torch.linalg.svd(scaled)
    known = known_of(scaled, count, turn, seed)
    vector = random(size, 1, seed + 1).flatten()
    half = 0.01 * float(sigma[count]) ** 2
    for other in range(count, size):
        centre = torch.tensor([float(sigma[other]) ** 2 + 0.5 * half], dtype=torch.float64)
        most = known.beyond(vector)(centre, torch.full_like(centre, half))
        held = (left[:, other] @ known.basis).abs() @ (known.basis.mT @ vector).abs()
        assert float(held) <= float(most) * (1 + 1e-9) + 1e-9
