"""Of a stack of experts one is read at a time, whatever the stack's size."""

import json
import struct
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.local import LocalFile

EXPERTS, SIDE = 16_384, 512
NAME = "model.layers.0.mlp.experts.gate_up_proj"
CONFIG = json.dumps({"model_type": "qwen3_moe"})


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every buffer that is filled from a file."""
    sizes: list[int] = []
    fill = LocalFile.fill

    def counted(self: LocalFile, start: int, buffer: memoryview) -> int:
        sizes.append(len(buffer))
        return fill(self, start, buffer)

    monkeypatch.setattr(LocalFile, "fill", counted)
    return sizes


def stack_of_8_gib(folder: Path, expert: int, values: torch.Tensor) -> Path:
    """Write a fused tensor of which one expert is real and the rest a hole in the file."""
    stop = 2 * EXPERTS * SIDE * SIDE
    entry = {"dtype": "BF16", "shape": [EXPERTS, SIDE, SIDE], "data_offsets": [0, stop]}
    raw = json.dumps({NAME: entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.seek(2 * expert * SIDE * SIDE, 1)
        file.write(values.view(torch.uint8).numpy().tobytes())
        file.truncate(8 + len(raw) + stop)
    (folder / "config.json").write_text(CONFIG)
    return folder


def test_a_fused_tensor_of_8_gib_is_never_read_whole(
    tmp_path: Path, buffers: list[int], generator: torch.Generator
) -> None:
    values = torch.randn(SIDE, SIDE, generator=generator).to(torch.bfloat16)
    folder = stack_of_8_gib(tmp_path, 9_876, values)
    selection = spectra.Selection(include="*[expert=9876,gate]")
    result = spectra.spectrum(folder, selection=selection)
    expected = torch.linalg.svdvals(values[: SIDE // 2].double())[0]
    (row,) = result.rows
    assert row.values["sigma_max"] == pytest.approx(float(expected), rel=1e-6)
    assert row.place.expert == 9_876
    assert sum(buffers) <= 2 * SIDE * SIDE


def test_gate_and_up_of_an_expert_are_read_once(
    tmp_path: Path, buffers: list[int], generator: torch.Generator
) -> None:
    fused = torch.randn(3, 8, 6, generator=generator)
    folder = write_model(tmp_path, {NAME: fused}, config=CONFIG)
    assert len(spectra.spectrum(folder).rows) == 6
    assert buffers == [4 * 8 * 6] * 3


def test_each_expert_of_a_pair_is_cut_from_its_own_stack(
    tmp_path: Path, generator: torch.Generator
) -> None:
    fused = torch.randn(3, 8, 6, generator=generator)
    tuned = fused.clone()
    tuned[1, 4:] += 1.0
    base = write_model(tmp_path / "base", {NAME: fused}, config=CONFIG)
    changed = write_model(tmp_path / "tuned", {NAME: tuned}, config=CONFIG)
    result = spectra.diff(base, changed)
    norms = {row.matrix: row.number("delta_norm") for row in result.rows}
    assert {name for name, norm in norms.items() if norm} == {f"{NAME}[expert=1,up]"}
    assert norms[f"{NAME}[expert=1,up]"] == pytest.approx((4 * 6) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slab", [None, (0, 1), (1, 3)], ids=["all", "first", "rest"])
def test_reading_widened_is_reading_and_widening(
    tmp_path: Path, dtype: torch.dtype, slab: tuple[int, int] | None, threads: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(LocalFile, "chunk", 22)  # pieces that do not divide the tensor
    monkeypatch.setattr("spectra.checkpoint.reading.SHARE", 8)
    monkeypatch.setattr("spectra.checkpoint.reading.SERIAL", 4)
    torch.set_num_threads(threads)
    values = torch.randn(3, 5, 7, generator=generator).to(dtype)
    model = spectra.open(write_model(tmp_path, {"a": values}))
    assert isinstance(model, Checkpoint)
    expected = values if slab is None else values[slice(*slab)]
    read = model.read(model.entries["a"], slab, widen=True)
    assert read.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(read, expected.to(read.dtype))
