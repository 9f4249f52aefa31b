"""The site builds without a warning and without the network, and leaves nothing out."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]
from spectra_cli.main import app

import spectra
from blocks import ROOT, blocks
from spectra import distribution
from spectra.policy import RULES

DOCS = ROOT / "docs"
GROUP: Any = typer.main.get_command(app)
COMMANDS = list(GROUP.commands)
QUANTITIES = sorted((DOCS / "quantities").glob("*.md"))
PICTURES = sorted((DOCS / "pictures").glob("*.svg"))
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def stem(page: Path) -> str:
    return page.stem


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it; a warning ends the build."""
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return place


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"([^\"]+)\"", page.read_text()
        )
        assert [place for place in loaded if place.startswith(("http:", "https:", "//"))] == []


def test_every_page_says_which_version_it_is_of(site: Path) -> None:
    version = distribution.version()
    for page in site.rglob("*.html"):
        text = " ".join(re.sub(r"<[^>]+>", " ", page.read_text()).split())
        assert f"Of spectra {version}" in text, page
        assert f"spectra {version}</title>" in page.read_text()
    assert "changelog" in [folder.name for folder in site.iterdir()]


def test_every_picture_has_a_dark_twin_on_the_site(site: Path) -> None:
    for picture in PICTURES:
        light = (site / "pictures" / picture.name).read_text()
        dark = (site / "pictures" / f"{picture.stem}-dark.svg").read_text()
        assert "#ffffff" in light
        assert "#ffffff" not in dark
        assert light.count("<path") == dark.count("<path")


@pytest.mark.parametrize("name", spectra.__all__)
def test_every_public_name_is_documented(site: Path, name: str) -> None:
    page = (site / "api" / "index.html").read_text()
    # `spectra.report` is the room as well as the function.
    assert any(f'id="spectra.{place}{name}"' in page for place in ("", "portrait."))


def test_the_fields_of_results_are_documented() -> None:
    text = (DOCS / "api.md").read_text()
    told = set(re.findall(r"`(\w+)`", text))
    fields = {field.name for field in dataclasses.fields(spectra.Result) if field.repr}
    assert fields <= told


@pytest.mark.parametrize("code", RULES)
def test_every_rule_has_an_anchor(site: Path, code: str) -> None:
    assert f'id="{code.lower()}"' in (site / "rules" / "index.html").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_with_examples(name: str) -> None:
    text = (DOCS / "commands" / f"{name}.md").read_text()
    assert re.search(rf'pages\.command\("{name}[" ]', text)
    assert "## Exit codes" in text
    shown = [block for block in blocks(text) if block.language == "console"]
    assert any(command.startswith(f"spectra {name}") for b in shown for command, _ in b.commands)


def test_the_commands_pages_stand_in_the_commands_order(site: Path) -> None:
    named = re.findall(r'href="commands/([\w-]+)/"', (site / "index.html").read_text())
    assert list(dict.fromkeys(named)) == COMMANDS


@pytest.mark.parametrize("page", QUANTITIES, ids=stem)
def test_a_quantitys_page_has_formula_picture_and_reading(page: Path) -> None:
    text = page.read_text()
    assert blocks(text)[0].language == "text"
    assert re.search(r"!\[[^\]]+\]\(\.\./pictures/[\w-]+\.svg\)", text)
    for heading in ("## How to read it", "## Pitfalls", "## Where it comes from"):
        assert heading in text
    assert f"quantities/{page.name}" in (ROOT / "mkdocs.yml").read_text()
    assert f"quantities/{page.name}" in (DOCS / "quantities.md").read_text()


def test_every_picture_is_shown_and_small() -> None:
    shown = "".join(page.read_text() for page in QUANTITIES)
    assert [picture.name for picture in PICTURES if picture.name not in shown] == []
    assert sum(picture.stat().st_size for picture in PICTURES) < 1_500_000


def steps() -> list[dict[str, dict[str, str]]]:
    """The steps of the ci page that use the action."""
    (workflow,) = [
        yaml.safe_load(block.text)
        for block in blocks((DOCS / "ci.md").read_text())
        if block.title.endswith("weights.yml")
    ]
    found = workflow["jobs"]["check"]["steps"]
    return [step for step in found if "/spectra" in step.get("uses", "")]


def test_the_ci_page_uses_the_action_as_it_is() -> None:
    (step,) = steps()
    assert set(step["with"]) <= set(ACTION["inputs"])
    needed = {name for name, of in ACTION["inputs"].items() if of.get("required")}
    assert needed <= set(step["with"])
    text = (DOCS / "ci.md").read_text()
    assert set(re.findall(r"steps\.spectra\.outputs\.([\w-]+)", text)) <= set(ACTION["outputs"])
    table = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert table == list(ACTION["inputs"])


def test_the_ci_page_names_the_hook_as_it_is() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (shown,) = [
        yaml.safe_load(block.text)
        for block in blocks((DOCS / "ci.md").read_text())
        if block.title.startswith(".pre-commit")
    ]
    assert shown["repos"][0]["hooks"][0]["id"] in [hook["id"] for hook in hooks]
