"""No eigenvector holds more of a vector than the bound, whatever the process of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.pairs import orthonormal, random
from spectra.kernels.christoffel import Jacobi, _null_share, _stiffness, jacobi, largest_component


def nothing(centre: Tensor, _half: Tensor) -> Tensor:
    return torch.zeros_like(centre)


def naive(
    matrix: Tensor, vector: Tensor, steps: int, noise: float, seed: int
) -> tuple[Jacobi, Tensor]:
    """Lanczos with full reorthogonalisation; every product off by `noise`, which is measured."""
    basis = [vector / vector.norm()]
    diagonal, beside = [], []
    errors = random(len(vector), steps, seed)
    for j in range(steps):
        image = matrix @ basis[-1] + noise * errors[:, j] / math.sqrt(len(vector))
        diagonal.append(float(basis[-1] @ image))
        for _ in range(2):
            for known in basis:
                image = image - known * (known @ image)
        beside.append(float(image.norm()))
        basis.append(image / image.norm())
    made = torch.stack(basis[:steps], dim=1)
    band = torch.tensor(beside[:-1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    tridiagonal += torch.diag(band, 1) + torch.diag(band, -1)
    error = float((matrix @ made - made @ tridiagonal)[:, :-1].norm())
    of = Jacobi(tridiagonal.diagonal(), band, float(vector.norm()), error + 1e-13, 0.0)
    return of, made


@settings(max_examples=600)
@given(
    st.integers(4, 40),
    st.integers(2, 9),
    st.integers(0, 2**20),
    st.sampled_from([0.0, 1e-6, 1e-3]),
    st.sampled_from(["uniform", "clustered", "graded", "few"]),
    st.floats(0.0, 0.6),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_no_component_is_larger(
    size: int,
    steps: int,
    seed: int,
    noise: float,
    kind: str,
    low: float,
    length: float,
    over_sigma: bool,
) -> None:
    values = torch.rand(size, generator=torch.Generator().manual_seed(seed)).double()
    if kind == "clustered":
        values = (3 * values).round() / 3 + 0.1
    if kind == "graded":
        values = 10.0 ** (-6 * values)
    vectors = orthonormal(size, size, seed)
    matrix = (vectors * values) @ vectors.mT
    weights = random(size, 1, seed + 1).flatten()
    if kind == "few":
        weights[3:] *= 1e-4
    vector = vectors @ weights
    of, _ = naive(matrix, vector, min(steps, size - 1), noise, seed)
    low = max(low, 1e-3) if over_sigma else low
    between = low, low + length
    bound = largest_component(
        of, between, nothing, 1e6, torch.rsqrt if over_sigma else torch.ones_like
    )
    # What the vector holds of a repeated eigenvalue's whole subspace.
    for value in values[(values >= low) & (values <= low + length)].tolist():
        held = float(weights[(values - value).abs() < 1e-12].norm())
        held = held / math.sqrt(value) if over_sigma else held
        assert held <= bound * (1 + 1e-9) + 1e-9


@settings(max_examples=300)
@given(st.integers(3, 8), st.integers(1, 4), st.integers(0, 2**20), st.sampled_from([0.6, 2.0]))
def test_a_process_that_nearly_ends_hides_nothing(
    steps: int, more: int, seed: int, enough: float
) -> None:
    source = torch.Generator().manual_seed(seed)
    size = steps + more
    diagonal = torch.rand(size, generator=source).double()
    beside = 0.3 * torch.rand(size - 1, generator=source).double() + 1e-3
    weak = torch.randint(0, steps - 1, (2,), generator=source)
    beside[weak] = 10.0 ** (-7.0 - 5.0 * torch.rand(2, generator=source).double())
    whole = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
    values, vectors = torch.linalg.eigh(whole)
    within = (values >= 0.0) & (values <= 1.0)
    true = float(torch.where(within, vectors[0].abs(), 0.0).max())
    of = Jacobi(diagonal[:steps], beside[: steps - 1], 1.0, 0.0, 0.0)
    assert largest_component(of, (0.0, 1.0), nothing, enough) >= true - 1e-9


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-12, 1e-16, 1e-21])
@pytest.mark.parametrize("steps", [4, 16, 40])
def test_a_spectrum_far_below_the_range(scale: float, steps: int) -> None:
    """Where the polynomials overflow, they say nothing less."""
    values = scale * torch.linspace(0.1, 1.0, 60, dtype=torch.float64)
    of, _ = naive(torch.diag(values), torch.ones(60, dtype=torch.float64), steps, 0.0, 0)
    of = of._replace(norm=1.0, error=0.0)
    assert largest_component(of, (0.0, 1.0), nothing, 0.9) >= 1.0 / math.sqrt(60)


def test_the_bound_is_near_the_christoffel_function() -> None:
    """A vector spread over the bulk holds little of any eigenvector, and a few steps say so."""
    values = torch.linspace(0.0, 1.0, 400, dtype=torch.float64)
    vector = torch.full((400,), 0.05, dtype=torch.float64)
    for steps, most in ((4, 0.9), (8, 0.65), (16, 0.45)):
        of, _ = naive(torch.diag(values), vector, steps, 0.0, 0)
        bound = largest_component(of, (0.0, 1.0), nothing, most)
        sampled = float(_null_share(of, torch.linspace(0.0, 1.0, 5000).double()).max())
        assert sampled - 1e-9 <= bound < most


def test_what_else_may_be_held_is_added() -> None:
    of, _ = naive(
        torch.diag(torch.linspace(0, 1, 50).double()), random(50, 1, 0).flatten(), 8, 0, 0
    )
    plain = largest_component(of, (0.0, 1.0), nothing, 100.0)
    more = largest_component(of, (0.0, 1.0), lambda c, h: torch.full_like(c, 0.5), 100.0)
    assert more >= plain
    assert more >= 0.5


def test_early_ends() -> None:
    of, _ = naive(
        torch.diag(torch.linspace(0, 1, 50).double()), random(50, 1, 1).flatten(), 4, 0, 0
    )
    assert largest_component(of, (1.0, 1.0), nothing, 1.0) == 0.0
    assert largest_component(of, (0.0, 1.0), nothing, 1e-3) == math.inf
    assert largest_component(of._replace(error=math.inf), (0.0, 1.0), nothing, 1.0) == math.inf
    alone = Jacobi(of.diagonal[:1], of.beside[:0], 1.0, 0.0, 0.0)
    assert largest_component(alone, (0.0, 1.0), nothing, 2.0) == math.inf


def test_growth_counts_as_error_at_the_far_end() -> None:
    of, _ = naive(torch.diag(torch.linspace(0, 1, 60).double()), torch.ones(60).double(), 10, 0, 0)
    plain = largest_component(of, (0.0, 1.0), nothing, 1e3)
    assert largest_component(of._replace(growth=0.1), (0.0, 1.0), nothing, 1e3) >= plain
    moved = of._replace(error=of.error + 0.1)
    assert largest_component(moved, (0.0, 1.0), nothing, 1e3) >= plain


@settings(max_examples=200)
@given(st.integers(2, 9), st.integers(0, 2**20), st.floats(-1.0, 2.0))
def test_stiffness_and_null_vector(size: int, seed: int, point: float) -> None:
    source = torch.Generator().manual_seed(seed)
    diagonal = torch.rand(size, generator=source).double()
    beside = 10.0 ** (-9.0 * torch.rand(size - 1, generator=source).double())
    of = Jacobi(diagonal, beside, 1.0, 0.0, 0.0)
    whole = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
    reduced = (whole - point * torch.eye(size).double())[:-1]
    values = torch.linalg.svdvals(reduced)
    stiff = float(_stiffness(of, torch.tensor([point], dtype=torch.float64))[0])
    assert stiff <= float(values[-1]) * (1 + 1e-6) + 1e-15
    assert stiff >= float(values[-1]) - 1e-6 * float(values[0])


@settings(max_examples=200)
@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 2**20), st.booleans())
def test_a_process_from_a_block_space(size: int, steps: int, seed: int, exact: bool) -> None:
    """On a space that W W^T does not leave, the process is that of the matrix itself."""
    nodes = torch.rand(size, generator=torch.Generator().manual_seed(seed)).double()
    nodes = nodes.sort(descending=True).values
    weights = random(size, 1, seed).flatten()
    leaving = torch.zeros(2, size).double() if exact else 1e-3 * random(2, size, seed + 1)
    of = jacobi(nodes, weights, leaving, steps, (0.0, 0.0))
    assert of.norm == pytest.approx(float(weights.norm()))
    assert len(of.diagonal) == len(of.beside) + 1 <= steps
    if exact:
        assert of.error == 0.0
        bound = largest_component(of, (0.0, 1.0), nothing, 1e6)
        assert float(weights.abs().max()) <= bound * (1 + 1e-9) + 1e-9
    elif steps > 1 and len(of.beside):
        assert of.error > 0.0
