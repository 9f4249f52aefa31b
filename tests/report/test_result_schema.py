"""The published schema of results: of real results of every command, and of nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

import spectra
import spectra.lowrank
from examples import write_lora, write_model
from scaled import write_attention, write_scaled, write_state
from spectra.report.document import result_schema, result_schema_text
from spectra.report.formats import to_text
from spectra.report.kinds import kinds

PUBLISHED = Path(__file__).parents[2] / "docs" / "result.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(result_schema())
    return jsonschema.Draft202012Validator(result_schema())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A document of every command, as it is written."""
    folder = tmp_path_factory.mktemp("results")
    models = [
        write_scaled(folder / f"d{width}", width, lambda _module, _layer: 2.0, layers=5)
        for width in (8, 16)
    ]
    tensors = load_file(models[0] / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = 3.0 * tensors[name]
    moved = write_model(folder / "moved", tensors, '{"model_type": "llama"}')
    tensors["model.layers.2.mlp.up_proj.weight"][0, 0] = torch.nan
    sick = write_model(folder / "sick", tensors, '{"model_type": "llama"}')
    policy = folder / "spectra.toml"
    policy.write_text('[[ignore]]\ncode = "SPC001"\nreason = "known"\nuntil = 2999-01-01\n')
    steps = [
        write_state(write_scaled(folder / f"checkpoint-{step}", 8, lambda _m, _l: 2.0), step)
        for step in (1, 2)
    ]
    modules = {"model.layers.0.self_attn.q_proj": (8, 8)}
    loras = [write_lora(folder / f"r{rank}", modules, rank) for rank in (3, 4)]
    found = {
        "ls": spectra.ls(models[0]),
        "revisions": spectra.ls(models[0], sick),
        "spectrum": spectra.spectrum(sick),
        "diff": spectra.diff(models[0], sick, intruders=True),
        "diff_several": spectra.diff(models[0], [moved, sick], merged_rank=1),
        "diff_trend": spectra.diff(models[0], [moved, sick], trend=True),
        "kappa": spectra.kappa(models[0], select="50%"),
        "heads": spectra.heads(write_attention(folder / "heads"), compose=True),
        "match": spectra.match(models[0], moved),
        "shared": spectra.shared(write_attention(folder / "layers"), group=2),
        "width": spectra.width(models),
        "trend": spectra.trend(steps),
        "lowrank_extract": spectra.lowrank.extract(models[0], moved, folder / "made", rank=2),
        "lowrank_init": spectra.lowrank.init("mica", models[0], folder / "begun", rank=2),
        "lowrank_mask": spectra.lowrank.mask(
            models[0], folder / "masks", tuned=moved, rank=1, filter_rank=2
        ),
        "lowrank_resize": spectra.lowrank.resize(loras[0], folder / "small", rank=2),
        "lowrank_merge": spectra.lowrank.merge(loras, folder / "sum"),
        "lowrank_convert": spectra.lowrank.convert(loras[0], folder / "mlx", to="mlx"),
        "lowrank_repair": spectra.lowrank.repair(models[0], moved, folder / "repaired"),
        "check": spectra.check(sick, baseline=models[0], policy=policy),
        "compare": spectra.compare(spectra.check(models[0]), spectra.check(sick)),
    }
    return {
        command: json.loads(to_text(result.document(), "json")) for command, result in found.items()
    }


def test_every_command_has_a_schema(results: dict[str, Any]) -> None:
    assert results.keys() == {kind.command for kind in kinds()}


@pytest.mark.parametrize("command", [kind.command for kind in kinds()])
def test_real_results_are_valid(
    results: dict[str, Any], validator: jsonschema.Draft202012Validator, command: str
) -> None:
    validator.validate(results[command])
    summary = results["check"]["summary"]
    assert summary["findings"]
    assert summary["ignored"]


@pytest.mark.parametrize(
    ("command", "place", "value"),
    [
        ("ls", ("command",), 3),
        ("ls", ("schema",), "spectra/2"),
        ("ls", ("models",), []),
        ("spectrum", ("rows", 0, "role"), "atn"),
        ("spectrum", ("rows", 0, "rows"), -1),
        ("spectrum", ("summary", "matrices"), "9"),
        ("kappa", ("summary", "selected"), "w"),
        ("check", ("summary", "exit_code"), 2),
        ("check", ("summary", "findings", 0, "severity"), "warn"),
        ("check", ("summary", "findings", 0, "fingerprint"), "x"),
        ("check", ("summary", "findings", 0, "state"), "fixed"),
        ("check", ("summary", "coverage", "share"), 1.5),
        ("check", ("summary", "rules", 0, "judged"), None),
    ],
    ids=str,
)
def test_a_wrong_value_is_not(
    results: dict[str, Any],
    validator: jsonschema.Draft202012Validator,
    command: str,
    place: tuple[str | int, ...],
    value: object,
) -> None:
    document = copy.deepcopy(results[command])
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert not validator.is_valid(document)


@pytest.mark.parametrize("key", ["schema", "rows", "summary", "models", "skipped"])
def test_nothing_may_be_missing(
    results: dict[str, Any], validator: jsonschema.Draft202012Validator, key: str
) -> None:
    document = {name: value for name, value in results["diff"].items() if name != key}
    assert not validator.is_valid(document)


def test_the_published_schema_is_this_one() -> None:
    assert PUBLISHED.read_text() == result_schema_text()
