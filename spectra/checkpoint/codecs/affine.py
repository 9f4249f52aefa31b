"""(value - zero point) * scale, in place, for the grids that checkpoints store."""

from spectra.checkpoint.codecs.settings import Blocks
from spectra.deferred import Tensor, torch

CHUNK = 1 << 22  # elements gathered at once


def shift_and_scale(
    values: Tensor, zero: Tensor | float | None, scale: Tensor, blocks: Blocks, first: int = 0
) -> None:
    """Subtract zero points from a weight and multiply it with scales, block by block.

    Args:
        values: [..., rows, cols], float32, rows from `first` on; changed.
        zero: A grid, or one number for all; None: 0.
        scale: [..., down, across], [rows], or one value of any shape.
        blocks: Rows and columns that share a scale.
        first: Which row of the whole weight the values begin with.
    """
    if isinstance(zero, Tensor):
        for part, grid in _aligned(values, zero, blocks, first):
            part.sub_(grid)
    elif zero is not None:
        values.sub_(zero)
    for part, grid in _aligned(values, scale, blocks, first):
        part.mul_(grid)


def scale_and_shift(values: Tensor, scale: Tensor, offset: Tensor, wide: int) -> None:
    """Multiply a weight with scales and add offsets, a group of columns at a time.

    Args:
        values: [..., rows, cols], float32; changed.
        scale: [..., rows, cols / wide].
        offset: Likewise.
        wide: Columns that share a scale and an offset.
    """
    groups = values.unflatten(-1, (-1, wide))
    groups.mul_(scale[..., None]).add_(offset[..., None])


def shift_and_scale_columns(
    values: Tensor, zero: Tensor | float, scale: Tensor, group: Tensor
) -> None:
    """Do the same where each column names its group.

    Args:
        values: [rows, cols], float32; changed.
        zero: [rows, groups], or one number for all.
        scale: [rows, groups].
        group: Of each column, int64, in range.
    """
    step = max(1, CHUNK // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        values[rows] -= zero[rows].index_select(1, group) if isinstance(zero, Tensor) else zero
        values[rows] *= scale[rows].index_select(1, group)


def _aligned(
    values: Tensor, grid: Tensor, blocks: Blocks, first: int
) -> list[tuple[Tensor, Tensor]]:
    """Return views of the values beside what of the grid broadcasts over them."""
    if grid.numel() == 1:
        return [(values, grid.reshape(()))]
    if grid.ndim == 1:
        grid = grid[:, None]
    high, wide = blocks
    rows, cols = values.shape[-2:]
    tall = grid.index_select(-2, torch.arange(first, first + rows) // high)
    full, rest = divmod(cols, wide)
    pairs = []
    if full:
        body = values[..., : full * wide].unflatten(-1, (full, wide))
        pairs.append((body, tall[..., :full, None]))
    if rest:
        pairs.append((values[..., full * wide :], tall[..., full : full + 1]))
    return pairs
