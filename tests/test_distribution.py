"""The version and the addresses: from the metadata of what is installed, and from nowhere else."""

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml  # type: ignore[import-untyped]

from spectra import distribution

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN = tuple(SETTINGS.get("urls", {}).values())
WRONG = re.compile(r"https?://[^\s\"'`)>\\]*spectra[^\s\"'`)>\\]*|\b(?:OWNER|ORGANISATION)\b\S*")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """What one test takes for the installed version no other remembers."""
    distribution.version.cache_clear()
    yield
    distribution.version.cache_clear()


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata as they are after a release."""
    made = Message()
    made["Project-URL"] = "Repository, https://example.org/code/spectra"
    made["Project-URL"] = "Documentation, https://docs.example.org/spectra/"
    monkeypatch.setattr(distribution, "metadata", lambda _name: made)
    monkeypatch.setattr(distribution, "version_of", lambda _name: "1.2.0")


def test_the_name_and_the_version_are_those_of_the_project() -> None:
    assert SETTINGS["name"] == distribution.NAME
    assert SETTINGS["version"] == distribution.version()


def test_addresses_are_those_of_the_project() -> None:
    for label in ("Repository", "Documentation"):
        assert distribution.address(label) == SETTINGS.get("urls", {}).get(label)
    assert distribution.address("Nowhere") is None


@pytest.mark.usefixtures("released")
def test_a_page_has_the_address_of_its_version() -> None:
    assert distribution.address("Repository") == "https://example.org/code/spectra"
    page = distribution.documentation("rules", "spc101")
    assert page == "https://docs.example.org/spectra/1.2.0/rules/#spc101"


def test_what_is_not_installed_has_no_version_and_no_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distribution, "NAME", "spectra-weights-that-nobody-installed")
    assert distribution.version() == "unknown"
    assert distribution.documentation("rules", "spc101") is None


def test_no_other_file_holds_an_address_of_this_project() -> None:
    """Neither a placeholder nor a second place for what `[project.urls]` says."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    wrong = []
    for name in filter(None, names):
        if name.startswith(("tests/", "benchmarks/")) or name in ("pyproject.toml", "LICENSE"):
            continue
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        wrong += [(name, word) for word in WRONG.findall(text) if not word.startswith(KNOWN)]
    assert wrong == []


@pytest.mark.usefixtures("released")
def test_the_examples_for_ci_take_the_addresses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.setitem(sys.modules, "cog", SimpleNamespace(outl=print))  # as cog provides it
    pages = importlib.import_module("pages")
    pages.workflow()
    text = capsys.readouterr().out
    assert "uses: code/spectra@v1.2.0\n" in text
    assert "submodule" not in text
    assert ".github/spectra" not in text
    pages.hook()
    (shown,) = yaml.safe_load("\n".join(capsys.readouterr().out.splitlines()[2:-2]))["repos"]
    assert (shown["repo"], shown["rev"]) == ("https://example.org/code/spectra", "v1.2.0")
    assert list(shown["hooks"][0]) == ["id", "args"]
