"""Which shape most of a selection has, where that says more than the weights do."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from spectra.analyzers.row import Row
from spectra.kernels.gaussian import kappa_null
from spectra.numbers import number

FEWEST = 3  # selected, below which one shape is chance
MOST = 0.75  # of the selected, from which one shape dominates
TIMES = 1.5  # as often as among the candidates


def dominant_shape(chosen: Sequence[Row], candidates: Sequence[Row]) -> str:
    """Say that a ranking by kappa picked a shape; empty where it did not.

    One class of shapes makes up most of the selected, far more than of the candidates, and
    random matrices of it have a lower kappa than those of the others.
    """
    picked, there = (Counter(map(_class, rows)) for rows in (chosen, candidates))
    if len(chosen) < FEWEST:
        return ""
    shape, count = picked.most_common(1)[0]
    share, usual = count / len(chosen), there[shape] / len(candidates)
    if share < MOST or share < TIMES * usual:
        return ""
    own, others = (
        [kappa_null(row.place.rows, row.place.cols) for row in candidates
         if (_class(row) == shape) is same]
        for same in (True, False)
    )  # fmt: skip
    if median(own) >= median(others):
        return ""
    selected = f"all {count:,}" if count == len(chosen) else f"{count:,} of the {len(chosen):,}"
    return (
        f"kappa ranks shapes here: {selected} are {shape}, as are {there[shape]:,} of the "
        f"{len(candidates):,} candidates. --rank-by kappa_excess compares like with like."
    )


def _class(row: Row) -> str:
    short, long = sorted((row.place.rows, row.place.cols))
    ratio = number(long / short, 2)
    if short == long:
        return "squares"
    return "near-squares" if ratio == "1" else f"{ratio}:1 rectangles"
