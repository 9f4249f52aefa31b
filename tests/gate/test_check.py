import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import spectra
from adapters import trained
from examples import write_model
from report.html import documents
from spectra.errors import CheckpointError, NothingToAnalyseError, SpectraError, UsageError
from spectra.gate import plan_check
from spectra.gate.check import alias_of
from spectra.policy import Ignore, Policy
from spectra.report.formats import to_text

LAYERS = 5


def tensors(seed: int = 3) -> dict[str, Tensor]:
    """A Llama-like model whose layers are alike."""
    generator = torch.Generator().manual_seed(seed)
    found = {"model.embed_tokens.weight": torch.randn(40, 16, generator=generator)}
    for layer in range(LAYERS):
        for name, rows, cols in (
            ("self_attn.q_proj", 16, 16),
            ("self_attn.k_proj", 16, 16),
            ("mlp.up_proj", 32, 16),
        ):
            key = f"model.layers.{layer}.{name}.weight"
            found[key] = torch.randn(rows, cols, generator=generator)
        found[f"model.layers.{layer}.input_layernorm.weight"] = torch.ones(16) + layer
    return found


def q(layer: int) -> str:
    return f"model.layers.{layer}.self_attn.q_proj.weight"


def tuned(amount: float = 0.03) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        name: value + amount * torch.randn(value.shape, generator=generator)
        for name, value in tensors().items()
    }


def write(folder: Path, found: Mapping[str, Tensor]) -> Path:
    return write_model(folder, found, '{"model_type": "llama", "num_hidden_layers": 5}')


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base", tensors())


def codes(found: spectra.Result) -> list[tuple[str, str | None]]:
    return [(one["rule"], one["matrix"]) for one in found.summary["findings"]]


def test_a_healthy_model_passes(base: Path) -> None:
    found = spectra.check(base)
    assert codes(found) == []
    assert found.summary["reading"] == (
        "PASS  no findings in 21 tensors (coverage 100 %). Nothing outside the layers was "
        "compared: no base."
    )
    assert (found.summary["passed"], found.summary["exit_code"]) == (True, 0)
    assert len(found.rows) == 21  # vectors too
    vector = next(
        row for row in found.rows if row.matrix.endswith("layers.0.input_layernorm.weight")
    )
    assert vector.place.role == "vector"
    assert vector.number("largest") == 1.0


def test_a_healthy_tuned_model_passes_against_its_base(base: Path, tmp_path: Path) -> None:
    found = spectra.check(write(tmp_path / "tuned", tuned()), base=base)
    assert codes(found) == []
    judged = {one["code"]: one["judged"] for one in found.summary["rules"]}
    assert judged["SPC101"]
    assert judged["SPC104"]
    row = next(row for row in found.rows if row.matrix == q(0))
    assert 0.0 < (row.number("delta_relative") or 0.0) < 0.1
    assert row.number("kappa") is not None


def test_numbers_are_those_of_the_analyses(base: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "tuned", tuned())
    found = {row.matrix: row for row in spectra.check(folder, base=base).rows}
    for row in spectra.spectrum(folder).rows:
        for key in ("sigma_max", "kappa", "effective_rank", "alpha"):
            assert found[row.matrix].number(key) == row.number(key)
    for row in spectra.diff(base, folder, intruders=True).rows:
        for key in ("delta_relative", "delta_rank", "intruders"):
            assert found[row.matrix].number(key) == row.number(key)


def test_a_matrix_that_is_not_finite_is_a_finding_and_the_rest_is_judged(
    base: Path, tmp_path: Path
) -> None:
    sick = tuned()
    sick[q(1)][3, 4] = torch.nan
    found = spectra.check(write(tmp_path / "sick", sick), base=base)
    assert codes(found) == [("SPC001", q(1))]
    assert found.summary["reading"].startswith("FAIL  1 error in 21 tensors (coverage 100 %).")
    assert json.loads(to_text(found.document(), "json"))["summary"]["exit_code"] == 1


def test_the_base_may_have_a_prefix(base: Path, tmp_path: Path) -> None:
    inner = {name.removeprefix("model."): value for name, value in tensors().items()}
    short = write(tmp_path / "short", inner)
    found = spectra.check(write(tmp_path / "tuned", tuned()), base=short)
    assert codes(found) == []
    row = next(row for row in found.rows if row.matrix == q(2))
    assert row.number("delta_relative")
    swapped = tensors()
    k = q(2).replace("q_proj", "k_proj")
    swapped[q(2)], swapped[k] = swapped[k], swapped[q(2)]
    told = spectra.check(write(tmp_path / "swapped", swapped), base=short, select="SPC106")
    assert codes(told) == [("SPC106", k), ("SPC106", q(2))]


def test_a_baseline_that_is_a_model_stands_in_for_the_base(base: Path, tmp_path: Path) -> None:
    large = tuned()
    large[q(3)] *= 2.0
    found = spectra.check(write(tmp_path / "large", large), baseline=base)
    told = {one["rule"]: one for one in found.summary["findings"]}
    assert told["SPC102"]["matrix"] == q(3)
    assert told["SPC102"]["state"] == "new"
    assert [model.part for model in found.models] == ["model", "baseline"]


def test_a_saved_baseline_needs_no_weights(base: Path, tmp_path: Path) -> None:
    sick = tensors()
    sick[q(1)][3, 4] = torch.nan
    old = write(tmp_path / "old", sick)
    saved = tmp_path / "old.json"
    saved.write_text(to_text(spectra.check(old).document(), "json"))
    (old / "model.safetensors").unlink()
    again = spectra.check(write(tmp_path / "new", sick), baseline=saved)
    assert [one["state"] for one in again.summary["findings"]] == ["unchanged"]
    assert again.summary["passed"]
    better = spectra.check(base, baseline=saved)
    assert [(one["state"], one["matrix"]) for one in better.summary["findings"]] == [("gone", q(1))]
    assert better.summary["passed"]


def test_a_live_baseline_gives_the_findings_of_a_saved_one(base: Path, tmp_path: Path) -> None:
    sick = tensors()
    sick[q(1)][3, 4] = torch.nan
    sick[q(2)][:] = 0.0
    old = write(tmp_path / "old", sick)
    saved = tmp_path / "old.json"
    saved.write_text(to_text(spectra.check(old).document(), "json"))
    sick[q(3)][0, 0] = torch.inf
    new = write(tmp_path / "new", sick)
    states = [
        [(one["rule"], one["matrix"], one["state"]) for one in found.summary["findings"]]
        for found in (
            spectra.check(new, baseline=saved, ignore="SPC1"),
            spectra.check(new, baseline=old, ignore="SPC1"),
        )
    ]
    assert states[0] == states[1]
    assert ("SPC001", q(3), "new") in states[0]
    assert ("SPC001", q(1), "unchanged") in states[0]


def test_what_the_policy_accepts_is_gone_where_a_live_baseline_had_it(
    base: Path, tmp_path: Path
) -> None:
    sick = tensors()
    sick[q(1)][3, 4] = torch.nan
    old = write(tmp_path / "old", sick)
    known = Policy(baseline=str(old), ignores=(Ignore("SPC001", "known"),))
    (one,) = spectra.check(base, policy=known, select="SPC001").summary["findings"]
    assert (one["matrix"], one["state"]) == (q(1), "gone")


def test_rows_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = {f"h.{i}.w.weight": torch.randn(4, 4 + i % 2) for i in (10, 2, 1)}
    rows = spectra.check(write_model(tmp_path / "odd", found), select="SPC001").rows
    assert [row.matrix for row in rows] == [f"h.{i}.w.weight" for i in (1, 2, 10)]


def test_a_regression_is_judged_by_a_saved_baseline(base: Path, tmp_path: Path) -> None:
    saved = tmp_path / "base.json"
    saved.write_text(to_text(spectra.check(base).document(), "json"))
    large = tensors()
    large[q(3)] *= 3.0
    found = spectra.check(write(tmp_path / "large", large), baseline=saved)
    told = [one for one in found.summary["findings"] if one["rule"] == "SPC204"]
    assert [one["matrix"] for one in told] == [q(3)]
    assert "in the baseline: worse by more than" in told[0]["message"]


def test_an_adapter_is_judged_with_its_base(base: Path, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(24, 24) for _ in range(4)))
    trained(model, tmp_path / "lora", target_modules=["0", "1", "2"], r=2)
    folder = tmp_path / "lora"
    adapter = next(path for path in folder.iterdir() if (path / "adapter_config.json").exists())
    found = spectra.check(adapter, base=folder / "base", ignore=("SPC101", "SPC102"))
    assert [one["rule"] for one in found.summary["findings"]] == []
    compared = [row for row in found.rows if row.values.get("delta_norm")]
    assert [row.matrix for row in compared] == ["0.weight", "1.weight", "2.weight"]
    alone = spectra.check(adapter)
    assert {one["code"]: one["judged"] for one in alone.summary["rules"]}["SPC001"]
    with pytest.raises(UsageError, match="is a LoRA adapter: give the model"):
        spectra.check(folder / "base", base=adapter)


def test_the_proxy_of_a_policy_is_matched(base: Path, tmp_path: Path) -> None:
    wide = {
        name: value.repeat(*([2] * value.ndim)) * (1.5 if "q_proj" in name else 0.5)
        for name, value in tensors().items()
    }
    folder = write(tmp_path / "wide", wide)
    policy = Policy(select=("SPC4",), rules={"SPC401": {"proxy": str(base), "tolerance": 0.2}})
    found = plan_check(str(folder), policy).run()
    assert [one["place"] for one in found.summary["findings"]] == ["attn.q"]
    assert found.summary["findings"][0]["value"] == pytest.approx(3.0, rel=1e-3)


def test_coverage_below_the_policys_is_no_pass(base: Path) -> None:
    full = plan_check(str(base), Policy(min_coverage=1.0)).run()
    assert full.summary["exit_code"] == 0
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[:-1000])
    cut = plan_check(str(base), Policy(min_coverage=0.99)).run()
    assert cut.summary["exit_code"] == 3
    assert cut.summary["coverage"]["judged"] < cut.summary["coverage"]["tensors"] == 21
    assert cut.summary["reading"].startswith("INCOMPLETE  ")
    assert plan_check(str(base), Policy()).run().summary["exit_code"] == 1


def test_a_check_says_the_same_from_run_to_run(base: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "tuned", tuned(0.5))
    one, two = (to_text(spectra.check(folder, baseline=base).document(), "json") for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "the whole is a list, expected an object"),
        ("{}", "schema is missing, expected 'spectra/1'"),
        (json.dumps(documents.kappa(1)), "is 'spectra/1 kappa', expected spectra/1 check. Make it"),
        (json.dumps(documents.check(1) | {"rows": [{}]}), r"rows\[0\].tensor is missing"),
        (
            json.dumps(documents.check(1) | {"models": []}),
            "models is a list, expected at least 1 in it",
        ),
    ],
    ids=["cut", "list", "empty", "kappa", "rows", "models"],
)
def test_a_baseline_that_is_no_saved_check_is_refused(
    base: Path, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(SpectraError, match=message):
        spectra.check(base, baseline=path)


def test_what_does_not_exist_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"baseline .*none.json does not exist. Make it"):
        spectra.check(base, baseline=tmp_path / "none.json")
    with pytest.raises(CheckpointError, match="does not exist"):
        spectra.check(tmp_path / "none")
    with pytest.raises(CheckpointError, match="does not exist"):
        spectra.check(base, base=str(tmp_path / "none"))


def test_a_model_without_weights_is_nothing_to_judge(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "ids", {"position_ids": torch.arange(4)})
    with pytest.raises(NothingToAnalyseError, match="no weights that can be judged"):
        spectra.check(folder)


def test_scalars_and_odd_tensors_are_looked_at(tmp_path: Path) -> None:
    odd = {
        "scale": torch.tensor(torch.nan),
        "kernel": torch.ones(2, 3, 2, 2),
        "w": torch.randn(4, 4, generator=torch.Generator().manual_seed(0)),
        "empty": torch.zeros(0, 3),
    }
    found = spectra.check(write_model(tmp_path / "odd", odd), select="SPC001")
    assert codes(found) == [("SPC001", "scale")]


@pytest.mark.parametrize(
    ("spec", "alias"),
    [
        ("release/", "release"),
        ("/a/b/model-v1", "model-v1"),
        ("org/name@v1.2", "name"),
        ("hf://org/name@main", "name"),
        ("file.gguf", "file.gguf"),
    ],
    ids=str,
)
def test_a_models_short_name_leaves_out_place_and_revision(spec: str, alias: str) -> None:
    assert alias_of(spec) == alias


def test_an_estimate_counts_each_file_once_and_reads_no_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shutil.copytree(base, tmp_path / "before")
    monkeypatch.setattr("spectra.work.load.Loader.load", None)
    stored = load_file(base / "model.safetensors").values()
    size = sum(value.nbytes for value in stored)
    matrices = sum(value.ndim > 1 for value in stored)
    assert 0 < matrices < len(stored)
    for baseline, times in ((base, 1), (before, 2)):
        found = plan_check(str(base), Policy(baseline=str(baseline))).estimate()
        assert found.tensors == 21
        assert found.matrices == matrices
        assert found.nbytes == times * size
