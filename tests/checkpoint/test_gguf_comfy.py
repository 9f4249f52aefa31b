"""Shapes that ComfyUI's converter keeps in the metadata of a diffusion model's GGUF."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from shards import opened
from spectra.checkpoint.gguf.header import KEPT_PAIRS
from spectra.checkpoint.reading import read_rounded
from spectra.matrices import views_of

SHAPES = {"in.weight": (320, 320), "out.weight": (4, 320, 3, 3), "video.weight": (8, 2, 1, 4, 4),
          "time.weight": (320, 64), "mid.weight": (16, 512)}  # fmt: skip


def converted(
    path: Path, kind: Kind, shapes: dict[str, tuple[object, ...]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Write what the converter writes: rows of 256 where rows are no multiple of that."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "sdxl")
    values = {}
    for name, shape in SHAPES.items():
        values[name] = random.standard_normal(shape).astype(np.float32)
        stored = values[name]
        if stored.size % 256 == 0 and shape[-1] % 256:
            told = (shapes or {}).get(name, shape)
            writer.add_array(f"comfy.gguf.orig_shape.{name}", told)
            stored = stored.reshape(-1, 256)
        own = Kind.F32 if stored.shape[-1] % 32 else kind
        writer.add_tensor(name, gguf.quants.quantize(stored, own), raw_dtype=own)
        values[name] = gguf.quants.dequantize(gguf.quants.quantize(stored, own), own).reshape(shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0])
def test_tensors_have_the_shape_that_the_metadata_says(tmp_path: Path, kind: Kind) -> None:
    expected = converted(tmp_path / "m.gguf", kind)
    checkpoint = opened(tmp_path / "m.gguf")
    assert not checkpoint.skipped
    assert {name: entry.shape for name, entry in checkpoint.entries.items()} == SHAPES
    for name, value in expected.items():
        entry = checkpoint.entries[name]
        read = checkpoint.read(entry)
        assert torch.equal(read.float(), torch.from_numpy(value))
        assert torch.equal(checkpoint.read(entry, (1, 3)), read[1:3])
        assert (read_rounded(checkpoint.files, entry)[1] is None) == (entry.codec is None)
    views, _ = views_of(checkpoint)
    sizes = {view.name: (view.rows, view.cols) for view in views}
    assert sizes["in.weight"] == (320, 320)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((320, 321), "the shape [320, 321], 102,720 values, and 102,400 are stored"),
        ((-320, -320), "the shape (-320, -320), expected counts"),
        ((0.5, 2.0), "expected counts"),
    ],
)
def test_a_shape_that_cannot_be_leaves_the_tensor_out(
    tmp_path: Path, told: tuple[object, ...], expected: str
) -> None:
    converted(tmp_path / "m.gguf", Kind.F32, {"in.weight": told})
    checkpoint = opened(tmp_path / "m.gguf")
    (skipped,) = checkpoint.skipped
    assert skipped.tensor == "in.weight"
    assert skipped.reason.startswith("comfy.gguf.orig_shape.* gives it ")
    assert expected in skipped.reason
    assert "in.weight" not in checkpoint.entries


def test_every_shape_is_kept_however_many_there_are(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "flux")
    names = [f"blocks.{number}.weight" for number in range(KEPT_PAIRS + 10)]
    for name in names:
        writer.add_array(f"comfy.gguf.orig_shape.{name}", (16, 16))
        writer.add_tensor(name, np.ones((1, 256), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shapes = {entry.shape for entry in opened(tmp_path / "m.gguf").entries.values()}
    assert shapes == {(16, 16)}
