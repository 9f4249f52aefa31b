"""Which lines of a matrix, written as spans."""

from spectra.deferred import Tensor, torch

FEW = 4  # runs that a sentence names
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


def lines_of(zero: Tensor, noun: str) -> str:
    """Write in a sentence which lines are set: `rows 64-95 of 384`, `36 of 384 rows (3, 9, ...)`.

    Args:
        zero: Flags, of which some are set.
        noun: What one is called.
    """
    runs = (runs_of(zero) or "").split(", ")
    if len(runs) <= FEW:
        return f"{noun}s {', '.join(runs)} of {len(zero):,}"
    return f"{int(zero.sum()):,} of {len(zero):,} {noun}s ({', '.join(runs[:FEW])}, ...)"
