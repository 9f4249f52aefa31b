"""How far two models agree, matrix by matrix, as they stand and in the order that was found."""

from collections.abc import Callable

from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spectra.report.kind import Document, RowDoc
from spectra.report.plots.heatmap import GRID_LABELS, Scale, draw_grid, grid_notes, grid_of
from spectra.report.plots.page import Arrays, message, page

TITLE = "Two models up to a permutation"
ALIKE = Normalize(-1.0, 1.0)
PANELS: tuple[tuple[str, str, str, Scale | Normalize], ...] = (
    ("weighted_before", "As they stand: cosine of the two matrices", "cosine", ALIKE),
    ("weighted_after", "With units and heads in the order that was found", "cosine", ALIKE),
    ("moved_share", "How many units or heads stand in another place", "share (%)", "from zero"),
)


def draw_match(document: Document, _arrays: Arrays) -> Figure:
    """Draw the cosines before and after, and what moved where anything did, by role and layer."""
    rows = document["rows"]
    moved = any(row.get("moved_share") for row in rows)
    panels = PANELS if moved else PANELS[1:2]
    grids = [grid_of(rows, _value(key, 100.0 if "%" in label else 1.0))
             for key, _, label, _ in panels]  # fmt: skip
    if all(row.get("weighted_after") is None for row in rows):
        return message(document, TITLE, "No matrix of both models has numbers.")
    notes = grid_notes(*grids)
    if not moved:
        notes.append("Nothing moved: the order that was found is the one in which they stand.")
    height = grids[0].height + GRID_LABELS
    figure = page(document, TITLE, len(panels) * height, " ".join(notes))
    layout = figure.add_gridspec(len(panels), 1)
    for place, (grid, (_, title, label, scale)) in enumerate(zip(grids, panels, strict=True)):
        draw_grid(figure.add_subplot(layout[place, 0]), grid, title, label, scale)
    return figure


def _value(key: str, times: float) -> Callable[[RowDoc], float | None]:
    return lambda row: None if row.get(key) is None else times * row[key]
