"""Pictures of bases: cosines beside singular vectors."""

import torch
from canvas import picture
from palette import BLUE, ORANGE, QUIET
from torch import Tensor

from matrices import SQUARE, svdvals
from spectra.kernels.cosine import by_short_side, cosine_shares


def dct(weights: dict[str, Tensor], change: tuple[Tensor, Tensor]) -> None:
    """What the best columns of three bases hold of a matrix and of an update, by their number."""
    up, down = change
    with picture("dct", columns=2) as axes:
        for place, matrix, name in (
            (axes[0], weights[SQUARE], f"W of {SQUARE.removeprefix('encoder.')}"),
            (axes[1], up @ down, "an adapter's update of it, rank 8"),
        ):
            lines, squares = by_short_side(matrix), svdvals(matrix).square()
            for shares, colour, style, label in (
                (squares / squares.sum(), BLUE, "-", "singular vectors"),
                (cosine_shares(lines), ORANGE, "-", "cosines"),
                (cosine_shares(lines, 0), QUIET, "--", "random basis"),
            ):
                total = torch.cat([torch.zeros(1, dtype=torch.float64), shares.cumsum(0)])
                place.plot(range(len(total)), total, style, color=colour, label=label)
            place.set(title=name, xlabel="r", ylim=(0, 1.03))
        axes[0].set(ylabel="share of the energy on r columns")
        axes[0].legend(loc="lower right")
