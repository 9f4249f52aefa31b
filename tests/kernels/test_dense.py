"""Verdicts from eigenvectors of Gram matrices: intervals, angles and batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, Case, cases, holds, orthonormal, random, spectrum
from spectra.kernels.dense import dense_resemblance, gram_eigen
from spectra.kernels.similarity import Decision
from spectra.kernels.verdicts import merged, proven_similarities, proven_similarity, small
from spectra.words import Side


@settings(max_examples=300)
@given(
    st.integers(2, 60), st.integers(0, 60), st.sampled_from(SPECTRA), st.integers(0, 2**20)
)  # fmt: skip
def test_the_residual_is_no_less_than_the_true_one(
    rows: int, more: int, kind: str, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    wide = with_spectrum(spectrum(kind, rows, seed), rows, rows + more, source)
    found = gram_eigen(wide[None])
    gram = wide @ wide.mT
    vectors, values = found.vectors[0], found.values[0]
    missed = float((gram @ vectors - vectors * values).norm())
    skew = float((vectors.mT @ vectors - torch.eye(rows).double()).norm()) * float(values[0].abs())
    rho = float(found.error[0])
    assert missed + skew <= rho
    # Not vacuous: a few hundred roundings.
    assert rho <= 1e-9 * float(values[0])
    true = torch.linalg.svdvals(wide).square()
    assert float((true - values).abs().max()) <= rho


@settings(max_examples=1200)
@given(cases(st.integers(2, 60), st.integers(1, 22)))
def test_no_claim_is_broken(case: Case) -> None:
    base, tuned = case.pair()
    found = proven_similarity(base, tuned, case.k, case.epsilon, case.side)
    holds(found, base, tuned, case.k, case.epsilon, case.side)


@pytest.mark.parametrize("shape", [(40, 40), (40, 60), (60, 40)], ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_pairs_together_as_each_alone(shape: tuple[int, int], side: Side) -> None:
    pairs: list[tuple[Tensor, Tensor | tuple[Tensor, Tensor]]] = []
    for seed in range(6):
        base = random(*shape, seed)
        update = random(shape[0], 2, seed + 10), random(2, shape[1], seed + 20)
        pairs.append((base, update) if seed % 2 else (base, base + 0.3 * random(*shape, seed + 30)))
    pairs.append((torch.zeros(shape, dtype=torch.float64), random(*shape, 40)))
    pairs.append((random(*shape, 41), torch.zeros(shape, dtype=torch.float64)))
    pairs.append((1e-20 * random(*shape, 42), 1e20 * random(*shape, 43)))
    together = proven_similarities(pairs, 5, 0.5, side)
    for found, (base, tuned) in zip(together, pairs, strict=True):
        holds(found, base, tuned, 5, 0.5, side)
        alone = proven_similarity(base, tuned, 5, 0.5, side)
        assert found.decided_by == alone.decided_by
        torch.testing.assert_close(found.cosine, alone.cosine, rtol=0, atol=1e-9)


def test_what_is_small() -> None:
    assert small(25, 640, 25)
    assert small(4000, 640, 10)
    assert not small(24, 4000, 1)
    assert not small(641, 641, 1)
    assert not small(30, 30, 31)


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


def test_a_batch_of_scaled_pairs() -> None:
    base, tuned = random(40, 50, 2), random(40, 50, 3)
    (found,) = dense_resemblance(base[None], (base + 0.1 * tuned)[None], 6, 0.3)
    assert found is not None
    assert found.cosines.shape == (6, 32)
    assert found.sigma.shape == (6,)
    whole = merged(base, 0.1 * tuned + base)
    left = torch.linalg.svd(whole).U[:, :6]
    before = torch.linalg.svd(base).U
    expected = (left.mT @ before).abs()
    torch.testing.assert_close(found.cosines, expected[:, :32], rtol=0, atol=1e-8)
    assert found.overlap is not None
    assert found.overlap == pytest.approx(float(expected[:, :6].square().sum()) / 6, abs=1e-8)
    assert not math.isnan(found.overlap)
