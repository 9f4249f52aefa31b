"""What analyzers take: several matrices of a layer, of several models, and moments of inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Measurement, Row, Summary
from spectra.analyzers.analyzer import Across, PerLayer, Takes, WithMoments
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Matrix, View

HEADS = ("attn.q", "attn.k", "attn.v", "attn.o")


@dataclass(frozen=True, slots=True)
class Sums:
    """The sum of each matrix, by role."""

    name: ClassVar[str] = "sums"
    version: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = ("sums",)

    takes: Takes = field(default_factory=lambda: PerLayer(HEADS))

    def cost(self, *views: View) -> float:
        return float(sum(view.rows * view.cols for view in views))

    def memory(self, *views: View) -> int:
        return 4 * sum(view.rows * view.cols for view in views)

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        return Measurement({"sums": [float(one.values.sum()) for one in subject.values()],
                            "roles": ", ".join(subject)})  # fmt: skip

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        return rows, {"reading": f"{len(rows)} layers."}


def test_the_four_of_every_layer_come_together(minilm: Path) -> None:
    found = spectra.measure(Sums(), minilm)
    assert [row.matrix for row in found.rows] == [f"encoder.layer.{i}" for i in range(6)]
    model = spectra.open(minilm)
    assert isinstance(model, spectra.checkpoint.Checkpoint)
    own = "encoder.layer.3.attention."
    names = ("self.query", "self.key", "self.value", "output.dense")
    expected = [float(model.read(model.entries[f"{own}{name}.weight"]).sum()) for name in names]
    row = found.rows[3]
    assert row.values["sums"] == pytest.approx(expected, rel=1e-5)
    assert row.values["roles"] == ", ".join(HEADS)
    place = row.place
    assert (place.role, place.layer, place.rows, place.cols) == ("attn", 3, 384, 384)
    assert all("attention" not in item.tensor or item.reason == "one-dimensional"
               for item in found.skipped)  # fmt: skip


def test_fused_parts_are_read_once(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path,
        {"h.0.attn.c_attn.weight": torch.arange(8.0 * 24).reshape(8, 24),
         "h.0.attn.c_proj.weight": torch.ones(8, 8)},
        '{"model_type": "gpt2"}',
    )  # fmt: skip
    plan = spectra.measure.plan(Sums(), folder)
    assert plan.estimate().nbytes == 4 * (8 * 24 + 64)
    (row,) = plan.run().rows
    assert row.matrix == "h.0"
    fused = torch.arange(8.0 * 24).reshape(8, 24).mT
    assert row.values["sums"] == [*(float(fused[i * 8 : i * 8 + 8].sum()) for i in range(3)), 64.0]


def test_attention_beside_attention_and_experts_are_layers_of_their_own(tmp_path: Path) -> None:
    tensors = {
        f"decoder.layers.{i}.{module}.{name}_proj.weight": torch.ones(4, 4)
        for i in range(2)
        for module in ("self_attn", "encoder_attn")
        for name in ("q", "k", "v", "out")
    }
    del tensors["decoder.layers.1.encoder_attn.v_proj.weight"]
    found = spectra.measure(Sums(), write_model(tmp_path / "a", tensors))
    assert [row.matrix for row in found.rows] == [
        "decoder.layers.0.encoder_attn", "decoder.layers.0.self_attn",
        "decoder.layers.1.self_attn",
    ]  # fmt: skip
    experts = {
        f"model.layers.0.mlp.experts.{e}.{name}_proj.weight": torch.full((4, 4), float(e))
        for e in range(3)
        for name in ("gate", "up", "down")
    }
    mixed = write_model(tmp_path / "b", experts)
    found = spectra.measure(Sums(PerLayer(("mlp.gate", "mlp.down"))), mixed)
    assert [row.values["sums"] for row in found.rows] == [[16.0 * e] * 2 for e in range(3)]
    assert [row.place.expert for row in found.rows] == [0, 1, 2]
    assert [row.matrix for row in found.rows] == [f"model.layers.0[expert={e}]" for e in range(3)]


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (("decoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.1.EncDecAttention"),
         ["decoder.block.0.layer.0", "decoder.block.0.layer.1"]),
        (("blocks.0.1.0.attn", "blocks.0.1.1.attn"), ["blocks.0.1.0.attn", "blocks.0.1.1.attn"]),
    ],
    ids=["steps of a layer", "lists of lists"],
)  # fmt: skip
def test_steps_of_a_layer_are_told_apart(
    names: tuple[str, ...], layers: list[str], tmp_path: Path
) -> None:
    tensors = {f"{name}.{word}_proj.weight": torch.ones(4, 4) for name in names for word in "qkvo"}
    found = spectra.measure(Sums(), write_model(tmp_path, tensors))
    assert [row.matrix for row in found.rows] == layers
    assert [row.place.role for row in found.rows] == ["attn", "attn"]


def test_layers_that_are_left_out_are_told_in_their_order(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.{name}_proj.weight": torch.ones(4, 4)
               for i in (1, 2, 10) for name in "qkvo"}  # fmt: skip
    for i in (2, 10):
        del tensors[f"layers.{i}.o_proj.weight"]
    tensors["layers.3.norm.weight"] = torch.ones(4)
    found = spectra.measure(Sums(), write_model(tmp_path, tensors))
    assert [one.tensor for one in found.skipped] == [
        "layers.2",
        "layers.3.norm.weight",
        "layers.10",
    ]


def test_matrices_of_several_kinds_are_a_layer_of_none(tmp_path: Path) -> None:
    tensors = {"layers.0.attn.q_proj.weight": torch.ones(4, 4),
               "layers.0.mlp.up_proj.weight": torch.ones(8, 4)}  # fmt: skip
    (row,) = spectra.measure(
        Sums(PerLayer(("attn.q", "mlp.up"))), write_model(tmp_path, tensors)
    ).rows
    assert (row.place.matrix, row.place.role, row.place.rows) == ("layers.0", "other", 4)


def test_layers_without_all_roles_are_said(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.{name}_proj.weight": torch.ones(4, 4)
               for i in range(2) for name in "qkvo"}  # fmt: skip
    del tensors["layers.1.k_proj.weight"]
    folder = write_model(tmp_path, tensors)
    found = spectra.measure(Sums(), folder)
    assert [row.matrix for row in found.rows] == ["layers.0"]
    assert [(one.tensor, one.reason) for one in found.skipped] == [
        ("layers.1", "no attn.k in this layer")
    ]
    with pytest.raises(NothingToAnalyseError, match=r"no layer of .* has attn.k: .*spectra\.ls\("):
        spectra.measure(Sums(PerLayer(("attn.k",))), folder,
                        selection=spectra.Selection(layers="1"))  # fmt: skip
    with pytest.raises(NothingToAnalyseError, match="none of these that is asked for"):
        spectra.measure(Sums(PerLayer(("attn.k",))), folder,
                        selection=spectra.Selection(roles=("attn.q",)))  # fmt: skip


def test_moments_of_inputs_go_with_their_matrix(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(2, 5),
                                         "c.weight": torch.ones(2, 5)})  # fmt: skip
    moments = write_model(tmp_path / "s", {"a": torch.full((4,), 2.0),
                                           "b.weight": torch.ones(5, 5),
                                           "c": torch.ones(4)})  # fmt: skip
    found = spectra.measure(Sums(WithMoments()), model, moments)
    assert {row.matrix: row.values["sums"] for row in found.rows} == {
        "a.weight": [12.0, 8.0], "b.weight": [10.0, 25.0],
    }  # fmt: skip
    assert [row.values["roles"] for row in found.rows] == ["weight, moments"] * 2
    assert [(one.tensor, one.reason) for one in found.skipped] == [
        ("c.weight", "moments of shape [4] for 5 inputs")
    ]
    assert [model["part"] for model in found.document()["models"]] == ["model", "statistics"]
    with pytest.raises(UsageError, match="sums takes a model and its moments, got 1 models"):
        spectra.measure(Sums(WithMoments()), model)


def test_one_matrix_across_several_models(tmp_path: Path) -> None:
    folders = [
        write_model(tmp_path / f"m{i}", {"a.weight": torch.full((2, 2), float(i)),
                                         "b.weight": torch.ones(2 + (i == 2), 2)})
        for i in range(3)
    ]  # fmt: skip
    found = spectra.measure(Sums(Across()), *folders)
    (row,) = found.rows
    assert row.values == {"sums": [0.0, 4.0, 8.0], "roles": "m0, m1, m2"}
    assert [(one.tensor, one.reason) for one in found.skipped] == [
        ("b.weight", "of another shape in one of the models")
    ]
    with pytest.raises(UsageError, match="two or more"):
        spectra.measure(Sums(Across()), folders[0])
