"""Two sides that store the same matrices otherwise are compared matrix by matrix."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import spectra
from adapters import pairs
from examples import write_model
from spectra.checkpoint import Checkpoint
from spectra.errors import PairingError
from spectra.matrices import Selection
from spectra.work import Plan, plan_pair

GPT2 = json.dumps({"model_type": "gpt2", "n_head": 2})


def planned(base: Path, tuned: Path, **selection: tuple[str, ...]) -> Plan:
    return plan_pair(spectra.open(base), spectra.open(tuned), Selection(**selection))  # type: ignore[arg-type]


def gpt2(generator: torch.Generator) -> dict[str, Tensor]:
    """One layer, weights stored [in, out]; c_proj is square, so its shape tells nothing."""
    sizes = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32)}
    return {f"h.0.{name}.weight": torch.randn(size, generator=generator)
            for name, size in sizes.items()}  # fmt: skip


@pytest.fixture
def sides(tmp_path: Path, generator: torch.Generator) -> tuple[Path, Path]:
    """The same model stored [in, out], and [out, in] under a family that does so."""
    tensors = gpt2(generator)
    usual = write_model(tmp_path / "in-out", tensors, GPT2)
    parts: dict[str, Tensor] = {}
    for name, value in tensors.items():
        parts[name] = value.mT
    turned = write_model(tmp_path / "out-in", parts, json.dumps({"model_type": "gpt_bigcode",
        "n_head": 1, "multi_query": False}))  # fmt: skip
    return usual, turned


def test_each_side_is_cut_by_its_own_layout(sides: tuple[Path, Path]) -> None:
    for base, tuned in (sides, sides[::-1]):
        plan = planned(base, tuned)
        found = pairs(plan)
        assert set(found) == {
            *(f"h.0.attn.c_attn.weight[{part}]" for part in "qkv"),
            "h.0.attn.c_proj.weight",
            "h.0.mlp.c_fc.weight",
        }
        for pair in found.values():
            assert isinstance(pair.tuned, Tensor)
            torch.testing.assert_close(pair.tuned, pair.base, rtol=0, atol=0)
        result = spectra.diff(base, tuned)
        assert result.summary["reading"] == "Nothing changed in 5 matrices."


def test_a_changed_entry_is_found_where_it_lies(sides: tuple[Path, Path]) -> None:
    usual, turned = sides
    opened = spectra.open(turned)
    assert isinstance(opened, Checkpoint)
    values = {entry.name: opened.read(entry).clone() for entry in opened.entries.values()}
    values["h.0.attn.c_proj.weight"][2, 5] += 1  # output 2, input 5
    config = (turned / "config.json").read_text()
    write_model(turned, values, config)
    pair = pairs(planned(usual, turned))["h.0.attn.c_proj.weight"]
    assert pair.delta().nonzero().tolist() == [[2, 5]]


def test_bytes_are_counted_on_both_sides(sides: tuple[Path, Path]) -> None:
    plan = planned(*sides, include=("*c_attn*",))
    assert plan.nbytes == 2 * 4 * 8 * 24
    assert len(plan.tasks) == 3


def test_a_matrix_that_the_other_side_fuses_is_a_skip(
    tmp_path: Path, generator: torch.Generator
) -> None:
    tensors = gpt2(generator)
    fused = write_model(tmp_path / "fused", tensors, GPT2)
    raw = write_model(tmp_path / "raw", tensors)  # no config: taken as it stands
    plan = planned(fused, raw, exclude=("*c_fc*",))
    reasons = {item.tensor: item.reason for item in plan.skipped}
    assert reasons["h.0.attn.c_attn.weight[q]"] == (
        "no counterpart in the tuned model, whose tensor holds one"
    )
    back = {item.tensor: item.reason for item in planned(raw, fused, exclude=("*c_fc*",)).skipped}
    assert back["h.0.attn.c_attn.weight"] == (
        "no counterpart in the tuned model, whose tensor holds [k], [q], [v]"
    )


def test_a_tuned_tensor_that_is_no_matrix_says_why(tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", {"x.weight": torch.ones(4, 4), "y.weight": torch.ones(4, 4)})
    tuned = write_model(
        tmp_path / "b",
        {"x.weight": torch.ones(4, 4, dtype=torch.int8), "y.weight": torch.ones(4, 4)},
    )
    reasons = {item.tensor: item.reason for item in planned(base, tuned).skipped}
    assert reasons["x.weight"] == (
        "not read in the tuned model: packed integers of a scheme that neither their names nor "
        "config.json tell"
    )


def test_a_stack_is_compared_with_a_stack_that_lies_otherwise(
    tmp_path: Path, generator: torch.Generator
) -> None:
    stack = torch.randn(3, 8, 12, generator=generator)  # [expert, in, 2 ffn]
    name = "model.layers.0.feed_forward.experts.gate_up_proj"
    base = write_model(tmp_path / "a", {name: stack}, '{"model_type": "llama4_text"}')
    tuned = write_model(tmp_path / "b", {name: stack.mT}, '{"model_type": "qwen3_moe"}')
    found = pairs(planned(base, tuned))
    assert len(found) == 6
    for pair in found.values():
        assert isinstance(pair.tuned, Tensor)
        assert torch.equal(pair.tuned, pair.base)


def test_a_vocabulary_of_another_width_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", {"lm_head.weight": torch.ones(6, 4)})
    tuned = write_model(tmp_path / "b", {"lm_head.weight": torch.ones(8, 5)})
    with pytest.raises(PairingError, match=r"'lm_head.weight' is 6 x 4 there and 8 x 5 here\. Giv"):
        planned(base, tuned)


def test_a_name_of_a_hundred_thousand_dots_matches_itself_alone(tmp_path: Path) -> None:
    name = "a." * 100_000 + "weight"
    base = write_model(tmp_path / "a", {name: torch.ones(2, 2)})
    tuned = write_model(tmp_path / "b", {f"b.{name}": torch.ones(2, 2), name: torch.ones(2, 2)})
    plan = planned(base, tuned)
    assert [task.place.tensor for task in plan.tasks] == [name]
    assert [item.reason for item in plan.skipped] == ["no counterpart in the base"]
