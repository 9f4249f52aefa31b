"""What is installed is what stands in the tree."""

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
    (script,) = [s for s in entry_points(group="console_scripts") if s.name == "spectra"]
    assert script.value == "spectra_cli.main:main"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "cli" not in settings["packages"]
