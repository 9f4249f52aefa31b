"""What CONTRIBUTING.md says a new analyzer takes is all that it takes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blocks import ROOT, blocks

COPIED = ("spectra", "cli", "docs", "tests", "mkdocs.yml", "pyproject.toml", "action.yml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository, and in it the files that the section tells to write."""
    folder = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "data", "pictures")
            shutil.copytree(ROOT / name, folder / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, folder / name)
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Add a")[1]
    files = [block for block in blocks(section) if block.title]
    assert [block.title.rpartition("/")[0] for block in files] == [
        "spectra/analyzers", "spectra/report/kinds", "cli/commands", "docs/commands",
    ]  # fmt: skip
    for block in files:
        assert not (folder / block.title).exists()
        (folder / block.title).write_text(block.text)
    (folder / "installed").mkdir()
    (folder / "installed" / "spectra").symlink_to(folder / "spectra")
    (folder / "installed" / "spectra_cli").symlink_to(folder / "cli")
    return folder


def run(tree: Path, *words: str | Path) -> str:
    """Run Python with the copy as what is installed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{tree / 'installed'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_is_there_and_measures(tree: Path, minilm: Path) -> None:
    assert "largest   Show the largest entry of every matrix." in run(
        tree, "-m", "spectra_cli", "--help"
    )
    saved, words = tree / "largest.json", ("-m", "spectra_cli", "largest", minilm, "--layers", "0")
    lines = run(tree, *words, "-o", saved).splitlines()
    assert lines[1] == "  6 matrices."
    assert lines[3].split() == ["matrix", "role", "shape", "largest"]
    rows = json.loads(saved.read_text())["rows"]
    assert all(row["largest"] > 0 for row in rows)
    run(tree, "-m", "spectra_cli", "report", saved, "-o", tree / "page.html")
    assert "Largest entries" in (tree / "page.html").read_text()


def test_what_is_generated_follows(tree: Path) -> None:
    run(tree, "-m", "cogapp", "-I", "docs", "-r", "docs/cli.md", "docs/commands/largest.md")
    assert "(commands/largest.md) | Show the largest" in (tree / "docs" / "cli.md").read_text()
    page = (tree / "docs" / "commands" / "largest.md").read_text()
    assert "| `--include` `GLOB` |" in page
    run(tree, "docs/schemas.py")
    assert '"const": "largest"' in (tree / "docs" / "result.schema.json").read_text()
    told = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/docs/test_site.py",
               "tests/test_docs.py", "-k", "largest or Largest")  # fmt: skip
    assert "3 passed" in told
