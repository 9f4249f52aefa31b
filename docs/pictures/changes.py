"""Pictures of a change: its size, its rank, what it did to the leading directions."""

import torch
from canvas import BERT, by_role, picture
from palette import BLUE, GREEN, INK, ORANGE, QUIET
from torch import Tensor

from spectra.work import Result

LAYER = "encoder.layer.5.intermediate.dense"


def _changed(result: Result) -> list:
    """Return the rows with a change."""
    return [row for row in result.rows if row.number("delta_norm")]


def delta(result: Result) -> None:
    """Relative size by role."""
    with picture("delta") as (axes,):
        rows = _changed(result)
        by_role(
            axes,
            [(row.place.role, 100 * row.number("delta_relative")) for row in rows],
            BLUE,
            0,
            BERT,
        )
        axes.set(ylabel="delta_relative, %", ylim=(0, 14.5))


def delta_rank(weights: dict[str, Tensor], update: tuple[Tensor, Tensor]) -> None:
    """The change of a merge in float32 and in bfloat16, and the floors of rounding."""
    with picture("delta-rank") as (axes,):
        before = weights[LAYER]
        after = before + update[0] @ update[1]
        for dtype, colour in ((torch.bfloat16, ORANGE), (torch.float32, BLUE)):
            one, two = before.to(dtype).double(), after.to(dtype).double()
            values = torch.linalg.svdvals(two - one)
            floor = _floor(one, two, torch.finfo(dtype).eps / 2)
            rank = int((values > floor).sum())
            name = str(dtype).removeprefix("torch.")
            axes.plot(
                range(1, len(values) + 1), values, color=colour, marker=".", markersize=3,
                linewidth=0.8, label=f"merged in {name}: delta_rank {rank}",
            )  # fmt: skip
            axes.axhline(floor, color=colour, linestyle="--", linewidth=1)
        axes.set(yscale="log", xlabel="rank", ylabel="sigma of tuned - base")
        axes.legend()


def _floor(before: Tensor, after: Tensor, unit: float) -> float:
    """Return what rounding alone may leave, as docs/quantities.md has it."""

    def norm(matrix: Tensor) -> float:
        return float(matrix.norm(dim=0).max() + matrix.norm(dim=1).max())

    made = 4 * torch.finfo(torch.float32).eps / 2 * norm(after - before)
    stored = unit * (norm(before) ** 2 + norm(after) ** 2) ** 0.5
    return float((made**2 + stored**2) ** 0.5 / 3**0.5)


def intruders(result: Result) -> None:
    """The largest |cos| of every examined vector of three matrices."""
    with picture("intruders") as (axes,):
        names = (
            (LAYER, BLUE, "o"),
            ("encoder.layer.5.attention.output.dense", ORANGE, "s"),
            ("encoder.layer.3.attention.self.query", GREEN, "^"),
        )
        for name, colour, mark in names:
            (row,) = [row for row in result.rows if row.matrix == f"{name}.weight"]
            cosines = [one["max_cos"] for one in row.values["intruder_detail"]]
            axes.plot(
                range(len(cosines)), cosines, color=colour, marker=mark, linewidth=0.8,
                label=f"{name}: {row.values['intruders']}",
            )  # fmt: skip
        axes.axhline(0.5, color=INK, linestyle="--", linewidth=1)
        axes.text(9.4, 0.51, "epsilon", ha="right", color=INK)
        axes.axhline(0.159, color=QUIET, linestyle=":", linewidth=1.2)
        axes.text(9.4, 0.17, "null_cos of 384 x 384", ha="right", color=QUIET)
        axes.set(
            xlabel="index of the left singular vector, tuned", ylabel="largest |cos| with the base",
            ylim=(0, 1.03), xticks=range(10),
        )  # fmt: skip
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.18), fontsize=8)


def null_cos() -> None:
    """What random directions score in two dimensions."""
    with picture("null-cos") as (axes,):
        generator = torch.Generator().manual_seed(0)
        for size, colour in ((384, BLUE), (1536, GREEN), (4096, ORANGE)):
            # a random direction against an orthonormal basis: its coordinates in it
            found = torch.randn(4000, size, generator=generator).double()
            best = (found / found.norm(dim=1, keepdim=True)).abs().amax(dim=1)
            middle = float(best.median())
            axes.hist(best, 60, density=True, color=colour, alpha=0.5)
            axes.axvline(middle, color=colour, linestyle="--", label=f"m = {size}: {middle:.3f}")
        axes.set(xlabel="largest |cos| of a random direction with m orthonormal ones")
        axes.set_yticks([])
        axes.legend(title="median", title_fontsize=9)


def overlap(result: Result) -> None:
    """Overlap of the leading subspaces by role."""
    with picture("subspace-overlap") as (axes,):
        rows = _changed(result)
        by_role(
            axes,
            [(row.place.role, row.number("subspace_overlap")) for row in rows],
            BLUE,
            0,
            BERT,
        )
        axes.axhline(10 / 384, color=QUIET, linestyle="--", linewidth=1)
        axes.text(5.5, 0.04, "two random subspaces: k / m = 10 / 384", ha="right", color=QUIET)
        axes.set(ylabel="subspace_overlap", ylim=(0, 1.03))


def frame(weights: dict[str, Tensor], update: tuple[Tensor, Tensor]) -> None:
    """What of a change lies on the diagonal of its base's frame, from the first value on."""
    with picture("frame") as (axes,):
        base = weights["encoder.layer.0.attention.self.query"]
        left, sigma, right = torch.linalg.svd(base)
        draw = torch.randn(len(sigma), generator=torch.Generator().manual_seed(0)).double()
        changes = (
            ((left * (0.05 * sigma * draw)) @ right, "singular values alone", ORANGE),
            (update[0] @ update[1], "the adapter", BLUE),
        )
        for change, name, colour in changes:
            diagonal = (left.mT @ change @ right.mT).diagonal().square()
            share = 100 * diagonal.cumsum(0) / change.square().sum()
            axes.plot(range(1, len(share) + 1), share, color=colour, label=name)
        axes.plot(
            range(1, len(sigma) + 1),
            [100 * count / base.numel() for count in range(1, len(sigma) + 1)],
            color=QUIET, linestyle="--", label="a random change, on average",
        )  # fmt: skip
        axes.set(yscale="log", ylim=(1e-3, 150), xlabel="singular values, from the largest on",
                 ylabel="on the diagonal, % of the change")  # fmt: skip
        axes.legend(loc="lower right")


def cosine(result: Result) -> None:
    """Task cosine of two fine-tunes by role, and what chance gives."""
    with picture("task-cosine") as (axes,):
        rows = [row for row in result.rows if row.number("task_cosine") is not None]
        for key, colour in (("cosine_chance", QUIET), ("task_cosine", BLUE)):
            found = [(row.place.role, row.number(key)) for row in rows]
            by_role(axes, found, colour, 0, BERT)
        axes.text(5.5, 0.03, "unrelated changes: cosine_chance", ha="right", color=QUIET)
        axes.set(ylabel="task_cosine", ylim=(-0.03, 1.03))


def drift(result: Result) -> None:
    """How far triplets turned by role, paired by index and matched."""
    with picture("drift") as (axes,):
        last = result.models[-1].labels["model"]
        rows = [row for row in _changed(result) if row.place.labels["model"] == last]
        ways = ("sorsa_delta_d", BLUE, -0.12), ("matched_delta_d", ORANGE, 0.12)
        for key, colour, shift in ways:
            found = [(row.place.role, row.number(key)) for row in rows]
            by_role(axes, found, colour, shift, BERT)
        axes.text(-0.5, 0.96, "paired by index", color=BLUE)
        axes.text(-0.5, 0.89, "matched", color=ORANGE)
        axes.set(ylabel="1 - mean |cos|", ylim=(0, 1.03))
