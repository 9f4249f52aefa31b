"""Which leading vectors of a tuned matrix are its own, and which its rounding made."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from analyzers.subjects import pair_of, row_of
from spectra.analyzers import Diff, intruders
from spectra.analyzers.null_directions import own_directions
from spectra.analyzers.row import Value
from spectra.kernels.leading import SINGLE
from spectra.kernels.verdicts import Ladder, proven_similarities
from spectra.matrices import LowRank

FEWER = 8
STORED = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
WAYS = [Diff(intruders=True), Diff(intruders=True, exact=True), Diff(intruders=True, side="right")]


def normal(rows: int, cols: int, seed: int = 0) -> Tensor:
    drawn: Tensor = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))
    return drawn.mul_(0.05)


def stored(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The values after a dtype's rounding; those of eight bits come decoded."""
    rounded: Tensor = matrix.to(dtype)
    return rounded.float() if dtype.itemsize == 1 else rounded


def collapsed(matrix: Tensor, rank: int = FEWER) -> Tensor:
    """The matrix without its smaller directions, multiplied out in float32 as a user does."""
    left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
    product: Tensor = (left[:, :rank] * sigma[:rank]) @ right[:rank]
    return product


def off(matrix: Tensor, size: float) -> Tensor:
    """A direction of this sigma that neither the leading ones nor chance have."""
    left, right = normal(len(matrix), 1, 5), normal(matrix.shape[1], 1, 6)
    return size * torch.outer(left[:, 0] / left.norm(), right[:, 0] / right.norm())


def judged(base: Tensor, tuned: Tensor | LowRank, way: Diff = WAYS[0]) -> dict[str, Value]:
    values = dict(way.measure(pair_of(base, tuned)).values)
    detail = values["intruder_detail"]
    assert isinstance(detail, list)
    assert len(detail) == values["vectors_judged"]
    return values


NAMES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=["proven", "exact", "right"])
@pytest.mark.parametrize("shape", [(96, 96), (300, 80), (80, 300)], ids=str)
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_a_collapse_has_no_intruders(dtype: torch.dtype, shape: tuple[int, int], way: Diff) -> None:
    base = normal(*shape)
    values = judged(base, stored(collapsed(base), dtype), way)
    assert values["intruders"] == 0
    assert values["vectors_judged"] == FEWER
    assert values["vectors_status"] == f"2 within the rounding of {NAMES[dtype]}"
    assert values["certified"] is True


@pytest.mark.parametrize("wide", [torch.float32, torch.float64], ids=str)
def test_the_grid_counts_and_not_the_dtype_of_the_file(wide: torch.dtype) -> None:
    base = normal(96, 96)
    values = judged(base, collapsed(base).bfloat16().to(wide))
    assert values["vectors_judged"] == FEWER
    assert values["vectors_status"] == "2 within the rounding of BF16"
    values = judged(base.double(), collapsed(base).double())
    assert values["vectors_status"] == "2 within the rounding of F32"


@pytest.mark.parametrize("way", WAYS, ids=["proven", "exact", "right"])
@pytest.mark.parametrize(("dtype", "small"), [
    (torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3),
], ids=str)  # fmt: skip
def test_a_direction_above_the_rounding_is_judged(
    dtype: torch.dtype, small: float, way: Diff
) -> None:
    base = normal(96, 96)
    rest = collapsed(base)
    for times, own in ((5.0, FEWER + 1), (0.02, FEWER)):
        values = judged(base, (rest + off(rest, small * times)).to(dtype), way)
        assert values["vectors_judged"] == own
        assert values["intruders"] == own - FEWER


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_a_large_matrix_that_collapsed(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a Krylov space of the tuned matrix, and where that gives up by decompositions."""
    few = Ladder(short=24, dense=24, single=replace(SINGLE, fewest=4))
    monkeypatch.setattr(intruders, "proven_similarities", partial(proven_similarities, ladder=few))
    base = normal(400, 390)
    tuned = stored(normal(400, FEWER, 1) @ normal(FEWER, 390, 2) * 100.0, dtype)
    values, exact = judged(base, tuned), judged(base, tuned, WAYS[1])
    for key in ("vectors_judged", "vectors_status", "intruders"):
        assert values[key] == exact[key]
    assert values["vectors_judged"] == values["intruders"] == FEWER


@pytest.mark.parametrize(("k", "status"), [
    (5, "ok"), (8, "ok"), (50, "42 within the rounding of F32"),
    (500, "88 within the rounding of F32"),
])  # fmt: skip
def test_more_vectors_asked_for_than_there_are(k: int, status: str) -> None:
    base = normal(96, 96)
    values = judged(base, collapsed(base), Diff(intruders=True, k=k))
    assert values["vectors_judged"] == min(k, FEWER)
    assert values["vectors_status"] == status
    assert values["intruders"] == 0


@pytest.mark.parametrize("way", WAYS, ids=["proven", "exact", "right"])
@pytest.mark.parametrize("shape", [(96, 96), (96, 40), (40, 96)], ids=str)
def test_a_base_of_zeros_has_no_directions_to_match(way: Diff, shape: tuple[int, int]) -> None:
    base, tuned = torch.zeros(shape), normal(*shape)
    values = judged(base, tuned, way)
    assert values["vectors_judged"] == values["intruders"] == 0
    assert values["vectors_status"] == "the base is 0 in every entry"
    assert values["subspace_overlap"] is None
    reading = str(way.conclude([row_of(way, pair_of(base, tuned))])[1]["reading"])
    assert reading.endswith(
        " 10 leading vectors of 1 matrix were not judged: the base is 0 in every entry, and has "
        "none to match."
    )


def test_an_overlap_is_that_of_the_vectors_judged() -> None:
    base = normal(96, 96)
    values = judged(base, collapsed(base))
    assert values["subspace_overlap"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_large_rows_hide_no_direction(dtype: torch.dtype) -> None:
    base = normal(96, 96)
    base[7] *= 50.0
    tuned = stored(base + 0.01 * normal(96, 96, 1), dtype)
    assert judged(base, tuned)["vectors_status"] == "ok"
    values = judged(base, stored(collapsed(base), dtype))
    assert values["vectors_judged"] == FEWER


def test_an_adapter_on_a_base_that_collapsed() -> None:
    base = collapsed(normal(96, 96))
    update = LowRank(normal(96, 2, 3), normal(2, 96, 4))
    for way in WAYS:
        values = judged(base, update, way)
        assert values["vectors_judged"] == FEWER + 2
        assert values["vectors_status"] == "ok"
    wide = judged(base, update, Diff(intruders=True, k=12))
    assert wide["vectors_status"] == "2 within the rounding of F32"


def test_of_zeros_nothing_is_judged() -> None:
    base = normal(30, 20)
    values = judged(base, torch.zeros(30, 20))
    assert values["vectors_status"] == "10 within the rounding of F32"
    assert own_directions(pair_of(base, torch.zeros(30, 20)), torch.zeros(0)) == (0, "F32")


def test_it_is_said() -> None:
    base = normal(96, 96)
    rows = [row_of(WAYS[0], pair_of(base, tuned)) for tuned in (collapsed(base), base * 1.01)]
    _, summary = WAYS[0].conclude(rows)
    assert str(summary["reading"]).endswith(
        " 2 leading vectors of 1 matrix were not judged: no more than rounding the stored values "
        "makes."
    )
    _, summary = WAYS[0].conclude(rows[1:])
    assert "not judged" not in str(summary["reading"])


def test_the_values_are_left_as_they_are() -> None:
    base = normal(96, 96)
    tuned = collapsed(base)
    kept = tuned.clone()
    judged(base, tuned)
    assert torch.equal(kept, tuned)
