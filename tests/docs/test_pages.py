"""Every command and every line of Python that a page shows is run as a reader would run it."""

import os
import sys
from pathlib import Path

import pytest

from blocks import DATA, FENCE, NOT_RUN, ROOT, RUN, Reader, alike, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNING = [
    page
    for page in PAGES
    if any(block.language in RUN and not block.not_run for block in blocks(page.read_text()))
]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages ask the same of the same models: it is measured once, whichever process comes to it."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pages"


@pytest.fixture
def reader(tmp_path: Path, minilm: Path, minilm_lora: Path, store: Path) -> Reader:
    """Someone in a folder with the models of `make demo`."""
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm)
    (tmp_path / "minilm-lora-r8").symlink_to(minilm_lora)
    return Reader(tmp_path, store)


# Other libraries' warnings are theirs; ours fail the tests of the code.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUNNING, ids=name)
def test_what_a_page_shows_is_what_comes(page: Path, reader: Reader) -> None:
    reader.follow(page.read_text())
    assert not reader.differences, "\n".join(
        [
            f"run `{Path(sys.executable).name} tests/blocks.py {name(page)}`; these differ:",
            *reader.differences,
        ]
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block is run, or data, or says why it is not run."""
    found = blocks(page.read_text())
    assert [block.text for block in found if block.language not in (*RUN, *DATA)] == []
    assert "```" not in FENCE.sub("", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_not_run_has_a_reason_that_belongs_to_a_block(page: Path) -> None:
    text = page.read_text()
    assert len(NOT_RUN.findall(text)) == sum(bool(block.not_run) for block in blocks(text))


def test_the_tutorial_and_the_readme_run() -> None:
    assert {name(page) for page in RUNNING} >= {"README.md", "docs/tutorial.md"}


@pytest.mark.parametrize(
    ("shown", "actual", "same"),
    [
        ("sigma 28.7 in w", "sigma 28.7 in w", True),
        ("sigma 28.7 in w", "sigma 28.9  in w", True),
        ("sigma 28.7 in w", "sigma 31.7 in w", False),
        ("sigma 28.7 in w", "sigma 28.7 in v", False),
        ("3 intruders", "4 intruders", False),
        ("3 intruders", "-3 intruders", False),
        ("1.2e-05", "1.2e-04", False),
        ("0.7 s", "12.4 s", True),
        ("37 matrices, 22,682,112 parameters", "37 matrices, 2,682,112 parameters", False),
    ],
)
def test_screens_are_compared_by_words_and_numbers(shown: str, actual: str, same: bool) -> None:
    assert alike([shown], [actual]) is same


def test_a_line_more_is_a_difference() -> None:
    assert not alike(["a"], ["a", "b"])


def test_a_wrong_output_is_found(reader: Reader) -> None:
    page = "```console\n$ spectra ls all-MiniLM-L6-v2 -q\n\n  41 matrices.\n```\n"
    fresh = reader.follow(page)
    assert len(reader.differences) == 1
    assert "40 matrices" in fresh
    assert "41 matrices" not in fresh


def test_a_wrong_exit_code_is_found(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="exits with 2"):
        reader.follow("```bash\nspectra ls nowhere\n```\n")
    reader.follow("<!-- exit: 2 -->\n```bash\nspectra ls nowhere\n```\n")


def test_of_what_goes_nowhere_the_errors_are_seen(reader: Reader) -> None:
    with pytest.raises(AssertionError, match=r"exits with 2:\s+error: nowhere "):
        reader.follow("```bash\nspectra ls nowhere > /dev/null\n```\n")
    page = "```console\n$ spectra ls all-MiniLM-L6-v2 -q > /dev/null\n```\n"
    assert reader.follow(page) == page
    assert not reader.differences


def test_python_that_fails_is_found(reader: Reader) -> None:
    with pytest.raises(ZeroDivisionError):
        reader.follow("```python\n1 / 0\n```\n")


def test_an_unknown_target_of_make_is_found(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="no target"):
        reader.follow("```bash\nmake demos\n```\n")
