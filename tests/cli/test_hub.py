"""Models of the Hub through the command line: the same result, few bytes, no token astray."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from safetensors.torch import load_file, save_file

from examples import write_model
from loopback import Loopback, taken_for_the_hub
from shards import FIRST, INDEX, SECOND, write_index
from spectra.work.store import ROW, Store

from .conftest import Command

TOKEN = "hf_secretsecretsecret"  # noqa: S105 - nobody's
SIDE = 320


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Loopback]:
    with taken_for_the_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A model of four layers in two shards, 3.3 MB."""
    generator = torch.Generator().manual_seed(3)
    tensors = {
        f"model.layers.{layer}.{name}.weight": torch.randn(SIDE, SIDE, generator=generator)
        for layer in range(4)
        for name in ("self_attn.q_proj", "mlp.up_proj")
    }
    names = list(tensors)
    shards = {FIRST: names[:4], SECOND: names[4:]}
    folder = tmp_path / "sharded"
    for shard, held in shards.items():
        part = {name: tensors[name] for name in held}
        write_model(folder, part, '{"model_type": "llama"}', name=shard)
    return write_index(folder, {name: shard for shard, held in shards.items() for name in held})


IN_TURN = """
import contextlib, io, json, sys
from spectra_cli.main import run
for line in sys.argv[1:]:
    told, screen = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(screen):
        code = run(line.split())
    print(json.dumps([code, told.getvalue()]))
"""


def told(hub: Loopback, home: Path, *lines: str, **environment: str) -> list[tuple[int, str]]:
    """Run command lines in turn in a process; return exit codes and what standard error shows."""
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, *lines], env=surroundings(hub, home, **environment),
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return [(code, text) for code, text in map(json.loads, done.stdout.splitlines())]


def alone(hub: Loopback, home: Path, *words: str, **environment: str) -> Any:  # noqa: ANN401
    """Run the command line in a process of its own; return what it finished with."""
    code = "import sys; from spectra_cli.main import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=surroundings(hub, home, **environment),
        capture_output=True,
        text=True,
        check=False,
    )


def surroundings(hub: Loopback, home: Path, **more: str) -> dict[str, str]:
    """Return the environment of somebody who knows this hub alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**kept, **hub.environment(home), **more}


def headers(folder: Path) -> int:
    """Return the bytes of the headers of a folder's files, lengths included."""
    return sum(
        8 + int.from_bytes(path.read_bytes()[:8], "little") for path in folder.glob("*.safetensors")
    )


def document(text: str) -> dict[str, Any]:
    """Return a result as data, without what tells where its models lie."""
    found: dict[str, Any] = json.loads(text)
    for model in found["models"]:
        del model["spec"], model["resolved"], model["digest"]  # which the Hub tells of all bytes
    return found


def test_a_process_of_its_own_finds_the_hub_by_its_environment(
    hub: Loopback, sharded: Path, tmp_path: Path
) -> None:
    commit = hub.add("org/name", sharded)
    hub.faults.token = TOKEN
    home = tmp_path / "own"
    words = ("ls", "org/name", "--format", "json")
    refused = alone(hub, home, *words)
    assert refused.returncode == 2
    assert "no repository of the Hub that you may see" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    done = alone(hub, home, *words, HF_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["models"][0]["resolved"] == f"hf://org/name@{commit}"
    assert len(json.loads(done.stdout)["rows"]) == 8
    assert hub.on("cdn")
    assert all("authorization" not in r.headers for r in hub.on("cdn"))
    assert sorted(p.name for p in home.rglob("snapshots/*/*")) == ["config.json", INDEX]
    hub.forget()
    offline = alone(hub, home, "ls", f"org/name@{commit}", HF_HUB_OFFLINE="1")
    assert f"names '{FIRST}', which is not in its folder" in offline.stderr
    assert hub.requests == []


def test_what_comes_from_the_cache_is_said(hub: Loopback, sharded: Path, tmp_path: Path) -> None:
    commit = hub.add("org/name", sharded)
    home = tmp_path / "own"
    script = "import huggingface_hub as hub; hub.snapshot_download('org/name')"
    environment = {**os.environ, **hub.environment(home)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    said = (
        f"note: org/name is opened from the cache, commit {commit}; the Hub may have a newer one: "
    )
    lines = ("ls org/name", "check org/name --isolated", "ls org/name -q", "ls org/other")
    *found, quiet, absent = told(hub, home, *lines, HF_ENDPOINT="http://127.0.0.1:9")
    assert found == [(0, f"{said}the Hub cannot be reached.\n")] * 2
    assert quiet == (0, "")
    assert absent[0] == 2
    assert "It is not in the cache" in absent[1]
    assert len(absent[1].splitlines()) == 1
    offline = told(hub, home, "ls org/name", HF_HUB_OFFLINE="1")
    assert offline == [(0, f"{said}HF_HUB_OFFLINE is set.\n")]


@pytest.mark.parametrize("words", [("ls",), ("spectrum", "--dry-run"), ("kappa", "--dry-run"),
                                   ("spectrum", "--dry-run", "--download")])  # fmt: skip
def test_a_question_about_headers_transfers_no_weights(
    command: Command, hub: Loopback, sharded: Path, words: tuple[str, ...]
) -> None:
    hub.add("org/name", sharded)
    done = command(words[0], "org/name", *words[1:])
    assert done.code == 0
    assert "8 matrices" in done.out
    assert sum(r.sent for r in hub.on("cdn")) == headers(sharded)
    assert len(hub.requests) == 13  # the commit; twice three for the documents; twice three


def test_a_long_header_is_read_to_its_last_byte_and_no_further(
    command: Command, hub: Loopback, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", {f"t.{i}.weight": torch.ones(8, 8) for i in range(500)})
    hub.add("org/name", folder)
    assert headers(folder) > 16 << 10
    assert command("ls", "org/name").code == 0
    assert sum(r.sent for r in hub.on("cdn")) == headers(folder)


def test_a_layer_of_a_remote_model_is_as_it_is_here_and_transfers_little_more(
    command: Command, hub: Loopback, sharded: Path
) -> None:
    hub.add("org/name", sharded)
    options = ("--layers", "0", "--format", "json")
    far, near = (command("spectrum", spec, *options) for spec in ("org/name", sharded))
    assert (far.code, far.err) == (0, "")
    assert document(far.out) == document(near.out)
    assert len(document(far.out)["rows"]) == 2
    asked = 2 * 4 * SIDE * SIDE + headers(sharded)
    assert asked <= hub.sent(".safetensors") <= 1.05 * asked


def test_an_adapter_of_the_hub_against_a_base_of_the_hub(
    command: Command, hub: Loopback, minilm: Path, minilm_lora: Path
) -> None:
    hub.add("org/base", minilm)
    hub.add("org/lora", minilm_lora)
    options = ("--intruders", "--layers", "5", "--format", "json")
    far = command("diff", "org/base", "hf://org/lora@main", *options)
    near = command("diff", minilm, minilm_lora, *options)
    assert (far.code, far.err) == (0, "")
    assert document(far.out) == document(near.out)
    assert document(far.out)["summary"]["intruders"] == 2
    layer = 4 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert hub.sent(".safetensors") < 1.05 * layer + minilm_lora.joinpath(
        "adapter_model.safetensors"
    ).stat().st_size + headers(minilm)


def test_downloaded_files_are_read_from_the_cache_online_and_offline(
    command: Command, hub: Loopback, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add("org/name", sharded)
    options = ("--layers", "0", "--format", "json")
    first = command("kappa", "org/name", "--download", *options)
    assert (first.code, first.err) == (0, "")
    whole = [r for r in hub.on("cdn") if r.status == 200]
    assert [r.sent for r in whole] == [(sharded / FIRST).stat().st_size]
    hub.forget()
    assert document(command("kappa", "org/name", *options).out) == document(first.out)
    assert not any(FIRST in r.path for r in hub.requests)
    assert command("kappa", "org/name", "--download", "--format", "json").code == 0
    hub.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = command("kappa", f"org/name@{commit}", *options)
    assert document(offline.out) == document(first.out)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["", "@main", "@v1", "@refs/pr/3"])
def test_a_revision_that_was_downloaded_has_its_name_offline_too(
    command: Command, hub: Loopback, sharded: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    spec, ref = f"org/name{revision}", revision[1:] or "main"
    first = hub.add("org/name", sharded, ref)
    same, other = (Path(shutil.copytree(sharded, sharded.with_name(one))) for one in "so")
    for shard in (FIRST, SECOND):
        save_file({key: one + 1 for key, one in load_file(other / shard).items()}, other / shard)
    for folder, held in ((sharded, None), (same, first), (other, None)):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        commit = hub.add("org/name", folder, ref)
        assert command("kappa", spec, "--download").code == 0  # of the same nothing but documents
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        found = command("kappa", spec)
        assert found.code == 0
        told = f"is opened from the cache, commit {held or commit}; the Hub may have a newer one"
        assert told in found.err


def test_a_commit_that_the_cache_has_already_gets_the_name_that_is_asked_for(
    command: Command, hub: Loopback, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", sharded)
    hub.add("org/name", sharded, "v1")
    snapshot_download("org/name")
    assert command("kappa", "org/name@v1", "--download", "--layers", "0").code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command("kappa", "org/name@v1", "--layers", "0").code == 0


def test_a_connection_that_breaks_changes_nothing(
    command: Command, hub: Loopback, sharded: Path
) -> None:
    hub.add("org/name", sharded)
    options = ("--layers", "1", "--format", "json")
    hub.faults.cut, hub.faults.cuts = 100_000, 3
    done = command("spectrum", "org/name", *options)
    assert done.code == 0
    assert document(done.out) == document(command("spectrum", sharded, *options).out)
    assert hub.faults.cuts == 0


@pytest.mark.parametrize("name", ["ls", "spectrum", "kappa"])
def test_errors_are_one_line_and_exit_code_2(command: Command, hub: Loopback, name: str) -> None:
    done = command(name, "org/none")
    assert done.code == 2
    assert done.out == ""
    assert "org/none: nothing on this machine and no repository of the Hub" in done.err
    assert len(done.err.splitlines()) == 1


def test_what_was_measured_of_the_hub_is_not_asked_for_again(
    command: Command, hub: Loopback, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    hub.add("org/name", sharded, ref="v1")
    words = ("spectrum", "org/name@v1", "--format", "json")
    first = document(command(*words).out)
    weights = sum(path.stat().st_size for path in sharded.glob("*.safetensors"))
    assert hub.sent(".safetensors") >= weights
    hub.forget()
    again = document(command(*words).out)
    assert hub.sent(".safetensors") <= headers(sharded) + 2 * (1 << 17)
    assert {**again, "date": ""} == {**first, "date": ""}

    # The next revision has one shard with another tensor: it alone is read, that one measured.
    assert rows_kept() == 16  # of a matrix its singular values, and what is told of them
    tuned = next_revision(hub, sharded)
    hub.forget()
    second = command("spectrum", "org/name@v2", "--format", "json")
    changed = (tuned / SECOND).stat().st_size
    assert changed <= hub.sent(".safetensors") <= changed + headers(sharded) + 2 * (1 << 17)
    assert rows_kept() == 18
    fresh = command("spectrum", tuned, "--format", "json", "--no-cache")
    assert document(second.out) == document(fresh.out)
    # A copy of it here is read, and nothing of it measured.
    kept = rows_kept()
    command("spectrum", tuned, "--format", "json")
    assert rows_kept() == kept


def test_what_two_revisions_have_in_common_is_read_once_and_here_if_it_is_here(
    command: Command, hub: Loopback, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr("spectra.work.store.SETTLED", -1.0)
    hub.add("org/name", sharded, ref="v1")
    tuned = next_revision(hub, sharded)
    for one in ("org/name@v1", "org/name@v2", tuned):
        command("spectrum", one, "--format", "csv")
    beside = ("diff", "org/name@v1", "org/name@v2", "--format", "csv")
    hub.forget()
    estimate = json.loads(command(*beside[:-1], "json", "--dry-run").out)["dry_run"]
    assert estimate["nbytes"] == 9 * 4 * SIDE * SIDE
    told = command(*beside)
    whole = sum(path.stat().st_size for path in sharded.glob("*.safetensors")) + 4 * SIDE * SIDE
    assert whole <= hub.sent(".safetensors") <= whole + 4 * headers(sharded) + 8 * (1 << 17)
    assert told.out == command(*beside, "--no-cache").out
    hub.forget()
    here = ("diff", "org/name@v1", tuned, "--format", "csv", "--intruders")
    told = command(*here)
    least = 4 * SIDE * SIDE
    assert least <= hub.sent(".safetensors") <= least + headers(sharded) + 2 * (1 << 17)
    assert told.out == command(*here, "--no-cache").out


def next_revision(hub: Loopback, folder: Path) -> Path:
    """Publish as v2 the model with one tensor changed, in the second of two shards; return it."""
    tuned = shutil.copytree(folder, folder.with_name("tuned"))
    tensors = load_file(tuned / SECOND)
    name = next(iter(tensors))
    write_model(tuned, {**tensors, name: tensors[name] + 1}, '{"model_type": "llama"}', name=SECOND)
    hub.add("org/name", tuned, ref="v2")
    return tuned


def rows_kept() -> int:
    with closing(Store()) as store:
        return store.base.count(ROW)
