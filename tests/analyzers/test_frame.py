"""What `diff --frame base` tells of updates whose place in the base's frame is known."""

import pytest
import torch
from torch import Tensor

from analyzers.subjects import pair_of, row_of
from spectra.analyzers import Diff, Row
from spectra.analyzers.frame import KEYS
from spectra.errors import UsageError
from spectra.matrices import LowRank

FRAME = Diff(frame="base", k=5)
NAMES = [f"encoder.layer.{layer}.attention.self.query.weight" for layer in range(4)]
Updates = dict[str, tuple[Tensor, Tensor]]
Pairs = list[tuple[Tensor, Tensor | LowRank | None]]


def normal(rows: int, cols: int, seed: int, scale: float = 0.02) -> Tensor:
    return scale * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def values_alone(base: Tensor, seed: int, share: float = 0.05) -> Tensor:
    """Move every singular value, and nothing else."""
    left, sigma, right = torch.linalg.svd(base.double(), full_matrices=False)
    draw = torch.randn(len(sigma), generator=torch.Generator().manual_seed(seed))
    moved: Tensor = (left * sigma * (1.0 + share * draw)) @ right
    return moved.to(base.dtype)


def rows_of(pairs: Pairs, diff: Diff = FRAME) -> list[Row]:
    return [
        row_of(diff, pair_of(base, tuned, name))
        for name, (base, tuned) in zip(NAMES, pairs, strict=False)
    ]


def reading(rows: list[Row], diff: Diff = FRAME) -> str:
    return str(diff.conclude(rows)[1]["reading"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_singular_values_alone_are_named(dtype: torch.dtype) -> None:
    bases = [normal(96, 128, seed).to(dtype) for seed in range(3)]
    rows = rows_of([(base, values_alone(base, 9)) for base in bases])
    for row in rows:
        assert row.values["frame_diagonal"] == pytest.approx(1.0, abs=0.02)
        assert row.values["frame_diagonal_null"] == 1 / 128
        assert row.values["frame_status"] == "ok"
    told = reading(rows)
    assert "Nothing but singular values changed in 3 of 3 changed matrices: " in told
    assert "(a random change: 0.781 %)" in told
    frame = FRAME.conclude(rows)[1]["frame"]
    assert isinstance(frame, dict)
    assert frame["alone"] == 3


def test_rounding_is_taken_off_what_is_judged() -> None:
    base = normal(96, 128, 1).bfloat16()
    (row,) = rows_of([(base, values_alone(base, 9, share=0.004))])
    share, rounding = (float(str(row.values[f"frame_{key}"])) for key in ("diagonal", "rounding"))
    assert share < 0.9
    assert share + rounding == pytest.approx(1.0, abs=0.06)
    assert "Nothing but singular values changed" in reading([row])


def test_real_lora_is_not_named(real: dict[str, Tensor], updates: Updates) -> None:
    chosen = list(updates.items())[:4]
    pairs: Pairs = [(real[name], LowRank(*factors)) for name, factors in chosen]
    merged: Pairs = [(real[name], real[name] + left @ right) for name, (left, right) in chosen]
    as_factors, dense = (rows_of(some) for some in (pairs, merged))
    for rows in (as_factors, dense):
        assert all(float(str(row.values["frame_diagonal"])) < 0.05 for row in rows)
        assert "In the base's singular frame the change has" in reading(rows)
        assert "Nothing but" not in reading(rows)
    for one, other in zip(as_factors, dense, strict=True):
        for key in KEYS[:10]:
            assert one.values[key] == pytest.approx(other.values[key], rel=1e-3, abs=1e-6), key


@pytest.mark.parametrize("kind", ["full", "noise", "quantised"])
def test_full_fine_tunes_noise_and_quantising_are_not_named(kind: str) -> None:
    base = normal(96, 128, 1)
    tuned = {
        "full": base + normal(96, 128, 2, 0.002) @ torch.diag(torch.linspace(2, 0, 128)),
        "noise": base + normal(96, 128, 3, 0.001),
        "quantised": (base * 64).round() / 64,
    }[kind]
    told = reading(rows_of([(base, tuned)]))
    assert "Nothing but" not in told


def test_ties_leave_the_frame_open_and_say_so() -> None:
    base = torch.eye(40)
    (row,) = rows_of([(base, base + normal(40, 40, 1))])
    assert row.values["frame_diagonal"] is row.values["frame_top"] is None
    assert row.values["frame_status"] == "undetermined: 40 singular values of the base coincide"
    assert reading([row]).endswith(
        f"1 changed matrix has no singular frame that is determined: {row.matrix}: undetermined: "
        "40 singular values of the base coincide."
    )


def test_a_base_of_zeros_and_what_did_not_change() -> None:
    zeros = torch.zeros(20, 30)
    rows = rows_of([(zeros, normal(20, 30, 1)), (zeros, None), (normal(20, 30, 2), None)])
    assert [row.values["frame_status"] for row in rows] == [
        "the base is 0 in every entry", "unchanged", "unchanged",
    ]  # fmt: skip
    assert all(row.values["frame_diagonal"] is None for row in rows)
    reading(rows)


def test_settings() -> None:
    with pytest.raises(UsageError, match=r"--frame 'tuned' is not known\. Expected base"):
        Diff(frame="tuned")  # type: ignore[arg-type]
    assert Diff(frame="base", k=3).idle() == []
    assert Diff(k=3).idle() == ["--k 3 has no effect without --intruders."]
