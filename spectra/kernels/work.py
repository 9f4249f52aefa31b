"""What kernels cost, from shapes alone: seconds of one core of a machine they were measured on.

By kind of work, as machines differ in each: one whose products are twice as fast need not find
eigenvalues any faster. That machine is a core of an AMD EPYC with AVX-512 and MKL 2024.2, torch
2.13; how another compares is measured there (`spectra.work.rates`). The formulas are fitted to
measurements of sides from 64 to 11,008 and are within a fifth of most of them. Of a change in
float32 or bfloat16 more depends on the weights than a header tells: a third.

It also says which shapes are decided by all singular values, and which by bounds.
"""

import math
from dataclasses import dataclass
from operator import add
from typing import Final

BOUNDED: Final = 512
"""Sides up to which all singular values cost no more than bounds of a few."""

SHORT, DENSE, ENTRIES = 640, 1400, 1 << 23
"""Short sides up to which two decompositions cost less than Krylov spaces: always, or while the
matrix has no more entries than these."""

LONG, RATIO = 1 << 27, 4
"""Entries, and long sides over short ones, from which 16-bit values stay as stored, and exact ways
go panel by panel too: a vocabulary's. A copy in float32 would take half a gigabyte and more."""

BESIDE: Final = 128  # vectors of the long side of a vocabulary that are held at once, about
SOUGHT: Final = 72  # columns at most by which small singular values are sought
PANEL: Final = 1024  # rows of a long matrix multiplied at a time

CALL: Final = 1e-4  # seconds that calls from Python take about, in which nothing is computed
ENTRY: Final = 1e-9  # of one pass over an entry
COLUMNS: Final = 24 * 2 / 65e9  # of an entry in a product with 24 columns, float32
DOUBLE, SINGLE = 1 / 57e9, 1 / 106e9  # of one operation of a large product, in float64 and float32
THREADED: Final = {
    "products": 0.95, "eigenvalues": 0.5, "decompositions": 0.5, "krylov": 0.85, "passes": 0.0,
    "calls": 0.0,
}  # fmt: skip
"""The share of each kind, as `Work` has them, that several threads of one matrix take apart."""


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of a reference core, by kind."""

    products: float = 0.0  # of matrices, Gram matrices and factorisations
    eigenvalues: float = 0.0  # of symmetric matrices, float64
    decompositions: float = 0.0  # singular values and vectors, float64
    krylov: float = 0.0  # products with a few columns, again and again
    passes: float = 0.0  # over entries
    calls: float = 0.0  # from Python, which many small matrices are made of

    @property
    def each(self) -> tuple[float, ...]:
        """The seconds of each kind, in the order of the fields."""
        return (self.products, self.eigenvalues, self.decompositions, self.krylov, self.passes,
                self.calls)  # fmt: skip

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(*map(add, self.each, other.each))

    def __mul__(self, times: float) -> "Work":
        """Return it so many times."""
        return Work(*[times * one for one in self.each])

    __rmul__ = __mul__

    def __float__(self) -> float:
        """Return the seconds of all kinds."""
        return sum(self.each)

    def kinds(self) -> dict[str, float]:
        """Return those that there are any of."""
        return {name: found for name, found in zip(THREADED, self.each, strict=True) if found}

    def threaded(self, threads: int) -> float:
        """Return the seconds that all threads of one matrix take, as far as they share it."""
        return math.fsum(
            found * (1.0 - THREADED[name] + THREADED[name] / threads)
            for name, found in self.kinds().items()
        )


NO_WORK: Final = Work()


def has_bounds(rows: int, cols: int) -> bool:
    """Say whether a shape is large enough for bounds to cost less than all singular values."""
    return min(rows, cols) > BOUNDED


def decomposes(rows: int, cols: int) -> bool:
    """Say whether the directions of a pair of this shape are compared by decompositions."""
    short = min(rows, cols)
    return short <= SHORT or (short <= DENSE and rows * cols <= ENTRIES)


def is_long(rows: int, cols: int) -> bool:
    """Say whether a matrix of this shape is never copied whole."""
    return rows * cols >= LONG and max(rows, cols) >= RATIO * min(rows, cols)


def is_streamed(rows: int, cols: int) -> bool:
    """Say whether what is made of a matrix of this shape is formed a few rows at a time."""
    return is_long(rows, cols) and rows >= cols


def singular_values_work(rows: int, cols: int) -> Work:
    """Return what `singular_values` takes: half a Gram matrix, then eigenvalues."""
    short, long = sorted((rows, cols))
    return Work(
        products=1.1 * long * short**2 * DOUBLE * (1.0 + 64.0 / short),
        eigenvalues=4.0 / 3.0 * short**3 * (1.0 + 600.0 / short) / 34e9,
        passes=2.0 * rows * cols * ENTRY,
        calls=0.4 * CALL,
    )


def extremes_work(rows: int, cols: int) -> Work:
    """Return what both ends of a spectrum take: a factorisation, and two Krylov spaces."""
    short, long = sorted((rows, cols))
    if not has_bounds(rows, cols):
        return singular_values_work(rows, cols)
    if rows == cols:
        return Work(
            products=2.0 / 3.0 * short**3 * (1.0 + 400.0 / short) / 48e9,
            krylov=30.0 * short**2 * COLUMNS,
            calls=190 * CALL,
        )
    return Work(
        products=(long + 0.7 * short) * short**2 * SINGLE,
        krylov=(36.0 * rows * cols + 15.0 * short**2) * COLUMNS,
        calls=110 * CALL,
    )


def floor_work(rows: int, cols: int) -> Work:
    """Return what `condition_floor` takes: a few steps of a Krylov space."""
    if not has_bounds(rows, cols):
        return singular_values_work(rows, cols)
    return Work(krylov=17.0 * rows * cols * COLUMNS, calls=114 * CALL)


def largest_work(rows: int, cols: int) -> Work:
    """Return what `largest_singular_value` takes: a Krylov space."""
    if not has_bounds(rows, cols):
        return singular_values_work(rows, cols)
    return Work(krylov=14.0 * rows * cols * COLUMNS, calls=118 * CALL)


def similarity_work(rows: int, cols: int) -> Work:
    """Return what `proven_similarity` takes where nothing is left open.

    Leading values of a vocabulary stand apart as a rule, which takes fewer passes. Noise alone
    takes five times as long, which no header tells.
    """
    short, long = sorted((rows, cols))
    if decomposes(rows, cols):
        return Work(
            products=1.5 * long * short**2 * DOUBLE,
            decompositions=left_singular_work(rows, cols).decompositions * 1.35,
            passes=40.0 * rows * cols * ENTRY,
            calls=18 * CALL,
        )
    passes = 60.0 if is_long(rows, cols) else 100.0
    return Work(krylov=passes * rows * cols * COLUMNS, calls=1300 * CALL)


def left_singular_work(rows: int, cols: int) -> Work:
    """Return what all left singular vectors take."""
    short, long = sorted((rows, cols))
    return Work(
        products=2.0 * long * short**2 * DOUBLE,
        decompositions=8.0 * short**3 * (1.0 + 260.0 / short) / 66e9,
        passes=10.0 * rows * cols * ENTRY,
    )


def frame_work(rows: int, cols: int) -> Work:
    """Return what all singular vectors of both sides take, and a change seen in their frame."""
    short, long = sorted((rows, cols))
    return Work(
        products=4.0 * long * short**2 * DOUBLE,
        decompositions=1.5 * left_singular_work(rows, cols).decompositions,
        passes=20.0 * rows * cols * ENTRY,
    )


def change_work(rows: int, cols: int, *, full: bool) -> Work:
    """Return what a difference of two stored matrices takes: its directions above rounding.

    That of a vocabulary is formed anew by each pass: of low rank it takes a fifth less than this,
    of full rank a quarter more.
    """
    if is_streamed(rows, cols) and not full:
        return Work(
            products=0.35 * rows * cols * cols * DOUBLE,
            krylov=20.0 * rows * cols * COLUMNS,
            passes=38.0 * rows * cols * ENTRY,
            calls=300 * CALL,
        )
    passes, dominant = 42.0 * rows * cols * ENTRY, 1.5 * rows * cols * COLUMNS
    known = Work(passes=passes, krylov=dominant, calls=34 * CALL)
    if full or not has_bounds(rows, cols):
        return known + 3.0 * singular_values_work(rows, cols)
    short = min(rows, cols)
    return known + Work(
        products=0.5 * rows * cols * short * DOUBLE,
        krylov=6.0 * rows * cols * COLUMNS,
        calls=270 * CALL,
    )


def factors_work(rows: int, cols: int) -> Work:
    """Return what an adapter's update takes: small matrices, and a pass over the base."""
    return Work(passes=0.85 * rows * cols * ENTRY, calls=1.4 * CALL)


def soundness_work(rows: int, cols: int) -> Work:
    """Return what looking at every entry, and digesting it, takes."""
    return Work(passes=1.2 * rows * cols * ENTRY, calls=0.7 * CALL)


def singular_values_memory(rows: int, cols: int, *, stored: bool = False) -> int:
    """Return about the peak bytes of `singular_values`, the float32 matrix included.

    Of one that is `stored` and so long that it is not copied without it: the Gram matrix, and then
    columns of the long side, or the panels of a QR.
    """
    short, long = sorted((rows, cols))
    if stored and is_long(rows, cols):
        searched = 2 * 8 * short**2 + 6 * 8 * SOUGHT * long
        return 8 * PANEL * short + max(searched, 5 * 8 * short * max(short, PANEL))
    return 4 * rows * cols + 8 * PANEL * short + 2 * 8 * short**2


def extremes_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes of both ends, the float32 matrix and the exact way out too.

    Of a stored one; see `singular_values_memory`.
    """
    short, size = min(rows, cols), 0 if is_long(rows, cols) else rows * cols
    return max(singular_values_memory(rows, cols, stored=True), 4 * size + 15 * short**2)


def similarity_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes that `proven_similarity` adds to its input where bounds decide.

    What they leave open takes some 16 bytes an entry and a square of the shorter side more, one
    matrix of a process at a time.
    """
    if is_long(rows, cols):
        short, long = sorted((rows, cols))
        return 40 * short**2 + 8 * BESIDE * long
    entry = 24 if decomposes(rows, cols) else 8
    return entry * rows * cols + 16 * min(rows, cols) ** 2


def streamed_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes of telling a change that is formed a few rows at a time.

    A Gram matrix that is factored, and vectors of the long side.
    """
    short, long = sorted((rows, cols))
    return 24 * short**2 + 8 * BESIDE * long


def frame_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes that a singular frame adds to both its matrices."""
    return 32 * rows * cols + 48 * min(rows, cols) ** 2


def left_singular_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes that all left singular vectors add to their matrix.

    Of a vocabulary its triangular factor, and a few vectors.
    """
    if is_long(rows, cols):
        return similarity_memory(rows, cols)
    short, size = min(rows, cols), rows * cols
    return (16 if cols > rows else 24) * size + 64 * short**2


def size_of(rows: int, cols: int) -> int:
    """Return the class of sizes that a shape belongs to: log2 of its short side, rounded."""
    return round(math.log2(max(min(rows, cols), 1)))
