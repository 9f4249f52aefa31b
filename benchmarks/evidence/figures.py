"""The picture of the page: what is left of the task against what came back."""

from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evidence.summary import ORDER, TITLES
from spectra.report.plots.page import DPI
from spectra.report.plots.style import INK, QUIET, WIDTH, house_style

SEED = 0  # the one with all cures of all methods
LEAST = 64.0  # % of the task, where the picture ends
LOOKS = {  # colour, mark, legend
    "shrink": ("#8a8f98", "o", "whole update shrunk"),
    "truncate": ("#1f6fb2", "s", "update cut to a rank"),
    "top": ("#c8500a", "^", "leading intruder scaled"),
    "all": ("#8a4fbf", "v", "all intruders scaled"),
}


def panel(axes: Axes, rows: pd.DataFrame, method: str) -> None:
    """Draw one method: the tuned model, and the path of each cure."""
    mine = rows[rows["method"] == method]
    cured = mine[mine["cure"] != "none"]
    mine = mine[mine["eta"].isin(cured["eta"])]  # other rates were tuned and measured alone
    tuned = mine[mine["cure"] == "none"]
    here, outside = (100 * tuned["task"].mean(), tuned["words"].mean()), list[str]()
    for cure, (colour, mark, label) in LOOKS.items():
        means = mine[mine["cure"] == cure].groupby("amount")[["task", "words"]].mean()
        path, steps = [here], means.sort_index(ascending=False).assign(task=100 * means["task"])
        for amount, (task, words) in zip(steps.index, steps.to_numpy(), strict=True):
            if task < LEAST:
                outside.append(
                    f"{label} \N{MULTIPLICATION SIGN} {amount:g}: {task:.1f} %, {words:.3f}"
                )
                continue
            path.append((task, words))
            axes.annotate(
                f"{amount:g}", (task, words), (4, 3), textcoords="offset points", fontsize=6,
                color=colour,
            )  # fmt: skip
        if len(path) > 1:
            axes.plot(*zip(*path, strict=True), color=colour, lw=1.0, zorder=2)
            x, y = zip(*path[1:], strict=True)
            axes.scatter(x, y, color=colour, marker=mark, s=20, zorder=3, label=label)
    axes.scatter(*here, color=INK, marker="*", s=70, zorder=4, label="tuned")
    base = rows[rows["cure"] == "base"].iloc[0]
    axes.scatter(
        100 * base["task"], base["words"], color=INK, marker="x", s=36, zorder=4,
        label="base, head alone",
    )  # fmt: skip
    if outside:
        said = "\n".join(["left of here:", *outside])
        axes.text(0.02, 0.02, said, transform=axes.transAxes, fontsize=6, color=QUIET)
    counts = tuned["intruders"].astype(int)
    found = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    axes.set_title(f"{TITLES[method]}: {found} intruders")
    axes.grid(visible=True)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Write the picture."""
    with house_style():
        figure = Figure(figsize=(WIDTH, 6.4), dpi=DPI, layout="constrained")
        rows = rows[rows["seed"] == SEED]
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        labels = dict[str, Artist]()
        for axes, method in zip(panels.flat, ORDER, strict=True):
            if not len(rows[rows["method"] == method]):
                continue
            panel(axes, rows, method)
            handles, names = axes.get_legend_handles_labels()
            labels.update(zip(names, handles, strict=True))
        panels[0, 0].set_xlim(LEAST, 100 * rows["task"].max() + 1)
        for axes in panels[1]:
            axes.set_xlabel("task: accuracy, %")
        for axes in panels[:, 0]:
            axes.set_ylabel("general: MRR of a word's gloss")
        figure.legend(list(labels.values()), list(labels), loc="outside lower center", ncols=3)
        figure.suptitle(
            f"What a cure costs of the task, and what it brings back (seed {SEED}; numbers: scale, "
            "rank or share)",
            color=QUIET,
        )
        figure.savefig(path, metadata={"Software": None})
