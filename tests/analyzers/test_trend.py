"""One run's spectra over its steps, against float64 LAPACK and by hand."""

import math

import pytest
import torch
from torch import Tensor

from analyzers.subjects import labelled, matrix_of, row_of
from spectra.analyzers import Row, Trend


def rows_at(step: int, matrices: dict[str, Tensor]) -> list[Row]:
    labels: dict[str, str | int] = {"model": f"checkpoint-{step}", "step": step}
    found = [row_of(Trend(), matrix_of(values, name)) for name, values in matrices.items()]
    return [labelled(row, labels) for row in found]


def diagonal(*sigma: float) -> Tensor:
    return torch.diag(torch.tensor(sigma, dtype=torch.float64))


QUERIES = [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)]
UP = "model.layers.0.mlp.up_proj.weight"


def queries(*sigma: float) -> dict[str, Tensor]:
    """The query weights of three layers, each with two singular values, one of them 1."""
    return {name: diagonal(value, 1.0) for name, value in zip(QUERIES, sigma, strict=True)}


def test_every_real_matrix(real: dict[str, Tensor]) -> None:
    for name, matrix in list(real.items())[:12]:
        found = Trend().measure(matrix_of(matrix, name)).values
        sigma = torch.linalg.svdvals(matrix.double())
        assert tuple(found) == Trend.keys
        assert found["sigma_max"] == pytest.approx(float(sigma[0]), rel=1e-4)
        assert found["sigma_min"] == pytest.approx(float(sigma[-1]), rel=1e-3)
        assert found["frobenius"] == pytest.approx(float(sigma.norm()), rel=1e-6)
        assert found["stable_rank"] == pytest.approx(
            float((sigma / sigma[0]).square().sum()), rel=1e-3
        )
        assert found["kappa"] == pytest.approx(float(sigma[0] / sigma[-1]), rel=1e-3)


@pytest.mark.parametrize("shape", [(600, 600), (700, 540)], ids=str)
def test_a_large_matrix(shape: tuple[int, int], generator: torch.Generator) -> None:
    matrix = torch.randn(*shape, generator=generator)
    found = Trend().measure(matrix_of(matrix)).values
    sigma = torch.linalg.svdvals(matrix.double())
    assert found["sigma_max"] == pytest.approx(float(sigma[0]), rel=1e-3)
    assert found["kappa"] == pytest.approx(float(sigma[0] / sigma[-1]), rel=2e-3)
    assert found["stable_rank"] == pytest.approx(float((sigma / sigma[0]).square().sum()), rel=2e-3)


def test_roles_are_followed_by_their_medians() -> None:
    first = {
        name: diagonal(value, 1.0) for name, value in zip(QUERIES, (2.0, 4.0, 90.0), strict=True)
    }
    last = {
        name: diagonal(2.0 * value, 1.0)
        for name, value in zip(QUERIES, (2.0, 4.0, 9.0), strict=True)
    }
    rows = [
        *rows_at(300, last | {UP: diagonal(3.0, 3.0)}),
        *rows_at(100, first | {UP: diagonal(3.0, 1.0)}),
    ]
    marked, summary = Trend().conclude(rows)
    assert list(marked) == rows
    assert summary["steps"] == [100, 300]
    assert summary["matrices"] == 4
    roles = summary["roles"]
    assert isinstance(roles, list)
    query, up = roles
    assert query == {
        "role": "attn.q",
        "matrices": 3,
        "sigma_max": [pytest.approx(4.0), pytest.approx(8.0)],
        "stable_rank": [pytest.approx(1.0625), pytest.approx(1.0 + 1.0 / 64.0)],
        "kappa": [pytest.approx(4.0), pytest.approx(8.0)],
    }
    assert up["kappa"] == [pytest.approx(3.0), pytest.approx(1.0)]
    assert summary["reading"] == (
        "2 checkpoints of one run, step 100 to 300. Median role: sigma_max grows by 50 % (most in "
        "attn.q: +100 %), stable rank grows by 37.8 % (most in mlp.up: +80 %), kappa grows by "
        "16.7 % (most in mlp.up: -66.7 %)."
    )


def test_what_does_not_move_is_said_so() -> None:
    rows = [row for step in (1, 2) for row in rows_at(step, {UP: diagonal(3.0, 1.0)})]
    assert Trend().conclude(rows)[1]["reading"] == (
        "2 checkpoints of one run, step 1 to 2. Median role: sigma_max does not change, "
        "stable rank does not change, kappa does not change."
    )


def test_growth_beyond_tenfold_is_a_factor() -> None:
    rows = [*rows_at(1, {UP: diagonal(1.0, 1.0)}), *rows_at(2, {UP: diagonal(20.0, 20.0)})]
    assert "sigma_max grows by x 20, " in str(Trend().conclude(rows)[1]["reading"])


def test_singular_zero_and_broken_matrices_leave_gaps() -> None:
    rows = [
        *rows_at(1, {UP: diagonal(0.0, 0.0)}),
        *rows_at(2, {UP: torch.full((2, 2), math.nan)}),
        *rows_at(3, {UP: diagonal(2.0, 0.0)}),
    ]
    summary = Trend().conclude(rows)[1]
    assert summary["non_finite"] == 1
    assert summary["roles"] == [
        {
            "role": "mlp.up",
            "matrices": 1,
            "sigma_max": [0.0, None, pytest.approx(2.0)],
            "stable_rank": [0.0, None, pytest.approx(1.0)],
            "kappa": [None, None, None],
        }
    ]
    assert summary["reading"] == "3 checkpoints of one run, step 1 to 3."


def test_nothing_measured() -> None:
    rows = rows_at(1, {UP: torch.full((2, 2), math.nan)})
    assert Trend().conclude(rows)[1]["reading"] == "No matrix could be measured."
