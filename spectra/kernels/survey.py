"""What is known of a spectrum at a level: how many values exceed it, without all of them.

Leading values and what they leave come from a matrix that is split in two (`deflated`). How many
exceed a level is proven in the cheapest way that applies. Few: no singular value of the rest
reaches it, by an eigenvalue-count certificate (`counting`). More than half: so many of some rows
or columns alone do, by interlacing. Any number: by the inertia of a Gram matrix. Where rounding
hides these, and of small matrices, all values are computed.

Source:
    Horn and Johnson 2013, Matrix Analysis, sections 4.3 and 4.5.
"""

import math
from dataclasses import dataclass, field

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.deflated import SETTINGS, Deflated, Outcome, Settings
from spectra.kernels.edge import Bracket
from spectra.kernels.entries import square_norm
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import Stack, singular_values
from spectra.kernels.streamed import Streamed

ROUNDED = 1e-12  # of the energy, that differences of float64 sums may be off by


@dataclass(slots=True)
class Survey:
    """What is known of a spectrum at a level."""

    values: Float[Tensor, " few"]  # leading singular values, from below, descending
    energy: float  # sum of all squares
    level: float
    rank: int  # proven to exceed the level
    exact: bool  # no others do
    coupling: float = 0.0  # by which squares of the values may be too low
    rest: float = math.inf  # no singular value of W' exceeds it
    right: Float[Tensor, "short kept"] | None = None  # V; None: all values are known
    beyond: float | None = None  # squares of all but these values, where it was taken out of W
    _split: Deflated | None = field(default=None, repr=False)

    @property
    def left(self) -> float:
        """The sum of squares of all but the first `rank` values; of no use where these are more.

        Of what was left itself where that was seen: next to a strong change the rounding of its
        energy is as large.
        """
        if self.beyond is None:
            return max(self.energy - float(self.values[: self.rank].square().sum()), 0.0)
        return self.beyond + float(self.values[self.rank :].square().sum())

    def count(self, level: float) -> int:
        """Return how many exceed a level, or one within half of `Settings.margin` of it."""
        if self._split is not None:
            found = self._split.count(level / self._split.of.scale)
            if found is not None:
                return found
            self.values, self._split = singular_values(self._split.matrix).cpu(), None
            self.beyond = 0.0
        return int((self.values > level).sum())

    def largest(self) -> Bracket | None:
        """Enclose sigma_max, where what is known does so to a thousandth."""
        low, rest = float(self.values[0]) ** 2 if len(self.values) else 0.0, self.rest**2
        if rest >= low:
            return None if self._split is None else self._split.largest()
        middle, half = (low + rest) / 2.0, (low - rest) / 2.0
        high = middle + math.hypot(half, self.coupling)
        return Bracket(math.sqrt(low), math.sqrt(high)) if high <= 1.002 * low else None

    def energy_rank(self, share: float) -> int | None:
        """Return how many values hold a share of all squares, where the leading ones tell."""
        held = self.values.double().square().cumsum(0).tolist()
        leading = int((self.values > self.rest).sum())
        for index, low in enumerate(held[:leading]):
            before = held[index - 1] + index * self.coupling if index else 0.0
            if low >= share * self.energy:
                return index + 1 if before < share * self.energy else None
        return None


def survey(
    matrix: Float[Tensor, "rows cols"] | Streamed,
    level: float,
    sigma: Float[Tensor, " rank"] | None = None,
    settings: Settings = SETTINGS,
) -> Survey:
    """Return what exceeds a positive level of a matrix, from `sigma` alone where that is known.

    It is float32 or float64, without NaN or Inf and not all zero, its squares within range.
    """
    if sigma is None and min(matrix.shape) <= settings.small:
        sigma = singular_values(matrix)
    if sigma is not None:
        values = sigma.cpu()
        level = max(level, max(matrix.shape) * EPS64 * float(values[0]))
        above = int((values > level).sum())
        rest = float(values[above]) if above < len(values) else 0.0
        energy = float(values.square().sum())
        return Survey(values, energy, level, above, exact=True, rest=rest, beyond=0.0)
    split = Deflated(matrix, settings)
    unit, own = split.of.scale, level / split.of.scale
    outcome, half = split.search(own, patient=False), None
    if outcome is Outcome.MANY:
        half = split.more_than_half(own)
        outcome = Outcome.OPEN if half else split.search(own, patient=True)
    taken = half is None and len(split.values) > 0
    values = unit * (split.values if taken else split.seen)
    found = Survey(
        values, unit**2 * split.energy, level, half or len(values), exact=outcome is Outcome.BELOW,
        coupling=unit**2 * split.coupling, right=split.right,
        beyond=unit**2 * split.left if taken else None, _split=split,
    )  # fmt: skip
    if half is None:
        found.rest = level if found.exact else unit * math.sqrt(split.left)
    if half is None and not found.exact:
        most = found.rank + split.left / own**2
        if outcome is Outcome.MANY or 2.0 * most > min(matrix.shape):
            found.rank, found.exact = found.count(level), True
    return found


def along(
    matrix: Float[Tensor, "rows cols"] | Streamed, right: Float[Tensor, "short few"]
) -> Survey:
    """Return what given directions tell of a matrix, however right these are.

    These are about its leading right singular vectors, left ones of a wide matrix.
    """
    split = Deflated(matrix)
    unit, energy = split.of.scale, split.energy
    lines = torch.linalg.qr(right).Q.mT.contiguous()
    stack, back = Stack(len(lines), lines.device), torch.zeros_like(lines)
    for _, block in split.blocks():
        part = lines @ block.mT
        stack.add(part)
        back.addmm_(part, block)
    square = stack.triangle()
    values = torch.linalg.svdvals(square).cpu()
    left = max(energy - float(values.square().sum()), 0.0) + ROUNDED * energy
    coupling = square_norm(back - square.mT @ square @ lines) ** 0.5 + ROUNDED * energy
    return Survey(
        unit * values, unit**2 * energy, math.inf, 0, exact=False,
        coupling=unit**2 * coupling, rest=unit * math.sqrt(left),
    )  # fmt: skip
