"""Sharded checkpoints made for tests, and what opening them gives."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from examples import write_model
from spectra.checkpoint import Checkpoint, open_spec
from spectra.errors import CheckpointError

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
BIG = {"a.weight": torch.arange(60_000.0).reshape(200, 300), "b.weight": torch.ones(300, 200)}
A, B = torch.arange(6.0).reshape(2, 3), torch.ones(4)


def opened(spec: str | Path, *, download: bool = False) -> Checkpoint:
    found = open_spec(spec, download=download)
    assert isinstance(found, Checkpoint)
    return found


def refusal(spec: str | Path) -> str:
    """Return the error's text, after checking that it is one plain line."""
    with pytest.raises(CheckpointError) as caught:
        open_spec(spec)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")
    return str(caught.value)


def write_index(folder: Path, weight_map: Mapping[str, object], name: str = INDEX) -> Path:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_shards(folder: Path) -> Path:
    write_model(folder, {"a": A}, name=FIRST)
    write_model(folder, {"b": B}, name=SECOND)
    return write_index(folder, {"a": FIRST, "b": SECOND})
