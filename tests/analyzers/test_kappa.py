"""Condition numbers against float64 LAPACK, and what a selection chooses."""

import math
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from analyzers.subjects import QUERY, matrix_of, row_of, view_of
from examples import with_spectrum
from spectra.analyzers import Kappa, Row
from spectra.analyzers.choice import WORDS, amount
from spectra.checkpoint.entry import ROUNDOFF, STORED
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.gaussian import kappa_null
from spectra.matrices import Matrix
from spectra.matrices.role import Role
from spectra.numbers import number
from spectra.text import share_of
from spectra.words import ROLES, By, Per, RankBy


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
        assert found.values["kappa_null"] == kappa_null(*matrix.shape)
        assert found.values["kappa_excess"] == pytest.approx(
            expected / kappa_null(*matrix.shape), rel=1e-3
        )
        assert found.values["kappa_resolved"] is True


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
    assert exact["kappa_low"] == pytest.approx(exact["kappa"], rel=1e-6)
    assert exact["kappa_high"] == pytest.approx(exact["kappa"], rel=1e-6)
    assert exact["kappa_low"] < exact["kappa"] < exact["kappa_high"]  # type: ignore[operator]
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
    assert found.values["kappa_excess"] is None
    assert found.values["kappa_null"] == kappa_null(3, 4)
    assert found.values["kappa_resolved"] is False


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(NonFiniteError, match=r"1 (NaN|Inf), the first at \[0, 1\]"):
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
    assert amount(select, candidates) == expected


@pytest.mark.parametrize("percent", range(1, 101))
def test_whole_percents_of_a_hundred_are_themselves(percent: int) -> None:
    assert amount(f"{percent}%", 100) == percent
    assert amount(f"{percent / 10}%", 1000) == percent


WRONG = [
    "0%", "0", "-3", "-5%", "101%", "nan%", "inf%", "-inf%", "abc", "", "%", "1.5", "10%%",
    "1e999%", "1/3%",
]  # fmt: skip


SHARE = (
    "Expected a percentage above 0% and at most 100%, like 10%, or how many, at least 1, like 22."
)


@pytest.mark.parametrize("select", WRONG)
def test_a_selection_that_cannot_be_meant_is_refused(select: str) -> None:
    with pytest.raises(UsageError) as caught:
        Kappa(select=select)
    told = select if math.isfinite(share_of(select)) else repr(select)
    assert str(caught.value) == f"--select {told} is no share. {SHARE}"


def test_the_command_knows_the_same_words() -> None:
    assert {"by": get_args(By), "per": get_args(Per), "rank-by": get_args(RankBy)} == WORDS
    fields = {field.name.replace("_", "-"): field.default for field in fields_of(Kappa)}
    assert {name: words[0] for name, words in WORDS.items()} == {n: fields[n] for n in WORDS}


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


@pytest.mark.parametrize("rank_by", ["kappa", "kappa_excess"])
def test_nothing_is_chosen_among_singular_matrices(rank_by: RankBy) -> None:
    rows = planted({"a": None, "b": None, "c": None, "d": 2.0})
    told = "all that are left are singular, and of infinities none is lower."
    for select, names, more in (
        ("1", ["d"], ""), ("75%", ["d"], f"2 more are asked for and not selected: {told}"),
        ("2", ["d"], f"1 more is asked for and not selected: {told}"),
        ("100%", ["d", "a", "b", "c"], ""),
    ):  # fmt: skip
        marked, summary = Kappa(select=select, rank_by=rank_by).conclude(rows)
        assert summary["selected"] == names
        assert more in str(summary["reading"])
        assert ("not selected" in str(summary["reading"])) == bool(more)
        assert [row.values["selected"] for row in marked] == [row.matrix in names for row in marked]
    summary = Kappa(select="10%", rank_by=rank_by).conclude(rows[:3])[1]
    assert (summary["selected"], summary["cut"]) == ([], None)
    assert str(summary["reading"]).startswith("0 of 3 matrices selected")


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
        "2 of 4 matrices selected (lowest kappa first), 24.8 % of their parameters."
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


def test_raw_kappa_ranks_shapes_and_excess_does_not(generator: torch.Generator) -> None:
    """Random matrices of many shapes have learnt nothing: no shape should win."""
    shapes = [(64, 64), (64, 80), (96, 64), (64, 128), (256, 64), (64, 512), (40, 160), (30, 240)]
    rows = [
        row_of(Kappa(), matrix_of(torch.randn(*shape, generator=generator), f"{i}.{shape}"))
        for shape in shapes
        for i in range(8)
    ]

    def firsts(rank_by: RankBy) -> list[float]:
        """The null of the first quarter of the ranking, which the shape alone tells."""
        marked, _ = Kappa(select="25%", rank_by=rank_by).conclude(rows)
        return [row.number("kappa_null") or 0.0 for row in marked if row.values["selected"]]

    ordered = sorted(row.number("kappa_null") or 0.0 for row in rows)
    assert sorted(firsts("kappa")) == ordered[:16]  # those two shapes with the lowest null
    assert len(set(firsts("kappa"))) == 2
    assert len(set(firsts("kappa_excess"))) >= 4
    for row in rows:
        excess = row.number("kappa_excess")
        assert excess is not None
        square = row.place.rows == row.place.cols
        assert (0.03 < excess < 50.0) if square else (0.6 < excess < 1.3)


@pytest.mark.parametrize("dtype", ROUNDOFF)
def test_the_unit_roundoff_is_half_the_step_behind_one(dtype: str) -> None:
    """torch.finfo is wrong about float8_e5m2fnuz (torch 2.10), so the bits are counted up."""
    one = torch.ones(1).to(getattr(torch, STORED[dtype]))
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.itemsize]
    after = (one.view(whole) + 1).view(one.dtype)
    assert ROUNDOFF[dtype] == float(after.double() - 1.0) / 2


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_kappa_is_resolved_where_storing_does_not_change_it(
    scale: float, generator: torch.Generator
) -> None:
    """A plateau and one small sigma, above and far below the floor of bfloat16."""
    for last, resolved in ((0.3, True), (1e-5, False)):
        sigma = torch.ones(60, dtype=torch.float64)
        sigma[-1] = last
        exact = with_spectrum(sigma * scale, 60, 60, generator)
        stored = exact.bfloat16()
        found = Kappa().measure(matrix_of(stored)).values
        kept = abs((found["kappa"] or 0.0) * last - 1.0) < 0.1  # type: ignore[operator]
        assert found["kappa_resolved"] is resolved is kept
        assert Kappa().measure(matrix_of(exact)).values["kappa_resolved"] is True


@pytest.mark.parametrize(
    ("dtype", "resolved"),
    [("F32", True), ("F16", True), ("BF16", False), ("F8_E4M3", False), ("F8_E5M2", False),
     ("U8", None), ("I32", None), ("Q4_K", None), ("F4", None)],
)  # fmt: skip
def test_the_floor_is_that_of_the_stored_dtype(
    dtype: str, resolved: bool | None, generator: torch.Generator
) -> None:
    view = replace(view_of("w", 60, 60), entry=replace(view_of("w", 60, 60).entry, dtype=dtype))
    sigma = torch.linspace(1.0, 0.001, 60, dtype=torch.float64)
    # norm 4.5, so the floors are 0.0003 for float16 and 0.003 for bfloat16
    matrix = Matrix(view, with_spectrum(sigma, 60, 60, generator))
    assert Kappa().measure(matrix).values["kappa_resolved"] is resolved


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"select": "1", "by": "param"},
            "--by 'param' is not known. Did you mean 'params'? Expected one of matrices, params.",
        ),
        (
            {"select": "1", "per": "layer"},
            "--per 'layer' is not known. Expected one of global, role.",
        ),
        ({"select": "200%"}, f"--select 200% is no share. {SHARE}"),
        ({"select": "0%"}, f"--select 0% is no share. {SHARE}"),
        ({"select": "0.1"}, f"--select 0.1 is no share. Did you mean --select 10%? {SHARE}"),
        ({"select": "0.125"}, f"--select 0.125 is no share. Did you mean --select 12.5%? {SHARE}"),
        ({"select": "few"}, f"--select 'few' is no share. {SHARE}"),
        (
            {"rank_by": "excess"},
            (
                "--rank-by 'excess' is not known. Did you mean 'kappa_excess'? "
                "Expected one of kappa, kappa_excess."
            ),
        ),
        ({"by": "params"}, "--by params says how to select. Give a share too: --select 10%."),
        ({"per": "role"}, "--per role says how to select. Give a share too: --select 10%."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Kappa(**settings)
    assert str(caught.value) == told


def test_parameters_are_taken_until_the_next_does_not_fit() -> None:
    rows = [
        row_of(Kappa(), matrix_of(torch.diag(torch.tensor([1.0] * (side - 1) + [1 / kappa])), name))
        for name, side, kappa in (("a", 3, 2.0), ("b", 5, 3.0), ("c", 2, 4.0), ("d", 6, 5.0))
    ]  # 9, 25, 4 and 36 parameters of 74

    def taken(select: str) -> object:
        return Kappa(select=select, by="params").conclude(rows)[1]["selected"]

    assert taken("9") == taken("33") == ["a"]
    assert taken("1") == taken("1%") == ["a"]  # one at least
    assert taken("34") == taken("37") == taken("50%") == ["a", "b"]  # c alone would fit in 37 - 9
    assert taken("38") == taken("73") == taken("51.36%") == ["a", "b", "c"]
    assert taken("51.35%") == ["a", "b"]  # 37.999 of 74
    assert taken("74") == taken("100%") == taken("9999") == ["a", "b", "c", "d"]
    summary = Kappa(select="50%", by="params").conclude(rows)[1]
    assert summary["parameters_selected"] == 34
    assert summary["reading"] == (
        "2 of 4 matrices selected (lowest kappa first, by parameters), 45.9 % of their parameters."
    )


def test_each_role_has_its_own_share() -> None:
    names = [f"layers.{i}.{kind}.weight" for kind in ("q_proj", "up_proj") for i in range(4)]
    rows = planted(dict(zip(names, (5.0, 9.0, 7.0, 6.0, 2.0, 4.0, 3.0, 1.5), strict=True)))
    one = Kappa(select="49%", per="role").conclude(rows)[1]
    two = Kappa(select="2", per="role").conclude(rows)[1]
    assert one["selected"] == ["layers.3.up_proj.weight", "layers.0.q_proj.weight"]
    assert two["selected"] == [
        "layers.3.up_proj.weight", "layers.0.up_proj.weight", "layers.0.q_proj.weight",
        "layers.3.q_proj.weight",
    ]  # fmt: skip
    assert one["cut"] is two["cut"] is None
    assert str(two["reading"]).startswith(
        "4 of 8 matrices selected (lowest kappa first in each of 2 roles), 50 %"
    )


def test_each_expert_is_a_candidate() -> None:
    names = [f"{QUERY}[expert={i}]" for i in range(4)]
    assert chosen("50%", planted(dict(zip(names, (4.0, 2.0, 3.0, 5.0), strict=True)))) == [
        names[1], names[2],
    ]  # fmt: skip


def shaped(shapes: dict[tuple[int, int], list[float]]) -> list[Row]:
    """Rows of these shapes and condition numbers."""
    rows = []
    for (height, width), kappas in shapes.items():
        for i, kappa in enumerate(kappas):
            values = torch.zeros(height, width, dtype=torch.float64)
            values.diagonal().fill_(1.0)
            values[0, 0] = kappa
            rows.append(row_of(Kappa(), matrix_of(values, f"{height}.{width}.{i}")))
    return rows


RANKED = "kappa ranks shapes here: {} are 4:1 rectangles, as are 4 of the 12 candidates. "


@pytest.mark.parametrize(
    ("settings", "shapes", "told"),
    [
        ({}, {(8, 2): [2, 3, 4, 5], (2, 2): [9] * 8}, "all 4"),
        ({}, {(8, 2): [2, 3], (2, 8): [4, 5], (2, 2): [9] * 8}, "all 4"),
        ({}, {(8, 2): [2, 3, 4, 15], (2, 2): [3.5, *[9] * 7]}, "3 of the 4"),
        ({}, {(8, 2): [2, 3, 14, 15], (2, 2): [3.5, 3.6, *[9] * 6]}, None),  # half and half
        ({}, {(8, 2): [9] * 4, (2, 2): [2] * 8}, None),  # squares, whose null is higher
        ({}, {(8, 2): [2] * 9, (2, 2): [9] * 3}, None),  # most candidates are of that shape
        ({"rank_by": "kappa_excess"}, {(8, 2): [2, 3, 4, 5], (2, 2): [90] * 8}, None),
        ({"per": "role"}, {(8, 2): [2, 3, 4, 5], (2, 2): [9] * 8}, None),
        ({"select": "2"}, {(8, 2): [2, 3, 4, 5], (2, 2): [9] * 8}, None),  # two may be chance
    ],
)
def test_the_reading_says_where_kappa_ranks_shapes(
    settings: dict[str, Any], shapes: dict[tuple[int, int], list[float]], told: str | None
) -> None:
    reading = str(Kappa(**{"select": "4", **settings}).conclude(shaped(shapes))[1]["reading"])
    if told is None:
        assert "shapes" not in reading
    else:
        assert reading.endswith(
            RANKED.format(told) + "--rank-by kappa_excess compares like with like."
        )


def test_ranking_by_excess_says_so() -> None:
    rows = shaped({(8, 2): [3.3], (2, 2): [9.0]})
    first, second = (row.number("kappa_excess") for row in rows)
    summary = Kappa(select="1", rank_by="kappa_excess").conclude(rows)[1]
    assert summary["selected"] == ["2.2.0"]
    assert summary["cut"] == second == pytest.approx(9.0 / (2 * math.exp(1.537)))
    assert str(summary["reading"]).startswith(
        "1 of 2 matrices selected (lowest kappa_excess first), 20 % of their parameters."
    )
    assert first is not None
    assert second is not None
    assert Kappa(rank_by="kappa_excess").conclude(rows)[1]["reading"] == (
        f"kappa_excess of 2 matrices: from {number(second)} in 2.2.0 to {number(first)} in 8.2.0."
    )


ASKED = {
    (): (),
    ("embed",): ("embed",),
    ("router",): ("router",),
    ("conv",): ("conv",),
    ("attn", "lm_head"): ("lm_head",),
}


@pytest.mark.parametrize("named", ASKED, ids=" ".join)
@pytest.mark.parametrize("embeddings", [False, True])
def test_tables_heads_routers_and_convolutions_are_candidates_only_when_asked_for(
    named: tuple[str, ...], embeddings: bool
) -> None:
    kappa = Kappa(include_embeddings=embeddings)
    wanted = {*ASKED[named], *(("embed", "lm_head") if embeddings else ())}
    for kind in ROLES:
        left_out = kind in {"embed", "lm_head", "router", "conv"} - wanted
        told = f"{kind} is no candidate for training" if left_out else None
        assert kappa.why_not(replace(view_of("w", 4, 5), role=Role(kind)), named) == told


def test_estimates_grow_with_the_matrix() -> None:
    small, large = view_of("w", 50, 60), view_of("w", 500, 60)
    assert 0 < float(Kappa().cost(small)) < float(Kappa().cost(large))
    assert 4 * 50 * 60 < Kappa().memory(small) < Kappa().memory(large)


def test_a_kappa_of_the_rounding_is_told_as_such() -> None:
    source = torch.Generator().manual_seed(2)
    left = torch.randn(30, 5, generator=source)
    sound = torch.randn(30, 20, generator=source)
    rows = [
        row_of(Kappa(), matrix_of(values, name))
        for name, values in (("a", sound), ("b", left @ left.mT[:, :20]))
    ]
    said = " In 1 matrix it measures the rounding of what is stored."
    assert str(Kappa().conclude(rows)[1]["reading"]).endswith(said)
    assert said not in str(Kappa().conclude(rows[:1])[1]["reading"])
