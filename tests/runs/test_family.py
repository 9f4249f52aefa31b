"""Several checkpoints together: what is planned, what is known of each, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spectra
from examples import write_model
from scaled import scaled_weights, write_scaled, write_state
from spectra.analyzers import Trend, Width
from spectra.checkpoint.trainer import Training
from spectra.errors import CheckpointError, PairingError, UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis, names_of
from spectra.runs.family import Given, plan_trend, plan_width, read_settings


def law(power: float, width: int) -> Callable[[str, int], float]:
    """sigma_1 = d^power, twice that in the second layer."""
    return lambda _module, layer: width**power * (2.0 if layer == 1 else 1.0)


def flat(top: float) -> Callable[[str, int], float]:
    """The same sigma_1 everywhere."""
    return lambda _module, _layer: top


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    """Widths 16, 32 and 64 with sigma_1 ~ d^0.25, the last one deeper."""
    return [
        write_scaled(tmp_path / f"proxy-{width}", width, law(0.25, width), layers)
        for width, layers in ((16, 3), (32, 3), (64, 5))
    ]


@pytest.fixture
def run(tmp_path: Path) -> list[Path]:
    """Steps 100, 200 and 1000 of one run, whose sigma_1 doubles each time."""
    return [
        write_scaled(tmp_path / f"checkpoint-{step}", 16, flat(top))
        for step, top in ((100, 1.0), (200, 2.0), (1000, 4.0))
    ]


def planned(models: list[Path], against: Path | None = None, **given: Any) -> Analysis:  # noqa: ANN401
    proxy = None if against is None else spectra.open(against)
    opened = [spectra.open(model) for model in models]
    return plan_width(opened, proxy, Given(**given), Width(), Selection())


def members(series: Analysis) -> list[tuple[str, int, float | None, float | None, bool]]:
    analyzer = series.analyzer
    assert isinstance(analyzer, Width)
    return [(m.model, m.width, m.eta, m.weight_decay, m.proxy) for m in analyzer.members]


def test_widths_are_read_and_slopes_found(family: list[Path]) -> None:
    result = spectra.width(family)
    assert [model.labels for model in result.models] == [
        {"model": "proxy-16", "width": 16},
        {"model": "proxy-32", "width": 32},
        {"model": "proxy-64", "width": 64},
    ]
    slopes = {role["role"]: role["slope"] for role in result.summary["roles"]}
    for kind in ("attn.q", "attn.k", "mlp.up", "mlp.down"):
        assert slopes[kind] == pytest.approx(0.25, abs=1e-3), kind
    assert result.summary["overall"]["slope"] == pytest.approx(0.25, abs=1e-3)
    frame = result.frame
    assert set(frame["model"]) == {"proxy-16", "proxy-32", "proxy-64"}
    assert set(frame["width"]) == {16, 32, 64}
    assert len(frame) == 13 + 13 + 21


def test_the_document_is_json_and_says_which_model_each_row_is_of(family: list[Path]) -> None:
    result = spectra.width(family, eta=[4e-3, 2e-3, 1e-3], weight_decay=0.1)
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["command"] == "width"
    assert document["settings"]["members"][0] == {
        "model": "proxy-16", "width": 16, "eta": 4e-3, "weight_decay": 0.1, "proxy": False,
    }  # fmt: skip
    assert {row["model"] for row in document["rows"]} == {"proxy-16", "proxy-32", "proxy-64"}
    assert {item["model"] for item in document["skipped"]} == {"proxy-16", "proxy-32", "proxy-64"}
    assert [model["width"] for model in document["models"]] == [16, 32, 64]


def test_options_go_before_the_file_and_the_file_before_the_trainer(
    family: list[Path], tmp_path: Path
) -> None:
    for folder in family:
        write_state(folder, 10, (1e-5, 7e-3, 1e-3))
    assert [m[2] for m in members(planned(family))] == [7e-3] * 3
    settings = tmp_path / "family.toml"
    settings.write_text(
        "lambda = 0.1\n[proxy-16]\neta = 4e-3\n[proxy-64]\neta = 1e-3\nlambda = 2\n"
    )
    found = members(planned(family, training=settings))
    assert [m[2:4] for m in found] == [(4e-3, 0.1), (7e-3, 0.1), (1e-3, 2.0)]
    found = members(planned(family, training=settings, eta=[1e-4], weight_decay=[1.0, 2.0, 3.0]))
    assert [m[2:4] for m in found] == [(1e-4, 1.0), (1e-4, 2.0), (1e-4, 3.0)]


def test_a_table_may_name_the_run_that_a_checkpoint_is_of(tmp_path: Path) -> None:
    models = [
        write_scaled(tmp_path / f"d{width}" / "checkpoint-9", width, law(0.0, width))
        for width in (8, 16)
    ]
    settings = tmp_path / "family.toml"
    settings.write_text("[d8]\neta = 4e-3\n[d16]\neta = 2e-3\n[d32]\neta = 1e-3\n")
    found = members(planned(models, training=settings))
    assert [m[:3] for m in found] == [("d8", 8, 4e-3), ("d16", 16, 2e-3)]


def test_a_proxy_makes_one_model_enough(family: list[Path]) -> None:
    series = planned(family[2:], family[0], eta=[1e-3, 4e-3])
    assert members(series) == [
        ("proxy-64", 64, 1e-3, None, False),
        ("proxy-16", 16, 4e-3, None, True),
    ]
    matching = series.run().summary["matching"]
    assert {item["role"] for item in matching} >= {"attn.q", "attn.k", "mlp.up", "mlp.down"}
    for item in matching:
        assert item["ratio"] == pytest.approx(4.0**0.25, rel=1e-3)
        assert item["ok"] is False


def test_matching_works_at_one_width(family: list[Path], tmp_path: Path) -> None:
    tensors = scaled_weights(16, law(0.25, 16))
    twice = write_model(tmp_path / "twice", {k: 2.0 * v for k, v in tensors.items()})
    matching = spectra.width([twice], against=family[0]).summary["matching"]
    assert [item["ratio"] for item in matching] == [pytest.approx(2.0, rel=1e-3)] * len(matching)


def test_widths_may_be_given(family: list[Path]) -> None:
    assert [m[1] for m in members(planned(family, widths=[1, 2, 3]))] == [1, 2, 3]


def test_a_selection_narrows_each(family: list[Path]) -> None:
    result = spectra.width(family, selection=spectra.Selection(roles="mlp", layers="0-1"))
    assert {role["role"] for role in result.summary["roles"]} == {"mlp.up", "mlp.down"}
    assert len(result.rows) == 12


def test_progress_is_that_of_the_whole(family: list[Path]) -> None:
    seen: list[float] = []
    planned(family).run(report=lambda progress: seen.append(progress.done / progress.total))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_an_estimate_sums_up(family: list[Path]) -> None:
    whole = planned(family).estimate()
    assert whole.matrices == whole.tensors == 47
    assert whole.nbytes == sum(
        tensor.numel() * 4
        for width, layers in ((16, 3), (32, 3), (64, 5))
        for tensor in scaled_weights(width, law(0.25, width), layers).values()
        if tensor.ndim == 2
    )


def refusal(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_what_has_no_slope_is_refused(family: list[Path], minilm: Path) -> None:
    assert refusal(UsageError, lambda: planned(family[:1])) == (
        f"{family[0]} alone has no slope. Give two models of different widths or more, or one to "
        "match it to: against=PROXY."
    )
    assert refusal(UsageError, lambda: planned([])).startswith("no model has no slope.")
    assert refusal(UsageError, lambda: planned([family[0], family[0]])) == (
        "all 2 models are 16 wide: nothing scales. Give models of different widths, or compare at "
        "one width: against=PROXY."
    )
    assert "are not of one family" in refusal(PairingError, lambda: planned([family[0], minilm]))


def test_an_adapter_is_no_member(family: list[Path], minilm_lora: Path) -> None:
    text = refusal(UsageError, lambda: planned([family[0], minilm_lora]))
    assert "is a LoRA adapter, not a model" in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"eta": [1.0, 2.0]}, "eta= has 2 values for 3 models"),
        ({"weight_decay": [1.0] * 4}, "weight_decay= has 4 values for 3 models"),
        ({"widths": [8, 16]}, "widths= has 2 values for 3 models"),
    ],
)
def test_lists_must_go_with_the_models(
    family: list[Path], given: dict[str, Any], told: str
) -> None:
    text = refusal(UsageError, lambda: planned(family, **given))
    assert text.startswith(told)
    assert text.endswith("Give one for all or one a model, in this order.")


def test_architectures_that_differ_by_their_own_word_are_told(
    family: list[Path], tmp_path: Path
) -> None:
    other = write_model(tmp_path / "m", scaled_weights(64, law(0, 64)), '{"model_type": "mistral"}')
    reading = spectra.width([family[0], other]).summary["reading"]
    assert f"{family[0]} calls itself 'llama' and {other} 'mistral'" in reading


SETTINGS = {
    "[a]\neta = 'high'\n": "[a] of FILE: eta is 'high', expected a number above 0.",
    "[a]\neta = 0\n": "[a] of FILE: eta is 0, expected a number above 0.",
    "lambda = nan\n": "FILE: lambda is nan, expected a number above 0.",
    "[a]\nlr = 1\n": "[a] of FILE has the key 'lr', expected eta (the learning rate of the "
    "matrices) and lambda (their weight decay).",
    "[b]\neta = 1\n": "FILE has the tables 'b', and none names a model given, such as 'proxy-16'.",
}


@pytest.mark.parametrize(("text", "told"), SETTINGS.items(), ids=range(len(SETTINGS)))
def test_settings_that_cannot_be_meant(
    family: list[Path], tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "family.toml"
    path.write_text(text)
    found = refusal(UsageError, lambda: planned(family, training=path))
    assert found == told.replace("FILE", str(path))


def test_settings_that_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_bytes(b"\xff")
    assert "is not TOML" in refusal(CheckpointError, lambda: read_settings(path))
    path.write_text("eta 3")
    assert "is not TOML" in refusal(CheckpointError, lambda: read_settings(path))
    text = refusal(CheckpointError, lambda: read_settings(tmp_path / "none.toml"))
    assert text.endswith("none.toml cannot be read: No such file or directory.")


def test_settings_hold_what_counts_for_all(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text("lambda = 1\n[a]\n[b]\nlambda = 2.5\neta = 1e-3")
    assert read_settings(path) == {
        "": Training(None, 1.0), "a": Training(None, 1.0), "b": Training(1e-3, 2.5),
    }  # fmt: skip


def test_a_run_is_followed_by_its_steps(run: list[Path]) -> None:
    result = spectra.trend([run[2], run[0], run[1]])
    assert result.command == "trend"
    assert result.summary["steps"] == [100, 200, 1000]
    assert [model.labels["model"] for model in result.models] == [
        "checkpoint-100", "checkpoint-200", "checkpoint-1000",
    ]  # fmt: skip
    roles = {role["role"]: role for role in result.summary["roles"]}
    assert roles["attn.q"]["sigma_max"] == [pytest.approx(v, rel=1e-4) for v in (1.0, 2.0, 4.0)]
    assert roles["attn.q"]["kappa"] == [pytest.approx(1 / 0.3, rel=1e-3)] * 3
    assert roles["embed"]["matrices"] == 1
    json.dumps(result.document(), allow_nan=False)
    assert set(result.frame["step"]) == {100, 200, 1000}


def test_what_is_no_run_is_refused(run: list[Path], family: list[Path], tmp_path: Path) -> None:
    def plan(*folders: Path) -> Analysis:
        return plan_trend([spectra.open(folder) for folder in folders], Trend(), Selection())

    assert refusal(UsageError, lambda: plan(run[0])) == (
        f"{run[0]} alone has no trend. Give two checkpoints of the run or more, like "
        "run/checkpoint-*/."
    )
    assert refusal(UsageError, plan).startswith("no checkpoint has no trend.")
    text = refusal(PairingError, lambda: plan(run[0], family[1]))
    assert "checkpoint-100 and proxy-32 are not of one run" in text
    write_state(run[1], 100)
    assert refusal(UsageError, lambda: plan(run[0], run[1])) == (
        f"{run[0]} and {run[1]} are both of step 100. Give one checkpoint a step."
    )
    nameless = write_model(tmp_path / "end" / "final", scaled_weights(16, law(0, 16)))
    assert refusal(UsageError, lambda: plan(run[0], nameless)) == (
        f"the training step of {nameless} is unknown: no number in its name and no "
        "trainer_state.json in it. Name it like checkpoint-500."
    )


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["a/x", "a/y"], ["x", "y"]),
        (["a/x/", "b/x/"], ["a/x", "b/x"]),
        (["r1/c/x", "r2/c/x", "r1/c/y"], ["r1/c/x", "r2/c/x", "r1/c/y"]),
        (["a", "a"], ["a (1)", "a (2)"]),
        (["r/d8/checkpoint-5", "r/d16/checkpoint-9"], ["d8", "d16"]),
        (["r/d8/checkpoint-5", "r/d8/checkpoint-9"], ["checkpoint-5", "checkpoint-9"]),
        (["checkpoint-5", "r/checkpoint-9"], ["checkpoint-5", "checkpoint-9"]),
        (["/", "."], ["/", "."]),
        (["org/model@main", "org/model@v2"], ["model@main", "model@v2"]),
    ],
)
def test_names_are_as_short_as_tells_apart(specs: list[str], names: list[str]) -> None:
    assert names_of(specs) == names
