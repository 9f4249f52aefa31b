"""Small models and adapters that PEFT trains, merges and reads."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Block(nn.Module):
    """Modules of every kind whose factors are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(24, 20)
        self.up_proj = nn.Linear(24, 40, bias=False)
        self.conv = nn.Conv2d(3, 8, (3, 2))


class Net(nn.Module):
    """Two layers, an embedding, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 24)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(24, 5)


TARGETS = ["q_proj", "up_proj", "conv", "embed"]


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def adapter(model: nn.Module, folder: Path, seed: int = 0, **settings: Any) -> Path:  # noqa: ANN401 - LoraConfig's own
    """Write an adapter whose factors and magnitudes are random; none is zero."""
    torch.manual_seed(seed)
    given = {"target_modules": TARGETS, "r": 6, "lora_alpha": 9, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        wrapped: Any = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**given))
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "magnitude" in key:
                value.mul_(1 + 0.3 * torch.randn_like(value))
            elif any(word in key for word in ("lora_", "modules_to_save", "tokens_delta")):
                value.copy_(torch.randn_like(value) * 0.3)
    wrapped.save_pretrained(str(folder))
    return folder


def loaded(model: nn.Module, folder: Path) -> peft.PeftModel:
    """Return a model with an adapter on it, which PEFT must read without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        found: peft.PeftModel = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(folder))
    return found


def merged(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return what PEFT makes of a model and an adapter, which it must read without a word."""
    found: Any = loaded(model, folder)
    with torch.no_grad():
        plain: nn.Module = found.merge_and_unload()
    return dict(plain.state_dict())


def updates(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return what an adapter adds to each tensor, in float64."""
    base = model.state_dict()
    return {
        name: values.double() - base[name].double()
        for name, values in merged(model, folder).items()
    }


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")
