"""Adapters whose names of modules differ in how they begin, such as under a task head."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import spectra.lowrank
from spectra.errors import AdapterError

from .nets import adapter, merged, net, tensors_of, updates

START = "base_model.model."


def renamed(source: Path, folder: Path, beginning: str) -> Path:
    """Return the same adapter as one trained inside another module."""
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    save_file({START + beginning + name.removeprefix(START): values
               for name, values in tensors_of(source).items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    return folder


class Outer(nn.Module):
    """The net under a task head."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()


@pytest.mark.parametrize("inside", [0, 1])
@pytest.mark.parametrize("targets", [["q_proj", "embed"], ["up_proj"]], ids=["some", "others"])
@pytest.mark.parametrize("based", [True, False])
def test_modules_are_the_same_whatever_lies_around_them(
    tmp_path: Path, inside: int, targets: list[str], based: bool
) -> None:
    """The sum has the names of the first, also on modules that the other alone has."""
    plain = [adapter(net(), tmp_path / "one", seed=1, target_modules=["q_proj"],
                     modules_to_save=["head"]),
             adapter(net(), tmp_path / "two", seed=2, target_modules=targets)]  # fmt: skip
    given = [renamed(one, tmp_path / f"in-{one.name}", "inner." if number == inside else "")
             for number, one in enumerate(plain)]  # fmt: skip
    save_file(net().state_dict(), tmp_path / "base.safetensors")
    base = tmp_path / "base.safetensors" if based else None
    found = spectra.lowrank.merge(given, tmp_path / "sum", base=base)
    start = "inner." if inside == 0 else ""
    note = next(text for text in found.summary["notes"] if "begins the names" in text)
    assert "in-two begins the names of modules otherwise, and gets those of " in note
    model = Outer() if start else net()
    made = merged(model, tmp_path / "sum")
    first, second = (updates(net(), one) for one in plain)
    before: dict[str, Tensor] = dict(model.state_dict())
    for name, update in first.items():
        expected = before[start + name].double() + update
        if name not in ("head.weight", "head.bias"):
            expected += second[name]
        torch.testing.assert_close(made[start + name].double(), expected, rtol=1e-4, atol=2e-5)


def test_what_lies_outside_the_first_ones_model_is_refused(tmp_path: Path) -> None:
    one = adapter(net(), tmp_path / "one", target_modules=["q_proj"])
    outer = renamed(one, tmp_path / "outer", "inner.")
    score = {f"{START}score.weight": torch.randn(3, 20)}
    save_file(tensors_of(outer) | score, outer / "adapter_model.safetensors")
    text = "'base_model.model.score.weight' whole, which lies outside .*outer first"
    with pytest.raises(AdapterError, match=text):
        spectra.lowrank.merge.plan([one, outer], tmp_path / "sum")
    spectra.lowrank.merge([outer, one], tmp_path / "sum")
    assert set(score) < set(tensors_of(tmp_path / "sum"))


def test_modules_in_two_towers_are_not_guessed(tmp_path: Path) -> None:
    one = adapter(net(), tmp_path / "one", target_modules=["q_proj"])
    towers = renamed(one, tmp_path / "towers", "text.")
    more = {name.replace(".text.", ".vision."): value for name, value in tensors_of(towers).items()}
    save_file(tensors_of(towers) | more, towers / "adapter_model.safetensors")
    text = (r"have no module in common: their names begin otherwise, 'text\.layers\.0\.q_proj' and "
            r"'layers\.0\.q_proj' \('text\.' and 'vision\.'\), and which modules are the same is "
            r"not known\. Expected base= and the model")  # fmt: skip
    with pytest.raises(AdapterError, match=text):
        spectra.lowrank.merge.plan([towers, one], tmp_path / "sum")
