"""The action, the GitLab job and the pre-commit hook, run for real as far as that goes here."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor

from examples import write_model
from runner import EXPRESSION, ROOT, Job, Runner, bare_python, checked_out, in_environment

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
UPLOAD = "github/codeql-action/upload-sarif@v4"
POLICY = """
schema = 1

[[ignore]]
code = "SPC001"
tensors = ["model.layers.1.*"]
reason = "known, issue 42"
"""


@dataclass(frozen=True)
class First:
    """A machine, and the first job that ran there."""

    runner: Runner
    job: Job


def weights(**changes: float) -> Mapping[str, Tensor]:
    """Four layers of two matrices; `layer_2 = nan` puts that into one of layer 2."""
    source = torch.Generator().manual_seed(3)
    made = {
        f"model.layers.{layer}.{name}.weight": torch.randn(24, 24, generator=source)
        for layer in range(4)
        for name in ("self_attn.q_proj", "mlp.up_proj")
    }
    for key, value in changes.items():
        made[f"model.layers.{key.removeprefix('layer_')}.mlp.up_proj.weight"][3, 4] = value
    return made


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checked_out(tmp_path_factory.mktemp("actions") / "spectra")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a healthy model, a sick one, and one known to be sick."""
    folder = tmp_path_factory.mktemp("workspace")
    for name, made in (
        ("good", weights()),
        ("bad one", weights(layer_2=torch.nan)),
        ("known", weights(layer_1=torch.nan)),
    ):
        (folder / name).mkdir()
        write_model(folder / name, made)
    (folder / "gate.toml").write_text(POLICY)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, action: Path, workspace: Path) -> First:
    """A machine without spectra, and the job that installs it there."""
    home = tmp_path_factory.mktemp("runner")
    runner = Runner(bare_python(home), home)
    job = runner.run(action, workspace, model="good")
    return First(replace(runner, ready=frozenset({"Install spectra"})), job)


@pytest.fixture
def runner(first: First) -> Runner:
    """The machine, spectra being installed."""
    return first.runner


@pytest.fixture(scope="module")
def bad(first: First, action: Path, workspace: Path) -> Job:
    return first.runner.run(action, workspace, model="bad one")


def test_a_healthy_model_passes(first: First) -> None:
    job = first.job
    assert not job.failed, job.log
    assert job.outputs["exit-code"] == "0"
    found = json.loads(Path(job.outputs["json"]).read_text())
    assert found["summary"]["passed"] is True
    assert "::error" not in job.log
    assert "**PASS**" in job.summary
    assert list(job.used) == [UPLOAD]


def test_what_was_checked_by_is_what_was_installed(first: First) -> None:
    """The action's own checkout, and not the tree in which these tests stand."""
    words = [str(first.runner.python / "python"), "-c", "import spectra; print(spectra.__file__)"]
    place = subprocess.run(words, cwd="/", capture_output=True, text=True, check=True).stdout
    assert place.startswith(str(first.runner.home))


def test_a_sick_model_fails_after_all_was_written(bad: Job) -> None:
    assert bad.failed
    assert bad.outputs["exit-code"] == "1"
    found = json.loads(Path(bad.outputs["json"]).read_text())
    assert [one["rule"] for one in found["summary"]["findings"]] == ["SPC001"]
    assert "::error title=spectra (SPC001) non-finite,file=bad one/model.safetensors" in bad.log
    assert "**FAIL**" in bad.summary
    assert "model.layers.2.mlp.up" in bad.summary


def test_code_scanning_gets_what_is_open(
    runner: Runner, action: Path, workspace: Path, bad: Job
) -> None:
    schema = json.loads((ROOT / "tests" / "data" / "sarif-schema-2.1.0.json").read_text())
    job = runner.run(action, workspace, model="known", policy="gate.toml")
    assert not job.failed, job.log
    for one, open_results, results in ((bad, 1, 1), (job, 0, 1)):
        uploaded = json.loads(Path(one.used[UPLOAD]["sarif_file"]).read_text())
        whole = json.loads(Path(one.outputs["sarif"]).read_text())
        jsonschema.Draft7Validator(schema).validate(uploaded)
        assert len(uploaded["runs"][0]["results"]) == open_results
        assert len(whole["runs"][0]["results"]) == results


def test_inputs_become_options(runner: Runner, action: Path, workspace: Path, bad: Job) -> None:
    job = runner.run(
        action, workspace, model="bad one", baseline=bad.outputs["json"],
        args="--fail-on 'error' --ignore SPC2 --ignore SPC3", upload_sarif="false",
    )  # fmt: skip
    assert not job.failed, job.log
    found = json.loads(Path(job.outputs["json"]).read_text())
    assert [one["state"] for one in found["summary"]["findings"]] == ["unchanged"]
    assert found["settings"]["ignore"] == ["SPC2", "SPC3"]
    assert not job.used
    moved = runner.run(action, workspace, model="good", base="good")
    assert not moved.failed, moved.log
    parts = json.loads(Path(moved.outputs["json"]).read_text())["models"]
    assert [part["part"] for part in parts] == ["model", "base"]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"model": "nowhere"}, "error: nowhere "),
        ({"model": "good", "args": "--fail-on 'never"}, "cannot be split into words"),
        ({"model": "good", "args": "--no-such-option"}, "--no-such-option"),
    ],
    ids=["no model", "an open quote", "no option"],
)
def test_what_could_not_be_judged_is_not_green(
    runner: Runner, action: Path, workspace: Path, inputs: dict[str, str], told: str
) -> None:
    job = runner.run(action, workspace, **inputs)
    assert job.failed
    assert told in job.log
    assert job.outputs["exit-code"] in ("2", "")
    assert not job.used


@pytest.fixture
def recorder(tmp_path: Path, first: First) -> Runner:
    """A machine whose spectra notes its words, one a line, and exits with 7."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    (folder / "spectra").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    (folder / "spectra").chmod(0o755)
    return Runner(folder, tmp_path, first.runner.ready)


HARM = "x\"; touch harm-1; $(touch harm-2) `touch harm-3` ${IFS} ' * %s --x"


@pytest.mark.parametrize("name", ["model", "policy", "base", "baseline"])
def test_an_input_is_one_word_and_never_run(
    name: str, recorder: Runner, action: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    job = recorder.run(action, tmp_path / "work", **({"model": "good"} | {name: HARM}))
    words = job.log.splitlines()
    assert words[:3] == ["check", "--format", "github"]
    before = "--" if name == "model" else f"--{name}"
    assert words[words.index(before) + 1] == HARM
    assert words[-2:] == ["--", HARM if name == "model" else "good"]
    assert not list((tmp_path / "work").iterdir())


def test_args_are_split_as_a_shell_does_and_never_run(
    recorder: Runner, action: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    args = "--ignore 'a b' $(touch harm-1) `touch harm-2` ; touch harm-3 \\\nlast"
    job = recorder.run(action, tmp_path / "work", model="good", args=args)
    assert job.log.splitlines()[7:-2] == [
        "--ignore", "a b", "$(touch", "harm-1)", "`touch", "harm-2`", ";", "touch", "harm-3",
        *["", "last"],
    ]  # fmt: skip
    assert not list((tmp_path / "work").iterdir())


def test_the_code_of_the_check_is_that_of_the_action(
    recorder: Runner, action: Path, tmp_path: Path
) -> None:
    job = recorder.run(action, tmp_path, model="good")
    assert job.failed
    assert job.outputs == {"exit-code": "7", "json": "", "sarif": ""}


def test_another_version_is_asked_for_by_number(
    runner: Runner, action: Path, workspace: Path
) -> None:
    bare = replace(runner, ready=frozenset())
    for version, told in (("99.1", "spectra-weights==99.1"), ("1; touch harm", "touch harm")):
        job = bare.run(action, workspace, model="good", version=version)
        assert job.failed
        assert told in job.log
        assert "check" not in job.steps
    assert not (workspace / "harm").exists()


def test_no_expression_stands_in_a_script() -> None:
    scripts = [step["run"] for step in STEPS if "run" in step]
    assert len(scripts) == 3
    assert not any(EXPRESSION.search(script) for script in scripts)


def test_the_last_step_alone_says_the_verdict() -> None:
    *_, upload, verdict = STEPS
    assert upload["uses"] == UPLOAD
    assert upload["if"].startswith("always() &&")
    assert verdict["if"] == "always()"
    assert re.fullmatch(r'exit "\$\{SPECTRA_EXIT_CODE:-2\}"', verdict["run"])


def test_every_input_is_used_and_every_output_has_a_source() -> None:
    text = (ROOT / "action.yml").read_text()
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == set(ACTION["inputs"])
    named = {f"{step['id']}" for step in STEPS if "id" in step}
    assert set(re.findall(r"steps\.([\w-]+)\.", text)) <= named
    assert set(ACTION["outputs"]) == {"exit-code", "json", "sarif"}


# GitLab


def gitlab_job() -> dict[str, Any]:
    (job,) = yaml.safe_load((ROOT / "docs" / "gitlab-ci.yml").read_text()).values()
    return dict(job)


@pytest.mark.parametrize(
    ("model", "policy", "code"), [("known", "gate.toml", 0), ("bad one", "", 1)]
)
def test_the_gitlab_job(model: str, policy: str, code: int, workspace: Path) -> None:
    job = gitlab_job()
    (line,) = job["script"]
    done = subprocess.run(
        ["bash", "-e", "-c", line], cwd=workspace, check=False, capture_output=True, text=True,
        env=in_environment(Path(sys.executable).parent, MODEL=model, POLICY=policy),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    for name in job["artifacts"]["paths"]:
        assert (workspace / name).stat().st_size > 0
        (workspace / name).unlink()
    assert job["artifacts"]["reports"]["junit"] in job["artifacts"]["paths"]
    assert job["artifacts"]["when"] == "always"
