"""Pictures of tails and of what they are held against: other laws, shuffled entries."""

import math

import numpy as np
import torch
from canvas import picture
from palette import BLUE, GREEN, INK, ORANGE, QUIET
from scipy import optimize, special
from torch import Tensor

from matrices import SQUARE, TALL, svdvals
from spectra.kernels.entries import shuffled as mixed
from spectra.kernels.power_law import fit_power_law


def alternatives(weights: dict[str, Tensor]) -> None:
    """One tail and the best law of each kind."""
    with picture("alternatives") as (axes,):
        values = svdvals(weights[SQUARE]) ** 2
        law = fit_power_law(values)
        if law is None:
            raise SystemExit(f"{SQUARE} has no power law.")
        tail = np.sort(values.numpy())[-law.tail :] / law.xmin
        share = np.arange(len(tail), 0, -1) / len(tail)
        axes.scatter(tail * law.xmin, share, s=8, color=BLUE, linewidths=0, label="lambda")
        x = np.geomspace(1.0, tail[-1], 200)
        logs = np.log(tail)

        def missed(at: np.ndarray) -> float:
            mean, spread = at[0], math.exp(at[1])
            apart = (logs - mean) / spread
            whole = special.log_ndtr(mean / spread)
            return float((apart**2 / 2.0).sum() + len(logs) * (at[1] + whole))

        mean, spread = optimize.minimize(missed, [0.0, 0.0], method="Nelder-Mead").x
        spread = math.exp(spread)
        normal = special.ndtr((mean - np.log(x)) / spread) / special.ndtr(mean / spread)
        for line, style, colour, label in (
            (x ** (1 - law.alpha), "-", INK, f"power law, alpha = {law.alpha:.2f}"),
            (normal, "--", ORANGE, "lognormal"),
            (np.exp(-(x - 1) / (tail.mean() - 1)), ":", GREEN, "exponential"),
        ):
            axes.plot(x * law.xmin, line, style, color=colour, linewidth=1.3, label=label)
        axes.set(
            xscale="log", yscale="log", ylim=(6e-3, 1.2), xlabel="lambda = sigma²",
            ylabel="share of the tail above",
        )  # fmt: skip
        axes.legend(loc="lower left")


def shuffled(weights: dict[str, Tensor]) -> None:
    """Singular values of a matrix, and of its entries in another order."""
    with picture("shuffled") as (axes,):
        matrix = weights[TALL]
        values, other = svdvals(matrix), svdvals(mixed(matrix, 0))
        bins = torch.linspace(0, float(values[0]) * 1.02, 90).tolist()
        axes.hist(values, bins, color=BLUE, alpha=0.75, label="sigma of W")
        axes.hist(
            other, bins, histtype="step", color=ORANGE, linewidth=1.4,
            label="sigma of its entries, shuffled",
        )  # fmt: skip
        axes.axvline(
            float(other[0]), color=ORANGE, linestyle="--", linewidth=1,
            label=f"sigma_max_random {float(other[0]):.2f}",
        )  # fmt: skip
        axes.set(xlabel="sigma", ylabel="singular values", yscale="symlog", ylim=(0, 200))
        axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axes.legend()


def snr(weights: dict[str, Tensor]) -> None:
    """Spectrum's edge in a trained matrix and in noise of its shape."""
    with picture("snr") as (axes,):
        matrix = weights[TALL]
        noise = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0)).double()
        noise *= matrix.square().mean().sqrt()
        for label, one, colour in ((TALL, matrix, BLUE), ("Gaussian noise", noise, ORANGE)):
            values = svdvals(one)
            low, high = values.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
            edge = (high - low) / 1.349 * (1 + (min(one.shape) / max(one.shape)) ** 0.5)
            axes.plot(range(1, len(values) + 1), values, color=colour, label=f"sigma of {label}")
            axes.axhline(
                edge, color=colour, linestyle="--", linewidth=1,
                label=f"its edge: {int((values > edge).sum())} of {len(values)} above",
            )  # fmt: skip
        axes.set(xlabel="rank", ylabel="sigma", yscale="log")
        axes.legend(loc="upper right")


def detx(weights: dict[str, Tensor]) -> None:
    """The running product of lambda scaled to mean 1."""
    with picture("detx") as (axes,):
        for name, colour in ((SQUARE, BLUE), (TALL, ORANGE)):
            values = svdvals(weights[name]) ** 2
            logs = (values / values.mean()).log10().cumsum(0)
            found = int((logs >= 0).sum()) + 1
            axes.plot(range(1, len(logs) + 1), logs, color=colour, label=f"{name}: detx {found}")
            axes.axvline(found, color=colour, linestyle="--", linewidth=1)
        axes.axhline(0, color=QUIET, linewidth=1)
        axes.set(xlabel="k", ylabel="log10 of the product of the k largest", ylim=(-120, 130))
        axes.legend(loc="lower left")
