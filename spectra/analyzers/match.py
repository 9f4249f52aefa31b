"""Whether two models are the same, or related, up to the order of their units and heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from spectra.analyzers.analyzer import Summary, Takes, Twins, require_count
from spectra.analyzers.row import Measurement, Row, Value
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.components import components_memory, leading_components_work
from spectra.kernels.entries import largest_entry
from spectra.kernels.matching import (
    Frame,
    Order,
    aligned,
    assigned,
    frame_of,
    inner_product,
    leading_frame,
    lines_of,
    of_heads,
    of_units,
    top_of,
)
from spectra.kernels.work import DOUBLE, ENTRY, SINGLE, Work, left_singular_work
from spectra.matrices import Matrix, View
from spectra.matrices.attention import Attention

OUTER = ("q", "k", "v", "gate", "up")  # roles whose outputs are units; of others inputs are
DRAWS = 4  # of the order of the stream, that chance is measured by for heads
SAMPLE = 512  # units that it is measured by where there are more
NUMBERS = (
    "r_before", "r_after", "r_top_before", "r_top_after", "weighted_before", "weighted_after",
    "weighted_top_before", "weighted_top_after", "overlap_before", "overlap_after", "top_rank",
)  # fmt: skip

Held = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Given:
    """Permutations by the name of what reads the units."""

    concluding: ClassVar[frozenset[str]] = frozenset({"orders"})  # the digest tells them

    digest: str
    orders: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Match:
    """Permutations of units of a model that bring its matrices closest to another's.

    Of each MLP the units between up and down, of each attention the heads, those that share keys
    and values together; the residual stream stays as it is. A model's matrix W and the other's,
    permuted, are compared by <W, W'> over both norms, and by their singular vectors.

    Source:
        Ainsworth et al. 2022, arXiv:2209.04836 (Git Re-Basin); Ito et al. 2024, arXiv:2402.04051.
    """

    name: ClassVar[str] = "match"
    version: ClassVar[int] = 4
    takes: ClassVar[Takes] = Twins()
    keys: ClassVar[tuple[str, ...]] = ("matrices", "weighted_null", "matched")

    gamma: float = 0.3  # of sigma_1: above are the leading directions, in [0, 1]
    k: int = 10  # leading directions whose overlap is told, at least 1
    all_directions: bool = False  # compare all singular vectors, not the leading ones alone
    given: Given | None = None  # permutations that are not looked for
    seed: int = 0  # of the orders that chance is measured by

    def __post_init__(self) -> None:
        require_count("--k", self.k)
        if not 0.0 <= self.gamma <= 1.0:
            raise UsageError(f"--gamma {self.gamma} is no share of sigma max. Expected 0 to 1.")

    def cost(self, *views: View | Attention) -> Work:
        """Scores of all units, an assignment, and leading or all singular vectors, twice."""
        shapes, units = _shapes(views)
        size = sum(rows * cols for rows, cols in shapes)
        found = Work(products=2.2 * units * size * SINGLE if units else 0.0,
                     passes=30.0 * size * ENTRY + 1e-8 * units**2)  # fmt: skip
        for rows, cols in shapes:
            if self.all_directions:
                products = 6.0 * rows * cols * min(rows, cols) * DOUBLE
                found += 3.0 * left_singular_work(rows, cols) + Work(products=products)
            else:
                found += 2.0 * leading_components_work(rows, cols, self.k)
        return found

    def memory(self, *views: View | Attention) -> int:
        """Both models' matrices in float32, scores in float64 too, or two frames of the largest."""
        shapes, units = _shapes(views)
        size = sum(rows * cols for rows, cols in shapes)
        largest = max(rows * cols for rows, cols in shapes)
        short = max(min(one) for one in shapes)
        frames = 40 * largest + 56 * short**2
        if not self.all_directions:
            frames = max(components_memory(rows, cols, self.k) for rows, cols in shapes)
        return 8 * size + max(20 * units**2, frames)

    def measure(
        self, subject: Mapping[str, Matrix] | tuple[Attention, Mapping[str, Matrix]]
    ) -> Measurement:
        """Return the permutation, and how far each matrix agrees before and after it.

        Where one holds NaN or Inf the module has no order: told is what each of these holds.
        """
        about, held = subject if isinstance(subject, tuple) else (None, subject)
        sides = [
            {role[2:]: one.values for role, one in held.items() if role.startswith(side)}
            for side in ("a.", "b.")
        ]
        mine, other = sides
        wrong = [{"part": role, "wrong": why} for role in mine
                 if (why := _wrong(mine[role], other[role]))]  # fmt: skip
        if wrong:
            return Measurement(dict.fromkeys(self.keys) | {"matrices": wrong}, "non-finite")
        norms = _norm(mine) * _norm(other)
        order, null = None, None
        if about is not None:
            order, null = self._heads(about, held, mine, other)
        elif len(mine) > 1:
            order, null = self._units(held, mine, other)
        told, matched = [], 0.0
        for role, values in mine.items():
            lines = None if order is None else order_of(order, about, role, values.shape)
            moved = _moved(other[role], role, lines)
            matched += inner_product(values, moved)
            told.append({"part": role, **self._compared(values, other[role], moved, role, lines)})
        arrays = {} if order is None else {"permutation": order}
        return Measurement({
            "matrices": told, "matched": matched / norms if norms else None,
            "weighted_null": null / norms if null is not None and norms else None,
        }, arrays=arrays)  # fmt: skip

    def _units(self, held: Mapping[str, Matrix], mine: Held, other: Held) -> tuple[Order, float]:
        """Return the order of the units of an MLP, and what chance would reach at most."""
        pairs = [_by_unit(role, mine, other) for role in mine]
        known = self._known(held["a.down"].view.name, len(pairs[0][0]))
        order = assigned(of_units(pairs)) if known is None else known
        count = len(order)
        source = torch.Generator().manual_seed(self.seed)
        some = torch.randperm(count, generator=source)[:SAMPLE]
        streams: dict[int, Tensor] = {}
        mixed = [(one[some], two[:, _mixed(two.shape[1], streams, source)]) for one, two in pairs]
        best = of_units(mixed).amax(dim=1)
        return order, float(best.double().mean()) * count

    def _heads(
        self, about: Attention, held: Mapping[str, Matrix], mine: Held, other: Held
    ) -> tuple[Order, float]:
        """Return the order of the heads of an attention, and what chance reaches."""

        def scores(source: "torch.Generator | None") -> tuple[Tensor, Tensor]:
            found = []
            streams: dict[int, Tensor] = {}
            for roles, count in ((("q", "o"), about.heads), (("k", "v"), about.keys)):
                pairs = []
                for role in roles:
                    one, two = _by_unit(role, mine, other)
                    if source is not None:
                        two = two[:, _mixed(two.shape[1], streams, source)]
                    pairs.append((_by_head(one, count), _by_head(two, count)))
                found.append(of_units(pairs).double())
            return found[0], found[1]

        known = self._known(held["a.o"].view.name, about.heads)
        order = of_heads(*scores(None))[0] if known is None else known
        source = torch.Generator().manual_seed(self.seed)
        drawn = [of_heads(*scores(source))[1] for _ in range(DRAWS)]
        return order, sum(drawn) / DRAWS

    def _known(self, name: str, count: int) -> Order | None:
        """Return the permutation that was given, if any was; what has none of it stays."""
        if self.given is None:
            return None
        order = self.given.orders.get(name)
        return torch.arange(count) if order is None else torch.tensor(order)

    def _compared(
        self, mine: Tensor, other: Tensor, moved: Tensor, role: str, lines: Order | None
    ) -> dict[str, Value]:
        """Return how far two matrices agree, as they are and with one of them permuted."""
        first_norm, second_norm = _norm({"": mine}), _norm({"": other})
        norms = first_norm * second_norm
        values: dict[str, Value] = dict.fromkeys((*NUMBERS, "factor"))
        if not norms:
            return values
        values["factor"] = second_norm / first_norm  # which no cosine sees
        values["weighted_before"] = inner_product(mine, other) / norms
        values["weighted_after"] = inner_product(mine, moved) / norms
        first = self._frame(mine)
        second = None if first is None else self._frame(other)
        if first is None or second is None:
            return values
        values["top_rank"] = top_of(first, self.gamma)
        values |= self._told("before", first, second)
        left, right = second.left, second.right
        if role in OUTER:  # a permutation changes vectors alone
            left = _moved(left, "up", lines)
        else:
            right = _moved(right, "up", lines)
        return values | self._told("after", first, second._replace(left=left, right=right))

    def _frame(self, matrix: Tensor) -> Frame | None:
        return frame_of(matrix) if self.all_directions else leading_frame(matrix, self.k)

    def _told(self, when: str, one: Frame, other: Frame) -> dict[str, Value]:
        found = aligned(one, other, self.gamma, self.k)
        return {
            f"r_{when}": found.all, f"r_top_{when}": found.top,
            f"weighted_top_{when}": found.weighted_top, f"overlap_{when}": found.overlap,
        }  # fmt: skip

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return nothing: who plans it concludes, as it knows what matrices are called."""
        return rows, {}


def _shapes(views: Sequence[View | Attention]) -> tuple[list[tuple[int, int]], int]:
    """Return the shapes of one model's matrices, and how many units may move."""
    first = views[0]
    if isinstance(first, Attention):
        size, value = first.heads * first.size, first.heads * first.value_size
        keys = first.keys * first.size, first.keys * first.value_size
        shapes = [(size, first.width), (keys[0], first.memory), (keys[1], first.memory),
                  (first.written, value)]  # fmt: skip
        return shapes, first.heads
    some = [(one.rows, one.cols) for one in views if isinstance(one, View)]
    half = some[: max(len(some) // 2, 1)]
    return half, max(half[-1]) if len(half) > 1 else 0


def _wrong(*pair: Tensor) -> str | None:
    """Say what is no number in the first of two matrices that holds such; None: neither does."""
    try:
        for values in pair:
            largest_entry(values)
    except NonFiniteError as error:
        return str(error)
    return None


def _norm(held: Held) -> float:
    total: float = sum(inner_product(one, one) for one in held.values()) ** 0.5
    return total


def _by_unit(role: str, mine: Held, other: Held) -> tuple[Tensor, Tensor]:
    """Return a matrix of each model with a line for every unit."""
    one, two = mine[role], other[role]
    return (one, two) if role in OUTER else (one.mT, two.mT)


def _by_head(lines: Tensor, count: int) -> Tensor:
    return lines.reshape(count, -1)


def _mixed(length: int, streams: dict[int, Tensor], source: "torch.Generator") -> Tensor:
    """Return an order at random of the stream's dimensions, one for all that have as many."""
    if length not in streams:
        streams[length] = torch.randperm(length, generator=source)
    return streams[length]


def order_of(order: Order, about: Attention | None, role: str, shape: Sequence[int]) -> Order:
    """Return the order of a matrix's lines, by that of its module's units or heads."""
    if about is None:
        return order
    share = about.heads // about.keys
    units = order[::share] // share if role in {"k", "v"} else order
    return lines_of(units, shape[int(role == "o")] // len(units))


def _moved(matrix: Tensor, role: str, lines: Order | None) -> Tensor:
    if lines is None or torch.equal(lines, torch.arange(len(lines))):
        return matrix
    at = lines.to(matrix.device)
    return matrix[at] if role in OUTER else matrix[:, at]
