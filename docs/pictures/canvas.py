"""The paper of the pictures: one size, one style."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from palette import GRID, INK, PAPER, QUIET

PLACE = Path(__file__).parent
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": QUIET, "axes.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.titlecolor": INK,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "legend.labelcolor": INK, "text.color": INK,
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    "svg.fonttype": "none", "svg.hashsalt": "spectra",
}  # fmt: skip


@contextmanager
def picture(name: str, columns: int = 1, height: float = 3.0) -> Iterator[Sequence[Axes]]:
    """Give axes to draw on, then write NAME.svg."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield list(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"
    (PLACE / f"{name}.svg").write_text(text)


ROLES = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")
BERT = tuple(role for role in ROLES if role != "mlp.gate")


def by_role(
    axes: Axes,
    values: Iterable[tuple[str, float]],
    colour: str,
    shift: float = 0,
    roles: Sequence[str] = ROLES,
) -> None:
    """Draw one dot a matrix, a column a role."""
    points = [(roles.index(role) + shift, value) for role, value in values if role in roles]
    axes.scatter(*zip(*points, strict=True), s=16, color=colour, alpha=0.8, linewidths=0)
    axes.set_xticks(range(len(roles)), roles)
    axes.set_xlim(-0.6, len(roles) - 0.4)
