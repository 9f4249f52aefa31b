"""Runs the command line in this process, as the console script does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from spectra_cli.main import run

from examples import write_model
from spectra.checkpoint.local import LocalFile


class Outcome(NamedTuple):
    """What one command line gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `spectra WORD...`."""

    def call(*words: str | Path) -> Outcome:
        arguments: Sequence[str] = [str(word) for word in words]
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small Llama-like model of three layers."""
    return llama_like(tmp_path / "model")


def llama_like(folder: Path) -> Path:
    """Write that model."""
    generator = torch.Generator().manual_seed(7)
    tensors = {"model.embed_tokens.weight": torch.randn(32, 8, generator=generator)}
    for layer in range(3):
        for name, rows, cols in (
            ("self_attn.q_proj", 8, 8),
            ("mlp.up_proj", 16, 8),
            ("mlp.down_proj", 8, 16),
        ):
            key = f"model.layers.{layer}.{name}.weight"
            tensors[key] = torch.randn(rows, cols, generator=generator)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = torch.ones(8)
    return write_model(folder, tensors, '{"model_type": "llama"}')


@pytest.fixture
def weights_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but headers be read."""

    def refuse(self: LocalFile, start: int, buffer: memoryview) -> int:
        raise AssertionError(f"weights of {self.path} are read")

    monkeypatch.setattr(LocalFile, "fill", refuse)
