"""The notebooks of examples/ run as a reader would run them, and show what is stored in them."""

from itertools import zip_longest
from pathlib import Path

import pytest

from blocks import alike
from notebooks import FOLDER, read, run, shown

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


# Other libraries' warnings are theirs.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(
    path: Path, tmp_path: Path, minilm: Path, minilm_lora: Path
) -> None:
    for name in ("demo", "examples"):
        (tmp_path / name).mkdir()
    (tmp_path / "demo" / "all-MiniLM-L6-v2").symlink_to(minilm)
    (tmp_path / "demo" / "minilm-lora-r8").symlink_to(minilm_lora)
    fresh = run(path, tmp_path / "examples")
    for cell, now in zip(read(path).cells, fresh.cells, strict=True):
        for stored, actual in zip_longest(shown(cell), shown(now), fillvalue=("", "")):
            assert stored[0] == actual[0], f"{cell.source}\n{actual}"
            assert alike(stored[1].splitlines(), actual[1].splitlines()), (
                f"run `make examples`:\n{cell.source}\n{actual[1]}"
            )


def test_there_is_a_notebook_and_it_is_small() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first-look.ipynb"]
    assert all(path.stat().st_size < 600_000 for path in NOTEBOOKS)


def test_a_notebook_holds_a_table_and_a_picture() -> None:
    kinds = {kind for path in NOTEBOOKS for cell in read(path).cells for kind, _ in shown(cell)}
    assert {"text/plain", "text/html", "image/png"} <= kinds
