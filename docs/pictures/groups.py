"""Pictures of bases: cosines beside singular vectors."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from canvas import by_role, picture
from measure import minilm
from palette import BLUE, ORANGE, QUIET
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
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


INSIDE = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down")


def matched() -> None:
    """The cosine of MiniLM's matrices with those of two other models, before and after."""
    first = load_file(minilm() / "model.safetensors")
    source = torch.Generator().manual_seed(0)
    noise = {
        name: one.std() * torch.randn(one.shape, generator=source)
        for name, one in first.items()
        if one.ndim == 2 and one.is_floating_point()
    }
    noisy = moved({name: one + noise[name] if name in noise else one
                   for name, one in first.items()}, source)  # fmt: skip
    with TemporaryDirectory() as folder, picture("weight-matching", columns=2) as axes:
        for place, tensors, name in (
            (axes[0], noisy, "permuted, with noise as large"),
            (axes[1], {**first, **noise}, "drawn anew"),
        ):
            other = Path(folder) / name.split(",")[0]
            other.mkdir()
            save_file(tensors, other / "model.safetensors")
            (other / "config.json").write_bytes((minilm() / "config.json").read_bytes())
            rows = spectra.match(minilm(), other, cache=False).rows
            for key, colour, shift in (
                ("weighted_before", QUIET, -0.2), ("weighted_null", BLUE, 0.0),
                ("weighted_after", ORANGE, 0.2),
            ):  # fmt: skip
                values = [(row.place.role, row.number(key) or 0.0) for row in rows
                          if row.place.role in INSIDE]  # fmt: skip
                by_role(place, values, colour, shift, INSIDE)
            place.set(title=name, ylim=(-0.08, 1.0))
            place.tick_params(axis="x", labelsize=7)
        for label, colour in (("as they are", QUIET), ("by chance", BLUE), ("after", ORANGE)):
            axes[0].scatter([], [], s=16, color=colour, label=label)
        axes[0].set(ylabel="cosine")
        axes[0].legend(loc="upper left", ncols=3, fontsize=8)


def moved(tensors: dict[str, Tensor], source: torch.Generator) -> dict[str, Tensor]:
    """Return MiniLM's matrices with units and heads in another order."""
    found = dict(tensors)
    for layer in range(6):
        own = f"encoder.layer.{layer}."
        heads = torch.randperm(12, generator=source)
        lines = (heads[:, None] * 32 + torch.arange(32)).flatten()
        units = torch.randperm(1536, generator=source)
        for name, order, axis in (
            *((f"attention.self.{one}", lines, 0) for one in ("query", "key", "value")),
            ("attention.output.dense", lines, 1), ("intermediate.dense", units, 0),
            ("output.dense", units, 1),
        ):  # fmt: skip
            whole = f"{own}{name}.weight"
            found[whole] = tensors[whole].index_select(axis, order).contiguous()
    return found
