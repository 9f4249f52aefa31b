"""The documents say what the code does."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spectra
import spectra.analyzers as room
from spectra.analyzers import Analyzer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def analyzers() -> Iterator[type]:
    """Every class of ours that measures, wherever a file of the room holds it."""
    for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        for one in vars(importlib.import_module(found.name)).values():
            if (
                isinstance(one, type)
                and one.__module__ == found.name
                and {"name", "takes"} <= set(dir(one))
            ):
                yield one


@pytest.mark.parametrize("analyzer", list(analyzers()), ids=lambda one: one.__name__)
def test_every_key_is_defined_in_the_reference(analyzer: type[Analyzer[Any]]) -> None:
    pages = [DOCS / "quantities.md", *DOCS.glob(f"commands/{analyzer.name}.md")]
    text = "".join(page.read_text() for page in pages)
    keys: tuple[str, ...] = getattr(analyzer, "every" if hasattr(analyzer, "every") else "keys")
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_what_a_check_tells_is_defined_in_the_reference(minilm: Path) -> None:
    text = (ROOT / "docs" / "quantities.md").read_text()
    found = spectra.check(minilm, select="SPC3")
    told = {*found.summary, *(key for row in found.rows for key in row.flat())}
    assert sorted(key for key in told if f"`{key}`" not in text) == []


def test_the_readmes_first_lines_are_the_two_commands() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.strip()]
    assert [line.split("#")[0].strip() for line in lines[2:4]] == ["make demo", "make test"]
