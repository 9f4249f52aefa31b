"""What trainers leave beside a checkpoint: files that torch and transformers wrote."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.trainer_callback import TrainerState

from scaled import write_scaled, write_state
from shards import opened
from spectra.checkpoint.trainer import Training, read_step, read_training
from spectra.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_scaled(tmp_path / "run" / "checkpoint-500", 8, lambda _module, _layer: 1.0, 1)


def write_optimizer(folder: Path, *groups: tuple[float, float]) -> None:
    """Write the state of an AdamW after a step of a schedule: (rate, decay) of each group."""
    layers = [nn.Linear(4, 4) for _ in groups]
    optimizer = torch.optim.AdamW(
        [
            {"params": [*layer.parameters()], "lr": rate, "weight_decay": decay}
            for layer, (rate, decay) in zip(layers, groups, strict=True)
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for layer in layers:
        layer(torch.ones(4)).sum().backward()
    optimizer.step()
    schedule.step()
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")


def test_the_trainers_own_state(folder: Path) -> None:
    state = TrainerState(global_step=1234)
    state.log_history = [
        {"step": 1, "learning_rate": 1e-5},
        {"step": 2, "learning_rate": 3e-4, "loss": 1.0},
        {"step": 3, "learning_rate": 1e-4},
        {"step": 3, "eval_loss": 2.0},
    ]
    state.save_to_json(str(folder / "trainer_state.json"))
    assert read_step(opened(folder)) == 1234
    assert read_training(opened(folder)) == Training(3e-4, None)


def test_the_optimizers_groups_are_read_only_where_pickles_are_allowed(folder: Path) -> None:
    write_optimizer(folder, (3e-4, 0.1), (1e-2, 0.0))
    assert read_training(opened(folder)) == Training()
    assert read_training(opened(folder), allow_pickle=True) == Training(3e-4, 0.1)


def test_groups_of_matrices_that_differ_tell_nothing(folder: Path) -> None:
    write_optimizer(folder, (3e-4, 0.1), (1e-3, 0.1))
    assert read_training(opened(folder), allow_pickle=True) == Training(None, 0.1)
    write_optimizer(folder, (3e-4, 0.1), (3e-4, 0.2))
    assert read_training(opened(folder), allow_pickle=True) == Training(3e-4, None)


def test_no_weight_decay_is_known_to_be_zero(folder: Path) -> None:
    write_optimizer(folder, (3e-4, 0.0))
    assert read_training(opened(folder), allow_pickle=True) == Training(3e-4, 0.0)


def test_nothing_beside_the_weights_is_nothing_known(folder: Path) -> None:
    assert read_training(opened(folder), allow_pickle=True) == Training()
    assert read_training(replace(opened(folder), folder=None)) == Training()


@pytest.mark.parametrize(
    "state",
    [
        {"log_history": "no list", "global_step": True},
        {"log_history": [1, {"learning_rate": "high"}, {"learning_rate": -1.0}], "global_step": -4},
        {},
    ],
    ids=["text", "wrong kinds", "empty"],
)
def test_a_state_that_says_nothing_of_use(folder: Path, state: dict[str, object]) -> None:
    (folder / "trainer_state.json").write_text(json.dumps(state))
    assert read_training(opened(folder)) == Training()
    assert read_step(opened(folder)) == 500


def test_a_damaged_state_is_an_error(folder: Path) -> None:
    (folder / "trainer_state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"trainer_state\.json is not JSON"):
        read_training(opened(folder))
    with pytest.raises(CheckpointError, match=r"trainer_state\.json is not JSON"):
        read_step(opened(folder))


def test_a_hostile_optimizer_is_refused(folder: Path) -> None:
    torch.save({"param_groups": [{"lr": nn.Linear}]}, folder / "optimizer.pt")
    with pytest.raises(CheckpointError, match="weights do not need"):
        read_training(opened(folder), allow_pickle=True)


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ("runs/llama-7b/checkpoint-500", 500),
        ("runs/llama-7b/checkpoint-500/", 500),
        ("runs/checkpoint-0012000/model.safetensors", 12000),
        ("runs/step_250", 250),
        ("runs/global_step700", 700),
        ("runs/iter-0003000-ckpt", 3000),
        ("EleutherAI/pythia-70m@step1000", 1000),
        ("allenai/OLMo-1B@step20000-tokens84B", 20000),
        ("runs/model-25.safetensors", 25),
        ("runs/0040", 40),
        ("runs/final", None),
        ("/home/user7/final", None),
    ],
)
def test_a_step_told_by_the_name(folder: Path, spec: str, step: int | None) -> None:
    assert read_step(replace(opened(folder), spec=spec)) == step


def test_the_trainers_word_goes_before_the_name(folder: Path) -> None:
    write_state(folder, 700)
    assert read_step(opened(folder)) == 700
