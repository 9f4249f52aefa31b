"""Soundness against counting entry by entry in float64, in every dtype and layout."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from analyzers.subjects import matrix_of, view_of
from spectra.analyzers.row import Value
from spectra.analyzers.soundness import Soundness
from spectra.analyzers.spans import RUNS, runs_of
from spectra.matrices import Matrix
from spectra.matrices.part import Part

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["f16", "bf16", "f32", "f64"])
SPECIAL = (0.0, -0.0, 1.0, -2.5, float("nan"), float("inf"), float("-inf"))


def measured(values: Tensor, block: int = 1 << 20) -> dict[str, Value]:
    return dict(Soundness(block).measure(matrix_of(values)).values)


def naive(values: Tensor) -> dict[str, Any]:
    """The same, entry by entry."""
    limit = torch.finfo(values.dtype).max
    wide = values.double()
    bad = [[i, j] for i, j in torch.cartesian_prod(*map(torch.arange, wide.shape)).tolist()
           if not wide[i, j].isfinite()]  # fmt: skip
    finite = wide[wide.isfinite()].abs()
    zero_rows, zero_cols = (wide == 0).all(1), (wide == 0).all(0)
    return {
        "nan": int(wide.isnan().sum()),
        "inf": int(wide.isinf().sum()),
        "first_non_finite": str(bad[0]) if bad else None,
        "largest": float(finite.max()) if len(finite) else None,
        "saturated": int((finite == limit).sum()),
        "zero_rows": int(zero_rows.sum()),
        "zero_cols": int(zero_cols.sum()),
    }


class TestAgainstCounting:
    @dtypes
    @given(data=st.data())
    def test_any_small_matrix(self, dtype: torch.dtype, data: st.DataObject) -> None:
        rows, cols = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
        top = float(torch.finfo(dtype).max)
        entry = st.sampled_from([*SPECIAL, top, -top, *(0.0,) * 5])
        flat = data.draw(st.lists(entry, min_size=rows * cols, max_size=rows * cols))
        values = torch.tensor(flat, dtype=dtype).reshape(rows, cols)
        found = measured(values)
        assert {key: found[key] for key in naive(values)} == naive(values)

    @dtypes
    def test_several_blocks(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        values = torch.randn(50, 7, generator=generator).to(dtype)
        values[20:31] = values[47:] = 0.0
        values[:, 3] = -0.0
        values[44, 6], values[45, 0] = float("nan"), float("-inf")
        whole = measured(values)
        assert measured(values, block=64) == whole
        assert {key: whole[key] for key in naive(values)} == naive(values)
        assert (whole["zero_row_runs"], whole["zero_col_runs"]) == ("20-30, 47-49", "3")
        assert whole["first_non_finite"] == "[44, 6]"

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
    def test_one_byte_floats(self, dtype: torch.dtype) -> None:
        values = torch.tensor([[0.0, 448.0], [float("nan"), -2.0]]).to(dtype)
        view = view_of("a.weight", 2, 2)
        found = Soundness().measure(Matrix(view, values)).values
        assert (found["nan"], found["inf"], found["saturated"]) == (1, 0, 0)
        assert (found["largest"], found["first_non_finite"]) == (448.0, "[1, 0]")


class TestDigest:
    def test_is_that_of_bytes_and_shape(self) -> None:
        values = torch.arange(6.0).reshape(2, 3)
        raw = values.numpy().tobytes() + b"2x3"
        assert measured(values)["digest"] == hashlib.sha256(raw).hexdigest()[:16]

    def test_does_not_depend_on_how_values_lie_in_memory(self, generator: torch.Generator) -> None:
        values = torch.randn(40, 30, generator=generator, dtype=torch.float32).bfloat16()
        turned = values.T.contiguous().T
        assert not turned.is_contiguous()
        assert measured(turned) == measured(values)

    @pytest.mark.parametrize("shape", [(1, 5), (5, 1)], ids=["row", "column"])
    def test_of_one_line_cut_from_a_larger_matrix(self, shape: tuple[int, int]) -> None:
        whole = torch.arange(20.0).reshape(5, 4)
        line = whole[:, :1] if shape == (5, 1) else whole[:, :1].T
        assert measured(line) == measured(line.clone(memory_format=torch.contiguous_format))

    def test_tells_shapes_zeros_and_nans_apart(self) -> None:
        values = torch.zeros(2, 3)
        odd = values.clone()
        odd[0, 0] = -0.0
        nan = values.clone()
        nan[0, 0] = float("nan")
        assert len({measured(one)["digest"] for one in (values, values.T, odd, nan)}) == 4
        assert measured(nan)["digest"] == measured(nan.clone())["digest"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("flags", "text"),
        [
            ([], None),
            ([0, 0], None),
            ([1, 1, 1], "0-2"),
            ([0, 1, 0, 1, 1], "1, 3-4"),
        ],
        ids=["empty", "none", "all", "two runs"],
    )
    def test_runs(self, flags: list[int], text: str | None) -> None:
        assert runs_of(torch.tensor(flags, dtype=torch.bool)) == text

    def test_of_many_runs_the_longest_are_told(self) -> None:
        flags = torch.arange(2000) % 2 == 0
        flags[1500:1532] = True
        found = runs_of(flags)
        assert found is not None
        assert "1500-1532" in found
        assert len(found.split(", ")) == RUNS

    def test_of_a_vector_and_of_a_kernel(self) -> None:
        for shape, place in (((9,), "[5]"), ((3, 3, 1), "[1, 2, 0]"), ((), "[]")):
            entry = replace(view_of("x", 1, 1).entry, shape=shape)
            rows = shape[0] if shape else 1
            values = torch.zeros(shape).reshape(-1)
            values[5 if shape else 0] = float("inf")
            view = replace(view_of("x", rows, len(values) // rows), entry=entry)
            found = Soundness().measure(Matrix(view, values.reshape(rows, -1))).values
            assert found["first_non_finite"] == place

    def test_of_a_part_is_that_in_the_part(self) -> None:
        entry = replace(view_of("x", 1, 1).entry, shape=(2, 3, 4))
        view = replace(view_of("x[expert=1]", 3, 4), entry=entry, part=Part(expert=1))
        values = torch.zeros(3, 4)
        values[2, 1] = float("nan")
        assert Soundness().measure(Matrix(view, values)).values["first_non_finite"] == "[2, 1]"


class TestKeys:
    def test_are_those_that_are_named(self) -> None:
        assert tuple(measured(torch.ones(2, 2))) == Soundness.keys

    def test_an_empty_matrix_raises_nothing(self) -> None:
        found = measured(torch.ones(0, 4))
        assert (found["nan"], found["largest"], found["zero_rows"]) == (0, None, 0)

    def test_decoded_values_are_not_saturated(self) -> None:
        matrix = matrix_of(torch.full((2, 2), torch.finfo(torch.float16).max).half())
        assert Soundness().measure(matrix).values["saturated"] == 4
        coded = replace(matrix.view, entry=replace(matrix.view.entry, codec=_Coded()))
        assert Soundness().measure(Matrix(coded, matrix.values)).values["saturated"] is None

    def test_memory_covers_the_values(self) -> None:
        view = view_of("a.weight", 100, 50, "BF16")
        assert Soundness().memory(view) >= 2 * 100 * 50
        assert float(Soundness().cost(view)) > 0.0


class _Coded:
    """Any codec."""

    name = "coded"
    parts = ()

    def decode(self, read: object, slab: object) -> Tensor:
        raise NotImplementedError

    def nudge(self, main: object) -> None:
        raise NotImplementedError
