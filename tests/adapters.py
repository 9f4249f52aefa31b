"""Adapters as PEFT writes them, and whether what we read is what PEFT merges."""

import copy
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import spectra
from spectra.checkpoint import Adapter, Checkpoint
from spectra.matrices import LowRank, Matrix, Pair, Selection
from spectra.work import Plan, plan_model, plan_pair
from spectra.work.load import Loader


def save(model: nn.Module, folder: Path) -> Path:
    """Save as transformers does, tied weights once, under the names in memory."""
    folder.mkdir()
    seen: dict[int, str] = {}
    tensors = {}
    for key, value in model.state_dict().items():
        if seen.setdefault(value.data_ptr(), key) == key:
            tensors[key] = value.contiguous()
    save_file(tensors, folder / "model.safetensors")
    config: Any = getattr(model, "config", None)
    if config is not None:
        config.save_pretrained(folder)
    return folder


def trained(
    model: nn.Module,
    folder: Path,
    *,
    merge: bool = True,
    base_name: str = "",
    **settings: Any,  # noqa: ANN401 - LoraConfig's own
) -> Path:
    """Write base, adapter and what PEFT merges of them into a folder, as if trained.

    Factors, magnitudes, whole modules and new rows are random: none is zero or what it was.
    """
    base = save(model, folder / "base")
    wrapped: Any = peft.get_peft_model(model, peft.LoraConfig(**settings))
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "magnitude" in key:
                value.mul_(1 + 0.3 * torch.randn_like(value))
            elif any(word in key for word in ("lora_", "modules_to_save", "tokens_delta")):
                value.copy_(torch.randn_like(value) * 0.3)
    wrapped.save_pretrained(str(folder / "adapter"))
    if merge:
        save(copy.deepcopy(wrapped).merge_and_unload(), folder / "merged")
    return base


def method(model: nn.Module, config: peft.PeftConfig, folder: Path) -> Path:
    """Write base, adapter and what PEFT merges of them, all that is trained moved a little."""
    base = save(model, folder / "base")
    wrapped: Any = peft.get_peft_model(model, config)
    with torch.no_grad():
        for value in wrapped.parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value) * 0.2)
    wrapped.save_pretrained(str(folder / "adapter"))
    save(copy.deepcopy(wrapped).merge_and_unload(), folder / "merged")
    return base


def planned(folder: Path, base: str = "base", tuned: str = "adapter") -> Plan:
    return plan_pair(spectra.open(folder / base), spectra.open(folder / tuned), Selection())


def pairs(plan: Plan) -> dict[str, Pair]:
    """Return every pair of a plan by its name."""
    loader, found = Loader(plan.tasks), {}
    for task in plan.tasks:
        subject = loader.load(task).subject("cpu")
        assert isinstance(subject, Pair)
        found[task.place.matrix] = subject
    return found


def matrices(spec: Path | Checkpoint | Adapter) -> dict[str, Tensor]:
    """Return every matrix of a checkpoint by its name."""
    plan = plan_model(spectra.open(spec), Selection())
    loader, found = Loader(plan.tasks), {}
    for task in plan.tasks:
        subject = loader.load(task).subject("cpu")
        assert isinstance(subject, Matrix)
        found[task.place.matrix] = subject.values
    return found


def agrees_with_merged(folder: Path, tolerance: float = 1e-5) -> dict[str, Pair]:
    """Check every matrix against what PEFT merged; return those that changed."""
    found, merged, base = pairs(planned(folder)), matrices(folder / "merged"), matrices(
        folder / "base"
    )  # fmt: skip
    assert set(found) == set(merged)
    changed = {}
    for name, pair in found.items():
        expected = merged[name].double()
        torch.testing.assert_close(pair.base, base[name], rtol=0, atol=0)
        torch.testing.assert_close(
            pair.tuned_exact().double(), expected, rtol=tolerance, atol=tolerance
        )
        if not torch.equal(merged[name], base[name]):
            assert pair.tuned is not None, name
            changed[name] = pair
    return changed


def low_rank(changed: dict[str, Pair]) -> set[str]:
    """Return the names of those whose update is kept as two factors."""
    return {name for name, pair in changed.items() if isinstance(pair.tuned, LowRank)}
