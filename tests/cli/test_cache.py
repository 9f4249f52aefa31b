"""`spectra cache`, and what a store changes for the other commands: nothing but the time."""

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples import write_model
from sick import fewer_words
from spectra.analyzers import Row
from spectra.checkpoint.local import LocalFile
from spectra.matrices import Place
from spectra.work import store as stores

from .conftest import Command, Outcome


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store, in whose eyes files that were just written have settled."""
    monkeypatch.setattr(stores, "SETTLED", -1.0)
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def told(done: Outcome) -> str:
    """Return standard output, without what the clock tells."""
    assert done.code == 0, done.err
    return untimed(done.out)


def untimed(out: str) -> str:
    return re.sub(r'"date": "[^"]*"|\n  [\d.]+ s\n', "", out)


def test_a_rerun_prints_the_same_and_no_cache_too(
    command: Command, minilm: Path, cache: Path
) -> None:
    line = ["spectrum", str(minilm), "--layers", "0", "--format", "json"]
    first = told(command(*line))
    held = (cache / "store.sqlite").stat().st_size
    assert told(command(*line)) == first
    assert told(command(*line, "--no-cache")) == first
    assert (cache / "store.sqlite").stat().st_size == held
    kept = json.loads(command("cache", "info", "--format", "json").out)["rows"]
    assert kept == 12  # of six matrices their singular values, and what is told of them


@pytest.mark.parametrize(
    "line",
    [
        "spectrum A", "kappa A", "diff A B", "diff A A", "diff A N --intruders", "diff A B C",
        "diff A B C --trend", "match A B", "shared A --role attn.q", "check A", "check B",
        "check B --base A", "report A", "report B --base A", "ls A B",
    ],
)  # fmt: skip
def test_a_second_run_of_whatever_it_is_reads_no_weights(
    line: str, command: Command, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(model / "model.safetensors")
    norm = "model.layers.1.input_layernorm.weight"
    for name, change in (("B", 1.5), ("C", -1.0), ("N", 1.0)):
        changed = {key: value * change if value.ndim > 1 else value + (change == 1.0)
                   for key, value in weights.items()}  # fmt: skip
        changed[norm][2] = torch.nan
        write_model(model.parent / name, changed, '{"model_type": "llama"}')
    words = [str(model.parent / word) if word in {"B", "C", "N"} else
             str(model) if word == "A" else word for word in line.split()]  # fmt: skip
    monkeypatch.chdir(model.parent)
    first, read = command(*words), []
    fill = LocalFile.fill

    def noted(self: LocalFile, start: int, buffer: memoryview) -> int:
        read.append((self.path, start, len(buffer)))
        return fill(self, start, buffer)

    monkeypatch.setattr(LocalFile, "fill", noted)
    again = command(*words)
    assert (again.code, untimed(again.out)) == (first.code, untimed(first.out))
    assert (first.code in {0, 1}, read) == (True, []), first.err


def test_no_cache_writes_nothing(command: Command, minilm: Path, cache: Path) -> None:
    for line in (
        ["kappa", str(minilm), "--layers", "0", "--no-cache"],
        ["kappa", str(minilm), "--layers", "0", "--dry-run"],
        ["ls", str(minilm)],
    ):
        assert command(*line).code == 0
    assert not cache.exists()


def test_it_says_what_it_holds_and_lets_go_of_it(
    command: Command, minilm: Path, cache: Path
) -> None:
    assert "measurements  0" in told(command("cache"))
    command("kappa", str(minilm), "--layers", "0", "--plot", str(cache.parent / "kappa.png"))
    screen = told(command("cache", "info"))
    assert str(cache / "store.sqlite") in screen
    assert "measurements  6" in screen
    assert "conclusions   1" in screen
    assert "pictures      1" in screen
    assert "6 tensors of local files" in screen
    assert re.search(r"rates +[1-9]\d* figures? of how long", screen)
    (cache / "store.sqlite.aside-1").write_text("damaged")
    for name in ("store.sqlite-notes.txt", "store.sqlite.bak"):
        (cache / name).write_text("somebody's own")
    assert "set aside     store.sqlite.aside-1" in told(command("cache"))
    assert f"freed in {cache}" in told(command("cache", "clear"))
    own = ["store.sqlite", "store.sqlite-notes.txt", "store.sqlite.bak"]
    assert sorted(path.name for path in cache.iterdir()) == own
    assert told(command("cache", "clear")).startswith("0 B freed")


def test_what_was_not_used_lately_goes(
    command: Command, minilm: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("kappa", str(minilm), "--layers", "0")
    today = time.time()
    monkeypatch.setattr(time, "time", lambda: today + 40 * 86_400)
    command("kappa", str(minilm), "--layers", "0", "--role", "attn.q")  # is used again
    assert told(command("cache", "prune", "--older", "30d")) == "5 measurements dropped\n"
    command("kappa", str(minilm), "--layers", "1")
    assert told(command("cache", "prune", "--max-size", "1GB")) == "0 measurements dropped\n"
    command("spectrum", minilm, "--layers", "0-2")
    rows = json.loads(command("cache", "--format", "json").out)["rows"]
    whole = (cache / "store.sqlite").stat().st_size
    for most in (whole, whole * 4 // 5, whole // 2):  # the file, not only what is in it
        dropped = int(told(command("cache", "prune", "--max-size", str(most))).split()[0])
        assert (dropped > 0) == (most < whole)
        assert most // 2 < (cache / "store.sqlite").stat().st_size <= most
        rows -= dropped
        assert f"measurements  {rows}" in told(command("cache"))
    assert rows
    command("kappa", str(minilm), "--layers", "1", "--no-cache")


def test_what_a_wrong_clock_said_was_used_in_the_future_goes_in_its_time(
    command: Command, minilm: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 4000 * 86_400)
    command("kappa", str(minilm), "--layers", "0", "--role", "attn.q")
    monkeypatch.setattr(time, "time", clock)
    command("kappa", str(minilm), "--layers", "0", "--role", "attn.q")
    monkeypatch.setattr(time, "time", lambda: clock() + 40 * 86_400)
    assert told(command("cache", "prune", "--older", "30d")) == "1 measurement dropped\n"


def test_measurements_move_to_another_machine(
    command: Command, minilm: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(command("kappa", str(minilm), "--layers", "0", "--format", "json"))
    moved = tmp_path / "moved.sqlite"
    assert "6 measurements written to" in told(command("cache", "export", str(moved)))
    assert not list(tmp_path.glob("moved.sqlite-*"))
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "other"))
    assert "6 measurements new from" in told(command("cache", "import", str(moved)))
    assert "0 measurements new from" in told(command("cache", "import", str(moved)))
    screen = told(command("cache"))
    assert "measurements  6" in screen
    assert "0 tensors of local files" in screen
    assert "0 figures of how long" in screen  # of another machine they would be wrong
    assert told(command("kappa", str(minilm), "--layers", "0", "--format", "json")) == first
    assert "measurements  6" in told(command("cache"))  # read, and found to be known
    assert cache.exists()


def test_a_dry_run_tells_what_is_known(
    command: Command, minilm: Path, model: Path, cache: Path
) -> None:
    line = ["spectrum", minilm, "--layers", "0-1", "--dry-run"]
    assert "known before" not in told(command(*line))
    assert not cache.exists()
    command("spectrum", minilm, "--layers", "0")
    some = told(command(*line))
    assert "known before  6 matrices" in some
    assert "to read       6.8 MiB" in some  # of the other layer alone
    command("spectrum", minilm, "--layers", "1")
    every = told(command(*line))
    assert "known before  12 matrices" in every
    assert "to read       0 B" in every
    assert "to read       13.5 MiB" in told(command(*line, "--no-cache"))
    command("check", model, "--isolated")
    assert "known before  13 measurements" in told(
        command("check", model, "--isolated", "--dry-run")
    )


def test_what_could_not_be_moved_is_an_error(
    command: Command, minilm: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("kappa", minilm, "--layers", "0")
    done = command("cache", "export", cache / "store.sqlite")
    assert done.code == 2
    assert "is the store itself" in done.err
    assert "measurements  6" in told(command("cache"))
    for folder in (tmp_path, "."):
        done = command("cache", "export", folder)
        assert (done.code, "is a folder; expected a file name" in done.err) == (2, True)
    moved = tmp_path / "moved.sqlite"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, before[1]))
    try:
        done = command("cache", "export", moved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"error: \S+ cannot be written: .*\. Make room, or choose .*\n", done.err)
    assert not list(tmp_path.glob("*moved*"))
    command("cache", "export", moved)
    with closing(sqlite3.connect(moved)) as base:
        base.execute("UPDATE entries SET body = body || x'00' WHERE rowid = 2")
        base.commit()
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "other"))
    done = command("cache", "import", moved)
    assert "5 measurements new from" in told(done)
    assert "warning: 1 damaged entry of" in done.err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "file"))
    done = command("cache", "import", tmp_path / "moved.sqlite")
    assert (done.code, done.out) == (2, "")
    assert "was kept: " in done.err
    assert f"({tmp_path / 'file'} is a file, not a folder)" in done.err
    exported = moved.read_bytes()
    done = command("cache", "export", moved)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: there is nothing to export: ")
    assert moved.read_bytes() == exported


@pytest.mark.parametrize("closed", [0o500, 0o000], ids=["read-only", "closed"])
def test_a_store_that_is_not_ours_to_change_is_one_line(
    closed: int, command: Command, minilm: Path, cache: Path, tmp_path: Path
) -> None:
    model = fewer_words(minilm, tmp_path / "m")
    line = ["kappa", str(model), "--layers", "0", "-q"]
    first = told(command(*line))
    (model / "model.safetensors").touch()
    lines = [line, ["cache", "clear"], ["cache", "prune", "--max-size", "1KB"], ["cache", "verify"]]
    cache.chmod(closed)
    try:
        done = as_nobody(lines)
    finally:
        cache.chmod(0o700)
    assert (done[0].code, untimed(done[0].out)) == (0, first)
    assert re.fullmatch(r"warning: .*sqlite cannot be written \(.*\): .*\n", done[0].err)
    place = cache / "store.sqlite"
    why = f"{place} cannot be deleted: Permission denied. SPECTRA_CACHE_DIR names another."
    assert done[1].err == f"error: {why}\n"
    for one, why in zip(done[2:], ("not all that was to go", "6 entries of"), strict=True):
        if closed:  # else nothing is known of what it holds
            assert (one.code, one.out) == (2, "")
            assert one.err.startswith(f"error: {why}")
        assert one.err.count("\n") == 1


def as_nobody(lines: list[list[str]]) -> list[Outcome]:
    """Run commands in a process to which permissions apply, which they do not to root's."""
    script = """
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
for ability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    prctl(24, ability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
    each = """
import contextlib, io, json, sys
from spectra_cli.main import run
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = run(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, each, json.dumps(lines)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def test_a_report_uses_the_store_and_warns_once(
    command: Command, model: Path, cache: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert command("report", model, "-o", page, "--no-cache", "-q").code == 0
    assert not cache.exists()
    cache.write_text("no folder")
    done = command("report", model, "-o", page, "-q")
    assert done.code == 0
    assert done.err.count("what is measured is not kept") == 1


def test_verify_finds_what_size_and_times_do_not_tell(
    command: Command, minilm: Path, cache: Path, tmp_path: Path
) -> None:
    model = fewer_words(minilm, tmp_path / "m")
    command("kappa", str(model), "--layers", "0")
    assert "6 measurements and 6 tensors of local files are sound." in told(
        command("cache", "verify")
    )
    store = stores.Store(cache / "store.sqlite")
    about = next(iter(store.base.entries("file")))
    store.base.put("file", about.about, about.body.replace(b'", "', b"").replace(b'"', b'"0', 1))
    store.close()
    screen = told(command("cache", "verify"))
    assert "5 tensors of local files are sound" in screen
    assert "1 tensor held other bytes than when it was read" in screen
    (model / "model.safetensors").touch()
    assert "5 tensors of files that are gone or others" in told(command("cache", "verify"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cache inf", "Did you mean 'info'?"),
        ("cache export", "needs a file"),
        ("cache info x.sqlite", "takes no file"),
        ("cache clear --older 3d", "is of spectra cache prune"),
        ("cache export -", "- is no place to write to"),
        ("cache verify --format json", "is of spectra cache info, not of verify"),
        ("cache prune", "--older 30d, --max-size 2GB or both"),
        ("cache prune --older soon", "'soon' is no age"),
        ("cache prune --max-size big", "'big' is no size"),
        ("cache import nope.sqlite", "is no store of measurements (there is no such file)"),
    ],
)
def test_what_cannot_be_meant_is_one_line(command: Command, line: str, message: str) -> None:
    done = command(*line.split())
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_damaged_store_is_one_warning_and_no_wrong_number(
    command: Command, model: Path, cache: Path
) -> None:
    line = ["kappa", str(model), "--format", "json"]
    first = told(command(*line))
    whole = (cache / "store.sqlite").read_bytes()
    numbers, warned = np.random.default_rng(5), 0
    for _ in range(15):
        raw = bytearray(whole)
        for place in numbers.integers(len(raw), size=40):
            raw[place] ^= 255
        (cache / "store.sqlite").write_bytes(raw)
        done = command(*line)
        assert told(done) == first
        warned += "set aside" in done.err
        assert len(done.err.splitlines()) <= 2
    assert warned


def rows_in(store: Path) -> int:
    """Return how many rows a store of another process has by now."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("select count(*) from entries where kind = 'row'").fetchone()[0])
    return 0


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    command: Command, minilm: Path, cache: Path
) -> None:
    """Once while it starts, and then soon after each has kept some rows more than the last."""
    words = ["spectrum", str(minilm), "--layers", "0-5", "--format", "csv"]
    whole = command(*words, "--no-cache").out
    numbers = np.random.default_rng(11)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "spectra", *words, "--workers", "1"]
    store = cache / "store.sqlite"
    kept = []
    signals = signal.SIGINT, signal.SIGKILL, signal.SIGINT, signal.SIGTERM
    for turn, sent in enumerate(signals):
        process = subprocess.Popen(
            line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        enough = rows_in(store) + 8 if turn else 0
        while process.poll() is None and rows_in(store) < enough:
            time.sleep(0.01)
        time.sleep(float(numbers.uniform(0.0, 0.03 if turn else 0.5)))
        process.send_signal(sent)
        out, err = process.communicate()
        # The first may come while Python itself starts, before the program answers.
        assert process.returncode in ((0, -9, 130, 143) if turn else (0, 130, -signal.SIGINT)), err
        assert out in ("", whole)
        kept.append(rows_in(store))
    assert kept == sorted(set(kept))  # none began anew, nor was there nothing left to kill
    again = command(*words)
    assert (again.code, again.out) == (0, whole)
    assert again.err == ""


def test_an_interrupted_run_says_what_is_kept(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from spectra_cli import entry; from spectra.work.store import Store; keep = Store.keep; "
        "Store.keep = lambda *a: (keep(*a), os.kill(os.getpid(), signal.SIGINT)); "
        "sys.argv = ['spectra', *sys.argv[1:]]; entry.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "kappa", str(model), "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == (
        "error: interrupted; nothing was written. What was measured is kept: the same command "
        "goes on from there.\n"
    )

    def refuse(*_: object) -> None:
        raise AssertionError("something is kept")

    monkeypatch.setattr(stores.Store, "keep", refuse)
    assert command("kappa", model, "--no-cache").code == 0


def test_commands_on_a_store_of_flipped_bits_say_what_they_said(
    command: Command, minilm: Path, cache: Path
) -> None:
    line = ["kappa", str(minilm), "--layers", "0", "--format", "json"]
    first = told(command(*line))
    whole, numbers = (cache / "store.sqlite").read_bytes(), np.random.default_rng(1)
    for count in (1, 3, 9, 27, 81, 243):
        for file in cache.iterdir():
            file.unlink()
        raw = bytearray(whole)
        for place in numbers.integers(len(raw), size=count):
            raw[place] ^= 1 << int(numbers.integers(8))
        (cache / "store.sqlite").write_bytes(raw)
        for words in (line, [*line, "--dry-run"], ["cache"], ["cache", "verify"], line):
            done = command(*words)
            assert done.code == 0
            assert words != line or told(done) == first


def test_a_store_in_use_is_not_imported_in_part(
    command: Command, tmp_path: Path, cache: Path
) -> None:
    live = tmp_path / "live" / "store.sqlite"
    with closing(stores.Store(live)) as store:
        store.keep("a", Row(Place("a", "a", "mlp.up", None, None, 2, 3, "F32"), "ok", None, {}))
        done = command("cache", "import", live)
        beside = live.with_name("store.sqlite-wal")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            f"error: {live} is in use, or was not closed: {beside.name} beside it holds what is "
            "newest, expected a file that `spectra cache export FILE` wrote. Write one there.\n"
        )
        assert beside.exists()
    assert command("cache", "import", live).out == f"1 measurement new from {live}\n"
    assert cache.exists()
