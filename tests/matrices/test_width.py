"""Widths told by shapes, on real architectures; families and runs told by names and shapes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from examples import write_model
from matrices.saved import Save
from matrices.tiny import MODELS
from scaled import write_scaled
from shards import opened
from spectra.errors import PairingError, UsageError
from spectra.matrices import View
from spectra.matrices.view import views_of
from spectra.matrices.width import require_family, require_same_shapes, width_of


def views(folder: Path) -> list[View]:
    return views_of(opened(folder))[0]


def scaled(folder: Path, width: int, layers: int = 2) -> Sequence[View]:
    return views(write_scaled(folder, width, lambda _module, _layer: 1.0, layers))


@pytest.mark.parametrize("family", MODELS)
def test_every_family_tells_its_width(saved: Save, family: str) -> None:
    assert width_of(saved(family).views, family) == 32


def test_the_real_model_is_384_wide(minilm: Path) -> None:
    assert width_of(views(minilm), "MiniLM") == 384


def test_an_embedding_alone_tells_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"model.embed_tokens.weight": torch.ones(50, 12)})
    assert width_of(views(folder), "x") == 12


def test_names_that_say_nothing_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.ones(4, 6)})
    with pytest.raises(UsageError) as caught:
        width_of(views(folder), "x/y")
    assert str(caught.value) == (
        "the width of x/y cannot be told: it has no attention, MLP or embedding that is known by "
        "name. Give it: --widths 256,512, one number a model."
    )


def test_depths_of_a_family_may_differ(tmp_path: Path) -> None:
    require_family({"a": scaled(tmp_path / "a", 8, 2), "b": scaled(tmp_path / "b", 16, 5)})


def test_heads_and_routers_of_a_family_may_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = {"model.layers.0.mlp.up_proj.weight": torch.randn(8, 8)}
    other = one | {"lm_head.weight": torch.randn(9, 8)}
    require_family(
        {
            "a": views(write_model(tmp_path / "a", one)),
            "b": views(write_model(tmp_path / "b", other)),
        }
    )


def test_other_families_are_refused(minilm: Path, tmp_path: Path) -> None:
    models = {"small": scaled(tmp_path / "a", 8), "MiniLM": views(minilm)}
    with pytest.raises(PairingError) as caught:
        require_family(models)
    assert str(caught.value) == (
        "small and MiniLM are not of one family: the first has "
        "'model.layers.0.mlp.down_proj.weight', the second nothing of that kind. Give models that "
        "differ in width and depth alone, or leave the rest out with --include or --role."
    )


def test_gated_and_plain_mlps_are_no_family(tmp_path: Path) -> None:
    up = {"model.layers.0.mlp.up_proj.weight": torch.ones(8, 8)}
    gated = up | {"model.layers.0.mlp.gate_proj.weight": torch.ones(8, 8)}
    plain = views(write_model(tmp_path / "a", up))
    with pytest.raises(PairingError, match="gate_proj"):
        require_family({"a": plain, "b": views(write_model(tmp_path / "b", gated))})


def test_checkpoints_of_one_run_have_the_same_shapes(tmp_path: Path) -> None:
    require_same_shapes({"a": scaled(tmp_path / "a", 8), "b": scaled(tmp_path / "b", 8)})


@pytest.mark.parametrize(
    ("width", "layers", "told"),
    [
        (16, 2, "'model.embed_tokens.weight' is 30 x 8 in the first and 30 x 16 in the second"),
        (8, 3, "'model.layers.2.mlp.down_proj.weight' is missing in the first and 8 x 24"),
        (8, 1, "'model.layers.1.mlp.down_proj.weight' is 8 x 24 in the first and missing in the"),
    ],
)
def test_other_runs_are_refused(tmp_path: Path, width: int, layers: int, told: str) -> None:
    models = {"a": scaled(tmp_path / "a", 8), "b": scaled(tmp_path / "b", width, layers)}
    with pytest.raises(PairingError) as caught:
        require_same_shapes(models)
    assert f"a and b are not of one run: {told}" in str(caught.value)
