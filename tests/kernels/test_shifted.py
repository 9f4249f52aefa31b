"""No eigenvector holds more of a vector than the bound, whatever the space it is seen from."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.pairs import orthonormal, random
from spectra.kernels.lanczos import Lanczos, Ritz
from spectra.kernels.relation import Rounding
from spectra.kernels.shifted import Cover, Question, largest_components

COVER = Cover()


def space_of(
    matrix: Tensor, start: Tensor, steps: int, noise: float = 0.0, seed: int = 0
) -> tuple[Ritz, float]:
    """A Krylov space whose every product is off by `noise`, and the norm of its F."""
    errors = noise * random(len(matrix), len(matrix), seed) / math.sqrt(len(matrix))
    krylov = Lanczos((matrix + errors).__matmul__, start, steps)
    for _ in range(steps):
        krylov.step()
    assert krylov.finite
    ritz = krylov.ritz()
    unit = torch.eye(krylov.size, dtype=torch.float64)
    off = matrix @ krylov.basis - krylov.mapped(unit)
    return ritz, float(torch.linalg.matrix_norm(off, 2)) + 1e-13


def constant(ritz: Ritz, size: float) -> Rounding:
    """The same rounding for every Ritz vector and eigenvalue."""
    return lambda _x: torch.full_like(ritz.values, size)


def largest_component(
    ritz: Ritz,
    components: Tensor,
    rounding: Rounding,
    between: tuple[float, float],
    enough: float,
    *,
    over_root: bool = False,
    cover: Cover = COVER,
) -> float:
    """The bound of one vector."""
    room = torch.tensor([enough], dtype=torch.float64).cpu()  # as all of a Ritz pair
    question = Question(components[:, None], room, between, over_root)
    (found,) = largest_components(ritz, question, rounding, cover).tolist()
    return float(found) if found < enough else math.inf


def bounded(
    ritz: Ritz, rounding: float, between: tuple[float, float], enough: float = 1e6
) -> float:
    """Of the first column of the start block."""
    return largest_component(ritz, ritz.start[:, 0], constant(ritz, rounding), between, enough)


@settings(max_examples=300)
@given(
    st.integers(6, 40),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(0, 2**20),
    st.sampled_from([0.0, 1e-6, 1e-3]),
    st.sampled_from(["uniform", "clustered", "graded", "few", "one"]),
    st.floats(0.0, 0.6),
    st.floats(0.0, 1.0),
    st.booleans(),
    st.sampled_from([1.01, 1.5, 4.0, 1e6]),
)
def test_no_component_is_larger(
    size: int,
    block: int,
    steps: int,
    seed: int,
    noise: float,
    kind: str,
    low: float,
    length: float,
    over_root: bool,
    enough: float,
) -> None:
    """Of a vector that random columns were started beside."""
    block = min(block, size // 2)  # or there is no room for a second one
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
    if kind == "one":
        weights[1:] *= 1e-2
    start = torch.cat([(vectors @ weights)[:, None], random(size, block - 1, seed + 2)], dim=1)
    steps = min(steps, size // block - 1)
    ritz, error = space_of(matrix, start, steps, noise, seed + 3)
    low = max(low, 1e-3) if over_root else low
    between = low, low + length
    # What the vector holds of a repeated eigenvalue's whole subspace.
    held = []
    for value in values[(values >= low) & (values <= low + length)].tolist():
        part = float(weights[(values - value).abs() < 1e-12].norm())
        held.append(part / math.sqrt(value) if over_root else part)
    largest = max(held, default=0.0)
    bound = largest_component(
        ritz,
        ritz.start[:, 0],
        constant(ritz, error),
        between,
        enough * largest if largest else 1.0,
        over_root=over_root,
    )
    assert largest <= bound * (1 + 1e-9) + 1e-9


@settings(max_examples=100)
@given(
    st.integers(10, 40),
    st.integers(2, 8),
    st.integers(0, 2**20),
    st.sampled_from([1e-14, 1e-9, 1e-6, 1e-3]),
    st.sampled_from([1.05, 2.0, 1e6]),
)
def test_eigenvalues_that_nearly_coincide_hold_no_more_together(
    size: int, members: int, seed: int, split: float, enough: float
) -> None:
    """Added to the rounding: how far a vector of their subspace is from an eigenvector."""
    values = torch.rand(size, generator=torch.Generator().manual_seed(seed)).double()
    values[:members] = 0.5 + split * (torch.linspace(0, 1, members).double() - 0.5)
    vectors = orthonormal(size, size, seed)
    weights = random(size, 1, seed + 1).flatten()
    matrix = (vectors * values) @ vectors.mT
    ritz, error = space_of(matrix, (vectors @ weights)[:, None], min(size - 2, 12))
    held = float(weights[:members].norm())
    bound = bounded(ritz, error + split / 2.0, (0.4, 0.6), enough * held)
    assert held <= bound * (1 + 1e-9) + 1e-9


def test_one_of_a_subspace_is_not_all_of_it() -> None:
    """What a vector holds of five equal eigenvalues lies along one eigenvector of theirs."""
    values = torch.linspace(0.0, 1.0, 60, dtype=torch.float64)
    values[20:25] = 0.4
    weights = torch.full((60,), 60**-0.5, dtype=torch.float64)
    weights[20:25] = 0.3
    ritz, error = space_of(torch.diag(values), weights[:, None], 45)
    bound = bounded(ritz, error, (0.35, 0.41), 0.75)
    assert 0.3 * math.sqrt(5) <= bound < 0.72


@settings(max_examples=150)
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
    whole = whole + torch.eye(size, dtype=torch.float64)  # Ritz values are never negative
    values, vectors = torch.linalg.eigh(whole)
    within = (values >= 1.0) & (values <= 2.0)
    true = float(torch.where(within, vectors[0].abs(), 0.0).max())
    small, turn = torch.linalg.eigh(whole[:steps, :steps])
    leaving = beside[steps - 1] * turn[-1:]
    parts = small.flip(0), turn.flip(1), turn[:1].mT.flip(0), leaving.flip(1)
    ritz = Ritz(*(part.cpu() for part in parts))
    assert bounded(ritz, 0.0, (1.0, 2.0), enough) >= true - 1e-9


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-12, 1e-16, 1e-21])
@pytest.mark.parametrize("steps", [4, 16, 40])
def test_a_spectrum_far_below_the_range(scale: float, steps: int) -> None:
    values = scale * torch.linspace(0.1, 1.0, 60, dtype=torch.float64)
    start = torch.full((60, 1), 60**-0.5, dtype=torch.float64)
    ritz, _ = space_of(torch.diag(values), start, steps)
    for rounding in (0.0, 1e-13):
        assert bounded(ritz, rounding, (0.0, 1.0), 0.9) >= 1.0 / math.sqrt(60)


def christoffel(values: Tensor, weights: Tensor, degree: int, points: Tensor) -> Tensor:
    """The root of the Christoffel function of a discrete measure, by its recurrence."""
    before, here = torch.zeros_like(values), torch.ones_like(values) / weights.norm()
    there, last = torch.ones_like(points) / weights.norm(), torch.zeros_like(points)
    total, back = there.square(), 0.0
    for _ in range(degree):
        centre = float((weights * here).square() @ values)
        image, out = (values - centre) * here - back * before, (points - centre) * there
        out = out - back * last
        back = float((weights * image).norm())
        before, here, last, there = here, image / back, there, out / back
        total = total + there.square()
    root: Tensor = total.rsqrt()
    return root


@pytest.mark.parametrize(("steps", "most"), [(4, 0.9), (8, 0.65), (16, 0.45)])
@pytest.mark.parametrize("rounding", [1e-12, 1e-7])
def test_the_bound_is_near_the_christoffel_function(
    steps: int, most: float, rounding: float
) -> None:
    """A vector spread over the bulk holds little of any eigenvector, and a few steps say so."""
    values = torch.linspace(0.0, 1.0, 400, dtype=torch.float64)
    weights = torch.full((400,), 0.05, dtype=torch.float64)
    ritz, _ = space_of(torch.diag(values), weights[:, None], steps)
    points = torch.linspace(0.0, 1.0, 5000, dtype=torch.float64)
    sampled = float(christoffel(values, weights, steps, points).max())
    assert sampled < most
    assert sampled - 1e-9 <= bounded(ritz, rounding, (0.0, 1.0), most) < most
    # As near as is asked for.
    close = bounded(ritz, rounding, (0.0, 1.0), sampled + 0.05)
    assert sampled - 1e-9 <= close <= sampled + 0.02
    assert bounded(ritz, rounding, (0.0, 1.0), 0.99 * sampled) == math.inf


def test_columns_beside_the_vector_only_help() -> None:
    values = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    vector = torch.full((300, 1), 300**-0.5, dtype=torch.float64)
    found = []
    for beside in (0, 3, 12):
        start = torch.cat([vector, random(300, beside, 0)], dim=1)
        ritz, error = space_of(torch.diag(values), start, 8)
        found.append(bounded(ritz, error, (0.0, 1.0), 1.0))
    assert found == sorted(found, reverse=True)
    assert 300**-0.5 <= found[-1] < found[0] < 0.7


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_directions_that_have_converged_deflate_themselves(share: float) -> None:
    """Most of the vector is known to lie outside of the range: the rest is no more for it."""
    values = torch.cat([torch.tensor([4.0, 3.0]), torch.linspace(0.0, 1.0, 298)]).double()
    weights = torch.full((300,), math.sqrt((1 - share) / 298), dtype=torch.float64)
    weights[:2] = math.sqrt(share / 2)
    start = torch.cat([weights[:, None], random(300, 7, 1)], dim=1)
    ritz, error = space_of(torch.diag(values), start, 12)
    rest = math.sqrt(1.0 - share)
    assert bounded(ritz, error, (0.0, 1.2), rest) < 0.7 * rest


@pytest.mark.parametrize("first", [0.7, 0.8, 0.9])
def test_a_converged_direction_within_the_range_counts_as_what_it_is(first: float) -> None:
    """A peak that is narrower than any interval, and below what is enough."""
    values = torch.cat([torch.tensor([4.0]), torch.linspace(0.0, 1.0, 299)]).double()
    weights = torch.full((300,), math.sqrt((1 - first**2) / 299), dtype=torch.float64)
    weights[0] = first
    start = torch.cat([weights[:, None], random(300, 7, 1)], dim=1)
    ritz, error = space_of(torch.diag(values), start, 12)
    assert first <= bounded(ritz, error, (0.0, 4.5), 1.0) <= first + 0.07
    assert bounded(ritz, error, (0.0, 4.5), first - 0.01) == math.inf


@pytest.mark.parametrize("over_root", [False, True])
def test_over_the_root_of_the_eigenvalue(over_root: bool) -> None:
    """As what W y holds of v, which is sigma times what y holds of u."""
    values = torch.linspace(0.04, 1.0, 400, dtype=torch.float64)
    weights = values.sqrt() * 0.05
    ritz, error = space_of(torch.diag(values), weights[:, None], 16)

    def bound(low: float) -> float:
        return largest_component(
            ritz, ritz.start[:, 0], constant(ritz, error), (low, 1.0), 1.0, over_root=over_root
        )

    assert 0.05 <= bound(0.04) < 0.6
    assert bound(0.5) <= bound(0.04)
    # Of a floor far below the spectrum nothing is said for nothing.
    if over_root:
        assert bound(1e-12) > bound(0.04)


def test_a_vector_that_is_an_eigenvector_is_not_bounded_away() -> None:
    values = torch.linspace(0.0, 1.0, 200, dtype=torch.float64)
    for index in (0, 120, 199):
        start = 1e-3 * random(200, 4, 2)
        start[index, 0] += 1.0
        ritz, error = space_of(torch.diag(values), start, 8)
        assert bounded(ritz, error, (0.0, 1.0), 0.9) == math.inf
        assert bounded(ritz, error, (0.0, 1.0), 2.0) >= float(start[index, 0])


def test_more_rounding_is_a_larger_bound() -> None:
    values = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    vector = torch.full((300, 1), 300**-0.5, dtype=torch.float64)
    ritz, _ = space_of(torch.diag(values), vector, 12)
    found = [bounded(ritz, size, (0.0, 1.0), 1.5) for size in (1e-12, 1e-3, 1e-2, 0.1, 10.0)]
    assert found == sorted(found)
    assert found[1] < 1.1 * found[0] + 0.01
    # All but nothing is known: all of the vector may be one eigenvector's.
    assert found[-1] >= 1.0 - 1e-9
    # Rounding of some Ritz vectors alone, and one that grows with the eigenvalue.
    some = constant(ritz, 1e-12)(1.0).index_fill(0, torch.arange(4).cpu(), 0.1)
    components = ritz.start[:, 0]
    part = largest_component(ritz, components, lambda _x: some, (0.0, 1.0), 1.5)
    assert found[0] < part < found[3]
    grows = largest_component(
        ritz, components, lambda x: torch.full_like(ritz.values, 0.1 * x), (0.0, 1.0), 1.5
    )
    assert grows == found[3]


def test_early_ends() -> None:
    ritz, error = space_of(torch.diag(torch.linspace(0, 1, 50).double()), random(50, 1, 3), 4)
    asked: list[float] = []

    def rounding(x: float) -> Tensor:
        asked.append(x)
        return torch.full_like(ritz.values, error)

    components = ritz.start[:, 0]
    assert largest_component(ritz, components, rounding, (1.0, 1.0), 1.0) == 0.0
    assert largest_component(ritz, components, rounding, (1.0, 0.5), 1.0) == 0.0
    assert not asked
    assert largest_component(ritz, components, rounding, (0.0, 1.0), 1e-3) == math.inf
    assert asked == [1.0]
    for what in (math.inf, math.nan):
        assert bounded(ritz, what, (0.0, 1.0)) == math.inf


def test_cutting_that_is_not_done_says_nothing() -> None:
    vector = random(50, 1, 3)
    ritz, error = space_of(torch.diag(torch.linspace(0, 1, 50).double()), vector, 4)

    def found(cover: Cover) -> float:
        components = ritz.start[:, 0]
        # All but the last digits of the maximum, of which wide intervals know nothing.
        return largest_component(
            ritz, components, constant(ritz, error), (0.0, 1.0), 3.7, cover=cover
        )

    assert float(vector.abs().max()) <= found(Cover(2, close=1e-4, slack=1e-4)) < 3.7
    for cover in (Cover(2, rounds=1), Cover(2, many=1)):
        assert found(replace(cover, close=1e-4, slack=1e-4)) == math.inf


def test_no_more_than_the_vector_itself() -> None:
    """One step of one column: the bound is its length, or less."""
    vector = random(50, 1, 4)
    ritz, error = space_of(torch.diag(torch.linspace(0, 1, 50).double()), vector, 1)
    found = bounded(ritz, error, (0.0, 1.0), 1e3)
    assert float(vector.abs().max()) <= found <= float(vector.norm()) * (1.0 + 1e-12)


@pytest.mark.parametrize("intervals", [1, 48, 1000])
def test_however_finely_it_is_looked_at(intervals: int) -> None:
    """Half-widths are part of the bound: few intervals are no way around a narrow peak."""
    values = torch.linspace(0.0, 1.0, 200, dtype=torch.float64)
    weights = torch.full((200,), 0.01, dtype=torch.float64)
    weights[77] = 0.8
    ritz, error = space_of(torch.diag(values), weights[:, None], 30)
    found = largest_component(
        ritz, ritz.start[:, 0], constant(ritz, error), (0.0, 1.0), 1.0, cover=Cover(intervals)
    )
    assert 0.8 <= found <= 0.8 + 0.07


@settings(max_examples=50)
@given(
    st.integers(10, 60),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2**20),
    st.sampled_from([1, 1000, 1 << 21]),
    st.booleans(),
)
def test_many_vectors_at_once(
    size: int, count: int, steps: int, seed: int, entries: int, over_root: bool
) -> None:
    """Some spread, some an eigenvector, some short, one zero: each has its own bound."""
    values = torch.rand(size, generator=torch.Generator().manual_seed(seed)).double() + 0.05
    vectors = orthonormal(size, size, seed)
    weights = random(size, count, seed + 1)
    weights[3:, ::3] *= 1e-2
    weights[:, 1::3] *= 0.01
    start = torch.cat([vectors @ weights, random(size, 2, seed + 2)], dim=1)
    steps = max(min(steps, size // start.shape[1] - 1), 1)
    if start.shape[1] * (steps + 1) > size:
        return
    ritz, error = space_of((vectors * values) @ vectors.mT, start, steps, 1e-7, seed + 3)
    held = (weights / values.sqrt()[:, None] if over_root else weights).abs().amax(dim=0)
    enough = held.cpu() * torch.tensor([0.9, 1.2, 2.0, 100.0]).double().repeat(2)[:count].cpu()
    components = torch.cat(
        [ritz.start[:, :count], ritz.values.new_zeros(len(ritz.values), 1)], dim=1
    )
    question = Question(components, torch.cat([enough, enough.new_ones(1)]),
                        (0.04, 1.06), over_root)  # fmt: skip
    cover = Cover(entries=entries)

    def claimed(question: Question) -> Tensor:
        found = largest_components(ritz, question, constant(ritz, error), cover)
        assert bool(found.isfinite().all())
        return torch.where(found < question.enough, found, math.inf)

    *found, nothing = claimed(question).tolist()
    assert nothing == 0.0
    for j in range(count):
        assert float(held[j]) <= found[j] * (1 + 1e-9) + 1e-9
    # Whatever else is asked, and in whatever order, they are the same.
    turned = replace(question, components=components.flip(1), enough=question.enough.flip(0))
    assert claimed(turned).flip(0).tolist() == pytest.approx([*found, nothing])
