"""Cores of factors against the LAPACK decomposition of their product in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.cores import Term, core_of, resolved, rounding_energy


@given(
    rows=st.integers(1, 40), inner=st.integers(1, 12), cols=st.integers(1, 40),
    decades=st.floats(0, 8), seed=st.integers(0, 99),
)  # fmt: skip
def test_values_and_directions_are_those_of_the_product(
    rows: int, inner: int, cols: int, decades: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, inner, generator=generator)
    right = torch.randn(inner, cols, generator=generator)
    right = right * torch.logspace(0, -decades, inner)[:, None]
    product = left.double() @ right.double()
    exact = torch.linalg.svdvals(product)
    found = core_of(left, right)
    rank = len(found.sigma)
    assert rank <= min(rows, inner, cols)
    floor = 1e-13 * float(left.norm()) * float(right.norm())
    torch.testing.assert_close(found.sigma, exact[:rank], rtol=0, atol=floor)
    assert (exact[rank:] <= 10 * floor).all()
    for count in {0, rank // 2, rank}:
        outer, inner_rows = found.balanced(count)
        off = torch.linalg.matrix_norm(product - outer @ inner_rows)
        best = torch.linalg.vector_norm(exact[count:])  # Eckart and Young
        assert off <= best + 20 * floor
        gram = outer.mT @ outer  # balanced: each side has the root of sigma
        torch.testing.assert_close(gram.diagonal(), found.sigma[:count], rtol=1e-4, atol=20 * floor)


def test_columns_that_depend_on_each_other_are_counted_once() -> None:
    left, right = torch.randn(50, 4), torch.randn(4, 60)
    doubled = core_of(torch.cat([left, 0.5 * left], 1), torch.cat([right, right]))
    torch.testing.assert_close(doubled.sigma, 1.5 * core_of(left, right).sigma)
    cancelled = core_of(torch.cat([left, -left], 1), torch.cat([right, right]))
    assert len(cancelled.sigma) == 0
    assert cancelled.balanced(0)[0].shape == (50, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounding_between_terms_is_left_out_and_nothing_else(dtype: torch.dtype) -> None:
    roundoff = torch.finfo(dtype).eps / 2

    def term(left: Tensor, right: Tensor) -> Term:
        return Term(left.to(dtype), right.to(dtype), roundoff)

    def rank(*terms: Term) -> int:
        whole = [one.left.double() for one in terms], [one.right.double() for one in terms]
        core = core_of(torch.cat(whole[0], 1), torch.cat(whole[1]))
        found, rest = resolved(core, terms)
        kept = found.balanced(len(found.sigma))
        off = torch.linalg.matrix_norm(
            torch.cat(whole[0], 1) @ torch.cat(whole[1]) - kept[0] @ kept[1]
        )
        assert float(off) == pytest.approx(float(rest.norm()), rel=1e-3, abs=1e-9)
        return len(found.sigma)

    left, right = torch.randn(120, 6), torch.randn(6, 90)
    one = term(left, right)
    kept = core_of(one.left, one.right).balanced(3)
    assert rank(one, term(0.5 * kept[0], kept[1])) == 6  # its own cut
    assert rank(one, term(-kept[0], kept[1])) == 3  # what that has cancels, down to its rounding
    small = term(1e-5 * torch.randn(120, 2), torch.randn(2, 90))
    assert rank(one, small) == 8  # another's, however small
    moved = one.left.clone()
    moved.view(-1)[::5] *= 1 + 4 * roundoff  # as training moves it: in the last bits
    changed = Term(moved, one.right, roundoff)
    assert rank(changed, Term(-one.left, one.right, roundoff)) == 6  # what is left of both


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_rounding_moves_is_known_for_every_rank(dtype: torch.dtype) -> None:
    left, right = core_of(torch.randn(70, 9), torch.randn(9, 30)).balanced(9)
    moved = rounding_energy(left, right, left.to(dtype), right.to(dtype)).sqrt()
    for count in range(10):
        stored = left[:, :count].to(dtype).double() @ right[:count].to(dtype).double()
        off = torch.linalg.matrix_norm(stored - left[:, :count] @ right[:count])
        torch.testing.assert_close(moved[count], off, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    left, right = torch.randn(5, 2), torch.randn(2, 5)
    right[1, 3] = bad
    with pytest.raises(NonFiniteError, match=r"\[1, 3\]"):
        core_of(left, right)
