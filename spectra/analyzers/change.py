"""What a change looks like, in words."""

from collections.abc import Sequence

from spectra.analyzers.analyzer import counted
from spectra.analyzers.row import Row


def kind_of_change(changed: Sequence[Row]) -> str:
    """Name the change by the ranks of most matrices; a small head may well be full."""
    rank = {row.matrix: int(row.number("delta_rank") or 0) for row in changed}
    half = [row for row in changed if rank[row.matrix] <= min(row.view.rows, row.view.cols) // 2]
    most = max((rank[row.matrix] for row in half), default=0)
    low = [row for row in changed if row in half or rank[row.matrix] <= most]
    if 10 * len(low) < 9 * len(changed):
        return "full fine-tuning" if not low else "fine-tuning, partly of low rank,"
    found = sorted({rank[row.matrix] for row in half})
    if len(found) == 1:
        return f"a rank-{found[0]} LoRA"
    return f"a low-rank update (ranks {found[0]} to {found[-1]})"


def where(changed: Sequence[Row]) -> str:
    """Say on which kinds of matrices and layers."""
    names = {"attn": "attention", "mlp": "MLP", "embed": "embeddings", "lm_head": "head"}
    kinds = dict.fromkeys(
        names.get(row.view.role.kind.split(".")[0], row.view.role.kind) for row in changed
    )
    words = list(kinds)
    text = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    layers = {row.view.role.layer for row in changed} - {None}
    return f"{text} of {counted(len(layers), 'layer')}" if layers else text
