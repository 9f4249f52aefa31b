"""What should be there and was not judged is counted, named, and never green."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import families
import spectra
from examples import write_model
from spectra.errors import NothingToAnalyseError
from spectra.policy import Policy

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as transformers saves it."""
    folder = tmp_path_factory.mktemp("llama")
    families.build("llama").save_pretrained(folder)
    return folder


def without(folder: Path, target: Path, *gone: str, **more: Tensor) -> Path:
    """A copy without some tensors, or with others in their place."""
    tensors = {k: v for k, v in load_file(folder / WEIGHTS).items() if k not in gone}
    return write_model(target, tensors | more, (folder / "config.json").read_text())


def told(found: spectra.Result) -> list[tuple[str, str, str | None]]:
    return [(one["rule"], one["severity"], one["place"]) for one in found.summary["findings"]]


def coverage(found: spectra.Result) -> dict[str, Any]:
    result: dict[str, Any] = found.summary["coverage"]
    return result


def test_all_that_a_class_holds_is_covered(llama: Path) -> None:
    found = spectra.check(llama)
    assert told(found) == []
    assert found.summary["reading"] == "PASS  no findings in 21 tensors (coverage 100 %)."
    assert coverage(found) == {
        "tensors": 21, "judged": 21, "share": 1.0, "missing": 0, "not_judged": [],
    }  # fmt: skip


def test_what_a_class_holds_and_is_not_here_is_an_error_and_uncovered(
    llama: Path, tmp_path: Path
) -> None:
    names = ("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight")
    found = spectra.check(without(llama, tmp_path / "cut", *names))
    assert told(found) == [("SPC004", "error", name) for name in names]
    assert found.summary["findings"][0]["message"] == (
        "is held by every LlamaForCausalLM and missing here"
    )
    assert found.summary["reading"] == (
        "FAIL  2 errors in 21 tensors (coverage 90.5 %). Not judged: 2 tensors missing."
    )
    assert coverage(found)["not_judged"] == [{"what": name, "reason": "missing"} for name in names]
    # Whatever the policy judges, they count.
    quiet = spectra.check(without(llama, tmp_path / "again", *names), ignore="SPC004")
    assert (told(quiet), coverage(quiet)["missing"]) == ([], 2)


def test_layers_that_config_json_counts_are_missing_as_one(llama: Path, tmp_path: Path) -> None:
    folder = without(llama, tmp_path / "deeper")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 9}))
    found = spectra.check(folder)
    (one,) = found.summary["findings"]
    assert one["message"] == (
        "layers 2 to 8 of model.layers (63 tensors) are held by every LlamaForCausalLM and "
        "missing here"
    )
    assert coverage(found)["missing"] == 63
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    more = spectra.check(folder)
    assert told(more) == [("SPC005", "warning", "model.layers.")]
    assert more.summary["findings"][0]["message"] == (
        "model.layers goes past the 1 that config.json counts"
    )


def test_of_a_class_that_is_not_known_it_is_said_that_nothing_was_compared(
    llama: Path, tmp_path: Path
) -> None:
    folder = without(llama, tmp_path / "own", "model.embed_tokens.weight")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["OwnModel"]}))
    alone = spectra.check(folder)
    assert alone.summary["reading"] == (
        "PASS  no findings in 20 tensors (coverage 100 %). Nothing outside the layers was "
        "compared: no base."
    )
    compared = spectra.check(folder, base=llama)
    assert ("SPC004", "error", "model.embed_tokens.weight") in told(compared)
    assert "was compared" not in compared.summary["reading"]


def test_tensors_without_elements_are_errors_and_uncovered(llama: Path, tmp_path: Path) -> None:
    q = "model.layers.0.self_attn.q_proj.weight"
    stub = without(llama, tmp_path / "stub", **{q: torch.zeros(0)})
    found = spectra.check(stub)
    assert told(found) == [("SPC014", "error", q)]
    assert found.summary["findings"][0]["message"] == "has no elements: shape [0]"
    assert coverage(found)["not_judged"] == [{"what": q, "reason": "no elements"}]
    beside = spectra.check(stub, base=llama)
    assert [one["message"] for one in beside.summary["findings"] if one["place"] == q] == [
        "has no elements: shape [0], and [32, 32] in the base"
    ]
    # Parts of a module that are no weights may be empty.
    state = without(llama, tmp_path / "state", **{"model.extra_state": torch.zeros(0)})
    assert told(spectra.check(state)) == []


def test_packed_weights_that_cannot_be_read_are_not_covered(llama: Path, tmp_path: Path) -> None:
    tensors = load_file(llama / WEIGHTS)
    packed = {
        name.replace(".weight", ".W_q") if value.dim() == 2 else name:
            value.to(torch.uint8) if value.dim() == 2 else value
        for name, value in tensors.items()
    }  # fmt: skip
    folder = write_model(tmp_path / "hqq", packed, (llama / "config.json").read_text())
    found = spectra.check(folder)
    assert found.summary["exit_code"] == 3
    assert found.summary["passed"] is False
    assert (coverage(found)["judged"], coverage(found)["missing"]) == (5, 0)
    assert found.summary["reading"].startswith("INCOMPLETE  no findings in 21 tensors (coverage 23")
    assert " Not judged: 16 tensors (" in found.summary["reading"]
    assert found.summary["reading"].endswith(" No matrix could be judged.")


def test_a_model_of_nothing_that_can_be_read_is_refused_with_a_reason(tmp_path: Path) -> None:
    packed = {"model.layers.0.self_attn.q_proj.W_q": torch.zeros(8, 8, dtype=torch.uint8)}
    folder = write_model(tmp_path / "hqq", packed)
    with pytest.raises(
        NothingToAnalyseError, match=r"can be judged\. model\.layers\.0\.\S+W_q: \w+"
    ):
        spectra.check(folder)


def test_files_beside_the_weights_are_named_and_parts_of_the_model_count(
    llama: Path, tmp_path: Path
) -> None:
    folder = without(llama, tmp_path / "both")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    found = spectra.check(folder)
    assert (told(found), coverage(found)["share"]) == ([], 1.0)
    beside = "another format of weights; model.safetensors is read"
    assert f" Not judged: pytorch_model.bin ({beside})." in found.summary["reading"]
    for name in ("flax_model.msgpack", "model.onnx", "tf_model.h5"):
        (folder / name).write_bytes(b"")
    reading = spectra.check(folder).summary["reading"]
    files = "flax_model.msgpack, model.onnx, pytorch_model.bin and 1 more"
    assert f" Not judged: {files} ({beside})." in reading


def sharded(source: Path, target: Path) -> dict[str, Tensor]:
    """Two shards and their index; returns all tensors."""
    tensors = load_file(source / WEIGHTS)
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[:9],
              "model-00002-of-00002.safetensors": names[9:]}  # fmt: skip
    target.mkdir()
    for file, own in halves.items():
        save_file({name: tensors[name] for name in own}, target / file)
    index = {"weight_map": {name: file for file, own in halves.items() for name in own}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    (target / "config.json").write_text((source / "config.json").read_text())
    return tensors


def test_a_part_of_the_model_beside_its_index_is_an_error(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stray"
    tensors = sharded(llama, folder)
    assert spectra.check(folder).summary["exit_code"] == 0
    layer = {name: value for name, value in tensors.items() if "layers.0" in name}
    save_file(layer, folder / WEIGHTS)
    found = spectra.check(folder)
    assert found.summary["exit_code"] == 1
    rules = {one["rule"]: one["message"] for one in found.summary["findings"]}
    assert rules["SPC003"] == (
        "model.safetensors.index.json puts 21 tensors in 2 other files, and model.safetensors "
        "beside it, which loaders take first and was judged, holds 9: 12 are not in it, as "
        "lm_head.weight, model.embed_tokens.weight, model.layers.1.input_layernorm.weight and 9 "
        "more"
    )
    assert rules.keys() == {"SPC003", "SPC004"}
    assert coverage(found)["missing"] == 12
    # Both shards are parts of the model that nobody looked at.
    assert coverage(found)["tensors"] == 21 + 2
    save_file({name: value + 1e-3 for name, value in tensors.items()}, folder / WEIGHTS)
    whole = spectra.check(folder)
    assert [one["rule"] for one in whole.summary["findings"]] == ["SPC003"]
    assert coverage(whole)["judged"] == 21 < coverage(whole)["tensors"]


def test_shards_that_no_index_names_count(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    tensors = sharded(llama, folder)
    save_file(tensors, folder / "model-00001-of-00007.safetensors")
    found = spectra.check(folder)
    assert told(found) == [("SPC003", "error", "model-00001-of-00007.safetensors")]
    assert coverage(found)["not_judged"] == [
        {"what": "model-00001-of-00007.safetensors", "reason": "not named by the index"}
    ]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"select": "SPC3", "ignore": "SPC3"},
            (
                "of what is selected (SPC3) SPC301, SPC302 and SPC303 are ignored (SPC3). Select "
                "other rules, or ignore less"
            ),
        ),
        (
            {"ignore": "SPC"},
            (
                "of what is selected (SPC) all 34 rules are ignored (SPC). Select other rules, or "
                "ignore less"
            ),
        ),
        (
            {
                "select": "SPC203, SPC204",
                "ignore": "SPC204",
                "policy": Policy(rules={"SPC203": {"severity": "off"}}),
            },
            (
                "of what is selected (SPC203 SPC204) SPC204 is ignored (SPC204) and SPC203 is off "
                "in the policy. Select other rules, or ignore less and give it a severity"
            ),
        ),
        ({"select": "SPC4"}, "SPC401: no limit is set: it judges what a policy asks"),
        ({"select": "SPC104"}, "SPC104: no base is given (--base, or a model as --baseline)"),
        (
            {"select": "SPC9"},
            "SPC9 selects what judges the policy alone. Select rules of the model too: SPC0",
        ),
    ],
)
def test_a_check_by_no_rule_is_none(llama: Path, options: dict[str, object], why: str) -> None:
    found = spectra.check(llama, **options)  # type: ignore[arg-type]
    assert found.summary["exit_code"] == 3
    assert found.summary["reading"].endswith(f" No rule judged anything: {why}.")
    assert "(coverage 0 %). Not judged: 21 tensors (by no rule)" in found.summary["reading"]
    assert coverage(found)["judged"] == 0


def test_modules_of_sentence_transformers_are_judged(tmp_path: Path) -> None:
    folder = tmp_path / "st"
    families.build("bert").bert.save_pretrained(folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "Transformer"), ("2_Dense", "Dense")))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    write_model(folder / "2_Dense", {"linear.weight": weight}, "{}")
    healthy = spectra.check(folder)
    assert [one for one in told(healthy) if one[0] != "SPC004"] == []
    weight[3, 5] = torch.nan
    write_model(folder / "2_Dense", {"linear.weight": weight})
    sick = spectra.check(folder)
    assert ("SPC001", "error", "2_Dense/linear.weight") in told(sick)
    assert coverage(sick)["tensors"] == coverage(healthy)["tensors"]


def test_a_model_of_empty_stubs_is_told_as_such(tmp_path: Path, llama: Path) -> None:
    stubs = {name: torch.zeros(0) for name in load_file(llama / WEIGHTS)}
    write_model(tmp_path / "stubs", stubs, (llama / "config.json").read_text())
    with pytest.raises(NothingToAnalyseError, match="21 tensors of it without elements: the save"):
        spectra.check(tmp_path / "stubs")


def test_a_weight_of_which_only_the_scale_is_left_is_missing(tmp_path: Path, llama: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    packed: dict[str, Tensor] = {}
    for key, value in load_file(llama / WEIGHTS).items():
        if ".layers." in key and value.dim() == 2:
            scale = value.abs().max() / 448
            packed |= {key: (value / scale).to(torch.float8_e4m3fn), f"{key}_scale": scale[None]}
        else:
            packed[key] = value
    config = json.loads((llama / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    write_model(tmp_path / "whole", packed, json.dumps(config))
    assert told(spectra.check(tmp_path / "whole")) == []
    del packed[name]
    write_model(tmp_path / "lacking", packed, json.dumps(config))
    found = spectra.check(tmp_path / "lacking")
    assert told(found) == [("SPC004", "error", name)]
    assert coverage(found)["missing"] == 1
