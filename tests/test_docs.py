"""The documents say what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

import spectra
from spectra import analyzers
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.work import plan_model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_example_analyzer_runs(minilm: Path) -> None:
    space: dict[str, Any] = {"__name__": "example"}
    for block in code_blocks(ROOT / "CONTRIBUTING.md"):
        exec(compile(block, "CONTRIBUTING.md", "exec"), space)  # noqa: S102
    analyzer = space["Largest"]
    assert callable(analyzer)
    some = Selection(layers="0")
    found = Analysis(analyzer(), plan_model(spectra.open(minilm), some), some).run()
    assert len(found.rows) == 6
    assert all(row.number("largest") for row in found.rows)
    (column,) = space["KIND"].columns
    row = found.document()["rows"][0]
    assert float(column.cell(row)) == pytest.approx(row["largest"], rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in analyzers.__all__
        if hasattr(getattr(analyzers, name), "takes") and name != "Analyzer"
    ],
)
def test_every_key_is_defined_in_the_reference(name: str) -> None:
    text = (ROOT / "docs" / "quantities.md").read_text()
    keys: tuple[str, ...] = getattr(analyzers, name).keys
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_what_a_check_tells_is_defined_in_the_reference(minilm: Path) -> None:
    text = (ROOT / "docs" / "quantities.md").read_text()
    found = spectra.check(minilm, rules="SPC3")
    told = {*found.summary, *(key for row in found.rows for key in row.flat())}
    assert sorted(key for key in told if f"`{key}`" not in text) == []


def test_the_readmes_first_lines_are_the_two_commands() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.strip()]
    assert [line.split("#")[0].strip() for line in lines[2:4]] == ["make demo", "make test"]
