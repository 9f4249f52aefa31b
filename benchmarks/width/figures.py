"""The picture of a family, from `results/*.csv` alone: `python -m benchmarks.width.figures`."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.width.rules import RULES
from benchmarks.width.summary import EXPECTED, RESULTS
from spectra.report.plots.page import DPI
from spectra.report.plots.style import INK, QUIET, WIDTH, house_style

ROLES = ("q", "k", "v", "o", "gate", "up", "down")
COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#b08a00", "#7a5195")
MARKS = ("o", "s", "^", "v", "D", "P", "X")
TITLES = {
    "rule": "Rule: \N{GREEK SMALL LETTER LAMDA} grows as \N{SQUARE ROOT}d",
    "fixed": "Fixed: \N{GREEK SMALL LETTER LAMDA} the same at every d",
}
SIGMA = "\N{GREEK SMALL LETTER SIGMA}\N{SUBSCRIPT ONE}"
TAU = "\N{GREEK SMALL LETTER TAU}"


def logs(table: pd.DataFrame) -> pd.DataFrame:
    """Add log sigma_1; a geometric mean over seeds and roles is a mean of it."""
    return table.assign(log=np.log(table["sigma_1"]))


def against_width(axes: Axes, trend: pd.DataFrame, rule: str, fits: pd.DataFrame) -> None:
    """Draw sigma_1 per role against width; their mean thick; the law's slope dashed."""
    last = trend[(trend["taus"] == trend["taus"].max()) & (trend["rule"] == rule)]
    for role, colour, mark in zip(ROLES, COLOURS, MARKS, strict=True):
        line = last[last["role"] == role].groupby("width")["log"].mean()
        axes.plot(line.index, np.exp(line), color=colour, marker=mark, ms=4, lw=0.9, label=role)
    mean = last.groupby("width")["log"].mean()
    axes.plot(mean.index, np.exp(mean), color=INK, lw=2.4, label="mean")
    law = EXPECTED[rule, "sigma_1"]
    x = np.log(mean.index.to_numpy(dtype=float))
    axes.plot(
        mean.index,
        np.exp(mean.mean() + law * (x - x.mean())),
        color=INK,
        lw=1.2,
        ls=(0, (4, 3)),
        label="law",
    )
    fit = fits[(fits["rule"] == rule) & (fits["role"] == "all") & (fits["quantity"] == "sigma_1")]
    found, low, high = fit[["slope", "low", "high"]].to_numpy()[0]
    axes.set_title(f"{TITLES[rule]}\nslope {found:+.2f} [{low:+.2f}, {high:+.2f}], law {law:+.2f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(mean.index)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("width d")


def against_time(axes: Axes, trend: pd.DataFrame, rule: str) -> None:
    """Draw the mean over roles against time in tau, a line a width."""
    mine = trend[trend["rule"] == rule]
    widths = sorted(trend["width"].unique())  # of both rules: one shade a width
    for i, width in enumerate(widths):
        line = mine[mine["width"] == width].groupby("taus")["log"].mean()
        shade = str(round(0.72 * (1 - i / max(1, len(widths) - 1)), 2))
        axes.plot(line.index, np.exp(line), color=shade, lw=1.4, marker="o", ms=2.5, label=width)
    axes.set_xlabel(f"time, in {TAU} = 1/(\N{GREEK SMALL LETTER ETA}\N{GREEK SMALL LETTER LAMDA})")
    axes.set_title("mean over roles, by width")


def many(count: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def picture(trend: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Return both rules side by side: against width above, against time below."""
    trend = logs(trend)
    figure = Figure(figsize=(WIDTH, 6.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    for column, rule in enumerate(RULES):
        against_width(panels[0, column], trend, rule, fits)
        against_time(panels[1, column], trend, rule)
    for axes in panels.flat:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(visible=True)
    panels[0, 0].set_ylabel(f"{SIGMA}, median over layers")
    panels[1, 0].set_ylabel(SIGMA)
    panels[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    handles, labels = panels[1, 0].get_legend_handles_labels()
    panels[1, 1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), title="d")
    counts = trend.groupby(["rule", "width"])["seed"].nunique()
    seeds = many(counts.max(), "seed")
    seeds = seeds if counts.nunique() == 1 else f"{counts.min()} to {seeds} a width"
    figure.suptitle(
        f"Largest singular value of Llama matrices trained with AdamW ({seeds})",
        color=QUIET,
    )
    return figure


def main() -> None:
    trend = pd.read_csv(RESULTS / "trend.csv")
    fits = pd.read_csv(RESULTS / "slopes.csv")
    with house_style():
        picture(trend, fits).savefig(RESULTS / "width.png", metadata={"Software": None})
    print(RESULTS / "width.png")


if __name__ == "__main__":
    main()
