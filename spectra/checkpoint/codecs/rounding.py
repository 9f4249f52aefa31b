"""How coarse the grid is on which each decoded value of a quantised weight lies."""

from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor


def rounding_of(
    entry: TensorEntry, values: Tensor, read: ReadStored, slab: Slab = None
) -> "Tensor | None":
    """Return for each value about the most that quantising it can have moved it: half a step.

    The step is found by decoding once more with every stored code one step away, so that
    scales and zero points count as they do for the values. Where neighbours of a code are
    unlike far, as in four-bit floats, one of them counts. An error that is uniform within
    half a step h has the standard deviation h / sqrt(3). What a quantiser clips, and what it
    moves on purpose (GPTQ moves later columns to make up for earlier ones), is beyond it.

    For code books of vectors and ternary digits packed by threes, whose neighbours are not
    one step away, it is the root mean square of the row times `rate_roundoff`.

    Args:
        entry: The weight.
        values: What it decodes to, or the slab of it, in any floating dtype.
        read: Reads stored parts, as for its codec.
        slab: Of the first axis; None: all.

    Returns:
        float32 in the shape of the values; None where the stored values are the values.

    Raises:
        CheckpointError: The stored parts do not fit each other.
    """
    codec = entry.codec
    if codec is None:
        return None
    main, known = codec.parts[0], True

    def nudged(part: TensorEntry, inside: Slab) -> Tensor:
        """Read a part; of the codes, their neighbours."""
        nonlocal known
        stored = read(part, inside)
        if part != main:
            return stored
        other = codec.nudge(stored)
        known = other is not None
        return stored if other is None else other

    away = codec.decode(nudged, slab)
    if known:
        return away.float().sub_(values).abs_().div_(2)
    if not entry.is_quantised:
        return None
    size = values.float().square().mean(dim=-1, keepdim=True).sqrt()
    return size.mul(entry.rate_roundoff).expand(values.shape)
