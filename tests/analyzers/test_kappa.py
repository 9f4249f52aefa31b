"""Condition numbers against float64 LAPACK, and what a selection chooses."""

import math

import pytest
import torch
from torch import Tensor

from analyzers.subjects import matrix_of, row_of, view_of
from examples import with_spectrum
from spectra.analyzers import Kappa, Row
from spectra.analyzers.kappa import selected_count
from spectra.errors import NonFiniteError, UsageError


def planted(kappas: dict[str, float | None], side: int = 4) -> list[Row]:
    """Rows of diagonal matrices with these condition numbers; None: singular."""
    rows = []
    for name, kappa in kappas.items():
        diagonal = torch.ones(side, dtype=torch.float64)
        diagonal[-1] = 1 / kappa if kappa else 0.0
        rows.append(row_of(Kappa(), matrix_of(torch.diag(diagonal), name)))
    return rows


def chosen(select: str, rows: list[Row]) -> list[str]:
    names = Kappa(select=select).conclude(rows)[1]["selected"]
    assert isinstance(names, list)
    return names


def test_every_real_matrix_within_a_thousandth(real: dict[str, Tensor]) -> None:
    assert len(real) == 40
    for name, matrix in real.items():
        found = Kappa().measure(matrix_of(matrix, name))
        sigma = torch.linalg.svdvals(matrix.double())
        assert found.status == "ok"
        assert tuple(found.values) == Kappa.keys
        expected = float(sigma[0] / sigma[-1])
        assert found.values["kappa"] == pytest.approx(expected, rel=1e-3), name
        assert found.values["sigma_max"] == pytest.approx(float(sigma[0]), rel=1e-4)
        assert found.values["sigma_min"] == pytest.approx(float(sigma[-1]), rel=1e-3)
        assert found.values["selected"] is None


@pytest.mark.parametrize("kappa", [1.0, 1e2, 1e5, 1e8, 1e12])
@pytest.mark.parametrize("shape", [(60, 60), (60, 100), (100, 60)], ids=str)
def test_prescribed_condition(
    kappa: float, shape: tuple[int, int], generator: torch.Generator
) -> None:
    sigma = torch.logspace(0, -math.log10(kappa), 60, dtype=torch.float64)
    found = Kappa().measure(matrix_of(with_spectrum(sigma, *shape, generator)))
    assert found.values["kappa"] == pytest.approx(kappa, rel=max(1e-3, 1e-14 * kappa))


@pytest.mark.parametrize("shape", [(600, 600), (1300, 600)], ids=str)
def test_a_large_matrix_is_bounded(shape: tuple[int, int], generator: torch.Generator) -> None:
    matrix = matrix_of(torch.randn(*shape, generator=generator))
    exact, found = (Kappa(exact=exact).measure(matrix).values for exact in (True, False))
    low, kappa, high = (found[key] for key in ("kappa_low", "kappa", "kappa_high"))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert (found["decided_by"], exact["decided_by"]) == ("bound", "exact")
    assert exact["kappa_low"] == exact["kappa"] == exact["kappa_high"]
    assert high / low <= 1.0021
    assert kappa == pytest.approx(exact["kappa"], rel=1e-4)
    assert low * (1 - 1e-4) <= exact["kappa"] <= high * (1 + 1e-4)  # type: ignore[operator]


def test_a_singular_matrix_says_so() -> None:
    found = Kappa().measure(matrix_of(torch.ones(3, 4)))
    assert found.values["kappa_low"] is found.values["kappa_high"] is None
    assert found.status == "singular"
    assert found.values["kappa"] is None
    assert found.values["sigma_max"] == pytest.approx(math.sqrt(12))
    assert found.values["sigma_min"] == 0.0


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(NonFiniteError, match=r"1 of 2 entries .* first at \[0, 1\]"):
        Kappa().measure(matrix_of(torch.tensor([[1.0, -math.inf]])))


@pytest.mark.parametrize(
    ("select", "candidates", "expected"),
    [
        ("10%", 36, 3),
        ("10%", 39, 3),
        ("10%", 40, 4),
        ("10%", 9, 1),
        ("10%", 1, 1),
        ("0.001%", 50, 1),
        ("100%", 36, 36),
        ("99.9%", 36, 35),
        ("7%", 100, 7),
        ("29%", 100, 29),
        ("57%", 100, 57),
        ("0.7%", 1000, 7),
        ("33.3%", 1000, 333),
        (" 10 % ", 36, 3),
        ("22", 36, 22),
        ("1", 36, 1),
        (" 3 ", 36, 3),
        ("50", 36, 36),
        ("10%", 0, 0),
        ("5", 0, 0),
    ],
)
def test_how_many_a_selection_means(select: str, candidates: int, expected: int) -> None:
    assert selected_count(select, candidates) == expected


@pytest.mark.parametrize("percent", range(1, 101))
def test_whole_percents_of_a_hundred_are_themselves(percent: int) -> None:
    assert selected_count(f"{percent}%", 100) == percent
    assert selected_count(f"{percent / 10}%", 1000) == percent


WRONG = [
    "0%", "0", "-3", "-5%", "101%", "nan%", "inf%", "-inf%", "abc", "", "%", "1.5", "10%%",
    "1e999%", "1/3%",
]  # fmt: skip


@pytest.mark.parametrize("select", WRONG)
def test_a_selection_that_cannot_be_meant_is_refused(select: str) -> None:
    with pytest.raises(UsageError) as caught:
        Kappa(select=select)
    assert str(caught.value) == (
        f"--select {select!r} is no share. Expected a percentage like 10% or a number like 22."
    )


def test_the_lowest_come_first_and_ties_by_name() -> None:
    rows = planted({"d": 3.0, "b": 2.0, "c": 2.0, "a": 9.0, "e": 1.0})
    assert chosen("1", rows) == ["e"]
    assert chosen("3", rows) == ["e", "b", "c"]
    assert chosen("2", rows) == chosen("2", rows[::-1]) == ["e", "b"]
    assert chosen("100%", rows) == ["e", "b", "c", "d", "a"]
    assert chosen("40%", rows) == ["e", "b"]
    assert chosen("39%", rows) == ["e"]
    assert chosen("1%", rows) == ["e"]
    assert chosen("77", rows) == ["e", "b", "c", "d", "a"]


def test_a_singular_matrix_comes_last() -> None:
    rows = planted({"a": None, "b": 5.0, "c": 2.0})
    assert chosen("2", rows) == ["c", "b"]
    summary = Kappa(select="3").conclude(rows)[1]
    assert summary["selected"] == ["c", "b", "a"]
    assert summary["cut"] is None


def test_rows_are_marked_in_their_own_order() -> None:
    rows = planted({"a": 3.0, "b": 2.0, "c": 1.0})
    bad = row_of(Kappa(), matrix_of(torch.full((9, 9), math.nan), "bad"))
    marked, summary = Kappa(select="2").conclude([rows[0], bad, *rows[1:]])
    assert [row.matrix for row in marked] == ["a", "bad", "b", "c"]
    assert [row.values["selected"] for row in marked] == [False, None, True, True]
    assert {key: value for key, value in summary.items() if key != "reading"} == {
        "eligible": 3,
        "selected": ["c", "b"],
        "parameters_selected": 32,
        "cut": pytest.approx(2.0),
        "outside": 0,
        "non_finite": 1,
    }
    assert summary["reading"] == (
        "2 of 3 matrices selected (lowest kappa first), 66.7 % of their parameters."
    )


def test_without_a_selection_nothing_is_marked() -> None:
    rows = planted({"a": 3.0, "b": None, "c": 1.0})
    marked, summary = Kappa().conclude(rows)
    assert [row.values["selected"] for row in marked] == [None, None, None]
    assert summary["selected"] == []
    assert summary["parameters_selected"] == 0
    assert summary["cut"] is None
    assert summary["reading"] == (
        "kappa of 3 matrices: from 1 in c to infinity in b. 1 matrix is singular."
    )


def test_several_singular_matrices_are_counted() -> None:
    rows = planted({"a": None, "b": None, "c": 1.0})
    reading = Kappa(select="1").conclude(rows)[1]["reading"]
    assert reading == (
        "1 of 3 matrices selected (lowest kappa first), 33.3 % of their parameters. "
        "2 matrices are singular."
    )


@pytest.mark.parametrize("select", [None, "10%"])
def test_nothing_measured(select: str | None) -> None:
    bad = row_of(Kappa(), matrix_of(torch.full((2, 2), math.nan), "bad"))
    summary = Kappa(select=select).conclude([bad])[1]
    assert summary["reading"] == "No matrix could be measured."
    assert summary["selected"] == []
    assert summary["non_finite"] == 1


def test_real_selection_is_that_of_float64(real: dict[str, Tensor]) -> None:
    layers = {name: matrix for name, matrix in real.items() if "layer" in name}
    rows = [row_of(Kappa(), matrix_of(matrix, name)) for name, matrix in layers.items()]
    exact = {}
    for name, matrix in layers.items():
        sigma = torch.linalg.svdvals(matrix.double())
        exact[name] = float(sigma[0] / sigma[-1])
    assert chosen("10%", rows) == sorted(exact, key=lambda name: exact[name])[:3]
    assert chosen("20", rows) == sorted(exact, key=lambda name: exact[name])[:20]


def test_estimates_grow_with_the_matrix() -> None:
    small, large = view_of("w", 50, 60), view_of("w", 500, 60)
    assert 0 < Kappa().cost(small) < Kappa().cost(large)
    assert 4 * 50 * 60 < Kappa().memory(small) < Kappa().memory(large)
