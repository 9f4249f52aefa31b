"""`diff --trend`: checkpoints of one run against what each is alone, and naive twins."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import spectra
import spectra.analyzers.sorsa
import spectra.kernels.triplets
from adapters import save
from lowrank.nets import adapter, merged, net
from spectra.errors import UsageError

State = dict[str, Tensor]


def checkpoint(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def moved(seed: int, size: float, dtype: torch.dtype = torch.float32) -> State:
    torch.manual_seed(seed)
    return {name: (value + size * torch.randn_like(value)).to(dtype)
            for name, value in net().state_dict().items()}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(net(), tmp_path / "base")


@pytest.fixture
def run(tmp_path: Path) -> list[Path]:
    """Three checkpoints of one run, in another order than that of their steps."""
    sizes = {100: 0.3, 5: 0.02, 20: 0.1}
    return [checkpoint(tmp_path / f"run/checkpoint-{step}", moved(1, size))
            for step, size in sizes.items()]  # fmt: skip


def naive(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """SORSA's lines by torch.linalg, and scipy's assignment."""
    (u0, s0, v0), (u1, s1, v1) = (
        torch.linalg.svd(one.double().flatten(1), full_matrices=False) for one in (before, after)
    )
    cosines = (u0.T @ u1).abs() + (v0 @ v1.T).abs()
    rows, cols = linear_sum_assignment(-cosines.numpy())
    return (float((s1 - s0).abs().mean()), 1 - float(cosines.diagonal().mean()) / 2,
            1 - float(cosines[rows, cols].mean()) / 2)  # fmt: skip


def test_every_checkpoint_is_what_it_is_alone_and_as_published(base: Path, run: list[Path]) -> None:
    found = spectra.diff(base, run, trend=True, k=4)
    assert found.summary["steps"] == [5, 20, 100]
    told: Any = found.summary["checkpoints"]
    assert [(one["model"], one["step"]) for one in told] == [
        ("checkpoint-5", 5), ("checkpoint-20", 20), ("checkpoint-100", 100),
    ]  # fmt: skip
    before = net().state_dict()
    for one, folder in zip(told, [run[1], run[2], run[0]], strict=True):
        alone = spectra.diff(base, folder, intruders=True, k=4)
        after = load_file(folder / "model.safetensors")
        own = {row.matrix: row for row in found.rows if row.place.labels["step"] == one["step"]}
        assert own.keys() == {row.matrix for row in alone.rows}
        drifts = []
        for row in alone.rows:
            values = own[row.matrix].values
            assert {key: values[key] for key in row.values} == dict(row.values)
            expected = naive(before[row.matrix], after[row.matrix])
            drifts.append(expected)
            for key, value in zip(
                ("sorsa_delta_sigma", "sorsa_delta_d", "matched_delta_d"), expected, strict=True
            ):
                assert values[key] == pytest.approx(value, abs=1e-9)
        assert one["intruders"] == alone.summary["intruders"]
        assert one["reading"] == alone.summary["reading"]
        for place, key in enumerate(("sorsa_delta_sigma", "sorsa_delta_d", "matched_delta_d")):
            mean = sum(each[place] for each in drifts) / len(drifts)
            assert one[key] == pytest.approx(mean, abs=1e-9)
        names = [row.matrix for row in alone.rows]
        delta = math.sqrt(sum(float((after[name] - before[name]).double().square().sum())
                              for name in names))  # fmt: skip
        norm = math.sqrt(sum(float(before[name].double().square().sum()) for name in names))
        assert one["delta_relative"] == pytest.approx(delta / norm, rel=1e-5)
    lines: Any = found.summary["roles"]
    assert lines[0]["role"] == "all"
    assert lines[0]["sorsa_delta_d"] == [one["sorsa_delta_d"] for one in told]
    assert lines[0]["intruders"] == [sum(each["intruders"][place] for each in lines[1:])
                                     for place in range(3)]  # fmt: skip
    assert "3 checkpoints of one run, step 5 to 100." in str(found.summary["reading"])


def test_adapters_are_checkpoints_too(tmp_path: Path, base: Path) -> None:
    folders = [
        adapter(net(), tmp_path / f"step_{step}", 1, r=rank) for step, rank in ((1, 1), (2, 4))
    ]
    found = spectra.diff(base, folders, trend=True)
    before = net().state_dict()
    for folder, step in zip(folders, (1, 2), strict=True):
        after = merged(net(), folder)
        for row in found.rows:
            if row.place.labels["step"] == step:
                expected = naive(before[row.matrix], after[row.matrix])
                assert row.number("sorsa_delta_d") == pytest.approx(expected[1], abs=1e-4)
                assert row.number("matched_delta_d") == pytest.approx(expected[2], abs=1e-4)


def test_noise_is_what_rounding_the_base_alone_gives(tmp_path: Path, base: Path) -> None:
    folders = [checkpoint(tmp_path / f"step-{step}", moved(step, 1e-3, torch.bfloat16))
               for step in (1, 2)]  # fmt: skip
    found = spectra.diff(base, folders, trend=True)
    before = net().state_dict()
    for row in found.rows:
        own = before[row.matrix]
        _, by_index, matched = naive(own, own.bfloat16())
        assert row.values["noise_grid"] == "BF16"
        assert row.number("noise_delta_d") == pytest.approx(by_index, abs=1e-9)
        assert row.number("noise_matched_d") == pytest.approx(matched, abs=1e-9)
    # A base that is stored so already is moved by as much, and always by the same.
    stored = checkpoint(
        tmp_path / "stored", {name: value.bfloat16() for name, value in before.items()}
    )
    rows = {row.matrix: row for row in spectra.diff(stored, folders, trend=True).rows}
    again = {row.matrix: row for row in spectra.diff(stored, folders, trend=True, cache=False).rows}
    for row in found.rows:
        noise = rows[row.matrix].number("noise_delta_d")
        assert noise is not None
        assert 0.2 < noise / (row.number("noise_delta_d") or 1.0) < 5.0
        assert noise == again[row.matrix].number("noise_delta_d")


def test_no_more_than_rounding_is_told_so(tmp_path: Path, base: Path) -> None:
    state = net().state_dict()
    folders = [checkpoint(tmp_path / f"step-{step}", {name: value.bfloat16()
               for name, value in state.items()}) for step in (1, 2)]  # fmt: skip
    text = str(spectra.diff(base, folders, trend=True).summary["reading"])
    assert "rounding the base to BF16 alone gives" in text
    assert "no less than training did" in text


def test_ties_are_told(tmp_path: Path) -> None:
    q = torch.linalg.qr(torch.randn(12, 12)).Q.contiguous()
    base = checkpoint(tmp_path / "base", {"model.layers.0.mlp.up_proj.weight": q})
    after = [checkpoint(tmp_path / f"step-{step}", {"model.layers.0.mlp.up_proj.weight":
             q + step * 1e-3 * torch.randn(12, 12)}) for step in (1, 2)]  # fmt: skip
    double = {"model.layers.0.mlp.up_proj.weight": torch.eye(12)}
    found = spectra.diff(checkpoint(tmp_path / "eye", double), after, trend=True)
    assert [row.values["sorsa_tied"] for row in found.rows] == [12, 12]
    assert "24 singular values tie with a neighbour" in str(found.summary["reading"])
    assert all(row.values["sorsa_tied"] == 0 for row in spectra.diff(base, after, trend=True).rows)


def test_where_steps_are_unknown_the_order_given_counts(tmp_path: Path, base: Path) -> None:
    folders = [checkpoint(tmp_path / name, moved(1, size)) for name, size in
               (("early", 0.01), ("late", 0.1))]  # fmt: skip
    found = spectra.diff(base, folders, trend=True, sorsa=False)
    assert found.summary["by_step"] is False
    assert [one["model"] for one in found.summary["checkpoints"]] == ["early", "late"]
    assert "in the order given: some tell no training step" in str(found.summary["notes"])
    twice = [checkpoint(tmp_path / f"{name}/step-3", moved(1, 0.1)) for name in "ab"]
    notes = str(spectra.diff(base, twice, trend=True, sorsa=False).summary["notes"])
    assert "two are of one step" in notes


def test_without_sorsa_nothing_is_decomposed(
    base: Path, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra.analyzers.sorsa, "triplets", None)
    found = spectra.diff(base, run, trend=True, sorsa=False)
    assert found.summary["checkpoints"][0]["sorsa_delta_d"] is None
    assert "sorsa_delta_d" not in found.rows[0].values
    assert "triplets" not in str(found.summary["reading"])


def test_the_base_is_decomposed_once_and_a_new_checkpoint_alone_is_measured(
    tmp_path: Path, base: Path, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    real = spectra.kernels.triplets.triplets

    def counted(matrix: Tensor) -> Any:  # noqa: ANN401 - as it returns
        shapes.append(tuple(matrix.shape))
        return real(matrix)

    monkeypatch.setattr(spectra.analyzers.sorsa, "triplets", counted)
    found = spectra.diff(base, run, trend=True)
    matrices = len(found.rows) // 3
    assert len(shapes) == matrices * (1 + 3 + 1)  # the base, each checkpoint, and rounding
    shapes.clear()
    assert spectra.diff(base, run, trend=True).document() == found.document()
    assert shapes == []
    more = checkpoint(tmp_path / "run/checkpoint-200", moved(1, 0.5))
    spectra.diff(base, [*run, more], trend=True)
    assert len(shapes) == matrices * 3  # the base, the new one, and rounding


def test_nan_in_one_checkpoint_leaves_the_others(tmp_path: Path, base: Path) -> None:
    sick = moved(2, 0.1)
    sick["head.weight"][1, 1] = math.nan
    folders = [
        checkpoint(tmp_path / "step-1", moved(1, 0.1)),
        checkpoint(tmp_path / "step-2", sick),
    ]
    found = spectra.diff(base, folders, trend=True)
    status = {row.place.labels["step"]: row.status for row in found.rows
              if row.matrix == "head.weight"}  # fmt: skip
    assert status == {1: "ok", 2: "non-finite"}
    assert found.summary["non_finite"] == 1
    error = next(str(row.error) for row in found.rows if row.status == "non-finite")
    assert error.startswith("model 2: tuned: ")


def test_refusals(base: Path, run: list[Path]) -> None:
    with pytest.raises(UsageError, match="alone has no trend"):
        spectra.diff(base, run[0], trend=True)
    with pytest.raises(UsageError, match="Leave out one of"):
        spectra.diff(base, run, trend=True, merged_rank=2)
    with pytest.raises(UsageError, match="leaves out a part of"):
        spectra.diff(base, run, sorsa=False)


def test_it_is_saved_and_read_back(tmp_path: Path, base: Path, run: list[Path]) -> None:
    found = spectra.diff(base, run, trend=True)
    found.save(tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved["command"] == "diff_trend"
    assert not {"ask", "shared"} & saved["settings"].keys()
    assert spectra.load(tmp_path / "r.json").document() == saved
    assert {"model", "step", "matched_delta_d"} <= set(found.frame)
    assert found.plot() is not None
