"""Groups of layers against stacks that are decomposed whole, and layers that share on purpose."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from analyzers.subjects import matrix_of
from examples import write_model
from spectra.analyzers import Shared
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.kernels.sharing import energies, gram_of, turned


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def steep(rows: int, cols: int, seed: int) -> Tensor:
    """A matrix whose input directions hold less and less, in a basis of its own."""
    basis = torch.linalg.qr(normal(cols, cols, seed=100 + seed)).Q
    made: Tensor = normal(rows, cols, seed=seed) * torch.linspace(0.0, -4.0, cols).exp() @ basis
    return made


def groups_of(weights: list[Tensor], shared: Shared) -> list[Mapping[str, Any]]:
    subject = {str(at): matrix_of(one) for at, one in enumerate(weights)}
    found: Any = shared.measure(subject).values["groups"]
    return list(found)


def share(matrix: Tensor, rank: int) -> float:
    return float((np.linalg.svd(matrix.numpy(), compute_uv=False)[:rank] ** 2).sum())


@pytest.mark.parametrize(("rows", "cols"), [((40, 40, 40), 40), ((12, 20, 16), 48), ((60, 50), 30)])
@pytest.mark.parametrize("scale", [1.0, 1e-150])
def test_energies_are_those_of_the_stack(rows: tuple[int, ...], cols: int, scale: float) -> None:
    weights = [scale * steep(size, cols, at) for at, size in enumerate(rows)]
    (found,) = groups_of(weights, Shared(group="4", rank=5))
    rank = 5 * sum(size + cols for size in rows) // (sum(rows) + cols)
    stack, whole = torch.cat(weights) / scale, sum(share(one / scale, cols) for one in weights)
    assert found["single_rank"] == 5
    assert found["shared_rank"] == rank
    assert rank * (sum(rows) + cols) <= 5 * sum(size + cols for size in rows)
    for key, expected in (
        ("shared_energy", share(stack, rank)),
        ("single_energy", sum(share(one / scale, 5) for one in weights)),
        ("shared_ceiling", sum(share(one / scale, rank) for one in weights)),
    ):
        assert found[key] == pytest.approx(expected / whole, rel=1e-9), key
    gap = (found["shared_energy"] - found["shared_null"]) / (
        found["shared_ceiling"] - found["shared_null"]
    )
    assert found["sharing"] == pytest.approx(gap)
    assert found["shared_gain"] == pytest.approx(found["shared_energy"] - found["single_energy"])


def test_a_basis_at_random_keeps_the_spectrum_and_nothing_else() -> None:
    weights = steep(30, 33, 1)
    gram = gram_of(weights, 2.0)
    torch.testing.assert_close(gram, weights.mT @ weights / 4.0)
    other = turned(gram, 5)
    torch.testing.assert_close(energies(other), energies(gram), rtol=1e-9, atol=1e-12)
    assert float((other * gram).sum() / gram.square().sum()) < 0.5
    assert torch.equal(other, turned(gram, 5))


def test_sizes_lie_in_each_other_and_the_last_group_may_be_smaller() -> None:
    weights = [steep(16, 24, at) for at in range(6)]
    found = groups_of(weights, Shared(group="2,4,8"))
    assert sorted(one["in_group"] for one in found) == [
        [0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3], [4, 5]
    ]  # fmt: skip
    (pair,) = groups_of(weights[2:4], Shared(group="2"))
    (among,) = (one for one in found if one["in_group"] == [2, 3])
    for key in ("shared_energy", "single_energy"):
        assert among[key] == pytest.approx(pair[key], rel=1e-12)


def written(folder: Path, weights: Mapping[str, list[Tensor]]) -> Path:
    return write_model(folder, {
        f"model.layers.{layer}.self_attn.{name}_proj.weight": one.float().contiguous()
        for name, some in weights.items() for layer, one in enumerate(some)
    }, '{"model_type": "llama"}')  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Keys of layers 0 to 3 read one subspace, all others their own; values white noise."""
    basis = torch.linalg.qr(normal(96, 96, seed=1)).Q
    fall = torch.linspace(0.0, -4.0, 96).exp()
    alike = [normal(96, 96, seed=at) * fall @ basis for at in range(4)]
    apart = [steep(96, 96, at) for at in range(4, 8)]
    orthogonal = [torch.linalg.qr(normal(96, 96, seed=at)).Q for at in range(20, 28)]
    return written(tmp_path / "planted", {"k": [*alike, *apart], "v": orthogonal})


def test_what_shares_is_proposed_and_what_does_not_is_not(planted: Path) -> None:
    result = spectra.shared(planted, group="2,4")
    (proposal,) = result.summary["proposal"]
    assert proposal["layers"] == [0, 1, 2, 3]
    rows = {row.matrix.split(".")[2] + row.place.role[-1]: row for row in result.rows}
    assert (rows["0-3k"].number("sharing") or 0.0) > 0.9
    assert abs(rows["4-7k"].number("sharing") or 0.0) < 0.0625
    assert rows["0-3k"].place.rows == 4 * 96
    assert rows["2-3k"].place.layer == 2
    reading = str(result.summary["reading"])
    assert "attn.k: in 3 of 6 groups of layers one basis in common holds more" in reading
    assert "most in layers 0 to 3" in reading


def test_a_larger_rank_alone_is_no_sharing(planted: Path) -> None:
    """Of orthogonal matrices any basis holds as much as it has directions."""
    result = spectra.shared(planted, role="attn.v")
    assert result.summary["proposal"] == []
    assert all((row.number("shared_gain") or 0.0) > 0.0 for row in result.rows)
    reading = str(result.summary["reading"])
    assert "in 2 of 2 groups one basis holds more by its larger rank alone" in reading
    assert "of the way from chance" not in reading


def test_layers_at_random_share_nothing() -> None:
    found = [groups_of([steep(64, 64, seed + at) for at in range(4)], Shared())[0]["sharing"]
             for seed in range(0, 40, 4)]  # fmt: skip
    assert abs(float(np.mean(found))) < 0.03
    assert max(map(abs, found)) < 0.12


def test_layers_of_zeros_and_those_that_are_no_numbers_are_named(planted: Path) -> None:
    file = planted / "model.safetensors"
    tensors = load_file(file)
    key, value = (f"model.layers.{{}}.self_attn.{one}_proj.weight" for one in "kv")
    tensors[key.format(2)].zero_()
    tensors[value.format(1)][0, 0] = tensors[value.format(3)][2, 2] = math.nan
    save_file(tensors, file)
    result = spectra.shared(planted, group="2,4")
    assert "attn.k: layer 2 is all 0, and shares nothing." in str(result.summary["reading"])
    told = {row.error for row in result.rows if row.error}
    assert told == {
        f"{value.format(1)} holds 1 NaN, the first at [0, 0] (1 more of them is no better)"
    }


def test_experts_and_lone_layers_are_left_out_with_a_reason(tmp_path: Path) -> None:
    tensors = {f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight": torch.ones(4, 4)
               for layer in range(2) for expert in range(2)}  # fmt: skip
    for layer in range(3):
        tensors[f"model.layers.{layer}.self_attn.k_proj.weight"] = torch.eye(4)
    folder = write_model(tmp_path / "experts", tensors, '{"model_type": "mixtral"}')
    result = spectra.shared(folder, group=2, role=["attn.k", "mlp.up"])
    assert [row.values["in_group"] for row in result.rows] == [[0, 1]]
    told = {item.tensor: item.reason for item in result.skipped}
    assert "the last layer of its stack" in told["model.layers.2.self_attn.k_proj.weight"]
    assert "an expert" in told["model.layers.0.mlp.experts.1.up_proj.weight"]
    with pytest.raises(NothingToAnalyseError, match="no two layers of"):
        spectra.shared(folder, role="mlp.up")
    other = write_model(tmp_path / "other", {"layers.0.mlp.up_proj.weight": torch.eye(4)})
    with pytest.raises(NothingToAnalyseError, match=r"attn\.v \(no role is given\): roles are mlp"):
        spectra.shared(other)


def test_zeros_have_no_shares_and_what_is_no_number_has_none(tmp_path: Path) -> None:
    zeros = [torch.zeros(8, 8), torch.zeros(8, 8)]
    broken = [torch.eye(8), torch.full((8, 8), math.nan)]
    result = spectra.shared(written(tmp_path / "odd", {"k": zeros, "v": broken}))
    assert [row.status for row in result.rows] == ["ok", "non-finite"]
    assert result.rows[0].values["shared_energy"] is None
    reading = str(result.summary["reading"])
    assert "attn.k: 1 group of layers is all 0" in reading
    assert "1 holds NaN or Inf" in reading


def test_a_rank_that_cuts_nothing_compares_nothing(tmp_path: Path) -> None:
    model = written(tmp_path / "full", {"k": [normal(8, 12, seed=at) for at in range(2)]})
    reading = str(spectra.shared(model, rank=8).summary["reading"])
    assert "attn.k: rank 8 cuts nothing" in reading
    assert "as many parameters" not in reading


@pytest.mark.parametrize("group", ["1", "0", "two", "", "2,3", "-2"])
def test_sizes_that_cannot_be_meant_are_refused(group: str) -> None:
    with pytest.raises(UsageError, match="--group"):
        Shared(group=group)
