"""Whatever a user gets wrong: one line, exit code 2, nothing written."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from examples import write_model

from .conftest import Command


def refused(command: Command, *words: str | Path, code: int = 2) -> str:
    """Run, and return the single line of the error."""
    done = command(*words)
    assert done.code == code, done
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nope/"], "nope/ does not exist. Expected a folder or file with weights, or a repo"),
        (["MODEL", "--select", "10x"], "--select '10x' is no share. Expected a percentage"),
        (["MODEL", "--select", "0%"], "is no share"),
        (["MODEL", "--role", "atn.q"], "--role 'atn.q' is no role. Did you mean 'attn.q'?"),
        (["MODEL", "--layers", "3-1"], "runs backwards. Write 1-3."),
        (["MODEL", "--layers", "a"], "Expected numbers and ranges, like 0-5,11"),
        (["MODEL", "--format", "jsn"], "Did you mean 'json'?"),
        (["MODEL", "--device", "gpu"], "'gpu' is not known"),
        (["MODEL", "--device", "cuda:99"], "--device cuda:99 is not there"),
        (
            ["MODEL", "--workers", "0"],
            "--workers '0' should be greater than or equal to 1. See",
        ),
        (["MODEL", "--formt", "json"], "--format"),
        (["MODEL", "-o", "x.foo"], "Expected one of .json, .jsonl, .csv, .md, .parquet, .txt"),
        (["MODEL", "-o", "nodir/x.json"], "the folder nodir does not exist"),
        (["MODEL", "-o", "."], "is a folder; expected a file name"),
        (["MODEL", "-o", "plain"], "plain has no suffix. Expected one of"),
        (["MODEL", "--select", "1_0"], "--select '1_0' is no share"),
        (["MODEL", "--plot", "x.pdf"], "Pictures are written as .png or .svg"),
        ([], "MODEL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_kappa_refuses(
    command: Command, model: Path, words: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    before = sorted(model.parent.iterdir())
    found = refused(command, "kappa", *(str(model) if word == "MODEL" else word for word in words))
    assert text in found
    assert sorted(model.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--k", "0"], "--k 0 is too small"),
        (["--epsilon", "1.5"], "--epsilon 1.5 is no cosine"),
        (["--epsilon", "nan"], "is no cosine"),
        (["--side", "lft"], "Did you mean 'left'?"),
    ],
)
def test_diff_refuses(command: Command, model: Path, words: list[str], text: str) -> None:
    assert text in refused(command, "diff", model, model, "--intruders", *words)


def test_spectrum_refuses_a_share_over_one(command: Command, model: Path) -> None:
    assert "energy 2.0 is no share" in refused(command, "spectrum", model, "--energy", "2")
    path = model.parent / "v.json"
    found = refused(command, "spectrum", model, "--values", path)
    assert "Singular values are written as .parquet or .csv" in found


@pytest.mark.parametrize(
    ("words", "file"), [([], "FILE.parquet"), (["-o", "r.parquet"], "r.parquet")]
)
def test_parquet_on_a_terminal_is_refused_before_the_work(
    command: Command, model: Path, words: list[str], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    before = sorted(model.parent.iterdir())
    found = refused(command, "kappa", model, "--format", "parquet", *words)
    assert f"Leave out --format parquet: -o {file} writes it." in found
    assert sorted(model.parent.iterdir()) == before
    assert command("kappa", model, "--format", "parquet", *words, "--dry-run").code == 0


def test_an_unknown_command_gets_a_suggestion(command: Command) -> None:
    assert "Did you mean 'kappa'" in refused(command, "kapa")


def test_nothing_selected_is_exit_code_3(command: Command, model: Path) -> None:
    found = refused(command, "kappa", model, "--include", "zzz", code=3)
    assert "none of the 10 matrices" in found


def test_a_folder_without_weights(command: Command, tmp_path: Path) -> None:
    assert "holds no weights" in refused(command, "spectrum", tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><html></html>', "HTML page"),
        (b'{"error": "Repository not found"}' * 4, "is JSON text, expected a safetensors file"),
        (b"", "has 0 bytes"),
        (b"\xff" * 64, "not a safetensors file"),
    ],
    ids=["lfs", "html", "xml", "json", "empty", "noise"],
)
def test_something_else_in_place_of_weights(
    command: Command, tmp_path: Path, content: bytes, text: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert text in refused(command, "kappa", tmp_path)


def test_a_truncated_shard(command: Command, model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "the download was cut. Fetch" in refused(command, "spectrum", model)


@pytest.mark.parametrize(
    ("shard", "text"),
    [
        ("model-2.safetensors", "which is not in"),
        ("../outside.safetensors", "no file name inside its folder"),
        ("/etc/passwd", "no file name inside its folder"),
    ],
)
def test_an_index_that_misleads(command: Command, tmp_path: Path, shard: str, text: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    save_file({"x.weight": torch.eye(2)}, tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x.weight": shard}}))
    assert text in refused(command, "ls", folder)


def test_base_and_tuned_of_different_shapes(command: Command, tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", {"x.weight": torch.ones(4, 4)})
    tuned = write_model(tmp_path / "b", {"x.weight": torch.ones(4, 6)})
    found = refused(command, "diff", base, tuned)
    assert "'x.weight' is 4 x 4 there and 4 x 6 here" in found


def test_an_adapter_in_place_of_a_model(command: Command, minilm_lora: Path) -> None:
    assert "is a LoRA adapter, not a model" in refused(command, "kappa", minilm_lora)


def test_a_closed_folder_is_refused_before_the_work(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    def worked(*_: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("tempfile.TemporaryFile", closed)
    monkeypatch.setattr("spectra.runs.planned.plan_for", worked)
    found = refused(command, "kappa", model, "-o", model.parent / "x.json")
    assert "x.json cannot be written: Permission denied. Choose another place." in found


def test_a_pipe_in_place_of_weights_is_refused_not_waited_for(
    command: Command, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert "is no regular file" in refused(command, "spectrum", tmp_path)


@pytest.mark.parametrize(
    "config", ['{"model_type": ["gpt2"]}', '{"text_config": {"model_type": {}}}']
)
def test_an_odd_config_is_an_unknown_family(command: Command, model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    assert command("ls", model).code == 0


def test_a_named_adapters_folder_is_pointed_to(
    command: Command, model: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "mine").symlink_to(minilm_lora)
    found = refused(command, "diff", model, tmp_path / "outer")
    assert f"folders in it do. Give one: {tmp_path / 'outer' / 'mine'}." in found


def test_nothing_measured_leaves_old_files_alone(command: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"b.weight": torch.full((4, 4), float("nan"))})
    path = tmp_path / "kept.json"
    path.write_text("precious")
    refused(command, "spectrum", folder, "-o", path, code=3)
    assert path.read_text() == "precious"


def test_what_was_there_stays_when_writing_fails(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model.parent / "kept.json"
    path.write_text("precious")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    found = refused(command, "kappa", model, "-o", path)
    assert "cannot be written: No space left on device" in found
    assert path.read_bytes() == b"precious"
    assert list(model.parent.glob(".kept*")) == []


def test_a_pickle_needs_leave_and_a_payload_does_not_run_with_it(
    command: Command, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {canary}",)

    torch.save({"a.weight": torch.eye(3), "b": Payload()}, tmp_path / "pytorch_model.bin")
    assert "opened only with --allow-pickle" in refused(command, "ls", tmp_path)
    found = refused(command, "ls", tmp_path, "--allow-pickle")
    assert "system', which weights do not need: refused, and nothing in it was run." in found
    assert not canary.exists()


def test_a_pickle_of_weights_is_read_with_leave(command: Command, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.eye(3)}, tmp_path / "pytorch_model.bin")
    done = command("spectrum", tmp_path, "--allow-pickle", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)["rows"][0]["matrix"] == "a.weight"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("config.json", b"[" * 100_000, "config.json is not JSON: it is nested too deep"),
        ("config.json", b" " * 10_000_001, "config.json has 10,000,001 bytes, and at most"),
        ("config.json", b"[1]", "config.json holds [1], expected a JSON object"),
        (
            "model.safetensors",
            b"\xff\xff\xff\x05\0\0\0\0{}",
            "a header of 100,663,295 bytes, expected",
        ),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}\x1b", "1 bytes after the last tensor"),
    ],
    ids=["deep-config", "huge-config", "list-config", "long-header", "trailing"],
)
def test_hostile_files(command: Command, model: Path, name: str, content: bytes, text: str) -> None:
    (model / name).write_bytes(content)
    assert text in refused(command, "ls", model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_in_a_circle(command: Command, model: Path, name: str) -> None:
    (model / "config.json").write_text("{}")
    (model / name).unlink()
    (model / name).symlink_to("../outside")
    (model.parent / "outside").symlink_to(model / name)
    if name == "model.safetensors":
        refused(command, "ls", model)
