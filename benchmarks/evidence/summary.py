"""From the rows of a run to the page: `python -m benchmarks.evidence.summary [OUT]`.

Writes `results/rows.csv` from OUT (without it, takes what is there), the tables between the marks
of docs/evidence.md, and `results/evidence.png`.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent.parent / "docs" / "evidence.md"
ORDER = ("lora1", "lora8", "lora64", "full")
TITLES = {"lora1": "LoRA, rank 1", "lora8": "LoRA, rank 8", "lora64": "LoRA, rank 64",
          "full": "full"}  # fmt: skip
CURES = {
    "top": "leading intruder × {:g}",
    "all": "all intruders × {:g}",
    "truncate": "update cut to rank {:g}",
    "shrink": "whole update × {:g}",
}
DIGITS = 4


def numbered(values: Sequence[float], digits: int, factor: float = 1.0, sign: str = "") -> str:
    """Return the mean over seeds, and from least to greatest where there are several."""
    scaled = [factor * value for value in values]

    def one(value: float) -> str:
        return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")

    mean = one(sum(scaled) / len(scaled))
    if len(scaled) == 1 or one(min(scaled)) == one(max(scaled)):
        return mean
    return f"{mean} ({one(min(scaled))} to {one(max(scaled))})"


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Add to each cured row what it changed beside the tuned one of its run, and what came back.

    `task_moved` in accuracy; `words_back` and `others_back` are shares of what tuning took, so 1
    is the base's own value. They are null where tuning took nothing.
    """
    base = rows[rows["cure"] == "base"].set_index("seed")
    tuned = rows[rows["cure"] == "none"].set_index(["method", "seed"])
    cured = rows[~rows["cure"].isin(["base", "none"])].copy()
    mine = tuned.loc[list(zip(cured["method"], cured["seed"], strict=True))]
    before = base.loc[cured["seed"]]
    cured["task_moved"] = cured["task"].to_numpy() - mine["task"].to_numpy()
    cured["had"] = mine["intruders"].to_numpy()
    for name in ("words", "others"):
        lost = before[name].to_numpy() - mine[name].to_numpy()
        back = (cured[name].to_numpy() - mine[name].to_numpy()) / lost
        cured[f"{name}_back"] = pd.Series(back, index=cured.index).where(lost > 0)
    return cured


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


def runs(rows: pd.DataFrame) -> str:
    """Return the table of what was tuned."""
    lines = []
    base = rows[rows["cure"] == "base"]
    if len(base):
        lines.append([
            "base, head alone", "", numbered(base["task"].tolist(), 1, 100),
            numbered(base["words"].tolist(), 3), numbered(base["others"].tolist(), 3),
            "", "", "",
        ])  # fmt: skip
    tuned = rows[rows["cure"] == "none"]
    for method in ORDER:
        mine = tuned[tuned["method"] == method]
        if len(mine):
            lines.append([
                TITLES[method], f"{mine['eta'].iloc[0]:g}",
                numbered(mine["task"].tolist(), 1, 100), numbered(mine["words"].tolist(), 3),
                numbered(mine["others"].tolist(), 3), numbered(mine["delta"].tolist(), 1, 100),
                numbered(mine["rank"].tolist(), 0), numbered(mine["intruders"].tolist(), 0),
            ])  # fmt: skip
    heads = ("run", "eta", "task, %", "words, MRR", "others, MRR", "update, %", "its rank",
             "intruders")  # fmt: skip
    return table(heads, lines)


def cures(rows: pd.DataFrame) -> str:
    """Return the table of what repair, truncation and shrinking did."""
    cured = effects(rows)
    lines = []
    for method in ORDER:
        for cure, words in CURES.items():
            mine = cured[(cured["method"] == method) & (cured["cure"] == cure)]
            for amount in sorted(mine["amount"].unique(), reverse=True):
                here = mine[mine["amount"] == amount]
                lines.append([
                    TITLES[method], words.format(amount),
                    numbered(here["task_moved"].tolist(), 1, 100, "+"),
                    numbered(here["words_back"].dropna().tolist() or [float("nan")], 0, 100, "+"),
                    numbered(here["others_back"].dropna().tolist() or [float("nan")], 0, 100, "+"),
                    (f"{numbered(here['had'].tolist(), 0)} → "
                    f"{numbered(here['intruders'].tolist(), 0)}"),
                ])  # fmt: skip
    heads = ("run", "cure", "task, points", "words back, %", "others back, %", "intruders")
    return table(heads, lines)


def filled(page: str, rows: pd.DataFrame) -> str:
    """Return a page with its tables as the rows say."""
    for name, text in (("runs", runs(rows)), ("cures", cures(rows))):
        mark = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
        page = re.sub(mark, rf"\1\n{text}\n\2", page, flags=re.DOTALL)
    return page


def main() -> None:
    from benchmarks.evidence.figures import draw  # noqa: PLC0415 - takes the tables of this file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="the folder of `benchmarks.evidence`")
    given = parser.parse_args()
    stored = RESULTS / "rows.csv"
    if given.out is not None:
        RESULTS.mkdir(exist_ok=True)
        pd.read_csv(given.out / "rows.csv").round(DIGITS).to_csv(stored, index=False)
    rows = pd.read_csv(stored)
    PAGE.write_text(filled(PAGE.read_text(), rows))
    draw(rows, RESULTS / "evidence.png")
    print(runs(rows), cures(rows), sep="\n\n")


if __name__ == "__main__":
    main()
