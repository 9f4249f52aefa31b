"""Whether adapters fit their base and their settings: sick ones, and healthy ones beside them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from examples import write_model
from spectra.policy import Policy

NAMES = [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
FIT = ["SPC008", "SPC108", "SPC109", "SPC110", "SPC111"]


def factors(*modules: str, rank: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = {}
    for name in modules:
        stem = f"base_model.model.{name}"
        found[f"{stem}.lora_A.weight"] = torch.randn(rank, 8, generator=generator)
        found[f"{stem}.lora_B.weight"] = torch.randn(8, rank, generator=generator)
    return found


def adapter(folder: Path, tensors: dict[str, Tensor], **settings: object) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(told | settings))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    tensors = {f"{name}.weight": torch.randn(8, 8, generator=generator) for name in NAMES}
    return write_model(tmp_path / "base", tensors | {"embed_tokens.weight": torch.eye(8)})


def findings(model: Path, **options: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - check's
    found = spectra.check(model, **{"select": FIT} | options)
    return [(one["rule"], one["severity"], one["message"]) for one in found.summary["findings"]]


def test_a_healthy_adapter_fits(base: Path, tmp_path: Path) -> None:
    assert not findings(adapter(tmp_path / "a", factors(*NAMES)), base=base)
    patterns = {
        "rank_pattern": {r"layers\.1\..*": 5},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 3},
    }
    some = factors(NAMES[0], NAMES[2]) | factors(NAMES[1], rank=5)
    assert not findings(adapter(tmp_path / "b", some, **patterns), base=base)


def test_modules_that_the_base_lacks(base: Path, tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", factors(*NAMES, "model.layers.7.self_attn.q_proj"))
    (found,) = findings(made, base=base)
    told = "1 of the adapter's 4 modules match no tensor of the base"
    assert found == ("SPC108", "error", f"{told}: model.layers.7.self_attn.q_proj")
    assert [one[0] for one in findings(base, base=base, adapter=made)] == ["SPC108"]
    done = spectra.check(made, select=FIT)
    (rule,) = (one for one in done.summary["rules"] if one["code"] == "SPC108")
    assert rule["why_not"] == "no base is given (--base, or a model as --baseline)"


def test_modules_of_another_shape_than_the_bases(base: Path, tmp_path: Path) -> None:
    some = factors(*NAMES)
    for name in NAMES[1:]:
        key = f"base_model.model.{name}.lora_A.weight"
        some[key] = some[key][:, :6].contiguous()
    told = "updates of the adapter have another shape than the base: "
    shapes = f"'{NAMES[1]}.weight' is 8 x 8 in the base, update 8 x 6 here, and 1 more"
    made = adapter(tmp_path / "a", some)
    for found in (findings(made, base=base), findings(base, base=base, adapter=made)):
        assert found == [("SPC108", "error", told + shapes)]


def test_modules_that_the_settings_leave_out(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", factors(*NAMES, "model.layers.0.mlp.up_proj"))
    told = "target_modules names 3 of 4 modules, and PEFT drops the others: "
    assert findings(made) == [("SPC110", "warning", f"{told}model.layers.0.mlp.up_proj")]
    for number, targets in enumerate((["q_proj", "mlp.up_proj"], r".*_proj", None)):
        some = factors(*NAMES, "model.layers.0.mlp.up_proj")
        assert not findings(adapter(tmp_path / str(number), some, target_modules=targets))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_head_that_the_base_ties_is_no_stranger(base: Path, tmp_path: Path, tied: bool) -> None:
    (base / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    both = ["q_proj", "lm_head"]
    made = adapter(tmp_path / "a", factors(*NAMES, "lm_head"), target_modules=both)
    assert [one[0] for one in findings(made, base=base)] == ([] if tied else ["SPC108"])


def test_an_adapter_that_does_nothing_is_told_once(base: Path, tmp_path: Path) -> None:
    idle = {k: 0 * v if "lora_B" in k else v for k, v in factors(*NAMES).items()}
    message = "the adapter does nothing: the update of all 3 modules is zero"
    for number, (tensors, settings) in enumerate(
        ((idle, {}), (factors(*NAMES), {"lora_alpha": 0}))
    ):
        made = adapter(tmp_path / str(number), tensors, **settings)
        assert findings(made) == [("SPC109", "error", message)]
        merged = message.replace("modules", "matrices")
        assert findings(base, base=base, adapter=made) == [("SPC109", "error", merged)]


def test_an_adapter_that_only_stores_a_classifier(base: Path, tmp_path: Path) -> None:
    some = factors(*NAMES)
    stored = {"base_model.model.score.weight": torch.ones(2, 8)}
    assert not findings(adapter(tmp_path / "a", some | stored))
    idle = {k: 0 * v if "lora_B" in k else v for k, v in some.items()}
    message = (
        "the adapter does nothing but store 1 tensor whole: the update of all 3 modules is zero"
    )
    for number, (tensors, settings) in enumerate(((idle, {}), (some, {"lora_alpha": 0}))):
        made = adapter(tmp_path / str(number), tensors | stored, **settings)
        assert findings(made) == findings(made, base=base) == [("SPC109", "error", message)]


def test_single_modules_that_do_nothing(base: Path, tmp_path: Path) -> None:
    some = factors(*NAMES)
    some[f"base_model.model.{NAMES[1]}.lora_B.weight"].zero_()
    made = adapter(tmp_path / "a", some)
    assert [one[0] for one in findings(made)] == ["SPC008"]
    (found,) = findings(base, base=base, adapter=made)
    assert found == ("SPC109", "warning", "the adapter's update of it is zero")


def test_ranks_that_contradict_the_settings_are_all_told(base: Path, tmp_path: Path) -> None:
    some = factors(NAMES[0]) | factors(*NAMES[1:], rank=4)
    made = adapter(tmp_path / "a", some, rank_pattern={"layers.2.self_attn.q_proj": 3})
    assert findings(made, base=base) == [
        ("SPC110", "error", "has factors of rank 4, but adapter_config.json gives r = 2"),
        ("SPC110", "error", "has factors of rank 4, but adapter_config.json gives r = 3"),
    ]
    done = spectra.check(made, base=base, select=FIT)
    assert "its scale is not known: alpha over their rank is assumed" in done.summary["reading"]
    # Of one that is looked for in a model likewise, and the merge is judged by alpha over the rank.
    found = findings(base, base=base, adapter=made)
    assert [one[0] for one in found] == ["SPC110", "SPC110"]
    done = spectra.check(base, base=base, adapter=made, select="SPC107")
    assert "alpha over their rank is assumed" in done.summary["reading"]
    assert [one["rule"] for one in done.summary["findings"]] == ["SPC107"] * 3


def test_directions_that_neither_factor_uses_are_no_dead_rows(tmp_path: Path) -> None:
    some = factors(*NAMES, rank=4)
    name = f"base_model.model.{NAMES[0]}"
    some[f"{name}.lora_A.weight"][2:] = 0.0
    made = adapter(tmp_path / "one-sided", some, r=4)
    assert [one[0] for one in findings(made, select="SPC010")] == ["SPC010"]
    some[f"{name}.lora_B.weight"][:, 2:] = 0.0
    made = adapter(tmp_path / "padded", some, r=4)
    assert findings(made, select="SPC010") == []


@pytest.mark.parametrize("rooted", [False, True], ids=["plain", "rslora"])
def test_a_wrong_r_leaves_the_scale_that_the_tensors_tell(
    base: Path, tmp_path: Path, rooted: bool
) -> None:
    norms = []
    for r in (2, 8):
        made = adapter(tmp_path / str(r), factors(*NAMES), r=r, use_rslora=rooted)
        rows = spectra.check(made, base=base, select="SPC1").rows
        norms.append({row.matrix: row.values["delta_norm"]
                      for row in rows if row.values.get("delta_norm")})  # fmt: skip
    assert len(norms[0]) == len(NAMES)
    assert norms[1] == pytest.approx(norms[0], rel=1e-6)


def test_patterns_that_fit_no_module(tmp_path: Path) -> None:
    made = adapter(
        tmp_path / "a", factors(*NAMES), rank_pattern={"k_proj": 8}, alpha_pattern={"q_proj": 4}
    )
    assert findings(made) == [
        ("SPC110", "warning", "rank_pattern sets k_proj, which fits no module of the adapter")
    ]


def test_a_servers_limit_is_judged_where_a_policy_sets_it(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", factors(*NAMES[:2]) | factors(NAMES[2], rank=5),
                   rank_pattern={"layers.2.self_attn.q_proj": 5})  # fmt: skip
    assert not findings(made)
    for most, count in ((4, 1), (5, 0)):
        policy = Policy(select=("SPC111",), rules={"SPC111": {"max": most}})
        assert len(findings(made, policy=policy, select=())) == count
    policy = Policy(select=("SPC111",), rules={"SPC111": {"max": 4}})
    ((_, severity, message),) = findings(made, policy=policy, select=())
    assert severity == "error"
    assert message == "the adapter has rank 5 > 4 allowed; above it are 1 of 3 modules"


def test_the_real_adapter_fits_its_base(minilm: Path, minilm_lora: Path) -> None:
    assert load_file(minilm_lora / "adapter_model.safetensors")
    assert not findings(minilm_lora, base=minilm)


def test_an_adapter_that_only_moves_biases(base: Path, tmp_path: Path) -> None:
    some = factors(*NAMES)
    idle = {k: 0 * v if "lora_B" in k else v for k, v in some.items()}
    biases = {f"base_model.model.{name}.lora_B.bias": torch.ones(8) for name in NAMES[:2]}
    biases |= {f"base_model.model.{NAMES[2]}.lora_B.bias": torch.zeros(8)}
    start, end = "the adapter does nothing", ": the update of all 3 modules is zero"
    stored = {"base_model.model.score.weight": torch.ones(2, 8)}
    for number, (tensors, alpha, but) in enumerate((
        (idle | biases, 8, " but move 2 biases"),
        (idle | biases | stored, 8, " but store 1 tensor whole and move 2 biases"),
        (idle | {k: 0 * v for k, v in biases.items()}, 8, ""),
        (some | biases, 0, ""),  # the scale is the biases' too
    )):  # fmt: skip
        made = adapter(tmp_path / str(number), tensors, lora_bias=True, lora_alpha=alpha)
        assert ("SPC109", "error", f"{start}{but}{end}") in findings(made)


def test_a_bias_that_the_settings_do_not_ask_for(base: Path, tmp_path: Path) -> None:
    biases = {f"base_model.model.{name}.lora_B.bias": torch.ones(8) for name in NAMES[:1]}
    told = "has a lora_B.bias, which PEFT drops, as adapter_config.json does not set lora_bias"
    both = f"has factors of rank 2, but adapter_config.json gives r = 3; it {told}"
    cases: list[tuple[dict[str, object], list[str]]] = [
        ({"lora_bias": True}, []),
        ({"lora_bias": False}, [told]),
        ({}, [told]),
        ({"r": 3}, [both]),
    ]
    for number, (settings, expected) in enumerate(cases):
        some = factors(NAMES[0]) | biases
        made = adapter(tmp_path / str(number), some, **settings)
        assert findings(made, base=base) == [("SPC110", "error", text) for text in expected]
