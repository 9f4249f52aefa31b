"""What groups of layers hold in one basis, beside a basis for each and chance."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spectra.analyzers.shared_reading import SPAN
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.page import Arrays, left_out, message, page
from spectra.report.plots.style import DARK, QUIET
from spectra.text import counted, printable
from spectra.words import UNMEASURED

HEIGHT = 1.9  # inches of a panel
MOST = 6  # panels
LOOKS: Mapping[str, tuple[str, str, str]] = {
    "single_energy": ("each by itself", "#a05a00", "-"),
    "shared_energy": ("together", DARK, "-"),
    "shared_null": ("by chance", QUIET, ":"),
}
TITLE = "Shared input subspaces"
MEANT = (
    "A line goes over the layers of its group; it is as high as the share of their energy that a "
    "basis holds: one for each layer, or one for all of as many parameters."
)


def draw_shared(document: Document, _arrays: Arrays) -> Figure:
    """Draw a line over the layers of every group, as high as the energy that a basis holds."""
    groups: dict[str, list[RowDoc]] = defaultdict(list)
    lost = 0
    for row in document["rows"]:
        lost += row["status"] in UNMEASURED
        if row.get("shared_energy") is not None:
            groups[SPAN.sub("*", row["matrix"])].append(row)
    if not groups:
        return message(document, TITLE, "No group of layers has anything to share.")
    drawn = [*groups.items()][:MOST]
    notes = [MEANT, *left_out(lost)]
    if len(groups) > MOST:
        notes.append(f"{counted(len(groups) - MOST, 'name')} of matrices not drawn.")
    figure = page(document, TITLE, HEIGHT * len(drawn) + 0.3, " ".join(notes))
    several = len({rows[0]["role"] for rows in groups.values()}) < len(groups)
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for axes, (name, rows) in zip(panels, drawn, strict=True):
        _draw(axes, rows)
        axes.set_title(printable(name) if several else rows[0]["role"])
    panels[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)
    panels[-1].set_xlabel("layer (index)")
    return figure


def _draw(axes: Axes, rows: Sequence[RowDoc]) -> None:
    """Draw the groups of one name; lines of the larger ones are thinner."""
    least = min(len(row["in_group"]) for row in rows)
    for key, (label, colour, dashes) in LOOKS.items():
        for at, row in enumerate(rows):
            over = row["in_group"][0] - 0.35, row["in_group"][-1] + 0.35
            width = 2.2 if len(row["in_group"]) == least else 1.0
            axes.plot(
                over, (row[key], row[key]), color=colour, linestyle=dashes, linewidth=width,
                solid_capstyle="butt", label="" if at else label,
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("energy held")
    values = [row[key] for row in rows for key in LOOKS]
    room = 0.15 * (max(values) - min(values)) + 0.01
    axes.set_ylim(min(values) - room, max(values) + room)
    axes.grid(axis="y")
