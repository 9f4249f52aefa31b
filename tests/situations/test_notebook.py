"""First-user situations in a notebook: what a cell shows, as Jupyter asks for it."""

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from situations.terminal import Desk


@dataclass(frozen=True, slots=True)
class Cell:
    """What is typed, what the value of its last line shows, and what was written."""

    title: str
    code: str
    see: tuple[str, ...] = ()  # in the HTML where there is some, else in the text
    never: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


CELLS = (
    Cell(
        "a diff shows its sentence and its table",
        'spectra.diff("minilm", "adapter", intruders=True)',
        see=("looks like a rank-8 LoRA", "<table", "encoder.layer.5.intermediate.dense"),
        never=("Result object at", "--intruders"),
    ),
    Cell(
        "the same words as at the command line",
        'spectra.spectrum("minilm", role="attn.q", layers=[0, 1]).frame["matrix"].tolist()',
        see=("encoder.layer.0.attention.self.query", "encoder.layer.1.attention.self.query"),
        never=("layer.2", "key"),
    ),
    Cell(
        "a name in part, and the way out",
        """
try:
    spectra.spectrum("minilm", include="query")
except spectra.SpectraError as error:
    said = str(error)
said
""",
        see=("'*query*'", "6"),
        never=("--include",),
    ),
    Cell(
        "a folder that is not there",
        """
try:
    spectra.kappa("nope/")
except spectra.SpectraError as error:
    said = str(error)
said
""",
        see=("nope/ does not exist",),
    ),
    Cell(
        "a result is saved and read again",
        """
spectra.kappa("minilm", select="10%").save("cell.json")
spectra.load("cell.json")
""",
        see=("selected", "<table"),
        written=("cell.json",),
    ),
    Cell(
        "a picture into axes of one's own",
        """
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
spectra.load("kappa.json").plot(ax=axes)
drawn = len(axes.get_children())
plt.close(figure)
drawn > 15
""",
        see=("True",),
    ),
    Cell(
        "heads into the same",
        """
figure, axes = plt.subplots()
spectra.heads("minilm", layers=0).plot(ax=axes)
drawn = axes.get_title("left")
plt.close(figure)
drawn
""",
        see=("Whether a head copies",),
    ),
    Cell(
        "an option of a question that is not asked",
        """
try:
    spectra.heads("minilm", strongest=3)
except spectra.SpectraError as error:
    said = str(error)
said
""",
        see=("Add compose=True",),
        never=("--",),
    ),
    Cell(
        "a page",
        'spectra.report("diff.json", spectra.load("check.json"), output="cell.html")',
        written=("cell.html",),
    ),
    Cell(
        "two results side by side",
        'spectra.compare("diff.json", spectra.load("merged.json"))',
        see=("<",),
        never=("Result object at",),
    ),
    Cell(
        "a check",
        'spectra.check("nan").summary["passed"]',
        see=("False",),
    ),
    Cell(
        "what there is",
        "sorted(set(dir(spectra)) & {'diff', 'kappa', 'spectrum', 'check', 'compare', 'report', "
        "'load', 'open', 'SpectraError'})",
        see=("SpectraError", "check", "compare", "diff", "kappa", "load", "open", "report",
             "spectrum"),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def names(desk: Desk) -> Iterator[dict[str, Any]]:
    with contextlib.chdir(desk.folder):
        found: dict[str, Any] = {}
        exec("import spectra", found)  # noqa: S102 - the first cell
        yield found


@pytest.mark.parametrize("cell", CELLS, ids=[cell.title for cell in CELLS])
def test_a_cell(cell: Cell, names: dict[str, Any]) -> None:
    *before, last = ast.parse(cell.code).body
    exec(compile(ast.Module(before, []), "cell", "exec"), names)  # noqa: S102 - our own cells
    assert isinstance(last, ast.Expr)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    html = getattr(value, "_repr_html_", None)
    shown = html() if html else repr(value)
    for text in cell.see:
        assert text in shown
    for text in cell.never:
        assert text not in shown + repr(value)
    assert len(repr(value).splitlines()) <= 40  # one screen
    for name in cell.written:
        assert Path(name).stat().st_size
