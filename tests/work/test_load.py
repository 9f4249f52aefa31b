"""Tensors that several tasks need: read once, and held no longer than one of them waits."""

from pathlib import Path

import torch

import spectra
from examples import write_model
from spectra.matrices import Selection
from spectra.work import plan_model, plan_pair
from spectra.work.load import Loader
from spectra.work.task import Task

FUSED = {f"h.{i}.attn.c_attn.weight": torch.full((8, 24), float(i)) for i in range(3)}
GPT2 = '{"model_type": "gpt2", "n_head": 2}'


def loaded(tasks: tuple[Task, ...]) -> list[int]:
    """Load one task after the other; return how many tensors and sides are held after each."""
    loader, held = Loader(tasks), []
    for task in tasks:
        loader.load(task)
        held.append(len(loader._held))
    return held


def test_a_fused_tensor_is_held_until_its_last_part(tmp_path: Path) -> None:
    model = spectra.open(write_model(tmp_path, FUSED, GPT2))
    assert loaded(plan_model(model, Selection()).tasks) == [1, 1, 0] * 3


def test_both_sides_of_a_pair_are_held_until_their_last_part(tmp_path: Path) -> None:
    base, tuned = (
        spectra.open(write_model(tmp_path / name, FUSED, GPT2)) for name in ("base", "tuned")
    )
    assert loaded(plan_pair(base, tuned, Selection()).tasks)[2::3] == [0, 0, 0]
