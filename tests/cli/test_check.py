import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from examples import write_model

from .conftest import Command

Q1 = "model.layers.1.self_attn.q_proj.weight"


def damaged(model: Path, target: Path, name: str = Q1) -> Path:
    """The model with one NaN."""
    tensors = load_file(model / "model.safetensors")
    tensors[name][2, 3] = torch.nan
    return write_model(target, tensors, (model / "config.json").read_text())


@pytest.fixture(autouse=True)
def _no_policy_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, with a repository's end above it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_a_healthy_model_exits_with_0_and_says_so(command: Command, model: Path) -> None:
    done = command("check", model)
    assert (done.code, done.err) == (0, "")
    assert done.out.strip().startswith("PASS  no findings in 13 tensors (coverage 100 %).")


def test_a_finding_exits_with_1_and_names_rule_matrix_and_place(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("check", damaged(model, tmp_path / "sick"))
    assert done.code == 1
    assert "FAIL  1 error in 13 tensors (coverage 100 %)." in done.out
    line = next(line for line in done.out.splitlines() if "SPC001" in line)
    assert "error" in line
    assert Q1 in line
    assert "[2, 3]" in line


def test_exit_zero_turns_findings_alone_into_0(
    command: Command, model: Path, tmp_path: Path
) -> None:
    assert command("check", damaged(model, tmp_path / "sick"), "--exit-zero").code == 0
    assert command("check", tmp_path / "none", "--exit-zero").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "none.toml"], "none.toml"),
        (["--select", "SPC999"], "'SPC999' is no rule"),
        (["--select", "intruder-dimension"], "Did you mean 'intruder-dimensions'?"),
        (["--min-coverage", "110%"], "'110%' is no share"),
        (["--fail-on", "errors"], "Did you mean 'error'?"),
        (["--baseline", "none.json"], "none.json does not exist. Make it"),
        (["--save-baseline", "x.txt"], "expected .json"),
        (["-o", "x.html"], "A page is made of a saved result: -o x.json"),
        (["--base", "none"], "does not exist"),
        (["--format", "sarf"], "Did you mean 'sarif'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_exits_with_2_in_one_line(
    command: Command, model: Path, words: list[str], message: str
) -> None:
    done = command("check", model, *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


def test_without_a_model_it_says_what_is_missing(command: Command) -> None:
    done = command("check")
    assert done.code == 2
    assert "no MODEL was given" in done.err


def test_too_little_coverage_exits_with_3(command: Command, model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-300])
    assert command("check", model).code == 1
    done = command("check", model, "--min-coverage", "99%")
    assert done.code == 3
    assert "INCOMPLETE" in done.out
    assert "asks for a coverage of 99 %" in done.out


def test_several_reports_come_of_one_run(command: Command, model: Path, tmp_path: Path) -> None:
    sick = damaged(model, tmp_path / "sick")
    names = [f"check.{end}" for end in ("sarif", "xml", "json", "md", "csv", "txt", "jsonl")]
    outputs = [word for name in names for word in ("-o", name)]
    done = command("check", sick, *outputs, "--format", "sarif")
    assert done.code == 1
    assert json.loads(done.out)["version"] == "2.1.0"
    assert Path("check.sarif").read_text() == done.out
    assert "<testsuite" in Path("check.xml").read_text()
    assert json.loads(Path("check.json").read_text())["summary"]["exit_code"] == 1
    assert all(f"wrote {name}" in done.err for name in names)
    assert sorted(path.name for path in Path.cwd().iterdir()) == sorted(names)


def test_only_new_findings_fail_against_a_saved_baseline(
    command: Command, model: Path, tmp_path: Path
) -> None:
    sick = damaged(model, tmp_path / "sick")
    assert command("check", sick, "--save-baseline", "old.json").code == 0
    same = command("check", sick, "--baseline", "old.json")
    assert same.code == 0
    assert "1 unchanged since the baseline" in same.out
    worse = damaged(sick, tmp_path / "worse", Q1.replace("1", "2"))
    done = command("check", worse, "--baseline", "old.json")
    assert done.code == 1
    lines = [line.split() for line in done.out.splitlines() if "SPC001" in line]
    assert [line[-1] for line in lines if line[0] == "SPC001"] == ["new", "unchanged"]


def test_a_check_that_is_saved_exits_with_0_and_says_what_it_is(
    command: Command, model: Path, tmp_path: Path
) -> None:
    sick = damaged(model, tmp_path / "sick")
    for more in ([], ["--fail-on", "note"]):
        done = command("check", sick, "--save-baseline", "old.json", "-o", "it.xml", *more)
        assert done.code == 0
        assert "PASS  1 error in 13 tensors" in done.out
        assert "This check is the baseline old.json now." in done.out
        saved = json.loads(Path("old.json").read_text())["summary"]
        assert (saved["passed"], saved["exit_code"]) == (True, 0)
        assert "<failure" not in Path("it.xml").read_text()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--select", "SPC1"], 3),
        (["--min-coverage", "100%", "--select", "SPC3"], 3),
        (["--policy", "strict.toml"], 1),
        (["--baseline", "healthy.json"], 1),
        (["--baseline", "healthy.json", "--exit-zero"], 0),
        (["--dry-run"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_pass_is_no_baseline_and_the_old_one_stays(
    command: Command, model: Path, tmp_path: Path, words: list[str], code: int
) -> None:
    Path("strict.toml").write_text("schema = 1\n[check]\nfail-unchanged = true\n")
    assert command("check", model, "--save-baseline", "healthy.json").code == 0
    sick = damaged(model, tmp_path / "sick")
    if "SPC3" in words:
        path = sick / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-300])
    Path("kept.json").write_text("old")
    done = command("check", sick, "--save-baseline", "kept.json", *words)
    assert done.code == code
    assert Path("kept.json").read_text() == "old"
    assert "is the baseline" not in done.out
    if "--baseline" not in words:
        assert "unchanged" not in done.out  # since which baseline?
    if "--dry-run" not in words:
        assert "warning: kept.json was not written: only a check that passes is kept" in done.err


def test_a_first_run_begins_the_baseline_that_later_ones_compare_with(
    command: Command, model: Path, tmp_path: Path
) -> None:
    words = ("--baseline", "old.json", "--save-baseline", "./old.json")
    sick = damaged(model, tmp_path / "sick")
    first = command("check", sick, *words)
    assert first.code == 0
    assert "This check is the baseline old.json now." in first.out
    assert "wrote old.json" in first.err
    text = Path("old.json").read_text()
    worse = damaged(sick, tmp_path / "worse", Q1.replace("1", "2"))
    for folder, code, told in ((sick, 0, "1 unchanged"), (worse, 1, "FAIL"), (model, 0, "gone")):
        done = command("check", folder, *words)
        assert done.code == code
        assert told in done.out
        assert "is the baseline" not in done.out
        assert "wrote" not in done.err
        assert "old.json was left as it was." in done.err
        assert Path("old.json").read_text() == text
    Path("spectra.toml").write_text('schema = 1\n[check]\nbaseline = "old.json"\n')
    assert command("check", worse, "--save-baseline", "old.json").code == 1
    assert Path("old.json").read_text() == text


def test_a_baseline_that_is_damaged_is_refused_and_not_begun_anew(
    command: Command, model: Path
) -> None:
    for damage in ("", "{", '{"schema": "spectra/1"}'):
        Path("old.json").write_text(damage)
        done = command("check", model, "--baseline", "old.json", "--save-baseline", "old.json")
        assert (done.code, done.out) == (2, "")
        assert "old.json" in done.err
        assert Path("old.json").read_text() == damage
    Path("folder.json").mkdir()
    done = command("check", model, "--baseline", "folder.json")
    assert "folder.json is no file. Make it: " in done.err


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"encoder.q.weight": (4, 4)}, "none of its 1 tensor has the name of one in"),
        ({Q1: (4, 6), "x": (2, 2)}, f"have other shapes, such as '{Q1}': 4 x 6 there and"),
    ],
    ids=["names", "shapes"],
)
def test_a_baseline_of_another_model_is_refused(
    command: Command, model: Path, tmp_path: Path, other: dict[str, tuple[int, int]], told: str
) -> None:
    tensors = {name: torch.randn(shape) for name, shape in other.items()}
    theirs = write_model(tmp_path / "other", tensors)
    assert command("check", theirs, "--save-baseline", "old.json", "--isolated").code == 0
    done = command("check", model, "--baseline", "old.json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: baseline old.json is of another model: ")
    assert told in done.err


def cut(model: Path, target: Path) -> Path:
    """The model, whose file ends early."""
    raw = (model / "model.safetensors").read_bytes()
    target.mkdir()
    (target / "config.json").write_bytes((model / "config.json").read_bytes())
    (target / "model.safetensors").write_bytes(raw[:-1000])
    return target


@pytest.mark.parametrize("option", ["--base", "--baseline"])
def test_what_a_release_is_compared_with_must_be_whole(
    command: Command, model: Path, tmp_path: Path, option: str
) -> None:
    done = command("check", model, option, cut(model, tmp_path / "cut"))
    assert (done.code, done.out) == (2, "")
    assert f"{option.removeprefix('--')} {tmp_path / 'cut'} is not whole" in done.err
    assert "model.safetensors ends at byte" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_model_that_is_not_whole_begins_no_baseline(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("check", cut(model, tmp_path / "cut"), "--save-baseline", "begun.json")
    assert done.code == 1
    assert done.out.strip().startswith("FAIL")
    assert "SPC002" in done.out
    assert "begun.json was not written" in done.err
    assert not Path("begun.json").exists()
    assert command("check", model, "--save-baseline", "begun.json").code == 0


def test_the_exit_code_that_is_told_is_that_of_the_command(
    command: Command, model: Path, tmp_path: Path
) -> None:
    sick = damaged(model, tmp_path / "sick")
    for words, code in (([], 1), (["--exit-zero"], 0)):
        assert command("check", sick, "-o", "it.json", "-o", "it.sarif", *words).code == code
        summary = json.loads(Path("it.json").read_text())["summary"]
        assert (summary["passed"], summary["exit_code"]) == (False, code)
        (run,) = json.loads(Path("it.sarif").read_text())["runs"]
        assert run["invocations"][0]["exitCode"] == code


def test_a_policy_of_this_folder_counts_unless_isolated(
    command: Command, model: Path, tmp_path: Path
) -> None:
    Path("spectra.toml").write_text(
        'schema = 1\n[[ignore]]\ncode = "SPC001"\ntensors = ["*layers.1.*"]\nreason = "known"\n'
    )
    sick = damaged(model, tmp_path / "sick")
    accepted = command("check", sick)
    assert accepted.code == 0
    assert "1 accepted by the policy" in accepted.out
    assert command("check", sick, "--isolated").code == 1


def test_a_policy_written_for_the_model_is_read_and_holds(command: Command, model: Path) -> None:
    done = command("check", "--init", model)
    assert (done.code, done.out) == (0, "")
    assert "wrote spectra.toml" in done.err
    text = Path("spectra.toml").read_text()
    assert command("check", model).code == 0
    other = command("check", "--init", model, "--policy", "my own.toml", "--workers", "1")
    line = f"Check by it: spectra check --policy 'my own.toml' --workers 1 {model}"
    assert line in other.err
    again = command("check", "--init", model)
    assert again.code == 2
    assert "exists already" in again.err
    assert Path("spectra.toml").read_text() == text


def test_a_policy_for_a_model_with_findings_says_what_it_accepts(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("check", "--init", damaged(model, tmp_path / "sick"))
    assert done.code == 0
    assert "warning: the model has findings already" in done.err
    assert "look at its 1 [[ignore]]" in done.err


@pytest.mark.parametrize("full", [[], ["--full"]], ids=["short", "full"])
def test_a_policy_for_a_model_and_its_base_holds_for_both(
    command: Command, model: Path, tmp_path: Path, full: list[str]
) -> None:
    """What fine-tuning did is accepted too, and other options are kept."""
    tensors = load_file(model / "model.safetensors")
    tensors[Q1] = -tensors[Q1]
    tuned = write_model(tmp_path / "tuned", tensors, (model / "config.json").read_text())
    words = ["--base", str(model), "--ignore", "SPC3", "--fail-on", "note", *full]
    assert command("check", tuned, "--base", model, "--isolated").code == 1
    assert command("check", "--init", tuned, *words).code == 0
    done = command("check", tuned)
    assert done.code == 0
    assert "accepted by the policy" in done.out
    assert "policy: spectra.toml; ignore SPC3; " in done.out
    text = Path("spectra.toml").read_text()
    assert f'base = "{model}"' in text
    assert ("# tolerance" in text) == bool(full)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--select", "SPC1"], "the model would not pass by it. INCOMPLETE"),
        (["--min-coverage", "100%"], "The policy asks for a coverage of 100 %"),
        (["--save-baseline", "x.json"], "--save-baseline does not go with --init"),
        (["-o", "x.json"], "--output does not go with --init"),
        (["--dry-run"], "--dry-run does not go with --init"),
        (["--exit-zero"], "--exit-zero does not go with --init"),
        (["--show-settings"], "--show-settings does not go with --init"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_policy_is_written_that_was_not_meant(
    command: Command, model: Path, words: list[str], told: str
) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-300])
    done = command("check", "--init", model, *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not list(Path.cwd().iterdir())


def test_full_goes_with_init_alone(command: Command, model: Path) -> None:
    done = command("check", model, "--full")
    assert done.code == 2
    assert "--full goes with --init" in done.err


def test_the_settings_shown_are_those_in_force(command: Command, model: Path) -> None:
    Path("spectra.toml").write_text('schema = 1\n[check]\nfail-on = "warning"\n')
    done = command("check", "--show-settings", "--base", str(model), "--select", "SPC1")
    assert done.code == 0
    assert 'fail-on = "warning"' in done.out
    Path("shown.toml").write_text(done.out)
    again = command("check", "--show-settings", "--policy", "shown.toml")
    assert again.out.splitlines()[1:] == done.out.splitlines()[1:]  # the first names the file


@pytest.mark.usefixtures("weights_are_closed")
def test_a_dry_run_reads_nothing(command: Command, model: Path) -> None:
    done = command("check", model, "--dry-run", "-o", "x.json")
    assert done.code == 0
    assert "10 matrices in 13 tensors" in done.out
    assert not Path("x.json").exists()


def test_github_gets_annotations_and_a_summary(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    done = command("check", damaged(model, tmp_path / "sick"), "--format", "github")
    assert done.code == 1
    assert done.out.splitlines()[2].startswith("::error title=spectra (SPC001)")
    assert page.read_text().startswith("before\n")
    assert "SPC001" in page.read_text()


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.gate.check.Check.run", None)
    done = command("check", model, "-o", "none/x.sarif")
    assert done.code == 2
    assert "the folder none does not exist" in done.err


@pytest.mark.parametrize("word", ["SPC101", "spc101", "intruder-dimensions"])
def test_a_rule_is_explained_by_code_or_name(command: Command, word: str) -> None:
    done = command("rule", word)
    assert done.code == 0
    for part in ("SPC101  intruder-dimensions  (error)", "Why", "How", "What to do", "top-k"):
        assert part in done.out


def test_all_rules_are_listed(command: Command) -> None:
    done = command("rule")
    found = json.loads(command("rule", "--format", "json").out)["rules"]
    codes = [rule["code"] for rule in found]
    assert codes == sorted(codes)
    assert all(code in done.out for code in codes)
    assert all(rule[part] for rule in found for part in ("summary", "why", "how", "fix"))
    assert command("rule", "SPC9999").code == 2


def test_names_from_files_cannot_move_the_cursor(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    bad = torch.full((4, 4), torch.nan)
    save_file({"w\x1b[31m\n.weight": bad, "v": torch.eye(4)}, folder / "model.safetensors")
    for form in ("table", "github", "markdown", "junit", "csv"):
        done = command("check", folder, "--format", form)
        assert done.code == 1
        assert "\x1b" not in done.out


@pytest.mark.parametrize(
    "words", ["--exit-zero", "--dry-run", "-o x.json", "--save-baseline x.json"]
)
def test_settings_are_shown_and_nothing_else_is_done(command: Command, words: str) -> None:
    done = command("check", "--show-settings", *words.split())
    assert (done.code, done.out) == (2, "")
    assert "does not go with --show-settings" in done.err
    assert not Path("x.json").exists()
