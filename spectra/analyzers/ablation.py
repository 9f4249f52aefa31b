"""One direction of the residual stream in the change of many matrices: an ablation, or not.

Of all matrices of a flow, what writes to the stream or what reads from it, the direction v is the
top eigenvector of the sum of D_i D_i^T / ||D_i||^2, D_i with the stream on its left, as far as the
directions that were kept of each tell; what v holds of each is then proven to lie between
`Reach.low` and `Reach.high`. Changes that know nothing of each other have the same shares along
directions of their own: the null, drawn.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from spectra.analyzers.change import DAMAGED, STORED
from spectra.analyzers.direction import SIDES, Along, Flow, along_of
from spectra.analyzers.row import Row
from spectra.analyzers.tally import is_head, matrices_of, whole_of
from spectra.deferred import Tensor, torch
from spectra.kernels.dominant import held

ALIKE = 0.9  # |cos|, from which on directions count as one, and a change as the base's own
MOST = 0.5  # of a change beyond rounding that an ablation holds, and of matrices that it is in
CLEAR = 2.0  # times the null's largest share
LEFT_OUT = frozenset({*DAMAGED, *STORED})  # kinds of change that are no edit
FEWEST = 2  # matrices that have a direction in common
DRAWS = 20  # of the null
ENTRIES = 1 << 22  # numbers drawn at once; of more matrices some are, whose null is higher
STEPS = 60  # of power iteration, where there are many directions
DIGITS = 9  # of a sum of weights that count: twelve twelfths are one
SMALL = 1 << 11  # of them, up to which all eigenvectors are computed


@dataclass(frozen=True, slots=True)
class Reach:
    """What a direction holds of one matrix's change."""

    row: Row
    along: Along | None  # None: no direction holds much of it
    weight: float  # 1, or of a head: what of the change of its matrix it holds
    kept: float  # of ||D||^2, in the directions that were kept
    low: float  # and in all of it, proven
    high: float

    def is_ablated(self, unit: Tensor) -> bool:
        """Say whether its change is that of taking this direction out of it."""
        along = self.along
        return (
            along is not None
            and along.alike >= ALIKE
            and float(along.shares[0]) >= MOST * (1.0 - along.rounding)
            and abs(float(along.directions[0].double() @ unit)) >= ALIKE
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """The change of all matrices of one flow and width, as seen along one direction."""

    flow: Flow
    width: int  # of the stream
    every: Sequence[Row]  # of the flow and width
    reaches: Sequence[Reach]  # of those that changed
    null: tuple[float, float]  # least and greatest share of independent changes, drawn
    unit: Tensor
    ablated: Sequence[Reach]  # along it
    own: Mapping[int, Sequence[Reach]]  # by layer: those that one direction a layer is taken out of

    @property
    def share(self) -> float:
        """What it holds of a change on average, in the directions that were kept, as the null."""
        return mean(self.reaches, lambda reach: reach.kept)

    @property
    def share_low(self) -> float:
        """And in all of the change, at least."""
        return mean(self.reaches, lambda reach: reach.low)

    @property
    def share_high(self) -> float:
        """And at most."""
        return mean(self.reaches, lambda reach: reach.high)

    @property
    def kind(self) -> str:
        """What it is: `ablation`, `ablation by layer`, `common`, or nothing to be named."""
        enough = max(FEWEST, MOST * weight_of(self.reaches))
        clear = self.share > CLEAR * self.null[1]
        if weight_of(self.ablated) >= enough and (
            clear or self.share > 1.0 - (1.0 - self.null[1]) / 2.0
        ):
            return "ablation"
        if len(self.own) >= FEWEST and sum(map(weight_of, self.own.values())) >= enough:
            return "ablation by layer"
        return "common" if clear and self.share_low >= MOST else ""

    @property
    def rows(self) -> list[Row]:
        """The rows of what was ablated."""
        if self.kind == "ablation":
            return [reach.row for reach in self.ablated]
        if self.kind == "ablation by layer":
            return [reach.row for some in self.own.values() for reach in some]
        return []


def edits_of(rows: Sequence[Row]) -> list[Edit]:
    """Return the edit of each flow and width in which matrices changed that keep directions.

    Args:
        rows: All that were measured.
    """
    groups: dict[tuple[Flow, int], list[Row]] = {}
    for row in rows:
        side = SIDES.get(row.place.role)
        if side is not None:
            width = row.place.rows if side[1] == 0 else row.place.cols
            groups.setdefault((side[0], width), []).append(row)
    found = (_edit(flow, width, some) for (flow, width), some in groups.items())
    return [edit for edit in found if edit is not None]


def _edit(flow: Flow, width: int, rows: Sequence[Row]) -> Edit | None:
    changed = [
        (row, along_of(row))
        for row in rows
        if row.number("delta_norm") and row.values.get("delta_kind") not in LEFT_OUT
    ]
    if matrices_of([row for row, along in changed if along is not None]) < FEWEST:
        return None
    weights = _weights([row for row, _ in changed])
    lines = [
        _weighed(along, weight)
        for (_, along), weight in zip(changed, weights, strict=True) if along is not None
    ]  # fmt: skip
    unit = _top(torch.cat(lines))
    reaches = [
        _reach(row, along, weight, unit)
        for (row, along), weight in zip(changed, weights, strict=True)
    ]
    ablated = [reach for reach in reaches if reach.is_ablated(unit)]
    return Edit(
        flow, width, rows, reaches, _null(reaches, width), unit, ablated,
        _by_layer(reaches),
    )  # fmt: skip


def _weights(rows: Sequence[Row]) -> list[float]:
    """Return how much each counts: a matrix once, and its heads together as much.

    As D D^T of a matrix is the sum over its heads, these are weighed by ||D||^2 of each.
    """
    sizes = [(row.number("delta_norm") or 0.0) ** 2 for row in rows]
    wholes: dict[Hashable, float] = {}
    for row, size in zip(rows, sizes, strict=True):
        wholes[whole_of(row)] = wholes.get(whole_of(row), 0.0) + size
    return [
        size / wholes[whole_of(row)] if is_head(row) else 1.0
        for row, size in zip(rows, sizes, strict=True)
    ]


def _reach(row: Row, along: Along | None, weight: float, unit: Tensor) -> Reach:
    if along is not None:
        kept = float((along.shares * (along.directions.double() @ unit).square()).sum())
        return Reach(row, along, weight, kept, *held(along.directions.mT, along.shares, unit))
    stable = row.number("delta_stable_rank") or 1.0
    return Reach(row, None, weight, 0.0, 0.0, min(1.0 / stable, 1.0))


def _by_layer(reaches: Sequence[Reach]) -> dict[int, Sequence[Reach]]:
    """Return the layers of which several matrices, and most, have one direction taken out."""
    layers: dict[int, list[Reach]] = {}
    for reach in reaches:
        if reach.row.place.layer is not None:
            layers.setdefault(reach.row.place.layer, []).append(reach)
    found: dict[int, Sequence[Reach]] = {}
    for layer, some in layers.items():
        kept = [reach for reach in some if reach.along is not None]
        if matrices_of([reach.row for reach in kept]) < FEWEST:
            continue
        unit = _top(torch.cat([_weighed(one.along, one.weight) for one in kept if one.along]))
        ablated = [reach for reach in some if reach.is_ablated(unit)]
        if weight_of(ablated) >= max(FEWEST, MOST * weight_of(some)):
            found[layer] = ablated
    return found


def _weighed(along: Along, weight: float) -> Tensor:
    """Return directions, each as long as what it holds; float32: of experts there are thousands."""
    directions = along.directions
    wide = directions if directions.dtype == torch.float64 else directions.float()
    return wide * (weight * along.shares).sqrt().to(wide.dtype).unsqueeze(1)


def _top(lines: Tensor) -> Tensor:
    """Return the unit vector that lines have most in common with."""
    count, width = lines.shape
    if width <= min(count, SMALL):
        lines = lines.double()
        found = torch.linalg.eigh(lines.mT @ lines).eigenvectors[:, -1]
    elif count <= SMALL:
        lines = lines.double()
        _, turn = torch.linalg.eigh(lines @ lines.mT)
        found = lines.mT @ turn[:, -1]
    else:
        found = lines[0]
        for _ in range(STEPS):
            found = lines.mT @ (lines @ found)
            found = found / torch.linalg.vector_norm(found)
    unit: Tensor = found.double() / torch.linalg.vector_norm(found.double())
    return unit


def _null(reaches: Sequence[Reach], width: int) -> tuple[float, float]:
    """Return the least and greatest share of changes as these are, in directions of their own.

    Heads of one matrix keep what their directions have in common.
    """
    groups: dict[Hashable, list[Tensor]] = {}
    for reach in reaches:
        if reach.along is not None:
            own = groups.setdefault(whole_of(reach.row), [])
            own.append(_weighed(reach.along, reach.weight))
    lines = [torch.cat(own) for own in groups.values()]
    longest = max(map(len, lines))
    size = width * longest
    places = torch.linspace(0, len(lines) - 1, min(max(ENTRIES // size, FEWEST), len(lines)))
    part = [lines[int(at)] for at in places]
    roots = torch.stack([_root(one @ one.mT, longest) for one in part])
    source, most = torch.Generator().manual_seed(0), torch.empty(0)
    while (left := DRAWS - len(most)) > 0:  # few at once where each is large
        count = min(max(ENTRIES // (size * len(part)), 1), left)
        drawn = _drawn((count, len(part) * longest, width), source)
        drawn /= torch.linalg.vector_norm(drawn, dim=2, keepdim=True)
        drawn = roots @ drawn.unflatten(1, (len(part), longest))
        most = torch.cat([most, _most(drawn.flatten(1, 2))])
    found = (most * (len(lines) / len(part) / weight_of(reaches))).tolist()
    return min(found), min(max(found), 1.0)


def _drawn(size: tuple[int, int, int], source: "torch.Generator") -> Tensor:
    """Return draws of Gaussian vectors, each a line, up to a rotation of each draw.

    Where there are no more than each has entries, that is L of the Gram matrix L L^T: Gaussian
    below the diagonal, and on it what the lines before leave of a line's length.

    Source:
        Bartlett 1933, Proc. R. Soc. Edinb. 53, 260-283: the decomposition of Wishart's matrix.
    """
    draws, count, width = size
    if count > width:
        return torch.randn(size, generator=source)
    freedom = torch.arange(width, width - count, -1, dtype=torch.float64).expand(draws, count)
    drawn = torch.randn(draws, count, count, generator=source).tril_(-1)
    lengths = torch._standard_gamma(freedom / 2.0, generator=source).mul_(2.0).sqrt_()  # noqa: SLF001
    drawn.diagonal(dim1=1, dim2=2).copy_(lengths)
    return drawn


def _root(gram: Tensor, size: int) -> Tensor:
    """Return R with R R^T = G, zeros up to `size`; G has no eigenvalue below 0 but for rounding."""
    values, turn = torch.linalg.eigh(gram.double())
    root: Tensor = turn * values.clamp(min=0.0).sqrt()
    more = size - len(root)
    return torch.nn.functional.pad(root, (0, more, 0, more)).float()


def _most(draws: Tensor) -> Tensor:
    """Return of each draw's lines the largest sum of squares that they have along a direction."""
    draws = draws if draws.shape[1] <= draws.shape[2] else draws.mT
    if draws.shape[1] <= SMALL:
        values: Tensor = torch.linalg.eigvalsh((draws @ draws.mT).double())
        return values[:, -1]
    along = [torch.linalg.vector_norm(lines @ _top(lines).to(lines.dtype)) for lines in draws]
    return torch.stack(along).square()


def weight_of(reaches: Sequence[Reach]) -> float:
    """Return of how many matrices they are, heads by what they hold; digits of sums cut off."""
    return round(math.fsum(reach.weight for reach in reaches), DIGITS)


def mean(reaches: Sequence[Reach], of: Callable[[Reach], float]) -> float:
    """Return the mean of a number over the matrices of one reach or more."""
    total = math.fsum(reach.weight * of(reach) for reach in reaches)
    return total / math.fsum(reach.weight for reach in reaches)
