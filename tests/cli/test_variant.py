"""--variant, as every command takes it."""

from pathlib import Path

import pytest
import torch

from examples import write_model

from .conftest import Command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_model(tmp_path / "m", {"a.weight": torch.randn(8, 8)})
    half = {"a.weight": torch.randn(8, 8).half(), "b.weight": torch.randn(8, 8).half()}
    return write_model(folder, half, name="model.fp16.safetensors")


@pytest.mark.parametrize("name", ["ls", "spectrum", "kappa", "check"])
def test_one_model(command: Command, model: Path, name: str) -> None:
    words = ("--isolated", "--exit-zero") if name == "check" else ()
    assert "b.weight" not in command(name, model, *words).out
    found = command(name, model, "--variant", "fp16", *words)
    assert found.code == 0
    assert "b.weight" in command(name, model, "--variant", "fp16", *words, "--format", "json").out


def test_both_of_a_pair(command: Command, model: Path) -> None:
    found = command("diff", model, model, "--variant", "fp16")
    assert found.code == 0
    assert "2 matrices" in found.out or "2 of 2" in found.out


def test_one_that_is_not_there(command: Command, model: Path) -> None:
    found = command("ls", model, "--variant", "bf16")
    assert found.code == 2
    assert "no weights of the variant 'bf16'. It holds variants fp16" in found.err
