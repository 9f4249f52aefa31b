"""Pictures of families and runs, from the models of `python -m benchmarks.width`."""

import csv
import math
import statistics
from collections import defaultdict
from pathlib import Path

from canvas import picture
from measure import ROOT
from palette import BLUE, GREEN, ORANGE, PURPLE, QUIET

RESULTS = ROOT / "benchmarks" / "width" / "results"
RULES = (("fixed", ORANGE, "lambda held fixed"), ("rule", BLUE, "lambda ~ √d"))
ROLES = ("q", "k", "v", "o", "gate", "up", "down")
HIDDEN = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of one file."""
    with Path(RESULTS / name).open() as file:
        return list(csv.DictReader(file))


def medians() -> dict[tuple[str, str], dict[int, float]]:
    """Return by rule and role the median sigma_1 over layers, by width, of seed 0."""
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in read("sigma.csv"):
        if row["seed"] == "0" and row["role"] in ROLES:
            found[row["rule"], row["role"], int(row["width"])].append(float(row["last"]))
    table: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for (rule, role, width), values in sorted(found.items()):
        table[rule, role][width] = statistics.median(values)
    return table


def slope() -> None:
    """One role under both rules, with its line."""
    with picture("width-slope", 2) as panels:
        table = medians()
        for axes, role, title in zip(panels, ("q", "up"), ("attn.q", "mlp.up"), strict=True):
            for rule, colour, label in RULES:
                points = table[rule, role]
                widths, values = list(points), list(points.values())
                tilt, start = statistics.linear_regression(
                    [math.log(width) for width in widths], [math.log(value) for value in values]
                )
                axes.scatter(widths, values, s=18, color=colour)
                axes.plot(
                    widths, [math.exp(start) * width**tilt for width in widths], color=colour,
                    label=f"{label}: slope {tilt:+.2f}",
                )  # fmt: skip
            axes.set(xscale="log", yscale="log", title=title, xlabel="width d")
            axes.set_xticks([64, 128, 256, 512], ["64", "128", "256", "512"])
            axes.set_xticks([], minor=True)
            axes.set_yticks([1, 2, 3, 4], ["1", "2", "3", "4"])
            axes.set_yticks([], minor=True)
            axes.set_ylim(1, 4.5)
            axes.legend(loc="upper left")
        panels[0].set_ylabel("median sigma_max")


def matching() -> None:
    """Sigma in the widest model over sigma in the proxy, by role."""
    with picture("matching") as (axes,):
        table = medians()
        axes.axhspan(0.9, 1.1, color=GREEN, alpha=0.18, lw=0)
        for shift, (rule, colour, label) in zip((-0.1, 0.1), RULES, strict=True):
            ratios = [table[rule, role][512] / table[rule, role][64] for role in ROLES]
            axes.scatter(
                [index + shift for index in range(len(ROLES))], ratios, s=26, color=colour,
                label=label,
            )  # fmt: skip
        axes.set_xticks(range(len(ROLES)), HIDDEN)
        axes.axhline(1, color=QUIET, linestyle="--", linewidth=1)
        axes.set(ylabel="ratio, d = 512 over d = 64", yscale="log")
        axes.set_yticks(
            [0.7, 0.9, 1, 1.1, 1.5, 2, 3, 5], ["0.7", "0.9", "1", "1.1", "1.5", "2", "3", "5"]
        )
        axes.set_yticks([], minor=True)
        axes.legend(loc="upper left", ncols=2)


def trend() -> None:
    """How sigma_max moves over a run."""
    with picture("trend") as (axes,):
        colours = dict(zip(("q", "v", "up", "down"), (BLUE, GREEN, ORANGE, PURPLE), strict=True))
        for (role, colour), name in zip(
            colours.items(), ("attn.q", "attn.v", "mlp.up", "mlp.down"), strict=True
        ):
            run = ("rule", "256", "0", role)
            rows = [
                row for row in read("trend.csv")
                if (row["rule"], row["width"], row["seed"], row["role"]) == run
            ]  # fmt: skip
            points = sorted((int(row["taus"]), float(row["sigma_1"])) for row in rows)
            axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name)
        axes.set(
            xlabel="steps, in units of 1 / (eta · lambda)", ylabel="sigma_max, median of layers"
        )
        axes.set_ylim(0)
        axes.legend()
