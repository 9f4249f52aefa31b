"""MLX's weights against MLX itself, whose values `tests/data/mlx/write.py` has stored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from checkpoint.codecs.memory import MemoryFile, MemoryFolder, codec_of, reason, stored, weight
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.reading import read_rounded
from spectra.checkpoint.shards import open_file

DATA = Path(__file__).parents[2] / "data" / "mlx" / "values.safetensors"
KINDS = {
    "affine_2_32": "mlx-2bit", "affine_3_64": "mlx-3bit", "affine_4_32": "mlx-4bit",
    "affine_4_64": "mlx-4bit", "affine_5_32": "mlx-5bit", "affine_6_64": "mlx-6bit",
    "affine_8_128": "mlx-8bit", "affine_8_32": "mlx-8bit", "mxfp4_4_32": "mlx-mxfp4",
    "nvfp4_4_16": "mlx-nvfp4", "mxfp8_8_32": "mlx-mxfp8",
}  # fmt: skip


def told(name: str) -> dict[str, Any]:
    """Return what config.json says of a kind."""
    mode, bits, group = name.split("_")
    return {"group_size": int(group), "bits": int(bits), "mode": mode}


def parts(name: str) -> tuple[dict[str, Tensor], Tensor]:
    """Return the parts of one stored weight as those of `a`, and what MLX reads."""
    tensors = load_file(DATA)
    found = {
        f"a.{key.removeprefix(f'{name}.')}": value
        for key, value in tensors.items()
        if key.startswith(f"{name}.") and not key.endswith("expected")
    }
    return found, tensors[f"{name}.expected"]


@pytest.mark.parametrize("name", KINDS)
def test_every_width_and_mode_is_what_mlx_reads(name: str) -> None:
    tensors, expected = parts(name)
    checkpoint = stored(tensors, mlx=told(name))
    assert codec_of(checkpoint) == KINDS[name]
    assert list(checkpoint.entries) == ["a.weight"]
    torch.testing.assert_close(weight(checkpoint), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("place", ["quantization", "quantization_config", "text_config"])
def test_settings_stand_in_several_places(place: str) -> None:
    tensors, expected = parts("affine_4_32")
    settings: Any = {"group_size": 32, "bits": 4}
    given: dict[str, Any] = {
        "quantization": {"mlx": settings},
        "quantization_config": {"quantization": settings},
        "text_config": {"text_config": {"quantization": settings}},
    }[place]
    checkpoint = stored(tensors, **given)
    torch.testing.assert_close(weight(checkpoint), expected, rtol=1e-6, atol=1e-7)


def test_a_module_has_settings_of_its_own() -> None:
    tensors, expected = parts("affine_8_32")  # as many bits a group as 4 bits by 64
    config = {"group_size": 64, "bits": 4, "a": {"group_size": 32, "bits": 8}, "b": False}
    checkpoint = stored(tensors, mlx=config)
    assert codec_of(checkpoint) == "mlx-8bit"
    torch.testing.assert_close(weight(checkpoint), expected, rtol=1e-6, atol=1e-7)


def test_a_stack_of_experts_is_read_one_at_a_time() -> None:
    tensors, expected = parts("stack")
    checkpoint = stored(tensors, quantization={"group_size": 64, "bits": 4})
    torch.testing.assert_close(weight(checkpoint), expected, rtol=1e-6, atol=1e-7)
    half = read_rounded(checkpoint.files, checkpoint.entries["a.weight"])[1]
    assert half is not None
    steps = tensors["a.scales"].float().abs().expand(2, 4, 64) / 2
    torch.testing.assert_close(half, steps, rtol=1e-4, atol=1e-7)


def test_transformers_calls_the_same_metal() -> None:
    tensors, expected = parts("affine_4_64")
    tensors["a.qbiases"] = tensors.pop("a.biases")
    config = {"quant_method": "metal", "bits": 4, "group_size": 64}
    torch.testing.assert_close(
        weight(stored(tensors, quantization=config)), expected, rtol=1e-6, atol=1e-7
    )


def test_widths_that_the_shapes_alone_tell_are_read() -> None:
    tensors, expected = parts("affine_5_32")
    checkpoint = stored(tensors)
    assert codec_of(checkpoint) == "mlx-5bit"
    torch.testing.assert_close(weight(checkpoint), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("affine_4_32", {}, "fit 2 widths of MLX, and config.json tells no bits in groups of no"),
        ("affine_3_64", {"bits": 3, "group_size": 64, "a": {"bits": 3, "rotated": True}},
         "the key 'rotated' of its quantisation is not understood"),
        ("affine_4_32", {"bits": 4, "group_size": 32, "mode": "affine2"}, "mode 'affine2'"),
        ("affine_4_32", {"bits": 4, "group_size": 32, "turned": "quarot"}, "the key 'turned' of"),
        ("mxfp4_4_32", {}, "config.json does not tell MLX's mode"),
        ("mxfp4_4_32", {"bits": 4, "group_size": 16, "mode": "mxfp4"}, "4 in groups of 16"),
        ("nvfp4_4_16", {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "scales is U8 [3, 8]"),
        ("affine_4_64", {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "has no biases"),
    ],
)  # fmt: skip
def test_what_is_not_told_or_does_not_fit_is_left_out(
    name: str, config: dict[str, Any], expected: str
) -> None:
    checkpoint = stored(parts(name)[0], quantization=config)
    assert not checkpoint.entries
    (skipped,) = checkpoint.skipped
    assert skipped.tensor == "a.weight"
    assert expected in skipped.reason


def test_parts_that_do_not_fit_are_left_out() -> None:
    tensors, _ = parts("affine_3_64")
    assert "fit no width of MLX" in reason({**tensors, "a.weight": torch.ones(3, 7).view(
        torch.uint32)})  # fmt: skip
    assert "biases is F32 [3, 3]" in reason({**tensors, "a.biases": torch.ones(3, 3)})
    assert "global_scale" in reason({**tensors, "a.global_scale": torch.ones(1)})
    assert "scheme quark are not" in reason(tensors, quantization={"quant_method": "quark"})
    ragged = {"a.weight": torch.ones(3, 5).view(torch.uint32), "a.scales": torch.ones(3, 1).byte()}
    checkpoint = stored(ragged, quantization={"bits": 4, "group_size": 32, "mode": "mxfp4"})
    assert "40 columns are no whole number of groups" in checkpoint.skipped[0].reason


def of_mlx(**config: object) -> Checkpoint:
    """Open the stored file as MLX wrote it, metadata included."""
    files = {"model.safetensors": MemoryFile("model.safetensors", DATA.read_bytes()),
             "config.json": MemoryFile("config.json", json.dumps(config).encode())}  # fmt: skip
    return open_file(MemoryFolder(files), "model.safetensors")


def test_convolutions_of_mlx_get_their_channels_in_front() -> None:
    checkpoint = of_mlx()
    entry, expected = checkpoint.entries["conv.weight"], checkpoint.entries["conv.expected"]
    assert entry.shape == (4, 5, 3, 2)
    assert torch.equal(checkpoint.read(entry), checkpoint.read(expected))
    assert torch.equal(checkpoint.read(entry, (1, 3)), checkpoint.read(expected)[1:3])


def test_only_convolutions_are_turned() -> None:
    tensors = {"conv1d.weight": torch.rand(4, 3, 1), "experts.weight": torch.rand(2, 3, 4),
               "conv.bias": torch.rand(3), "x.conv_in.scale": torch.rand(1, 2, 3)}  # fmt: skip
    turned = stored(tensors, quantization={"bits": 4, "group_size": 64})
    assert torch.equal(turned.read(turned.entries["conv1d.weight"]),
                       tensors["conv1d.weight"].mT)  # fmt: skip
    assert [name for name, entry in turned.entries.items() if entry.strides] == ["conv1d.weight"]
    plain = stored(tensors)
    assert not any(entry.strides for entry in plain.entries.values())
