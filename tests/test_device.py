"""The device that kernels are tested on: refused in one line, or pretended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import device

CODE = """
import torch
from device import everything_there
import pretend
pretend.register()
with everything_there():
    there = torch.ones(3, 3, dtype=torch.float64).to("pretend")
    image = torch.linalg.svdvals(there)
    print(image.device, image.cpu().tolist()[0])
    print((torch.ones(3).double().to(there) @ there).shape)
    there[:, [0]] = 2.0  # a GPU takes lists of indices
    print(there[[1, 2]][:, [2, 0]].cpu().tolist())
    try:
        there @ torch.ones(3, 3, dtype=torch.float64)
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.parametrize("name", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "NAME", name)
    told = device.lacking()
    assert told is not None
    assert told.startswith(f"SPECTRA_TEST_DEVICE={name}: torch ")
    assert "\n" not in told


def test_the_cpu_is_there() -> None:
    if device.NAME == "cpu":
        assert device.lacking() is None


def test_what_is_pretended_computes_and_mixes_with_nothing() -> None:
    here = {"PYTHONPATH": str(Path(__file__).parent), "SPECTRA_TEST_DEVICE": "pretend"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
        env={**os.environ, **here},
    )  # fmt: skip
    first, shape, some, refused = done.stdout.splitlines()
    assert first.startswith("pretend:0 ")
    assert float(first.split()[1]) == pytest.approx(3.0)
    assert shape == "torch.Size([3])"
    assert some == "[[1.0, 2.0], [1.0, 2.0]]"
    assert refused == "aten.mm.default: tensors on cpu and on pretend"
