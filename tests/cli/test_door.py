"""The door itself: speed, exit codes, interruption, pipes, completion."""

import atexit
import os
import subprocess
import sys
from pathlib import Path

import pytest
from spectra_cli import guard, main, options

from spectra.words import ROLES

from .conftest import Command

HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "safetensors", "huggingface_hub")


@pytest.mark.parametrize("words", [["--help"], ["diff", "--help"], ["--version"], ["kapa"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from spectra_cli.main import run; run(sys.argv[1:]); "
        f"sys.exit(bool({HEAVY!r} & sys.modules.keys()))"
    ).replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False)
    assert done.returncode == 0, done


def test_a_listing_loads_nothing_heavy(minilm: Path, minilm_lora: Path) -> None:
    code = (
        "import sys; from spectra_cli.main import run; run(sys.argv[1:]); "
        f"sys.exit(', '.join(set({HEAVY!r}) & sys.modules.keys()) or 0)"
    )
    for model in (minilm, minilm_lora):
        command = [sys.executable, "-c", code, "ls", str(model)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["ls", "spectrum", "diff", "kappa"])
def test_every_commands_help_has_an_example(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"Example: spectra {name} " in " ".join(done.out.split())


def test_no_words_at_all_show_the_help(command: Command) -> None:
    done = command()
    assert done.code == 0
    assert "Usage: spectra" in done.out


def test_the_version_is_the_packages(command: Command) -> None:
    assert command("--version").out.startswith("spectra 0.")


def test_completion_is_offered(command: Command) -> None:
    assert "--install-completion" in command("--help").out


def test_an_internal_error_is_exit_code_2_and_one_line(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("spectra.api.model.plan_for", broken)
    done = command("spectrum", model)
    assert done.code == 2
    assert done.err.startswith("error: internal: RuntimeError: boom.")
    assert "Traceback" not in done.err
    monkeypatch.setenv("SPECTRA_DEBUG", "1")
    debugged = command("spectrum", model)
    assert debugged.code == 2
    assert "Traceback" in debugged.err


def test_out_of_memory_names_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    def hungry() -> int:
        raise MemoryError

    assert guard.guarded(hungry) == 2
    assert "--workers 1 needs least" in capsys.readouterr().err


def test_interruption_without_the_console_script_is_130_too(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spectra.runs.analysis.measured", interrupted)
    path = model.parent / "x.json"
    done = command("spectrum", model, "-o", path)
    assert done.code == 130
    assert done.err == "error: interrupted. Run the same command again.\n"
    assert not path.exists()


def test_a_reader_that_leaves_is_no_error(minilm: Path) -> None:
    command = f"{sys.executable} -m spectra_cli ls {minilm} -v | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["ls", "MODEL"]])
def test_a_full_disk_is_the_disks_fault(minilm: Path, words: list[str]) -> None:
    arguments = [str(minilm) if word == "MODEL" else word for word in words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "spectra_cli", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: the output cannot be written: No space left on device. Send it elsewhere.\n"
    )


def test_a_folder_that_is_gone_is_one_line(minilm: Path, tmp_path: Path) -> None:
    command = (
        f"cd {tmp_path} && rmdir {tmp_path} && exec {sys.executable} -m spectra_cli ls {minilm}"
    )
    path = os.pathsep.join(str(Path(one).absolute()) for one in sys.path)
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the folder that this runs in is gone")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output_is_no_fault(minilm: Path) -> None:
    command = f"{sys.executable} -m spectra_cli ls {minilm} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_the_roles_offered_are_the_roles_there_are() -> None:
    assert set(options.OFFERED) == set(ROLES) | {"attn", "mlp"}


def test_the_console_script_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["spectra", "kappa", "nope/"])
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 2


@pytest.mark.parametrize("code", [0, 1, 3])
def test_what_others_want_done_at_exit_is_done_and_python_is_not_taken_apart(code: int) -> None:
    script = (
        "import atexit, sys, spectra_cli.main as door\n"
        "class Slow:\n"
        "    def __del__(self): print('taken apart')\n"
        "def run():\n"
        "    atexit.register(print, 'at exit')\n"
        "    globals()['kept'] = Slow()\n"
        f"    return {code}\n"
        "door.run = run\n"
        "door.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "at exit\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_large_tensors_of_the_console_script_lie_in_huge_pages() -> None:
    script = (
        "import spectra_cli.main as door\n"
        "def run():\n"
        "    import mmap, torch\n"
        "    print(torch.empty(1 << 24).data_ptr() % mmap.PAGESIZE)\n"
        "door.run = run\n"
        "door.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "0\n"
