"""Pictures of single matrices: spectra, ranks, tails."""

import torch
from canvas import by_role, picture
from measure import MINILM, SMOLLM2
from palette import BLUE, GREEN, INK, ORANGE, QUIET
from torch import Tensor

from spectra.work import Result

SQUARE = "encoder.layer.0.attention.self.query"
TALL = "encoder.layer.0.intermediate.dense"
STEEP = "encoder.layer.5.output.dense"
FLAT = "pooler.dense"


def svdvals(matrix: Tensor) -> Tensor:
    """Return all singular values, float64."""
    return torch.linalg.svdvals(matrix.double())


def sigma(weights: dict[str, Tensor]) -> None:
    """Two spectra with both ends marked."""
    with picture("sigma") as (axes,):
        for name, colour in ((SQUARE, BLUE), (TALL, ORANGE)):
            rows, cols = weights[name].shape
            values = svdvals(weights[name])
            ranks = range(1, len(values) + 1)
            axes.plot(ranks, values, color=colour, label=f"{name}, {rows} x {cols}")
            shift = 16 if name == TALL else -28
            for at, word in ((0, "max"), (-1, "min")):
                axes.annotate(
                    f"sigma_{word} = {float(values[at]):.3g}", (ranks[at], float(values[at])),
                    (6 if at == 0 else 4, shift), textcoords="offset points", color=colour,
                    ha="left" if at == 0 else "right",
                )  # fmt: skip
        axes.set(yscale="log", xlabel="rank of the singular value", ylabel="sigma")
        axes.set_ylim(1e-4, 40)
        axes.legend(loc="lower left")


def kappa(results: tuple[Result, Result]) -> None:
    """Kappa by role in both models."""
    with picture("kappa") as (axes,):
        _dots(axes, results, "kappa")
        axes.set(yscale="log", ylabel="kappa")


def excess(results: tuple[Result, Result]) -> None:
    """Kappa over that of noise, by role."""
    with picture("kappa-excess") as (axes,):
        _dots(axes, results, "kappa_excess")
        axes.axhline(1, color=QUIET, linestyle="--", linewidth=1)
        axes.text(6.4, 1.06, "noise", color=QUIET, ha="right")
        axes.set(yscale="log", ylabel="kappa_excess")


def _dots(axes, results: tuple[Result, Result], key: str) -> None:  # noqa: ANN001
    """Draw one quantity of every matrix of both models."""
    names = ((MINILM, BLUE, -0.12), (SMOLLM2, ORANGE, 0.12))
    for result, (name, colour, shift) in zip(results, names, strict=True):
        found = [(row.place.role, row.number(key)) for row in result.rows]
        by_role(axes, [(role, value) for role, value in found if value], colour, shift)
        axes.scatter([], [], s=16, color=colour, label=name)
    axes.legend(loc="upper right", ncols=2)


def stable_rank(weights: dict[str, Tensor]) -> None:
    """The area under sigma^2 over its largest."""
    with picture("stable-rank") as (axes,):
        for name, colour in ((FLAT, ORANGE), (STEEP, BLUE)):
            values = svdvals(weights[name]) ** 2
            share = values / values[0]
            axes.fill_between(range(1, len(share) + 1), share, color=colour, alpha=0.25, lw=0)
            axes.plot(
                range(1, len(share) + 1), share, color=colour,
                label=f"{name}: area = stable_rank = {float(share.sum()):.1f}",
            )  # fmt: skip
        axes.set(xlabel="rank", ylabel="sigma² / sigma_max²", ylim=(0, 1.02))
        axes.legend()


def effective_rank(weights: dict[str, Tensor]) -> None:
    """The shares p and the number of equal shares with the same entropy."""
    with picture("effective-rank") as (axes,):
        for name, colour in ((STEEP, BLUE), (SQUARE, ORANGE)):
            values = svdvals(weights[name])
            share = values / values.sum()
            rank = float(torch.exp(-(share * share.log()).sum()))
            axes.plot(range(1, len(share) + 1), share, color=colour, label=name)
            axes.plot(
                [0, rank, rank], [1 / rank, 1 / rank, 0], color=colour, linestyle="--",
                label=f"as many equal shares: {rank:.0f}",
            )  # fmt: skip
        axes.set(xlabel="rank", ylabel="p = sigma / Σ sigma", ylim=(0, 0.012))
        axes.legend()


def energy_rank(weights: dict[str, Tensor]) -> None:
    """The running share of energy and where it passes 99 %."""
    with picture("energy-rank") as (axes,):
        for name, colour in ((STEEP, BLUE), (SQUARE, ORANGE)):
            values = svdvals(weights[name]) ** 2
            share = values.cumsum(0) / values.sum()
            rank = int((share < 0.99).sum()) + 1
            axes.plot(range(1, len(share) + 1), share, color=colour, label=f"{name}: {rank}")
            axes.plot([rank, rank], [0, 0.99], color=colour, linestyle="--", linewidth=1)
        axes.axhline(0.99, color=QUIET, linewidth=1)
        axes.text(2, 1.0, "--energy 0.99", color=QUIET, va="bottom")
        axes.set(xlabel="rank", ylabel="share of Σ sigma²", ylim=(0, 1.08))
        axes.legend(loc="lower right")


def numerical_rank(weights: dict[str, Tensor], update: tuple[Tensor, Tensor]) -> None:
    """A full matrix and a product of rank 8 against the threshold."""
    with picture("numerical-rank") as (axes,):
        product = (update[0].float() @ update[1].float()).double()
        for label, matrix, colour in (
            (SQUARE, weights[SQUARE], BLUE), ("its LoRA update B A, in float32", product, ORANGE),
        ):  # fmt: skip
            values = svdvals(matrix)
            limit = float(values[0]) * max(matrix.shape) * torch.finfo(torch.float32).eps
            rank = int((values > limit).sum())
            axes.plot(
                range(1, len(values) + 1), values, color=colour, marker=".", markersize=3,
                linewidth=0.8, label=f"{label}: numerical_rank {rank}",
            )  # fmt: skip
            axes.axhline(limit, color=colour, linestyle="--", linewidth=1)
        axes.set(yscale="log", xlabel="rank", ylabel="sigma (dashed: threshold)")
        axes.set_ylim(1e-12, 1e5)
        axes.legend(loc="upper right")


def alpha(weights: dict[str, Tensor], result: Result) -> None:
    """How many lambda exceed a value, and the fitted tail."""
    with picture("alpha") as (axes,):
        for name, colour in ((TALL, BLUE), ("encoder.layer.5.attention.self.value", ORANGE)):
            (row,) = [row for row in result.rows if row.matrix == f"{name}.weight"]
            exponent, cut = (row.number(key) or 0.0 for key in ("alpha", "alpha_xmin"))
            values = (svdvals(weights[name]) ** 2).flip(0)
            above = torch.arange(len(values), 0, -1) / len(values)
            axes.scatter(values, above, s=6, color=colour, linewidths=0, label=name)
            start = float(above[values >= cut][0])
            line = torch.logspace(
                float(torch.log10(torch.tensor(cut))), float(values[-1].log10()), 20
            )
            axes.plot(
                line, start * (line / cut) ** (1 - exponent), color=INK, linewidth=1.2,
                linestyle="-" if colour == BLUE else "--", label=f"tail, alpha = {exponent:.2f}",
            )  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlim=(1e-1, 300), ylim=(2e-3, 1.3),
            xlabel="lambda = sigma²", ylabel="share of lambda above",
        )  # fmt: skip
        axes.legend(loc="lower left")


def noise_edge(weights: dict[str, Tensor], result: Result) -> None:
    """A histogram of sigma, what noise of the same scale would have, and its edge."""
    with picture("noise-edge") as (axes,):
        matrix = weights[TALL]
        (row,) = [row for row in result.rows if row.matrix == f"{TALL}.weight"]
        edge = row.number("mp_edge") or 0.0
        values, spikes = svdvals(matrix), int(row.number("spikes") or 0)
        above = int((values > edge).sum())
        bins = torch.linspace(0, float(values[0]) * 1.02, 90).tolist()
        axes.hist(values[above:], bins, color=BLUE, alpha=0.75, label="sigma of W")
        axes.hist(values[:above], bins, color=ORANGE, label=f"{above} above, {spikes} spikes")
        scale = edge / (matrix.shape[0] ** 0.5 + matrix.shape[1] ** 0.5)
        noise = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0)).double()
        axes.hist(
            svdvals(scale * noise), bins, histtype="step", color=GREEN, linewidth=1.4,
            label="sigma of noise as large as the rest",
        )  # fmt: skip
        axes.axvline(edge, color=INK, linestyle="--", linewidth=1, label=f"mp_edge {edge:.2f}")
        axes.set(xlabel="sigma", ylabel="singular values", yscale="symlog", ylim=(0, 120))
        axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axes.legend()
