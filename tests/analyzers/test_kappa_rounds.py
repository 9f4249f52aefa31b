"""A selection that stops early chooses what all singular values of every matrix would choose."""

import math
import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from matplotlib.text import Text
from torch import Tensor

import spectra
from analyzers.subjects import view_of
from examples import write_model
from pictures import picture
from spectra.analyzers import Kappa, Row
from spectra.analyzers.kappa import KEYS
from spectra.kernels.gaussian import kappa_null
from spectra.report.screens import screen_of
from spectra.words import By, Per, RankBy
from spectra.work import Result


@cache
def vectors(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    source, rank = torch.Generator().manual_seed(rows + cols), min(rows, cols)
    drawn = (torch.randn(n, rank, generator=source).double() for n in (rows, cols))
    left, right = (torch.linalg.qr(one).Q for one in drawn)
    return left, right


def matrix(kappa: float, rows: int, cols: int, seed: int) -> Tensor:
    """Vectors are others for each seed, and still those of one decomposition."""
    sigma = torch.logspace(0, -math.log10(kappa), min(rows, cols), dtype=torch.float64)
    left, right = vectors(rows, cols)
    made: Tensor = (left.roll(seed, 0) * sigma) @ right.mT
    return made.float()


def written(folder: Path, kappas: list[float]) -> Path:
    """A model of square and long matrices, and one too small for bounds."""
    shapes = [(520, 520), (560, 515), (515, 600), (40, 50)]
    tensors = {
        f"layers.{i}.w.weight": matrix(kappa, *shapes[i % len(shapes)], i)
        for i, kappa in enumerate(kappas)
    }
    return write_model(folder, tensors)


def selected(measured: Result, kappa: Kappa) -> Result:
    """The same rows, of which others are chosen."""
    rows, summary = kappa.conclude(measured.rows)
    return replace(measured, rows=rows, summary=summary)


def by_name(result: Result) -> dict[str, Row]:
    return {row.matrix: row for row in result.rows}


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = torch.rand(14, generator=torch.Generator().manual_seed(3)).double()
    return written(tmp_path_factory.mktemp("scattered"), (10.0 ** (0.3 + 3.0 * random)).tolist())


@pytest.fixture(scope="module")
def scattered_exact(scattered: Path) -> Result:
    return spectra.kappa(scattered, exact=True)


@pytest.mark.parametrize("select", ["1", "3", "30%", "50%", "60%", "100%"])
def test_the_selection_is_that_of_exact_values(
    select: str, scattered: Path, scattered_exact: Result
) -> None:
    early = spectra.kappa(scattered, select=select)
    exact = selected(scattered_exact, Kappa(select=select, exact=True))
    assert early.summary["selected"] == exact.summary["selected"]
    assert early.summary["cut"] == pytest.approx(exact.summary["cut"], rel=1e-3)
    assert exact.summary["outside"] == 0
    for name, row in by_name(early).items():
        true = by_name(exact)[name].number("kappa")
        assert true is not None
        low, high = row.number("kappa_low"), row.number("kappa_high")
        assert low is not None
        assert low <= true * (1 + 1e-4)
        assert row.values["selected"] is (name in exact.summary["selected"])
        if row.status == "outside":
            assert (high, row.values["kappa"], row.values["selected"]) == (None, None, False)
            assert row.values["kappa_excess"] is row.values["kappa_resolved"] is None
            assert row.number("kappa_null") == kappa_null(row.place.rows, row.place.cols)
            assert low > early.summary["cut"]
        else:
            assert high is not None
            assert true <= high * (1 + 1e-4)


SETTINGS = list(product(("matrices", "params"), ("global", "role"), ("kappa", "kappa_excess")))


@pytest.fixture(scope="module")
def doubled(real: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real layers in one, side by side, and also below: large enough for bounds."""
    tensors = {}
    for name, weight in real.items():
        if (layer := re.search(r"layer\.([13])\.", name)) is None:
            continue
        after = real[name.replace(layer[0], f"layer.{int(layer[1]) + 1}.")]
        found = torch.cat([weight, after], dim=int(weight.shape[0] >= weight.shape[1]))
        square = weight.shape[0] == weight.shape[1]
        tensors[name] = torch.cat([found, found.flip(1).roll(1, 0)]) if square else found
    return write_model(tmp_path_factory.mktemp("doubled"), tensors)


@pytest.fixture(scope="module")
def all_exact(doubled: Path) -> Result:
    """The same, decomposed in full."""
    return spectra.kappa(doubled, exact=True)


@pytest.mark.parametrize(("by", "per", "rank_by"), SETTINGS)
@pytest.mark.parametrize("select", ["10%", "33%"])
def test_the_real_model_whatever_is_asked_for(
    by: By, per: Per, rank_by: RankBy, select: str, doubled: Path, all_exact: Result
) -> None:
    early = spectra.kappa(doubled, select=select, by=by, per=per, rank_by=rank_by)
    kappa = Kappa(select=select, by=by, per=per, rank_by=rank_by, exact=True)
    _, summary = kappa.conclude(all_exact.rows)
    assert early.summary["selected"] == summary["selected"]
    assert early.summary["parameters_selected"] == summary["parameters_selected"]
    assert {row.values["decided_by"] for row in early.rows} >= {"bound"}
    cut = summary["cut"]
    assert (cut is None) is (per == "role")
    assert early.summary["cut"] == (None if cut is None else pytest.approx(cut, rel=1e-3))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two roles, three shapes; the square kappas far apart, so that bounds leave them out."""
    sizes = {"q_proj": [(520, 520)], "up_proj": [(560, 515), (515, 600)]}
    tensors = {}
    for i in range(24):
        role = "q_proj" if i % 2 else "up_proj"
        shape = sizes[role][i // 2 % len(sizes[role])]
        kappa = 10.0 ** (1.0 + (7 * i % 24) / 8)
        tensors[f"layers.{i}.{role}.weight"] = matrix(kappa, *shape, i)
    return write_model(tmp_path_factory.mktemp("planted"), tensors)


@pytest.fixture(scope="module")
def planted_exact(planted: Path) -> Result:
    return spectra.kappa(planted, exact=True)


@pytest.mark.parametrize(("by", "per", "rank_by"), SETTINGS)
def test_planted_numbers_whatever_is_asked_for(
    by: By, per: Per, rank_by: RankBy, planted: Path, planted_exact: Result
) -> None:
    early = spectra.kappa(planted, select="10%", by=by, per=per, rank_by=rank_by)
    kappa = Kappa(select="10%", by=by, per=per, rank_by=rank_by, exact=True)
    exact = selected(planted_exact, kappa)
    assert early.summary["selected"] == exact.summary["selected"]
    assert early.summary["outside"] > 0
    assert exact.summary["outside"] == 0


def test_what_lies_far_outside_stops_and_says_so(tmp_path: Path) -> None:
    model = written(tmp_path, [1.3, 1e4, 1e5, 30.0, 1e4, 2e4])
    result = spectra.kappa(model, select="1")
    assert [row.status for row in result.rows] == ["ok"] + ["outside"] * 2 + ["ok"] + [
        "outside"
    ] * 2
    assert result.summary["outside"] == 4
    assert str(result.summary["reading"]).endswith("4 matrices outside the cut stopped at a bound.")
    assert [row.matrix for row in result.rows] == [f"layers.{i}.w.weight" for i in range(6)]
    cells = [line.cells[0] for line in screen_of(result.document(), full=True).lines]
    assert sum(cell.startswith("> ") for cell in cells) == 4
    drawn = {text.get_text() for text in picture(result).findobj(Text)}
    assert "outside the cut: at least this κ" in drawn
    assert "singular" not in drawn


def test_the_order_of_work_changes_nothing(tmp_path: Path) -> None:
    model = written(tmp_path, [1.5, 40.0, 3.0, 2.0, 1e3, 2.5, 90.0, 3.5, 1e5])
    one, two = (spectra.kappa(model, select="2", workers=workers).document() for workers in (1, 2))
    assert one == two


def test_twins_at_the_cut_are_settled_in_full_and_by_name(tmp_path: Path) -> None:
    same, other = matrix(5.0, 520, 520, 1), matrix(300.0, 520, 520, 2)
    names = ["c", "a", "b", "d", "e", "f"]
    values = [same, same.clone(), same.clone(), other, other.clone(), matrix(1.2, 600, 600, 3)]
    model = write_model(tmp_path, dict(zip(names, values, strict=True)))
    result = spectra.kappa(model, select="3")
    assert result.summary["selected"] == ["f", "a", "b"]
    assert [by_name(result)[name].values["decided_by"] for name in "abc"] == ["exact"] * 3


def test_what_is_not_finite_or_singular_takes_part_as_ever(tmp_path: Path) -> None:
    broken, flat = torch.full((100, 100), math.nan), torch.ones(100, 100)
    values = {"a": broken, "b": flat, "c": matrix(9.0, 100, 100, 1), "d": matrix(4.0, 80, 99, 2)}
    for select, chosen in (("1", ["d"]), ("2", ["d", "c"]), ("3", ["d", "c", "b"])):
        result = spectra.kappa(write_model(tmp_path / select, values), select=select)
        assert result.summary["selected"] == chosen
        assert result.summary["non_finite"] == 1
        assert by_name(result)["a"].values["selected"] is None


def row(name: str, low: float, high: float | None, decided_by: str) -> Row:
    """A row of these bounds."""
    outside = high is None
    values = {**dict.fromkeys(KEYS), "kappa_low": low, "kappa_high": high, "decided_by": decided_by}
    if not outside:
        values["kappa"] = low
    return Row(view_of(name, 90, 90).place(), "outside" if outside else "ok", None, values)


def test_rounds_go_from_bounds_to_numbers_to_full_spectra() -> None:
    rows = {
        name: row(name, low, None, "outside")
        for name, low in zip("abcd", (2, 3, 4, 9), strict=True)
    }
    kappa = Kappa(select="2")
    places = [row.place for row in rows.values()]
    first = kappa.following([], places)
    assert first is not None
    assert first.matrices is None
    lowest = kappa.following(list(rows.values()), places)
    assert lowest is not None
    assert lowest.matrices == frozenset("ab")
    rows |= {"a": row("a", 5.0, 5.1, "bound"), "b": row("b", 3.0, 3.1, "bound")}
    within = kappa.following(list(rows.values()), places)
    assert within is not None
    assert within.matrices == frozenset("c")
    rows["c"] = row("c", 5.05, 5.2, "bound")
    full = kappa.following(list(rows.values()), places)
    assert full is not None
    assert full.matrices == frozenset("ac")
    assert full.analyzer == Kappa(exact=True)
    rows |= {"a": row("a", 5.08, 5.08, "exact"), "c": row("c", 5.07, 5.07, "exact")}
    assert kappa.following(list(rows.values()), places) is None
    assert kappa.conclude(list(rows.values()))[1]["selected"] == ["b", "c"]
