"""From the rows of a run to the page: `python -m benchmarks.evidence.summary [OUT]`.

Writes `results/rows.csv` from OUT (without it, takes what is there), the tables between the marks
of docs/evidence.md, and `results/evidence.png`.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent.parent / "docs" / "evidence.md"
SCORES = ["task", "words", "others"]
RUN = ["method", "eta", "seed"]
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
    base = rows[rows["cure"] == "base"].iloc[0]
    tuned = rows[rows["cure"] == "none"].set_index(RUN)
    cured = rows[~rows["cure"].isin(["base", "none"])].copy()
    mine = tuned.loc[list(cured[RUN].itertuples(index=False, name=None))].set_index(cured.index)
    cured["task_moved"] = cured["task"] - mine["task"]
    cured["had"] = mine["intruders"]
    for name in ("words", "others"):
        lost = base[name] - mine[name]
        cured[f"{name}_back"] = (cured[name] - mine[name]) / lost.where(lost > 0)
    return cured


def grouped(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what was tuned, each method from its lowest learning rate up, and its rows."""
    for method in ORDER:
        mine = rows[rows["method"] == method]
        for eta in sorted(mine["eta"].unique()):
            yield f"{TITLES[method]}, eta {eta:g}", mine[mine["eta"] == eta]


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
            "base, head alone", numbered(base["task"].tolist(), 1, 100),
            numbered(base["words"].tolist(), 3), numbered(base["others"].tolist(), 3),
            "", "", "", str(len(base)),
        ])  # fmt: skip
    for title, mine in grouped(rows[rows["cure"] == "none"]):
        lines.append([
            title, numbered(mine["task"].tolist(), 1, 100), numbered(mine["words"].tolist(), 3),
            numbered(mine["others"].tolist(), 3), numbered(mine["delta"].tolist(), 1, 100),
            numbered(mine["rank"].tolist(), 0), numbered(mine["intruders"].tolist(), 0),
            str(len(mine)),
        ])  # fmt: skip
    heads = ("run", "task, %", "words", "others", "update, %", "its rank", "intruders", "seeds")
    return table(heads, lines)


def cures(rows: pd.DataFrame) -> str:
    """Return the table of what repair, truncation and shrinking did."""
    cured = effects(rows)
    lines = []
    for title, run in grouped(cured):
        for cure, words in CURES.items():
            mine = run[run["cure"] == cure]
            for amount in sorted(mine["amount"].unique(), reverse=True):
                here = mine[mine["amount"] == amount]
                left = (numbered(here[name].tolist(), 0) for name in ("had", "intruders"))
                lines.append([
                    title, words.format(amount),
                    numbered(here["task_moved"].tolist(), 1, 100, "+"),
                    numbered(here["words_back"].tolist(), 0, 100, "+"),
                    numbered(here["others_back"].tolist(), 0, 100, "+"),
                    " → ".join(left),
                ])  # fmt: skip
    heads = ("run", "cure", "task, points", "words back, %", "others back, %", "intruders")
    return table(heads, lines)


def beaten(rows: pd.DataFrame) -> tuple[int, int]:
    """Return how many models were repaired or cut, and of how many a shrunk one is as good.

    That is in all three scores, and of the same run; the tuned model counts as shrunk by nothing.
    """
    count = found = 0
    for _, run in rows[rows["cure"] != "base"].groupby(RUN):
        plain = run[run["cure"].isin(["shrink", "none"])][SCORES].to_numpy()
        for one in run[run["cure"].isin(["top", "all", "truncate"])][SCORES].to_numpy():
            count += 1
            found += bool((plain >= one).all(axis=1).any())
    return count, found


def comparison(rows: pd.DataFrame) -> str:
    """Return the sentence below the cures."""
    count, found = beaten(rows)
    return (
        f"Of {count} models that were repaired or cut, {found} have a shrunk one of the same run "
        "that is at least as good at the task, *words* and *others* alike."
    )


def filled(page: str, rows: pd.DataFrame) -> str:
    """Return a page with its tables as the rows say."""
    for name, text in (
        ("runs", runs(rows)),
        ("cures", cures(rows)),
        ("comparison", comparison(rows)),
    ):
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
    print(runs(rows), cures(rows), comparison(rows), sep="\n\n")


if __name__ == "__main__":
    main()
