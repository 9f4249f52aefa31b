"""Pictures of bases: cosines beside singular vectors."""

import torch
from canvas import picture
from palette import BLUE, ORANGE, QUIET
from torch import Tensor

from matrices import SQUARE, svdvals
from spectra.kernels.cosine import by_short_side, cosine_shares
from spectra.kernels.sharing import energies, gram_of, turned


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


LAYERS = tuple(f"encoder.layer.{layer}.attention.self.value" for layer in (2, 3))


def sharing(weights: dict[str, Tensor]) -> None:
    """What one basis holds of two layers by its rank, between chance and a basis for each."""
    some = [weights[name] for name in LAYERS]
    grams = [gram_of(one, 1.0) for one in some]
    whole = sum(float(one.trace()) for one in grams)
    apart = sum((turned(one, at) for at, one in enumerate(grams)), torch.zeros_like(grams[0]))
    with picture("sharing") as (axes,):
        for squares, colour, style, label in (
            (torch.stack([energies(one) for one in grams]).sum(dim=0), BLUE, "-",
             "one basis for each layer, of rank R"),
            (energies(grams[0] + grams[1]), ORANGE, "-", "one basis for both"),
            (energies(apart), QUIET, "--", "by chance"),
        ):  # fmt: skip
            held = torch.cat([torch.zeros(1, dtype=torch.float64), squares.cumsum(0)]) / whole
            axes.plot(range(len(held)), held, style, color=colour, label=label)
        axes.set(xlabel="R", ylabel="share of the energy", ylim=(0, 1.03))
        axes.legend(loc="lower right")
