"""What is installed is what stands in the tree."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_listed_packages_are_the_folders_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "spectra").rglob("__init__.py")
    }
    folders |= {
        "spectra_cli" + str(path.parent.relative_to(ROOT)).removeprefix("cli").replace("/", ".")
        for path in (ROOT / "cli").rglob("__init__.py")
    }
    assert set(settings["packages"]) == folders


def test_the_command_is_installed_and_no_global_cli_module_is() -> None:
    assert [s.name for s in entry_points(group="console_scripts") if s.name == "spectra"]
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert written["project"]["scripts"] == {"spectra": "spectra_cli.entry:main"}
    settings = written["tool"]["setuptools"]
    assert "cli" not in settings["packages"]


def test_what_ships_beside_the_packages_is_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = [name for names in settings["data-files"].values() for name in names]
    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert settings["data-files"]["share/man/man1"] == ["docs/spectra.1"]


def test_the_changes_begin_with_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0].rstrip(",") == version
    assert len(headings) == len(set(headings))


def copied() -> set[str]:
    """What the image takes from the tree."""
    lines = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    return {
        name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]
    }  # the last is where it goes


def test_the_image_gets_what_the_wheel_is_made_of_and_nothing_is_held_back() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files = {
        name for names in settings["tool"]["setuptools"]["data-files"].values() for name in names
    }
    files |= {
        "pyproject.toml",
        settings["project"]["readme"],
        *settings["project"]["license-files"],
    }
    files |= set(settings["tool"]["setuptools"]["package-dir"].values())
    assert copied() == files | {"constraints.txt"}
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "**"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied()


def test_the_image_runs_the_command_as_nobody_in_particular() -> None:
    text = (ROOT / "Containerfile").read_text()
    assert 'ENTRYPOINT ["spectra"]' in text
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)
