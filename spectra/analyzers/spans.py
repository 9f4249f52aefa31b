"""Which lines of a matrix, written as spans."""

import torch
from torch import Tensor

RUNS = 256  # runs of zero rows or columns that are told; a model has no more heads


def runs_of(zero: Tensor) -> str | None:
    """Write which of a row of flags are set, such as `64-95, 200`; None where none is.

    Args:
        zero: Flags; of more than 256 runs the longest are told.
    """
    padded = torch.zeros(len(zero) + 2, dtype=torch.int8)
    padded[1:-1] = zero
    steps = padded.diff()
    starts, stops = (steps == 1).nonzero().flatten(), (steps == -1).nonzero().flatten()
    found = list(zip(starts.tolist(), stops.tolist(), strict=True))
    longest = sorted(found, key=lambda run: run[0] - run[1])[:RUNS]
    return ", ".join(
        f"{start}-{stop - 1}" if stop - start > 1 else f"{start}" for start, stop in sorted(longest)
    ) or None  # fmt: skip
