"""Proven verdicts: every claim on every kind of pair, and the reference where none is proven."""

import math
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import get_args

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import Case, cases, holds, orthonormal, random, spectrum
from spectra.errors import NonFiniteError
from spectra.kernels import decomposed, singular, work
from spectra.kernels.leading import DOUBLE, SINGLE
from spectra.kernels.similarity import Decision, Similarity, exact_similarity
from spectra.kernels.verdicts import (
    Ladder,
    leading_pairs,
    proven_similarities,
    proven_similarity,
)
from spectra.words import Side

Pair = tuple[Tensor, Tensor | tuple[Tensor, Tensor]]
SHAPES = ((150, 150), (150, 190), (190, 150))
STEEP = Ladder(
    short=24, dense=24, single=replace(SINGLE, fewest=4), double=replace(DOUBLE, fewest=4)
)
"""Sends matrices of more than 24 rows the way of large ones."""
WAYS = {
    "dense": Ladder(),
    "krylov": STEEP,
    "krylov float32": replace(STEEP, float32=1),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def judged(
    base: Tensor,
    tuned: Tensor | tuple[Tensor, Tensor],
    k: int,
    epsilon: float,
    side: Side = "left",
    way: str = "krylov",
) -> Similarity:
    """Verdicts, all of whose claims hold."""
    found = proven_similarity(base, tuned, k, epsilon, side, WAYS[way])
    holds(found, base, tuned, k, epsilon, side)
    return found


@settings(max_examples=75)
@given(cases(st.integers(60, 130), st.integers(1, 7)), st.booleans())
def test_no_claim_is_broken_by_a_narrow_krylov_space(case: Case, single: bool) -> None:
    way = "krylov float32" if single else "krylov"
    judged(*case.pair(), case.k, case.epsilon, case.side, way)


@settings(max_examples=60)
@given(cases(st.integers(60, 200), st.integers(1, 7)), st.sampled_from([*WAYS]))
def test_no_claim_is_broken_of_a_matrix_that_is_never_copied(case: Case, way: str) -> None:
    base, tuned = case.pair()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "LONG", 1)
        patched.setattr(work, "RATIO", 1)
        patched.setattr(singular, "PANEL", 32)
        found = proven_similarity(base, tuned, case.k, case.epsilon, case.side, WAYS[way])
    holds(found, base, tuned, case.k, case.epsilon, case.side)


@pytest.mark.parametrize("shape", [(900, 130), (130, 900)], ids=["tall", "wide"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("side", get_args(Side))
def test_the_reference_of_a_matrix_that_is_never_copied(
    shape: tuple[int, int], dtype: torch.dtype, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = random(*shape, 1).to(dtype)
    tuned = base.double() + 40.0 * orthonormal(shape[0], 2, 2) @ orthonormal(shape[1], 2, 3).mT
    tuned = tuned.to(dtype)
    expected = exact_similarity(base, tuned, 8, side)
    monkeypatch.setattr(work, "LONG", 1)
    found = exact_similarity(base, tuned, 8, side)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Tensor):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert found.overlap == pytest.approx(expected.overlap)
    assert found.best.tolist() == expected.best.tolist()


@pytest.mark.parametrize("turned", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("factors", [False, True], ids=["stored", "factors"])
def test_noise_as_long_as_a_vocabulary_is_proven_by_its_gram_matrix(
    turned: bool, factors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LONG", 1)
    rows, cols = (500, 2000) if turned else (2000, 500)
    base = random(rows, cols, 1).to(torch.bfloat16)
    update = 90.0 * orthonormal(rows, 1, 2), orthonormal(cols, 1, 3).mT
    plus = base.double() + update[0] @ update[1] + 0.03 * random(rows, cols, 4)
    tuned = update if factors else plus.to(torch.bfloat16)
    few = replace(STEEP.single, most=8)  # its edge takes more, as that of a larger one does
    ladder = replace(STEEP, float32=1, single=few)
    sides = get_args(Side)
    for side, found in zip(
        sides, proven_similarities(base, tuned, 10, 0.7, sides, ladder), strict=True
    ):
        holds(found, base, tuned, 10, 0.7, side)
        assert {"match", "bound"}.isdisjoint(found.decided_by)
        assert found.decided_by.count("exact") <= 1  # of so small a matrix
        assert found.overlap is not None


LATE = Case(
    200, 200, "clustered", "decaying", 12, 2.0, 1 << 20, torch.float32, True, 0, "right", 3, 0.5
)
"""One base vector is a match, and another that is not well known yet may be a better one."""


@settings(max_examples=40)
@example(LATE, False)
@given(cases(st.integers(130, 260), st.integers(1, 20)), st.booleans())
def test_no_claim_is_broken_by_a_krylov_space(case: Case, single: bool) -> None:
    way = "krylov float32" if single else "krylov"
    judged(*case.pair(), case.k, case.epsilon, case.side, way)


@settings(max_examples=60)
@given(cases(st.integers(60, 200), st.integers(1, 12)), st.booleans())
def test_no_claim_is_broken_where_two_sides_share_a_krylov_space(case: Case, single: bool) -> None:
    base, tuned = case.pair()
    ladder = WAYS["krylov float32" if single else "krylov"]
    found = proven_similarities(base, tuned, case.k, case.epsilon, ("left", "right"), ladder)
    for side, one in zip(get_args(Side), found, strict=True):
        holds(one, base, tuned, case.k, case.epsilon, side)


@settings(max_examples=40)
@given(cases(st.integers(1, 90), st.integers(1, 12)))
def test_no_claim_is_broken_where_two_sides_share_a_decomposition(case: Case) -> None:
    base, tuned = case.pair()
    found = proven_similarities(base, tuned, case.k, case.epsilon, ("left", "right"))
    for side, one in zip(get_args(Side), found, strict=True):
        holds(one, base, tuned, case.k, case.epsilon, side)


bases = lru_cache(maxsize=64)(orthonormal)  # not written into


def decaying(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors, singular values and right vectors of a base: five lead a bulk."""
    rank = min(shape)
    sigma = torch.cat([torch.linspace(6, 3, 5), torch.linspace(1, 0.6, rank - 5)]).double()
    return bases(shape[0], rank, seed), sigma, bases(shape[1], rank, seed + 1)


def aimed(shape: tuple[int, int], direction: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A base and the factors that replace its leading values by one in this direction."""
    left, sigma, right = decaying(shape, seed)
    side = bases(shape[1], shape[1], seed + 2)[:, -1:]
    return (left * sigma) @ right.mT, 40.0 * direction[:, None] @ side.mT


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("first", [0, 3, 4])
def test_exactly_between_two_base_vectors(way: str, shape: tuple[int, int], first: int) -> None:
    """Both have |cos| of about 0.707: a match below, an intruder above, exact in between."""
    left, _, _ = decaying(shape, 0)
    base, update = aimed(shape, (left[:, first] + left[:, first + 1]) / math.sqrt(2.0), 0)
    for epsilon, intruder in ((0.6, False), (0.8, True)):
        found = judged(base, base + update, 1, epsilon, way=way)
        assert bool(found.cosine[0] < epsilon) is intruder
    exact = float(exact_similarity(base, base + update, 1).cosine[0])
    assert exact == pytest.approx(math.sqrt(0.5), abs=0.05)
    assert judged(base, base + update, 1, exact, way=way).decided_by == ("exact",)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("off", [-9e-4, -1e-4, 1e-4])
def test_near_epsilon_is_exact(way: str, shape: tuple[int, int], off: float) -> None:
    left, _, _ = decaying(shape, 1)
    for target in (0, 60):
        direction = 0.5 * left[:, target] + math.sqrt(0.75) * left[:, 100:140].sum(1) / 40**0.5
        base, update = aimed(shape, direction, 1)
        exact = float(exact_similarity(base, base + update, 1).cosine[0])
        assert judged(base, base + update, 1, exact + off, way=way).decided_by == ("exact",)


@pytest.mark.parametrize("off", [-0.02, 0.02])
def test_further_from_epsilon_is_proven(way: str, off: float) -> None:
    left, _, _ = decaying((150, 150), 2)
    spread = orthonormal(150, 1, 5).squeeze(1)
    direction = torch.nn.functional.normalize(0.8 * left[:, 0] + 0.6 * spread, dim=0)
    base, update = aimed((150, 150), direction, 2)
    exact = float(exact_similarity(base, base + update, 1).cosine[0])
    found = judged(base, base + update, 1, exact + off, way=way)
    assert found.decided_by == (("match",) if off < 0 else ("bound",))


@pytest.mark.parametrize("size", [2, 3, 100])
@pytest.mark.parametrize("split", [0.0, 1e-9, 1e-6, 1e-4])
@pytest.mark.parametrize("first", [0, 4])
def test_repeated_and_nearly_repeated_base_values(
    way: str, size: int, split: float, first: int
) -> None:
    shape = SHAPES[size % 3]
    left, sigma, right = decaying(shape, 3)
    index = torch.arange(size, dtype=torch.float64)
    sigma[first : first + size] = sigma[first] * (1.0 - split * index)
    base = (left * sigma.sort(descending=True).values) @ right.mT
    direction = left[:, first : first + size].sum(dim=1) / math.sqrt(size)
    update = 40.0 * torch.outer(direction, orthonormal(shape[1], 1, 4).squeeze(1))
    for epsilon in (0.3, 0.65):
        judged(base, base + update, 3, epsilon, way=way)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_intruder_in_the_null_space_of_a_tall_base(way: str, side: Side) -> None:
    left = orthonormal(220, 151, 6)
    sigma = torch.cat([torch.linspace(6, 3, 5), torch.linspace(1, 0.6, 145)]).double()
    base = (left[:, :150] * sigma) @ orthonormal(150, 150, 7).mT
    update = 40.0 * left[:, 150:], orthonormal(150, 1, 8).mT
    pair: Pair = (base, update)
    if side == "right":
        pair = base.mT, (update[1].mT, update[0].mT)
    found = judged(*pair, 1, 0.5, side, way=way)
    assert found.decided_by == ("bound",)
    assert found.best.tolist()[0] in (-1, *range(150))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nearly_coinciding_leading_values_of_the_tuned_matrix(
    way: str, shape: tuple[int, int]
) -> None:
    """Their vectors are whatever rounding makes them: no proof may decide about these two."""
    left, sigma, right = decaying(shape, 9)
    base = (left * sigma) @ right.mT
    for split in (0.0, 1e-15, 1e-13):
        values = sigma.clone()
        values[:2] = torch.tensor([6.0, 6.0 * (1.0 - split)])
        mixed = left.clone()
        mixed[:, :2] = left[:, :2] @ torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
        tuned = (mixed * values) @ right.mT
        assert judged(base, tuned, 3, 0.7, way=way).decided_by[:2] == ("exact",) * 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [0, 1, 40])
def test_a_base_of_lower_rank(way: str, shape: tuple[int, int], rank: int) -> None:
    base = random(shape[0], rank, 10) @ random(rank, shape[1], 11)
    for strength in (0.1, 10.0):
        for tuned in (base + strength * random(*shape, 12), strength * random(*shape, 13)):
            judged(base, tuned, 4, 0.5, way=way)
        update = strength * random(shape[0], 2, 14), random(2, shape[1], 15)
        judged(base, update, 2, 0.5, way=way)
        judged(base, update, rank + 5, 0.3, way=way)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 90), (90, 1), (1, 1), (2, 700), (30, 400)], ids=str)
def test_the_same_zero_and_small_matrices(way: str, shape: tuple[int, int]) -> None:
    base = random(*shape, 16)
    for k in (1, 5, 200):
        same = judged(base, base.clone(), k, 0.5, way=way)
        assert same.cosine.tolist() == pytest.approx([1.0] * min(k, *shape), abs=1e-6)
        assert len(judged(base, torch.zeros(shape).double(), k, 0.5, way=way).cosine) == 0
        judged(torch.zeros(shape).double(), base, k, 0.5, way=way)
        judged(base, -3.0 * base, k, 0.5, way=way)


@pytest.mark.parametrize("factor", [1e-25, 1e-12, 1e6, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_extreme_scales(way: str, factor: float, dtype: torch.dtype) -> None:
    left, sigma, right = decaying((150, 190), 17)
    base = (factor * (left * sigma) @ right.mT).to(dtype)
    amount = torch.linspace(30, 10, 3).double() * factor
    up, down = orthonormal(150, 3, 18), orthonormal(190, 3, 19)
    judged(base, ((up * amount).to(dtype), down.mT.to(dtype)), 3, 0.5, way=way)
    judged(base, (base.double() + (up * amount) @ down.mT).to(dtype), 3, 0.5, way=way)
    judged(base, base.double().mul(1e-9 / factor), 3, 0.5, way=way)


@pytest.mark.parametrize("imbalance", [1e-38, 1e-20, 1e20, 1e37])
def test_factors_of_very_different_scale(way: str, imbalance: float) -> None:
    left, sigma, right = decaying((150, 150), 20)
    base = ((left * sigma) @ right.mT).float()
    up, down = 20.0 * orthonormal(150, 2, 21), orthonormal(150, 2, 22).mT
    down = down * torch.tensor([[1.0], [0.5]])
    pair = ((up * imbalance).float(), (down / imbalance).float())
    if all(part.isfinite().all() for part in pair):
        judged(base, pair, 2, 0.5, way=way)


def test_ordinary_pairs_are_proven(way: str) -> None:
    """Intruders that lead a bulk, and base vectors that stayed."""
    ways: list[Decision] = []
    for seed in range(3):
        for shape in SHAPES:
            left, sigma, right = decaying(shape, 30 * seed)
            base = ((left * sigma) @ right.mT).float()
            up, down = orthonormal(shape[0], 2, seed + 7), orthonormal(shape[1], 2, seed + 8)
            update = (up * torch.tensor([9.0, 8.0])).float(), down.mT.float()
            ways += judged(base, update, 4, 0.6, way=way).decided_by
    assert ways.count("exact") <= 0.1 * len(ways)
    assert {"match", "bound"} <= set(ways)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_is_refused(way: str, which: int) -> None:
    parts = [random(150, 150, 40), random(150, 2, 41), random(2, 150, 42)]
    parts[which][1, 1] = math.nan
    with pytest.raises(NonFiniteError, match=r"NaN|Inf"):
        proven_similarity(parts[0], (parts[1], parts[2]), 2, 0.5)
    if which == 0:
        with pytest.raises(NonFiniteError, match=r"NaN|Inf"):
            proven_similarity(random(150, 150, 43), parts[0], 2, 0.5)


BARELY = Case(4, 4, "flat", "scaled", 1, 0.1, 3088, torch.float64, True, 0, "left", 1, 0.05)
"""Two values that tie to a rounding, about."""


@settings(max_examples=600)
@example(BARELY)
@given(cases(st.integers(2, 60), st.integers(1, 22)))
def test_no_claim_is_broken_by_decompositions(case: Case) -> None:
    base, tuned = case.pair()
    found = proven_similarity(base, tuned, case.k, case.epsilon, case.side)
    holds(found, base, tuned, case.k, case.epsilon, case.side)


@pytest.mark.parametrize("shape", [(60, 60), (50, 90), (90, 50)], ids=str)
def test_ordinary_matrices_need_no_decomposition(shape: tuple[int, int]) -> None:
    ways: list[Decision] = []
    for seed in range(20):
        base = with_spectrum(
            spectrum("slow", min(shape), seed), *shape, torch.Generator().manual_seed(seed)
        )
        update = 0.5 * orthonormal(shape[0], 4, seed), orthonormal(shape[1], 4, seed + 1).mT
        # The five leading values of an update of equal ones might nearly coincide.
        update = update[0] * torch.linspace(4, 1, 4).double(), update[1]
        ways += proven_similarity(base, update, 4, 0.5).decided_by
    assert ways.count("exact") <= 0.1 * len(ways)
    assert {"match", "bound"} <= set(ways)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_chosen_triplets_are_those_of_a_decomposition(
    way: str, shape: tuple[int, int], side: Side
) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.cat([torch.arange(6.0, 2.0, -1.0), torch.linspace(1.0, 0.5, min(shape) - 4)])
    base = with_spectrum(values, *shape, generator)
    left, right = (torch.randn(size, 2, generator=generator, dtype=base.dtype) for size in shape)
    factors = left * (4.5 / left.norm(dim=0)), (right / right.norm(dim=0)).mT
    whole = base + factors[0] @ factors[1]
    outer, sigma, inner = torch.linalg.svd(whole.double(), full_matrices=False)
    for tuned in (whole, factors):
        own, other = leading_pairs(base, tuned, [1, 3], side, WAYS[way])
        made = own @ other.mT if side == "left" else other @ own.mT
        exact = (outer[:, [1, 3]] * sigma[[1, 3]]) @ inner[[1, 3]]
        torch.testing.assert_close(made, exact, rtol=0.0, atol=1e-5)


def test_neither_is_claimed_of_a_rank_that_is_not_there() -> None:
    """A full basis has gaps even where the last singular value is nothing but rounding."""
    for rank in (28, 29):
        for shape in ((30, 40), (40, 30), (30, 30)):
            sigma = torch.linspace(3, 1, rank)
            tuned = with_spectrum(sigma, *shape, torch.Generator().manual_seed(rank))
            base = random(*shape, 1)
            found = proven_similarity(base, tuned, 30, 0.01)
            holds(found, base, tuned, 30, 0.01)
            assert len(found.cosine) == rank


def test_what_fills_the_memory_is_decomposed_alone_with_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    every: ContextVar[int] = ContextVar("threads")
    every.set(5)
    monkeypatch.setattr(decomposed, "THREADS", every)
    with decomposed.room(torch.empty(300, 300)):
        assert not decomposed.ALONE.locked()
    assert set(threads) == {1}
    threads.clear()
    with decomposed.room(torch.empty(2000, 2000)):
        assert decomposed.ALONE.locked()
    assert threads == [5, 1]
    assert not decomposed.ALONE.locked()
