"""A command of another package: one Python file and an entry point, nothing of ours edited."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import spectra
from spectra.report.kinds import kind_of

from .conftest import Command

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "data" / "circuits.py"
HEAVY = ("torch", "numpy", "pandas", "matplotlib")
SUMMARY = "Show how much the matrices of one attention have in common."


def installed(folder: Path, commands: str, kinds: str = "") -> Path:
    """Lay a distribution out as an installer does: its file, and what its metadata says."""
    info = folder / "spectra_circuits-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(FILE, folder / "spectra_circuits.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spectra-circuits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[spectra.commands]\n{commands}\n{kinds}\n")
    return folder


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the file."""
    folder = installed(
        tmp_path / "site",
        "circuits = spectra_circuits:circuits",
        "[spectra.kinds]\ncircuits = spectra_circuits:KIND",
    )
    monkeypatch.syspath_prepend(folder)
    kind_of.cache_clear()


def test_it_is_one_short_file() -> None:
    assert len(FILE.read_text().splitlines()) < 80


@pytest.mark.usefixtures("plugin")
def test_it_appears_in_help_after_ours_with_all_shared_options(command: Command) -> None:
    lines = command("--help").out.splitlines()
    rest = iter(lines)
    next(line for line in rest if line.startswith("  lowrank "))
    after = next(line for line in rest if line[2] != " ")  # where a sentence of ours has ended
    assert after.split(maxsplit=1) == ["circuits", SUMMARY]
    told = command("circuits", "--help").out
    for option in ("--include GLOB", "--format FORMAT", "--dry-run", "--device DEVICE", "--quiet"):
        assert option in told


@pytest.mark.usefixtures("plugin")
def test_it_prints_a_table_and_estimates(command: Command, minilm: Path) -> None:
    done = command("circuits", minilm)
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[1] == "  6 attentions."
    assert lines[3].split() == ["matrix", "role", "shape", "qk", "vo"]
    assert len([line for line in lines if line.startswith("  encoder.layer.")]) == 6
    assert "6 matrices in 24 tensors" in command("circuits", minilm, "--dry-run").out
    assert "Did you mean 'json'?" in command("circuits", minilm, "--format", "jsn").err
    assert "See `spectra circuits --help`." in command("circuits").err


@pytest.mark.usefixtures("plugin")
def test_it_draws_nothing(command: Command, minilm: Path, tmp_path: Path) -> None:
    done = command("circuits", minilm, "--plot", tmp_path / "x.png", "-o", tmp_path / "x.json")
    assert done.code == 2
    assert done.err.startswith("error: circuits has no picture. Expected a result of")
    assert not list(tmp_path.glob("x.*"))  # before anything is measured or written


@pytest.mark.usefixtures("plugin")
def test_its_json_is_a_result_for_page_and_reader(
    command: Command, minilm: Path, tmp_path: Path
) -> None:
    saved, page = tmp_path / "plugin.json", tmp_path / "page.html"
    assert command("circuits", minilm, "--layers", "0-1", "-o", saved).code == 0
    document = json.loads(saved.read_text())
    jsonschema.validate(document, json.loads((ROOT / "docs" / "result.schema.json").read_text()))
    assert [row["layer"] for row in document["rows"]] == [0, 1]
    assert all(0 < row["qk"] < 1 and 0 < row["vo"] < 1 for row in document["rows"])
    assert command("report", saved, "-o", page).code == 0
    told = page.read_text()
    assert "Circuits of attention" in told
    assert f"spectra circuits {minilm} --layers 0-1" in told
    found = spectra.load(saved)
    assert list(found.frame["qk"]) == [row["qk"] for row in document["rows"]]
    assert "Circuits of attention" in found._repr_html_()


def test_without_a_record_it_has_a_plain_table(
    command: Command, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, "circuits = spectra_circuits:circuits"))
    kind_of.cache_clear()
    lines = command("circuits", minilm).out.splitlines()
    assert lines[3].split() == ["matrix", "role", "shape", "qk", "vo"]


def test_one_that_fails_to_load_costs_a_line_and_no_command_of_ours(
    command: Command, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = "circuits = spectra_circuits:nothing\nkappa = spectra_circuits:circuits"
    monkeypatch.syspath_prepend(installed(tmp_path, entries))
    whole = command("--help")
    assert whole.code == 0
    assert whole.err == (
        "warning: the command 'circuits' of spectra-circuits is left out: AttributeError: module "
        "'spectra_circuits' has no attribute 'nothing'\n"
    )
    assert "  report " in whole.out
    assert SUMMARY not in whole.out
    assert "Show condition numbers and select by them." in whole.out
    assert command("ls", minilm, "--layers", "0").err == ""
    broken = command("circuits", minilm)
    assert broken.code == 2
    assert "error: No such command 'circuits'" in broken.err


def test_an_application_of_several_commands_and_a_ready_one_are_taken(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed(tmp_path, "many = many:app\nready = many:ready")
    (folder / "many.py").write_text(
        "import typer\nfrom spectra_cli.command import command\n"
        "app = typer.Typer(help='Several.')\n"
        "@app.command()\ndef one() -> None:\n    print('one')\n"
        "@app.command()\ndef two() -> None:\n    raise typer.Exit(3)\n"
        "@command()\ndef ready(number: int = 1) -> int:\n    '''Ready.'''\n    return number\n"
    )
    monkeypatch.syspath_prepend(folder)
    assert "many      Several." in command("--help").out
    assert command("many", "one").out == "one\n"
    assert command("many", "two").code == 3
    assert command("ready", "--number", "2").code == 2


def test_the_door_stays_light_beside_it(tmp_path: Path) -> None:
    folder = installed(tmp_path, "circuits = spectra_circuits:circuits")
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from spectra_cli.main import run; "
        "run(['ls', '--help']); assert 'spectra_circuits' not in sys.modules; run(['--help']); "
        f"sys.exit(', '.join(set({HEAVY!r}) & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert SUMMARY in done.stdout
