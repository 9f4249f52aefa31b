"""Which directions of the residual stream one matrix's change is along.

An ablation takes a direction v out of what a matrix writes, W' = W - s v v^T W, or out of what it
reads, W' = W - s W v v^T: a change along v alone, whose other side is what the base itself has
there. A fine-tune's other side is its own.

Source:
    Arditi et al. 2024, arXiv:2406.11717 (refusal is mediated by a single direction).
"""

from typing import Literal, NamedTuple, TypeAlias

from spectra.analyzers.row import Row
from spectra.deferred import Tensor, torch
from spectra.kernels.dominant import Dominant, dominant, dominant_of_factors, projected
from spectra.kernels.streamed import Streamed
from spectra.matrices import LowRank, Pair

Flow: TypeAlias = Literal["writes", "reads"]
"""What a matrix does to the residual stream."""

SIDES: dict[str, tuple[Flow, int]] = {
    "attn.o": ("writes", 0), "mlp.down": ("writes", 0), "embed": ("writes", 1),
    "attn.q": ("reads", 1), "attn.k": ("reads", 1), "attn.v": ("reads", 1),
    "mlp.gate": ("reads", 1), "mlp.up": ("reads", 1), "router": ("reads", 1),
    "lm_head": ("reads", 1),
}  # fmt: skip
"""By role: what it does, and which of its axes the stream is."""

KEPT = 2  # directions of a matrix
LEAST = 0.1  # of its change, that one must hold to be kept
DIRECTIONS, FACTS = "directions", "direction_facts"
"""Arrays of a row: unit vectors, one a line; of these the shares, then what `Along` holds."""


class Along(NamedTuple):
    """The change of one matrix along its first direction, and what of it is rounding."""

    directions: Tensor  # count x width, as stored
    shares: Tensor  # of ||D||^2, one a direction
    alike: float  # |cos| of what D has along the first and what the base has there
    scale: float  # how much of what the base has there was taken out: 1 is all
    rounding: float  # of ||D||^2, that storing makes


def directions_of(
    pair: Pair, delta: Tensor | Streamed | LowRank, unit: float, rounding: float
) -> dict[str, Tensor]:
    """Return the arrays of a matrix that changed; none where no direction holds much of it.

    Args:
        pair: Both sides; the role tells which side is the stream.
        delta: Its change over `unit`: not all zero, float32 or wider, or factors.
        unit: What the change is over.
        rounding: About what of ||D||^2 storing makes.
    """
    side = SIDES.get(pair.view.role.kind)
    if side is None:
        return {}
    found = _dominant(delta, side[1])
    if float(found.shares[0]) < LEAST:
        return {}
    base = pair.base if side[1] == 0 else pair.base.mT
    there = projected(base, found.directions[:, 0])
    sizes = [float(torch.linalg.vector_norm(one)) for one in (there, found.image)]
    alike = scale = 0.0
    if all(sizes):
        dot = float(there / sizes[0] @ (found.image / sizes[1]))
        alike, scale = abs(dot), -dot * (sizes[1] / sizes[0]) * unit
    kept = found.shares >= LEAST
    wide = torch.float16 if pair.view.role.expert is not None else torch.float32
    facts = torch.tensor([alike, scale, rounding], dtype=torch.float64)
    return {
        DIRECTIONS: found.directions.mT[kept].to(wide).contiguous(),
        FACTS: torch.cat([found.shares[kept].cpu(), facts]),
    }


def along_of(row: Row) -> Along | None:
    """Return what was kept of a row, if anything was."""
    if DIRECTIONS not in row.arrays:
        return None
    directions, facts = row.arrays[DIRECTIONS], row.arrays[FACTS]
    count = len(directions)
    alike, scale, rounding = facts[count:].tolist()
    return Along(directions, facts[:count], alike, scale, rounding)


def _dominant(delta: Tensor | Streamed | LowRank, axis: int) -> Dominant:
    if isinstance(delta, LowRank):
        left, right = delta.left, delta.right
        return dominant_of_factors(*((left, right) if axis == 0 else (right.mT, left.mT)), KEPT)
    return dominant(delta if axis == 0 else delta.mT, KEPT)
