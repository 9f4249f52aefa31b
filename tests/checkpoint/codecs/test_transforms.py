"""Rotated weights against compressed-tensors, which rotates them."""

import copy
from typing import Any

import pytest
import torch
from compressed_tensors.transform import (
    TransformArgs,
    TransformConfig,
    TransformScheme,
    apply_transform_config,
)
from torch import Tensor, nn

from checkpoint.codecs.memory import codec_of, stored
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.reading import read_rounded


class Small(nn.Module):
    """An embedding and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(12, 16)
        self.up_proj = nn.Linear(16, 32)
        self.down_proj = nn.Linear(32, 16, bias=False)


def args(targets: str, location: str, *, inverse: bool = False, **more: Any) -> TransformArgs:  # noqa: ANN401
    return TransformArgs(targets=[targets], location=location, inverse=inverse, **more)


def rotated(schemes: dict[str, TransformScheme]) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Rotate a model, save it, and open it; return what it held before, too."""
    torch.manual_seed(0)
    model = Small()
    before = copy.deepcopy(model.state_dict())
    config = TransformConfig(config_groups=schemes)
    apply_transform_config(model, config)
    told = {
        "quant_method": "compressed-tensors",
        "transform_config": config.model_dump(mode="json"),
    }
    return stored(model.state_dict(), quantization=told), before


def same(checkpoint: Checkpoint, before: dict[str, Tensor]) -> None:
    """Compare every tensor with what it was."""
    assert checkpoint.entries.keys() == before.keys()
    for name, value in before.items():
        read = checkpoint.read(checkpoint.entries[name])
        torch.testing.assert_close(read.float(), value, rtol=0.0, atol=2e-7)
        part = checkpoint.read(checkpoint.entries[name], (1, 3))
        torch.testing.assert_close(part, read[1:3], rtol=0.0, atol=1e-6)


KINDS = {
    "inputs": TransformScheme(type="hadamard", apply=[
        args("re:.*down_proj$", "input"),
        args("re:.*down_proj$", "weight_input", inverse=True)]),
    "outputs": TransformScheme(type="hadamard", apply=[
        args("up_proj", "weight_output"), args("up_proj", "output", inverse=True)]),
    "blocks": TransformScheme(type="hadamard", head_dim=8, apply=[
        args("re:.*(up|down)_proj", "weight_input", inverse=True),
        args("re:.*proj", "weight_output", ignore=["down_proj"])]),
    "embedding": TransformScheme(type="hadamard", apply=[
        args("re:embed_tokens", "weight_output"),
        args("up_proj", "weight_input", inverse=True)]),
    "by class": TransformScheme(type="hadamard", head_dim=4, apply=[
        args("Embedding", "weight_output"), args("re:up_proj", "input")]),
    "random, stored": TransformScheme(type="random-hadamard", apply=[
        args("down_proj", "input"), args("down_proj", "weight_input", inverse=True)]),
    "random, outputs": TransformScheme(type="random-hadamard", head_dim=4, apply=[
        args("up_proj", "weight_output"), args("up_proj", "output", inverse=True)]),
    "random, embedding": TransformScheme(type="random-hadamard", head_dim=4, apply=[
        args("embed_tokens", "weight_input", inverse=True),
        args("embed_tokens", "weight_output"), args("up_proj", "input", inverse=True)]),
    "in another order": TransformScheme(type="hadamard", randomize=True, apply=[
        args("down_proj", "input"), args("down_proj", "weight_input", inverse=True)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_rotated_is_turned_back(kind: str) -> None:
    checkpoint, before = rotated({"R1": KINDS[kind]})
    same(checkpoint, before)
    for skipped in checkpoint.skipped:
        assert ".R1_" in skipped.tensor
        assert skipped.reason == "a matrix of transform_config, not of the model"


def test_rotations_of_one_side_are_undone_last_first() -> None:
    first = TransformScheme(type="hadamard", head_dim=4, apply=[args("down_proj", "weight_input")])
    second = TransformScheme(
        type="random-hadamard",
        head_dim=8,
        apply=[args("down_proj", "input"), args("down_proj", "weight_input", inverse=True)],
    )
    checkpoint, before = rotated({"A": first, "B": second})
    same(checkpoint, before)
    assert codec_of(checkpoint, "down_proj.weight") == "rotated-f32"
    entry = checkpoint.entries["down_proj.weight"]
    half = read_rounded(checkpoint.files, entry)[1]
    assert half is not None
    value = before["down_proj.weight"]
    step = float(half.square().mean().sqrt() / value.square().mean().sqrt())
    assert 2.0**-23 < step < 2.0**-21  # what the rotation itself, in float32, is off


def test_a_matrix_that_is_not_stored_leaves_out_what_it_rotates_alone() -> None:
    scheme = TransformScheme(type="random-hadamard", apply=[
        args("embed_tokens", "weight_output"),
        args("up_proj", "weight_input", inverse=True)])  # fmt: skip
    checkpoint, _ = rotated({"R1": scheme})
    assert set(checkpoint.entries) == {"up_proj.bias", "down_proj.weight"}
    reason = "R1 rotates it by a matrix of 16 (random-hadamard) that the file does not hold"
    assert {skipped.reason for skipped in checkpoint.skipped} == {f"transform_config: {reason}"}


def told(**scheme: object) -> dict[str, Any]:
    """Return settings with one scheme, as a file may have it."""
    apply = [{"targets": ["a"], "location": "weight_input"}]
    whole = {"type": "hadamard", "apply": apply, **scheme}
    return {"quant_method": "compressed-tensors",
            "transform_config": {"config_groups": {"R1": whole}}}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (told(type="random-matrix"), "of the type 'random-matrix', which is not undone"),
        (told(head_dim=3), "by a matrix of 3, which does not divide 4"),
        (told(twisted=True), "the scheme 'R1' is not understood"),
        (told(apply=3), "the scheme 'R1' is not understood"),
        (
            told(apply=[{"targets": ["a"], "location": "elsewhere"}]),
            "scheme 'R1' is not understood",
        ),
        (told(apply=[{"targets": 3, "location": "weight_input"}]), "the targets 3 are not"),
        (
            told(apply=[{"targets": ["re:(a+)+b"], "location": "weight_input"}]),
            "'re:(a+)+b' is not",
        ),
        (
            told(apply=[{"targets": ["re:(a"], "location": "weight_input"}]),
            "pattern 're:(a' is not",
        ),
        (told(apply=[{"targets": ["re:.*.*.*.*a"], "location": "weight_input"}]), "is not underst"),
        (
            told(apply=[{"targets": ["Linear"], "location": "weight_input"}]),
            "by the class 'Linear'",
        ),
        (told(apply=[{"targets": ["b"], "location": "weight_input"}]), "no weight is called so"),
        ({"quant_method": "compressed-tensors", "transform_config": [1]}, "is not understood: [1]"),
    ],
)
def test_what_is_not_understood_leaves_the_weights_out(
    settings: dict[str, Any], expected: str
) -> None:
    checkpoint = stored({"a.weight": torch.ones(4, 4), "n.weight": torch.ones(4)},
                        quantization=settings)  # fmt: skip
    assert list(checkpoint.entries) == ["n.weight"]
    (skipped,) = checkpoint.skipped
    assert expected in skipped.reason


def test_sizes_that_are_no_power_of_two_are_left_out() -> None:
    checkpoint = stored({"a.weight": torch.ones(4, 12)}, quantization=told())
    assert "of 12, no power of two" in checkpoint.skipped[0].reason


def test_quantised_layers_are_what_linear_means() -> None:
    """In the file only layers that are quantised are known to be linear."""
    scheme = told(apply=[{"targets": "Linear", "location": "weight_input", "ignore": ["lm_head"]}])
    tensors = {"a.weight": torch.eye(4).char(), "a.weight_scale": torch.ones(4, 1),
               "embed_tokens.weight": torch.ones(3, 4), "lm_head.weight": torch.ones(3, 4),
               "router.weight": torch.ones(3, 4)}  # fmt: skip
    checkpoint = stored(tensors, quantization=scheme)
    assert set(checkpoint.entries) == {"a.weight", "embed_tokens.weight", "lm_head.weight"}
    assert checkpoint.entries["lm_head.weight"].codec is None
    (skipped,) = checkpoint.skipped
    assert (skipped.tensor, "by the class 'Linear'" in skipped.reason) == ("router.weight", True)
    assert codec_of(checkpoint) == "compressed-tensors-int8-rotated"
    half = checkpoint.read(checkpoint.entries["a.weight"])
    assert half.tolist() == [[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5],
                             [0.5, 0.5, -0.5, -0.5], [0.5, -0.5, -0.5, 0.5]]  # fmt: skip


def test_no_transforms_are_none() -> None:
    several: list[Any] = [{}, None, {"config_groups": {}}]
    for empty in several:
        settings = {"quant_method": "compressed-tensors", "transform_config": empty}
        checkpoint = stored({"a.weight": torch.ones(4, 4)}, quantization=settings)
        assert not checkpoint.skipped
        assert checkpoint.entries["a.weight"].codec is None
