"""The action, the GitLab job and the pre-commit hook, run for real as far as that goes here."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor

from examples import write_model
from runner import (
    EXPRESSION,
    ROOT,
    Job,
    Runner,
    bare_python,
    checked_out,
    contained,
    in_environment,
)

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
UPLOAD = "github/codeql-action/upload-sarif@v4"
PAGE = "actions/upload-artifact@v4"
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
    assert list(job.used) == [PAGE, UPLOAD]
    assert job.used[PAGE]["name"] == "spectra"
    files = job.used[PAGE]["path"].split()
    assert files == [job.outputs[key] for key in ("page", "json", "sarif")]
    assert "<html" in Path(job.outputs["page"]).read_text()


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
    assert list(job.used) == [PAGE]
    moved = runner.run(
        action, workspace, model="good", base="good", fail_on="note", min_coverage="98%",
        artifact="",
    )  # fmt: skip
    assert not moved.failed, moved.log
    assert list(moved.used) == [UPLOAD]
    found = json.loads(Path(moved.outputs["json"]).read_text())
    assert [part["part"] for part in found["models"]] == ["model", "base"]
    assert found["settings"]["fail_on"] == "note"
    assert found["settings"]["min_coverage"] == 0.98


def test_a_first_run_begins_the_baseline_and_is_green(
    runner: Runner, action: Path, workspace: Path, tmp_path: Path
) -> None:
    baseline = tmp_path / "base line.json"
    first = runner.run(action, workspace, model="known", baseline=str(baseline))
    assert not first.failed, first.log
    assert "This check is the baseline" in first.log
    assert "This check is the baseline" in first.summary
    assert "::error" not in first.log
    text = baseline.read_text()
    assert text == Path(first.outputs["json"]).read_text()
    later = runner.run(action, workspace, model="bad one", baseline=str(baseline))
    assert later.outputs["exit-code"] == "1"
    assert "is the baseline" not in later.log
    assert baseline.read_text() == text
    baseline.write_text(text[:200])
    damaged = runner.run(action, workspace, model="known", baseline=str(baseline))
    assert damaged.outputs["exit-code"] == "2"
    assert baseline.read_text() == text[:200]


def test_in_a_container_without_a_network(
    first: First, action: Path, workspace: Path, tmp_path: Path
) -> None:
    """Installed and run where there is no network, and no file but a system's and the job's."""
    inside = contained(tmp_path, tmp_path, action, workspace)
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")
    look = f"import os, socket; print(socket.if_nameindex(), os.path.exists({str(ROOT / 'cli')!r}))"
    words = [*inside, os.path.realpath(sys.executable), "-S", "-c", look]
    seen = subprocess.run(words, capture_output=True, text=True, check=True, cwd=workspace).stdout
    assert seen.strip() == "[(1, 'lo')] False"
    bare = Runner(bare_python(tmp_path), tmp_path, inside=inside)
    job = bare.run(action, workspace, model="bad one", baseline=str(tmp_path / "first.json"))
    assert not job.failed, job.log
    assert (tmp_path / "first.json").exists()
    assert Path(job.outputs["page"]).exists()
    later = replace(bare, ready=first.runner.ready).run(action, workspace, model="bad one")
    assert later.outputs["exit-code"] == "1"


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
    (folder / "spectra").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\nexit 7\n')
    (folder / "spectra").chmod(0o755)
    return Runner(folder, tmp_path, first.runner.ready)


HARM = "x\"; touch harm-1; $(touch harm-2) `touch harm-3` ${IFS} ' * %s --x"
HOSTILE = (HARM, "--exit-zero", "-", "a\nexit-code=0\n$(touch harm-4)\n", " ", "\\", "*", "~")
OPTIONS = ("policy", "base", "adapter", "baseline", "fail-on", "min-coverage")


@pytest.mark.parametrize("harm", HOSTILE)
def test_an_input_is_one_word_and_never_run(
    harm: str, recorder: Runner, action: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    given = {name.replace("-", "_"): harm for name in ("model", *OPTIONS)}
    job = recorder.run(action, tmp_path / "work", **given)
    words = job.log.split("\0")[:-1]
    assert words[:3] == ["check", "--format", "github"]
    assert words[7:] == [*chain(*((f"--{name}", harm) for name in OPTIONS)), "--", harm]
    assert job.outputs["exit-code"] == "7"
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("org/model@v1", ["--baseline", "org/model@v1"]),
        ("model.safetensors.index.json", ["--baseline", "model.safetensors.index.json"]),
        (f"{HARM}.json", ["--baseline", f"{HARM}.json", "--save-baseline", f"{HARM}.json"]),
    ],
    ids=["model", "index", "saved"],
)
def test_a_baseline_that_is_a_saved_check_may_be_begun(
    given: str, words: list[str], recorder: Runner, action: Path, tmp_path: Path
) -> None:
    job = recorder.run(action, tmp_path, model="good", baseline=given)
    assert job.log.split("\0")[7:-3] == words
    asked = in_environment(recorder.python, MODEL="good", BASELINE=given)
    assert gitlab_words(asked, tmp_path)[7:-2] == words


def test_args_are_split_as_a_shell_does_and_never_run(
    recorder: Runner, action: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    args = "--ignore 'a b' $(touch harm-1) `touch harm-2` ; touch harm-3 \\\nlast"
    job = recorder.run(action, tmp_path / "work", model="good", args=args)
    assert job.log.split("\0")[7:-3] == [
        "--ignore", "a b", "$(touch", "harm-1)", "`touch", "harm-2`", ";", "touch", "harm-3",
        "\nlast",
    ]  # fmt: skip
    assert not list((tmp_path / "work").iterdir())


def test_the_code_of_the_check_is_that_of_the_action(
    recorder: Runner, action: Path, tmp_path: Path
) -> None:
    job = recorder.run(action, tmp_path, model="good")
    assert job.failed
    assert job.outputs == {"exit-code": "7", "json": "", "sarif": "", "page": ""}
    assert not job.used


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
    *_, page, upload, verdict = STEPS
    assert page["uses"] == PAGE
    assert page["if"].startswith("always() &&")
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
    assert set(ACTION["outputs"]) == {"exit-code", "json", "sarif", "page"}


# GitLab


def gitlab_job() -> dict[str, Any]:
    (job,) = yaml.safe_load((ROOT / "docs" / "gitlab-ci.yml").read_text()).values()
    return dict(job)


def gitlab_run(
    environment: Mapping[str, str], folder: Path, shell: str = "bash"
) -> subprocess.CompletedProcess[str]:
    """Run the job's script as a runner does, by bash or by what else an image has."""
    (script,) = gitlab_job()["script"]
    words = [shell, "-e", "-c", script]
    return subprocess.run(
        words, cwd=folder, check=False, capture_output=True, text=True, env=dict(environment)
    )


def gitlab_words(environment: Mapping[str, str], folder: Path, shell: str = "bash") -> list[str]:
    """Return the words of its check, by a spectra that notes them and exits with 7."""
    done = gitlab_run(environment, folder, shell)
    assert done.returncode == 7, done.stderr
    return done.stdout.split("\0")[:-1]


def gitlab_environment(**variables: str) -> dict[str, str]:
    return in_environment(Path(sys.executable).parent, OMP_NUM_THREADS="1", **variables)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("harm", HOSTILE)
def test_a_variable_of_the_gitlab_job_is_one_word_and_never_run(
    shell: str, harm: str, recorder: Runner, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    given = {name.replace("-", "_").upper(): harm for name in ("model", *OPTIONS)}
    words = gitlab_words(in_environment(recorder.python, **given), folder, shell)
    assert words[0] == "check"
    assert words[7:] == [*chain(*((f"--{name}", harm) for name in OPTIONS)), "--", harm]
    assert [path.name for path in folder.iterdir()] == ["spectra-check"]


def test_every_option_of_the_gitlab_job_is_told_there() -> None:
    text = (ROOT / "docs" / "gitlab-ci.yml").read_text()
    told = set(re.findall(r"^    (?:# )?([A-Z_]+): ", text, re.MULTILINE))
    (script,) = gitlab_job()["script"]
    assert set(re.findall(r"\$\{?([A-Z_]+)", script)) == told - {
        "SPECTRA", "GIT_SUBMODULE_STRATEGY", "PIP_EXTRA_INDEX_URL", "PIP_CACHE_DIR",
    }  # fmt: skip
    assert {name.replace("-", "_").upper() for name in ("model", *OPTIONS)} <= told


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"MODEL": "known", "POLICY": "gate.toml"}, 0),
        ({"MODEL": "bad one"}, 1),
        ({"MODEL": "bad one", "FAIL_ON": "never", "BASE": "good"}, 0),
        ({"MODEL": "good", "MIN_COVERAGE": "100%"}, 0),
    ],
    ids=["accepted", "findings", "never", "coverage"],
)
def test_the_gitlab_job(variables: dict[str, str], code: int, workspace: Path) -> None:
    job = gitlab_job()
    done = gitlab_run(gitlab_environment(**variables), workspace)
    assert done.returncode == code, done.stderr
    (folder,) = job["artifacts"]["paths"]
    names = sorted(path.name for path in (workspace / folder).iterdir())
    assert names == ["check.json", "check.sarif", "check.xml", "report.html"]
    assert job["artifacts"]["reports"]["junit"] == f"{folder}check.xml"
    assert job["artifacts"]["when"] == "always"
    shutil.rmtree(workspace / folder)


def test_the_gitlab_job_begins_a_baseline_and_keeps_to_it(workspace: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "base line.json"
    for model, code, begun in (("known", 0, True), ("known", 0, False), ("bad one", 1, False)):
        asked = gitlab_environment(MODEL=model, BASELINE=str(baseline))
        done = gitlab_run(asked, workspace, "sh")
        assert done.returncode == code, done.stderr
        assert ("This check is the baseline" in done.stdout) == begun
    found = gitlab_run(gitlab_environment(MODEL="nowhere"), workspace)
    assert found.returncode == 2
    assert not list((workspace / "spectra-check").iterdir())  # nothing of the run before
    (workspace / "spectra-check").rmdir()
